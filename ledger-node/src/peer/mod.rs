//! The gRPC service for the other nodes: raft's own calls, submissions on their way to the leader, and cosignatures.

pub mod appends;
pub mod authorization;
mod member_changes;
pub mod receive_snapshot;
mod recovery_state;
pub(crate) mod requests;
pub mod service;
pub mod store_header;
pub(crate) mod validation;
