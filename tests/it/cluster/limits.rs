//! Work that is too much at once: it waits or is refused in words, and nobody else waits with it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use countersign_tests::cluster::client::{Failed, Line};
use countersign_tests::cluster::load::{Load, ask, question};
use countersign_tests::cluster::peer::PeerSpeaker;
use countersign_tests::cluster::wait::until;
use countersign_tests::cluster::{Cluster, Options, RECOVERY, SOON, admin};
use countersign_tests::kit::bundle;
use ledger_core::id::Identity;
use ledger_core::limits::MAX_SUBMISSION_LEN;
use ledger_node::limits::MAX_EQUAL_CALLS;
use ledger_proto::peer::v1 as wire;
use ledger_proto::v1::{self, authorize_batch_item::Result as Item, consistency::Requirement};
use tokio::task::JoinSet;
use tonic::{Code, Streaming};

use super::peers::TO;

const BATCH: &str = "/countersign.v1.AuthorizationService/AuthorizeBatch";
const FOLLOW: &str = "/countersign.v1.LedgerService/Follow";
const AGENT: &str = "/countersign.v1.IdentityService/GetAgent";
const STATUS: &str = "/countersign.v1.ClusterService/GetNodeStatus";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_is_told_at_once_and_nothing_is_lost_or_done_twice() {
    /// Four proposals of 64 are on their way when nobody answers, and 64 more commands wait.
    const SENT: u64 = 400;
    let options = Options {
        settings: "[limits]\nqueue_commands = 64\n".to_owned(),
        ..Options::default()
    };
    let (mut cluster, actors) = Cluster::with_actors(options, 1).await;
    let leader = cluster.leader().await;
    let followers: Vec<u64> = cluster
        .nodes()
        .into_iter()
        .filter(|node| *node != leader)
        .collect();
    // Signed first: a leader that has heard of nobody for a while takes nothing at all.
    let submissions: Vec<v1::Submission> = (0..SENT)
        .map(|number| cluster.signing.command(question(&actors[0], number)))
        .collect();
    for node in &followers {
        cluster.process(*node).stand_still().await;
    }
    let mut asking = JoinSet::new();
    for submission in submissions.clone() {
        let line = cluster.line(leader).clone();
        asking.spawn(async move { ask(&line, &submission).await });
    }
    let answers = asking.join_all().await;
    let failures: Vec<Failed> = answers.into_iter().filter_map(Result::err).collect();
    let (full, waited): (Vec<_>, Vec<_>) = failures
        .into_iter()
        .partition(|failed| failed.reason == "QUEUE_FULL");
    assert!(full.len() >= 80, "{} of {SENT}", full.len());
    assert!(!waited.is_empty(), "what the queue holds waits");
    for failed in &full {
        let told = (failed.code, failed.outcome.as_str(), failed.retry.as_str());
        let expected = (Code::ResourceExhausted, "nothing", "same_id");
        assert_eq!(told, expected, "{failed:?}");
    }

    for node in &followers {
        cluster.process(*node).signal("CONT");
    }
    let mut indexes = Vec::new();
    for submission in &submissions {
        let mut nodes = cluster.nodes().into_iter().cycle();
        let answer = until("it is answered", RECOVERY, async || {
            let node = nodes.next().expect("nodes run");
            ask(cluster.line(node), submission).await.ok()
        })
        .await;
        let entry = answer.receipt.entry.expect("a receipt has its entry");
        indexes.push(entry.index);
    }
    indexes.sort_unstable();
    indexes.dedup();
    assert_eq!(indexes.len() as u64, SENT, "one entry for each");
    cluster.must_keep_promises().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_past_the_limit_of_a_connection_wait_and_hold_up_no_other_connection() {
    let options = Options {
        nodes: 1,
        settings: "[limits]\ncalls_per_connection = 2\n".to_owned(),
        ..Options::default()
    };
    let cluster = Cluster::start(options).await;
    let line = Line::new(1, &cluster.file(1).client.to_string());
    let mut open: Vec<Streaming<v1::FollowResponse>> = Vec::new();
    for _ in 0..2 {
        let request = cluster
            .signing
            .read(&admin(), FOLLOW, v1::FollowRequest::default());
        open.push(line.listen(FOLLOW, request).await.expect("a stream"));
    }
    let status = async |line: &Line| {
        let request = cluster
            .signing
            .read(&admin(), STATUS, v1::GetNodeStatusRequest {});
        let deadline = Duration::from_secs(1);
        let answer: Result<v1::GetNodeStatusResponse, Failed> =
            line.call(STATUS, request, deadline).await;
        answer
    };
    let waits = status(&line).await.expect_err("there is no room");
    assert_eq!(
        (waits.code, waits.reason.as_str()),
        (Code::Cancelled, ""),
        "the caller's own clock ended it, the node has not seen it: {waits:?}"
    );
    let _ = status(cluster.line(1)).await.expect("another connection");
    open.pop();
    let _ = status(&line).await.expect("there is room again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_that_follows_as_often_as_it_may_leaves_room_to_others() {
    const MAY: usize = 16;
    let options = Options {
        nodes: 1,
        ..Options::default()
    };
    let (cluster, actors) = Cluster::with_actors(options, 1).await;
    let follow = async |who: &Identity| {
        let request = cluster
            .signing
            .read(who, FOLLOW, v1::FollowRequest::default());
        let stream: Result<Streaming<v1::FollowResponse>, Failed> =
            cluster.line(1).listen(FOLLOW, request).await;
        stream
    };
    let mut open = Vec::new();
    for _ in 0..MAY {
        open.push(follow(&admin()).await.expect("there is room"));
    }
    let failed = follow(&admin()).await.expect_err("there is none");
    assert_eq!(
        (failed.code, failed.reason.as_str()),
        (Code::ResourceExhausted, "QUOTA_EXCEEDED"),
        "{failed:?}"
    );
    let agent = Identity::Agent(actors[0].agent.clone());
    let _own = follow(&agent).await.expect("others have room");
    open.pop();
    until("there is room again", SOON, async || {
        follow(&admin()).await.ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_that_takes_long_to_compile_holds_up_no_decision() {
    const SLOTS: u64 = 40;
    let (cluster, actors) = Cluster::with_actors(Options::default(), 4).await;
    let mut rules = String::new();
    for number in 0..10_000 {
        let tool = if number % 2 == 0 { "read" } else { "approve" };
        let argument = if number % 2 == 0 { "doc" } else { "ticket" };
        writeln!(
            rules,
            "@id(\"rule-{number}\")\npermit (principal, action == Countersign::Action::\"bank/{tool}\", resource) \
             when {{ context.input.{argument} == \"{number}\" }};"
        )
        .expect("a string takes all");
    }
    let large = bundle("agent", &rules);
    let load = Load::start(&cluster, &actors);
    load.flows(100, RECOVERY).await;
    let begun = cluster.recorder.now();
    cluster.activate(&large).await;
    let done = cluster.recorder.now();
    load.finish().await;

    let history = cluster.recorder.history();
    let ends = history.answered().map(|(call, _)| call.end);
    let moments: Vec<u64> = ends.filter(|end| (begun..=done).contains(end)).collect();
    // Compiling is most of the time that this took; replicas which compile while they apply would be silent for all of it. A machine
    // that stands still for a while leaves a gap too, but not most of the time.
    let slots = |moment: &u64| (moment - begun) * SLOTS / (done - begun + 1);
    let heard: BTreeSet<u64> = moments.iter().map(slots).collect();
    assert!(
        heard.len() * 4 > usize::try_from(SLOTS).expect("few"),
        "decisions in {} of {SLOTS} parts of the time in which the bundle was published",
        heard.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_with_one_command_wait_together_up_to_a_limit_and_get_one_entry() {
    /// More than may wait, and few enough to be looked at long before the deadline.
    const COPIES: usize = 200;
    let (mut cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    let leader = cluster.leader().await;
    let followers: Vec<u64> = cluster
        .nodes()
        .into_iter()
        .filter(|node| *node != leader)
        .collect();
    for node in &followers {
        cluster.process(*node).stand_still().await;
    }
    let submission = cluster.signing.command(question(&actors[0], 0));
    let request = tonic::Request::new(v1::AuthorizeBatchRequest {
        submissions: vec![submission.clone(); COPIES],
        receipt_level: v1::ReceiptLevel::Committed.into(),
    });
    let deadline = Duration::from_secs(5);
    let answer: v1::AuthorizeBatchResponse = cluster
        .line(leader)
        .call(BATCH, request, deadline)
        .await
        .expect("an answer");
    let failures = answer.items.into_iter().map(|item| match item.result {
        Some(Item::Error(error)) => error,
        other => panic!("nothing can be decided: {other:?}"),
    });
    let (full, waited): (Vec<_>, Vec<_>) =
        failures.partition(|error| error.reason() == v1::ErrorReason::QueueFull);
    assert_eq!(waited.len(), MAX_EQUAL_CALLS);
    assert_eq!(full.len(), COPIES - MAX_EQUAL_CALLS);
    for error in &waited {
        assert_eq!(error.reason(), v1::ErrorReason::Undetermined, "{error:?}");
    }

    for node in &followers {
        cluster.process(*node).signal("CONT");
    }
    let mut indexes = BTreeSet::new();
    for node in cluster.nodes() {
        let answer = until("it is answered", RECOVERY, async || {
            ask(cluster.line(node), &submission).await.ok()
        })
        .await;
        let entry = answer.receipt.entry.expect("a receipt has its entry");
        indexes.insert(entry.index);
    }
    assert_eq!(indexes.len(), 1, "{indexes:?}");
    cluster.must_keep_promises().await;
}

/// A command that no batch has room for would hold up everybody behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_takes_from_another_node_only_what_it_takes_from_clients() {
    let (cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    let leader = cluster.leader().await;
    let peers = PeerSpeaker::of(&cluster, if leader == TO { 2 } else { TO });
    let mut client = peers.client(leader);
    let good = cluster.signing.command(question(&actors[0], 0));
    let mut long = cluster.signing.command(question(&actors[0], 1));
    long.compartments.push(v1::Compartment {
        content: vec![b' '; MAX_SUBMISSION_LEN],
        ..v1::Compartment::default()
    });
    let mut spoilt = cluster.signing.command(question(&actors[0], 2));
    let signed = spoilt.signed.as_mut().expect("signed");
    signed.signatures[0].signature = vec![7; 64];
    let mut more = cluster.signing.command(question(&actors[0], 3));
    more.compartments.push(v1::Compartment {
        kind: v1::CompartmentKind::Output.into(),
        ..v1::Compartment::default()
    });
    let to_client = ask(cluster.line(leader), &more).await.expect_err("refused");
    assert_eq!(to_client.reason, "ARGUMENT_INVALID", "{to_client:?}");
    let sent = [
        Some(good.clone()),
        Some(long),
        Some(spoilt),
        Some(more),
        None,
    ];
    let requests: Vec<wire::ForwardRequest> = (0..)
        .zip(sent)
        .map(|(correlation_id, submission)| wire::ForwardRequest {
            correlation_id,
            submission,
        })
        .collect();
    let request = peers.request(leader, tokio_stream::iter(requests));
    let answers = client.forward(request).await.expect("a peer is heard");
    let mut answers = answers.into_inner();
    let mut said = [None; 5];
    while let Some(answer) = answers.message().await.expect("the stream is sound") {
        assert!(!answer.not_leader, "{answer:?}");
        let place = usize::try_from(answer.correlation_id).expect("small");
        said[place] = answer.error.map(|error| error.reason());
    }
    let expected = [
        None,
        Some(v1::ErrorReason::CommandMalformed),
        Some(v1::ErrorReason::SignatureInvalid),
        Some(v1::ErrorReason::ArgumentInvalid),
        Some(v1::ErrorReason::CommandMalformed),
    ];
    assert_eq!(said, expected);

    let answer = ask(cluster.line(leader), &good)
        .await
        .expect("it was queued");
    assert!(answer.receipt.entry.is_some());
    let _ = cluster.time_to_answer(&actors[0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_cannot_have_a_node_wait_for_a_state_that_never_comes() {
    const PATIENCE: Duration = Duration::from_secs(30);
    let options = Options {
        nodes: 1,
        ..Options::default()
    };
    let (cluster, actors) = Cluster::with_actors(options, 1).await;
    let get = async |who: &Identity, requirement: Requirement| {
        let message = v1::GetAgentRequest {
            id: actors[0].agent.clone(),
            consistency: Some(v1::Consistency {
                requirement: Some(requirement),
            }),
        };
        let request = cluster.signing.read(who, AGENT, message);
        let answer: Result<v1::GetAgentResponse, Failed> =
            cluster.line(1).call(AGENT, request, PATIENCE).await;
        answer
    };
    let stranger = Identity::Agent("stranger".to_owned());
    let begun = Instant::now();
    let never = Requirement::AtLeastAsFresh(u64::MAX);
    let failed = get(&stranger, never).await.expect_err("nobody's question");
    let waited = begun.elapsed();
    assert!(waited < PATIENCE / 2, "{waited:?}, {failed:?}");
    let fresh = Requirement::FullyConsistent(true);
    let failed = get(&stranger, fresh).await.expect_err("nobody's question");
    assert_eq!(failed.reason, "READ_SIGNATURE_INVALID", "{failed:?}");
    let _ = get(&admin(), fresh).await.expect("somebody's question");
}
