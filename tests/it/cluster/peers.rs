//! What a node lets others say to it on its peer port: only members of its own ledger, and it vouches for nothing on their word.

use countersign_tests::cluster::client::Line;
use countersign_tests::cluster::load::{ask, question};
use countersign_tests::cluster::peer::{PeerSpeaker, keys};
use countersign_tests::cluster::people::Actor;
use countersign_tests::cluster::wait::until;
use countersign_tests::cluster::{Cluster, Options, SOON};
use ledger_core::hash::{Hash, TreeSize};
use ledger_core::note::checkpoint::Checkpoint;
use ledger_core::note::cosignature::{CosignatureTime, cosign};
use ledger_core::note::signed_note::Note;
use ledger_node::keyfile::KeyFile;
use ledger_proto::peer::v1 as wire;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Request};

use super::membership::is_made_leader;

/// The node that is spoken to.
pub(super) const TO: u64 = 1;

/// A cluster in which the test speaks as node 2, which runs as well.
pub(super) async fn spoken_to() -> (Cluster, Vec<Actor>, PeerSpeaker) {
    let (cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    let speaker = PeerSpeaker::of(&cluster, 2);
    (cluster, actors, speaker)
}

/// What a node has cosigned for all of its ledger.
async fn cosigned(cluster: &Cluster) -> Checkpoint {
    let size = cluster.must_status(TO).await.tree_size;
    let note = cluster.checkpoint(TO, size).await.expect("cosigned");
    let note = Note::parse(note.as_bytes()).expect("a note");
    Checkpoint::parse(note.text()).expect("a checkpoint")
}

/// A change of the metadata of a call.
type Change = fn(&mut MetadataMap);
/// What a call must not say of itself, and how it is refused.
const CHANGES: [(Change, &str); 10] = [
    (
        |sent| {
            let other = MetadataValue::from_bytes(&[7; 32]);
            sent.insert_bin(keys::GENESIS, other);
        },
        "belongs to another ledger",
    ),
    (
        |sent| {
            sent.remove_bin(keys::GENESIS);
        },
        "belongs to another ledger",
    ),
    (
        |sent| {
            sent.insert(keys::TO, MetadataValue::from(3));
        },
        "the sender means another",
    ),
    (
        |sent| {
            sent.remove(keys::TO);
        },
        "the sender means another",
    ),
    (
        |sent| {
            sent.insert(keys::FROM, MetadataValue::from(TO));
        },
        "does not say that it is node 2",
    ),
    (
        |sent| {
            sent.remove(keys::FROM);
        },
        "does not say that it is node 2",
    ),
    (
        |sent| {
            sent.insert(keys::VERSION, MetadataValue::from(99));
        },
        "speaks cluster version",
    ),
    (
        |sent| {
            sent.remove_bin(keys::STORE);
        },
        "does not say which store it has",
    ),
    (
        |sent| {
            sent.insert_bin(keys::STORE, MetadataValue::from_bytes(&[7; 16]));
        },
        "its disk was replaced",
    ),
    (
        |sent| {
            sent.insert_bin(keys::KNOWN_STORE, MetadataValue::from_bytes(&[7; 16]));
        },
        "has another store than the one that the sender means",
    ),
];
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_means_another_node_or_ledger_is_refused() {
    let (_cluster, _, peers) = spoken_to().await;
    let mut client = peers.client(TO);
    let good = peers.request(TO, wire::ReadIndexRequest {});
    client.read_index(good).await.expect("a peer is heard");

    for (change, says) in CHANGES {
        let mut request = peers.request(TO, wire::ReadIndexRequest {});
        change(request.metadata_mut());
        let refused = client.read_index(request).await.expect_err("refused");
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(refused.message().contains(says), "{refused}");
    }
}

/// What cannot be read must not get into the log: committed, it would stop every replica at each start again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_cannot_be_read_are_refused_before_the_log() {
    let (cluster, actors, peers) = spoken_to().await;
    let mut client = peers.client(TO);
    let entry = wire::LogEntry {
        log_id: Some(wire::LogId {
            term: 1_000,
            index: 1_000_000,
        }),
        payload: Some(wire::log_entry::Payload::Batch(vec![0xff].into())),
    };
    let append = wire::AppendRequest {
        vote: Some(wire::Vote {
            term: 1_000,
            node_id: 2,
            committed: true,
        }),
        previous: Some(wire::LogId {
            term: 1_000,
            index: 999_999,
        }),
        entries: vec![entry],
        ..wire::AppendRequest::default()
    };
    let request = peers.request(TO, tokio_stream::iter([append]));
    let answers = client.append(request).await.expect("a peer is heard");
    let mut answers = answers.into_inner();
    let answer = answers.message().await.expect("an answer");
    let result = answer.and_then(|answer| answer.result);
    let Some(wire::append_response::Result::Refused(refused)) = result else {
        panic!("{result:?}");
    };
    assert_eq!(refused.check(), wire::AppendCheck::Form, "{refused:?}");
    assert_eq!(refused.log_index, 1_000_000);
    assert_eq!(answers.message().await.expect("ends well"), None);
    let log = std::fs::read_to_string(cluster.file(TO).log()).expect("a log");
    assert!(
        log.contains("what a leader sends for the log is refused"),
        "{log}"
    );
    let _ = cluster.time_to_answer(&actors[0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_told_that_this_is_not_their_port() {
    let (cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    let line = Line::new(TO, &cluster.file(TO).peer.to_string());
    let question = cluster.signing.command(question(&actors[0], 0));
    let refused = ask(&line, &question).await.expect_err("refused");
    assert_eq!(refused.code, Code::Unavailable, "{refused:?}");
    let says =
        "it does not speak TLS; this is the port for other nodes, clients use the client address";
    until("the node says so too", SOON, async || {
        let log = std::fs::read_to_string(cluster.file(TO).log()).ok()?;
        log.contains(says).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_vouches_only_for_trees_that_it_computed_and_that_grow() {
    let (mut cluster, actors, peers) = spoken_to().await;
    is_made_leader(&cluster, 2).await;
    let older = cosigned(&cluster).await;
    let _ = cluster.time_to_answer(&actors[0]).await;
    let newest = cosigned(&cluster).await;
    let mut client = peers.client(TO);
    let log_key = cluster.genesis().with_file_name("log.key");
    let log_key = KeyFile::open(&log_key).expect("the log's key");
    let (size, root) = (newest.size(), newest.root());
    let tree = |size: u64, root: Hash| {
        Checkpoint::new(&cluster.origin, TreeSize(size), root).expect("a checkpoint")
    };
    let signed = |tree: &Checkpoint| tree.sign(&log_key).expect("signs").to_string();
    let asked = |checkpoint: String| -> Request<wire::CosignRequest> {
        peers.request(TO, wire::CosignRequest { checkpoint })
    };

    let again = client.cosign(asked(signed(&newest))).await;
    let again = again.expect("an answer").into_inner();
    assert_ne!(again.signature, "", "{again:?}");
    // Who does not lead could have a larger tree cosigned before the leader asks.
    let follower = PeerSpeaker::of(&cluster, 3);
    let checkpoint = signed(&newest);
    let request = follower.request(TO, wire::CosignRequest { checkpoint });
    let refused = follower.client(TO).cosign(request).await;
    let refused = refused.expect("an answer").into_inner();
    assert_eq!(refused.signature, "", "{refused:?}");
    assert!(refused.refused.contains("is not followed"), "{refused:?}");
    let by_another = newest.sign(&countersign_tests::kit::key("somebody"));
    let by_another = by_another.expect("signs").to_string();
    for (checkpoint, says) in [
        (by_another, "no signature by a known key"),
        (signed(&older), "was cosigned before"),
        (signed(&tree(size.0 + 1, root)), "has not been applied here"),
        ("noise".to_owned(), ""),
    ] {
        let answer = client.cosign(asked(checkpoint.clone())).await;
        let answer = answer.expect("an answer").into_inner();
        assert_eq!(answer.signature, "", "{checkpoint}");
        assert!(answer.refused.contains(says), "{answer:?}");
    }
    assert_eq!(cluster.must_status(TO).await.tree_size, size.0);

    // The log's key vouches for another tree. Any node has that key, so that nobody can tell who is wrong: it is refused.
    let forged = tree(size.0, Hash::from_bytes([2; 32]));
    let answer = client.cosign(asked(signed(&forged))).await;
    let answer = answer.expect("an answer").into_inner();
    assert_eq!(answer.signature, "", "{answer:?}");
    assert!(answer.refused.contains("another one"), "{answer:?}");
    let log = std::fs::read_to_string(cluster.file(TO).log()).expect("a log");
    assert!(log.contains("asks to cosign another root"), "{log}");
    let _ = cluster.time_to_answer(&actors[0]).await;

    // A quorum is believed: the node must be damaged, and it does not go on.
    let time = CosignatureTime::from_seconds(1).expect("a time");
    let mut note = forged.sign(&log_key).expect("signs");
    for node in [TO, 2] {
        let files = cluster.file(node);
        let key = KeyFile::open(&files.key()).expect("the node's key");
        let line = cosign(&forged, time, &files.card_message().name, &key).expect("signs");
        note.add(line).expect("there is room");
    }
    let checkpoint = note.to_string();
    let put = peers.request(TO, wire::PutCheckpointRequest { checkpoint });
    client.put_checkpoint(put).await.expect_err("refused");
    let status = cluster.process(TO).must_end(SOON).await;
    assert_eq!(status.code(), Some(70), "{status}");
    let log = std::fs::read_to_string(cluster.file(TO).log()).expect("a log");
    assert!(log.contains("a quorum has cosigned another root"), "{log}");
}
