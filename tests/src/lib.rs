//! What whole-system tests share: a ledger in memory with everybody's keys, and the paths to third-party data.

pub mod kit;
pub mod shared_data;
