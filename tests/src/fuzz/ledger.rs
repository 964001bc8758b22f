//! Entries and evidence: what travels to those who were not there.

use std::sync::OnceLock;

use ledger_core::evidence::{self, Sources};
use ledger_core::hash::{Hash, LeafIndex, TreeHash};
use ledger_core::id::Identity;
use ledger_core::note::checkpoint::Checkpoint;
use ledger_core::note::cosignature::{CosignatureTime, cosign};
use ledger_core::note::tlog_policy::TlogPolicy;
use ledger_core::tree::frontier::Frontier;
use ledger_core::tree::proof::{MemoryTiles, Prover};
use ledger_core::{canonical, entry};
use ledger_proto::v1::{self, CompartmentKind};
use prost::Message;

use super::machine::story;
use crate::kit::{ORIGIN, key, node_name};

/// Leaves of a tree made for evidence.
const MAX_SWORN: u64 = 48;

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
        assert_eq!(
            evidence::encode(&decoded),
            data,
            "one file for one evidence"
        );
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
    for evidence in found {
        if evidence::verify(&evidence, policy).is_ok() {
            assert_honest(&evidence);
        }
        if let Some(sworn) = sworn_to(evidence) {
            drop(evidence::verify(&sworn, policy));
        }
    }
}

/// The same evidence as a lying quorum would give it: every entry is proven, whatever it says, in a tree made for it. So the
/// verifier has to look at all of it.
fn sworn_to(mut evidence: v1::Evidence) -> Option<v1::Evidence> {
    let hash = TreeHash::Sha256;
    let mut leaves: Vec<Hash> = (0..MAX_SWORN)
        .map(|index| hash.leaf(&index.to_be_bytes()))
        .collect();
    for proven in &evidence.entries {
        *leaves.get_mut(usize::try_from(proven.index).ok()?)? = hash.leaf(&proven.entry);
    }
    let (mut frontier, mut tiles) = (Frontier::new(hash), MemoryTiles::new());
    for leaf in &leaves {
        tiles.store(&frontier.append(*leaf));
    }
    let mut prover = Prover::new(&tiles, hash, frontier.size());
    for proven in &mut evidence.entries {
        let path = prover.inclusion(LeafIndex(proven.index)).ok()?;
        proven.path = path.iter().map(|hash| hash.as_bytes().to_vec()).collect();
    }
    let checkpoint = Checkpoint::new(ORIGIN, frontier.size(), frontier.root()).ok()?;
    let mut note = checkpoint.sign(&key("log")).ok()?;
    for node in [1, 2] {
        let signer = key(&Identity::Node(node).to_string());
        let time = CosignatureTime::from_seconds(1).ok()?;
        note.add(cosign(&checkpoint, time, &node_name(ORIGIN, node), &signer).ok()?)
            .ok()?;
    }
    evidence.checkpoint = note.to_string();
    evidence.trust_steps.clear();
    Some(evidence)
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
