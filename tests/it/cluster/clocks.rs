//! A leader whose clock is wrong: another one leads, and the ledger's time neither runs ahead nor goes back.

use std::time::Duration;

use countersign_tests::cluster::load::Load;
use countersign_tests::cluster::wait::until;
use countersign_tests::cluster::{RECOVERY, people::Actor};
use ledger_node::clock::{Clock, SystemClock};
use ledger_proto::v1;
use prost::Message;

use super::in_process::World;
use super::syncs::world;

const HOUR_US: i64 = 3_600_000_000;
/// What clocks on one machine, and a leader that may be 2 s off, can explain.
const SLACK: Duration = Duration::from_secs(3);

/// The times of all entries.
async fn times(world: &World, node: u64) -> Vec<u64> {
    let ledger = world.cluster.ledger(node).await;
    let time = |proven: &v1::ProvenEntry| {
        let entry = v1::Entry::decode(proven.entry.as_slice());
        entry.expect("an entry").time_us
    };
    ledger.entries.iter().map(time).collect()
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
