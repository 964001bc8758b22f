//! Turns openraft's reports into this node's standing, and its end into the node's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::async_runtime::WatchReceiver as _;
use openraft::{Instant as _, ServerState};
use tokio::sync::watch;

use crate::fatal::Fatal;
use crate::raft::Raft;
use crate::raft::peers::Peers;
use crate::raft::standing::{Leading, Mandate, Standing};
use crate::raft::types::Types;

/// openraft panics on what it has taken for impossible, and its reports end then.
const RAFT_ENDED: &str = "raft has ended, which is a defect of this program. Nothing acknowledged is lost: start this node again, and report the lines before this one";

/// What is reported, and what else the standing is made of.
pub(super) struct Reports {
    /// Reports.
    pub(super) raft: Raft,
    /// Know when a leader has written to this node last.
    pub(super) peers: Arc<Peers>,
    /// What this node may propose.
    pub(super) mandate: watch::Receiver<Mandate>,
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
        let mut leading = None;
        loop {
            let now = metrics.borrow_watched().clone();
            if let Err(error) = &now.running_state {
                fatal_switch.stop(format!("raft has stopped: {error}"));
                return;
            }
            leading = (now.state == ServerState::Leader).then(|| match leading {
                Some((term, since)) if term == now.current_term => (term, since),
                Some(_) | None => (now.current_term, Instant::now()),
            });
            let is_in_touch = match leading {
                Some((_, since)) => self.hears_quorum(&now, since),
                None => self.hears_leader(),
            };
            // Whoever follows a leader without a quorum has no leader either.
            let leads = leading.map(|(term, _)| (term, is_in_touch));
            self.peers.set_leading(leads);
            let mandate = *self.mandate.borrow_and_update();
            let next = Standing::of(&now, mandate, is_in_touch);
            standing.send_if_modified(|current| {
                let changed = *current != next;
                if changed {
                    if next.leading == Leading::Nobody && current.leading != Leading::Nobody {
                        tracing::warn!(
                            term = next.term,
                            "no leader with a quorum is heard: nothing is decided here until more than half of the nodes run and reach each other"
                        );
                    } else {
                        tracing::info!(leading = ?next.leading, term = next.term, "standing");
                    }
                    *current = next;
                }
                changed
            });
            tokio::select! {
                changed = metrics.changed() => {
                    if changed.is_err() {
                        fatal_switch.stop(RAFT_ENDED);
                        return;
                    }
                }
                changed = self.mandate.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                _ = ticks.tick() => {}
            }
        }
    }

    /// True if a leader that has a quorum has written to this node lately.
    fn hears_leader(&self) -> bool {
        let silence = self.peers.leader_silence();
        silence.is_some_and(|silence| silence < self.lost_after)
    }

    /// True if a quorum has answered this node lately, which leads since then.
    fn hears_quorum(&self, metrics: &openraft::RaftMetrics<Types>, since: Instant) -> bool {
        let is_alone = metrics.membership_config.voter_ids().eq([metrics.id]);
        let heard = metrics.last_quorum_acked;
        let silence = heard.map_or_else(|| since.elapsed(), |at| at.elapsed());
        is_alone || silence < self.lost_after
    }
}
