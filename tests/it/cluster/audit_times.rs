//! An audit compares the times of entries with the times at which cosigners signed the trees that hold them.

use countersign_tests::cluster::cli::Cli;
use countersign_tests::cluster::{Cluster, Options, SOON};
use ledger_core::note::checkpoint::Checkpoint;
use ledger_core::note::cosignature::{CosignatureTime, cosign, split_timestamped};
use ledger_core::note::signed_note::Note;
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
async fn an_audit_names_entries_that_no_cosigners_clock_had_reached() {
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
    write("late", &[60, 90]);

    let report = cli.must(&["audit", "--json"]).json();
    let times = &report["times"];
    assert!(times["checkpoints"].as_u64() > Some(1), "{times}");
    assert_eq!(times["unproven_checkpoints"], 0, "{times}");
    assert_eq!(times["impossible"], 0, "{times}");
    assert_eq!(times["doubtful"], 0, "{times}");
    cli.must(&["audit", "--checkpoint", "late"]);

    let said = cli.must(&["audit", "--checkpoint", "one-early"]);
    assert!(said.out.contains("(in doubt)"), "{said:?}");
    let said = cli.run(&["audit", "--checkpoint", "early", "--json"]);
    assert_eq!(said.code, 14, "{said:?}");
    assert!(
        said.err.contains("dated later than every cosigner"),
        "{said:?}"
    );
    let times = &said.json()["times"];
    assert!(times["impossible"].as_u64() > Some(0), "{times}");
    let by = &times["conflicts"][0]["contradicted_by"];
    assert_eq!(by.as_array().map(Vec::len), Some(2), "{times}");

    // What is signed by no quorum says nothing.
    write("unproven", &[-60]);
    let report = cli
        .must(&["audit", "--checkpoint", "unproven", "--json"])
        .json();
    assert_eq!(report["times"]["unproven_checkpoints"], 1, "{report}");
}
