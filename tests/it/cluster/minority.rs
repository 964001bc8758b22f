//! What is left of a cluster that has lost its quorum: it decides nothing and says so, to people and to whoever watches its
//! health, and what is proven stays to be had.

use std::process::Command;

use countersign_tests::cluster::cli::Cli;
use countersign_tests::cluster::people::Actor;
use countersign_tests::cluster::process::program;
use countersign_tests::cluster::wait::until;
use countersign_tests::cluster::{Cluster, Options, SOON};

use super::commands::{asking, asks, one_agent};

const ASKING: &str = "countersign.v1.AuthorizationService";
const PROVING: &str = "countersign.v1.LedgerService";

/// The exit code of the health check.
fn health(cluster: &Cluster, node: u64, service: &str) -> Option<i32> {
    let endpoint = cluster.endpoint(node);
    Command::new(program())
        .args(["health", "--endpoint", &endpoint, "--service", service])
        .args(["--timeout-ms", "5000"])
        .output()
        .expect("ledger-node runs")
        .status
        .code()
}

/// Waits until the health of a node's decisions is this.
async fn becomes(cluster: &Cluster, node: u64, code: i32) {
    let what = format!("node {node}: health {code}");
    until(&what, SOON, async || {
        (health(cluster, node, ASKING) == Some(code)).then_some(())
    })
    .await;
}

/// Kills all nodes but one, looks at that, and brings the others back.
async fn left_alone(cluster: &mut Cluster, cli: &Cli, actor: &Actor, node: u64) {
    let index = asks(cli, actor, "bank/read", r#"{"doc":"a"}"#).to_string();
    let endpoint = cluster.endpoint(node);
    let at = |command: &[&str]| {
        let more = ["--endpoints", &endpoint, "--timeout", "3"];
        cli.run(&[command, &more].concat())
    };
    // The one that is left has a quorum's word for it.
    let prove = ["prove", &index, "--out", "evidence"];
    assert_eq!(at(&prove).code, 0);
    assert_eq!(health(cluster, node, ASKING), Some(0));
    let others: Vec<u64> = cluster
        .nodes()
        .into_iter()
        .filter(|it| *it != node)
        .collect();
    for other in &others {
        cluster.kill(*other);
    }

    becomes(cluster, node, 69).await;
    assert_eq!(health(cluster, node, ""), Some(69));
    assert_eq!(health(cluster, node, PROVING), Some(0));
    let status = at(&["cluster", "status"]);
    assert!(
        status.out.contains("hears of no leader with a quorum"),
        "{status:?}"
    );
    let session = hex::encode(actor.session.to_vec());
    let asked = at(&asking(&session, "bank/read", r#"{"doc":"b"}"#));
    assert_eq!(asked.code, 6, "{asked:?}");
    assert!(asked.err.contains("nothing was done"), "{asked:?}");

    let alone = format!("this is what {endpoint} alone has");
    std::fs::remove_file(cli.folder.join("evidence")).expect("it was written");
    for command in [&prove[..], &["entry", "show", &index]] {
        let said = at(command);
        assert_eq!(said.code, 0, "{said:?}");
        assert!(said.err.contains(&alone), "{said:?}");
    }
    cli.must(&["verify", "evidence", "--trust", "trust-policy"]);
    // Content may have been erased by the others meanwhile.
    let with_content = [&prove[..], &["--with", "input"]].concat();
    for command in [&with_content[..], &["payload", "show", &index]] {
        let said = at(command);
        assert_eq!(said.code, 6, "{said:?}");
        assert!(said.err.contains("no leader with a quorum"), "{said:?}");
    }

    for other in &others {
        cluster.restart(*other);
    }
    becomes(cluster, node, 0).await;
    let _ = asks(cli, actor, "bank/read", r#"{"doc":"c"}"#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_quorum_proves_and_says_that_it_decides_nothing() {
    let (mut cluster, cli, actor) = one_agent().await;
    let follower = cluster.follower().await;
    left_alone(&mut cluster, &cli, &actor, follower).await;
    let leader = cluster.leader().await;
    left_alone(&mut cluster, &cli, &actor, leader).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_a_quorum_leads_nobody() {
    let options = Options {
        nodes: 4,
        ..Options::default()
    };
    let (mut cluster, _) = Cluster::with_actors(options, 1).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let left = [leader, follower];
    let others: Vec<u64> = cluster.nodes();
    for other in others.into_iter().filter(|it| !left.contains(it)) {
        cluster.kill(other);
    }
    // They hear each other, and two of four decide nothing.
    for node in left {
        becomes(&cluster, node, 69).await;
    }
    assert_eq!(health(&cluster, follower, PROVING), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quorum_is_asked_although_the_first_node_is_cut_off() {
    let (mut cluster, cli, actor) = one_agent().await;
    let index = asks(&cli, &actor, "bank/read", r#"{"doc":"a"}"#).to_string();
    let away = cluster.follower().await;
    cluster.network.isolate(away);
    let others = cluster.nodes().into_iter().filter(|node| *node != away);
    let all: Vec<String> = std::iter::once(away)
        .chain(others)
        .map(|node| cluster.endpoint(node))
        .collect();
    let all = all.join(",");
    // It may never have heard of this outcome.
    let record = ["record", &index, "--key", "agent.key", "--status", "failed"];
    cli.must(&[&record[..], &["--endpoints", &all, "--timeout", "30"]].concat());
    for command in [
        &["prove", &index, "--out", "evidence"][..],
        &["entry", "show", &index],
    ] {
        let said = cli.must(&[command, &["--endpoints", &all]].concat());
        assert!(!said.err.contains("alone"), "{said:?}");
    }
    let said = cli.must(&["verify", "evidence", "--trust", "trust-policy"]);
    assert!(said.out.contains("FAILED"), "{said:?}");
}
