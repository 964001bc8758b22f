//! A ledger whose time got ahead of all clocks: it stands still and says so, and admins end that with one command.

use std::time::Duration;

use countersign_tests::cluster::cli::Cli;
use countersign_tests::cluster::clock_shim::ClockShim;
use countersign_tests::cluster::load::{ask, question};
use countersign_tests::cluster::people::Actor;
use countersign_tests::cluster::wait::until;
use countersign_tests::cluster::{Cluster, Options, RECOVERY, admin};
use countersign_tests::kit::{Ask, sign};
use ledger_client::paths;
use ledger_core::batch::BatchBuilder;
use ledger_node::clock::{Clock as _, SystemClock};
use ledger_proto::peer::v1 as wire;
use ledger_proto::peer::v1::append_response::Result as Answer;
use ledger_proto::v1::{self, command::Body};
use prost::Message as _;

use super::attacks::Liar;

/// How far clocks were ahead: longer than a session lives.
const AHEAD_US: u64 = 25 * 3_600 * 1_000_000;
/// How long decisions may take to flow again.
const AGAIN: Duration = Duration::from_secs(10);

/// Puts the clocks of these nodes ahead until the nodes have dated an entry so, and right again.
async fn date_ahead(cluster: &mut Cluster, nodes: &[u64]) {
    let clock = ClockShim::ahead(cluster.folder(), 0);
    for node in nodes {
        cluster.stop(*node).await;
        cluster.restart_with_clock(*node, &clock);
    }
    cluster.leader().await;
    let size = cluster.converge().await;
    clock.is_ahead(i64::try_from(AHEAD_US).expect("small"));
    let first = nodes[0];
    until(
        "the sessions are over by those clocks",
        RECOVERY,
        async || cluster.checkpoint(first, size + 1).await,
    )
    .await;
    clock.is_ahead(0);
}

/// Waits until a node says that the ledger is ahead, and what to do.
async fn says_ahead(cluster: &Cluster, node: u64) {
    until(
        "the node says that the ledger is ahead",
        RECOVERY,
        async || {
            let status = cluster.status(node).await?;
            let why = status.not_ready_reason;
            let says = why.contains("the ledger's time is ahead")
                && why.contains("ledger-client cluster adjust-time");
            (says && !status.ready).then_some(())
        },
    )
    .await;
}

/// Nothing is decided.
async fn stands_still(cluster: &Cluster, node: u64, actor: &Actor) {
    let size = cluster.must_status(node).await.tree_size;
    let command = cluster.signing.command(question(actor, 7));
    let refused = ask(cluster.line(node), &command).await;
    let refused = refused.expect_err("it is not decided");
    let says = refused.message.contains("the ledger's time is ahead");
    assert!(says && refused.retry == "same_id", "{refused:?}");
    assert_eq!(cluster.must_status(node).await.tree_size, size);
}

/// A node sends for the log what it likes: dated as the ledger is, as clocks are, and with an adjustment that would lead too far.
async fn one_node_gains_nothing(cluster: &Cluster, actor: &Actor) {
    let status = cluster.must_status(1).await;
    let last_us = status.last_entry_time_us;
    let leader = status.leader_id.expect("one keeps the lead");
    let liar = Liar::with_key_of(cluster, leader % 3 + 1);
    let now_us = SystemClock.now_us();
    let adjustment = Ask::new(
        admin(),
        Body::AdjustTime(v1::AdjustTime {
            tree_size: status.tree_size,
            last_entry_time_us: last_us,
        }),
    );
    let made_us = now_us - 3_600 * 1_000_000;
    let adjustment = sign(&cluster.origin, adjustment, vec![7; 16], made_us);
    let question = cluster.signing.command(question(actor, 8));
    for (time_us, submission, why) in [
        (last_us + 1, &question, "one of the two clocks is off"),
        (last_us + 1, &adjustment, "one of the two clocks is off"),
        (now_us, &question, "the ledger has come to"),
        (now_us, &adjustment, "another offset than clocks show"),
    ] {
        for to in liar.victims() {
            let mut batch = BatchBuilder::new(time_us, status.tree_size, &[0; 32]);
            batch.push(submission.clone()).expect("there is room");
            let message = liar.fitting(to, batch.finish()).await;
            let answer = liar.append(to, message).await;
            let Some(Answer::Refused(refused)) = answer else {
                panic!("node {to} has taken it, where {why}: {answer:?}");
            };
            assert_eq!(refused.check(), wire::AppendCheck::Time, "{refused:?}");
            assert!(refused.reason.contains(why), "{refused:?}");
        }
    }
}

/// All entries, whose times never fall, and the ledger's time at the last.
async fn times(cluster: &Cluster, node: u64) -> Vec<u64> {
    let ledger = cluster.ledger(node).await;
    let time = |proven: &v1::ProvenEntry| {
        let entry = v1::Entry::decode(proven.entry.as_slice());
        entry.expect("an entry").time_us
    };
    let times: Vec<u64> = ledger.entries.iter().map(time).collect();
    assert!(times.is_sorted_by(|one, next| one < next), "time went back");
    times
}

/// An admin whose clock is behind finds a ledger ahead that is not: no node takes that to the log.
async fn slow_admin_gains_nothing(cluster: &Cluster) {
    for node in cluster.nodes() {
        let status = cluster.must_status(node).await;
        let adjustment = Ask::new(
            admin(),
            Body::AdjustTime(v1::AdjustTime {
                tree_size: status.tree_size,
                last_entry_time_us: status.last_entry_time_us,
            }),
        );
        let made_us = SystemClock.now_us() - 60 * 1_000_000;
        let id = vec![u8::try_from(node).expect("few nodes"); 16];
        let adjustment = sign(&cluster.origin, adjustment, id, made_us);
        let request = tonic::Request::new(v1::SubmitRequest {
            submission: Some(adjustment),
            ..v1::SubmitRequest::default()
        });
        let line = cluster.line(node);
        let answer = line.call(paths::ADJUST_TIME, request, AGAIN).await;
        let answer: Result<v1::SubmitResponse, _> = answer;
        let refused = answer.expect_err("there is nothing to adjust");
        assert!(refused.message.contains("is not ahead"), "{refused:?}");
        let size = cluster.must_status(node).await.tree_size;
        assert_eq!(size, status.tree_size, "node {node}");
    }
}

/// Admins adjust the time, decisions flow, and they go on to after all nodes were started again.
async fn goes_on_with_clocks(cluster: &mut Cluster, cli: &Cli) {
    let adjusted = cli.must(&[
        "cluster",
        "adjust-time",
        "--reason",
        "a time server",
        "--json",
    ]);
    let offset_us = adjusted.json()["time_offset_us"]
        .as_u64()
        .expect("a number");
    assert!(offset_us.abs_diff(AHEAD_US) < 120_000_000, "{offset_us}");
    assert!(adjusted.err.contains("ahead of clocks"), "{adjusted:?}");
    let actor = cluster.actor("after").await;
    let took = cluster.time_to_answer(&actor).await;
    assert!(took < AGAIN, "decisions took {took:?}");
    let size = cluster.converge().await;
    for node in cluster.nodes() {
        // Each node looks at its clock once a second.
        let status = until("the node is ready", RECOVERY, async || {
            let status = cluster.status(node).await?;
            status.not_ready_reason.is_empty().then_some(status)
        })
        .await;
        assert_eq!(status.time_offset_us, offset_us, "node {node}");
    }
    for node in cluster.nodes() {
        cluster.stop(node).await;
    }
    for node in 1..=3 {
        cluster.restart(node);
    }
    cluster.leader().await;
    let _ = cluster.time_to_answer(&actor).await;
    assert!(cluster.converge().await > size);
    let last = *times(cluster, cluster.nodes()[0])
        .await
        .last()
        .expect("entries");
    let now_us = SystemClock.now_us();
    assert!(
        last.abs_diff(now_us + offset_us) < 30_000_000,
        "{last} {now_us}"
    );
    // It is of one end of the ledger, and there is nothing left to adjust.
    let again = cli.run(&["cluster", "adjust-time"]);
    assert_eq!(again.code, 2, "{again:?}");
    assert!(again.err.contains("is not ahead"), "{again:?}");
    slow_admin_gains_nothing(cluster).await;
    cli.must(&["audit", "--replay"]);
    let status = cli.must(&["cluster", "status"]);
    assert!(status.out.contains("ahead of clocks"), "{status:?}");
    cluster.must_be_sound_on_disk().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_is_ahead_of_all_clocks_stands_still_until_admins_adjust_its_time() {
    let (mut cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    let cli = Cli::of_admin(&cluster);
    date_ahead(&mut cluster, &[1, 2, 3]).await;
    for node in 1..=3 {
        says_ahead(&cluster, node).await;
        stands_still(&cluster, node, &actors[0]).await;
    }
    one_node_gains_nothing(&cluster, &actors[0]).await;
    goes_on_with_clocks(&mut cluster, &cli).await;
}

/// The one node whose clock was right all along has refused what the others have dated: it comes behind that by a snapshot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_clock_was_right_comes_along_once_the_time_is_adjusted() {
    let (mut cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    let cli = Cli::of_admin(&cluster);
    date_ahead(&mut cluster, &[1, 2]).await;
    for node in [1, 2] {
        says_ahead(&cluster, node).await;
        stands_still(&cluster, node, &actors[0]).await;
    }
    let behind = cluster.must_status(3).await.tree_size;
    assert!(behind < cluster.must_status(1).await.tree_size);
    goes_on_with_clocks(&mut cluster, &cli).await;
}
