//! Disks that go back in time as a whole, and ids that come back on an empty disk: whoever leads, and whoever was down meanwhile,
//! no second history begins and nothing is lost that was acknowledged.

use std::path::{Path, PathBuf};
use std::process::Command;

use countersign_tests::cluster::cli::Cli;
use countersign_tests::cluster::load::{Load, ask, question};
use countersign_tests::cluster::overlay::OverlayTool;
use countersign_tests::cluster::people::Actor;
use countersign_tests::cluster::rollback_suite::forge;
use countersign_tests::cluster::wait::until;
use countersign_tests::cluster::{Cluster, Options, RECOVERY, SOON};

use super::marker::{EXIT_DATA, copy};

/// What a node says whose data directory was copied.
const COPIED: &str = "was copied since this node ran on it last";
/// What a node says whose id was met with another store.
const OTHER_STORE: &str = "have met this node with another store";

async fn cluster() -> (Cluster, Vec<Actor>) {
    Cluster::with_actors(Options::default(), 4).await
}

/// The nodes by their part: the leader, and the two others.
async fn parts(cluster: &Cluster) -> [u64; 3] {
    let leader = cluster.leader().await;
    let others: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    [leader, others[0], others[1]]
}

/// Answers some more questions, and gives the size of the ledger once the running nodes have cosigned them.
async fn decide(cluster: &Cluster, actors: &[Actor]) -> u64 {
    let load = Load::start(cluster, actors);
    load.flows(20, RECOVERY).await;
    load.finish().await;
    cluster.converge().await
}

/// Waits until a node says why it is not ready.
async fn says(cluster: &Cluster, node: u64, words: &str) {
    until(
        &format!("node {node} says {words:?}"),
        RECOVERY,
        async || {
            let status = cluster.status(node).await?;
            assert!(!status.ready || status.not_ready_reason.is_empty());
            status.not_ready_reason.contains(words).then_some(())
        },
    )
    .await;
}

/// No question is answered by any running node.
async fn decides_nothing(cluster: &Cluster, actor: &Actor) {
    let submission = cluster.signing.command(question(actor, 1));
    for node in cluster.nodes() {
        let answer = ask(cluster.line(node), &submission).await;
        assert!(answer.is_err(), "node {node}: {answer:?}");
    }
}

/// A node that must not start on its data, and says why.
async fn must_refuse(cluster: &mut Cluster, node: u64, words: &[&str]) {
    let status = cluster.process(node).must_end(SOON).await;
    let log = std::fs::read_to_string(cluster.file(node).log()).expect("a log");
    let last = log.lines().last().unwrap_or_default();
    assert_eq!(status.code(), Some(EXIT_DATA), "{status}: {last}");
    for words in words {
        assert!(last.contains(words), "{words:?} is not in: {last}");
    }
    cluster.kill(node);
}

/// Puts a node's disk aside.
fn take_away(cluster: &Cluster, node: u64) -> PathBuf {
    let aside = cluster.folder().join(format!("first-{node}"));
    std::fs::rename(cluster.file(node).data(), &aside).expect("moves");
    aside
}

fn put_back(cluster: &Cluster, node: u64, aside: &Path) {
    let data = cluster.file(node).data();
    std::fs::remove_dir_all(&data).expect("removed");
    std::fs::rename(aside, data).expect("moves");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_the_whole_folder_makes_no_second_tree() {
    let (mut cluster, actors) = cluster().await;
    let [leader, copied, other] = parts(&cluster).await;
    decide(&cluster, &actors).await;
    cluster.stop(copied).await;
    let old = cluster.folder().join("old");
    copy(&cluster.file(copied).data(), &old);
    cluster.restart(copied);
    cluster.is_whole().await;

    cluster.kill(other);
    let cosigned = decide(&cluster, &actors).await;
    cluster.kill(copied);
    let aside = take_away(&cluster, copied);
    copy(&old, &cluster.file(copied).data());
    cluster.kill(leader);
    cluster.restart(copied);
    cluster.restart(other);
    says(&cluster, copied, COPIED).await;
    let endpoint = cluster.endpoint(copied);
    let table = Cli::of_admin(&cluster).run(&["cluster", "status", "--endpoints", &endpoint]);
    assert!(table.out.contains(COPIED), "{table:?}");
    decides_nothing(&cluster, &actors[0]).await;
    let size = cluster.must_status(other).await.tree_size;
    assert!(size < cosigned, "{other} was down meanwhile");

    // The one that holds the truth comes back, and the copy is told from it.
    cluster.restart(leader);
    must_refuse(&mut cluster, copied, &["older copy", "keep this disk"]).await;
    decide(&cluster, &actors).await;
    cluster.must_keep_promises().await;

    put_back(&cluster, copied, &aside);
    cluster.restart(copied);
    cluster.is_whole().await;
    cluster.must_keep_promises().await;
    cluster.must_be_sound_on_disk().await;
}

/// Copies a folder with the times of its files.
fn copy_all(from: &Path, to: &Path) {
    let mut cp = Command::new("cp");
    let status = cp.arg("-a").args([from, to]).status().expect("cp runs");
    assert!(status.success(), "{cp:?}: {status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_laid_over_the_files_of_its_own_run_makes_no_second_tree() {
    let (mut cluster, actors) = cluster().await;
    for (round, tool) in OverlayTool::ALL.into_iter().enumerate() {
        let [leader, copied, other] = parts(&cluster).await;
        decide(&cluster, &actors).await;
        let data = cluster.file(copied).data();
        let old = cluster.folder().join(format!("old-{round}"));
        cluster.process(copied).stand_still().await;
        copy_all(&data, &old);
        cluster.process(copied).signal("CONT");

        cluster.kill(other);
        let cosigned = decide(&cluster, &actors).await;
        cluster.kill(copied);
        let aside = cluster.folder().join(format!("aside-{round}"));
        copy_all(&data, &aside);
        tool.lay(&old, &data);
        cluster.kill(leader);
        cluster.restart(copied);
        cluster.restart(other);
        says(&cluster, copied, COPIED).await;
        // A start takes nothing away of what tells.
        cluster.kill(copied);
        cluster.restart(copied);
        says(&cluster, copied, COPIED).await;
        decides_nothing(&cluster, &actors[0]).await;
        let size = cluster.must_status(other).await.tree_size;
        assert!(size < cosigned, "{tool:?}: {other} was down meanwhile");

        cluster.restart(leader);
        must_refuse(&mut cluster, copied, &["older copy", "keep this disk"]).await;
        put_back(&cluster, copied, &aside);
        cluster.restart(copied);
        cluster.is_whole().await;
    }
    cluster.must_keep_promises().await;
    cluster.must_be_sound_on_disk().await;
}

/// A new disk under an old id, in every order of first steps.
#[derive(Debug, Clone, Copy)]
enum Wiped {
    Follower,
    FollowerBeforeTransfer,
    StoppedLeader,
    KilledLeader,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_id_on_a_new_disk_takes_no_part_whoever_leads() {
    let (mut cluster, actors) = cluster().await;
    let genesis = cluster.genesis();
    decide(&cluster, &actors).await;
    let cases = [
        (Wiped::Follower, false),
        (Wiped::FollowerBeforeTransfer, false),
        (Wiped::StoppedLeader, false),
        (Wiped::KilledLeader, false),
        (Wiped::KilledLeader, true),
    ];
    for (case, first) in cases {
        let [leader, follower, third] = parts(&cluster).await;
        let wiped = match case {
            Wiped::Follower | Wiped::FollowerBeforeTransfer => follower,
            Wiped::StoppedLeader | Wiped::KilledLeader => leader,
        };
        match case {
            Wiped::StoppedLeader => cluster.stop(wiped).await,
            Wiped::Follower | Wiped::FollowerBeforeTransfer | Wiped::KilledLeader => {
                cluster.kill(wiped);
            }
        }
        let rest: Vec<u64> = (1..=3).filter(|node| *node != wiped).collect();
        if matches!(case, Wiped::FollowerBeforeTransfer) {
            let said =
                Cli::of_admin(&cluster).run(&["cluster", "transfer", "--to", &third.to_string()]);
            assert_eq!(said.code, 0, "{said:?}");
        }
        cluster.leader_among(&rest).await;
        let aside = take_away(&cluster, wiped);
        cluster.file(wiped).init(&genesis, first);
        cluster.restart(wiped);
        says(&cluster, wiped, OTHER_STORE).await;
        // It is no part of a quorum: with one of the others gone nothing is decided.
        cluster.kill(rest[0]);
        until("nobody leads", RECOVERY, async || {
            let status = cluster.status(rest[1]).await?;
            (!status.ready).then_some(())
        })
        .await;
        decides_nothing(&cluster, &actors[0]).await;
        cluster.kill(wiped);
        put_back(&cluster, wiped, &aside);
        cluster.restart(wiped);
        cluster.restart(rest[0]);
        cluster.is_whole().await;
        decide(&cluster, &actors).await;
    }
    cluster.must_keep_promises().await;
    cluster.must_be_sound_on_disk().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_disk_and_a_node_that_was_down_begin_no_second_history() {
    let (mut cluster, actors) = cluster().await;
    let genesis = cluster.genesis();
    let [wiped, honest, behind] = parts(&cluster).await;
    decide(&cluster, &actors).await;
    cluster.kill(behind);
    let cosigned = decide(&cluster, &actors).await;
    cluster.kill(wiped);
    cluster.kill(honest);
    let _ = take_away(&cluster, wiped);
    cluster.file(wiped).init(&genesis, wiped == 1);
    cluster.restart(wiped);
    cluster.restart(behind);
    says(&cluster, wiped, OTHER_STORE).await;
    decides_nothing(&cluster, &actors[0]).await;
    assert!(cluster.must_status(behind).await.tree_size < cosigned);

    // The last true copy is not sent away when it comes back.
    cluster.restart(honest);
    cluster.leader_among(&[honest, behind]).await;
    cluster.kill(wiped);
    decide(&cluster, &actors).await;
    cluster.must_keep_promises().await;
    cluster.must_be_sound_on_disk().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_copy_is_refused_before_and_after_elections() {
    let (mut cluster, actors) = cluster().await;
    let [leader, copied, third] = parts(&cluster).await;
    cluster.stop(copied).await;
    let old = cluster.folder().join("old");
    copy(&cluster.file(copied).data(), &old);
    cluster.restart(copied);
    cluster.is_whole().await;
    decide(&cluster, &actors).await;
    cluster.kill(copied);
    let aside = take_away(&cluster, copied);
    for to in [leader, third, leader] {
        let cli = Cli::of_admin(&cluster);
        let _ = cli.must(&["cluster", "transfer", "--to", &to.to_string()]);
        cluster.leader_among(&[leader, third]).await;
        copy(&old, &cluster.file(copied).data());
        cluster.restart(copied);
        must_refuse(&mut cluster, copied, &["older copy", "keep this disk"]).await;
        std::fs::remove_dir_all(cluster.file(copied).data()).expect("removed");
    }
    std::fs::rename(aside, cluster.file(copied).data()).expect("moves");
    cluster.restart(copied);
    cluster.is_whole().await;
    cluster.must_keep_promises().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_has_forgotten_nothing_takes_part_once_it_has_caught_up() {
    let (mut cluster, actors) = cluster().await;
    let [leader, moved, third] = parts(&cluster).await;
    cluster.stop(moved).await;
    // Others go on meanwhile: the copy must catch up before it votes.
    cluster.leader_among(&[leader, third]).await;
    decide(&cluster, &actors).await;
    let aside = take_away(&cluster, moved);
    copy(&aside, &cluster.file(moved).data());
    cluster.restart(moved);
    cluster.is_whole().await;
    // It votes: with the leader gone the other two go on.
    let leader = cluster.leader().await;
    until("the copy takes part", RECOVERY, async || {
        let status = cluster.status(moved).await?;
        status.not_cosigning_reason.is_empty().then_some(())
    })
    .await;
    cluster.kill(leader);
    let rest: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    cluster.leader_among(&rest).await;
    decide(&cluster, &actors).await;
    cluster.must_keep_promises().await;
    cluster.must_be_sound_on_disk().await;
}

/// As a snapshot of a volume puts it back: with the devices, inodes, births and changes that the marker remembers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_put_back_in_place_is_told_by_who_remembers() {
    let (mut cluster, actors) = cluster().await;
    let [_, copied, _] = parts(&cluster).await;
    cluster.stop(copied).await;
    let data = cluster.file(copied).data();
    let old = cluster.folder().join("old");
    copy(&data, &old);
    cluster.restart(copied);
    cluster.is_whole().await;
    decide(&cluster, &actors).await;
    cluster.kill(copied);
    std::fs::remove_dir_all(&data).expect("removed");
    copy(&old, &data);
    forge(&data, &data);
    cluster.restart(copied);
    must_refuse(&mut cluster, copied, &["older copy", "keep this disk"]).await;
    cluster.must_keep_promises().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_marker_on_another_volume_tells_an_old_copy_when_nobody_else_can() {
    let options = Options {
        settings: "marker_dir = \"marker\"\n".to_owned(),
        ..Options::default()
    };
    let (mut cluster, actors) = Cluster::with_actors(options, 4).await;
    let [leader, copied, third] = parts(&cluster).await;
    cluster.stop(copied).await;
    let data = cluster.file(copied).data();
    let old = cluster.folder().join("old");
    copy(&data, &old);
    cluster.restart(copied);
    cluster.is_whole().await;
    // Only with two is it certain that this one has cosigned.
    cluster.kill(third);
    decide(&cluster, &actors).await;
    for node in [copied, leader] {
        cluster.kill(node);
    }
    std::fs::remove_dir_all(&data).expect("removed");
    copy(&old, &data);
    cluster.restart(copied);
    must_refuse(&mut cluster, copied, &["an older copy", "keep it until"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_the_only_node_needs_an_operators_word() {
    let options = Options {
        nodes: 1,
        ..Options::default()
    };
    let (mut cluster, actors) = Cluster::with_actors(options, 1).await;
    cluster.stop(1).await;
    let aside = take_away(&cluster, 1);
    copy(&aside, &cluster.file(1).data());
    cluster.restart(1);
    must_refuse(&mut cluster, 1, &["no other node", "--accept-data"]).await;
    cluster.restart_with(1, &["--accept-data"]);
    decide(&cluster, &actors).await;
    // From then on it is the directory that its node wrote last, also when others have read it.
    cluster.kill(1);
    cluster.restart(1);
    decide(&cluster, &actors).await;
    cluster.must_be_sound_on_disk().await;
    copy_all(&cluster.file(1).data(), &cluster.folder().join("copy"));
    cluster.restart(1);
    decide(&cluster, &actors).await;
    cluster.must_keep_promises().await;
}
