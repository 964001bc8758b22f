//! Nodes join, leave, lose their disks and catch up, while the others decide.

use countersign_tests::cluster::cli::Cli;
use countersign_tests::cluster::load::Load;
use countersign_tests::cluster::wait::until;
use countersign_tests::cluster::{Cluster, Options, RECOVERY};

/// Snapshots after every mebibyte of log, and nothing kept behind them: whoever was away needs one.
pub(super) const PURGE_TO_THE_TIP: &str = "[snapshot]\nlog_bytes = 1048576\nlog_keep_entries = 0\n";

fn options(spare: u64, settings: &str) -> Options {
    Options {
        spare,
        settings: settings.to_owned(),
        ..Options::default()
    }
}

/// Starts a spare node on an empty disk, and waits until it is ready.
pub(super) async fn join(cluster: &mut Cluster, node: u64) {
    let genesis = cluster.genesis();
    cluster.file(node).init(&genesis, false);
    cluster.restart(node);
}

/// Has node 1 hand the leadership over, until the node leads.
pub(super) async fn is_made_leader(cluster: &Cluster, node: u64) {
    let cli = Cli::of_admin(cluster);
    let (endpoint, to) = (cluster.endpoint(1), node.to_string());
    until(&format!("node {node} leads"), RECOVERY, async || {
        let arguments = ["cluster", "transfer", "--endpoints", &endpoint, "--to", &to];
        (cli.run(&arguments).code == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_and_leaders_leave_under_load() {
    let (mut cluster, actors) = Cluster::with_actors(options(1, ""), 8).await;
    let load = Load::start(&cluster, &actors);
    load.flows(200, RECOVERY).await;

    join(&mut cluster, 4).await;
    cluster.change_members(&[1, 2, 3, 4]).await;
    cluster.is_whole().await;

    let leader = cluster.leader().await;
    let rest: Vec<u64> = [1, 2, 3, 4]
        .into_iter()
        .filter(|node| *node != leader)
        .collect();
    cluster.change_members(&rest).await;
    let next = cluster.leader_among(&rest).await;
    assert_ne!(next, leader, "a node that was removed does not lead");
    until("the removed node says so", RECOVERY, async || {
        let status = cluster.status(leader).await?;
        status
            .not_ready_reason
            .contains("was removed")
            .then_some(())
    })
    .await;
    cluster.kill(leader);
    load.flows(200, RECOVERY).await;
    load.finish().await;
    cluster.must_keep_promises().await;
    cluster.must_be_sound_on_disk().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_its_disk_comes_back_under_a_new_id() {
    let (mut cluster, actors) = Cluster::with_actors(options(1, PURGE_TO_THE_TIP), 8).await;
    let load = Load::start(&cluster, &actors);
    load.flows(1_500, RECOVERY).await;
    let lost = cluster.follower().await;
    cluster.kill(lost);
    std::fs::remove_dir_all(cluster.file(lost).data()).expect("the disk is wiped");

    join(&mut cluster, 4).await;
    let mut members: Vec<u64> = [1, 2, 3].into_iter().filter(|node| *node != lost).collect();
    members.push(4);
    cluster.change_members(&members).await;
    cluster.is_whole().await;
    load.flows(200, RECOVERY).await;
    load.finish().await;
    cluster.must_keep_promises().await;
    cluster.must_be_sound_on_disk().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_disk_under_an_old_id_is_told_by_the_leader() {
    let (mut cluster, actors) = Cluster::with_actors(options(0, ""), 4).await;
    let load = Load::start(&cluster, &actors);
    load.flows(100, RECOVERY).await;
    let (leader, lost) = (cluster.leader().await, cluster.follower().await);
    cluster.kill(lost);
    std::fs::remove_dir_all(cluster.file(lost).data()).expect("the disk is wiped");
    join(&mut cluster, lost).await;
    let log = cluster.file(leader).log();
    until("the leader says what it sees", RECOVERY, async || {
        let said = std::fs::read_to_string(&log).ok()?;
        said.lines()
            .any(|line| line.contains("was met with store") && line.contains("under a new node id"))
            .then_some(())
    })
    .await;
    // It has not become a replica that knows nothing.
    cluster.kill(lost);
    load.flows(100, RECOVERY).await;
    load.finish().await;
    cluster.must_keep_promises().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_interrupted_goes_on() {
    let (mut cluster, actors) = Cluster::with_actors(options(0, PURGE_TO_THE_TIP), 8).await;
    let load = Load::start(&cluster, &actors);
    let away = cluster.follower().await;
    cluster.kill(away);
    load.flows(3_000, RECOVERY).await;
    // It comes back into a network that breaks again as soon as something moves, twice.
    for _ in 0..2 {
        cluster.restart(away);
        until("the node answers", RECOVERY, async || {
            cluster.status(away).await
        })
        .await;
        cluster.network.isolate(away);
        load.flows(100, RECOVERY).await;
        cluster.kill(away);
        cluster.network.heal();
    }
    cluster.restart(away);
    cluster.is_whole().await;
    load.finish().await;
    cluster.must_keep_promises().await;
    cluster.must_be_sound_on_disk().await;
}
