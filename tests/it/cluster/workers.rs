//! Threads and tasks of a running node end, each in its turn: the node ends too, and says which one it was.

use countersign_tests::cluster::load::{ask, question};
use countersign_tests::cluster::wait::until;
use countersign_tests::cluster::{Cluster, Options, SOON};
use ledger_node::worker::Worker;

use super::membership::is_made_leader;

/// How a test ends a worker, and what the node says then. Those of threads and of openraft's tasks can only panic; the end of a thread by itself is
/// tested beside `Fatal`.
const fn end_of(worker: Worker) -> (&'static str, &'static str) {
    match worker {
        Worker::Applier
        | Worker::Preparer
        | Worker::Answerer
        | Worker::Flusher
        | Worker::RaftConnection
        | Worker::RaftMachine
        | Worker::Proposal
        | Worker::Recovery => ("panic", "has panicked"),
        Worker::Health
        | Worker::Reports
        | Worker::Proposer
        | Worker::Cosigner
        | Worker::Eraser
        | Worker::Patrol
        | Worker::Attester
        | Worker::Timekeeper
        | Worker::TrustFollower
        | Worker::PushSender
        | Worker::Directory
        | Worker::Keeper
        | Worker::ClientServer
        | Worker::PeerServer => ("end", "has ended while the node runs"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_ends_with_each_of_its_workers_and_says_which() {
    let (mut cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    cluster.is_whole().await;
    // The recovery goes on while somebody has not answered.
    cluster.kill(3);
    let file = cluster.folder().join("fault");
    for (number, worker) in (1..).zip(Worker::ALL) {
        cluster.kill(1);
        cluster.restart_with_fault_file(1, &file);
        is_made_leader(&cluster, 1).await;
        let (how, says) = end_of(worker);
        std::fs::write(&file, format!("{how} {}", worker.name())).expect("a file");
        let status = until(&format!("{worker:?} ends the node"), SOON, async || {
            let command = cluster.signing.command(question(&actors[0], number));
            // Whether it is answered any more does not matter.
            let _ = ask(cluster.line(1), &command).await;
            cluster.process(1).ended()
        })
        .await;
        assert_eq!(status.code(), Some(70), "{worker:?}: {status}");
        let log = std::fs::read_to_string(cluster.file(1).log()).expect("a log");
        let says = format!("{} {says}", worker.name());
        assert!(log.contains(&says), "{says}");
        std::fs::remove_file(&file).expect("a file");
    }
    // It tells of panics, which were asked for.
    std::fs::remove_file(cluster.file(1).log()).expect("a log");
    cluster.restart(1);
    cluster.restart(3);
    cluster.is_whole().await;
    let _ = cluster.time_to_answer(&actors[0]).await;
}
