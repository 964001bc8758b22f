//! Cables are cut: a minority decides nothing, the majority goes on, and mending the cable is all it takes.

use std::time::Duration;

use countersign_tests::cluster::load::Load;
use countersign_tests::cluster::scenarios::Cut;
use countersign_tests::cluster::{Cluster, Options};

/// Longer than any election takes.
const DURING: Duration = Duration::from_secs(8);

async fn cuts(of_leader: bool, cuts: &[Cut]) {
    let (mut cluster, actors) = Cluster::with_actors(Options::default(), 8).await;
    let load = Load::start(&cluster, &actors);
    for cut in cuts {
        let node = if of_leader {
            cluster.leader().await
        } else {
            cluster.follower().await
        };
        cluster.partition(&load, node, *cut, DURING).await;
    }
    load.finish().await;
    cluster.must_keep_promises().await;
    cluster.must_be_sound_on_disk().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_decides_nothing() {
    cuts(true, &[Cut::Both]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_is_cut_off_decides_nothing() {
    cuts(false, &[Cut::Both]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_one_way_does_not_stop_the_others() {
    cuts(true, &[Cut::Mute, Cut::Deaf]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_is_cut_one_way_does_not_stop_the_others() {
    cuts(false, &[Cut::Mute, Cut::Deaf]).await;
}
