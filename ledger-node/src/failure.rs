//! How calls fail: every reason with its gRPC code, what happened, and what to do. Whatever a client is told of a
//! refusal is made here.
//!
//! `proto/countersign/v1/call.proto` is the reference for the table; a test compares the two.

use std::collections::HashMap;
use std::time::Duration;

use ledger_core::machine::Refusal;
use ledger_proto::v1::{self, CallOutcome, ErrorReason, Retry};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The `domain` of every error.
pub const ERROR_DOMAIN: &str = "countersign";

/// A call that has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Why.
    pub reason: ErrorReason,
    /// One sentence for people: what is wrong and what to do.
    pub message: String,
    /// How long to wait before trying again; none for no wait.
    pub retry_after: Option<Duration>,
}

/// The result of a call.
pub type Answer<T> = Result<T, Failure>;

/// The result of a call as gRPC has it.
pub type Reply<T> = Result<tonic::Response<T>, Status>;

/// What comes in answer to a call, piece by piece.
pub type Pieces<T> =
    std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send + 'static>>;

impl Failure {
    /// A failure without a wait.
    pub fn new(reason: ErrorReason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            retry_after: None,
        }
    }

    /// The same failure, to be tried again after a while.
    #[must_use]
    pub const fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The same failure of a call whose command is in the ledger, or may be: that nothing happened must not be said any more.
    #[must_use]
    pub fn once_brought(self) -> Self {
        let (_, outcome, _) = Self::meaning(self.reason);
        match outcome {
            CallOutcome::Nothing => Self {
                reason: ErrorReason::Undetermined,
                message: format!(
                    "{}; what was sent is in the ledger or may be: retry with the same request id",
                    self.message
                ),
                retry_after: self.retry_after,
            },
            CallOutcome::Unspecified | CallOutcome::Recorded | CallOutcome::Undetermined => self,
        }
    }

    /// The gRPC code of a reason, what it did, and what to do about it.
    #[must_use]
    pub const fn meaning(reason: ErrorReason) -> (Code, CallOutcome, Retry) {
        use CallOutcome::{Nothing, Recorded, Undetermined};
        use Retry::{NewId, No, SameId};
        match reason {
            ErrorReason::CommandMalformed
            | ErrorReason::CommandMismatch
            | ErrorReason::SignaturesMalformed
            | ErrorReason::ArgumentInvalid
            | ErrorReason::PageTokenInvalid => (Code::InvalidArgument, Nothing, No),
            ErrorReason::SignatureInvalid
            | ErrorReason::KeyUnknown
            | ErrorReason::AuthorNotSigned
            | ErrorReason::SignersMismatch
            | ErrorReason::ReadSignatureInvalid => (Code::Unauthenticated, Nothing, No),
            ErrorReason::KeyNotActive => (Code::Unauthenticated, Nothing, NewId),
            ErrorReason::ReadSignatureMissing | ErrorReason::ReadTimeOutOfRange => {
                (Code::Unauthenticated, Nothing, SameId)
            }
            ErrorReason::RequestStale => (Code::FailedPrecondition, Nothing, NewId),
            ErrorReason::RequestIdReused => (Code::AlreadyExists, Nothing, NewId),
            ErrorReason::QuotaExceeded | ErrorReason::QueueFull => {
                (Code::ResourceExhausted, Nothing, SameId)
            }
            ErrorReason::ReadNotPermitted => (Code::PermissionDenied, Nothing, No),
            ErrorReason::NotFound => (Code::NotFound, Nothing, No),
            ErrorReason::BeyondTree => (Code::OutOfRange, Nothing, SameId),
            ErrorReason::NoQuorum | ErrorReason::NotReady => (Code::Unavailable, Nothing, SameId),
            ErrorReason::Undetermined => (Code::DeadlineExceeded, Undetermined, SameId),
            ErrorReason::AnswerTooLarge => (Code::ResourceExhausted, Recorded, SameId),
            ErrorReason::NotSupported => (Code::Unimplemented, Nothing, No),
            ErrorReason::DataDamaged => (Code::DataLoss, Nothing, SameId),
            ErrorReason::Internal | ErrorReason::Unspecified => {
                (Code::Internal, Undetermined, SameId)
            }
        }
    }

    /// The failure of one item among many.
    #[must_use]
    pub fn to_call_error(&self) -> v1::CallError {
        let (code, outcome, retry) = Self::meaning(self.reason);
        let wait = self.retry_after.unwrap_or_default().as_millis();
        v1::CallError {
            code: u32::try_from(i32::from(code)).unwrap_or_default(),
            reason: self.reason.into(),
            outcome: outcome.into(),
            retry: retry.into(),
            retry_after_ms: u64::try_from(wait).unwrap_or(u64::MAX),
            message: self.message.clone(),
        }
    }
}

/// What a refusal of the machine is called outside.
impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let reason = match refusal {
            Refusal::Undecodable => ErrorReason::CommandMalformed,
            Refusal::SignatureForm => ErrorReason::SignaturesMalformed,
            Refusal::UnknownKey => ErrorReason::KeyUnknown,
            Refusal::KeyNotActive => ErrorReason::KeyNotActive,
            Refusal::BadSignature => ErrorReason::SignatureInvalid,
            Refusal::SignersMismatch => ErrorReason::SignersMismatch,
            Refusal::NotByAuthor => ErrorReason::AuthorNotSigned,
            Refusal::RequestIdReused => ErrorReason::RequestIdReused,
            Refusal::Stale => ErrorReason::RequestStale,
        };
        Self::new(reason, refusal.to_string())
    }
}

/// Reading the state failed: this node's bytes are damaged.
impl From<ledger_core::state::StateError> for Failure {
    fn from(error: ledger_core::state::StateError) -> Self {
        tracing::error!(%error, "stored state is damaged");
        Self::new(
            ErrorReason::DataDamaged,
            "bytes stored on this node are damaged; ask another node",
        )
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let (code, outcome, retry) = Failure::meaning(failure.reason);
        let metadata = HashMap::from([
            (
                "outcome".to_owned(),
                short(outcome.as_str_name(), "CALL_OUTCOME_"),
            ),
            ("retry".to_owned(), short(retry.as_str_name(), "RETRY_")),
        ]);
        let reason = failure.reason.as_str_name();
        let mut details = ErrorDetails::with_error_info(
            reason.strip_prefix("ERROR_REASON_").unwrap_or(reason),
            ERROR_DOMAIN,
            metadata,
        );
        if let Some(wait) = failure.retry_after {
            details.set_retry_info(Some(wait));
        }
        Self::with_error_details(code, failure.message, details)
    }
}

fn short(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase()
}

/// A field of the request is not valid.
pub fn argument(message: impl Into<String>) -> Failure {
    Failure::new(ErrorReason::ArgumentInvalid, message)
}

/// There is no such thing, or none that the caller may know of.
#[must_use]
pub fn not_found(what: &str) -> Failure {
    Failure::new(ErrorReason::NotFound, format!("there is no such {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTRACT: &str = include_str!("../../proto/proto/countersign/v1/call.proto");

    /// The table as the contract has it: above each reason, "CODE, outcome, retry: ...".
    fn contract() -> Vec<(String, String)> {
        let mut rows = Vec::new();
        let mut comment = String::new();
        let body = CONTRACT.split_once("enum ErrorReason {").unwrap().1;
        for line in body.split_once("\n}").unwrap().0.lines().map(str::trim) {
            if let Some(text) = line.strip_prefix("// ") {
                comment.push_str(text);
                comment.push(' ');
            } else if let Some((name, _)) = line.split_once(" = ") {
                rows.push((name.to_owned(), std::mem::take(&mut comment)));
            }
        }
        rows
    }

    #[test]
    fn every_reason_means_what_the_contract_says() {
        let rows = contract();
        assert!(rows.len() > 25);
        for (name, comment) in rows.iter().skip(1) {
            let reason = ErrorReason::from_str_name(name).unwrap();
            let status = Status::from(Failure::new(reason, "why"));
            let info = status.get_error_details().error_info().unwrap().clone();
            let code = format!("{:?}", status.code()).to_uppercase();
            let (said, _) = comment.split_once(':').unwrap();
            let said: Vec<&str> = said.split(", ").collect();
            let same = said[0].replace('_', "") == code
                && said[1] == info.metadata["outcome"]
                && said[2] == info.metadata["retry"];
            assert!(
                same,
                "{name}: the contract says {said:?}, we say {status:?}"
            );
            assert_eq!(info.domain, "countersign");
            assert_eq!(format!("ERROR_REASON_{}", info.reason), *name);
        }
    }

    #[test]
    fn once_a_command_was_brought_no_failure_says_that_nothing_happened() {
        for row in contract().iter().skip(1) {
            let reason = ErrorReason::from_str_name(&row.0).unwrap();
            let before = Failure::new(reason, "why").after(Duration::from_secs(1));
            let after = before.clone().once_brought();
            let error = after.to_call_error();
            assert_ne!(error.outcome(), CallOutcome::Nothing, "{reason:?}");
            assert_eq!(error.retry(), Retry::SameId, "{reason:?}");
            assert!(after.message.starts_with("why"), "{after:?}");
            assert_eq!(after.retry_after, before.retry_after);
            assert_eq!(after.clone().once_brought(), after, "said once");
        }
    }

    #[test]
    fn a_wait_travels_both_ways() {
        let failure = Failure::new(ErrorReason::QueueFull, "wait").after(Duration::from_millis(70));
        assert_eq!(failure.to_call_error().retry_after_ms, 70);
        let status = Status::from(failure);
        let info = status.get_error_details().retry_info().unwrap().clone();
        assert_eq!(info.retry_delay, Some(Duration::from_millis(70)));
    }
}
