//! The past that rules can read.
//!
//! A namespace's history is split into partitions (per agent, session, subject, owner, or one for all). A partition is a few
//! small records: a header and cells, which answer the common conditions at the same cost however much has happened, and the
//! events that other conditions could still read, as typed values. Deciding reads a partition and never changes it; stepping
//! happens afterwards, only for what was really decided or done.

mod bytes;
pub(crate) mod cell;
mod codec;
pub(crate) mod header;
pub(crate) mod plan;
pub(crate) mod reads;
mod records;
mod series;
mod step;
pub(crate) mod tracking;
pub(crate) mod view;

use std::collections::BTreeMap;

use crate::value::Value;

pub use codec::{NotCanonical, check_record};
pub use records::{HEADER, Partition, Record, Records, RecordsMut};
pub use step::step;

pub(crate) const NS_PER_S: i64 = 1_000_000_000;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    /// An agent asked; the decision event.
    Request,
    /// The request was allowed.
    Allowed,
    /// The request was denied or escalated.
    Denied,
    /// The allowed action was executed as authorized, as a gateway says that may record for the agent.
    Response,
    /// The allowed action failed, as such a gateway says.
    Error,
    /// The allowed action was executed as authorized, as only the agent says.
    SelfReportedResponse,
    /// The allowed action failed, as only the agent says.
    SelfReportedError,
}

impl EventKind {
    /// True for what became of an allowed action.
    pub(crate) const fn is_outcome(self) -> bool {
        match self {
            Self::Response | Self::Error | Self::SelfReportedResponse | Self::SelfReportedError => {
                true
            }
            Self::Request | Self::Allowed | Self::Denied => false,
        }
    }
}

/// One thing that happened, as typed values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When, in nanoseconds since 1970: the entry's microseconds times 1,000, plus 1 for `Allowed` and `Denied`, so that a
    /// verdict comes strictly after its request.
    pub time_ns: i64,
    /// What.
    pub kind: EventKind,
    /// The request id in lowercase hex.
    pub request_id: String,
    /// The session id in lowercase hex.
    pub session_id: String,
    /// The agent.
    pub agent: String,
    /// The action.
    pub action: String,
    /// The resource.
    pub resource: String,
    /// The arguments, typed by the schema under which the request was decided.
    pub input: Value,
    /// For responses: the output, typed by the same schema, if the schema declares one.
    pub output: Option<Value>,
    /// For `Response` and `Error`: the gateway that recorded it. The agent itself is the recorder of what it reports.
    pub recorder: Option<String>,
}

/// The identity of a rule's temporal meaning: rule id, source text, and the schema of the actions it reads. An unchanged
/// fingerprint keeps its history across a change of bundle; any change starts afresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 32]);

/// When each temporal rule's history begins, in microseconds since 1970. Events before it do not exist for that rule.
pub type Starts = BTreeMap<Fingerprint, u64>;

/// A rule that reads history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemporalRule {
    /// The rule's `@id`.
    pub id: crate::decision::RuleId,
    /// What it means.
    pub fingerprint: Fingerprint,
    /// Its longest window, in microseconds, at most 30 days.
    pub window_us: u64,
}

#[cfg(test)]
mod tests;
