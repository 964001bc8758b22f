//! Nodes whose clocks are wrong: they say so, they neither lead nor decide, and the ledger's time neither runs ahead nor goes back.

use std::time::Duration;

use countersign_tests::cluster::cli::Cli;
use countersign_tests::cluster::clock_shim::ClockShim;
use countersign_tests::cluster::load::{Load, ask, question};
use countersign_tests::cluster::process::run;
use countersign_tests::cluster::wait::until;
use countersign_tests::cluster::{Cluster, Options, RECOVERY, SOON, people::Actor};
use ledger_core::command::Command;
use ledger_core::id::Identity;
use ledger_node::clock::{Clock, SystemClock};
use ledger_proto::v1::{self, command::Body};
use prost::Message;

use super::in_process::World;
use super::syncs::world;

const SECOND: i64 = 1_000_000;
const HOUR_US: i64 = 3_600 * SECOND;
/// What clocks on one machine, and a leader that may be 2 s off, can explain.
const SLACK: Duration = Duration::from_secs(3);

/// All entries.
async fn entries(cluster: &Cluster, node: u64) -> Vec<v1::Entry> {
    let ledger = cluster.ledger(node).await;
    let entry = |proven: &v1::ProvenEntry| {
        let entry = v1::Entry::decode(proven.entry.as_slice());
        entry.expect("an entry")
    };
    ledger.entries.iter().map(entry).collect()
}

/// The times of all entries.
async fn times(world: &World, node: u64) -> Vec<u64> {
    let entries = entries(&world.cluster, node).await;
    entries.iter().map(|entry| entry.time_us).collect()
}

/// No entry is of the future, and nobody's session was ended.
async fn must_be_of_now(cluster: &Cluster, node: u64) {
    let latest = SystemClock.now_us() + u64::try_from(SLACK.as_micros()).expect("small");
    for entry in entries(cluster, node).await {
        assert!(
            entry.time_us < latest,
            "{} is ahead of {latest}",
            entry.time_us
        );
        let signed = entry.signed.as_ref();
        let command = signed.and_then(|signed| Command::parse(signed).ok());
        let is_seal = command.is_some_and(|command| matches!(command.body, Body::Seal(_)));
        assert!(!is_seal, "a session was sealed: {entry:?}");
    }
}

/// Makes the leader's clock wrong under load, and gives who led.
async fn leads_no_more(world: &World, load: &Load, by_us: i64) -> u64 {
    let wrong = world.cluster.leader().await;
    load.flows(50, RECOVERY).await;
    world.clock(wrong).is_ahead(by_us);
    until("another one leads", RECOVERY, async || {
        let others = (1..=3).filter(|node| *node != wrong);
        for node in others {
            let status = world.cluster.status(node).await?;
            if status.leader_id.is_none_or(|leader| leader == wrong) {
                return None;
            }
        }
        Some(())
    })
    .await;
    load.flows(50, RECOVERY).await;
    wrong
}

/// A node whose clock is right.
const fn sound(wrong: u64) -> u64 {
    wrong % 3 + 1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_clock_jumps_stamps_nothing_and_another_one_leads() {
    let (world, actors): (World, Vec<Actor>) = world(8).await;
    let load = Load::start(&world.cluster, &actors);
    for by_us in [HOUR_US, -HOUR_US] {
        let wrong = leads_no_more(&world, &load, by_us).await;
        // Its own clock may have been the wrong one before.
        until("a node with a sound clock is ready", RECOVERY, async || {
            let status = world.cluster.status(sound(wrong)).await?;
            status.ready.then_some(())
        })
        .await;
        let times = times(&world, sound(wrong)).await;
        let latest = SystemClock.now_us() + u64::try_from(SLACK.as_micros()).expect("small");
        let last = times.last().expect("entries");
        assert!(*last < latest, "the ledger is ahead: {last}, {latest}");
        assert!(times.is_sorted_by(|one, next| one < next), "time went back");
        world.clock(wrong).is_ahead(0);
    }
    load.finish().await;
    world.must_be_sound().await;
}

/// Waits until a node refuses a command because its clock is off, as what may be asked of another node, and gives its words.
async fn says_off(cluster: &Cluster, node: u64, actor: &Actor) -> String {
    let command = cluster.signing.command(question(actor, 7));
    until("the node says that its clock is off", SOON, async || {
        let refused = ask(cluster.line(node), &command).await.err()?;
        assert_ne!(refused.reason, "REQUEST_STALE", "{refused:?}");
        let is_it = refused.message.contains("this node's clock is off");
        assert!(!is_it || refused.retry == "same_id", "{refused:?}");
        is_it.then_some(refused.message)
    })
    .await
}

/// A follower would refuse good commands as stale, and lead with its clock after a crash: it says what is wrong, in its health, its
/// status and its log, and commands are for another node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_whose_clock_is_off_is_not_ready_and_says_so() {
    let (mut cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    let cli = Cli::of_admin(&cluster);
    let _ = cli.key_file("agent.key", &Identity::Agent(actors[0].agent.clone()));
    let session = hex::encode(actors[0].session.to_vec());
    for by_us in [400 * SECOND, -400 * SECOND, -50 * 365 * 24 * HOUR_US] {
        let node = cluster.follower().await;
        cluster.stop(node).await;
        let clock = ClockShim::ahead(cluster.folder(), by_us);
        cluster.restart_with_clock(node, &clock);
        let reason = says_off(&cluster, node, &actors[0]).await;
        if by_us > 0 {
            assert!(
                reason.contains("6 min 40 s ahead of the median"),
                "{reason}"
            );
        }
        let (health, _, _) = run(&["health", "--endpoint", &cluster.endpoint(node)]);
        assert!(!health.success(), "{health}");
        let log = std::fs::read_to_string(cluster.file(node).log()).expect("a log");
        assert!(log.contains("this node's clock is off: it shows"), "{log}");
        let endpoints = [node, node % 3 + 1].map(|node| cluster.endpoint(node));
        let asked = cli.run(&[
            "authorize",
            "--key",
            "agent.key",
            "--session",
            &session,
            "--action",
            "bank/read",
            "--input",
            r#"{"doc":"a"}"#,
            "--endpoints",
            &endpoints.join(","),
        ]);
        assert_eq!(asked.code, 0, "the next node decides: {asked:?}");
        // Its clock is put right while it runs.
        clock.is_ahead(0);
        until("the node is ready", RECOVERY, async || {
            let status = cluster.status(node).await?;
            status.ready.then_some(())
        })
        .await;
    }
    must_be_of_now(&cluster, 1).await;
}

/// A node that hears of no other clock cannot tell which of two is wrong, its own or the caller's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_has_heard_of_no_other_clock_blames_no_caller() {
    let (mut cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    cluster.is_whole().await;
    for node in 1..=3 {
        cluster.kill(node);
    }
    let clock = ClockShim::ahead(cluster.folder(), 400 * SECOND);
    cluster.restart_with_clock(1, &clock);
    let command = cluster.signing.command(question(&actors[0], 7));
    let refused = until("the node answers", SOON, async || {
        let refused = ask(cluster.line(1), &command).await.err()?;
        let words = ["this node starts", "asks the others"];
        let starts = words.iter().any(|words| refused.message.contains(words));
        (!starts && !refused.reason.is_empty()).then_some(refused)
    })
    .await;
    assert_eq!(refused.reason, "NOT_READY", "{refused:?}");
    assert_eq!(refused.retry, "same_id", "{refused:?}");
    assert!(
        refused.message.contains("what a quorum's clocks show"),
        "{refused:?}"
    );
}

/// The other two crash, one comes back: of two clocks, the one ahead stamps nothing, ends nobody's session, and does not keep
/// the ledger waiting once all clocks are right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_clock_and_two_crashes_neither_stamp_ahead_nor_stop_decisions() {
    for by_us in [25 * HOUR_US, 100 * SECOND] {
        let (mut cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
        let leader = cluster.leader().await;
        let wrong = sound(leader);
        let third = 6 - leader - wrong;
        cluster.stop(wrong).await;
        let clock = ClockShim::ahead(cluster.folder(), by_us);
        cluster.restart_with_clock(wrong, &clock);
        says_off(&cluster, wrong, &actors[0]).await;
        cluster.kill(leader);
        cluster.kill(third);
        cluster.restart(third);
        // The sound one leads, and the other follows it.
        let found = until("the sound node leads", RECOVERY, async || {
            let status = cluster.status(third).await?;
            (status.ready && status.leader_id == Some(third)).then_some(status)
        })
        .await;
        assert_eq!(found.not_ready_reason, "");
        let command = cluster.signing.command(question(&actors[0], 1));
        let answered = ask(cluster.line(third), &command).await;
        answered.expect("two nodes decide");
        cluster.kill(wrong);
        cluster.restart(wrong);
        cluster.restart(leader);
        cluster.leader().await;
        let _ = cluster.time_to_answer(&actors[0]).await;
        must_be_of_now(&cluster, third).await;
    }
}
