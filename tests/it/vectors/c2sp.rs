//! The examples in the C2SP specifications. Several elide keys or signatures: those are completed with keys of our own, or
//! must be refused.

use std::fs;

use countersign_tests::shared_data::shared_data;
use ed25519_dalek::SigningKey;
use ledger_core::keys::PublicKey;
use ledger_core::note::checkpoint::Checkpoint;
use ledger_core::note::cosignature::split_timestamped;
use ledger_core::note::signed_note::{Note, NoteError, NoteSignature};
use ledger_core::note::tlog_policy::TlogPolicy;
use ledger_core::note::tlog_proof::{TlogProof, TlogProofError};
use ledger_core::note::vkey::{KeyType, VerifierKey};
use serde::Deserialize;

use super::read_json;

#[derive(Deserialize)]
struct Verifiable {
    vkey: String,
    note: String,
    expect: String,
}

#[test]
fn the_verifiable_examples_verify() {
    let Some(cases) = read_json::<Vec<Verifiable>>("c2sp-specs/verifiable.json") else {
        return;
    };
    for case in &cases {
        let key = VerifierKey::parse(&case.vkey).unwrap();
        let note = Note::parse(case.note.as_bytes()).unwrap();
        assert_eq!(note.open(&[&key]).is_ok(), case.expect == "valid");
        let altered = case.note.replacen("This", "That", 1);
        let note = Note::parse(altered.as_bytes()).unwrap();
        assert!(matches!(
            note.open(&[&key]),
            Err(NoteError::InvalidSignature(_))
        ));
    }
    assert_eq!(cases.len(), 1);
}

/// An example by its file name, or `None` after saying that it is skipped.
fn example(name: &str) -> Option<String> {
    let path = shared_data(&format!("vectors/c2sp-specs/examples/{name}.txt"))?;
    Some(fs::read_to_string(path).unwrap())
}

#[test]
fn there_are_as_many_examples_as_when_this_was_written() {
    let Some(directory) = shared_data("vectors/c2sp-specs/examples") else {
        return;
    };
    assert_eq!(fs::read_dir(directory).unwrap().count(), 18);
}

#[test]
fn the_notes_parse_and_print() {
    for (name, signatures) in [
        ("signed-note-0", 1),
        ("signed-note-1", 1),
        ("tlog-checkpoint-0", 1),
        ("tlog-cosignature-0", 2),
    ] {
        let Some(text) = example(name) else { return };
        let note = Note::parse(text.as_bytes()).unwrap();
        assert_eq!(
            (note.to_string(), note.signatures().len()),
            (text, signatures),
            "{name}"
        );
    }
}

#[test]
fn the_checkpoints_say_what_the_specification_says() {
    let Some(request) = example("tlog-witness-1") else {
        return;
    };
    let (_, submitted) = request.split_once("\n\n").unwrap();
    for text in [
        example("tlog-checkpoint-0"),
        example("tlog-cosignature-0"),
        Some(submitted.to_owned()),
    ] {
        let note = Note::parse(text.unwrap().as_bytes()).unwrap();
        let checkpoint = Checkpoint::parse(note.text()).unwrap();
        assert_eq!(
            (checkpoint.origin(), checkpoint.size().0),
            ("example.com/behind-the-sofa", 20_852_163)
        );
        assert_eq!(checkpoint.to_string(), note.text());
    }
}

#[test]
fn the_cosignatures_are_timestamped() {
    let Some(text) = example("tlog-cosignature-0") else {
        return;
    };
    let note = Note::parse(text.as_bytes()).unwrap();
    let times: Vec<_> = note
        .signatures()
        .iter()
        .map(|line| split_timestamped(line.signature()))
        .collect();
    let seconds: Vec<_> = times
        .iter()
        .map(|time| time.map(|(time, _)| time.seconds()))
        .collect();
    assert_eq!(seconds, [None, Some(1_679_315_147)]);
    // These have the right length, but random bytes for a time: beyond 2^63 - 1, which tlog-cosignature forbids, in two of
    // the three.
    for name in ["tlog-mirror-0", "tlog-witness-2"] {
        let text = example(name).unwrap();
        let read: Vec<_> = text
            .lines()
            .map(|line| NoteSignature::parse(line).unwrap())
            .collect();
        assert!(
            read.iter().all(|line| line.signature().len() == 72),
            "{name}"
        );
        let possible: Vec<_> = read
            .iter()
            .map(|line| split_timestamped(line.signature()).is_some())
            .collect();
        assert_eq!(possible, [false, false, true], "{name}");
    }
}

#[test]
fn placeholders_are_no_signatures() {
    for name in ["signed-note-2", "tlog-cosignature-1", "tlog-witness-3"] {
        let Some(text) = example(name) else { return };
        let line = text.lines().last().unwrap();
        assert_eq!(
            NoteSignature::parse(line),
            Err(NoteError::SignatureLine),
            "{name}"
        );
    }
    let witness = example("tlog-witness-0").unwrap();
    let (_, note) = witness.split_once("\n\n").unwrap();
    assert_eq!(Note::parse(note.as_bytes()), Err(NoteError::SignatureLine));
}

/// The text with each `<vkey>` replaced by another key: of the log first, of witnesses then.
fn with_keys(text: &str) -> String {
    let mut filled = String::new();
    for (part, seed) in text.split_inclusive("<vkey>").zip(1..) {
        let key_type = if seed == 1 {
            KeyType::Ed25519
        } else {
            KeyType::CosignatureV1
        };
        let signer = SigningKey::from_bytes(&[seed; 32]);
        let public_key = PublicKey::from_bytes(signer.verifying_key().as_bytes()).unwrap();
        let key = VerifierKey::new(&format!("example.com/{seed}"), key_type, public_key).unwrap();
        filled.push_str(&part.replace("<vkey>", &key.to_string()));
    }
    filled
}

#[test]
fn the_example_policy_means_what_the_specification_says() {
    let Some(text) = example("tlog-policy-0") else {
        return;
    };
    assert_eq!(
        TlogPolicy::parse(text.as_bytes()).unwrap_err().line,
        Some(1),
        "its keys are elided"
    );
    let policy = TlogPolicy::parse(with_keys(&text).as_bytes()).unwrap();
    assert_eq!((policy.logs().len(), policy.witnesses().len()), (1, 6));
    let met =
        |cosigned: &[&str]| policy.is_met_by(|witness| cosigned.contains(&witness.name.as_str()));
    assert!(met(&["X1", "X3", "Y2"]));
    assert!(!met(&["X1", "Y1", "Y2", "Y3"]));
    assert!(!met(&["X1", "X2", "X3"]));
    let none = example("tlog-policy-4").unwrap();
    assert_eq!(
        TlogPolicy::parse(none.as_bytes()).unwrap().to_string(),
        none
    );
    for template in [
        "tlog-policy-1",
        "tlog-policy-2",
        "tlog-policy-3",
        "tlog-policy-5",
    ] {
        let text = example(template).unwrap();
        assert_eq!(
            TlogPolicy::parse(text.as_bytes()).unwrap_err().line,
            Some(1),
            "{template}"
        );
    }
}

#[test]
fn the_example_proof_reads_but_for_what_it_elides() {
    let Some(text) = example("tlog-proof-0") else {
        return;
    };
    let proof = TlogProof::parse(text.as_bytes()).unwrap();
    assert_eq!((proof.index.0, proof.path.len()), (73_894, 5));
    assert_eq!(proof.to_string(), text);
    // Its signatures are elided.
    assert_eq!(
        Note::parse(proof.checkpoint.as_bytes()),
        Err(NoteError::SignatureLine)
    );
    let second_index = text.replacen("index 73894\n", "index 73894\nindex 73894\n", 1);
    assert_eq!(
        TlogProof::parse(second_index.as_bytes()),
        Err(TlogProofError::Hash)
    );
}
