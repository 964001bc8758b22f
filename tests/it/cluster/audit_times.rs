//! An audit compares the times of entries with the times at which cosigners signed the trees that hold them.

use countersign_tests::cluster::cli::Cli;
use countersign_tests::cluster::liar::Liar;
use countersign_tests::cluster::{Cluster, Options, SOON};
use ledger_client::paths;
use ledger_core::hash::{Hash, TreeSize};
use ledger_core::note::checkpoint::Checkpoint;
use ledger_core::note::cosignature::{CosignatureTime, cosign, split_timestamped};
use ledger_core::note::signed_note::Note;
use ledger_node::clock::{Clock as _, SystemClock};
use ledger_node::keyfile::KeyFile;
use ledger_proto::v1;

const NEWEST: &str = "/countersign.v1.LedgerService/GetCheckpoint";

async fn newest_checkpoint(cluster: &Cluster) -> String {
    let request = tonic::Request::new(v1::GetCheckpointRequest::default());
    let answer = cluster.line(1).call(NEWEST, request, SOON).await;
    let answer: v1::GetCheckpointResponse = answer.expect("a checkpoint");
    answer.checkpoint
}

/// The same checkpoint, whose log's signature stays, cosigned by nodes 1, 2, … so many seconds from when the first cosigner did.
fn dated(cluster: &Cluster, note: &str, offsets: &[i64]) -> String {
    let note = Note::parse(note.as_bytes()).expect("a note");
    let checkpoint = Checkpoint::parse(note.text()).expect("a checkpoint");
    let mut lines = note.signatures().iter();
    let mut other = Note::new(note.text()).expect("a text");
    let by_log = lines.next().expect("the log's").clone();
    other.add(by_log).expect("room");
    let first = lines.next().expect("a cosignature").signature();
    let (time, _) = split_timestamped(first).expect("a time");
    for (node, offset) in (1..).zip(offsets) {
        let seconds = time.seconds().saturating_add_signed(*offset);
        let time = CosignatureTime::from_seconds(seconds).expect("a time");
        let key = KeyFile::open(&cluster.file(node).key()).expect("a key");
        let name = format!("{}/node-{node}", cluster.origin);
        other
            .add(cosign(&checkpoint, time, &name, &key).expect("a line"))
            .expect("room");
    }
    other.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_names_entries_that_no_quorum_of_clocks_had_reached() {
    let (cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    let _ = cluster.time_to_answer(&actors[0]).await;
    let cli = Cli::of_admin(&cluster);
    let note = newest_checkpoint(&cluster).await;
    let write = |name: &str, offsets: &[i64]| {
        let path = cli.folder.join(name);
        std::fs::write(path, dated(&cluster, &note, offsets)).expect("a file");
    };
    write("early", &[-60, -61]);
    write("one-early", &[-60, 0]);
    write("one-of-three-early", &[-60, 0, 0]);
    write("late", &[60, 90]);

    let report = cli.must(&["audit", "--json"]).json();
    let times = &report["times"];
    assert!(times["checkpoints"].as_u64() > Some(1), "{times}");
    assert_eq!(times["unproven_checkpoints"], 0, "{times}");
    assert_eq!(times["impossible"], 0, "{times}");
    assert_eq!(times["doubtful"], 0, "{times}");
    cli.must(&["audit", "--checkpoint", "late"]);

    let said = cli.must(&["audit", "--checkpoint", "one-of-three-early"]);
    assert!(said.out.contains("(in doubt)"), "{said:?}");
    // Those who lie can date their own cosignatures: what they are with nobody else is no quorum.
    let said = cli.run(&["audit", "--checkpoint", "one-early"]);
    assert_eq!(said.code, 14, "{said:?}");
    assert!(said.out.contains("(impossible)"), "{said:?}");
    for files in [["late", "early"], ["early", "late"]] {
        let [one, next] = files;
        let said = cli.run(&["audit", "--checkpoint", one, "--checkpoint", next, "--json"]);
        assert_eq!(said.code, 14, "{said:?}");
        assert!(said.err.contains("dated later than"), "{said:?}");
        let times = &said.json()["times"];
        assert!(times["impossible"].as_u64() > Some(0), "{times}");
        let by = &times["conflicts"][0]["contradicted_by"];
        assert_eq!(by.as_array().map(Vec::len), Some(2), "{times}");
    }
}

/// What an auditor brings is never left out: it is compared, or the audit fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_fails_where_a_checkpoint_of_the_auditors_is_not_compared() {
    let (cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    let _ = cluster.time_to_answer(&actors[0]).await;
    let cli = Cli::of_admin(&cluster);
    let note = newest_checkpoint(&cluster).await;
    let checkpoint = Note::parse(note.as_bytes()).expect("a note");
    let checkpoint = Checkpoint::parse(checkpoint.text()).expect("a checkpoint");
    let (size, root) = (checkpoint.size(), checkpoint.root());
    let log_key = KeyFile::open(&cluster.genesis().with_file_name("log.key")).expect("a key");
    let write = |name: &str, size: TreeSize, root: Hash, nodes: &[u64]| {
        let tree = Checkpoint::new(&cluster.origin, size, root).expect("a checkpoint");
        let mut note = tree.sign(&log_key).expect("a note");
        let seconds = SystemClock.now_us() / 1_000_000;
        let time = CosignatureTime::from_seconds(seconds).expect("a time");
        for node in nodes {
            let key = KeyFile::open(&cluster.file(*node).key()).expect("a key");
            let name = format!("{}/node-{node}", cluster.origin);
            let line = cosign(&tree, time, &name, &key).expect("a line");
            note.add(line).expect("room");
        }
        std::fs::write(cli.folder.join(name), note.to_string()).expect("a file");
    };
    let other = Hash::from_bytes([7; 32]);
    write("right", size, root, &[1, 2]);
    write("forked", size, other, &[1, 2]);
    write("unproven", size, root, &[1]);
    write("larger", TreeSize(size.0 + 1_000), other, &[1, 2]);
    write("larger-unproven", TreeSize(size.0 + 1_000), other, &[1]);
    cli.must(&["audit", "--checkpoint", "right"]);
    for (file, code, words) in [
        ("forked", 13, "forked"),
        ("unproven", 12, "unproven meets neither"),
        ("larger", 13, "the ledger was put back"),
        ("larger-unproven", 12, "larger-unproven meets neither"),
    ] {
        let said = cli.run(&["audit", "--checkpoint", "right", "--checkpoint", file]);
        assert_eq!(said.code, code, "{file}: {said:?}");
        assert!(said.err.contains(words), "{file}: {said:?}");
        assert_eq!(said.out, "", "{file}");
    }
}

/// Pages that come without end, empty or not, hold nobody for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_without_end_end() {
    let (cluster, _) = Cluster::with_actors(Options::default(), 1).await;
    let cli = Cli::of_admin(&cluster);
    let liar = Liar::before(cluster.file(1).client).await;
    let endpoint = liar.endpoint();
    let run = |words: &[&str]| cli.run(&[words, &["--endpoints", &endpoint]].concat());
    let next_page_token = "more".to_owned();
    let checkpoints = v1::ListCheckpointsResponse {
        next_page_token: next_page_token.clone(),
        ..v1::ListCheckpointsResponse::default()
    };
    liar.invents(paths::LIST_CHECKPOINTS, &checkpoints);
    let said = run(&["audit"]);
    assert_eq!(said.code, 0, "{said:?}");
    for (steps, code) in [(0, 14), (100, 10)] {
        let page = v1::ListTrustStepsResponse {
            trust_steps: vec![v1::TrustStep::default(); steps],
            next_page_token: next_page_token.clone(),
        };
        liar.invents(paths::LIST_TRUST_STEPS, &page);
        let said = run(&["cluster", "policy"]);
        assert_eq!(said.code, code, "{steps}: {said:?}");
    }
}
