//! P1 by the order of events: no answer leaves before a quorum has synced the entry.

use std::time::Duration;

use countersign_tests::cluster::client::request_id;
use countersign_tests::cluster::load::{Load, ask, question};
use countersign_tests::cluster::people::Actor;
use countersign_tests::cluster::wait::until;
use countersign_tests::cluster::{RECOVERY, SOON};
use countersign_tests::kit::{RULES, bundle};

use super::in_process::World;

/// How long a sync takes on a slow disk: much longer than an answer that does not wait for it.
const SLOW: Duration = Duration::from_millis(5);
/// How long an answer is waited for that must not come; an answer takes a hundredth of it.
const NO_ANSWER: Duration = Duration::from_millis(1_500);

pub(super) async fn world(actors: usize) -> (World, Vec<Actor>) {
    world_with("", actors).await
}

/// The same with more tables in the nodes' configuration.
pub(super) async fn world_with(settings: &str, actors: usize) -> (World, Vec<Actor>) {
    let world = World::start_with(settings).await;
    let actors = world.cluster.settle(actors, &bundle("agent", RULES)).await;
    (world, actors)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_answered_survives_the_loss_of_any_one_disk_and_of_all_power() {
    let (world, actors) = world(1).await;
    let leader = world.cluster.leader().await;
    for inside in world.nodes.values() {
        inside.disk.slow(SLOW);
    }
    let before: u64 = world.nodes.values().map(|node| node.disk.syncs()).sum();
    let mut answered = 0;
    for number in 0..100 {
        let submission = world.cluster.signing.command(question(&actors[0], number));
        let id = request_id(&submission);
        if ask(world.cluster.line(leader), &submission).await.is_ok() {
            let durable = world.nodes.values().filter(|node| node.is_durable(&id));
            let durable = durable.count();
            assert!(durable >= 2, "answer {number}: durable on {durable} of 3");
            answered += 1;
        }
    }
    assert!(answered >= 90, "only {answered} of 100 were answered");
    let after: u64 = world.nodes.values().map(|node| node.disk.syncs()).sum();
    // One caller who waits for each answer leaves nothing to be synced together.
    assert!(after - before >= 2 * answered, "{} syncs", after - before);
    world.must_be_sound().await;
}

/// Holds the syncs of two nodes back: what is asked is answered only after one of them goes on.
async fn waits_for(world: &World, actor: &Actor, number: u64, held: [u64; 2]) {
    let free = (1..=3).find(|node| !held.contains(node)).expect("a third");
    let submission = world.cluster.signing.command(question(actor, number));
    let id = request_id(&submission);
    for node in held {
        world.node(node).disk.hold();
    }
    let asked = submission.clone();
    let lines = world.cluster.open_lines();
    let mut answer = tokio::spawn(async move {
        let mut lines = lines.iter().cycle();
        loop {
            let line = lines.next().expect("lines without end");
            if let Ok(answer) = ask(line, &asked).await {
                return answer;
            }
        }
    });
    until("one disk has it, and the others wait", SOON, async || {
        let waiting = held.iter().all(|node| {
            let node = world.node(*node);
            node.is_written(&id) && node.disk.holds_somebody()
        });
        (waiting && world.node(free).is_durable(&id)).then_some(())
    })
    .await;
    let early = tokio::time::timeout(NO_ANSWER, &mut answer).await;
    assert!(early.is_err(), "answered with one sync of three: {early:?}");
    for node in held {
        assert!(!world.node(node).is_durable(&id), "node {node} was held");
    }
    world.node(held[0]).disk.release();
    let answered = tokio::time::timeout(RECOVERY, answer).await;
    answered
        .expect("two of three disks are enough")
        .expect("no panic");
    assert!(world.node(held[0]).is_durable(&id));
    world.node(held[1]).disk.release();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_comes_while_two_disks_do_not_sync() {
    let (world, actors) = world(1).await;
    let leader = world.cluster.leader().await;
    let followers: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    waits_for(&world, &actors[0], 0, [followers[0], followers[1]]).await;
    let leader = world.cluster.leader().await;
    let follower = (1..=3).find(|node| *node != leader).expect("a follower");
    waits_for(&world, &actors[0], 1, [leader, follower]).await;
    world.must_be_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_all_nodes_lose_power() {
    let (mut world, actors) = world(8).await;
    let load = Load::start(&world.cluster, &actors);
    for _ in 0..3 {
        for inside in world.nodes.values() {
            inside.disk.slow(SLOW);
        }
        load.flows(100, RECOVERY).await;
        for (node, kept) in world.lose_power() {
            world.run(node, kept);
        }
        world.cluster.is_whole().await;
    }
    load.flows(100, RECOVERY).await;
    load.finish().await;
    world.must_be_sound().await;
}
