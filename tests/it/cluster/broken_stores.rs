//! Stores in memory of which one operation fails from some moment on: the node says so and stops, and nothing is lost.

use countersign_tests::cluster::RECOVERY;
use countersign_tests::cluster::faults::SETTINGS;
use countersign_tests::cluster::load::{Load, ask};
use countersign_tests::cluster::people::Actor;
use countersign_tests::kit::{Ask, authorize_body};
use ledger_core::id::Identity;
use ledger_node::storage::Table;
use ledger_node::storage::memory::Operation;
use ledger_proto::v1::CompartmentKind;

use super::in_process::World;
use super::syncs::world_with;

/// The system's codes of an input or output error, and of a full disk.
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// Breaks the disk of a follower, then that of the leader, under load: the node says so and stops, the others serve, and
/// the node comes back with what its disk has kept.
async fn breaks(operation: Operation, code: i32, says: &[&str]) {
    breaks_of(&[false, true], operation, code, says).await;
}

/// The same for those that are asked for: true for the leader's.
async fn breaks_of(leads: &[bool], operation: Operation, code: i32, says: &[&str]) {
    let (mut world, actors) = world_with(SETTINGS, 8).await;
    let load = Load::start(&world.cluster, &actors);
    for of_leader in leads.iter().copied() {
        load.flows(100, RECOVERY).await;
        let leader = world.cluster.leader().await;
        let node = (1..=3)
            .find(|node| (*node == leader) == of_leader)
            .expect("three nodes");
        world.node(node).disk.fail(operation, code);
        let (kept, message) = world.must_stop(node).await;
        for words in says {
            assert!(message.contains(words), "{words:?} is not in: {message}");
        }
        load.flows(100, RECOVERY).await;
        world.run(node, kept);
        world.cluster.is_whole().await;
    }
    load.finish().await;
    world.must_be_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_stops_its_node_and_nothing_is_lost() {
    let says = ["a sync of the store failed", "Check the disk"];
    breaks(Operation::Sync, EIO, &says).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_its_node_and_nothing_is_lost() {
    let says = ["No space left on device", "Make room on the disk"];
    breaks(Operation::Write, ENOSPC, &says).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_cannot_be_read_stops_its_node_and_nothing_is_lost() {
    let says = ["Input/output error", "Check the disk"];
    breaks(Operation::Get(Table::State), EIO, &says).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_cannot_be_made_stops_its_node_and_nothing_is_lost() {
    let says = ["a snapshot cannot be made", "Make room on the disk"];
    // It takes a mebibyte of log until there is one; whose it is makes no difference.
    breaks_of(&[false], Operation::Checkpoint, ENOSPC, &says).await;
}

/// Asks with long inputs, one after the other and without end, so that the log grows fast.
async fn talks(world: &World, actor: &Actor) {
    let input = format!(r#"{{"doc":"{}"}}"#, "x".repeat(16 << 10));
    loop {
        let body = authorize_body(&actor.agent, actor.session, "bank/read");
        let asked = Ask::new(Identity::Agent(actor.agent.clone()), body)
            .with(CompartmentKind::Input, input.as_bytes());
        let submission = world.cluster.signing.command(asked);
        let leader = world.cluster.leader().await;
        // What is answered is not what this is about.
        let _ = ask(world.cluster.line(leader), &submission).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_cannot_be_installed_stops_its_node_and_is_installed_later() {
    let (mut world, actors) = world_with(SETTINGS, 8).await;
    let load = Load::start(&world.cluster, &actors);
    let node = world.cluster.follower().await;
    let kept = world.stop(node).await;
    // The second was begun after the node had gone, so that the log before it, which the node would need, is purged.
    for _ in 0..2 {
        tokio::select! {
            () = world.cluster.others_take_snapshots(node) => {}
            () = talks(&world, &actors[0]) => {}
        }
    }
    world.run(node, kept);
    world.node(node).disk.fail(Operation::Install, EIO);
    let (kept, message) = world.must_stop(node).await;
    for words in ["a snapshot cannot be installed", "Check the disk"] {
        assert!(message.contains(words), "{words:?} is not in: {message}");
    }
    world.run(node, kept);
    world.cluster.is_whole().await;
    load.finish().await;
    world.must_be_sound().await;
}
