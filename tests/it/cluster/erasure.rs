//! Erasure down to the disk: once every node says PHYSICAL, no file of any node holds the bytes, whatever crashed in between.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use countersign_tests::cluster::cli::Cli;
use countersign_tests::cluster::invariants::holds;
use countersign_tests::cluster::people::Actor;
use countersign_tests::cluster::wait::until;
use countersign_tests::cluster::{Cluster, Options, RECOVERY};
use countersign_tests::kit::{Ask, authorize_body};
use ledger_core::id::Identity;
use ledger_proto::v1;

/// Bytes that compress to nothing shorter, so that tables hold them as they are.
const NEEDLE: &str = "q7Zt1xWv9LrKc3Ye5BnUoPsH0dGaJ8fM2iTk";

/// Has the actor ask for something with the needle in its input; gives the decision's index.
async fn asks(cluster: &Cluster, actor: &Actor) -> u64 {
    let body = authorize_body(&actor.agent, actor.session, "bank/read");
    let input = format!(r#"{{"doc":"{NEEDLE}"}}"#);
    let ask = Ask::new(Identity::Agent(actor.agent.clone()), body)
        .with(v1::CompartmentKind::Input, input.as_bytes());
    cluster.must(ask).await.index
}

/// Files under a folder that hold the needle.
fn holders(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(items) = fs::read_dir(folder) else {
        return found;
    };
    for item in items {
        let path = item.expect("a file").path();
        if path.is_dir() {
            found.extend(holders(&path));
            continue;
        }
        match fs::read(&path) {
            Ok(bytes) if holds(&bytes, NEEDLE.as_bytes()) => found.push(path),
            Ok(_) => {}
            // A running node removes files.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => panic!("{}: {error}", path.display()),
        }
    }
    found
}

async fn every_disk_holds_it(cluster: &Cluster) {
    for node in cluster.nodes() {
        let data = cluster.file(node).data();
        until(
            &format!("node {node} has the bytes on its disk"),
            RECOVERY,
            async || (!holders(&data).is_empty()).then_some(()),
        )
        .await;
    }
}

fn erase(cli: &Cli, decision: u64) -> String {
    let decision = decision.to_string();
    let said = cli.must(&["payload", "erase", &decision, "--json"]).json();
    assert_eq!(said["erased"], 1);
    said["index"].to_string()
}

/// What every node says of an erasure; nothing if it cannot be asked.
fn states(cli: &Cli, erasure: &str) -> Vec<String> {
    let said = cli.run(&["payload", "status", erasure, "--json"]);
    if said.code != 0 {
        return Vec::new();
    }
    let nodes = said.json()["nodes"].clone();
    let nodes = nodes.as_array().expect("nodes").clone();
    let state = |node: &serde_json::Value| node["state"].as_str().expect("a state").to_owned();
    nodes.iter().map(state).collect()
}

async fn is_physical_everywhere(cluster: &Cluster, cli: &Cli, erasure: &str) {
    until("every node says PHYSICAL", RECOVERY, async || {
        (states(cli, erasure) == ["PHYSICAL"; 3]).then_some(())
    })
    .await;
    for node in cluster.nodes() {
        let left = holders(&cluster.file(node).data());
        assert_eq!(left, Vec::<PathBuf>::new(), "node {node} said PHYSICAL");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_erased_leaves_every_disk() {
    let (mut cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    let cli = Cli::of_admin(&cluster);
    let decision = asks(&cluster, &actors[0]).await;
    every_disk_holds_it(&cluster).await;
    // One of them has it in tables and not only in the write-ahead log.
    let follower = cluster.follower().await;
    cluster.stop(follower).await;
    cluster.restart(follower);
    cluster.is_whole().await;
    every_disk_holds_it(&cluster).await;

    let erasure = erase(&cli, decision);
    is_physical_everywhere(&cluster, &cli, &erasure).await;
    cluster.must_be_sound_on_disk().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_goes_on_after_crashes() {
    let (mut cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    let cli = Cli::of_admin(&cluster);
    let decision = asks(&cluster, &actors[0]).await;
    every_disk_holds_it(&cluster).await;
    let erasure = erase(&cli, decision);
    for _ in 0..2 {
        for node in [1, 2, 3] {
            cluster.kill(node);
        }
        for node in [1, 2, 3] {
            cluster.restart(node);
        }
        let leader = cluster.leader().await;
        assert!((1..=3).contains(&leader));
    }
    is_physical_everywhere(&cluster, &cli, &erasure).await;
    cluster.must_be_sound_on_disk().await;
}
