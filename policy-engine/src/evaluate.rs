//! One request, decided.

use crate::compile::Compiled;
use crate::decision::{Decision, Reason, Verdict};
use crate::history::{Event, Partition, Starts};
use crate::request::Request;

/// A decision, and what later rules may know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluated {
    /// What the rules said.
    pub decision: Decision,
    /// The events to step, in order: the request, then its verdict. Empty unless [`Decision::is_observed`].
    pub events: Vec<Event>,
}

/// What became of an allowed request, as its record has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// The entry time of the record in microseconds since 1970.
    pub time_us: u64,
    /// True if the action succeeded (`response`), false if it failed (`error`).
    pub succeeded: bool,
    /// The id of the request that was allowed, in lowercase hex.
    pub request_id: &'a str,
    /// Its session, in lowercase hex.
    pub session_id: &'a str,
    /// Its agent.
    pub agent: &'a str,
    /// Its action.
    pub action: &'a str,
    /// Its resource.
    pub resource: &'a str,
    /// The arguments that were allowed: the bytes of a JSON object, as sent.
    pub input: &'a [u8],
    /// The bytes of the JSON output, if the record carries it; ignored for a failure.
    pub output: Option<&'a [u8]>,
}

impl Compiled {
    /// Decides a request. Reads the partition and never changes it; the same arguments give the same answer everywhere.
    ///
    /// `starts` says since when each temporal rule has a past; a rule without an entry begins with this request.
    pub fn decide(&self, starts: &Starts, partition: &Partition, request: &Request) -> Evaluated {
        let _ = (starts, partition, request);
        Evaluated {
            decision: Decision {
                verdict: Verdict::Deny,
                reason: Reason::EvaluationError,
                rules: Vec::new(),
                conditions: Vec::new(),
                permit_ttl_s: None,
                approvers: Vec::new(),
            },
            events: Vec::new(),
        }
    }

    /// The event that an outcome adds to the history, or none if its arguments or output do not fit the schema; then
    /// nothing is stepped.
    pub fn outcome_event(&self, outcome: &Outcome<'_>) -> Option<Event> {
        let _ = outcome;
        None
    }
}
