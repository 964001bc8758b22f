//! Why there is no answer: who is at fault, whether anything happened, and what to do.
//!
//! A denial is not an error; it is a [`Decision`](crate::decision::Decision).

use std::sync::Arc;

use ledger_core::evidence::EvidenceError;
use ledger_core::note::verify::CheckpointVerifyError;
use thiserror::Error;

/// A call without an answer that can be trusted.
#[derive(Debug, Clone, Error)]
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
    /// An answer that does not prove what it says: the node that gave it is damaged, or lies, or the trust policy is that of
    /// another ledger. Do not act on it.
    #[error("{}: {error}; {BLAME}, or the trust policy is another ledger's", lying(.by))]
    Unproven {
        /// What is wrong.
        error: EvidenceError,
        /// The endpoint that gave the answer, if it is known.
        by: Arc<str>,
    },
    /// An answer to another question, or one that contradicts itself. Do not act on it.
    #[error("{}: {what}; {BLAME}", lying(.by))]
    Contradiction {
        /// What is wrong.
        what: String,
        /// The endpoint that gave the answer, if it is known.
        by: Arc<str>,
    },
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

/// What to think of an answer that proves to be wrong, and what to do.
const BLAME: &str = "do not act on it and ask another node: this one is damaged or lies";

fn lying(by: &str) -> String {
    if by.is_empty() {
        "the answer is not to be trusted".to_owned()
    } else {
        format!("the answer of {by} is not to be trusted")
    }
}

impl From<EvidenceError> for Error {
    fn from(error: EvidenceError) -> Self {
        Self::Unproven {
            error,
            by: Arc::default(),
        }
    }
}

impl Error {
    /// An answer that contradicts itself or the question.
    pub(crate) fn contradiction(what: impl Into<String>) -> Self {
        Self::Contradiction {
            what: what.into(),
            by: Arc::default(),
        }
    }

    /// The same error, with the endpoint that gave the answer unless it is known already.
    #[must_use]
    pub(crate) fn of(mut self, endpoint: &Arc<str>) -> Self {
        if let Self::Unproven { by, .. } | Self::Contradiction { by, .. } = &mut self
            && by.is_empty()
        {
            *by = Arc::clone(endpoint);
        }
        self
    }

    /// The same error, about another request that went the same way.
    #[must_use]
    pub(crate) fn about(mut self, request: String) -> Self {
        if let Self::Undetermined { request_id, .. } = &mut self {
            *request_id = request;
        }
        self
    }

    /// True if a checkpoint only lacks a quorum of cosignatures, so that the receipt is provisional.
    pub(crate) const fn lacks_quorum(error: &EvidenceError) -> bool {
        matches!(
            error,
            EvidenceError::Checkpoint(CheckpointVerifyError::QuorumNotMet { .. })
        )
    }
}
