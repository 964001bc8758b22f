//! Raft's membership follows the ledger's, and what that waits for is said.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ledger_core::state::StateError;
use openraft::{ChangeMembers, RaftMetrics};
use tokio::sync::watch;

use super::start::Node;
use crate::cosign::Cosigner;
use crate::ledger::Ledger;
use crate::raft::Raft;
use crate::raft::types::{Peer, Types};
use crate::storage::view::nodes;

/// A new replica votes once it is at most so many log entries behind.
const MAX_LAG: u64 = 1_000;

/// Looks at a membership that waits before somebody is told: while nodes are well, it waits for less.
const LOOKS: u32 = 3;
/// Looks until somebody is told again.
const LOOKS_AGAIN: u32 = 300;

/// Why Raft's membership is not the ledger's yet.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wait {
    /// For these nodes to catch up with the log.
    Newcomers(BTreeSet<u64>),
    /// For a checkpoint that carries these changes of the trust policy.
    Cosignatures(BTreeSet<u64>),
}

/// For how many looks the membership has waited for the same.
#[derive(Debug, Default)]
struct Waiting {
    wait: Option<Wait>,
    looks: u32,
}

impl Waiting {
    /// Another look. True if it is time to tell somebody.
    fn is_to_be_told(&mut self, wait: Option<&Wait>) -> bool {
        if self.wait.as_ref() != wait {
            self.wait = wait.cloned();
            self.looks = 0;
        }
        self.looks = self.looks.saturating_add(1);
        wait.is_some() && self.looks % LOOKS_AGAIN == LOOKS
    }
}

/// Brings Raft's membership to the ledger's while this node leads.
pub(super) struct Reconciler {
    raft: Raft,
    ledger: Ledger,
    cosigner: Arc<Cosigner>,
    waiting: Waiting,
    /// What the membership waits for, in one sentence.
    membership_waits: watch::Sender<Option<String>>,
}

impl Reconciler {
    pub(super) fn new(node: &Node) -> Self {
        Self {
            raft: node.raft.clone(),
            ledger: node.ledger.clone(),
            cosigner: Arc::clone(&node.cosigner),
            waiting: Waiting::default(),
            membership_waits: node.membership_waits.clone(),
        }
    }

    /// One look, once a second.
    pub(super) async fn look(&mut self, leads: bool, metrics: &RaftMetrics<Types>) {
        if !leads {
            self.tell(None, metrics);
            return;
        }
        match self.reconcile(metrics).await {
            Ok(wait) => self.tell(wait.as_ref(), metrics),
            Err(error) => {
                tracing::warn!(%error, "cannot bring raft's membership to the ledger's");
            }
        }
    }

    /// The ledger says who the replicas are; Raft follows. Returns what it still waits for.
    async fn reconcile(&self, metrics: &RaftMetrics<Types>) -> Result<Option<Wait>, String> {
        let wanted = self.members().map_err(|error| error.to_string())?;
        let membership = metrics.membership_config.membership();
        let ids: BTreeSet<u64> = wanted.keys().copied().collect();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let joint = membership.get_joint_config().len() > 1;
        for (id, peer) in &wanted {
            match membership.get_node(id) {
                None => {
                    tracing::info!(node_id = id, address = %peer.address, "a new replica begins to learn");
                    let added = self.raft.add_learner(*id, peer.clone(), false).await;
                    return added.map(|_| None).map_err(|error| error.to_string());
                }
                Some(known) if known != peer => {
                    tracing::info!(node_id = id, address = %peer.address, "a replica has moved");
                    let nodes = BTreeMap::from([(*id, peer.clone())]);
                    self.change(ChangeMembers::SetNodes(nodes), true).await?;
                    return Ok(None);
                }
                Some(_) => {}
            }
        }
        let known: BTreeSet<u64> = membership.nodes().map(|(id, _)| *id).collect();
        if voters == ids && known == ids && !joint {
            return Ok(None);
        }
        // Those who leave must have cosigned their leaving first: afterwards nobody answers for the old trust policy.
        let open = self.cosigner.open_steps();
        let open = open.map_err(|error| error.to_string())?;
        if !open.is_empty() {
            return Ok(Some(Wait::Cosignatures(open)));
        }
        let behind = self.behind(metrics, &ids);
        if !behind.is_empty() {
            // One that never comes must not keep the others from voting.
            let ready: BTreeSet<u64> = &(&ids - &behind) - &voters;
            if !ready.is_empty() && !joint {
                tracing::info!(?ready, "new replicas vote");
                self.change(ChangeMembers::AddVoterIds(ready), true).await?;
            }
            return Ok(Some(Wait::Newcomers(behind)));
        }
        let gone = &(&known - &ids) - &voters;
        if !gone.is_empty() && !joint {
            tracing::info!(?gone, "replicas that never voted leave");
            self.change(ChangeMembers::RemoveNodes(gone), true).await?;
            return Ok(None);
        }
        tracing::info!(?ids, "the voters change");
        let all = ChangeMembers::ReplaceAllVoters(ids);
        self.change(all, false).await?;
        Ok(None)
    }

    async fn change(&self, change: ChangeMembers<u64, Peer>, retain: bool) -> Result<(), String> {
        let changed = self.raft.change_membership(change, retain).await;
        changed.map(drop).map_err(|error| error.to_string())
    }

    /// Says what the membership waits for: to those who ask, and now and then in the log.
    fn tell(&mut self, wait: Option<&Wait>, metrics: &RaftMetrics<Types>) {
        let text = wait.map(|wait| self.describe(wait, metrics));
        if self.waiting.is_to_be_told(wait)
            && let Some(text) = &text
        {
            let cosigning = self.cosigner.waits_for().unwrap_or_default();
            tracing::warn!(%cosigning, "{text}");
        }
        self.membership_waits.send_if_modified(|told| {
            let differs = *told != text;
            *told = text;
            differs
        });
    }

    fn describe(&self, wait: &Wait, metrics: &RaftMetrics<Types>) -> String {
        match wait {
            Wait::Cosignatures(epochs) => {
                let epochs: Vec<String> = epochs.iter().map(u64::to_string).collect();
                format!(
                    "the membership waits for cosignatures of changes of the trust policy (epochs {}), by the nodes before and those after; start those that are down, or take the last change back",
                    epochs.join(", ")
                )
            }
            Wait::Newcomers(nodes) => {
                let last = metrics.last_log_index.unwrap_or_default();
                let membership = metrics.membership_config.membership();
                let each = nodes.iter().map(|id| {
                    let address = membership.get_node(id).map_or("", |peer| &peer.address);
                    let has = matched(metrics, *id);
                    format!("node {id} at {address} has {has} of {last} log entries")
                });
                format!(
                    "the membership waits for new nodes to catch up: {}; start those that are down, or remove them",
                    each.collect::<Vec<_>>().join(", ")
                )
            }
        }
    }

    /// The nodes among these that do not vote and are too far behind for it.
    fn behind(&self, metrics: &RaftMetrics<Types>, ids: &BTreeSet<u64>) -> BTreeSet<u64> {
        let last = metrics.last_log_index.unwrap_or_default();
        let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
        let behind = ids.difference(&voters).copied();
        behind
            .filter(|id| {
                matched(metrics, *id).saturating_add(MAX_LAG) < last || !is_heard(metrics, *id)
            })
            .collect()
    }

    /// The replicas as the ledger has them.
    fn members(&self) -> Result<BTreeMap<u64, Peer>, StateError> {
        let mut members = BTreeMap::new();
        for record in nodes(&self.ledger.view())? {
            if let Some(card) = record.card.filter(|_| record.member) {
                let address = card.peer_address;
                members.insert(card.node_id, Peer { address });
            }
        }
        Ok(members)
    }
}

/// The last log entry that a replica is known to have.
fn matched(metrics: &RaftMetrics<Types>, id: u64) -> u64 {
    let replication = metrics.replication.as_ref();
    let matched = replication.and_then(|all| all.get(&id)?.as_ref());
    matched.map_or(0, |matched| matched.index())
}

/// True if a replica has confirmed anything to this leader.
fn is_heard(metrics: &RaftMetrics<Types>, id: u64) -> bool {
    let replication = metrics.replication.as_ref();
    replication.is_some_and(|all| all.get(&id).is_some_and(Option::is_some))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_membership_that_waits_is_told_of_now_and_then() {
        let mut waiting = Waiting::default();
        let mut told = |wait: Option<&Wait>, looks: u32| {
            (0..looks).filter(|_| waiting.is_to_be_told(wait)).count()
        };
        let epoch = Wait::Cosignatures(BTreeSet::from([3]));
        let nodes = Wait::Newcomers(BTreeSet::from([3]));
        assert_eq!(told(None, LOOKS_AGAIN * 2), 0, "nothing is waited for");
        assert_eq!(told(Some(&epoch), LOOKS - 1), 0, "it may be about to come");
        assert_eq!(told(Some(&epoch), 1), 1);
        assert_eq!(told(Some(&epoch), LOOKS_AGAIN - 1), 0);
        assert_eq!(told(Some(&epoch), 1), 1);
        assert_eq!(told(Some(&nodes), LOOKS), 1, "something else is waited for");
    }
}
