//! Evidence: one file that proves a decision, or a whole session, to somebody who was not there.
//!
//! [`decision`] and [`session`] build it from the ledger, [`encode`] and [`decode`] make it a file, and [`verify`] checks it
//! with nothing but the file and a trust policy, explaining each fact and who vouches for it. Size and root always come from
//! a checkpoint that the policy accepts, never from the evidence itself.

mod about_decision;
mod about_redemption;
mod about_rules;
mod about_session;
mod build;
mod enrolment;
mod file;
mod json;
mod proven;
mod report;
mod signers;
mod trust;
mod verify;

pub use build::{
    BuildError, Sources, StateTiles, decision, receipt, session, session_leaves, trust_steps,
};
pub use file::{FileError, MAX_EVIDENCE_LEN, decode, encode};
pub use json::{from_json, to_json};
pub use report::{Basis, Fact, Report, utc};
pub use trust::{TrustFollower, TrustPosition};
pub use verify::{EvidenceError, follow_trust, verify, verify_provisional, verify_receipt};
