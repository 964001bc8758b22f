//! Policy bundles in, a request and its history in, a decision out.
//!
//! Everything here is pure: no clock, no randomness, no I/O, no hash-ordered iteration. The same bundle bytes, history and
//! request give the same decision on every machine, which is what lets each replica decide for itself and an auditor decide
//! again. Rules are Cedar, extended by Dogwood's conditions over past events.
//!
//! The life of a rule: [`Bundle`] (files, canonical bytes, digest) → [`Compiled`] (checked once, at publish) →
//! [`Compiled::decide`] (per request, on the events a [`Partition`] retains) → [`Decision`].

mod bundle;
mod compile;
mod decision;
mod diagnostic;
mod evaluate;
mod history;
mod request;
mod value;

pub use bundle::{Bundle, BundleDigest, HistoryScope, SourceFile};
pub use compile::{Compiled, RuleSource};
pub use decision::{Approver, Condition, Decision, Reason, RuleId, Verdict};
pub use diagnostic::{Diagnostic, Severity};
pub use evaluate::{Evaluated, Outcome};
pub use history::{Event, EventKind, Fingerprint, NotCanonical, Partition, Starts, TemporalRule};
pub use request::{Agent, Approval, Assurance, Request, Resource, Session, StringSets, Subject};
pub use value::{Decimal, Value};
