//! One cosigner by itself: a store in memory, and a tip that the test moves.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use ledger_core::hash::{Hash, TreeSize};
use ledger_core::machine::Tip;
use ledger_core::state::Key;
use ledger_proto::v1;
use prost::Message as _;
use tokio::sync::watch;

use super::collect::{LONGEST_ROUND, PAUSE, PAUSE_AFTER_FAILURE, ROUND};
use super::steps::MAX_STEPS;
use super::test_ledger::{ORIGIN, cosigned, key, name, trust_policy};
use super::{Cosigner, Parts, Wanted};
use crate::apply::receipts::Notary;
use crate::clock::SystemClock;
use crate::fatal::Fatal;
use crate::raft::flusher::Flusher;
use crate::raft::participation::Stage;
use crate::raft::peer_memory::PeerMemory;
use crate::raft::peers::Peers;
use crate::raft::standing::{Leading, Standing};
use crate::storage::marker::Marker;
use crate::storage::memory::{MemoryStore, Operation};
use crate::storage::store_id::StoreId;
use crate::storage::{Batch, Store, Table, meta};
use crate::transport::PeerTransport;

const STORE: StoreId = StoreId::from_bytes([1; 16]);

/// Node 1, whose cosignature alone meets the trust policy of epoch 0.
struct World {
    cosigner: Arc<Cosigner>,
    store: Arc<MemoryStore>,
    tip: watch::Sender<Tip>,
    fatal: Fatal,
    standing: watch::Sender<Standing>,
    _folder: tempfile::TempDir,
}

/// A tree of this size; its root is as good as any.
fn tree(size: u8) -> Tip {
    Tip {
        size: TreeSize(u64::from(size)),
        root: root(size),
        time_us: 0,
        time_offset_us: 0,
    }
}

fn root(size: u8) -> Hash {
    Hash::from_bytes([size; 32])
}

/// A checkpoint of such a tree, cosigned by these nodes.
fn note(size: u8, nodes: &[u64]) -> String {
    cosigned(u64::from(size), root(size), nodes)
}

impl World {
    /// With a tree of this size, in a ledger whose trust policy changed at these leaves: node 1, then node 2, and so on.
    fn new(size: u8, changes: &[u64]) -> Self {
        let leaves = std::iter::once(&0).chain(changes);
        let policies = leaves.zip(1..).map(|(leaf, node)| (*leaf, node));
        Self::of(size, &policies.collect::<Vec<_>>())
    }

    /// The same with the nodes that each policy asks for.
    fn of(size: u8, policies: &[(u64, u64)]) -> Self {
        let store = Arc::new(MemoryStore::new());
        let mut batch = Batch::new();
        let ledger = v1::LedgerRecord {
            origin: ORIGIN.to_owned(),
            tree_hash: "sha256".to_owned(),
            trust_epoch: u64::try_from(policies.len() - 1).unwrap(),
            ..v1::LedgerRecord::default()
        };
        let mut put = |key: Key, record: Vec<u8>| {
            batch.put(Table::State, key.into_bytes(), record);
        };
        put(Key::ledger(), ledger.encode_to_vec());
        for (epoch, (leaf, node)) in (0..).zip(policies) {
            let record = v1::TrustRecord {
                leaf: *leaf,
                trust_policy: trust_policy(&[*node]),
            };
            put(Key::trust(epoch), record.encode_to_vec());
        }
        store.write(&batch).unwrap();
        let fatal = Fatal::default();
        let folder = tempfile::tempdir().unwrap();
        let (tip, tip_receiver) = watch::channel(tree(size));
        let (standing, standing_receiver) = watch::channel(Standing::unknown());
        let shared = Arc::clone(&store) as Arc<dyn Store>;
        let (clock, genesis) = (Arc::new(SystemClock), root(0));
        let memory = PeerMemory::open(Arc::clone(&shared), STORE, fatal.clone());
        let memory = Arc::new(memory.unwrap());
        let cosigner = Cosigner::new(Parts {
            store: Arc::clone(&shared),
            notary: Arc::new(Notary::new(Arc::clone(&shared), ORIGIN, Arc::new(key(0)))),
            signer: Arc::new(key(1)),
            name: name(1),
            marker: Arc::new(Marker::create(folder.path(), 1, genesis, STORE).unwrap()),
            flusher: Flusher::start(shared, fatal.clone()).unwrap(),
            tip: tip_receiver,
            standing: standing_receiver,
            peers: Arc::new(Peers::new(
                1,
                genesis,
                HashMap::new(),
                clock.clone(),
                Arc::new(PeerTransport::new(Arc::new(key(1)), Arc::default()).unwrap()),
                memory,
                Stage::Full,
            )),
            suspicion: Arc::default(),
            clock,
            fatal: fatal.clone(),
        });
        Self {
            cosigner: Arc::new(cosigner.unwrap()),
            store,
            tip,
            fatal,
            standing,
            _folder: folder,
        }
    }

    /// The size of the newest checkpoint that was taken.
    fn latest(&self) -> Option<u64> {
        let latest = self.cosigner.latest();
        let latest = latest.borrow();
        latest.as_ref().map(|latest| latest.size.0)
    }

    fn has_written(&self, key: &[u8]) -> bool {
        use crate::storage::Read as _;
        self.store.get(Table::Meta, key).unwrap().is_some()
    }
}

#[tokio::test]
async fn a_checkpoint_that_cannot_be_written_stops_the_node() {
    let world = World::new(3, &[]);
    let refused = world.cosigner.put(&note(3, &[]));
    assert!(refused.is_err(), "nobody has cosigned it");
    assert_eq!(world.fatal.message(), None);

    let fails = |operation| match operation {
        Operation::Write => Err(io::Error::from_raw_os_error(5)),
        Operation::Get(_)
        | Operation::Range(_)
        | Operation::Sync
        | Operation::Checkpoint
        | Operation::Install => Ok(()),
    };
    world.store.set_script(Arc::new(fails));
    let refused = world.cosigner.put(&note(3, &[1]));
    assert!(refused.is_err());
    let message = world.fatal.message().expect("the node stops");
    assert!(
        message.contains("a cosigned checkpoint cannot be written"),
        "{message}"
    );
    assert_eq!(world.latest(), None, "what is not kept is shown to nobody");
}

#[tokio::test]
async fn a_checkpoint_is_kept_with_the_steps_that_it_carries() {
    let world = World::new(7, &[4]);
    world.cosigner.put(&note(7, &[2])).unwrap();
    assert!(world.has_written(&meta::checkpoint_key(7)));
    assert!(!world.has_written(&meta::trust_step_key(1)));
    world.cosigner.put(&note(7, &[1, 2])).unwrap();
    assert!(world.has_written(&meta::trust_step_key(1)));
    assert_eq!(world.latest(), Some(7));
}

fn leads(node: u64) -> Standing {
    Standing {
        leading: Leading::Other {
            node_id: node,
            address: "127.0.0.1:1".to_owned(),
        },
        term: 1,
    }
}

#[tokio::test]
async fn only_the_leader_that_is_followed_gets_a_cosignature() {
    let world = World::new(5, &[]);
    let (leader, other) = (2, 3);
    world.standing.send_replace(leads(leader));
    let refused = world.cosigner.cosign(&note(5, &[]), other).await;
    assert_eq!(refused, Err("node 3 is not followed here".to_owned()));
    assert_eq!(world.cosigner.signed(), TreeSize(0));
    // A leader that was elected just now is waited for.
    world.standing.send_replace(leads(other));
    let note = note(5, &[]);
    let (cosigned, ()) = tokio::join!(world.cosigner.cosign(&note, leader), async {
        world.standing.send_replace(leads(leader));
    });
    cosigned.unwrap();
    assert_eq!(world.cosigner.signed(), TreeSize(5));
}

#[tokio::test]
async fn one_peer_with_another_root_is_refused_and_a_quorum_stops_the_node() {
    let world = World::new(3, &[]);
    let (peer, itself) = (2, 1);
    world.standing.send_replace(leads(peer));
    let forged = cosigned(3, root(9), &[]);
    let refused = world.cosigner.cosign(&forged, peer).await;
    assert_eq!(refused, Err("the root is another one".to_owned()));
    assert_eq!(
        world.fatal.message(),
        None,
        "one node may say what it likes"
    );
    assert_eq!(world.cosigner.signed(), TreeSize(0));
    world.cosigner.cosign(&note(3, &[]), peer).await.unwrap();
    assert_eq!(world.cosigner.signed(), TreeSize(3));

    let refused = world.cosigner.put(&cosigned(3, root(9), &[1]));
    assert_eq!(refused, Err("the root is another one".to_owned()));
    let message = world.fatal.message().expect("the node stops");
    assert!(
        message.contains("a quorum has cosigned another root"),
        "{message}"
    );

    let world = World::new(3, &[]);
    let refused = world.cosigner.cosign(&forged, itself).await;
    assert!(refused.is_err());
    let message = world.fatal.message().expect("the node stops");
    assert!(message.contains("has computed two roots"), "{message}");
}

#[tokio::test]
async fn nobody_can_want_more_than_there_is() {
    let world = World::new(3, &[]);
    world.cosigner.want(TreeSize(u64::MAX));
    assert_eq!(world.cosigner.wanted.size(), TreeSize(3));
    world.tip.send_replace(tree(5));
    assert_eq!(world.cosigner.wanted.size(), TreeSize(3));
    world.cosigner.want(TreeSize(4));
    world.cosigner.want(TreeSize(2));
    assert_eq!(world.cosigner.wanted.size(), TreeSize(4));
}

#[test]
fn only_a_larger_wish_hurries() {
    let wanted = Wanted::default();
    let raised = [
        (0, 9),
        (4, 9),
        (4, 9),
        (3, 9),
        (u64::MAX, 9),
        (u64::MAX, 9),
        (u64::MAX, 10),
    ]
    .map(|(size, there)| wanted.raise(TreeSize(size), TreeSize(there)));
    assert_eq!(raised, [false, true, false, false, true, false, true]);
}

#[tokio::test]
async fn who_is_always_behind_still_gets_newer_checkpoints() {
    let world = World::new(3, &[]);
    tokio::spawn(Arc::clone(&world.cosigner).run());
    for early in [5, 6, 7, 9] {
        world.cosigner.put(&note(early, &[1])).unwrap();
    }
    assert_eq!(world.latest(), None);
    let mut latest = world.cosigner.latest();
    let mut is = async |size: u64| {
        let reached = latest.wait_for(|latest| {
            let latest = latest.as_ref().map(|latest| latest.size);
            latest == Some(TreeSize(size))
        });
        drop(reached.await.unwrap());
    };
    world.tip.send_replace(tree(5));
    is(5).await;
    world.cosigner.put(&note(12, &[1])).unwrap();
    world.tip.send_replace(tree(9));
    is(9).await;
    world.tip.send_replace(tree(12));
    is(12).await;
    assert_eq!(world.fatal.message(), None);
}

#[tokio::test]
async fn what_no_quorum_has_cosigned_is_not_kept_for_later() {
    let world = World::new(3, &[3]);
    for refused in [note(9, &[]), note(9, &[2])] {
        assert!(world.cosigner.put(&refused).is_err());
        assert_eq!(world.cosigner.ahead.borrow().next(), None);
    }
    // Those of both sides of a change are kept.
    world.cosigner.put(&note(9, &[1, 2])).unwrap();
    assert_eq!(world.cosigner.ahead.borrow().next(), Some(TreeSize(9)));
    world.tip.send_replace(tree(4));
    world.cosigner.put(&note(8, &[2])).unwrap();
    assert_eq!(world.cosigner.ahead.borrow().next(), Some(TreeSize(8)));
}

#[tokio::test]
async fn a_step_is_taken_that_meets_both_policies_and_is_of_this_tree() {
    // Node 3 is trusted now, which neither node 1 nor node 2 can speak for.
    let world = World::new(9, &[4, 6]);
    let open = || {
        world
            .cosigner
            .open_steps()
            .unwrap()
            .into_iter()
            .collect::<Vec<_>>()
    };
    assert_eq!(open(), [1, 2]);
    for (epoch, refused) in [
        (1, note(9, &[1])),
        (1, note(9, &[2])),
        (1, cosigned(4, root(4), &[1, 2])),
        (1, note(10, &[1, 2])),
        (2, note(9, &[1, 2])),
        (0, note(9, &[1, 2])),
        (3, note(9, &[1, 2, 3])),
        (1, "noise".to_owned()),
    ] {
        let answer = world.cosigner.put_step(epoch..=epoch, &refused);
        assert!(answer.is_err(), "{epoch}: {refused}");
    }
    assert_eq!(open(), [1, 2]);
    assert_eq!(world.cosigner.steps(&[1, 2]).unwrap(), Vec::new());

    let carries = note(9, &[1, 2]);
    assert!(
        world.cosigner.put(&carries).is_err(),
        "it is no newest checkpoint"
    );
    world.cosigner.put_step(1..=1, &carries).unwrap();
    assert_eq!(open(), [2]);
    let steps = world.cosigner.steps(&[1, 2, 9]).unwrap();
    let steps: Vec<(u64, String)> = steps
        .into_iter()
        .map(|step| (step.epoch, step.checkpoint))
        .collect();
    assert_eq!(steps, [(1, carries)]);
    assert_eq!(world.fatal.message(), None);

    let forged = cosigned(9, root(8), &[2, 3]);
    assert!(world.cosigner.put_step(2..=2, &forged).is_err());
    let message = world.fatal.message().expect("the node stops");
    assert!(
        message.contains("a quorum has cosigned another root"),
        "{message}"
    );
}

#[tokio::test]
async fn changes_that_were_taken_back_are_carried_together() {
    // Node 9 was added and never answered; then the change was taken back; then node 2 came.
    let world = World::of(9, &[(0, 1), (4, 9), (5, 1), (8, 2)]);
    let open = |world: &World| world.cosigner.open_steps().unwrap();
    // The tree before the last change.
    let carries = cosigned(6, root(6), &[1]);
    world.tip.send_replace(tree(6));
    world.cosigner.put(&carries).unwrap();
    assert!(open(&world).is_empty());
    world.tip.send_replace(tree(9));
    assert_eq!(open(&world).into_iter().collect::<Vec<_>>(), [3]);
    let steps = world.cosigner.steps(&[1, 2, 3]).unwrap();
    assert_eq!(steps.len(), 1, "sent once");
    assert_eq!((steps[0].first_epoch, steps[0].epoch), (1, 2));
    assert_eq!(steps[0].checkpoint, carries);

    // Whoever lacks them takes them together, and not one without the other.
    let other = World::of(6, &[(0, 1), (4, 9), (5, 1)]);
    for alone in [1..=1, 2..=2, 1..=3, 0..=2] {
        assert!(other.cosigner.put_step(alone, &carries).is_err());
    }
    other.cosigner.put_step(1..=2, &carries).unwrap();
    assert!(open(&other).is_empty());
    assert_eq!(other.cosigner.steps(&[2]).unwrap(), steps);
}

#[tokio::test]
async fn an_answer_has_a_bounded_number_of_steps() {
    let changes: Vec<u64> = (1..=20).collect();
    let world = World::new(30, &changes);
    for epoch in 1..=20 {
        let carries = note(30, &[epoch, epoch + 1]);
        world.cosigner.put_step(epoch..=epoch, &carries).unwrap();
    }
    let steps = world.cosigner.steps(&changes).unwrap();
    let epochs: Vec<u64> = steps.iter().map(|step| step.epoch).collect();
    assert_eq!(epochs, changes[..MAX_STEPS]);
}

#[tokio::test]
async fn a_step_that_is_open_is_collected_for_without_a_larger_tree() {
    // Node 1 alone meets the policy in force, and the step needs node 2, which is away.
    let world = World::of(7, &[(0, 2), (4, 1)]);
    let mut round = ROUND;
    for _ in 0..2 {
        let pause = world.cosigner.collect_once(&mut round).await;
        assert_eq!(pause, PAUSE_AFTER_FAILURE);
        assert_eq!(round, ROUND, "the policy in force was met");
        assert_eq!(world.latest(), Some(7));
        assert_eq!(world.cosigner.open_steps().unwrap().len(), 1);
    }
    world.cosigner.put_step(1..=1, &note(7, &[1, 2])).unwrap();
    assert_eq!(world.cosigner.collect_once(&mut round).await, PAUSE);
}

#[tokio::test]
async fn rounds_in_which_too_few_answer_become_longer() {
    // The policy asks for node 2, which is nowhere.
    let world = World::of(7, &[(0, 2)]);
    let mut round = ROUND;
    for longer in [2, 4, 8, 8] {
        world.cosigner.collect_once(&mut round).await;
        assert_eq!(round, ROUND * longer);
    }
    assert_eq!(round, LONGEST_ROUND);
}
