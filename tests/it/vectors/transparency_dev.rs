//! `transparency-dev/formats`: checkpoints, verifier keys, cosignature times and proof files.

use ledger_core::hash::{LeafIndex, TreeHash};
use ledger_core::note::checkpoint::{Checkpoint, CheckpointError};
use ledger_core::note::cosignature::split_timestamped;
use ledger_core::note::signed_note::{Note, NoteError, NoteSignature};
use ledger_core::note::tlog_proof::{TlogProof, TlogProofError};
use ledger_core::note::vkey::{VerifierKey, VkeyError};
use serde::Deserialize;

use super::{from_base64, read_json};

#[derive(Deserialize)]
struct Unmarshal {
    desc: String,
    body: String,
    rest: String,
    want_err: bool,
}

/// The checkpoint with its placeholder of a root replaced by a hash, which is what the specification demands there.
fn with_real_root(body: &str) -> String {
    let mut lines: Vec<String> = body.split('\n').map(str::to_owned).collect();
    if let Some(root) = lines.get_mut(2).filter(|root| root.ends_with("==")) {
        *root = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=".to_owned();
    }
    lines.join("\n")
}

#[test]
fn checkpoints_read_as_the_specification_says() {
    let file = "transparency-dev-formats/checkpoint-unmarshal.json";
    let Some(cases) = read_json::<Vec<Unmarshal>>(file) else {
        return;
    };
    let (mut read, mut refused, mut stricter) = (0, 0, 0);
    for case in &cases {
        // No root of these cases has 32 bytes, so that none of them is a checkpoint for us as it stands.
        assert!(Checkpoint::parse(&case.body).is_err(), "{}", case.desc);
        let text = with_real_root(&case.body);
        let result = Checkpoint::parse(&text);
        if case.want_err {
            assert!(result.is_err(), "{}", case.desc);
            refused += 1;
        } else if case.rest.starts_with('\n') {
            // tlog-checkpoint: extension lines must be non-empty. The Go code does not look at them.
            assert_eq!(result, Err(CheckpointError::Extensions), "{}", case.desc);
            stricter += 1;
        } else {
            let checkpoint = result.unwrap();
            let extensions: String = checkpoint
                .extensions()
                .map(|line| format!("{line}\n"))
                .collect();
            assert_eq!(extensions, case.rest, "{}", case.desc);
            assert_eq!(checkpoint.to_string(), text, "{}", case.desc);
            read += 1;
        }
    }
    assert_eq!((read, refused, stricter), (4, 7, 1));
}

#[derive(Deserialize)]
struct Vkey {
    name: String,
    vkey: String,
    want_err: bool,
}

#[test]
fn verifier_keys_of_our_types_parse_and_others_are_refused_for_their_type() {
    let Some(cases) = read_json::<Vec<Vkey>>("transparency-dev-formats/vkeys.json") else {
        return;
    };
    let (mut ours, mut other_types, mut refused) = (0, 0, 0);
    for case in &cases {
        let result = VerifierKey::parse(&case.vkey);
        if case.want_err {
            assert!(result.is_err(), "{}", case.name);
            refused += 1;
            continue;
        }
        let type_byte = from_base64(case.vkey.splitn(3, '+').nth(2).unwrap())[0];
        if [1, 4].contains(&type_byte) {
            assert_eq!(
                result.map(|key| key.to_string()),
                Ok(case.vkey.clone()),
                "{}",
                case.name
            );
            ours += 1;
        } else {
            assert_eq!(result, Err(VkeyError::Type(type_byte)), "{}", case.name);
            other_types += 1;
        }
    }
    assert_eq!((ours, other_types, refused), (3, 5, 10));
}

#[derive(Deserialize)]
struct Timestamp {
    name: String,
    sig_b64: String,
    want_err: bool,
    unix: Option<u64>,
}

#[test]
fn cosignature_times_read_as_in_go() {
    let file = "transparency-dev-formats/cosigv1-timestamp.json";
    let Some(cases) = read_json::<Vec<Timestamp>>(file) else {
        return;
    };
    for case in &cases {
        let line = format!("\u{2014} name {}", case.sig_b64);
        let signature = NoteSignature::parse(&line);
        let time = signature
            .as_ref()
            .ok()
            .and_then(|line| split_timestamped(line.signature()));
        let seconds = time.map(|(time, _)| time.seconds());
        assert_eq!(
            (seconds, seconds.is_none()),
            (case.unix, case.want_err),
            "{}",
            case.name
        );
    }
    assert_eq!(cases.len(), 3);
}

#[derive(Deserialize)]
struct StaticCt {
    checkpoint: String,
    vkey: String,
}

#[test]
fn a_static_ct_checkpoint_reads_though_its_signature_is_of_a_type_we_do_not_know() {
    let file = "transparency-dev-formats/static-ct-checkpoint.json";
    let Some(case) = read_json::<StaticCt>(file) else {
        return;
    };
    let note = Note::parse(case.checkpoint.as_bytes()).unwrap();
    let checkpoint = Checkpoint::parse(note.text()).unwrap();
    assert_eq!(
        (checkpoint.origin(), checkpoint.size().0),
        ("rome.ct.filippo.io/2024h1", 115_474_666)
    );
    assert_eq!(VerifierKey::parse(&case.vkey), Err(VkeyError::Type(5)));
    assert_eq!(note.open(&[]), Err(NoteError::Unverified));
}

#[derive(Deserialize)]
struct Proofs {
    good: Vec<GoodProof>,
    bad: Vec<BadProof>,
}

#[derive(Deserialize)]
struct GoodProof {
    name: String,
    index: u64,
    hashes: Vec<String>,
    checkpoint: String,
    extra: Option<String>,
    text: String,
}

#[derive(Deserialize)]
struct BadProof {
    name: String,
    proof: String,
    error: String,
}

#[test]
fn proof_files_read_and_print_as_in_go() {
    let Some(cases) = read_json::<Proofs>("transparency-dev-formats/tlog-proof.json") else {
        return;
    };
    for case in &cases.good {
        let proof = TlogProof::parse(case.text.as_bytes()).unwrap();
        assert_eq!(proof.to_string(), case.text, "{}", case.name);
        assert_eq!(proof.index, LeafIndex(case.index), "{}", case.name);
        let hashes: Vec<Vec<u8>> = proof
            .path
            .iter()
            .map(|hash| hash.as_bytes().to_vec())
            .collect();
        assert_eq!(
            hashes,
            case.hashes
                .iter()
                .map(|hash| from_base64(hash))
                .collect::<Vec<_>>()
        );
        assert_eq!(
            proof.extra,
            case.extra.clone().unwrap_or_default().into_bytes(),
            "{}",
            case.name
        );
        assert_eq!(proof.checkpoint, case.checkpoint, "{}", case.name);
        let leaf = TreeHash::Sha256.empty();
        let policy = ledger_core::note::tlog_policy::TlogPolicy::parse(b"quorum none\n").unwrap();
        assert!(
            proof.verify(&leaf, &policy).is_err(),
            "its checkpoint is a placeholder"
        );
    }
    for case in &cases.bad {
        let expected = match case.error.as_str() {
            "missing expected header" => TlogProofError::Header,
            "extra data not base64 encoded" => TlogProofError::Extra,
            "missing required index" | "not a valid uint64" => TlogProofError::Index,
            "hash not base64 encoded" | "hash length" => TlogProofError::Hash,
            // Go's line buffer is full; here the file ends before a checkpoint.
            "scanning tlog proof" => TlogProofError::NoCheckpoint,
            other => panic!("{}: unknown error {other}", case.name),
        };
        assert_eq!(
            TlogProof::parse(case.proof.as_bytes()),
            Err(expected),
            "{}",
            case.name
        );
    }
    assert_eq!((cases.good.len(), cases.bad.len()), (3, 8));
}
