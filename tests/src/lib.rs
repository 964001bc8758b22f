//! What whole-system tests share: a ledger in memory with everybody's keys, and the paths to third-party data.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "all of this crate is test code, and a test fails by panicking"
)]

pub mod agentdojo;
pub mod cluster;
pub mod examples;
pub mod fuzz;
pub mod kit;
pub mod shared_data;
pub mod stream;
