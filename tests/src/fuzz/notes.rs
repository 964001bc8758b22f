//! Signed notes, checkpoints, proof files and trust policies: texts from others.

use std::sync::OnceLock;

use ledger_core::note::checkpoint::Checkpoint;
use ledger_core::note::signed_note::{Note, NoteSignature};
use ledger_core::note::tlog_policy::TlogPolicy;
use ledger_core::note::tlog_proof::TlogProof;
use ledger_core::note::tlog_witness::{AddCheckpoint, parse_size};
use ledger_core::note::verify::verify_checkpoint;
use ledger_core::note::vkey::VerifierKey;

use super::ledger::told_evidence;
use super::machine::story;

/// The one checkpoint that the log of the story has signed.
pub(super) fn told_checkpoint() -> &'static str {
    static TOLD: OnceLock<String> = OnceLock::new();
    TOLD.get_or_init(|| story().world.checkpoint(&[1, 2]))
}

/// Notes, checkpoints and proof files print as they were read, and no forged checkpoint is believed.
///
/// # Panics
/// If not.
pub fn target_note(data: &[u8]) {
    let (policy, _) = told_evidence();
    if let Ok(note) = Note::parse(data) {
        assert_eq!(
            note.to_string().as_bytes(),
            data,
            "a note prints as it was read"
        );
        if let Ok(checkpoint) = Checkpoint::parse(note.text()) {
            assert_eq!(checkpoint.to_string(), note.text());
        }
        for signature in note.signatures() {
            assert_eq!(
                NoteSignature::parse(&signature.to_string()).as_ref(),
                Ok(signature)
            );
        }
        let keys: Vec<&VerifierKey> = policy.witnesses().iter().map(|by| &by.key).collect();
        drop(note.open(&keys));
    }
    if let Ok(verified) = verify_checkpoint(data, policy) {
        let text = format!("{}\n", verified.checkpoint());
        assert!(
            told_checkpoint().starts_with(&text),
            "a checkpoint that nobody signed was believed"
        );
    }
    if let Ok(asked) = AddCheckpoint::parse(data) {
        let printed = asked.to_string();
        assert_eq!(
            printed.as_bytes(),
            data,
            "a request to a witness prints as it was read"
        );
    }
    let _ = parse_size(data);
    if let Ok(proof) = TlogProof::parse(data) {
        assert_eq!(
            proof.to_string().as_bytes(),
            data,
            "a proof prints as it was read"
        );
        for told in &story().told {
            if proof.verify(&told.appended.leaf_hash, policy).is_ok() {
                assert_eq!(proof.index, told.appended.index, "proven at another place");
            }
        }
    }
}

/// A trust policy prints in a canonical form that reads as the same policy. More cosignatures never turn yes into no.
///
/// # Panics
/// If not.
pub fn target_tlog_policy(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(key) = VerifierKey::parse(text)
    {
        assert_eq!(key.to_string(), text, "a key prints as it was read");
    }
    let Ok(policy) = TlogPolicy::parse(data) else {
        return;
    };
    let printed = policy.to_string();
    let again = TlogPolicy::parse(printed.as_bytes()).expect("the canonical form parses");
    assert_eq!(again, policy);
    assert_eq!(again.to_string(), printed);

    let names: Vec<String> = policy
        .witnesses()
        .iter()
        .map(|by| by.name.clone())
        .collect();
    let mut was_met = policy.is_met_by(|_| false);
    for count in 1..=names.len() {
        let is_met = policy.is_met_by(|by| names.iter().take(count).any(|name| *name == by.name));
        assert!(is_met || !was_met, "one more cosignature lost the quorum");
        was_met = is_met;
    }
    drop(verify_checkpoint(told_checkpoint().as_bytes(), &policy));
}
