//! Peers are who they say: whoever does not hold the key of a member gets nothing on the port for nodes, and whoever does gets what a
//! member may have, as itself.

use std::sync::Arc;

use countersign_tests::cluster::load::question;
use countersign_tests::cluster::peer::{PeerClient, PeerSpeaker, election};
use countersign_tests::cluster::wait::until;
use countersign_tests::cluster::{Cluster, Options, RECOVERY, SOON};
use countersign_tests::kit::{World, key, node_card, trust_policy};
use ledger_core::evidence::trust_steps;
use ledger_core::limits::MAX_SUBMISSION_LEN;
use ledger_node::keyfile::KeyFile;
use ledger_node::transport::{RefusedDial, Spki};
use ledger_proto::peer::v1 as wire;
use ledger_proto::v1::{self, command::Body};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{Code, Status};

use super::membership::{is_made_leader, join};

/// The node that is spoken to.
const TO: u64 = 1;

async fn read_index(speaker: &PeerSpeaker, client: &mut PeerClient) -> Result<(), Status> {
    let request = speaker.request(TO, wire::ReadIndexRequest {});
    client.read_index(request).await.map(|_| ())
}

/// A vote of the far future, so that whoever takes it stands still from then on.
fn vote(node_id: u64, committed: bool) -> Option<wire::Vote> {
    Some(wire::Vote {
        term: 1_000_000,
        node_id,
        committed,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_get_nothing_and_nobody_speaks_as_another() {
    let options = Options {
        spare: 1,
        ..Options::default()
    };
    let (cluster, actors) = Cluster::with_actors(options, 1).await;
    // A key that nobody knows, and one that has a card and is no member.
    let stranger = PeerSpeaker::with_key(&cluster, 2, Arc::new(key("stranger")));
    let spare = PeerSpeaker::of(&cluster, 4);
    for speaker in [&stranger, &spare] {
        let mut client = speaker.client(TO);
        let refused = read_index(speaker, &mut client).await.expect_err("refused");
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        let request = wire::VoteRequest {
            vote: vote(2, false),
            leadership_transfer: true,
            ..wire::VoteRequest::default()
        };
        let refused = client.vote(speaker.request(TO, request)).await;
        let refused = refused.expect_err("refused");
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    }
    until("the node says whom it has refused", SOON, async || {
        let log = std::fs::read_to_string(cluster.file(TO).log()).ok()?;
        let says = "its key is of no member of this ledger";
        log.contains(says).then_some(())
    })
    .await;

    // A member's key under another name.
    let third = KeyFile::open(&cluster.file(3).key()).expect("node 3's key");
    let liar = PeerSpeaker::with_key(&cluster, 2, Arc::new(third));
    let mut client = liar.client(TO);
    let refused = read_index(&liar, &mut client).await.expect_err("refused");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    let says = "does not say that it is node 3";
    assert!(refused.message().contains(says), "{refused}");

    let _ = cluster.time_to_answer(&actors[0]).await;
}

/// A member asks for votes for another, and leads in another's name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_votes_and_leads_only_as_itself() {
    let (cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    let member = PeerSpeaker::of(&cluster, 2);
    let mut client = member.client(TO);
    read_index(&member, &mut client).await.expect("a member");
    let request = wire::VoteRequest {
        vote: vote(3, false),
        leadership_transfer: true,
        ..wire::VoteRequest::default()
    };
    for refused in [
        client.vote(member.request(TO, request)).await,
        client.pre_vote(member.request(TO, request)).await,
    ] {
        let refused = refused.expect_err("refused");
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
    let append = wire::AppendRequest {
        vote: vote(3, true),
        ..wire::AppendRequest::default()
    };
    let request = member.request(TO, tokio_stream::iter([append]));
    let answers = client.append(request).await.expect("a member is heard");
    let answer = answers.into_inner().message().await.expect("an answer");
    let result = answer.and_then(|answer| answer.result);
    let is_refused = matches!(result, Some(wire::append_response::Result::Refused(_)));
    assert!(is_refused, "{result:?}");
    let offer = wire::OfferSnapshotRequest {
        vote: vote(3, true),
        manifest: Some(wire::SnapshotManifest::default()),
        election: Vec::new(),
    };
    let refused = client.offer_snapshot(member.request(TO, offer)).await;
    let refused = refused.expect_err("refused");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");

    // The cluster has not noticed.
    let low = wire::VoteRequest {
        vote: Some(wire::Vote {
            term: 1,
            node_id: 2,
            committed: false,
        }),
        ..wire::VoteRequest::default()
    };
    let answer = client.pre_vote(member.request(TO, low)).await;
    let answer = answer.expect("a member may ask").into_inner();
    let term = answer.vote.expect("its vote").term;
    assert!(term < 1_000, "{term}");
    let _ = cluster.time_to_answer(&actors[0]).await;
}

/// C2e and C2f: what a member sends for others to keep and to compile is bounded, and somebody has signed it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_and_bundles_of_members_are_bounded() {
    let (cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    let leader = cluster.leader().await;
    let speaker = PeerSpeaker::of(&cluster, leader);
    let to = cluster.follower().await;
    let mut client = speaker.client(to);
    // An offer is compared with the term of the node, and does not change it.
    let own = vote(leader, true);
    let elected = election(&cluster, &own.unwrap_or_default());
    let part = wire::SendSnapshotRequest {
        snapshot: vec![7; 32],
        ..wire::SendSnapshotRequest::default()
    };
    let unasked = speaker.request(to, tokio_stream::iter([part]));
    let refused = client.send_snapshot(unasked).await.expect_err("refused");
    assert_eq!(refused.code(), Code::Aborted, "{refused}");
    let terabyte = wire::SnapshotFile {
        name: "1.sst".to_owned(),
        size: 1 << 40,
        digest: vec![0; 32],
    };
    for (files, says) in [(1, "make room"), (5, "longer than any")] {
        let files = (0..files).map(|number| wire::SnapshotFile {
            name: format!("{number}.sst"),
            ..terabyte.clone()
        });
        let offer = wire::OfferSnapshotRequest {
            vote: own,
            manifest: Some(wire::SnapshotManifest {
                files: files.collect(),
                ..wire::SnapshotManifest::default()
            }),
            election: elected.clone(),
        };
        let refused = client.offer_snapshot(speaker.request(to, offer)).await;
        let refused = refused.expect_err("refused");
        assert_eq!(refused.code(), Code::Aborted, "{refused}");
        assert!(refused.message().contains(says), "{refused}");
    }
    let free = wire::OfferSnapshotRequest {
        vote: own,
        manifest: Some(wire::SnapshotManifest::default()),
        election: elected,
    };
    let _ = client.offer_snapshot(speaker.request(to, free)).await;

    let mut unsigned = cluster.signing.command(question(&actors[0], 0));
    let signed = unsigned.signed.as_mut().expect("signed");
    signed.signatures[0].signature = vec![7; 64];
    let mut long = cluster.signing.command(question(&actors[0], 1));
    long.compartments.push(v1::Compartment {
        content: vec![b' '; MAX_SUBMISSION_LEN],
        ..v1::Compartment::default()
    });
    for (submission, says) in [(unsigned, "signature"), (long, "")] {
        let message = wire::CompileAheadRequest {
            submission: Some(submission),
            tree_size: 1,
        };
        let refused = client.compile_ahead(speaker.request(to, message)).await;
        let refused = refused.expect_err("refused");
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains(says), "{refused}");
    }
    let _ = cluster.time_to_answer(&actors[0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_member_is_cut_off() {
    let options = Options {
        nodes: 4,
        ..Options::default()
    };
    let (mut cluster, actors) = Cluster::with_actors(options, 1).await;
    let leaves = if cluster.leader().await == 4 { 3 } else { 4 };
    let speaker = PeerSpeaker::of(&cluster, leaves);
    let mut client = speaker.client(TO);
    read_index(&speaker, &mut client).await.expect("a member");
    // A call that goes on, so that the connection is in use when its node goes.
    let (_requests, waiting) = tokio::sync::mpsc::channel::<wire::ForwardRequest>(1);
    let waiting = tokio_stream::wrappers::ReceiverStream::new(waiting);
    let answers = client.forward(speaker.request(TO, waiting)).await;
    let mut answers = answers.expect("a member").into_inner();

    let rest: Vec<u64> = (1..=4).filter(|node| *node != leaves).collect();
    cluster.change_members(&rest).await;
    let ended = tokio::time::timeout(RECOVERY, answers.message()).await;
    let ended = ended.expect("the connection ends");
    assert!(ended.is_err(), "{ended:?}");
    until("a new connection is refused", RECOVERY, async || {
        let refused = read_index(&speaker, &mut client).await.err()?;
        (refused.code() == Code::Unavailable).then_some(())
    })
    .await;
    cluster.kill(leaves);
    let _ = cluster.time_to_answer(&actors[0]).await;
}

/// A connection of a stranger on which it pushes trust steps, and nothing else.
struct Pusher(Box<dyn PushStream>);

trait PushStream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send {}
impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send> PushStream for S {}

impl Pusher {
    async fn connect(cluster: &Cluster) -> Self {
        let stranger = PeerSpeaker::with_key(cluster, 2, Arc::new(key("stranger")));
        let files = cluster.file(TO);
        let shown = files.card_message().public_key;
        let to = RefusedDial {
            node_id: TO,
            key: Spki::of(&shown.try_into().expect("a key")),
            address: files.peer.to_string(),
        };
        let stream = stranger.peers.transport.connect_to_push(&to).await;
        Self(Box::new(stream.expect("anybody may push trust steps")))
    }

    /// What the node says that it lacks; nothing once the connection has ended.
    async fn wanted(&mut self) -> Option<wire::TrustStepsWanted> {
        let length = self.0.read_u32().await.ok()?;
        let mut message = vec![0; usize::try_from(length).expect("a short message")];
        self.0.read_exact(&mut message).await.ok()?;
        Some(wire::TrustStepsWanted::decode(message.as_slice()).expect("a message"))
    }

    async fn frame(&mut self, frame: &[u8]) {
        let length = u32::try_from(frame.len()).expect("a short frame");
        self.0.write_u32(length).await.expect("writes");
        self.0.write_all(frame).await.expect("writes");
        self.0.flush().await.expect("writes");
    }
}

/// Changes of the members that are well proven, in another ledger of the same kind.
fn steps_of_another_ledger() -> Vec<v1::TrustStep> {
    let mut world = World::new();
    let nodes = [1, 2, 3, 4];
    world.govern(Body::UpdateMembership(v1::UpdateMembership {
        nodes: nodes.map(|node| node_card(&world.origin, node)).to_vec(),
        trust_policy: trust_policy(&world.origin, &nodes),
    }));
    let carried = (1, world.checkpoint(&nodes));
    trust_steps(&world.state, &[carried]).expect("steps")
}

/// The door that is open to strangers leads nowhere without a quorum's cosignatures.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_pushes_changes_that_prove_nothing_changes_nothing() {
    let options = Options {
        spare: 1,
        ..Options::default()
    };
    let (cluster, actors) = Cluster::with_actors(options, 1).await;
    let steps = steps_of_another_ledger();
    let steps: Vec<_> = steps.iter().map(v1::TrustStep::encode_to_vec).collect();
    for pushed in [steps, vec![vec![7; 100]]] {
        let mut pusher = Pusher::connect(&cluster).await;
        let wanted = pusher.wanted().await.expect("the node says what it lacks");
        assert_eq!(wanted.after_epoch, 0);
        for step in &pushed {
            pusher.frame(step).await;
        }
        pusher.frame(&[]).await;
        let after = pusher.wanted().await.expect("the node has looked at it");
        assert_eq!(after, wanted, "it has followed nothing");
        assert_eq!(pusher.wanted().await, None, "the connection ends");
    }
    let log = std::fs::read_to_string(cluster.file(TO).log()).expect("a log");
    assert!(log.contains("that prove nothing"), "{log}");
    assert!(!log.contains("the members of now were learned"), "{log}");
    let spare = PeerSpeaker::of(&cluster, 4);
    let mut client = spare.client(TO);
    let refused = read_index(&spare, &mut client).await.expect_err("refused");
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");

    // Calls are not heard there, and silent connections keep nobody out.
    let mut silent = Vec::new();
    for _ in 0..20 {
        let mut pusher = Pusher::connect(&cluster).await;
        pusher.wanted().await.expect("there is always a place");
        silent.push(pusher);
    }
    let mut caller = Pusher::connect(&cluster).await;
    caller.wanted().await.expect("there is always a place");
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    caller.0.write_all(preface).await.expect("writes");
    caller.0.flush().await.expect("writes");
    assert_eq!(caller.wanted().await, None, "the connection ends");
    let _ = cluster.time_to_answer(&actors[0]).await;
}

/// Node 4 joins and leads while node 3 is down, and without node 3 there is no quorum: it has to believe a leader whose key it has
/// never heard of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_learns_whom_to_believe() {
    let options = Options {
        spare: 1,
        ..Options::default()
    };
    let (mut cluster, actors) = Cluster::with_actors(options, 1).await;
    cluster.stop(3).await;
    join(&mut cluster, 4).await;
    cluster.change_members(&[1, 2, 3, 4]).await;
    is_made_leader(&cluster, 4).await;
    cluster.kill(1);
    cluster.restart(3);
    let _ = cluster.time_to_answer(&actors[0]).await;
    let log = std::fs::read_to_string(cluster.file(3).log()).expect("a log");
    assert!(log.contains("the members of now were learned"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_nodes_say_to_each_other_can_be_read_on_the_way() {
    let (mut cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    cluster.network.eavesdrop();
    let restarted = cluster.follower().await;
    cluster.stop(restarted).await;
    cluster.restart(restarted);
    let _ = cluster.time_to_answer(&actors[0]).await;
    cluster.is_whole().await;
    let heard = cluster.network.heard();
    assert!(heard.len() > 1_000, "{} bytes", heard.len());
    let contains = |words: &[u8]| heard.windows(words.len()).any(|piece| piece == words);
    for words in [
        b"PRI * HTTP/2.0".as_slice(),
        b"countersign",
        actors[0].agent.as_bytes(),
        cluster.origin.as_bytes(),
    ] {
        assert!(!contains(words), "{}", String::from_utf8_lossy(words));
    }
}
