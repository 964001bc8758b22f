//! The leader hands over when an admin has signed that, once for each signed request, and not because a member says so.

use countersign_tests::cluster::client::{Failed, now_us, shown_to_leader};
use countersign_tests::cluster::peer::PeerSpeaker;
use countersign_tests::cluster::people::Actor;
use countersign_tests::cluster::{Cluster, Options, RECOVERY, admin, wait::until};
use ledger_core::id::Identity;
use ledger_proto::peer::v1 as wire;
use ledger_proto::v1::{self, ErrorReason};
use prost::Message as _;
use tonic::Request;

const TRANSFER: &str = "/countersign.v1.ClusterService/TransferLeadership";
const GET_CLUSTER: &str = "/countersign.v1.ClusterService/GetCluster";
/// How often each request is shown.
const OFTEN: usize = 20;
/// A minute, in microseconds: as far as the time of a request may be from the leader's clock.
const MINUTE_US: u64 = 60_000_000;

type Asked = Request<v1::TransferLeadershipRequest>;

/// A follower's key in the hands of a member that lies, and the leader.
struct Stage {
    cluster: Cluster,
    actor: Actor,
    member: PeerSpeaker,
    member_id: u64,
    leader: u64,
}

impl Stage {
    async fn new() -> Self {
        let (cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
        let (leader, member_id) = (cluster.leader().await, cluster.follower().await);
        Self {
            member: PeerSpeaker::of(&cluster, member_id),
            actor: actors.into_iter().next().expect("an actor"),
            member_id,
            leader,
            cluster,
        }
    }

    /// A request as this identity signs it.
    fn signed(&self, by: &Identity, at_us: u64, to: Option<u64>) -> Asked {
        let message = v1::TransferLeadershipRequest { to };
        self.cluster.signing.read_at(at_us, by, TRANSFER, message)
    }

    /// The member shows a node what it says an admin has signed: the reason for which it is refused.
    async fn show(&self, to: u64, shown: wire::HandOverRequest) -> Option<ErrorReason> {
        let request = self.member.request(to, shown);
        let answer = self.member.client(to).hand_over(request).await;
        let error = answer.expect("an answer").into_inner().error;
        error.map(|error| error.reason())
    }

    /// The same request once more, to a node's port for clients.
    async fn ask(&self, node: u64, asked: &Asked) -> Result<u64, Failed> {
        let mut request = Request::new(*asked.get_ref());
        *request.metadata_mut() = asked.metadata().clone();
        let line = self.cluster.line(node);
        let answer: v1::TransferLeadershipResponse = line.call(TRANSFER, request, RECOVERY).await?;
        Ok(answer.leader_id)
    }

    /// How often a leader handed over because an admin asked, as the nodes' logs tell.
    fn honoured(&self) -> usize {
        let logs = self.cluster.all_files().map(|files| {
            let log = std::fs::read_to_string(files.log()).expect("a log");
            log.matches("hands leadership over, as an admin asks")
                .count()
        });
        logs.sum()
    }

    /// Shows the leader each of these often, and demands that it refuses each for its reason, and goes on leading.
    async fn all_are_refused(&self, shown: Vec<(wire::HandOverRequest, ErrorReason)>) {
        let elections = self.cluster.elections();
        for (shown, reason) in shown {
            for _ in 0..OFTEN {
                let refused = self.show(self.leader, shown.clone()).await;
                assert_eq!(refused, Some(reason), "{shown:?}");
            }
        }
        let _ = self.cluster.time_to_answer(&self.actor).await;
        assert_eq!(self.cluster.leader().await, self.leader);
        assert_eq!(self.cluster.elections(), elections);
        assert_eq!(self.honoured(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_without_an_admins_signature_deposes_nobody() {
    let stage = Stage::new().await;
    let to = Some(stage.member_id);
    let true_one = shown_to_leader(&stage.signed(&admin(), now_us(), None));
    let signature = true_one.signature.clone().expect("a signature");
    let altered = |request: Option<u64>, change: fn(&mut wire::ReadSignature)| {
        let mut signature = signature.clone();
        change(&mut signature);
        wire::HandOverRequest {
            request: v1::TransferLeadershipRequest { to: request }.encode_to_vec(),
            signature: Some(signature),
        }
    };
    let message = v1::TransferLeadershipRequest { to: None };
    let other_call = stage.cluster.signing.read(&admin(), GET_CLUSTER, message);
    let unsigned = wire::HandOverRequest {
        signature: None,
        ..true_one
    };
    let missing = ErrorReason::ReadSignatureMissing;
    let invalid = ErrorReason::ReadSignatureInvalid;
    stage
        .all_are_refused(vec![
            (wire::HandOverRequest::default(), missing),
            (unsigned, missing),
            (altered(None, |signature| signature.nonce.clear()), missing),
            (
                altered(None, |signature| signature.signature.fill(7)),
                invalid,
            ),
            (altered(None, |signature| signature.nonce.fill(7)), invalid),
            (altered(None, |signature| signature.time_us += 1), invalid),
            (altered(to, |_| ()), invalid),
            (shown_to_leader(&other_call), invalid),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_of_another_time_or_by_another_author_deposes_nobody() {
    let stage = Stage::new().await;
    let agent = Identity::Agent(stage.actor.agent.clone());
    let now = now_us();
    let late = ErrorReason::ReadTimeOutOfRange;
    let old = stage.signed(&admin(), now - MINUTE_US - 1, None);
    let ahead = stage.signed(&admin(), now + 2 * MINUTE_US, None);
    let by_agent = stage.signed(&agent, now, None);
    stage
        .all_are_refused(vec![
            (shown_to_leader(&old), late),
            (shown_to_leader(&ahead), late),
            (shown_to_leader(&by_agent), ErrorReason::ReadNotPermitted),
        ])
        .await;
}

/// Seen by a member or on the way: a request that an admin signed moves leadership once, whichever node it is given again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_given_again_moves_nothing() {
    let stage = Stage::new().await;
    let asked = stage.signed(&admin(), now_us(), None);
    let shown = shown_to_leader(&asked);
    assert_eq!(stage.show(stage.leader, shown.clone()).await, None);
    let next = until("another node leads", RECOVERY, async || {
        let now = stage.cluster.leader().await;
        (now != stage.leader).then_some(now)
    })
    .await;
    let elections = stage.cluster.elections();

    for _ in 0..3 {
        for node in stage.cluster.nodes() {
            let refused = stage.ask(node, &asked).await.expect_err("it was honoured");
            assert_eq!(refused.reason, "READ_TIME_OUT_OF_RANGE", "{refused:?}");
            if node != stage.member_id {
                let refused = stage.show(node, shown.clone()).await;
                let is_leader = node == next;
                assert_eq!(refused.is_some(), is_leader, "{refused:?} by node {node}");
            }
        }
    }
    let _ = stage.cluster.time_to_answer(&stage.actor).await;
    assert_eq!(stage.cluster.leader().await, next);
    assert_eq!(stage.cluster.elections(), elections);
    assert_eq!(stage.honoured(), 1);
}

/// A client's clock may be ahead, and then a leader that was elected later cannot see that a request is older. Each leader honours it
/// once all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_dated_ahead_moves_each_leader_once() {
    let stage = Stage::new().await;
    let asked = stage.signed(&admin(), now_us() + MINUTE_US / 2, None);
    let nodes = stage.cluster.nodes().len();
    let mut moved = 0;
    let refused = loop {
        let leader = stage.cluster.leader().await;
        match stage.ask(leader, &asked).await {
            Ok(_) => moved += 1,
            Err(refused) => break refused,
        }
        assert!(moved <= nodes, "a leader has honoured it twice");
    };
    assert_eq!(refused.reason, "ARGUMENT_INVALID", "{refused:?}");
    assert!(refused.message.contains("moved leadership already"));
    assert!((1..=nodes).contains(&stage.honoured()));
}
