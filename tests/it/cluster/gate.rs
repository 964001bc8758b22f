//! What every call passes: a read that is not signed, not signed now, or not signed for this call is not answered, and neither
//! is a request past a limit.

use std::time::Duration;

use countersign_tests::cluster::client::{Failed, now_us};
use countersign_tests::cluster::load::question;
use countersign_tests::cluster::wait::until;
use countersign_tests::cluster::{Cluster, Options, RECOVERY, admin};
use ledger_core::id::Identity;
use ledger_proto::v1::{self, consistency::Requirement};
use prost::Message;
use tonic::{Code, Request};

const GET: &str = "/countersign.v1.LedgerService/GetEntry";
const LIST: &str = "/countersign.v1.LedgerService/ListEntries";
const BATCH: &str = "/countersign.v1.AuthorizationService/AuthorizeBatch";
const RECORD: &str = "/countersign.v1.AuthorizationService/Record";
const CLUSTER: &str = "/countersign.v1.ClusterService/GetCluster";
/// Long enough for every answer but that of a call which waits for its deadline.
const SHORT: Duration = Duration::from_secs(5);
const MINUTE_US: u64 = 60_000_000;

async fn single() -> Cluster {
    let options = Options {
        nodes: 1,
        ..Options::default()
    };
    Cluster::start(options).await
}

fn first() -> v1::GetEntryRequest {
    v1::GetEntryRequest {
        key: Some(v1::get_entry_request::Key::Index(0)),
        ..v1::GetEntryRequest::default()
    }
}

async fn get(cluster: &Cluster, request: Request<v1::GetEntryRequest>) -> Result<(), Failed> {
    let answer: Result<v1::GetEntryResponse, _> = cluster.line(1).call(GET, request, SHORT).await;
    answer.map(drop)
}

/// The reason for which a call is refused.
async fn refused<Q: Message + 'static>(
    cluster: &Cluster,
    path: &'static str,
    request: Request<Q>,
) -> (Code, String) {
    // No answer has this form: whatever comes is skipped.
    let answer: Result<(), Failed> = cluster.line(1).call(path, request, SHORT).await;
    let failed = answer.expect_err("must be refused");
    (failed.code, failed.reason)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_are_signed_now_for_this_call_by_somebody_known() {
    let cluster = single().await;
    let (signing, now) = (&cluster.signing, now_us());
    let good = signing.read(&admin(), GET, first());
    // Nonces are not remembered: who repeats the bytes within the minute gets the same answer.
    let mut again = Request::new(first());
    *again.metadata_mut() = good.metadata().clone();
    get(&cluster, good).await.expect("the admin reads");
    get(&cluster, again).await.expect("the same bytes, at once");

    let unauthenticated = |reason: &str| (Code::Unauthenticated, reason.to_owned());
    let unsigned = refused(&cluster, GET, Request::new(first())).await;
    assert_eq!(unsigned, unauthenticated("READ_SIGNATURE_MISSING"));
    for time in [now - 2 * MINUTE_US, now + 2 * MINUTE_US] {
        let stale = signing.read_at(time, &admin(), GET, first());
        let stale = refused(&cluster, GET, stale).await;
        assert_eq!(stale, unauthenticated("READ_TIME_OUT_OF_RANGE"));
    }
    let stranger = Identity::Operator("stranger".to_owned());
    let mut other_request = signing.read(&admin(), GET, first());
    other_request.get_mut().with_compartments = true;
    let forged = [
        signing.read(&stranger, GET, first()),
        signing.read(&admin(), LIST, first()),
        other_request,
    ];
    for request in forged {
        let forged = refused(&cluster, GET, request).await;
        assert_eq!(forged, unauthenticated("READ_SIGNATURE_INVALID"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arguments_that_mean_nothing_are_refused() {
    let cluster = single().await;
    let invalid = |reason: &str| (Code::InvalidArgument, reason.to_owned());
    let with = |requirement| {
        let message = v1::GetClusterRequest {
            consistency: Some(v1::Consistency {
                requirement: Some(requirement),
            }),
        };
        cluster.signing.read(&admin(), CLUSTER, message)
    };
    for requirement in [
        Requirement::FullyConsistent(false),
        Requirement::MinimizeLatency(false),
    ] {
        let unclear = refused(&cluster, CLUSTER, with(requirement)).await;
        assert_eq!(unclear, invalid("ARGUMENT_INVALID"));
    }
    let future = || with(Requirement::AtLeastAsFresh(1_000_000));
    // The node answers shortly before the caller's own clock ends the call, which then says nothing.
    let future = until("the node has answered in time", RECOVERY, async || {
        let said = refused(&cluster, CLUSTER, future()).await;
        (!said.1.is_empty()).then_some(said)
    })
    .await;
    assert_eq!(future, (Code::OutOfRange, "BEYOND_TREE".to_owned()));
    let level = v1::GetEntryRequest {
        receipt_level: 99,
        ..first()
    };
    let level = cluster.signing.read(&admin(), GET, level);
    assert_eq!(
        refused(&cluster, GET, level).await,
        invalid("ARGUMENT_INVALID")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_past_a_limit_or_of_another_kind_are_refused() {
    let options = Options {
        nodes: 1,
        ..Options::default()
    };
    let (cluster, actors) = Cluster::with_actors(options, 1).await;
    let invalid = |reason: &str| (Code::InvalidArgument, reason.to_owned());
    let submission = cluster.signing.forget(question(&actors[0], 0));
    for count in [0, 1_001] {
        let batch = v1::AuthorizeBatchRequest {
            submissions: vec![submission.clone(); count],
            ..v1::AuthorizeBatchRequest::default()
        };
        let batch = refused(&cluster, BATCH, Request::new(batch)).await;
        assert_eq!(batch, invalid("ARGUMENT_INVALID"), "{count}");
    }
    let other = v1::RecordRequest {
        submission: Some(submission),
        ..v1::RecordRequest::default()
    };
    let other = refused(&cluster, RECORD, Request::new(other)).await;
    assert_eq!(other, invalid("COMMAND_MISMATCH"));
    let nothing = Request::new(v1::RecordRequest::default());
    assert_eq!(
        refused(&cluster, RECORD, nothing).await,
        invalid("COMMAND_MALFORMED")
    );
}
