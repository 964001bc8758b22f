//! Entries and evidence: what travels to those who were not there.

use std::sync::OnceLock;

use ledger_core::evidence::{self, Sources};
use ledger_core::hash::LeafIndex;
use ledger_core::note::tlog_policy::TlogPolicy;
use ledger_core::{canonical, entry};
use ledger_proto::v1::{self, CompartmentKind};
use prost::Message;

use super::machine::story;

/// An entry decodes only from the bytes that encoding gives, and every question can be asked of it.
///
/// # Panics
/// If not.
pub fn target_entry(data: &[u8]) {
    let Ok(decoded) = entry::decode(data) else {
        return;
    };
    assert_eq!(decoded.encode_to_vec(), data, "canonical");
    if let Ok(Some(command)) = entry::command(&decoded) {
        let bytes = &decoded.signed.as_ref().expect("a command").command;
        assert_eq!(command.encode_to_vec(), *bytes, "canonical");
    }
    let _ = (
        entry::chain(&decoded),
        entry::session(&decoded),
        entry::namespace(&decoded),
    );
}

/// The trust policy and the evidence of the story: of its allowed decision, and of its sealed session.
pub(super) fn told_evidence() -> &'static (TlogPolicy, [v1::Evidence; 2]) {
    static TOLD: OnceLock<(TlogPolicy, [v1::Evidence; 2])> = OnceLock::new();
    TOLD.get_or_init(|| {
        let story = story();
        let checkpoint = story.world.checkpoint(&[1, 2]);
        let sources = || Sources {
            state: &story.world.state,
            checkpoint: &checkpoint,
            trust_checkpoints: &[],
            compartments: &[CompartmentKind::Resource, CompartmentKind::Context],
        };
        let decision = evidence::decision(sources(), story.allowed).expect("evidence");
        let leaves =
            evidence::session_leaves(&story.world.state, story.sealed_session).expect("sound");
        let session = evidence::session(sources(), story.sealed_session, &leaves);
        let policy = story.world.trust_policy();
        let policy = TlogPolicy::parse(policy.as_bytes()).expect("a policy");
        (policy, [decision, session.expect("evidence")])
    })
}

/// Evidence in its three forms (file, JSON, and the bare message, so that the digest does not keep the fuzzer out). What
/// verifies can only speak of entries that are in the ledger.
///
/// # Panics
/// If it speaks of others.
pub fn target_evidence(data: &[u8]) {
    let mut found: Vec<v1::Evidence> = Vec::new();
    if let Ok(decoded) = evidence::decode(data) {
        assert_eq!(evidence::encode(&decoded), data, "one file for one evidence");
        found.push(decoded);
    }
    if let Some(decoded) = std::str::from_utf8(data)
        .ok()
        .and_then(|text| evidence::from_json(text).ok())
    {
        let again = evidence::from_json(&evidence::to_json(&decoded));
        assert_eq!(again.as_ref(), Ok(&decoded));
        found.push(decoded);
    }
    if let Ok(decoded) = canonical::decode::<v1::Evidence>(data, evidence::MAX_EVIDENCE_LEN) {
        let again = evidence::decode(&evidence::encode(&decoded));
        assert_eq!(again.as_ref(), Ok(&decoded));
        found.push(decoded);
    }
    let (policy, _) = told_evidence();
    for evidence in &found {
        if evidence::verify(evidence, policy).is_ok() {
            assert_honest(evidence);
        }
    }
}

/// Nobody but the story's log has signed checkpoints, so evidence that verifies holds the story's entries only.
fn assert_honest(evidence: &v1::Evidence) {
    let state = &story().world.state;
    for proven in &evidence.entries {
        let told = ledger_core::ledger::entry_bytes(state, LeafIndex(proven.index));
        assert_eq!(
            told.expect("sound"),
            Some(proven.entry.clone()),
            "evidence of an entry that was never made"
        );
    }
}
