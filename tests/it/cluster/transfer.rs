//! Leadership moves at an admin's wish, whichever node is asked, and at nobody else's.

use countersign_tests::cluster::cli::Cli;
use countersign_tests::cluster::load::{ask, question};
use countersign_tests::cluster::{Cluster, Options, RECOVERY, wait::until};
use ledger_core::id::Identity;
use ledger_proto::v1;
use tonic::{Code, Request};

const AUTHORIZE: &str = "/countersign.v1.AuthorizationService/Authorize";
const TRANSFER: &str = "/countersign.v1.ClusterService/TransferLeadership";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_moves_leadership_through_any_node() {
    let (cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    let leader = cluster.leader().await;
    let followers: Vec<u64> = cluster
        .nodes()
        .into_iter()
        .filter(|node| *node != leader)
        .collect();
    let [next, third] = followers[..] else {
        panic!("three nodes");
    };
    let cli = Cli::of_admin(&cluster);
    let through = |node: u64, more: &[&str]| {
        let endpoint = cluster.endpoint(node);
        cli.run(
            &[
                &["cluster", "transfer", "--json", "--endpoints", &endpoint],
                more,
            ]
            .concat(),
        )
    };

    // Through the leader, through a follower that is to lead, and through a node that is neither.
    for (asked, to) in [(leader, next), (third, third), (next, leader)] {
        let said = through(asked, &["--to", &to.to_string()]);
        assert_eq!(said.code, 0, "{said:?}");
        assert_eq!(said.json()["leader"], to);
        until("all see the new leader", RECOVERY, async || {
            (cluster.leader().await == to).then_some(())
        })
        .await;
    }
    let again = through(next, &["--to", &leader.to_string()]);
    assert_eq!(again.json()["leader"], leader, "it leads already");
    let anybody = through(next, &[]);
    assert_ne!(anybody.json()["leader"], leader, "{anybody:?}");

    let unknown = through(next, &["--to", "9"]);
    assert_eq!(unknown.code, 2, "{unknown:?}");
    assert!(unknown.err.contains("node 9 is not a voter"), "{unknown:?}");
    let _ = cluster.time_to_answer(&actors[0]).await;

    let before = cluster.leader().await;
    let agent = Identity::Agent(actors[0].agent.clone());
    let message = v1::TransferLeadershipRequest { to: None };
    let request = cluster.signing.read(&agent, TRANSFER, message);
    let answer = cluster.line(before).call(TRANSFER, request, RECOVERY).await;
    let refused: Result<v1::TransferLeadershipResponse, _> = answer;
    let failed = refused.expect_err("an agent is no admin");
    assert_eq!(failed.code, Code::PermissionDenied, "{failed:?}");
    assert_eq!(cluster.leader().await, before);
}

/// A voter that stands still when it is asked to lead is asked now and then, not as fast as the wire takes it; and one that has
/// been silent for longer is not asked: until it led, nobody would.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_stands_still_is_not_drowned_in_requests_to_lead() {
    let (mut cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    let leader = cluster.leader().await;
    let still = cluster.follower().await;
    let transfer = |cluster: &Cluster| {
        let endpoint = cluster.endpoint(leader);
        let to = still.to_string();
        Cli::of_admin(cluster).run(&["cluster", "transfer", "--endpoints", &endpoint, "--to", &to])
    };

    // It was heard of a moment ago; on a machine that stands still meanwhile, this is done again.
    until("it is asked, and others take over", RECOVERY, async || {
        cluster.process(still).stand_still().await;
        let asked = transfer(&cluster);
        if asked.err.contains("does not answer the leader") {
            cluster.process(still).signal("CONT");
            return None;
        }
        assert_eq!(asked.code, 0, "{asked:?}");
        Some(())
    })
    .await;
    let _ = cluster.time_to_answer(&actors[0]).await;
    let others: Vec<u64> = cluster
        .nodes()
        .into_iter()
        .filter(|node| *node != still)
        .collect();
    let now = cluster.leader_among(&others).await;
    let refused = until("the silence counts", RECOVERY, async || {
        let endpoint = cluster.endpoint(now);
        let to = still.to_string();
        let said = Cli::of_admin(&cluster).run(&[
            "cluster",
            "transfer",
            "--endpoints",
            &endpoint,
            "--to",
            &to,
        ]);
        (said.code != 0).then_some(said)
    })
    .await;
    assert!(
        refused.err.contains("does not answer the leader"),
        "{refused:?}"
    );
    let _ = cluster.time_to_answer(&actors[0]).await;

    cluster.process(still).signal("CONT");
    cluster.must_keep_promises().await;
    let log = std::fs::read_to_string(cluster.file(still).log()).expect("a log");
    assert!(
        !log.contains("too_many_resets") && !log.contains("recv_reset"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_asked_to_stop_hands_over_first() {
    let (mut cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    let leader = cluster.leader().await;
    cluster.stop(leader).await;
    let rest = cluster.nodes();
    assert_ne!(cluster.leader_among(&rest).await, leader);
    // Nobody had to find out by silence, unless all were silent just then: the machine stood still.
    let log = std::fs::read_to_string(cluster.file(leader).log()).expect("a log");
    let is_alone = log.contains("no other voter answers");
    let failed = log.contains("not handed over") || log.contains("not be handed over");
    assert!(is_alone || !failed, "{log}");
    let _ = cluster.time_to_answer(&actors[0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_call_to_one_node_waits_for_the_next_leader() {
    let (mut cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    let (leader, asked) = (cluster.leader().await, cluster.follower().await);
    let submission = cluster.signing.command(question(&actors[0], 0));
    cluster.kill(leader);
    let request = Request::new(v1::AuthorizeRequest {
        submission: Some(submission),
        receipt_level: v1::ReceiptLevel::Committed.into(),
    });
    let line = cluster.line(asked);
    let answer: Result<v1::AuthorizeResponse, _> = line.call(AUTHORIZE, request, RECOVERY).await;
    let answer = answer.expect("an answer within the deadline");
    assert!(answer.receipt.is_some());
}

/// A leader that stands still keeps its connections open: what was sent to it is not lost, and not answered either. Whoever waits
/// for that must not wait until its own node finds the connection dead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_a_leader_holds_in_its_hands_goes_to_the_next_leader() {
    /// Asked one after the other, these take a fraction of what it takes to find a connection dead.
    const QUESTIONS: u64 = 20;
    let (mut cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    let (leader, asked) = (cluster.leader().await, cluster.follower().await);
    let others: Vec<u64> = cluster
        .nodes()
        .into_iter()
        .filter(|node| *node != leader)
        .collect();
    // The way to the leader is open.
    let first = cluster.signing.command(question(&actors[0], 0));
    let _ = ask(cluster.line(asked), &first).await.expect("an answer");

    cluster.process(leader).stand_still().await;
    let request = Request::new(v1::AuthorizeRequest {
        submission: Some(cluster.signing.command(question(&actors[0], 1))),
        receipt_level: v1::ReceiptLevel::Committed.into(),
    });
    let line = cluster.line(asked).clone();
    let waiting = tokio::spawn(async move { line.call(AUTHORIZE, request, RECOVERY).await });
    let next = cluster.leader_among(&others).await;
    assert_ne!(next, leader);
    for number in 2..2 + QUESTIONS {
        let later = cluster.signing.command(question(&actors[0], number));
        let _ = ask(cluster.line(asked), &later).await.expect("an answer");
    }
    assert!(
        waiting.is_finished(),
        "the leader that stands still is waited for, although node {next} leads"
    );
    let answer: v1::AuthorizeResponse = waiting.await.expect("ends").expect("an answer");
    assert!(answer.receipt.is_some());

    cluster.process(leader).signal("CONT");
    cluster.must_keep_promises().await;
}
