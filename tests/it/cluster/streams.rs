//! Calls that stay open: following the ledger, asking on a stream, watching a node's health; and how they end.

use std::collections::BTreeMap;

use countersign_tests::cluster::client::Failed;
use countersign_tests::cluster::load::question;
use countersign_tests::cluster::people::Actor;
use countersign_tests::cluster::{Cluster, Options, SOON, admin};
use countersign_tests::kit::Ask;
use ledger_core::id::Identity;
use ledger_proto::v1::{self, authorize_stream_response::Result as Answered, command::Body};
use tokio::sync::mpsc;
use tonic::{Code, Streaming};

const FOLLOW: &str = "/countersign.v1.LedgerService/Follow";
const ASK: &str = "/countersign.v1.AuthorizationService/AuthorizeStream";
const WATCH: &str = "/grpc.health.v1.Health/Watch";

async fn follow(
    cluster: &Cluster,
    node: u64,
    who: &Identity,
    start_index: u64,
) -> Streaming<v1::FollowResponse> {
    let message = v1::FollowRequest {
        start_index,
        ..v1::FollowRequest::default()
    };
    let request = cluster.signing.read(who, FOLLOW, message);
    let opened = cluster.line(node).listen(FOLLOW, request).await;
    opened.expect("the ledger can be followed")
}

/// The next piece; one must come.
async fn next<T>(stream: &mut Streaming<T>) -> T {
    let piece = stream.message().await.expect("the stream goes on");
    piece.expect("the stream has not ended")
}

/// Reads a stream to the failure that ends it.
async fn failure<T>(stream: &mut Streaming<T>) -> Failed {
    loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended without a word"),
            Err(status) => return Failed::of(&status),
        }
    }
}

/// Follows until a leaf; the indexes of what came.
async fn indexes_until(stream: &mut Streaming<v1::FollowResponse>, leaf: u64) -> Vec<u64> {
    let mut indexes = Vec::new();
    loop {
        let piece = next(stream).await;
        assert_eq!(piece.entries.is_empty(), piece.checkpoint.is_empty());
        indexes.extend(piece.entries.iter().map(|entry| entry.index));
        if piece.next_index > leaf {
            return indexes;
        }
    }
}

fn asks(cluster: &Cluster, actor: &Actor, number: u64) -> v1::AuthorizeStreamRequest {
    v1::AuthorizeStreamRequest {
        correlation_id: number,
        request: Some(v1::AuthorizeRequest {
            submission: Some(cluster.signing.command(question(actor, number))),
            receipt_level: v1::ReceiptLevel::Committed.into(),
        }),
    }
}

async fn decides(cluster: &Cluster, actor: &Actor) -> u64 {
    let submission = cluster.signing.command(question(actor, 0));
    let node = cluster.leader().await;
    let answer = countersign_tests::cluster::load::ask(cluster.line(node), &submission).await;
    let receipt = answer.expect("an answer").receipt;
    receipt.entry.expect("an entry").index
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_see_what_they_may_see_once_and_in_order() {
    let (cluster, actors) = Cluster::with_actors(Options::default(), 2).await;
    let node = cluster.follower().await;
    let mut all = follow(&cluster, node, &admin(), 0).await;
    let agent = Identity::Agent(actors[0].agent.clone());
    let mut own = follow(&cluster, node, &agent, 0).await;

    let first = decides(&cluster, &actors[0]).await;
    let others = decides(&cluster, &actors[1]).await;
    let last = decides(&cluster, &actors[0]).await;
    let seen = indexes_until(&mut all, last).await;
    assert_eq!(seen, (0..=last).collect::<Vec<_>>());
    let seen = indexes_until(&mut own, last).await;
    assert!(seen.is_sorted() && !seen.contains(&others), "{seen:?}");
    assert!(seen.contains(&first) && seen.contains(&last), "{seen:?}");

    // Whoever comes back goes on where it was.
    let mut later = follow(&cluster, node, &admin(), last).await;
    assert_eq!(indexes_until(&mut later, last).await, [last]);

    // A follower whose rights end hears of it.
    let revoke = v1::SetStatus {
        identity: Some(agent.to_message()),
        status: v1::IdentityStatus::Revoked.into(),
    };
    let _ = cluster
        .must(Ask::new(admin(), Body::SetStatus(revoke)))
        .await;
    let failed = failure(&mut own).await;
    assert_eq!(failed.reason, "READ_SIGNATURE_INVALID", "{failed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_question_on_a_stream_is_answered_once_and_a_bad_one_hurts_no_other() {
    let (cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    let node = cluster.follower().await;
    let (ask, said) = mpsc::channel(64);
    let mut answers: Streaming<v1::AuthorizeStreamResponse> = cluster
        .line(node)
        .converse(ASK, said)
        .await
        .expect("opened");
    for number in 0..40 {
        let mut asked = asks(&cluster, &actors[0], number);
        if number == 7 {
            asked.request = None;
        }
        ask.send(asked).await.expect("the stream is open");
    }
    drop(ask);
    let mut results = BTreeMap::new();
    while let Some(answer) = answers.message().await.expect("the stream is sound") {
        let result = answer.result.expect("a result");
        let twice = results.insert(answer.correlation_id, result);
        assert!(
            twice.is_none(),
            "{} is answered twice",
            answer.correlation_id
        );
    }
    assert_eq!(
        results.keys().copied().collect::<Vec<_>>(),
        (0..40).collect::<Vec<_>>()
    );
    for (number, result) in results {
        match result {
            Answered::Response(answer) => assert!(answer.receipt.is_some(), "{number}"),
            Answered::Error(error) => {
                assert_eq!(number, 7, "{error:?}");
                assert_eq!(error.reason(), v1::ErrorReason::CommandMalformed);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_ends_its_streams_itself() {
    let (mut cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    let node = cluster.leader().await;
    let mut followed = follow(&cluster, node, &admin(), 0).await;
    let (ask, said) = mpsc::channel(8);
    let mut answers: Streaming<v1::AuthorizeStreamResponse> = cluster
        .line(node)
        .converse(ASK, said)
        .await
        .expect("opened");
    ask.send(asks(&cluster, &actors[0], 1))
        .await
        .expect("the stream is open");
    assert_eq!(next(&mut answers).await.correlation_id, 1);
    let mut health: Streaming<()> = cluster
        .line(node)
        .listen(WATCH, tonic::Request::new(()))
        .await
        .expect("health can be watched");
    next(&mut health).await;
    let _ = next(&mut followed).await;

    cluster.process(node).signal("TERM");
    for failed in [failure(&mut followed).await, failure(&mut answers).await] {
        assert_eq!(failed.code, Code::Unavailable, "{failed:?}");
        assert_eq!(failed.reason, "NOT_READY", "{failed:?}");
        assert!(failed.message.contains("shutting down"), "{failed:?}");
    }
    while health
        .message()
        .await
        .expect("it ends in good order")
        .is_some()
    {}
    let status = cluster.process(node).must_end(SOON).await;
    assert!(status.success(), "{status}");
    cluster.kill(node);
    let log = std::fs::read_to_string(cluster.file(node).log()).expect("a log");
    assert!(log.contains("stopped"), "{log}");
    let _ = cluster.time_to_answer(&actors[0]).await;
}
