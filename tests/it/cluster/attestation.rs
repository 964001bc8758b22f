//! Replicas compare their states: one that differs from most stops, and a copy cosigns only once most others have the same.

use std::collections::{BTreeMap, BTreeSet};

use countersign_tests::cluster::load::Load;
use countersign_tests::cluster::wait::until;
use countersign_tests::cluster::{ADMIN, Cluster, Options, RECOVERY};
use ledger_core::id::Identity;
use ledger_core::state::{Key, read};
use ledger_node::fsck;
use ledger_node::node::start::StartError;
use ledger_node::storage::memory::MemoryStore;
use ledger_node::storage::view::StoreState;
use ledger_node::storage::{Batch, Store, Table};
use ledger_proto::v1::{self, command::Body};
use prost::Message;

use super::in_process::World;
use super::membership::{PURGE_TO_THE_TIP, join};

/// Gives the admin another name: a record that decodes and is tied to its entry.
fn alter(store: &MemoryStore) {
    let key = Key::operator(ADMIN);
    let record: Option<v1::OperatorRecord> = read(&StoreState(store), &key).expect("reads");
    let mut record = record.expect("the admin");
    record.name.push('!');
    let mut batch = Batch::new();
    batch.put(Table::State, key.into_bytes(), record.encode_to_vec());
    store.write(&batch).expect("writes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_state_was_altered_stops_and_the_others_go_on() {
    let mut world = World::start().await;
    let altered = world.cluster.follower().await;
    let store = world.stop(altered).await;
    alter(&store);
    let report = fsck::run(&store, None, &mut |_, _| {});
    assert_eq!(report.findings, Vec::new(), "nothing shows in it alone");
    world.run(altered, store);

    world.cluster.change_members(&[1, 2, 3]).await;
    let (store, why) = world.must_stop(altered).await;
    for words in ["another one than most voters have", "new node id"] {
        assert!(why.contains(words), "{words:?} is not in: {why}");
    }
    world
        .cluster
        .govern(Body::CreateNamespace(v1::CreateNamespace {
            name: "after".to_owned(),
            owners: Vec::new(),
            single_use: false,
        }))
        .await;

    // It does not come back, because the ledger remembers what it said.
    world.run(altered, store);
    let (_, error) = world.must_end(altered).await;
    match error {
        StartError::Data(again) | StartError::Fatal(again) => {
            assert!(
                again.contains("another one than most voters have"),
                "{again}"
            );
        }
        StartError::Configuration(other) => panic!("{other}"),
    }
    world.must_be_sound().await;
}

/// Changes the root of what comes, and nothing that can be read back.
fn alter_frontier(store: &MemoryStore) {
    let key = Key::head();
    let record: Option<v1::HeadRecord> = read(&StoreState(store), &key).expect("reads");
    let mut record = record.expect("a head");
    *record.frontier.last_mut().expect("a frontier") ^= 1;
    let mut batch = Batch::new();
    batch.put(Table::State, key.into_bytes(), record.encode_to_vec());
    store.write(&batch).expect("writes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_computes_another_root_than_the_proposer_stops() {
    let mut world = World::start().await;
    let altered = world.cluster.follower().await;
    let store = world.stop(altered).await;
    alter_frontier(&store);
    world.run(altered, store);
    world.cluster.change_members(&[1, 2, 3]).await;
    let (_, why) = world.must_stop(altered).await;
    // Whichever it sees first: the next batch, or what a quorum has cosigned.
    let batch = why.contains("this node's is the wrong one") && why.contains("ledger-node fsck");
    let quorum = why.contains("a quorum has cosigned another root");
    assert!(batch || quorum, "{why}");
    // The others go on.
    world.cluster.change_members(&[1, 2, 3]).await;
}

/// Who attested what, by size.
type Attested = BTreeMap<u64, BTreeMap<Vec<u8>, BTreeSet<u64>>>;

async fn attested(cluster: &Cluster) -> Attested {
    let mut attested = Attested::new();
    for (_, command) in cluster.ledger(1).await.commands() {
        let author = command.author.as_ref().map(Identity::parse);
        if let (Some(Body::AttestState(ask)), Some(Ok(Identity::Node(node)))) =
            (command.body, author)
        {
            let by_digest = attested.entry(ask.tree_size).or_default();
            by_digest.entry(ask.digest).or_default().insert(node);
        }
    }
    attested
}

/// Waits until all nodes have attested their states at the same size, beyond this one. Gives that size.
async fn all_attest(cluster: &Cluster, beyond: u64) -> u64 {
    until("all attest the same size", RECOVERY, async || {
        let mut sizes = BTreeSet::new();
        for node in cluster.nodes() {
            sizes.insert(cluster.status(node).await?.attested_tree_size);
        }
        let one = sizes.first().filter(|_| sizes.len() == 1);
        one.copied().filter(|size| *size > beyond)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_apply_in_other_groups_attest_the_same() {
    let (mut cluster, actors) = Cluster::with_actors(Options::default(), 8).await;
    let load = Load::start(&cluster, &actors);
    let mut before = 0;
    for _ in 0..2 {
        load.flows(100, RECOVERY).await;
        // One comes back later and applies all that it missed at once.
        let away = cluster.follower().await;
        cluster.kill(away);
        cluster.change_members(&[1, 2, 3]).await;
        load.flows(100, RECOVERY).await;
        cluster.restart(away);
        cluster.is_whole().await;
        before = all_attest(&cluster, before).await;
    }
    load.finish().await;
    cluster.must_keep_promises().await;
    let attested = attested(&cluster).await;
    let by_all = attested
        .values()
        .filter(|digests| digests.values().any(|nodes| nodes.len() == 3));
    assert_eq!(by_all.count(), 2, "{attested:?}");
    let one_each = attested.values().all(|digests| digests.len() == 1);
    assert!(one_each, "{attested:?}");
    cluster.must_be_sound_on_disk().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_cosigns_only_once_most_others_have_the_same_state() {
    let options = Options {
        nodes: 1,
        spare: 2,
        settings: PURGE_TO_THE_TIP.to_owned(),
        ..Options::default()
    };
    let (mut cluster, actors) = Cluster::with_actors(options, 8).await;
    let load = Load::start(&cluster, &actors);
    let snapshots = cluster.file(1).data().join("snapshots");
    until("the first node has a snapshot", RECOVERY, async || {
        let mut items = std::fs::read_dir(&snapshots).ok()?.flatten();
        items
            .any(|item| item.file_name().to_string_lossy().starts_with("snap-"))
            .then_some(())
    })
    .await;
    join(&mut cluster, 2).await;
    join(&mut cluster, 3).await;
    cluster.change_members(&[1, 2, 3]).await;
    // Before it has the copy, which is a mebibyte, and long before it could attest it.
    cluster.kill(3);
    let waits = async |cluster: &Cluster| {
        let status = cluster.status(2).await?;
        let why = &status.not_cosigning_reason;
        let waits = why.contains("the same have node 1,") && why.contains("none yet node 3");
        waits.then_some(status)
    };
    let what = "node 2 has the state of node 1 and waits for node 3";
    until(what, RECOVERY, async || waits(&cluster).await).await;
    load.flows(200, RECOVERY).await;
    let waiting = until(what, RECOVERY, async || waits(&cluster).await).await;
    assert_eq!(waiting.cosigned_tree_size, 0, "{waiting:?}");

    cluster.restart(3);
    for node in [2, 3] {
        until(&format!("node {node} cosigns"), RECOVERY, async || {
            let status = cluster.status(node).await?;
            let cosigns = status.cosigned_tree_size > 0;
            assert!(
                !cosigns || status.not_cosigning_reason.is_empty(),
                "{status:?}"
            );
            cosigns.then_some(())
        })
        .await;
    }
    let attested = attested(&cluster).await;
    let mut by_all = attested.values().flat_map(BTreeMap::values);
    assert!(by_all.any(|nodes| nodes.len() == 3), "{attested:?}");
    load.finish().await;
    cluster.must_keep_promises().await;
    cluster.must_be_sound_on_disk().await;
}
