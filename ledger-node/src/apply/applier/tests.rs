//! Which committed batches are void is the same on each replica, however it groups the log into writes.

use bytes::Bytes;
use ledger_core::id::Identity;
use ledger_core::signature::{SignatureDomain, sign_one};
use ledger_core::signer::Signer;
use ledger_proto::v1::command::Body;
use proptest::prelude::{ProptestConfig, Strategy, any, prop, prop_assert_eq, proptest};
use proptest::test_runner::TestCaseError;

use super::*;
use crate::cli::init::create_state;
use crate::genesis_file::tests::{genesis, key};
use crate::raft::types::Term;
use crate::storage::memory::MemoryStore;
use crate::storage::store_id::StoreId;

/// A replica of the ledger of the tests, node 1.
struct Replica {
    store: Arc<dyn Store>,
    applier: Applier,
    suspicion: Arc<Suspicion>,
    proposers: Arc<Proposers>,
}

impl Replica {
    fn new() -> Self {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        create_state(&*store, &genesis(), 1, StoreId::from_bytes([1; 16]), false).unwrap();
        Self::start(store)
    }

    fn start(store: Arc<dyn Store>) -> Self {
        let (machine, fatal) = (Arc::new(Machine::new()), Fatal::default());
        let preparer = Preparer::start(
            Arc::clone(&store),
            &genesis().origin,
            Arc::clone(&machine),
            &fatal,
        );
        let suspicion = Arc::<Suspicion>::default();
        let proposers = Arc::<Proposers>::default();
        let applier = Applier::start(Parts {
            store: Arc::clone(&store),
            machine,
            preparer: preparer.unwrap(),
            waiters: Arc::default(),
            answers: channel().0,
            points: Arc::default(),
            boundaries: Arc::default(),
            suspicion: Arc::clone(&suspicion),
            proposers: Arc::clone(&proposers),
            fatal,
        });
        Self {
            store,
            applier: applier.unwrap(),
            suspicion,
            proposers,
        }
    }

    /// Ends the process and starts another one on the same disk.
    fn start_again(self) -> Self {
        Self::start(self.store)
    }

    fn try_apply(&self, entries: &[Entry]) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let applied = self.applier.apply(entries.to_vec());
        runtime.unwrap().block_on(applied)
    }

    fn apply(&self, entries: &[Entry]) {
        self.try_apply(entries).unwrap();
    }

    fn tip(&self) -> Tip {
        *self.applier.tip().borrow()
    }

    /// The tree that this replica has had of a size.
    fn root_at(&self, size: u64) -> Hash {
        let state = StoreState(&*self.store);
        let hash = TreeHash::of_origin(&genesis().origin);
        let tiles = StateTiles(&state);
        Prover::new(&tiles, hash, TreeSize(size)).root().unwrap()
    }
}

/// A namespace that does not exist yet, made by the genesis's operator.
fn namespace(number: u8) -> v1::Submission {
    let author = Identity::Operator("root".to_owned());
    let command = v1::Command {
        request_id: vec![number; 16],
        issued_at_us: genesis().created_at_us,
        author: Some(author.to_message()),
        body: Some(Body::CreateNamespace(v1::CreateNamespace {
            name: format!("namespace-{number}"),
            owners: vec!["root".to_owned()],
            single_use: false,
        })),
        ..v1::Command::default()
    };
    let signer: &dyn Signer = &key(9);
    let key_id = ledger_core::keys::PublicKey::from_bytes(&signer.public_key()).unwrap();
    let signed = sign_one(
        SignatureDomain::of(&author),
        &genesis().origin,
        command.encode_to_vec(),
        &[(key_id.key_id(), signer)],
    );
    v1::Submission {
        signed: Some(signed.unwrap()),
        compartments: Vec::new(),
    }
}

/// A log entry with a batch that makes these namespaces, whose proposer says that its tree of this size has this root.
fn entry(index: u64, namespaces: std::ops::Range<u8>, prior_size: u64, prior_root: Hash) -> Entry {
    let batch = v1::Batch {
        time_us: genesis().created_at_us + index,
        prior_size,
        prior_root: prior_root.as_bytes().to_vec(),
        submissions: namespaces.map(namespace).collect(),
    };
    Entry {
        log_id: LogId::new(Term { term: 1 }, index),
        payload: EntryPayload::Normal(Proposal(Bytes::from(batch.encode_to_vec()))),
    }
}

#[test]
fn a_batch_on_a_tree_inside_another_batch_counts_however_the_two_are_written() {
    let first = Replica::new();
    let genesis_root = first.tip().root;
    let x = entry(1, 0..3, 1, genesis_root);
    first.apply(std::slice::from_ref(&x));
    assert_eq!(first.tip().size, TreeSize(4));
    for size in 2..=3 {
        let y = entry(2, 3..4, size, first.root_at(size));
        let [apart, together] = [Replica::new(), Replica::new()];
        apart.apply(std::slice::from_ref(&x));
        apart.apply(std::slice::from_ref(&y));
        together.apply(&[x.clone(), y]);
        assert_eq!(apart.tip().size, TreeSize(5), "{size}");
        assert_eq!(apart.tip(), together.tip(), "{size}");
        assert_eq!(together.suspicion.current(), None, "{size}");
    }
}

#[test]
fn a_node_is_blamed_for_a_void_batch_that_it_has_sent_itself_and_for_no_other() {
    let wrong = PriorTree {
        size: TreeSize(1),
        root: Hash::from_bytes([7; 32]),
    };
    let other = PriorTree {
        root: Hash::from_bytes([8; 32]),
        ..wrong
    };
    let void = entry(1, 0..1, wrong.size.0, wrong.root);
    let blamed = |sent: Option<PriorTree>| {
        let replica = Replica::new();
        if let Some(sent) = sent {
            replica.proposers.note_sent(2, 1, void.log_id, sent);
        }
        replica.apply(std::slice::from_ref(&void));
        replica.suspicion.current().unwrap().proposer
    };
    assert_eq!(blamed(None), None, "a later leader brought it");
    assert_eq!(blamed(Some(other)), None, "it has sent another one");
    assert_eq!(blamed(Some(wrong)), Some(2));
}

#[test]
fn a_node_ends_for_a_tree_that_it_has_proposed_on_and_not_for_what_is_put_under_its_term() {
    let replica = Replica::new();
    let genesis = replica.tip();
    let (size, root) = (genesis.size, genesis.root);
    replica.proposers.note_own(PriorTree { size, root });
    let forged = entry(1, 0..1, 1, Hash::from_bytes([7; 32]));
    replica.apply(&[forged]);
    assert_eq!(replica.tip(), genesis, "it is void");
    assert_eq!(replica.suspicion.current().unwrap().proposer, None);
    // Its own word, and its tree is another one.
    let root = Hash::from_bytes([8; 32]);
    replica.proposers.note_own(PriorTree { size, root });
    let error = replica.try_apply(&[entry(2, 0..1, 1, root)]).unwrap_err();
    assert!(error.to_string().contains("this node has proposed"));
}

/// What is drawn for a batch: how many submissions it has, on which tree it is said to be, and whether that is true.
type Drawn = (u8, u64, bool);

/// A log of batches on trees of any size that there is when they come, or of one more.
fn log_of(drawn: &[Drawn]) -> Vec<Entry> {
    let replica = Replica::new();
    let mut next = 0;
    let entries = drawn
        .iter()
        .zip(1..)
        .map(|((submissions, at, honest), index)| {
            let end = replica.tip().size.0;
            let size = at % (end + 2);
            let root = match honest {
                true if size <= end => replica.root_at(size),
                _ => Hash::from_bytes([7; 32]),
            };
            let made = entry(index, next..next + submissions, size, root);
            next += submissions;
            replica.apply(std::slice::from_ref(&made));
            made
        });
    entries.collect()
}

/// What comes between two entries of a log.
#[derive(Debug, Clone, Copy)]
enum Between {
    Nothing,
    AnotherCall,
    AnotherProcess,
}

fn between() -> impl Strategy<Value = Between> {
    (0..4_u8).prop_map(|drawn| match drawn {
        0 => Between::AnotherCall,
        1 => Between::AnotherProcess,
        _ => Between::Nothing,
    })
}

fn all_groupings_agree(drawn: &[Drawn], cuts: &[Between]) -> Result<(), TestCaseError> {
    let log = log_of(drawn);
    let one_by_one = Replica::new();
    for entry in &log {
        one_by_one.apply(std::slice::from_ref(entry));
    }
    let mut grouped = Replica::new();
    let mut group = Vec::new();
    for (entry, cut) in log.into_iter().zip(cuts) {
        group.push(entry);
        if matches!(cut, Between::Nothing) {
            continue;
        }
        grouped.apply(&std::mem::take(&mut group));
        if matches!(cut, Between::AnotherProcess) {
            grouped = grouped.start_again();
        }
    }
    grouped.apply(&group);
    prop_assert_eq!(one_by_one.tip(), grouped.tip());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_tree_does_not_depend_on_how_the_log_is_written(
        drawn in prop::collection::vec((1..4_u8, any::<u64>(), prop::bool::weighted(0.8)), 6),
        cuts in prop::collection::vec(between(), 6),
    ) {
        all_groupings_agree(&drawn, &cuts)?;
    }
}
