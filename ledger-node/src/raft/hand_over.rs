//! Handing leadership over: because an admin asks, or because this node stops or its clock is off.

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::{Instant, ServerState};

use super::Raft;

/// After so long a voter that was asked to lead, and does not, is asked again.
const AGAIN: Duration = Duration::from_millis(500);

/// A voter that has been silent for so long is not asked to lead: until it does, nobody does.
const SILENT: Duration = Duration::from_secs(1);

/// There is nobody to hand over to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Silence {
    #[error("node {0} does not answer the leader; see that it runs and try again")]
    Of(u64),
    #[error("no other voter answers the leader; start one and try again")]
    OfAll,
}

/// The voter to hand over to: this one, or else the one whose log is the longest. It has answered the leader lately.
///
/// # Errors
/// There is none, or this node does not lead.
pub(crate) fn successor(raft: &Raft, to: Option<u64>) -> Result<u64, Silence> {
    let metrics = raft.metrics().borrow_watched().clone();
    let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
    let heard = metrics.heartbeat.unwrap_or_default();
    let answers = |id: &u64| {
        let last = heard.get(id).copied().flatten();
        last.is_some_and(|last| last.elapsed() < SILENT)
    };
    metrics
        .replication
        .unwrap_or_default()
        .into_iter()
        .filter(|(id, _)| *id != metrics.id && voters.contains(id) && answers(id))
        .filter(|(id, _)| to.is_none_or(|to| to == *id))
        .max_by_key(|(_, matched)| *matched)
        .map(|(id, _)| id)
        .ok_or_else(|| to.map_or(Silence::OfAll, Silence::Of))
}

/// If this node leads, asks a voter to lead, this one or else the one whose log is the longest, until this node leads no more.
///
/// # Errors
/// There is nobody to ask, and nothing has happened.
pub(crate) async fn hand_over(raft: &Raft, to: Option<u64>) -> Result<(), Silence> {
    if !raft.is_leader() {
        return Ok(());
    }
    let mut next = Some(successor(raft, to)?);
    while raft.is_leader() {
        if let Some(next) = next
            && let Err(error) = raft.trigger().transfer_leader(next).await
        {
            tracing::warn!(%error, "cannot hand leadership over");
            return Ok(());
        }
        // Metrics change all the time, and each call of `transfer_leader` sends to every voter: only the end of leading counts.
        let led = raft.wait(Some(AGAIN));
        let _ = led
            .metrics(
                |metrics| metrics.state != ServerState::Leader,
                "it leads no more",
            )
            .await;
        // A leader that has begun to hand over sends no more heartbeats: if that voter fell silent, others will take over.
        next = successor(raft, to).ok();
    }
    Ok(())
}
