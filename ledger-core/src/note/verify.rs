//! Deciding whether to believe a checkpoint: the log's signature, and a quorum of cosignatures.
//!
//! A [`VerifiedCheckpoint`] is only made here, so that code which holds one need not ask again. Size and root of every
//! proof come from it. What it does not say is whether this is the ledger's newest checkpoint, or consistent with one
//! seen before: that the verifier compares with what it remembers.

use thiserror::Error;

use super::checkpoint::{Checkpoint, CheckpointError};
use super::cosignature::CosignatureTime;
use super::signed_note::{Note, NoteError};
use super::tlog_policy::TlogPolicy;
use super::vkey::VerifierKey;
use crate::hash::{Hash, LeafIndex};
use crate::tree::verify::{ProofError, verify_consistency, verify_inclusion};

/// A checkpoint that a trust policy accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedCheckpoint {
    checkpoint: Checkpoint,
    cosignatures: Vec<VerifiedCosignature>,
}

/// A cosignature that is valid under the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedCosignature {
    /// The witness's name in the policy.
    pub witness: String,
    /// Its key.
    pub key: VerifierKey,
    /// When it says that it signed.
    pub time: CosignatureTime,
}

impl VerifiedCheckpoint {
    /// Origin, size and root.
    #[must_use]
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Which witnesses cosigned and when, in the order of their signatures; those beyond the quorum included.
    #[must_use]
    pub fn cosignatures(&self) -> &[VerifiedCosignature] {
        &self.cosignatures
    }

    /// Checks that a leaf is in the ledger, at this index.
    ///
    /// # Errors
    /// [`ProofError`], see [`verify_inclusion`].
    pub fn includes(
        &self,
        leaf_hash: &Hash,
        index: LeafIndex,
        path: &[Hash],
    ) -> Result<(), ProofError> {
        let checkpoint = &self.checkpoint;
        let (size, root) = (checkpoint.size(), checkpoint.root());
        verify_inclusion(checkpoint.tree_hash(), leaf_hash, index, size, path, &root)
    }

    /// Checks that an older checkpoint of the same ledger is a prefix of this one.
    ///
    /// # Errors
    /// [`ExtendError::Origin`] for a checkpoint of another ledger, or [`ProofError`], see [`verify_consistency`].
    pub fn extends(&self, older: &Checkpoint, proof: &[Hash]) -> Result<(), ExtendError> {
        let newer = &self.checkpoint;
        if older.origin() != newer.origin() {
            return Err(ExtendError::Origin);
        }
        let (older_root, newer_root) = (older.root(), newer.root());
        let hash = newer.tree_hash();
        Ok(verify_consistency(
            hash,
            older.size(),
            &older_root,
            newer.size(),
            &newer_root,
            proof,
        )?)
    }
}

/// Checks a signed checkpoint against a trust policy (C2SP tlog-policy, tlog-proof, "Verifying a tlog proof").
///
/// The note must be signed by a log of the policy whose key name is the checkpoint's origin, and cosigned by witnesses
/// that meet the quorum. A signature that bears the name and id of such a key and is not by it rejects the note, whether
/// or not the quorum needs it; so does one by a witness outside the quorum.
///
/// # Errors
/// [`CheckpointVerifyError`] says which of these fails.
pub fn verify_checkpoint(
    note: &[u8],
    policy: &TlogPolicy,
) -> Result<VerifiedCheckpoint, CheckpointVerifyError> {
    let opened = open(note, policy)?;
    let has_cosigned = |name: &str| opened.cosignatures.iter().any(|by| by.witness == name);
    if !policy.is_met_by(|witness| has_cosigned(&witness.name)) {
        let witnesses = opened.cosignatures.into_iter().map(|by| by.witness);
        return Err(CheckpointVerifyError::QuorumNotMet {
            witnesses: witnesses.collect(),
        });
    }
    Ok(opened)
}

/// The same, as if every witness outside had cosigned: those that the policy names with a URL, where they are asked. What is left to
/// meet is the part of the nodes, and a witness demands it before it cosigns. A policy that asks nothing of nodes is met by the log
/// alone.
///
/// # Errors
/// As [`verify_checkpoint`].
pub fn verify_checkpoint_of_nodes(
    note: &[u8],
    policy: &TlogPolicy,
) -> Result<Checkpoint, CheckpointVerifyError> {
    let opened = open(note, policy)?;
    let has_cosigned = |name: &str| opened.cosignatures.iter().any(|by| by.witness == name);
    if policy.is_met_by(|witness| witness.url.is_some() || has_cosigned(&witness.name)) {
        return Ok(opened.checkpoint);
    }
    let witnesses = opened.cosignatures.into_iter().map(|by| by.witness);
    Err(CheckpointVerifyError::QuorumNotMet {
        witnesses: witnesses.collect(),
    })
}

/// Checks the log's signature on a checkpoint, and whatever cosignatures it has, but asks for no quorum. What it says is the
/// word of whoever holds the log's key: some node of the ledger. It proves nothing to anybody else.
///
/// # Errors
/// [`CheckpointVerifyError`], never `QuorumNotMet`.
pub fn verify_log_signature(
    note: &[u8],
    policy: &TlogPolicy,
) -> Result<Checkpoint, CheckpointVerifyError> {
    open(note, policy).map(|opened| opened.checkpoint)
}

/// Everything but the quorum.
fn open(note: &[u8], policy: &TlogPolicy) -> Result<VerifiedCheckpoint, CheckpointVerifyError> {
    let note = Note::parse(note)?;
    let checkpoint = Checkpoint::parse(note.text())?;
    let is_log = |key: &VerifierKey| key.name() == checkpoint.origin();
    let mut keys: Vec<&VerifierKey> = policy
        .logs()
        .iter()
        .map(|log| &log.key)
        .filter(|key| is_log(key))
        .collect();
    if keys.is_empty() {
        return Err(CheckpointVerifyError::UnknownOrigin(
            checkpoint.origin().to_owned(),
        ));
    }
    keys.extend(policy.witnesses().iter().map(|witness| &witness.key));
    let opened = note.open(&keys)?;

    let mut cosignatures = Vec::new();
    let mut log_has_signed = false;
    for signature in &opened.verified {
        // Only cosignatures have a time: witnesses have keys for nothing else, and logs have none for them.
        let Some(time) = signature.time else {
            log_has_signed = true;
            continue;
        };
        let by = policy
            .witnesses()
            .iter()
            .filter(|witness| witness.key == *signature.key);
        cosignatures.extend(by.map(|witness| VerifiedCosignature {
            witness: witness.name.clone(),
            key: witness.key.clone(),
            time,
        }));
    }
    if !log_has_signed {
        return Err(CheckpointVerifyError::NotSignedByLog);
    }
    Ok(VerifiedCheckpoint {
        checkpoint,
        cosignatures,
    })
}

/// Why a checkpoint is not believed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CheckpointVerifyError {
    /// Not a note, or a signature is invalid.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// A note about something else.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The policy has no log with this origin.
    #[error("the trust policy has no log called {0}")]
    UnknownOrigin(String),
    /// Witnesses have signed, but not the log.
    #[error("the checkpoint is not signed by its log")]
    NotSignedByLog,
    /// Too few witnesses have cosigned.
    #[error("the checkpoint does not have a quorum of cosignatures, only those of: {}", witnesses.join(", "))]
    QuorumNotMet {
        /// Who has cosigned, by their names in the policy.
        witnesses: Vec<String>,
    },
}

/// Why an older checkpoint is not a prefix of a newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ExtendError {
    /// Checkpoints of two ledgers say nothing about each other.
    #[error("the checkpoints are of different ledgers")]
    Origin,
    /// The proof fails.
    #[error(transparent)]
    Proof(#[from] ProofError),
}
