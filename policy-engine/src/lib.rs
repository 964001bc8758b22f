//! Policy bundles in, a request and its history in, a decision out.
//!
//! Everything here is pure: no clock, no randomness, no I/O, no hash-ordered iteration. The same bundle bytes, history and
//! request give the same decision on every machine, which is what lets each replica decide for itself and an auditor decide
//! again. Rules are Cedar, extended by Dogwood's conditions over past events.
//!
//! The life of a rule: [`Bundle`] (files, canonical bytes, digest) → [`Compiled`] (checked once, at publish) →
//! [`Compiled::decide`] (per request, on the past that a partition's [`Records`] hold) → [`Decision`].

mod bundle;
mod check;
mod compile;
mod decision;
mod diagnostic;
pub mod evaluate;
mod event_schema;
mod history;
mod json;
pub mod limits;
mod manifest;
mod nesting;
mod rehearsal;
mod request;
mod schema;
mod skeleton;
mod testing;
mod text;
mod usage;
mod value;

#[cfg(test)]
mod fixtures;

pub use bundle::{
    Bundle, BundleDigest, Case, Expectation, HistoryScope, SourceFile, Step, StepKind,
};
pub use check::{add_missing_ids, check};
pub use compile::{Compiled, NoThread, RuleSource};
pub use decision::{Approver, Condition, Decision, Reason, RuleId, Verdict};
pub use diagnostic::{Diagnostic, Severity};
pub use evaluate::explain::{
    Clause, ClauseResult, Counted, ExplainedRule, Explanation, FactRead, Measure, Measured, Voucher,
};
pub use evaluate::{Evaluated, Outcome};
pub use history::{
    Event, EventKind, Fingerprint, HEADER, NotCanonical, Partition, Record, Records, RecordsMut,
    Starts, TemporalRule, check_record, step,
};
pub use json::{Json, JsonError, Number};
pub use rehearsal::Rehearsal;
pub use request::{
    Agent, Approval, Assurance, Issuer, Recorder, Request, Resource, Session, StringSets, Subject,
};
pub use schema::{ActionSchema, Attribute, Mismatch, Shape, Shapes, TEMPLATE};
pub use skeleton::skeleton;
pub use testing::{CaseFailure, explain_step, run_cases};
pub use usage::{RuleUse, Usage, UsageReport};
pub use value::{Decimal, DecodeError, Value};
