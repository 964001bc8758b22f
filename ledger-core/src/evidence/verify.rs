//! Checking evidence offline, with nothing but the evidence and a trust policy.

use ledger_proto::v1::{self, evidence::Subject};
use thiserror::Error;

use super::about_decision::explain_decision;
use super::about_session::explain_session;
use super::proven::{Proven, ProvenEntries, include, prove};
use super::report::{Basis, Report, utc};
use super::trust::follow;
use crate::canonical::CanonicalError;
use crate::compartment;
use crate::hash::LeafIndex;
use crate::limits::SECOND_US;
use crate::note::checkpoint::Checkpoint;
use crate::note::tlog_policy::TlogPolicy;
use crate::note::verify::{
    CheckpointVerifyError, VerifiedCheckpoint, verify_checkpoint, verify_log_signature,
};
use crate::tree::verify::ProofError;

/// Why evidence does not prove what it is about.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EvidenceError {
    /// A checkpoint is not one that the trust policy accepts.
    #[error("the checkpoint is not accepted: {0}")]
    Checkpoint(#[from] CheckpointVerifyError),
    /// The evidence, its checkpoint and the trust policy are not about one ledger.
    #[error("the evidence is about another ledger than its checkpoint or the trust policy")]
    Origin,
    /// An entry is not in the ledger at its index.
    #[error("entry {index} is not in the ledger that the checkpoint covers: {source}")]
    Inclusion {
        /// The leaf index.
        index: u64,
        /// What fails.
        source: ProofError,
    },
    /// A hash of a path does not have 32 bytes.
    #[error("the proof of entry {index} holds something that is not a hash")]
    PathShape {
        /// The leaf index.
        index: u64,
    },
    /// An entry that is in the ledger does not decode: the ledger is of a newer version.
    #[error("entry {index} does not decode ({source}); use a newer client")]
    Entry {
        /// The leaf index.
        index: u64,
        /// What fails.
        source: CanonicalError,
    },
    /// Entries, compartments or steps are not in order.
    #[error("the evidence is not in canonical order; fetch it again")]
    Order,
    /// Something that the proof rests on is not in the evidence.
    #[error("the evidence lacks entry {index}, {what}; fetch it again")]
    Missing {
        /// The leaf index.
        index: u64,
        /// What it would prove.
        what: &'static str,
    },
    /// A signature does not verify.
    #[error("entry {index}: a signature of the command does not verify")]
    Signature {
        /// The leaf index.
        index: u64,
    },
    /// Two things that the evidence says cannot both be true.
    #[error("entry {index}: {what}")]
    Contradiction {
        /// The leaf index.
        index: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A compartment is not what the command committed to.
    #[error("entry {index}: the content of a compartment is not what was committed to")]
    Compartment {
        /// The leaf index.
        index: u64,
    },
}

/// Checks evidence and explains what it proves.
///
/// # Errors
/// [`EvidenceError`]: then it proves nothing.
pub fn verify(evidence: &v1::Evidence, pinned: &TlogPolicy) -> Result<Report, EvidenceError> {
    let trust = follow(&evidence.origin, pinned, &evidence.trust_steps)?;
    let checkpoint = verify_checkpoint(evidence.checkpoint.as_bytes(), &trust.policy)?;
    let size = checkpoint.checkpoint().size();
    if let Some(index) = trust
        .last_index
        .filter(|last| !size.contains(LeafIndex(*last)))
    {
        let what = "the checkpoint is older than the trust policy that it is checked with";
        return Err(EvidenceError::Contradiction { index, what });
    }
    if checkpoint.checkpoint().origin() != evidence.origin {
        return Err(EvidenceError::Origin);
    }
    let entries = ProvenEntries::prove(&evidence.entries, &checkpoint)?;
    check_compartments(&entries, &evidence.compartments)?;

    let mut report = Report::default();
    describe_checkpoint(&mut report, &checkpoint, trust.epoch);
    match &evidence.subject {
        Some(Subject::Decision(index)) => {
            explain_decision(&mut report, &entries, *index, evidence)?;
        }
        Some(Subject::Session(id)) => explain_session(&mut report, &entries, id)?,
        None => return Err(EvidenceError::Order),
    }
    Ok(report)
}

/// Checks a receipt: that its entry is in the ledger that its checkpoint covers.
///
/// # Errors
/// [`EvidenceError::Checkpoint`] with `QuorumNotMet` for a provisional receipt: not yet a proof. Any other error: no proof.
pub fn verify_receipt(
    receipt: &v1::Receipt,
    policy: &TlogPolicy,
) -> Result<(v1::Entry, Checkpoint), EvidenceError> {
    let checkpoint = verify_checkpoint(receipt.checkpoint.as_bytes(), policy)?;
    let entry = receipt.entry.as_ref().ok_or(EvidenceError::Order)?;
    let proven = prove(entry, &checkpoint)?;
    Ok((proven.entry, checkpoint.checkpoint().clone()))
}

/// Checks a receipt that no quorum vouches for yet: that the log's key signed a tree which holds the entry. That is the word of
/// the node that answered, and no proof.
///
/// # Errors
/// [`EvidenceError`], never with `QuorumNotMet`.
pub fn verify_provisional(
    receipt: &v1::Receipt,
    policy: &TlogPolicy,
) -> Result<(v1::Entry, Checkpoint), EvidenceError> {
    let checkpoint = verify_log_signature(receipt.checkpoint.as_bytes(), policy)?;
    let entry = receipt.entry.as_ref().ok_or(EvidenceError::Order)?;
    let proven = include(entry, &checkpoint)?;
    Ok((proven.entry, checkpoint))
}

/// Follows changes of the trust policy from the one that the verifier pinned to the one in force at their end.
///
/// # Errors
/// [`EvidenceError`]: a step is missing, or not vouched for by the policy before it.
pub fn follow_trust(
    origin: &str,
    pinned: &TlogPolicy,
    steps: &[v1::TrustStep],
) -> Result<TlogPolicy, EvidenceError> {
    follow(origin, pinned, steps).map(|followed| followed.policy)
}

fn describe_checkpoint(report: &mut Report, checkpoint: &VerifiedCheckpoint, epoch: Option<u64>) {
    let note = checkpoint.checkpoint();
    report.add("ledger", note.origin(), Basis::Verified);
    let witnesses: Vec<String> = checkpoint
        .cosignatures()
        .iter()
        .map(|by| {
            format!(
                "{} at {}",
                by.witness,
                utc(by.time.seconds().saturating_mul(SECOND_US))
            )
        })
        .collect();
    let trust = epoch
        .map(|epoch| format!(", trust epoch {epoch}"))
        .unwrap_or_default();
    let value = format!(
        "size {}, root {}\ncosigned by {}{trust}",
        note.size(),
        note.root(),
        witnesses.join(", ")
    );
    report.add("checkpoint", value, Basis::Verified);
}

/// Every opened compartment must be what the entry's command commits to.
fn check_compartments(
    entries: &ProvenEntries,
    opened: &[v1::OpenedCompartment],
) -> Result<(), EvidenceError> {
    let mut last: Option<(u64, i32)> = None;
    for one in opened {
        let compartment = one.compartment.as_ref().ok_or(EvidenceError::Order)?;
        let place = (one.index, compartment.kind);
        if last.is_some_and(|last| last >= place) {
            return Err(EvidenceError::Order);
        }
        last = Some(place);
        let proven = entries.get(one.index, "the entry of a compartment")?;
        if !is_committed(proven, compartment) {
            return Err(EvidenceError::Compartment { index: one.index });
        }
    }
    Ok(())
}

fn is_committed(proven: &Proven, compartment: &v1::Compartment) -> bool {
    let commitments = proven
        .command
        .iter()
        .flat_map(|command| &command.commitments);
    let mut of_kind = commitments.filter(|commitment| commitment.kind == compartment.kind);
    of_kind.any(|commitment| compartment::matches(commitment, compartment))
}
