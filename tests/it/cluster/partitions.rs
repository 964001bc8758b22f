//! Cables are cut: a minority decides nothing, the majority goes on, and mending the cable is all it takes.

use std::time::{Duration, Instant};

use countersign_tests::cluster::load::Load;
use countersign_tests::cluster::scenarios::Cut;
use countersign_tests::cluster::wait::until;
use countersign_tests::cluster::{Cluster, Options, RECOVERY, SOON};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_did_not_arrive_is_fetched_although_nothing_else_happens() {
    let (mut cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    let (leader, away) = (cluster.leader().await, cluster.follower().await);
    cluster.network.isolate(away);
    let _ = cluster.time_to_answer(&actors[0]).await;
    let size = cluster.must_status(leader).await.tree_size;
    let cosigned = cluster.checkpoint(leader, size).await;
    assert!(cosigned.is_some(), "two of three are a quorum");
    // By then nobody sends it any more.
    let (since, given_up) = (Instant::now(), Duration::from_secs(2));
    until("it was sent in vain", SOON, async || {
        (since.elapsed() >= given_up).then_some(())
    })
    .await;
    let before = cluster.must_status(away).await;
    assert!(before.quorum_cosigned_tree_size < size, "{before:?}");
    cluster.network.heal();
    until("the checkpoint is everywhere", RECOVERY, async || {
        let status = cluster.status(away).await?;
        assert!(status.tree_size <= size, "nothing else happens");
        (status.quorum_cosigned_tree_size == size).then_some(())
    })
    .await;
}
