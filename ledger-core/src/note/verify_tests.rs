//! Checkpoints under a trust policy, and proof files.

use proptest::prelude::*;

use super::checkpoint::{Checkpoint, CheckpointError};
use super::signed_note::{Note, NoteError, NoteSignature};
use super::test_keys::{LOG, cosigned, log_key, signing_key, time, witness_key, witness_name};
use super::tlog_policy::TlogPolicy;
use super::tlog_proof::{
    MAX_EXTRA_LEN, MAX_PROOF_HASHES, MAX_TLOG_PROOF_LEN, TlogProof, TlogProofError,
    TlogProofVerifyError,
};
use super::verify::{CheckpointVerifyError, ExtendError, VerifiedCheckpoint, verify_checkpoint};
use crate::hash::{Hash, LeafIndex, TreeHash, TreeSize};
use crate::tree::frontier::Frontier;
use crate::tree::proof::{MemoryTiles, Prover};
use crate::tree::verify::ProofError;

const BLAKE3_LOG: &str = "ledger.example.com/test/blake3";

/// Logs of seed 1 (SHA-256) and 9 (BLAKE3); two of the witnesses of seeds 2, 3, 4 are the quorum; 5 is outside it.
fn policy() -> TlogPolicy {
    let mut text = format!("log {}\nlog {}\n", log_key(LOG, 1), log_key(BLAKE3_LOG, 9));
    for seed in 2..=5 {
        text.push_str(&format!("witness w{seed} {}\n", witness_key(seed)));
    }
    text.push_str("group g 2 w2 w3 w4\nquorum g\n");
    TlogPolicy::parse(text.as_bytes()).unwrap()
}

fn leaf(hash: TreeHash, index: u64) -> Hash {
    hash.leaf(&index.to_be_bytes())
}

fn tree(hash: TreeHash, size: u64) -> (Hash, MemoryTiles) {
    let (mut frontier, mut tiles) = (Frontier::new(hash), MemoryTiles::new());
    (0..size).for_each(|index| tiles.store(&frontier.append(leaf(hash, index))));
    (frontier.root(), tiles)
}

fn checkpoint(origin: &str, size: u64) -> Checkpoint {
    let (root, _) = tree(TreeHash::of_origin(origin), size);
    Checkpoint::new(origin, TreeSize(size), root).unwrap()
}

fn note(checkpoint: &Checkpoint, log_seed: u8, witnesses: &[u8]) -> Note {
    let mut note = checkpoint.sign(&signing_key(log_seed)).unwrap();
    for seed in witnesses {
        note.add(cosigned(checkpoint, *seed, 1_000 + u64::from(*seed)))
            .unwrap();
    }
    note
}

fn verify(note: &Note) -> Result<VerifiedCheckpoint, CheckpointVerifyError> {
    verify_checkpoint(note.to_string().as_bytes(), &policy())
}

fn quorum_not_met(witnesses: &[&str]) -> CheckpointVerifyError {
    let witnesses = witnesses.iter().map(|name| (*name).to_owned()).collect();
    CheckpointVerifyError::QuorumNotMet { witnesses }
}

#[test]
fn a_checkpoint_with_a_quorum_is_believed_and_says_who_cosigned_when() {
    let checkpoint = checkpoint(LOG, 5);
    let verified = verify(&note(&checkpoint, 1, &[4, 5, 2])).unwrap();
    assert_eq!(verified.checkpoint(), &checkpoint);
    let by: Vec<_> = verified
        .cosignatures()
        .iter()
        .map(|by| (&*by.witness, by.time))
        .collect();
    assert_eq!(
        by,
        [
            ("w4", time(1_004)),
            ("w5", time(1_005)),
            ("w2", time(1_002))
        ]
    );
}

#[test]
fn less_than_a_quorum_is_not() {
    let checkpoint = checkpoint(LOG, 5);
    assert_eq!(verify(&note(&checkpoint, 1, &[])), Err(quorum_not_met(&[])));
    assert_eq!(
        verify(&note(&checkpoint, 1, &[3, 5])),
        Err(quorum_not_met(&["w3", "w5"]))
    );
    assert_eq!(
        verify(&note(&checkpoint, 1, &[3, 3, 3])),
        Err(quorum_not_met(&["w3"]))
    );
    assert_eq!(
        verify(&note(&checkpoint, 1, &[3, 6, 7, 8])),
        Err(quorum_not_met(&["w3"]))
    );
    let message = quorum_not_met(&["w3", "w5"]).to_string();
    assert_eq!(
        message,
        "the checkpoint does not have a quorum of cosignatures, only those of: w3, w5"
    );
}

#[test]
fn the_log_must_have_signed_under_the_origin() {
    let checkpoint = checkpoint(LOG, 5);
    let mut unsigned = Note::new(checkpoint.to_string()).unwrap();
    for seed in [2, 3] {
        unsigned.add(cosigned(&checkpoint, seed, 1)).unwrap();
    }
    assert_eq!(
        verify(&unsigned),
        Err(CheckpointVerifyError::NotSignedByLog)
    );
    // Another log of the policy, under its own name: its signature counts for its own checkpoints only.
    let other = NoteSignature::sign(unsigned.text(), BLAKE3_LOG, &signing_key(9)).unwrap();
    unsigned.add(other).unwrap();
    assert_eq!(
        verify(&unsigned),
        Err(CheckpointVerifyError::NotSignedByLog)
    );
    let foreign = self::checkpoint("other.example.com", 5);
    let unknown = CheckpointVerifyError::UnknownOrigin("other.example.com".to_owned());
    assert_eq!(verify(&note(&foreign, 1, &[2, 3])), Err(unknown));
}

#[test]
fn one_invalid_signature_of_a_known_witness_rejects_even_with_a_quorum() {
    let (right, other) = (checkpoint(LOG, 5), checkpoint(LOG, 6));
    let mut note = note(&right, 1, &[2, 3]);
    assert!(verify(&note).is_ok());
    note.add(cosigned(&other, 5, 1)).unwrap();
    let name = format!("{}+{}", witness_name(5), witness_key(5).id());
    let invalid = NoteError::InvalidSignature(name);
    assert_eq!(verify(&note), Err(CheckpointVerifyError::Note(invalid)));
}

#[test]
fn a_signed_note_about_something_else_is_no_checkpoint() {
    let text = format!("{LOG}\nnot a size\n");
    let mut note = Note::new(text.clone()).unwrap();
    note.add(NoteSignature::sign(&text, LOG, &signing_key(1)).unwrap())
        .unwrap();
    assert_eq!(
        verify(&note),
        Err(CheckpointVerifyError::Checkpoint(CheckpointError::Lines))
    );
}

#[test]
fn a_verified_checkpoint_proves_entries_and_older_checkpoints() {
    for (origin, log_seed) in [(LOG, 1), (BLAKE3_LOG, 9)] {
        let hash = TreeHash::of_origin(origin);
        let (_, tiles) = tree(hash, 11);
        let mut prover = Prover::new(&tiles, hash, TreeSize(11));
        let newer = verify(&note(&checkpoint(origin, 11), log_seed, &[2, 3])).unwrap();
        let path = prover.inclusion(LeafIndex(6)).unwrap();
        assert_eq!(newer.includes(&leaf(hash, 6), LeafIndex(6), &path), Ok(()));
        let elsewhere = newer.includes(&leaf(hash, 6), LeafIndex(7), &path);
        assert_eq!(elsewhere, Err(ProofError::RootMismatch));
        let proof = prover.consistency(TreeSize(7)).unwrap();
        assert_eq!(newer.extends(&checkpoint(origin, 7), &proof), Ok(()));
        let forked = Checkpoint::new(origin, TreeSize(7), leaf(hash, 0)).unwrap();
        assert_eq!(
            newer.extends(&forked, &proof),
            Err(ProofError::OlderRootMismatch.into())
        );
        assert_eq!(
            newer.extends(&checkpoint("other", 7), &proof),
            Err(ExtendError::Origin)
        );
    }
}

/// The proof file of entry 6 of a ledger of 11.
fn proof_file() -> TlogProof {
    let (_, tiles) = tree(TreeHash::Sha256, 11);
    let mut prover = Prover::new(&tiles, TreeHash::Sha256, TreeSize(11));
    TlogProof {
        index: LeafIndex(6),
        path: prover.inclusion(LeafIndex(6)).unwrap(),
        extra: b"extra data".to_vec(),
        checkpoint: note(&checkpoint(LOG, 11), 1, &[2, 3]).to_string(),
    }
}

#[test]
fn a_proof_file_reads_prints_and_verifies() {
    let file = proof_file();
    let text = file.to_string();
    assert!(text.starts_with("c2sp.org/tlog-proof@v1\nextra ZXh0cmEgZGF0YQ==\nindex 6\n"));
    assert_eq!(TlogProof::parse(text.as_bytes()), Ok(file.clone()));
    let leaf_hash = leaf(TreeHash::Sha256, 6);
    let verified = file.verify(&leaf_hash, &policy()).unwrap();
    assert_eq!(verified.checkpoint().size(), TreeSize(11));
    let other = leaf(TreeHash::Sha256, 7);
    assert_eq!(
        file.verify(&other, &policy()),
        Err(TlogProofVerifyError::Proof(ProofError::RootMismatch))
    );
    let unsigned = TlogProof {
        checkpoint: checkpoint(LOG, 11).to_string(),
        ..file
    };
    let expected = CheckpointVerifyError::Note(NoteError::NoSignatures);
    assert_eq!(unsigned.verify(&leaf_hash, &policy()), Err(expected.into()));
}

#[test]
fn each_broken_part_of_a_proof_file_is_named() {
    let text = proof_file().to_string();
    let first_hash = text.lines().nth(3).unwrap();
    for (broken, expected) in [
        (text.replace("@v1", "@v2"), TlogProofError::Header),
        (text.replace("@v1\n", "@v1\r\n"), TlogProofError::Header),
        (text.replace("extra Z", "extra  Z"), TlogProofError::Extra),
        (text.replace("extra Z", "extraZ"), TlogProofError::Extra),
        (text.replace("ZXh0cmEgZGF0YQ==", ""), TlogProofError::Extra),
        (text.replace("index 6\n", ""), TlogProofError::Index),
        (text.replace("index 6", "index 06"), TlogProofError::Index),
        (text.replace("index 6", "index -6"), TlogProofError::Index),
        (text.replace("index 6", "index 6 "), TlogProofError::Index),
        (
            text.replace("index 6", "index 18446744073709551616"),
            TlogProofError::Index,
        ),
        (
            text.replace(first_hash, &first_hash[4..]),
            TlogProofError::Hash,
        ),
        (
            text.replace(first_hash, &format!("{first_hash} ")),
            TlogProofError::Hash,
        ),
        (
            text.split_once("\n\n").unwrap().0.to_owned(),
            TlogProofError::NoCheckpoint,
        ),
    ] {
        assert_eq!(
            TlogProof::parse(broken.as_bytes()),
            Err(expected),
            "{broken}"
        );
    }
    assert_eq!(TlogProof::parse(b"\xff"), Err(TlogProofError::Utf8));
}

#[test]
fn limits_of_proof_files_are_errors_one_past_them() {
    let file = |extra: usize, hashes: usize| TlogProof {
        index: LeafIndex(u64::MAX),
        path: vec![Hash::from_bytes([1; 32]); hashes],
        extra: vec![1; extra],
        checkpoint: "x".repeat(super::signed_note::MAX_NOTE_LEN),
    };
    let parse = |file: &TlogProof| TlogProof::parse(file.to_string().as_bytes());
    let largest = file(MAX_EXTRA_LEN, MAX_PROOF_HASHES);
    assert_eq!(parse(&largest), Ok(largest));
    assert_eq!(
        parse(&file(MAX_EXTRA_LEN + 1, 0)),
        Err(TlogProofError::Extra)
    );
    assert_eq!(
        parse(&file(0, MAX_PROOF_HASHES + 1)),
        Err(TlogProofError::TooManyHashes)
    );
    let long = vec![b'x'; MAX_TLOG_PROOF_LEN + 1];
    assert_eq!(TlogProof::parse(&long), Err(TlogProofError::Length));
    assert_eq!(TlogProof::parse(&long[1..]), Err(TlogProofError::Header));
}

proptest! {
    #[test]
    fn no_flipped_bit_of_a_checkpoint_is_believed(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let mut bytes = note(&checkpoint(LOG, 5), 1, &[2, 3]).to_string().into_bytes();
        let position = at.index(bytes.len());
        bytes[position] ^= 1 << bit;
        prop_assert!(verify_checkpoint(&bytes, &policy()).is_err());
    }

    #[test]
    fn no_flipped_bit_of_a_proof_file_is_believed(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        // Without the extra data, which nothing authenticates.
        let file = TlogProof { extra: Vec::new(), ..proof_file() };
        let mut bytes = file.to_string().into_bytes();
        let position = at.index(bytes.len());
        bytes[position] ^= 1 << bit;
        let believed = TlogProof::parse(&bytes)
            .is_ok_and(|file| file.verify(&leaf(TreeHash::Sha256, 6), &policy()).is_ok());
        prop_assert!(!believed);
    }

    #[test]
    fn any_bytes_read_as_a_proof_file_without_panicking(
        bytes in prop::collection::vec(any::<u8>(), 0..100), body in "(extra [A-Z=]{0,8}\n)?(index [0-9]{0,3}\n)?[A-Z=]{0,44}\n?\n?[a\n]{0,5}",
    ) {
        drop(TlogProof::parse(&bytes));
        let text = format!("c2sp.org/tlog-proof@v1\n{body}");
        if let Ok(file) = TlogProof::parse(text.as_bytes()) {
            prop_assert_eq!(file.to_string(), text);
        }
    }
}
