//! The proposer: packs what waits into Raft entries while this node leads.
//!
//! A few entries may be on their way at once; while they are, the next one fills. So one slow sync makes batches larger, not
//! answers rarer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ledger_core::batch::BatchBuilder;
use ledger_core::machine::Tip;
use ledger_proto::v1;
use openraft::errors::{ClientWriteError, ForwardReason, RaftError};
use prost::Message;
use tokio::sync::{Semaphore, watch};

use super::pace::Pace;
use super::queue::Queue;
use crate::clock::Clock;
use crate::fatal::Fatal;
use crate::raft::Raft;
use crate::raft::adjustment::{adjusted_at, is_timely};
use crate::raft::proposers::{PriorTree, Proposers};
use crate::raft::standing::{Leading, Standing};
use crate::raft::types::{Proposal, Types};
use crate::worker::{self, Worker};

/// Most proposals on their way.
const MAX_IN_FLIGHT: usize = 4;
/// How long a proposal waits for a lease that has run out, before its callers look for a leader again.
const LEASE_PATIENCE: Duration = Duration::from_secs(2);
/// Between tries while the lease is out.
const LEASE_PAUSE: Duration = Duration::from_millis(5);

/// What the proposer works with.
pub struct Proposer {
    /// openraft.
    pub raft: Raft,
    /// Remember what this node proposes.
    pub proposers: Arc<Proposers>,
    /// What waits.
    pub queue: Arc<Queue>,
    /// Whether this node leads and may.
    pub standing: watch::Receiver<Standing>,
    /// The end of the ledger here.
    pub tip: watch::Receiver<Tip>,
    /// This node's clock.
    pub clock: Arc<dyn Clock>,
    /// Whether it runs evenly.
    pub pace: Arc<Pace>,
    /// Stops the node.
    pub fatal: Fatal,
}

impl std::fmt::Debug for Proposer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proposer")
    }
}

impl Proposer {
    /// Proposes until the node ends.
    pub async fn run(mut self) {
        let in_flight = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
        loop {
            let leads = |standing: &Standing| {
                matches!(standing.leading, Leading::This | Leading::ThisAdjusting)
            };
            if self.standing.wait_for(leads).await.is_err() {
                return;
            }
            tokio::select! {
                () = self.queue.filled() => {}
                changed = self.standing.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    if !leads(&self.standing.borrow()) {
                        self.queue.clear();
                    }
                    continue;
                }
            }
            let Ok(permit) = Arc::clone(&in_flight).acquire_owned().await else {
                return;
            };
            // A clock that has jumped stamps nothing until somebody has looked at it.
            let now_us = tokio::select! {
                now_us = self.pace.even(&*self.clock) => now_us,
                changed = self.standing.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    // They are brought again, to this node or another.
                    self.queue.clear();
                    continue;
                }
            };
            // Packed only now, with the newest view of the ledger and everything that came meanwhile.
            let tip = *self.tip.borrow();
            let mut batch = BatchBuilder::new(now_us, tip.size.0, tip.root.as_bytes());
            let leading = self.standing.borrow().leading.clone();
            let may_propose = |submission: &v1::Submission| match leading {
                // While clocks go with the ledger there is nothing to adjust.
                Leading::This => adjusted_at(submission).is_none(),
                Leading::ThisAdjusting => {
                    adjusted_at(submission).is_some_and(|made_at| is_timely(made_at, now_us))
                }
                Leading::Other { .. } | Leading::Nobody => false,
            };
            if self.queue.fill(&mut batch, &may_propose) == 0 {
                continue;
            }
            self.proposers.note_own(PriorTree {
                size: tip.size,
                root: tip.root,
            });
            let proposal = Proposal(Bytes::from(batch.finish().encode_to_vec()));
            let raft = self.raft.clone();
            let guard = self.fatal.guard(Worker::Proposal);
            tokio::spawn(async move {
                let _guard = guard;
                worker::strike(Worker::Proposal);
                propose(&raft, proposal).await;
                drop(permit);
            });
        }
    }
}

/// Brings a proposal into the log. Its callers wait for its entries, not for this: if it fails they ask again.
async fn propose(raft: &Raft, proposal: Proposal) {
    let begun = Instant::now();
    loop {
        match raft.client_write(proposal.clone()).await {
            Ok(_) => return,
            Err(error) => {
                if !is_lease_expired(&error) || begun.elapsed() > LEASE_PATIENCE {
                    tracing::info!(%error, "a proposal was not taken; its callers ask again");
                    return;
                }
            }
        }
        tokio::time::sleep(LEASE_PAUSE).await;
    }
}

fn is_lease_expired(error: &RaftError<Types, ClientWriteError<Types>>) -> bool {
    matches!(
        error,
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward))
            if forward.reason == ForwardReason::LeaseExpired
    )
}
