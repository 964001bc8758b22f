//! Handing leadership over: because an admin asks, or because this node stops or its clock is off.

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;

use super::Raft;

/// After so long a voter that was asked to lead, and does not, is asked again.
const AGAIN: Duration = Duration::from_millis(500);

/// The voter whose log is the longest, this node excepted.
pub(crate) fn successor(raft: &Raft) -> Option<u64> {
    let metrics = raft.metrics().borrow_watched().clone();
    let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
    metrics
        .replication?
        .into_iter()
        .filter(|(id, _)| *id != metrics.id && voters.contains(id))
        .max_by_key(|(_, matched)| *matched)
        .map(|(id, _)| id)
}

/// Asks a voter to lead, this one or else the one whose log is the longest, until this node does not lead any more. Returns
/// at once if there is nobody to ask.
pub(crate) async fn hand_over(raft: &Raft, to: Option<u64>) {
    while raft.is_leader() {
        let Some(to) = to.or_else(|| successor(raft)) else {
            return;
        };
        if let Err(error) = raft.trigger().transfer_leader(to).await {
            tracing::warn!(%error, "cannot hand leadership over");
            return;
        }
        let mut metrics = raft.metrics();
        let _ = tokio::time::timeout(AGAIN, metrics.changed()).await;
    }
}
