//! What every fuzz target does with its bytes.
//!
//! Each target is a plain function, so that the fuzzer and an ordinary test run the same code: the test replays the seeds of
//! every target, and whatever fuzzing has found (`tests/fuzz-corpus`). A target panics when the code under test does, or when
//! something that must hold of all input does not.

mod ledger;
mod machine;
mod notes;
mod peer;
mod policy;
mod proofs;
mod seeds;
mod stream;

pub use ledger::{target_entry, target_evidence};
pub use machine::{target_command, target_submission};
pub use notes::{target_note, target_tlog_policy};
pub use peer::target_peer;
pub use policy::{target_bundle, target_history, target_json};
pub use proofs::target_proof;
pub use seeds::seeds;
pub use stream::target_machine;

/// A target.
pub type Target = fn(&[u8]);

/// Every target by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("bundle", target_bundle),
    ("command", target_command),
    ("entry", target_entry),
    ("evidence", target_evidence),
    ("history", target_history),
    ("json", target_json),
    ("machine", target_machine),
    ("note", target_note),
    ("peer", target_peer),
    ("proof", target_proof),
    ("submission", target_submission),
    ("tlog_policy", target_tlog_policy),
];
