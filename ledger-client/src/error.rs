//! Why there is no answer: who is at fault, whether anything happened, and what to do.
//!
//! A denial is not an error; it is a [`Decision`](crate::decision::Decision).

use ledger_core::evidence::EvidenceError;
use ledger_core::note::verify::CheckpointVerifyError;
use thiserror::Error;

/// A call without an answer that can be trusted.
#[derive(Debug, Error)]
pub enum Error {
    /// A file, flag or variable of the caller is bad. Nothing was sent.
    #[error("{0}")]
    Configuration(String),
    /// The request is not valid and never will be. Nothing happened.
    #[error("{0}")]
    Invalid(String),
    /// The caller may not do this, or its key is not accepted. Nothing happened.
    #[error("{0}")]
    NotPermitted(String),
    /// What was asked for is not there.
    #[error("{0}")]
    NotFound(String),
    /// Nobody could answer. Nothing happened; try again.
    #[error("{0}")]
    Unavailable(String),
    /// It is not known whether there is an entry. Send the same request id again: it names at most one entry.
    #[error("{message}; whether anything happened is not known, send request {request_id} again")]
    Undetermined {
        /// The request id in hexadecimal digits.
        request_id: String,
        /// What went wrong.
        message: String,
    },
    /// An answer that does not prove what it says: the node that gave it is damaged, or lies. Do not act on it.
    #[error("the answer is not to be trusted: {0}")]
    Unproven(#[from] EvidenceError),
    /// An answer to another question.
    #[error("the answer is not to be trusted: {0}")]
    Contradiction(String),
    /// The ledger is not the one that was seen before: it was cut short, or forked.
    #[error("{0}")]
    Inconsistent(String),
    /// A decision that does not permit the action now.
    #[error("the action is not permitted: {0}")]
    NotAllowed(String),
    /// This machine failed: no randomness, a disk that cannot be written.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// True if a checkpoint only lacks a quorum of cosignatures, so that the receipt is provisional.
    pub(crate) const fn lacks_quorum(error: &EvidenceError) -> bool {
        matches!(
            error,
            EvidenceError::Checkpoint(CheckpointVerifyError::QuorumNotMet { .. })
        )
    }
}
