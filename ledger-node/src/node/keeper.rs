//! What a node looks after while it runs, once a second: its marker, its clock, snapshots, and, if it leads, the replicas and
//! sessions whose time is over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ledger_core::id::SessionId;
use ledger_core::machine::{CLUSTER_VERSION, ENGINE_VERSIONS, Tip};
use ledger_core::state::{Key, StateError, read};
use ledger_proto::v1::{self, command::Body};
use openraft::async_runtime::WatchReceiver;
use openraft::{ChangeMembers, RaftMetrics};
use tokio::sync::watch;

use super::own_commands::OwnCommands;
use super::start::Node;
use crate::clock::Clock;
use crate::cosign::Cosigner;
use crate::fatal::{Fatal, disk};
use crate::index;
use crate::ledger::Ledger;
use crate::raft::Raft;
use crate::raft::clocks::MAX_OFFSET_US;
use crate::raft::flusher::Flusher;
use crate::raft::hand_over::successor;
use crate::raft::log::Log;
use crate::raft::peers::Peers;
use crate::raft::snapshot::Snapshots;
use crate::raft::standing::{Leading, Standing};
use crate::raft::types::{Peer, Types};
use crate::storage::marker::{MarkedLogId, Marker};
use crate::storage::view::nodes;
use crate::submit::pace::Pace;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// How far a leader's clock may be behind the last entry, in microseconds.
const MAX_BEHIND_US: u64 = 5_000_000;
/// Sessions sealed at a time.
const SEALS: usize = 64;
/// How long past its expiry a session is sealed, in microseconds: no clock of a voter should still see it open.
const SEAL_AFTER_US: u64 = 1_000_000;
/// A new replica votes once it is at most so many log entries behind.
const MAX_LAG: u64 = 1_000;

/// Looks at steps of the trust policy that stay open before somebody is told: while nodes are well, they do not.
const LOOKS: u32 = 5;
/// Looks until somebody is told again.
const LOOKS_AGAIN: u32 = 300;

/// For how many looks the membership has waited for the same steps of the trust policy.
#[derive(Debug, Default)]
struct Waiting {
    open: BTreeSet<u64>,
    looks: u32,
}

impl Waiting {
    /// Another look. True if it is time to tell somebody.
    fn is_to_be_told(&mut self, open: &BTreeSet<u64>) -> bool {
        if self.open != *open {
            self.open.clone_from(open);
            self.looks = 0;
        }
        self.looks = self.looks.saturating_add(1);
        self.looks % LOOKS_AGAIN == LOOKS
    }
}

/// The keeper of a node.
pub(super) struct Keeper {
    raft: Raft,
    ledger: Ledger,
    log: Log,
    snapshots: Arc<Snapshots>,
    flusher: Flusher,
    marker: Arc<Marker>,
    peers: Arc<Peers>,
    cosigner: Arc<Cosigner>,
    standing: watch::Receiver<Standing>,
    may_lead: watch::Sender<bool>,
    tip: watch::Receiver<Tip>,
    clock: Arc<dyn Clock>,
    pace: Arc<Pace>,
    /// The clock at the last look, sound or not.
    looked: Pace,
    own: OwnCommands,
    fatal: Fatal,
    snapshot_bytes: u64,
    snapshot_at: u64,
    waiting: Waiting,
}

impl Keeper {
    pub(super) fn new(node: &Node, snapshot_bytes: u64, fatal: Fatal) -> Self {
        Self {
            raft: node.raft.clone(),
            ledger: node.ledger.clone(),
            log: node.log.clone(),
            snapshots: Arc::clone(&node.snapshots),
            flusher: node.flusher.clone(),
            marker: Arc::clone(&node.marker),
            peers: Arc::clone(&node.peers),
            cosigner: Arc::clone(&node.cosigner),
            standing: node.standing.clone(),
            may_lead: node.may_lead.clone(),
            tip: node.tip.clone(),
            clock: Arc::clone(&node.clock),
            pace: Arc::clone(&node.pace),
            looked: Pace::default(),
            own: node.own_commands(),
            fatal,
            snapshot_bytes,
            snapshot_at: 0,
            waiting: Waiting::default(),
        }
    }

    /// Looks after the node until it ends.
    pub(super) async fn run(mut self) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let metrics = self.raft.metrics().borrow_watched().clone();
            self.mark(&metrics).await;
            self.watch_clock(&metrics).await;
            self.snapshot().await;
            if let Err(error) = self.declare_support().await {
                tracing::debug!(%error, "what this build runs is declared later");
            }
            if self.standing.borrow().leading == Leading::This {
                if let Err(error) = self.reconcile(&metrics).await {
                    tracing::warn!(%error, "cannot bring raft's membership to the ledger's");
                }
                self.seal().await;
            }
        }
    }

    /// Writes into the marker how far the log is known to be committed and durable here.
    async fn mark(&self, metrics: &RaftMetrics<Types>) {
        let Some(id) = metrics.last_applied.min(self.flusher.durable()) else {
            return;
        };
        let id = MarkedLogId {
            term: id.committed_leader_id().term,
            index: id.index(),
        };
        if self.marker.read().committed >= Some(id) {
            return;
        }
        let marker = Arc::clone(&self.marker);
        let marked = tokio::task::spawn_blocking(move || {
            marker.update(|record| record.committed = Some(id))
        });
        if let Ok(Err(error)) = marked.await {
            self.fatal
                .stop(disk("the marker cannot be written", &error.into()));
        }
    }

    /// A node whose clock is off must not stamp batches.
    async fn watch_clock(&self, metrics: &RaftMetrics<Types>) {
        let (now, instant) = (self.clock.now_us(), self.clock.instant());
        if self.is_first_look_at_jump(now, instant) {
            return;
        }
        let voters: Vec<u64> = metrics.membership_config.voter_ids().collect();
        let ahead = self
            .peers
            .clocks
            .ahead_of_median_us(metrics.id, &voters, now);
        let behind_ledger = self.tip.borrow().time_us > now.saturating_add(MAX_BEHIND_US);
        let sound = ahead.abs() <= MAX_OFFSET_US && !behind_ledger;
        let changed = self.may_lead.send_if_modified(|current| {
            let changed = *current != sound;
            *current = sound;
            changed
        });
        if changed && sound {
            tracing::info!("the clock is sound again");
        }
        if sound {
            self.pace.keep(now, instant);
            return;
        }
        if changed {
            tracing::error!(
                ahead_of_voters_us = ahead,
                behind_ledger,
                "this node's clock is off and it will not lead; check its time service"
            );
        }
        if self.raft.is_leader()
            && let Ok(to) = successor(&self.raft, None)
            && let Err(error) = self.raft.trigger().transfer_leader(to).await
        {
            tracing::warn!(%error, "cannot hand leadership over");
        }
    }

    /// What peers' answers have said of a clock before it jumped says nothing of it now: new answers are there at the next look.
    fn is_first_look_at_jump(&self, now_us: u64, instant: Instant) -> bool {
        let has_jumped = self.looked.is_broken(now_us, instant);
        self.looked.keep(now_us, instant);
        if has_jumped {
            tracing::warn!(
                "the clock has jumped; nothing is stamped until the others' clocks were compared with it"
            );
            self.peers.clocks.forget();
        }
        has_jumped
    }

    /// Makes a snapshot when the log has grown enough, or the newest one is damaged; openraft then purges what it covers.
    async fn snapshot(&mut self) {
        let appended = self.log.appended_bytes();
        let current = self.snapshots.current();
        let is_damaged = current.is_some_and(|current| current.is_damaged());
        if !is_damaged && appended.saturating_sub(self.snapshot_at) < self.snapshot_bytes {
            return;
        }
        self.snapshot_at = appended;
        if let Err(error) = self.raft.trigger().snapshot().await {
            tracing::warn!(%error, "cannot make a snapshot");
        }
    }

    /// The ledger says who the replicas are; Raft follows.
    async fn reconcile(&mut self, metrics: &RaftMetrics<Types>) -> Result<(), String> {
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
                    return added.map(drop).map_err(|error| error.to_string());
                }
                Some(known) if known != peer => {
                    tracing::info!(node_id = id, address = %peer.address, "a replica has moved");
                    let nodes = BTreeMap::from([(*id, peer.clone())]);
                    let moved = self
                        .raft
                        .change_membership(ChangeMembers::SetNodes(nodes), true)
                        .await;
                    return moved.map(drop).map_err(|error| error.to_string());
                }
                Some(_) => {}
            }
        }
        let known: BTreeSet<u64> = membership.nodes().map(|(id, _)| *id).collect();
        if voters == ids && known == ids && !joint {
            return Ok(());
        }
        if !self.has_caught_up(metrics, &ids) {
            return Ok(());
        }
        // Those who leave must have cosigned their leaving first: afterwards nobody answers for the old trust policy.
        let open = self.cosigner.open_steps();
        let open = open.map_err(|error| error.to_string())?;
        if !open.is_empty() {
            if self.waiting.is_to_be_told(&open) {
                tracing::warn!(
                    epochs = ?open,
                    "the membership waits for cosignatures of these changes of the trust policy, by the nodes before and those after; start those that are down"
                );
            }
            return Ok(());
        }
        tracing::info!(?ids, "the voters change");
        let changed = self.raft.change_membership(ids, false).await;
        changed.map(drop).map_err(|error| error.to_string())
    }

    fn has_caught_up(&self, metrics: &RaftMetrics<Types>, ids: &BTreeSet<u64>) -> bool {
        let last = metrics.last_log_index.unwrap_or_default();
        let Some(replication) = &metrics.replication else {
            return false;
        };
        let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
        ids.iter().filter(|id| !voters.contains(id)).all(|id| {
            replication
                .get(id)
                .and_then(|matched| matched.as_ref())
                .is_some_and(|matched| matched.index().saturating_add(MAX_LAG) >= last)
        })
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

    /// Ends sessions whose time is over, one after the other, so that none is sealed twice.
    async fn seal(&self) {
        let until = self.clock.now_us().saturating_sub(SEAL_AFTER_US);
        let expired = match index::expired(&self.ledger.view(), until, SEALS) {
            Ok(expired) => expired,
            Err(error) => {
                self.fatal
                    .stop(disk("expired sessions cannot be read", &error.into()));
                return;
            }
        };
        let submissions = expired.into_iter().map(|session| self.seal_one(session));
        for answer in futures_util::future::join_all(submissions).await {
            if let Err(error) = answer {
                tracing::debug!(%error, "a session is sealed later");
            }
        }
    }

    /// Tells the ledger what this build runs, if the ledger has it otherwise: after an upgrade, and after joining with a card
    /// of another build.
    async fn declare_support(&self) -> Result<(), String> {
        let key = Key::node(self.ledger.node_id());
        let record: Option<v1::NodeRecord> =
            read(&self.ledger.view(), &key).map_err(|error| error.to_string())?;
        let Some(card) = record
            .filter(|record| record.member)
            .and_then(|record| record.card)
        else {
            return Ok(());
        };
        if card.engine_versions == ENGINE_VERSIONS && card.cluster_versions == [CLUSTER_VERSION] {
            return Ok(());
        }
        self.own
            .submit(Body::DeclareSupport(v1::DeclareSupport {
                engine_versions: ENGINE_VERSIONS.to_vec(),
                cluster_versions: vec![CLUSTER_VERSION],
            }))
            .await
    }

    async fn seal_one(&self, session: SessionId) -> Result<(), String> {
        self.own
            .submit(Body::Seal(v1::Seal {
                session_id: session.to_vec(),
            }))
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_membership_that_waits_is_told_of_now_and_then() {
        let mut waiting = Waiting::default();
        let mut told = |open: &[u64], looks: u32| {
            let open = open.iter().copied().collect();
            (0..looks).filter(|_| waiting.is_to_be_told(&open)).count()
        };
        assert_eq!(told(&[3], LOOKS - 1), 0, "it may be about to be carried");
        assert_eq!(told(&[3], 1), 1);
        assert_eq!(told(&[3], LOOKS_AGAIN - 1), 0);
        assert_eq!(told(&[3], 1), 1);
        assert_eq!(told(&[3, 4], LOOKS), 1, "another one has come");
    }
}
