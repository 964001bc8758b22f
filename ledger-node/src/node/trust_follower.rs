//! A node that was away learns who the members are now, without taking anybody's word.
//!
//! While a node is down, others join, and one of them may lead when it comes back: a node whose key this one does not know, and without
//! whom it does not get the entries that name the key. Each change of the trust policy is cosigned by the nodes before it, so that it proves
//! itself, whoever brings it; a node votes only after the change that names it is cosigned, so that whoever leads is named by one. The
//! changes come in two ways. When a stranger is refused, this node asks those that it knows; and a member that is refused pushes them
//! ([`super::trust_push`]), which is the only way when all that this node knew have left. What was learned lasts until the ledger says it
//! itself, at the latest until the next start.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ledger_core::evidence::{EvidenceError, TrustPosition};
use ledger_core::note::tlog_policy::TlogPolicy;
use ledger_core::state::{Key, StateError, read};
use ledger_proto::peer::v1 as wire;
use ledger_proto::v1;
use prost::Message as _;
use tokio::sync::{mpsc, watch};

use super::members::{Named, nodes_of};
use super::start::Node;
use super::trust_push::{self, PushReceiver, Pushed};
use crate::ledger::Ledger;
use crate::raft::peers::{Peers, Purpose};
use crate::seldom::Seldom;
use crate::storage::view::nodes;

/// Between two rounds of questions: strangers can cause them.
const PAUSE: Duration = Duration::from_secs(2);
/// How long one node has for its answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many times as long as a verification of pushed steps took the next one waits: strangers can cause them.
const REST: u32 = 9;
/// Most hashes of a proof that a pushed step has: a tree of 2^64 leaves has no longer path.
const MAX_PATH: usize = 64;
/// Between two lines on pushed steps that prove nothing.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// The follower of the trust policy beyond what this node has applied.
pub(super) struct TrustFollower {
    ledger: Ledger,
    peers: Arc<Peers>,
    /// Where the steps have led.
    position: Arc<Mutex<Option<TrustPosition>>>,
    /// Those whom an operator's policy names.
    given: Named,
    named: watch::Sender<Named>,
    unproven: Seldom,
}

/// The follower, what is pushed to it, and the nodes that are named so far and later.
pub(super) struct Following {
    pub(super) follower: TrustFollower,
    pub(super) pushed: mpsc::Receiver<Pushed>,
    pub(super) named: watch::Receiver<Named>,
}

type Position = Mutex<Option<TrustPosition>>;

/// The position, which follows the ledger once that is further.
fn position_now<'a>(
    ledger: &Ledger,
    position: &'a Position,
) -> Result<MutexGuard<'a, Option<TrustPosition>>, StateError> {
    let mut position = position.lock().unwrap_or_else(PoisonError::into_inner);
    let view = ledger.view();
    let own: v1::LedgerRecord = read(&view, &Key::ledger())?.unwrap_or_default();
    let is_behind = |followed: &TrustPosition| followed.epoch <= own.trust_epoch;
    if position.as_ref().is_none_or(is_behind) {
        let key = Key::trust(own.trust_epoch);
        let record: v1::TrustRecord = read(&view, &key)?.unwrap_or_default();
        let policy = TlogPolicy::parse(record.trust_policy.as_bytes());
        let policy = policy.map_err(|error| StateError::damaged(&key, error.to_string()))?;
        *position = Some(TrustPosition {
            epoch: own.trust_epoch,
            policy,
        });
    }
    Ok(position)
}

fn epoch_now(ledger: &Ledger, position: &Position) -> Option<u64> {
    let position = position_now(ledger, position).ok()?;
    position.as_ref().map(|position| position.epoch)
}

/// A pushed step, if it is one.
fn decode(step: &[u8]) -> Result<v1::TrustStep, String> {
    let step = v1::TrustStep::decode(step).map_err(|error| error.to_string())?;
    let path = step.entry.as_ref().map_or(0, |entry| entry.path.len());
    if path > MAX_PATH {
        return Err(format!("a proof of {path} hashes"));
    }
    Ok(step)
}

impl TrustFollower {
    /// The follower of a node, and the receiver of what is pushed to it.
    pub(super) fn of(node: &Node) -> (Following, PushReceiver) {
        let (named, receiver) = watch::channel(node.named.clone());
        let follower = Self {
            ledger: node.ledger.clone(),
            peers: Arc::clone(&node.peers),
            position: Arc::default(),
            given: node.named.clone(),
            named,
            unproven: Seldom::new(SAY_AGAIN),
        };
        let (ledger, position) = (node.ledger.clone(), Arc::clone(&follower.position));
        let followed = Arc::new(move || epoch_now(&ledger, &position));
        let (push_receiver, pushed) =
            PushReceiver::new(node.peers.genesis, followed, trust_push::PATIENCE);
        let following = Following {
            follower,
            pushed,
            named: receiver,
        };
        (following, push_receiver)
    }

    /// Asks whenever a stranger was refused, and looks at what is pushed, until the node ends.
    pub(super) async fn run(self, pushed: mpsc::Receiver<Pushed>) {
        tokio::join!(self.ask_for_strangers(), self.take_pushed(pushed));
    }

    async fn ask_for_strangers(&self) {
        loop {
            self.peers.transport.stranger_refused().await;
            // Whoever cannot read its own state is stopped by others.
            if let Err(error) = self.ask_all().await {
                tracing::debug!(%error, "the trust policy cannot be followed");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn take_pushed(&self, mut pushed: mpsc::Receiver<Pushed>) {
        while let Some(Pushed { steps, done }) = pushed.recv().await {
            let Some(steps) = steps.upgrade() else {
                continue;
            };
            let began = Instant::now();
            tokio::task::block_in_place(|| self.take(&steps));
            drop(done);
            let rest = began.elapsed().saturating_mul(REST);
            tokio::time::sleep(rest.min(PAUSE)).await;
        }
    }

    /// Looks at steps that anybody can have pushed.
    fn take(&self, steps: &[Vec<u8>]) {
        let decoded: Result<Vec<_>, String> = steps.iter().map(|step| decode(step)).collect();
        let failed = match decoded.map(|steps| self.advance(&steps, None)) {
            Ok(Ok(Ok(_))) => return,
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error,
        };
        if self.unproven.may_say() {
            tracing::warn!(error = %failed, "changes of the trust policy were pushed to this node that prove nothing");
        }
    }

    /// Follows steps as far as each is proven. True if one was.
    fn advance(
        &self,
        steps: &[v1::TrustStep],
        from: Option<u64>,
    ) -> Result<Result<bool, EvidenceError>, StateError> {
        let origin = self.ledger.origin();
        let mut position = position_now(&self.ledger, &self.position)?;
        let Some(position) = position.as_mut() else {
            return Ok(Ok(false));
        };
        let mut passed = Vec::new();
        let outcome = position.advance(origin, steps, &mut passed);
        // Any of them may have elected whoever leads now.
        for passed in &passed {
            let members = nodes_of(&passed.policy, origin).into_keys().collect();
            let elections = &self.peers.elections;
            elections.set_later_members(passed.epoch, members);
        }
        let has_moved = !passed.is_empty();
        if has_moved {
            let mut named = nodes_of(&position.policy, origin);
            tracing::info!(nodes = ?named.keys(), epoch = position.epoch, from, "the members of now were learned from cosigned changes of the trust policy");
            named.extend(self.given.clone());
            self.named.send_replace(named);
        }
        Ok(outcome.map(|()| has_moved))
    }

    /// Asks one node after the other, until one has a step that this node lacks.
    async fn ask_all(&self) -> Result<(), StateError> {
        let cards = nodes(&self.ledger.view())?;
        let cards = cards.into_iter().filter_map(|record| record.card);
        // This node itself is not listed, and nobody who is not is asked.
        for card in cards {
            let is_listed = self.peers.transport.directory().by_id(card.node_id);
            if is_listed.is_some() && self.ask(&card).await? {
                break;
            }
        }
        Ok(())
    }

    /// Asks one node. True if it had a step, and each step was proven.
    async fn ask(&self, card: &v1::NodeCard) -> Result<bool, StateError> {
        let Some(after_epoch) = epoch_now(&self.ledger, &self.position) else {
            return Ok(false);
        };
        let client = self
            .peers
            .client(card.node_id, &card.peer_address, Purpose::Other);
        let Ok(mut client) = client else {
            return Ok(false);
        };
        let message = wire::GetTrustStepsRequest { after_epoch };
        let mut request = self.peers.request(card.node_id, message);
        request.set_timeout(PATIENCE);
        let Ok(answer) = client.get_trust_steps(request).await else {
            return Ok(false);
        };
        let steps = answer.into_inner().trust_steps;
        let advanced = tokio::task::block_in_place(|| self.advance(&steps, Some(card.node_id)))?;
        Ok(advanced.unwrap_or_else(|error| {
            tracing::warn!(node_id = card.node_id, %error, "a node sends changes of the trust policy that prove nothing");
            false
        }))
    }
}
