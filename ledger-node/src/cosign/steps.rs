//! The steps of the trust policy that this node lacks, asked of the others.
//!
//! The checkpoint that carries a change of the policy is sent around once, and later ones need not meet the policy before. A
//! node that was down then, or slow, would never have it: nobody could follow the trust policy on it, and if it led, the
//! membership would never follow the ledger. So whoever lacks a step asks, until it has it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::RangeInclusive;
use std::time::Duration;

use ledger_proto::peer::v1 as wire;

use super::collect::ROUND;
use super::kept::{carried_together, open_steps};
use super::{Cosigner, TrustPolicies};
use crate::raft::peers::Purpose;
use crate::raft::standing::Leading;
use crate::storage::view::StoreState;
use crate::storage::{Batch, Table, meta};

/// Most steps of one answer: 16 notes of up to 512 KiB are half of the largest message between peers.
pub(super) const MAX_STEPS: usize = 16;
/// Most steps that are asked for at a time: their numbers take some 10 KiB, and the other looks up as many keys.
const MAX_ASKED: usize = 1_024;
/// Between two looks at what is lacking. What is lacking at one look only is on its way.
const PAUSE: Duration = Duration::from_secs(1);

impl Cosigner {
    /// Asks for what is lacking. Runs until the node ends.
    pub(super) async fn seek_steps(&self) {
        let mut tip = self.parts.tip.clone();
        let mut before = BTreeSet::new();
        let mut turn = 0_usize;
        loop {
            tip.mark_unchanged();
            let open = self.open_steps_or_none();
            let late: BTreeSet<u64> = open
                .intersection(&before)
                .copied()
                .take(MAX_ASKED)
                .collect();
            if !late.is_empty() {
                self.ask_for_steps(late, turn).await;
                turn = turn.wrapping_add(1);
            }
            before = open;
            if before.is_empty() && tip.changed().await.is_err() {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Epochs of the trust policy, as far as it is applied here, whose step this node has no checkpoint of.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn open_steps(&self) -> io::Result<BTreeSet<u64>> {
        let size = self.parts.tip.borrow().size;
        let state = StoreState(&*self.parts.store);
        let policies = TrustPolicies::read(&state, size)?;
        open_steps(&*self.parts.store, &policies)
    }

    /// The same for loops, which look again soon.
    pub(super) fn open_steps_or_none(&self) -> BTreeSet<u64> {
        self.open_steps().unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot see which steps of the trust policy are lacking");
            BTreeSet::new()
        })
    }

    /// The checkpoints of those of these steps that this node has, for a peer that lacks them.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn steps(&self, epochs: &[u64]) -> io::Result<Vec<wire::CarriedStep>> {
        let mut steps: Vec<wire::CarriedStep> = Vec::new();
        for epoch in epochs.iter().take(MAX_ASKED) {
            if steps.len() == MAX_STEPS {
                break;
            }
            // Those that are carried together are sent once.
            if steps.iter().any(|step| carries(step).contains(epoch)) {
                continue;
            }
            if let Some(carried) = carried_together(&*self.parts.store, *epoch)? {
                steps.push(wire::CarriedStep {
                    epoch: *carried.epochs.end(),
                    checkpoint: String::from_utf8(carried.note).map_err(io::Error::other)?,
                    first_epoch: *carried.epochs.start(),
                });
            }
        }
        Ok(steps)
    }

    /// Asks the leader, which collects them, and for what it has not got one of the others, each in its turn.
    async fn ask_for_steps(&self, mut lacking: BTreeSet<u64>, turn: usize) {
        let leading = self.parts.standing.borrow().leading.clone();
        let leader = match leading {
            Leading::Other { node_id, address } => Some((node_id, address)),
            Leading::This | Leading::ThisAdjusting | Leading::Nobody => None,
        };
        if let Some((node, address)) = &leader {
            self.ask_node_for_steps(*node, address, &mut lacking).await;
        }
        if lacking.is_empty() {
            return;
        }
        let others = match self.nodes() {
            Ok(nodes) => others(nodes, self.parts.peers.node_id, leader.as_ref()),
            Err(error) => {
                tracing::warn!(%error, "cannot see whom to ask for steps of the trust policy");
                return;
            }
        };
        let next = turn.checked_rem(others.len());
        if let Some((node, address)) = next.and_then(|next| others.get(next)) {
            self.ask_node_for_steps(*node, address, &mut lacking).await;
        }
    }

    /// Asks one node, and takes out of the list what it had.
    async fn ask_node_for_steps(&self, node: u64, address: &str, lacking: &mut BTreeSet<u64>) {
        let peers = &self.parts.peers;
        let Ok(mut client) = peers.client(node, address, Purpose::Other) else {
            return;
        };
        let message = wire::WantCheckpointRequest {
            tree_size: 0,
            lacking_epochs: lacking.iter().copied().collect(),
        };
        let mut request = peers.request(node, message);
        request.set_timeout(ROUND);
        let answer = match client.want_checkpoint(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => {
                tracing::debug!(%status, node, "no steps of the trust policy");
                return;
            }
        };
        for step in answer.steps.into_iter().take(MAX_STEPS) {
            let epochs = carries(&step);
            if !lacking.iter().any(|epoch| epochs.contains(epoch)) {
                continue;
            }
            match self.put_step(epochs.clone(), &step.checkpoint) {
                Ok(()) => {
                    tracing::info!(?epochs, node, "a step of the trust policy has come");
                    lacking.retain(|epoch| !epochs.contains(epoch));
                }
                Err(refused) => {
                    tracing::debug!(%refused, node, "a step of the trust policy was not taken");
                }
            }
        }
    }

    /// Keeps the checkpoint of changes that it carries: it meets the policy before the first and the policy after the last,
    /// covers them, and is of the tree that was computed here. Whether it is the newest, or meets a still later policy, does
    /// not matter.
    ///
    /// # Errors
    /// It is none, its tree is not here yet, or it cannot be kept.
    pub(super) fn put_step(&self, epochs: RangeInclusive<u64>, note: &str) -> Result<(), String> {
        let there = self.parts.tip.borrow().size;
        let step = {
            let state = StoreState(&*self.parts.store);
            TrustPolicies::read(&state, there)
                .and_then(|policies| policies.step(epochs.clone()))
                .map_err(|error| error.to_string())?
                .ok_or("there is no such change of the trust policy here yet")?
        };
        let checkpoint = step.must_be_carried_by(note)?;
        if checkpoint.size() > there {
            let size = checkpoint.size();
            return Err(format!("size {size} has not been applied here yet"));
        }
        self.must_have_root(&checkpoint)?;
        let mut batch = Batch::new();
        for epoch in epochs {
            batch.put(Table::Meta, meta::trust_step_key(epoch), note);
        }
        self.write(&batch)
    }
}

/// The epochs of the changes that a step carries.
const fn carries(step: &wire::CarriedStep) -> RangeInclusive<u64> {
    step.first_epoch..=step.epoch
}

/// All nodes but this one and the leader.
fn others(
    nodes: BTreeMap<u64, String>,
    own: u64,
    leader: Option<&(u64, String)>,
) -> Vec<(u64, String)> {
    let is_leader = |node: u64| leader.is_some_and(|(leader, _)| *leader == node);
    nodes
        .into_iter()
        .filter(|(node, _)| *node != own && !is_leader(*node))
        .collect()
}
