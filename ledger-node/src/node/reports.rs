//! Turns openraft's reports into this node's standing, and its end into the node's.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver as _;
use openraft::{Instant as _, ServerState};
use tokio::sync::watch;

use super::fatal::Fatal;
use crate::raft::Raft;
use crate::raft::peers::Peers;
use crate::raft::types::Types;
use crate::submit::standing::Standing;

/// What is reported, and what else the standing is made of.
pub(super) struct Reports {
    /// Reports.
    pub(super) raft: Raft,
    /// Know when a leader has written to this node last.
    pub(super) peers: Arc<Peers>,
    /// False while this node's clock is off or it is shutting down.
    pub(super) may_lead: watch::Receiver<bool>,
    /// A leader that is silent for so long leads nobody; longer than an election takes.
    pub(super) lost_after: Duration,
}

impl Reports {
    /// Keeps the standing up to date until openraft ends.
    pub(super) async fn follow(mut self, standing: watch::Sender<Standing>, fatal_switch: Fatal) {
        let mut metrics = self.raft.metrics();
        // Silence is not reported.
        let mut ticks = tokio::time::interval(self.lost_after / 6);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let now = metrics.borrow_watched().clone();
            if let Err(error) = &now.running_state {
                fatal_switch.stop(format!("raft has stopped: {error}"));
                return;
            }
            let may_lead = *self.may_lead.borrow_and_update();
            let next = Standing::of(&now, may_lead, self.is_in_touch(&now));
            standing.send_if_modified(|current| {
                let changed = *current != next;
                if changed {
                    tracing::info!(leading = ?next.leading, term = next.term, "standing");
                    *current = next;
                }
                changed
            });
            tokio::select! {
                changed = metrics.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                changed = self.may_lead.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                _ = ticks.tick() => {}
            }
        }
    }

    /// True if the leader, or a quorum if this node leads, was heard of lately.
    fn is_in_touch(&self, metrics: &openraft::RaftMetrics<Types>) -> bool {
        if metrics.state == ServerState::Leader {
            let alone = metrics.membership_config.voter_ids().count() <= 1;
            // A new leader has nothing to report yet.
            let heard = metrics.last_quorum_acked;
            return alone || heard.is_none_or(|at| at.elapsed() < self.lost_after);
        }
        let silence = self.peers.leader_silence();
        silence.is_some_and(|silence| silence < self.lost_after)
    }
}
