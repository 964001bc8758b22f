//! Endpoints that lie to the command line: each is found out, named, and leaves neither a yes nor a worse memory behind.

use std::path::PathBuf;
use std::sync::Arc;

use countersign_tests::cluster::cli::{Cli, Said};
use countersign_tests::cluster::liar::Liar;
use countersign_tests::cluster::people::Actor;
use countersign_tests::cluster::wait::until;
use countersign_tests::cluster::{Cluster, Options, SOON};
use countersign_tests::kit::key;
use ledger_client::paths;
use ledger_core::hash::{Hash, TreeSize};
use ledger_core::id::Identity;
use ledger_core::note::checkpoint::Checkpoint;
use ledger_core::note::cosignature::{CosignatureTime, cosign};
use ledger_core::note::signed_note::Note;
use ledger_core::signer::Signer;
use ledger_node::keyfile::KeyFile;
use ledger_proto::v1::{self, entry::Body};
use prost::Message as _;

/// A node, a liar before it, and somebody who asks.
struct Stage {
    cluster: Cluster,
    cli: Cli,
    liar: Liar,
    session: String,
}

impl Stage {
    async fn new(nodes: u64) -> Self {
        let options = Options {
            nodes,
            ..Options::default()
        };
        let (cluster, actors) = Cluster::with_actors(options, 1).await;
        let cli = Cli::of_admin(&cluster);
        let actor: &Actor = actors.first().expect("an actor");
        let _ = cli.key_file("agent.key", &Identity::Agent(actor.agent.clone()));
        let liar = Liar::before(cluster.file(1).client).await;
        let stage = Self {
            session: hex::encode(actor.session.to_vec()),
            cluster,
            cli,
            liar,
        };
        stage.cli.must(&["checkpoint"]);
        stage
    }

    /// Runs a command that knows no other endpoint than the liar.
    fn run(&self, arguments: &[&str]) -> Said {
        let endpoint = self.liar.endpoint();
        let more = ["--endpoints", &endpoint, "--timeout", "3"];
        self.cli.run(&[arguments, &more].concat())
    }

    fn must(&self, arguments: &[&str]) -> Said {
        let said = self.run(arguments);
        assert_eq!(said.code, 0, "{arguments:?}: {said:?}");
        said
    }

    /// Demands that a command ends with this code and one sentence that says all of this, that it says nothing else, and that
    /// the client still remembers the real ledger.
    fn fails(&self, arguments: &[&str], code: i32, says: &[&str]) {
        let before = self.remembered();
        let said = self.run(arguments);
        assert_eq!(said.code, code, "{arguments:?}: {said:?}");
        assert_eq!(said.out, "", "{arguments:?}");
        assert_eq!(said.err.lines().count(), 1, "{arguments:?}: {said:?}");
        for word in says {
            assert!(
                said.err.contains(word),
                "{arguments:?}: no {word:?}: {said:?}"
            );
        }
        let after = self.remembered();
        assert!(after.size() >= before.size(), "{before} became {after}");
        self.cli.must(&["checkpoint"]);
    }

    /// The same, and the sentence names the liar.
    fn finds_out(&self, arguments: &[&str], code: i32, says: &[&str]) {
        let who = format!(
            "the answer of {} is not to be trusted",
            self.liar.endpoint()
        );
        let says = [says, &[&who, "ask another node"]].concat();
        self.fails(arguments, code, &says);
    }

    fn memory(&self) -> PathBuf {
        let mut ledgers = std::fs::read_dir(self.cli.folder.join("state")).expect("a folder");
        let ledger = ledgers.next().expect("a ledger").expect("a ledger");
        ledger.path().join("checkpoint")
    }

    fn remembered(&self) -> Checkpoint {
        let note = std::fs::read(self.memory()).expect("a memory");
        let note = Note::parse(&note).expect("a note");
        Checkpoint::parse(note.text()).expect("a checkpoint")
    }

    fn asks<'a>(&'a self, action: &'a str, input: &'a str) -> Vec<&'a str> {
        let words = ["authorize", "--key", "agent.key", "--session"];
        let more = [&self.session, "--action", action, "--input", input];
        [&words[..], &more].concat()
    }

    fn reads(&self) -> Vec<&str> {
        self.asks("bank/read", r#"{"doc":"a"}"#)
    }

    fn pays_mallory(&self) -> Vec<&str> {
        self.asks("bank/pay", r#"{"to":"mallory","amount":1}"#)
    }

    /// Asks through the liar, who is honest about it, and gives the entry.
    fn allowed(&self) -> String {
        let asked = [&self.reads()[..], &["--json"]].concat();
        self.must(&asked).json()["index"].to_string()
    }

    /// Leaves a receipt with the signature of the log alone.
    fn without_cosignatures(&self) -> impl Fn(&mut Option<v1::Receipt>) + Clone + use<> {
        let log = Arc::new(self.log_key());
        move |receipt| {
            let receipt = receipt.as_mut().expect("a receipt");
            let note = Note::parse(receipt.checkpoint.as_bytes()).expect("a note");
            let checkpoint = Checkpoint::parse(note.text()).expect("a checkpoint");
            let signer: &dyn Signer = &*log;
            receipt.checkpoint = checkpoint.sign(signer).expect("signs").to_string();
        }
    }

    /// A checkpoint that everybody who can has signed: what a majority of nodes can forge.
    fn signed_by_all(&self, checkpoint: &Checkpoint) -> String {
        let mut note = checkpoint.sign(&self.log_key()).expect("signs");
        for node in self.cluster.nodes() {
            let files = self.cluster.file(node);
            let key = KeyFile::open(&files.folder.join("node.key")).expect("a key");
            let time = CosignatureTime::from_seconds(1).expect("a time");
            let name = files.card_message().name;
            note.add(cosign(checkpoint, time, &name, &key).expect("signs"))
                .expect("a signature");
        }
        note.to_string()
    }

    fn log_key(&self) -> KeyFile {
        KeyFile::open(&self.cluster.folder().join("log.key")).expect("a key")
    }

    fn shows_checkpoint(&self, note: &str) {
        let note = note.to_owned();
        self.liar
            .changes::<v1::GetCheckpointResponse>(paths::GET_CHECKPOINT, move |answer| {
                answer.checkpoint.clone_from(&note);
            });
    }
}

/// Makes another entry of the bytes of one.
fn forge(entry: &mut Option<v1::ProvenEntry>, change: impl Fn(&mut v1::Entry)) {
    let proven = entry.as_mut().expect("an entry");
    let mut entry = v1::Entry::decode(proven.entry.as_slice()).expect("an entry");
    change(&mut entry);
    proven.entry = entry.encode_to_vec();
}

/// What somebody would like to have been decided.
fn allow(entry: &mut v1::Entry) {
    let Some(Body::Decision(decision)) = &mut entry.body else {
        panic!("no decision: {entry:?}");
    };
    decision.set_verdict(v1::Verdict::Allow);
    decision.permit_expires_at_us = u64::MAX >> 1;
}

/// One bit of the time of an entry.
fn later(entry: &mut v1::Entry) {
    entry.time_us ^= 1;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_to_another_question_is_no_answer() {
    let stage = Stage::new(1).await;
    let (first, second) = (stage.allowed(), stage.allowed());

    stage.liar.repeats(paths::AUTHORIZE);
    stage.must(&stage.reads());
    let other = "answers another request than the one that was sent";
    stage.finds_out(&stage.pays_mallory(), 14, &[other]);
    stage.liar.is_honest();

    let record = |index| {
        [
            "record",
            index,
            "--key",
            "agent.key",
            "--status",
            "succeeded",
        ]
    };
    stage.liar.repeats(paths::RECORD);
    stage.must(&record(&first));
    stage.finds_out(&record(&second), 14, &[other]);
    stage.liar.is_honest();

    let given = format!("entry {first} was given for {second}");
    stage.liar.repeats(paths::GET_ENTRY);
    stage.must(&["entry", "show", &first]);
    stage.finds_out(&["entry", "show", &second], 14, &[&given]);
    stage.finds_out(&["payload", "show", &second], 14, &[&given]);
    stage.liar.is_honest();

    stage.liar.repeats(paths::GET_EVIDENCE);
    stage.must(&["prove", &first, "--out", "one"]);
    let about = "the evidence is about something else than was asked for";
    stage.finds_out(&["prove", &second, "--out", "two"], 14, &[about]);
    assert!(!stage.cli.folder.join("two").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_with_a_changed_byte_is_not_in_the_ledger() {
    let stage = Stage::new(1).await;
    let index = stage.allowed();
    let not_there = &["is not in the ledger that the checkpoint covers"][..];

    stage
        .liar
        .changes::<v1::AuthorizeResponse>(paths::AUTHORIZE, |answer| {
            forge(
                &mut answer.receipt.as_mut().expect("a receipt").entry,
                allow,
            );
        });
    stage.finds_out(&stage.pays_mallory(), 11, not_there);
    stage
        .liar
        .changes::<v1::RecordResponse>(paths::RECORD, |answer| {
            forge(
                &mut answer.receipt.as_mut().expect("a receipt").entry,
                later,
            );
        });
    let record = ["record", &index, "--key", "agent.key", "--status", "failed"];
    stage.finds_out(&record, 11, not_there);
    stage
        .liar
        .changes::<v1::GetEntryResponse>(paths::GET_ENTRY, |answer| {
            forge(
                &mut answer.receipt.as_mut().expect("a receipt").entry,
                later,
            );
        });
    stage.finds_out(&["entry", "show", &index], 11, not_there);
    stage
        .liar
        .changes::<v1::ListEntriesResponse>(paths::LIST_ENTRIES, |answer| {
            let mut last = answer.entries.pop();
            forge(&mut last, later);
            answer.entries.extend(last);
        });
    stage.finds_out(&["entry", "list"], 11, not_there);
    stage
        .liar
        .changes::<v1::FollowResponse>(paths::FOLLOW, |answer| {
            for entry in &mut answer.entries {
                let mut changed = Some(std::mem::take(entry));
                forge(&mut changed, later);
                *entry = changed.expect("an entry");
            }
        });
    let follow = ["follow", "--start", "1", "--count", "1"];
    stage.finds_out(&follow, 11, not_there);
    stage.fails(&["audit"], 14, &["entry 0 is not sound"]);
    stage.liar.is_honest();
    stage.must(&["audit", "--replay"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_an_answer_and_noise_are_no_answer() {
    let stage = Stage::new(1).await;
    let index = stage.allowed();
    let liar = stage.liar.endpoint();

    // Whoever sent a request has to learn its id.
    stage.liar.garbles(paths::AUTHORIZE, |said| {
        let half = said.len() / 2;
        said[..half].to_vec()
    });
    let unknown = [
        "whether anything happened is not known, send request ",
        &liar,
    ];
    stage.fails(&stage.reads(), 7, &unknown);
    stage.liar.garbles(paths::AUTHORIZE, |_| vec![0xff; 100]);
    stage.fails(&stage.reads(), 7, &unknown);
    let said = stage.run(&stage.reads());
    let id = said.err.split("send request ").nth(1).expect("an id");
    let id = id.split(' ').next().expect("an id");
    stage.liar.is_honest();
    let with_id = |asked: Vec<&str>| -> Vec<String> {
        let words = asked.into_iter().chain(["--request-id", id, "--json"]);
        words.map(str::to_owned).collect()
    };
    let again = with_id(stage.reads());
    let again: Vec<&str> = again.iter().map(String::as_str).collect();
    let other = with_id(stage.pays_mallory());
    let other: Vec<&str> = other.iter().map(String::as_str).collect();
    stage.fails(&other, 2, &["asked something else"]);
    let answer = stage.must(&again).json();
    assert_eq!(answer["request_id"], id);
    assert_eq!(
        (&answer["replayed"], &answer["permitted"]),
        (&true.into(), &true.into())
    );
    stage.liar.garbles(paths::AUTHORIZE, |_| Vec::new());
    stage.finds_out(&stage.reads(), 14, &["there is no receipt"]);

    stage
        .liar
        .garbles(paths::GET_CHECKPOINT, |_| vec![0xff; 100]);
    stage.fails(&["checkpoint"], 6, &["nothing happened", &liar]);
    stage.liar.garbles(paths::GET_CHECKPOINT, |_| Vec::new());
    stage.finds_out(&["checkpoint"], 10, &["the checkpoint is not accepted"]);
    stage.liar.is_honest();

    let prove = ["prove", &index, "--out", "evidence"];
    stage
        .liar
        .changes::<v1::GetEvidenceResponse>(paths::GET_EVIDENCE, |part| {
            part.chunk.pop();
        });
    stage.finds_out(&prove, 14, &["damaged"]);
    stage
        .liar
        .changes::<v1::GetEvidenceResponse>(paths::GET_EVIDENCE, |part| part.chunk.clear());
    stage.finds_out(&prove, 14, &["not an evidence file"]);
    assert!(!stage.cli.folder.join("evidence").exists());
    stage.liar.garbles(paths::FOLLOW, |_| vec![0xff; 100]);
    stage.fails(&["audit"], 6, &["the stream of entries broke off"]);

    // A command whose bytes are not kept: the ledger says whether it is there.
    stage.liar.garbles(paths::RECORD, |_| vec![0xff; 100]);
    let record = ["record", &index, "--key", "agent.key", "--status", "failed"];
    let look = ["not known (request ", "entry list --descending", &liar];
    stage.fails(&record, 7, &look);
    stage.liar.is_honest();
    let newest = ["entry", "list", "--json", "--descending", "--limit", "1"];
    assert_eq!(stage.must(&newest).json()["entries"][0]["kind"], "OUTCOME");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_checkpoint_and_a_forked_one_are_refused_and_kept_as_proof() {
    let stage = Stage::new(1).await;
    let old = stage.cli.must(&["checkpoint"]).out;
    let before = stage.remembered().size();
    let index = stage.allowed();
    until("a newer checkpoint is remembered", SOON, async || {
        stage.cli.must(&["checkpoint"]);
        (stage.remembered().size() > before).then_some(())
    })
    .await;
    let record = ["record", &index, "--key", "agent.key", "--status", "failed"];
    let prove = ["prove", &index, "--out", "evidence"];
    let show = ["entry", "show", &index];
    let everything: [&[&str]; 6] = [
        &["checkpoint"],
        &["audit"],
        &stage.reads(),
        &record,
        &prove,
        &show,
    ];

    stage.shows_checkpoint(&old);
    for command in everything {
        stage.fails(
            command,
            13,
            &["put back from an old copy", "find out which"],
        );
    }

    // The same size with another root, signed by everybody: somebody lies with a majority's keys.
    let seen = stage.remembered();
    let other = Checkpoint::new(seen.origin(), seen.size(), Hash::from_bytes([9; 32]));
    let forked = stage.signed_by_all(&other.expect("a checkpoint"));
    stage.shows_checkpoint(&forked);
    for command in everything {
        let says = ["two roots for one size", "the proof is in ", "keep both"];
        stage.fails(command, 13, &says);
    }
    let kept = std::fs::read_to_string(stage.memory().with_extension("contradicted"));
    assert_eq!(kept.expect("the proof is kept"), forked);
    assert!(!stage.cli.folder.join("evidence").exists());

    // A longer one that does not contain what was seen, with a proof that proves nothing, and with none.
    let size = TreeSize(seen.size().0 + 5);
    let longer = Checkpoint::new(seen.origin(), size, Hash::from_bytes([9; 32]));
    stage.shows_checkpoint(&stage.signed_by_all(&longer.expect("a checkpoint")));
    stage.fails(&["checkpoint"], 6, &["nothing happened"]);
    let path = vec![vec![7; 32]; 3];
    let proof = v1::GetConsistencyProofResponse { path };
    stage.liar.invents(paths::GET_CONSISTENCY_PROOF, &proof);
    for command in everything {
        let says = ["is not shown to contain", "the proof is in ", "keep both"];
        stage.fails(command, 13, &says);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_log_signed_is_not_this_ledger() {
    let stage = Stage::new(1).await;
    let seen = stage.remembered();
    let stranger = key("a log that nobody knows");
    let same_name = seen.sign(&stranger).expect("signs").to_string();
    let elsewhere = Checkpoint::new("ledger.test/elsewhere", seen.size(), seen.root());
    let elsewhere = elsewhere.expect("a checkpoint");
    let elsewhere = elsewhere.sign(&stranger).expect("signs").to_string();

    for (note, why) in [
        (same_name, "has no signature by a known key"),
        (elsewhere, "has no log called ledger.test/elsewhere"),
    ] {
        stage.shows_checkpoint(&note);
        stage.finds_out(&["checkpoint"], 10, &[why]);
        stage.finds_out(&["audit"], 10, &[why]);
        stage.liar.is_honest();
        stage
            .liar
            .changes::<v1::AuthorizeResponse>(paths::AUTHORIZE, move |answer| {
                let receipt = answer.receipt.as_mut().expect("a receipt");
                receipt.checkpoint.clone_from(&note);
            });
        stage.finds_out(&stage.reads(), 10, &[why]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_word_of_one_node_is_no_yes_where_a_quorum_was_asked_for() {
    let stage = Stage::new(3).await;
    let log = Arc::new(stage.log_key());
    let origin = stage.cluster.origin.clone();
    // A node has the log's key: it can make a whole ledger of its own, and cannot make others cosign it.
    stage
        .liar
        .changes::<v1::AuthorizeResponse>(paths::AUTHORIZE, move |answer| {
            let receipt = answer.receipt.as_mut().expect("a receipt");
            forge(&mut receipt.entry, |entry| {
                entry.index = 0;
                allow(entry);
            });
            let proven = receipt.entry.as_mut().expect("an entry");
            (proven.index, proven.path) = (0, Vec::new());
            let hash = Options::default().tree_hash;
            let root = hash.leaf(&proven.entry);
            let checkpoint = Checkpoint::new(&origin, TreeSize(1), root).expect("a checkpoint");
            let signer: &dyn Signer = &*log;
            receipt.checkpoint = checkpoint.sign(signer).expect("signs").to_string();
            receipt.set_level(v1::ReceiptLevel::Cosigned);
        });
    // A quorum's word is what a caller gets who asks for nothing else; and whoever takes less compares it with what was seen.
    let asked = [&stage.pays_mallory()[..], &["--json"]].concat();
    let said = stage.run(&asked);
    assert_eq!(said.code, 13, "{said:?}");
    assert_eq!(said.out, "");
    let asked = [&asked[..], &["--level", "committed"]].concat();
    let said = stage.run(&asked);
    assert_eq!(said.code, 13, "{said:?}");
    assert_eq!(said.out, "");
    assert!(said.err.contains("is not shown to contain"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_cannot_show_a_quorum_gives_no_yes_and_no_entry_that_is_done() {
    let stage = Stage::new(3).await;
    // It has the real ledger and keeps the cosignatures to itself.
    let bare = stage.without_cosignatures();
    let strip = bare.clone();
    stage
        .liar
        .changes::<v1::AuthorizeResponse>(paths::AUTHORIZE, move |answer| {
            strip(&mut answer.receipt);
        });
    let strip = bare.clone();
    stage
        .liar
        .changes::<v1::RecordResponse>(paths::RECORD, move |answer| strip(&mut answer.receipt));
    let asked = [&stage.reads()[..], &["--json"]].concat();
    let said = stage.run(&asked);
    assert_eq!(said.code, 3, "{said:?}");
    let answer = said.json();
    assert_eq!(answer["permitted"], false);
    assert_eq!(answer["level"], "COMMITTED");
    let why = answer["refusal"].as_str().expect("a reason");
    assert!(why.contains("a quorum was asked for"), "{why}");
    // Whoever takes one node's word gets it, where it fits to what was seen.
    let said = stage.must(&[&asked[..], &["--level", "committed"]].concat());
    let index = said.json()["index"].to_string();
    let record = ["record", &index, "--key", "agent.key", "--status", "failed"];
    let said = stage.run(&record);
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.err.contains("a quorum was asked for"), "{said:?}");
    stage.must(&[&record[..], &["--level", "committed"]].concat());
}

/// A permit has one redemption, which is not spent on what one node shows of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permit_is_not_redeemed_on_one_nodes_word() {
    let stage = Stage::new(3).await;
    // This client has seen no cosigned tree that holds the decision, and is shown none.
    let older = std::fs::read(stage.memory()).expect("a checkpoint");
    let index = stage.allowed();
    std::fs::write(stage.memory(), &older).expect("a file");
    let older = v1::GetCheckpointResponse {
        checkpoint: String::from_utf8(older).expect("a note"),
        ..v1::GetCheckpointResponse::default()
    };
    stage.liar.forges(paths::GET_CHECKPOINT, move |question| {
        let question = v1::GetCheckpointRequest::decode(question).expect("a question");
        let is_newest = question.min_tree_size == 0;
        Some(if is_newest {
            older.encode_to_vec()
        } else {
            vec![0xff]
        })
    });
    let bare = stage.without_cosignatures();
    stage
        .liar
        .changes::<v1::GetEntryResponse>(paths::GET_ENTRY, move |answer| bare(&mut answer.receipt));
    let input = r#"{"doc":"a"}"#;
    let redeem = ["redeem", &index, "--key", "agent.key", "--input", input];
    let said = stage.run(&redeem);
    assert_eq!((said.code, said.out.as_str()), (3, ""), "{said:?}");
    assert!(said.err.contains("it was not redeemed"), "{said:?}");
    stage.liar.is_honest();
    stage.must(&redeem);
}
