//! A node that was away learns who the members are now, without taking anybody's word.
//!
//! While a node is down, others join, and one of them may lead when it comes back: a node whose key this one does not know, and without
//! whom it does not get the entries that name the key. So when a stranger is refused, this node asks those that it knows for the
//! changes of the trust policy since. Each change is cosigned by the nodes before it, so that it proves itself; a node votes only
//! after the change that names it is cosigned, so that whoever leads is named by one. What was learned lasts until the ledger says it
//! itself, at the latest until the next start.

use std::sync::Arc;
use std::time::Duration;

use ledger_core::evidence::follow_trust;
use ledger_core::note::tlog_policy::TlogPolicy;
use ledger_core::state::{Key, StateError, read};
use ledger_proto::peer::v1 as wire;
use ledger_proto::v1;
use tokio::sync::watch;

use super::members::{Named, nodes_of};
use super::start::Node;
use crate::ledger::Ledger;
use crate::raft::peers::{Peers, Purpose};
use crate::storage::view::nodes;

/// Between two rounds of questions: strangers can cause them.
const PAUSE: Duration = Duration::from_secs(2);
/// How long one node has for its answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Follows the trust policy beyond what this node has applied.
pub(super) struct TrustFollower {
    ledger: Ledger,
    peers: Arc<Peers>,
    /// Where the steps have led: the epoch, and its policy.
    followed: Option<(u64, TlogPolicy)>,
    /// Those whom an operator's policy names.
    given: Named,
    named: watch::Sender<Named>,
}

impl TrustFollower {
    /// The follower, and the nodes that are named so far and later.
    pub(super) fn new(node: &Node) -> (Self, watch::Receiver<Named>) {
        let (named, receiver) = watch::channel(node.named.clone());
        let follower = Self {
            ledger: node.ledger.clone(),
            peers: Arc::clone(&node.peers),
            followed: None,
            given: node.named.clone(),
            named,
        };
        (follower, receiver)
    }

    /// Asks whenever a stranger was refused, until the node ends.
    pub(super) async fn run(mut self) {
        loop {
            self.peers.transport.stranger_refused().await;
            // Whoever cannot read its own state is stopped by others.
            if let Err(error) = self.ask_all().await {
                tracing::debug!(%error, "the trust policy cannot be followed");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Asks one node after the other, until one has a step that this node lacks.
    async fn ask_all(&mut self) -> Result<(), StateError> {
        let view = self.ledger.view();
        let own: v1::LedgerRecord = read(&view, &Key::ledger())?.unwrap_or_default();
        let is_behind = |followed: &(u64, TlogPolicy)| followed.0 <= own.trust_epoch;
        if self.followed.as_ref().is_none_or(is_behind) {
            let key = Key::trust(own.trust_epoch);
            let record: v1::TrustRecord = read(&view, &key)?.unwrap_or_default();
            let policy = TlogPolicy::parse(record.trust_policy.as_bytes());
            let policy = policy.map_err(|error| StateError::damaged(&key, error.to_string()))?;
            self.followed = Some((own.trust_epoch, policy));
        }
        let cards = nodes(&view)?.into_iter().filter_map(|record| record.card);
        // This node itself is not listed, and nobody who is not is asked.
        for card in cards {
            let is_listed = self.peers.transport.directory().by_id(card.node_id);
            if is_listed.is_some() && self.ask(&card).await {
                break;
            }
        }
        Ok(())
    }

    /// Asks one node. True if it had a step, and each step was proven.
    async fn ask(&mut self, card: &v1::NodeCard) -> bool {
        let Some((epoch, policy)) = &self.followed else {
            return false;
        };
        let client = self
            .peers
            .client(card.node_id, &card.peer_address, Purpose::Other);
        let Ok(mut client) = client else { return false };
        let message = wire::GetTrustStepsRequest {
            after_epoch: *epoch,
        };
        let mut request = self.peers.request(card.node_id, message);
        request.set_timeout(PATIENCE);
        let Ok(answer) = client.get_trust_steps(request).await else {
            return false;
        };
        let steps = answer.into_inner().trust_steps;
        let Some(count) = u64::try_from(steps.len()).ok().filter(|count| *count > 0) else {
            return false;
        };
        let origin = self.ledger.origin();
        match follow_trust(origin, policy, &steps) {
            Ok(newest) => {
                self.tell_voters(*epoch, policy, &steps);
                let (epoch, policy) = (*epoch, newest);
                let mut named = nodes_of(&policy, origin);
                tracing::info!(nodes = ?named.keys(), from = card.node_id, "the members of now were learned from cosigned changes of the trust policy");
                named.extend(self.given.clone());
                self.named.send_replace(named);
                self.followed = Some((epoch.saturating_add(count), policy));
                true
            }
            Err(error) => {
                tracing::warn!(node_id = card.node_id, %error, "a node sends changes of the trust policy that prove nothing");
                false
            }
        }
    }

    /// Tells those who count votes which members each of the steps has led to: any of them may be the voters now.
    fn tell_voters(&self, epoch: u64, policy: &TlogPolicy, steps: &[v1::TrustStep]) {
        let origin = self.ledger.origin();
        for (epoch, count) in (epoch.saturating_add(1)..).zip(1..=steps.len()) {
            let Ok(policy) = follow_trust(origin, policy, steps.get(..count).unwrap_or_default())
            else {
                return;
            };
            let members = nodes_of(&policy, origin).into_keys().collect();
            self.peers.elections.set_later_members(epoch, members);
        }
    }
}
