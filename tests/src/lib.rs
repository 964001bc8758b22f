//! What whole-system tests share: a ledger in memory with everybody's keys, and the paths to third-party data.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "this is test code: what does not hold ends the test"
)]

pub mod kit;
