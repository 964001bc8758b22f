//! A witness outside, and a larger quorum: what they make impossible, and what they cost while they are away.

use std::path::Path;

use countersign_tests::cluster::cli::Cli;
use countersign_tests::cluster::load::Load;
use countersign_tests::cluster::people::Actor;
use countersign_tests::cluster::wait::until;
use countersign_tests::cluster::{Cluster, Options, RECOVERY};
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::DecodePrivateKey as _;
use ledger_core::hash::{Hash, TreeSize};
use ledger_core::note::checkpoint::Checkpoint;
use ledger_core::note::cosignature::{CosignatureTime, cosign};
use ledger_core::note::signed_note::Note;
use ledger_core::note::tlog_policy::TlogPolicy;
use ledger_core::note::tlog_witness::AddCheckpoint;
use ledger_core::note::verify::verify_checkpoint;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::commands::{asks, one_agent_of};
use super::frozen::{is_proven, is_taken, shown};
use super::membership::join;

fn witnessed(nodes: u64, spare: u64) -> Options {
    Options {
        nodes,
        spare,
        witnesses: 1,
        ..Options::default()
    }
}

/// The witness as `cluster status` shows it, once it is in this state.
async fn is_in_state(cli: &Cli, state: &str) -> Value {
    until(&format!("the witness {state}"), RECOVERY, async || {
        let said = cli.run(&["cluster", "status", "--json"]);
        let witness = said.json()["witnesses"][0].clone();
        (witness["state"] == state).then_some(witness)
    })
    .await
}

/// Asks to read a document, and gives the index of the decision.
fn reads(cli: &Cli, actor: &Actor, doc: &str) -> u64 {
    asks(cli, actor, "bank/read", &format!(r#"{{"doc": "{doc}"}}"#))
}

async fn cosigned(cluster: &Cluster, node: u64) -> u64 {
    let status = cluster.must_status(node).await;
    status.quorum_cosigned_tree_size
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_witness_a_ledger_decides_and_proves_nothing_new() {
    let (mut cluster, cli, actor) = one_agent_of(witnessed(3, 1)).await;
    let read = |what: &str| reads(&cli, &actor, what);
    is_proven(&cli, read("before")).await;
    let witness = is_in_state(&cli, "cosigns").await;
    assert_eq!(witness["witness"], "w1", "{witness}");
    assert!(witness["cosigned"].as_u64() > Some(0), "{witness}");

    cluster.kill_witness(1);
    let leader = cluster.leader().await;
    let unproven = read("without");
    let witness = is_in_state(&cli, "does not cosign").await;
    let why = witness["why"].as_str().expect("words");
    assert!(why.contains("nobody answers at http://127.0.0.1"), "{why}");
    let why = shown(&cli);
    assert!(
        why.contains("newer trees wait for cosignatures: witness.test/w1 ("),
        "{why}"
    );
    assert!(
        cosigned(&cluster, leader).await <= unproven,
        "nothing new is proven"
    );
    let late = cli.run(&[
        "prove",
        &unproven.to_string(),
        "--out",
        "early",
        "--timeout",
        "2",
    ]);
    assert_ne!(late.code, 0, "{late:?}");

    // It goes on where it was, also for a leader that does not know where that is.
    cluster.kill(leader);
    cluster.leader().await;
    cluster.start_witness(1);
    is_proven(&cli, unproven).await;
    cluster.restart(leader);
    cluster.is_whole().await;
    assert_eq!(shown(&cli), "", "nothing is waited for");

    // Changes of the nodes keep it.
    join(&mut cluster, 4).await;
    let card = cluster.file(4).card();
    is_taken(
        &cli,
        &["cluster", "add", card.to_str().expect("a plain name")],
    )
    .await;
    is_taken(&cli, &["cluster", "remove", "1"]).await;
    let last = read("after");
    is_proven(&cli, last).await;
    // Of the nodes that the witness was told of, one is left. It has heard who the others are.
    cluster.kill(2);
    cluster.leader().await;
    is_proven(&cli, read("by other nodes")).await;
    cluster.restart(2);
    cluster.kill_witness(1);
    read("without again");
    is_in_state(&cli, "does not cosign").await;
    // It can be given up only with its own consent.
    cluster.start_witness(1);
    is_taken(&cli, &["cluster", "quorum", "--without-witnesses"]).await;
    is_proven(&cli, read("without any")).await;
    cluster.kill_witness(1);
    is_proven(&cli, read("for ever")).await;
    cluster.must_be_sound_on_disk().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_larger_quorum_proves_nothing_while_a_node_is_down() {
    let options = Options {
        quorum: Some(3),
        ..Options::default()
    };
    let (mut cluster, cli, actor) = one_agent_of(options).await;
    let read = |what: &str| reads(&cli, &actor, what);
    is_proven(&cli, read("all")).await;
    let away = cluster.follower().await;
    cluster.kill(away);
    let unproven = read("two of three");
    until("the node that is missed is named", RECOVERY, async || {
        shown(&cli)
            .contains(&format!("/node-{away} ("))
            .then_some(())
    })
    .await;
    let leader = cluster.leader().await;
    assert!(cosigned(&cluster, leader).await <= unproven);
    cluster.restart(away);
    is_proven(&cli, unproven).await;
}

/// A key of the cluster, which only somebody has who has broken into it.
fn key(path: &Path) -> SigningKey {
    let text = std::fs::read_to_string(path).expect("a key file");
    let pem = text.find("-----BEGIN").expect("a key");
    SigningKey::from_pkcs8_pem(text.split_at(pem).1).expect("a key")
}

/// A checkpoint that the log and these nodes have signed, as a leader that lies or a restored disk makes them do.
fn forged(cluster: &Cluster, size: u64, nodes: &[u64]) -> String {
    let root = Hash::from_bytes([7; 32]);
    let checkpoint = Checkpoint::new(&cluster.origin, TreeSize(size), root).expect("a checkpoint");
    let note = checkpoint.sign(&key(&cluster.folder().join("log.key")));
    let mut note = note.expect("a note");
    for node in nodes {
        let files = cluster.file(*node);
        let card = files.card_message();
        let signer = key(&files.folder.join("node.key"));
        let time = CosignatureTime::from_seconds(1_795_392_000).expect("a time");
        let line = cosign(&checkpoint, time, &card.name, &signer).expect("a line");
        note.add(line).expect("room");
    }
    note.to_string()
}

/// Asks the witness over HTTP as a log does, and gives the status and the body.
async fn ask_witness(cluster: &Cluster, request: &AddCheckpoint) -> (u16, String) {
    let body = request.to_string();
    let mut stream = tokio::net::TcpStream::connect(cluster.witness(1).address)
        .await
        .expect("the witness listens");
    let head = format!(
        "POST /add-checkpoint HTTP/1.1\r\nhost: w\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("sends");
    stream.write_all(body.as_bytes()).await.expect("sends");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    (status.expect("a status"), body.to_owned())
}

/// Demands that the witness refuses a tree of the next size that the log has signed, and one node at most.
async fn is_refused_without_a_quorum(cluster: &Cluster, seen: u64) {
    for nodes in [&[][..], &[1]] {
        let request = AddCheckpoint {
            old: TreeSize(seen),
            proof: Vec::new(),
            checkpoint: forged(cluster, seen + 1, nodes),
        };
        let (status, body) = ask_witness(cluster, &request).await;
        assert_eq!(status, 403, "{nodes:?}: {body}");
    }
}

/// Decision 0018: whoever holds the keys of two of three nodes, or makes the nodes sign in good faith, has a second tree that a
/// quorum of nodes has cosigned. The witness has seen the first one, and refuses it, over its own restart too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_tree_that_a_quorum_of_nodes_has_cosigned_is_proven_to_nobody() {
    let (mut cluster, actors) = Cluster::with_actors(witnessed(3, 0), 2).await;
    let load = Load::start(&cluster, &actors);
    load.flows(50, RECOVERY).await;
    load.finish().await;
    let cli = Cli::of_admin(&cluster);
    is_in_state(&cli, "cosigns").await;
    // The nodes rest, so that the witness has seen its last for now.
    for node in 1..=3 {
        cluster.kill(node);
    }
    let request = AddCheckpoint {
        old: TreeSize(0),
        proof: Vec::new(),
        checkpoint: forged(&cluster, 1, &[1, 2]),
    };
    let (status, seen) = ask_witness(&cluster, &request).await;
    assert_eq!(status, 409, "{seen}");
    let seen: u64 = seen.trim_end().parse().expect("a size");
    // Without the witness it would be proven: the same nodes under the policy of a ledger without one.
    let nodes: Vec<_> = (1..=3).map(|node| cluster.file(node).node_file()).collect();
    let log = cluster.policy.logs().first().expect("a log");
    let log = log.key.public_key();
    let without = ledger_core::quorum::Quorum::default().policy(&cluster.origin, log, &nodes);
    let without = TlogPolicy::parse(without.expect("a policy").as_bytes()).expect("a policy");

    for round in 0..2 {
        // Who has the log's key and that of one node does not get as far as that.
        is_refused_without_a_quorum(&cluster, seen).await;
        for (old, size) in [(seen, seen), (seen, seen + 3), (0, seen), (0, seen + 3)] {
            let second = forged(&cluster, size, &[1, 2]);
            verify_checkpoint(second.as_bytes(), &without).expect("a quorum of nodes");
            let request = AddCheckpoint {
                old: TreeSize(old),
                proof: Vec::new(),
                checkpoint: second.clone(),
            };
            let (status, body) = ask_witness(&cluster, &request).await;
            let expected = if old == seen { 422 } else { 409 };
            assert_eq!(status, expected, "{round} {old} {size}: {body}");
            let mut note = Note::parse(second.as_bytes()).expect("a note");
            for line in body.lines() {
                if let Ok(line) = ledger_core::note::signed_note::NoteSignature::parse(line) {
                    note.add(line).expect("room");
                }
            }
            let refused = verify_checkpoint(note.to_string().as_bytes(), &cluster.policy);
            assert!(refused.is_err(), "{refused:?}");
        }
        cluster.kill_witness(1);
        cluster.start_witness(1);
        let address = cluster.witness(1).address;
        until("the witness is back", RECOVERY, async || {
            tokio::net::TcpStream::connect(address).await.ok()
        })
        .await;
    }
    // The ledger that it knows goes on.
    for node in 1..=3 {
        cluster.restart(node);
    }
    cluster.leader().await;
    let load = Load::start(&cluster, &actors);
    load.flows(20, RECOVERY).await;
    load.finish().await;
    until("newer trees are proven", RECOVERY, async || {
        (cosigned(&cluster, cluster.leader().await).await > seen).then_some(())
    })
    .await;
    cluster.must_keep_promises().await;
}
