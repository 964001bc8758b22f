//! One bit that flips in what a node computes with: that node stops by itself, and the others go on.

use countersign_tests::cluster::RECOVERY;
use countersign_tests::cluster::load::Load;
use ledger_core::state::Key;
use ledger_node::storage::{Batch, Read as _, Store as _, Table};
use ledger_proto::v1;
use prost::Message as _;

use super::in_process::{Inside, World};
use super::syncs::world;

/// Flips a bit of the tree's frontier: every later root is another one.
fn flip_a_bit(node: &Inside) {
    let key = Key::head();
    let head = node.store.get(Table::State, key.as_bytes());
    let head = head.expect("memory can be read").expect("a head");
    let mut head = v1::HeadRecord::decode(head.as_slice()).expect("a head");
    *head.frontier.last_mut().expect("a tree") ^= 1;
    let mut batch = Batch::new();
    batch.put(Table::State, key.as_bytes(), head.encode_to_vec());
    node.store.write(&batch).expect("memory can be written");
}

/// Whether the flip lands between two applies is chance; a head that was read before it and written after it has undone it.
async fn is_noticed(of_leader: bool) {
    let (mut world, actors): (World, _) = world(8).await;
    let load = Load::start(&world.cluster, &actors);
    load.flows(50, RECOVERY).await;
    let leader = world.cluster.leader().await;
    let node = (1..=3).find(|node| (*node == leader) == of_leader);
    let node = node.expect("three nodes");
    while !world.has_ended(node) {
        flip_a_bit(world.node(node));
        load.flows(20, RECOVERY).await;
    }
    let (_, message) = world.must_stop(node).await;
    assert!(
        message.contains("ledger-node fsck") || message.contains("Run fsck"),
        "{message}"
    );
    load.flows(100, RECOVERY).await;
    load.finish().await;
    for other in (1..=3).filter(|other| *other != node) {
        assert!(!world.has_ended(other), "node {other}");
    }
    // What the damaged node has answered by itself was provisional, and no quorum has cosigned it.
    world.cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_with_a_flipped_bit_stops_and_the_others_go_on() {
    is_noticed(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_with_a_flipped_bit_stops_and_the_others_go_on() {
    is_noticed(false).await;
}
