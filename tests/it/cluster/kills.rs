//! Nodes die without notice and come back; whatever was answered stays answered.

use countersign_tests::cluster::load::Load;
use countersign_tests::cluster::scenarios::UNAVAILABLE_WORST;
use countersign_tests::cluster::{Cluster, Options};
use ledger_core::evidence::verify_receipt;
use ledger_core::hash::TreeHash;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_answered_is_lost_when_nodes_are_killed() {
    let (mut cluster, actors) = Cluster::with_actors(Options::default(), 33).await;
    let (probe, writers) = actors.split_last().expect("actors");
    let load = Load::start(&cluster, writers);
    let kills = cluster.kills(&load, probe, 6).await;
    load.finish().await;
    assert_eq!(kills.unavailable.len(), 3, "leaders were killed");
    let worst = kills.worst();
    // The long form holds the figure itself; here the machine is anybody's.
    assert!(worst <= UNAVAILABLE_WORST * 3, "no decisions for {worst:?}");

    let case = cluster.must_keep_promises().await;
    let (_, answer) = case.history.answered().next().expect("an answer");
    for node in cluster.nodes() {
        let receipt = cluster.cosigned(node, answer.index()).await;
        verify_receipt(&receipt, &case.policy).expect("a cosigned receipt is proof");
    }
    cluster.must_be_sound_on_disk().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_died_as_a_whole_comes_back() {
    let options = Options {
        tree_hash: TreeHash::Blake3,
        ..Options::default()
    };
    let (mut cluster, actors) = Cluster::with_actors(options, 8).await;
    let load = Load::start(&cluster, &actors);
    load.flows(200, countersign_tests::cluster::SOON).await;
    let nodes = cluster.nodes();
    for node in &nodes {
        cluster.kill(*node);
    }
    for node in &nodes {
        cluster.restart(*node);
    }
    cluster.is_whole().await;
    load.flows(200, countersign_tests::cluster::RECOVERY).await;
    load.finish().await;
    cluster.must_keep_promises().await;
    cluster.must_be_sound_on_disk().await;
}
