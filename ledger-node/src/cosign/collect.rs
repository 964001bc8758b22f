//! The leader's part: asking every node for its cosignature until the trust policy is met, and spreading the result.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use ledger_core::hash::TreeSize;
use ledger_core::note::signed_note::{Note, NoteSignature};
use ledger_core::note::tlog_policy::{PolicyWitness, TlogPolicy};
use ledger_core::note::verify::verify_checkpoint;
use ledger_core::state::StateError;
use ledger_proto::peer::v1 as wire;
use ledger_proto::v1;

use super::kept::open_steps;
use super::lacking::{Refusals, lacking};
use super::witnesses::is_met_by_nodes;
use super::{Cosigner, TrustPolicies};
use crate::raft::peers::Purpose;
use crate::raft::standing::Leading;
use crate::storage::view::{StoreState, nodes};

/// How long the nodes have for one checkpoint.
pub(super) const ROUND: Duration = Duration::from_millis(800);
/// How long they have at most, after rounds in which too few answered: each round asks for a larger tree, so that disks that sync more slowly
/// than a round would never have one cosigned.
pub(super) const LONGEST_ROUND: Duration = Duration::from_millis(6_400);
/// Between two checkpoints, unless somebody waits.
pub(super) const PAUSE: Duration = Duration::from_millis(50);
/// How long a node that does not lead waits for the checkpoint of its newest tree to be sent before it asks for it.
const PAUSE_BEHIND: Duration = Duration::from_secs(1);
/// After a round in which too few answered.
pub(super) const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(500);

/// What a round of collecting is to meet.
pub(super) struct Needed {
    /// The policy in force for its tree.
    pub(super) in_force: TlogPolicy,
    /// That and the policies of all open steps.
    pub(super) all: Vec<TlogPolicy>,
}

/// What a round of collecting has met.
enum Met {
    /// Too few have answered.
    Nothing,
    /// The policy in force, and not all that an open step needs.
    PolicyInForce,
    /// All that is needed.
    Everything,
}

impl Cosigner {
    /// Collects, takes what the leader sends before its tree is here, and asks for steps that are lacking. Runs until the node
    /// ends.
    pub async fn run(self: Arc<Self>) {
        tokio::select! {
            () = self.collect() => {}
            () = self.take_ahead() => {}
            () = self.seek_steps() => {}
        }
    }

    /// Collects while this node leads; tells the leader of those who wait while another does.
    async fn collect(&self) {
        let mut tip = self.parts.tip.clone();
        let mut standing = self.parts.standing.clone();
        // What this node had when it began to wait for more.
        let mut lacking = None;
        let mut round = ROUND;
        loop {
            let leading = standing.borrow_and_update().leading.clone();
            let (size, have) = (tip.borrow_and_update().size, self.have());
            let pause = match leading {
                Leading::This if size > have || !self.open_steps_or_none().is_empty() => {
                    Some(self.collect_once(&mut round).await)
                }
                Leading::Other { node_id, address } => {
                    let wanted = self.wanted.size();
                    let is_wanted = wanted > have;
                    if is_wanted || (size > have && lacking == Some(have)) {
                        let wanted = wanted.max(size);
                        self.ask_leader(node_id, &address, wanted).await;
                    }
                    let have = self.have();
                    lacking = (size > have).then_some(have);
                    if is_wanted {
                        Some(PAUSE_AFTER_FAILURE)
                    } else {
                        lacking.map(|_| PAUSE_BEHIND)
                    }
                }
                Leading::This | Leading::ThisAdjusting | Leading::Nobody => None,
            };
            let resting = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => {
                        // Nothing to do until something moves.
                        let _ = tip.changed().await;
                    }
                }
            };
            tokio::select! {
                () = resting => {}
                changed = standing.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = self.wake.notified() => {}
            }
        }
    }

    pub(super) fn have(&self) -> TreeSize {
        let latest = self.latest.borrow();
        latest.as_ref().map_or(TreeSize(0), |latest| latest.size)
    }

    /// Tells the leader what is wanted, and takes what it has: what it sent to all may not have arrived here.
    async fn ask_leader(&self, leader: u64, address: &str, wanted: TreeSize) {
        let peers = &self.parts.peers;
        let Ok(mut client) = peers.client(leader, address, Purpose::Other) else {
            return;
        };
        let message = wire::WantCheckpointRequest {
            tree_size: wanted.0,
            lacking_epochs: Vec::new(),
        };
        let mut request = peers.request(leader, message);
        request.set_timeout(ROUND);
        // The next round of the loop asks again.
        let Ok(answer) = client.want_checkpoint(request).await else {
            return;
        };
        let newest = answer.into_inner().checkpoint;
        let is_new = |latest: &Option<super::Cosigned>| {
            latest.as_ref().is_none_or(|latest| *latest.note != newest)
        };
        if !newest.is_empty()
            && is_new(&self.latest.borrow())
            && let Err(refused) = self.put(&newest)
        {
            tracing::debug!(%refused, "the leader's checkpoint was not taken");
        }
    }

    /// One checkpoint, from the log's signature to all nodes, within a length of time that becomes longer when too few answer. Returns how
    /// long to rest afterwards.
    pub(super) async fn collect_once(&self, length: &mut Duration) -> Duration {
        let met = self.round(*length).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot collect cosignatures");
            Met::Nothing
        });
        *length = match met {
            Met::Nothing => LONGEST_ROUND.min(*length * 2),
            Met::PolicyInForce | Met::Everything => ROUND,
        };
        match met {
            Met::Everything => PAUSE,
            // A step that is still open must not hold up the trees after it.
            Met::PolicyInForce if self.parts.tip.borrow().size > self.have() => PAUSE,
            Met::PolicyInForce | Met::Nothing => PAUSE_AFTER_FAILURE,
        }
    }

    async fn round(&self, length: Duration) -> Result<Met, String> {
        let tip = *self.parts.tip.borrow();
        let signed = self
            .parts
            .notary
            .sign(&tip)
            .map_err(|failure| failure.message)?;
        let needed = self.needed(tip.size).map_err(|error| error.to_string())?;
        let mut note = Note::parse(signed.as_bytes()).map_err(|error| error.to_string())?;
        let mut refusals = Refusals::default();
        let own = self.cosign(&signed, self.parts.peers.node_id).await;
        let answer = (self.parts.name.clone(), own);
        self.add(&mut note, answer, &needed.all, &mut refusals);

        let cards = self.cards()?;
        let others = cards
            .iter()
            .filter(|card| card.node_id != self.parts.peers.node_id);
        let mut answers: FuturesUnordered<_> = others
            .map(async |card| {
                let ask = self.ask(card.node_id, &card.peer_address, &signed, length);
                let answer = ask.await;
                (card.name.clone(), answer)
            })
            .collect();
        for card in cards.iter().filter(|card| card.name != self.parts.name) {
            let silent = format!("no answer from {} within {length:?}", card.peer_address);
            refusals.note(&card.name, &silent);
        }
        let keys: BTreeSet<Vec<u8>> = cards.iter().map(|card| card.public_key.clone()).collect();
        let is_node =
            |witness: &PolicyWitness| keys.contains(witness.key.public_key().as_bytes().as_slice());
        let collect = async {
            while !is_met_by_nodes(&note, &needed.all, is_node) {
                let Some(answer) = answers.next().await else {
                    break;
                };
                self.add(&mut note, answer, &needed.all, &mut refusals);
            }
        };
        // What is missing then may come in the next round.
        let _ = tokio::time::timeout(length, collect).await;
        drop(answers);
        // A witness never sees what the nodes have not vouched for.
        if is_met_by_nodes(&note, std::slice::from_ref(&needed.in_force), is_node) {
            self.ask_witnesses(&mut note, tip.size, &needed, is_node, &mut refusals)
                .await;
        }
        let met = self.take_round(&note, &needed, cards);
        let open = self.open_steps_or_none();
        let lacking = lacking(&note, &needed, &open, is_node, &refusals);
        self.lacking.send_replace(lacking);
        met
    }

    /// Keeps and spreads what a round has collected, if it meets the policy in force.
    fn take_round(
        &self,
        note: &Note,
        needed: &Needed,
        cards: Vec<v1::NodeCard>,
    ) -> Result<Met, String> {
        if !is_met(note, std::slice::from_ref(&needed.in_force)) {
            return Ok(Met::Nothing);
        }
        let carries_steps = is_met(note, &needed.all);
        let note = note.to_string();
        self.put(&note)?;
        self.spread(cards, note);
        Ok(if carries_steps {
            Met::Everything
        } else {
            Met::PolicyInForce
        })
    }

    /// The policy in force for a tree of this size, and all that a checkpoint of it should meet: those of open steps too.
    fn needed(&self, size: TreeSize) -> std::io::Result<Needed> {
        let store = &*self.parts.store;
        let state = StoreState(store);
        let policies = TrustPolicies::read(&state, size)?;
        let open = open_steps(store, &policies)?;
        let mut epochs = BTreeSet::from([policies.epoch()]);
        for epoch in open {
            epochs.extend([epoch.saturating_sub(1), epoch]);
        }
        let all = epochs.into_iter().map(|epoch| policies.policy(epoch));
        let all: Result<Vec<TlogPolicy>, StateError> = all.collect();
        Ok(Needed {
            in_force: policies.in_force()?,
            all: all?,
        })
    }

    /// Adds a cosignature that verifies and that some policy asks for.
    pub(super) fn add(
        &self,
        note: &mut Note,
        (cosigner, answer): (String, Result<String, String>),
        needed: &[TlogPolicy],
        refusals: &mut Refusals,
    ) {
        let line = match answer {
            Ok(line) => line,
            Err(refused) => {
                tracing::debug!(cosigner, %refused, "no cosignature");
                refusals.note(&cosigner, &refused);
                return;
            }
        };
        refusals.note(&cosigner, "its cosignature is not valid");
        let Ok(signature) = NoteSignature::parse(line.trim_end_matches('\n')) else {
            return;
        };
        let keys: Vec<_> = needed
            .iter()
            .flat_map(TlogPolicy::witnesses)
            .map(|witness| &witness.key)
            .filter(|key| key.name() == signature.name())
            .take(1)
            .collect();
        let mut alone = note.clone();
        if alone.add(signature.clone()).is_ok()
            && alone
                .open(&keys)
                .is_ok_and(|opened| !opened.verified.is_empty())
        {
            // The same line was added to a copy without objection.
            let _ = note.add(signature);
        }
    }

    async fn ask(
        &self,
        node: u64,
        address: &str,
        checkpoint: &str,
        within: Duration,
    ) -> Result<String, String> {
        let peers = &self.parts.peers;
        let mut client = peers
            .client(node, address, Purpose::Other)
            .map_err(|error| error.to_string())?;
        let message = wire::CosignRequest {
            checkpoint: checkpoint.to_owned(),
        };
        let mut request = peers.request(node, message);
        request.set_timeout(within);
        let answer = client.cosign(request).await;
        let answer = answer
            .map_err(|status| format!("{address}: {}", status.message()))?
            .into_inner();
        if answer.signature.is_empty() {
            Err(answer.refused)
        } else {
            Ok(answer.signature)
        }
    }

    fn spread(&self, cards: Vec<v1::NodeCard>, checkpoint: String) {
        for card in cards {
            let (node, address) = (card.node_id, card.peer_address);
            if node == self.parts.peers.node_id {
                continue;
            }
            let peers = Arc::clone(&self.parts.peers);
            let message = wire::PutCheckpointRequest {
                checkpoint: checkpoint.clone(),
            };
            tokio::spawn(async move {
                let Ok(mut client) = peers.client(node, &address, Purpose::Other) else {
                    return;
                };
                let mut request = peers.request(node, message);
                request.set_timeout(ROUND);
                if let Err(status) = client.put_checkpoint(request).await {
                    tracing::debug!(%status, node, "a checkpoint was not taken");
                }
            });
        }
    }

    /// All nodes that the ledger knows, past ones included, with the addresses of their peer services.
    pub(super) fn nodes(&self) -> Result<BTreeMap<u64, String>, String> {
        let cards = self.cards()?.into_iter();
        Ok(cards
            .map(|card| (card.node_id, card.peer_address))
            .collect())
    }

    /// The cards of all nodes that the ledger knows, past ones included.
    pub(super) fn cards(&self) -> Result<Vec<v1::NodeCard>, String> {
        let state = StoreState(&*self.parts.store);
        let records = nodes(&state).map_err(|error| error.to_string())?;
        Ok(records.into_iter().filter_map(|node| node.card).collect())
    }
}

pub(super) fn is_met(note: &Note, policies: &[TlogPolicy]) -> bool {
    let note = note.to_string();
    policies
        .iter()
        .all(|policy| verify_checkpoint(note.as_bytes(), policy).is_ok())
}
