//! Raft: openraft's traits over our store, wire and machine.

pub mod adjustment;
mod answers;
pub mod bounds;
pub mod checked_channel;
pub mod clocks;
#[cfg(test)]
mod conformance;
pub mod elections;
pub mod flusher;
pub(crate) mod hand_over;
pub mod higher_votes;
pub mod honoured;
pub mod incoming;
pub mod log;
pub mod machine;
pub mod network;
mod own;
pub mod participation;
pub mod peer_memory;
pub mod peers;
pub mod proposers;
mod received;
pub mod refusals;
mod send_snapshot;
pub mod snapshot;
pub mod snapshot_dir;
pub mod standing;
mod tail;
pub mod transfer;
pub mod types;

use std::sync::Arc;

use self::machine::StateMachine;
use self::types::Types;

/// openraft's handle.
pub type Raft = openraft::Raft<Types, StateMachine>;

/// What openraft is told.
///
/// # Errors
/// Settings that contradict each other.
pub fn raft_config(
    cluster: &str,
    timings: Timings,
) -> Result<Arc<openraft::Config>, openraft::ConfigError> {
    let config = openraft::Config {
        cluster_name: cluster.to_owned(),
        election_timeout_min: timings.election_min_ms,
        election_timeout_max: timings.election_max_ms,
        heartbeat_interval: timings.heartbeat_ms,
        max_payload_entries: 256,
        // Snapshots are made when the log has grown by so many bytes, not entries; see `node::keeper`.
        snapshot_policy: openraft::SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: timings.log_keep_entries,
        purge_batch_size: 1_024.min(timings.log_keep_entries.max(1)),
        api_channel_size: Some(1_024),
        notification_channel_size: Some(4_096),
        state_machine_channel_size: Some(256),
        enable_pre_vote: Some(true),
        // A restarted leader is elected again like anybody else.
        enable_leader_restore: Some(false),
        ..openraft::Config::default()
    };
    config.validate().map(Arc::new)
}

/// Times and counts that an operator may choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// The shortest election timeout in milliseconds.
    pub election_min_ms: u64,
    /// The longest election timeout in milliseconds.
    pub election_max_ms: u64,
    /// Between heartbeats in milliseconds.
    pub heartbeat_ms: u64,
    /// Log entries kept behind a snapshot for followers that lag.
    pub log_keep_entries: u64,
}
