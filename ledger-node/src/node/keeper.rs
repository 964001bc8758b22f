//! What a node looks after while it runs, once a second: its marker, snapshots, and, if it leads, the replicas and
//! sessions whose time is over.

use std::sync::Arc;
use std::time::Duration;

use ledger_core::id::SessionId;
use ledger_core::machine::{CLUSTER_VERSION, ENGINE_VERSIONS};
use ledger_core::state::{Key, read};
use ledger_proto::v1::{self, command::Body};
use openraft::async_runtime::WatchReceiver;
use openraft::{RaftMetrics, ServerState};
use tokio::sync::watch;

use super::check::marked_id;
use super::log_purge::purge_log;
use super::own_commands::OwnCommands;
use super::reconciler::Reconciler;
use super::start::Node;
use crate::apply::suspicion::Suspicion;
use crate::clock::Clock;
use crate::cosign::Cosigner;
use crate::fatal::{Fatal, damaged, disk};
use crate::index;
use crate::ledger::Ledger;
use crate::raft::Raft;
use crate::raft::flusher::Flusher;
use crate::raft::log::Log;
use crate::raft::peers::Peers;
use crate::raft::snapshot::Snapshots;
use crate::raft::standing::{Leading, Standing};
use crate::raft::types::Types;
use crate::storage::Store;
use crate::storage::marker::Marker;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// Sessions sealed at a time.
const SEALS: usize = 64;
/// How long past its expiry a session is sealed, in microseconds: no clock of a voter should still see it open.
const SEAL_AFTER_US: u64 = 1_000_000;

/// Looks at a quorum's tree that is larger than this node's, while all that is committed is applied here, until this node is found to
/// be the damaged one: what a leader says of what is committed can be a heartbeat old.
const LEFT_BEHIND_LOOKS: u32 = 5;

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
    clock: Arc<dyn Clock>,
    own: OwnCommands,
    fatal: Fatal,
    snapshot_bytes: u64,
    snapshot_at: u64,
    reconciler: Reconciler,
    suspicion: Arc<Suspicion>,
    /// For how many looks a quorum has had a larger tree.
    left_behind: u32,
    store: Arc<dyn Store>,
    /// The ledger's time offset that the log was purged for.
    purged_for_us: u64,
    /// The newest time offset, and the place in the log that the entry is not behind which led to it.
    adjusted: Option<(u64, u64)>,
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
            clock: Arc::clone(&node.clock),
            own: node.own_commands(),
            fatal,
            snapshot_bytes,
            snapshot_at: 0,
            reconciler: Reconciler::new(node),
            suspicion: Arc::clone(&node.suspicion),
            left_behind: 0,
            store: Arc::clone(&node.store),
            purged_for_us: 0,
            adjusted: None,
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
            self.peers.memory.save();
            self.compare_trees(&metrics);
            self.compare_sizes(&metrics);
            self.snapshot().await;
            if let Err(error) = self.purge_dates_ahead(&metrics).await {
                tracing::warn!(%error, "entries that are dated ahead are still in the log, and purged later");
            }
            if let Err(error) = self.declare_support().await {
                tracing::debug!(%error, "what this build runs is declared later");
            }
            let leads = self.standing.borrow().leading == Leading::This;
            self.reconciler.look(leads, &metrics).await;
            if leads {
                self.seal(&metrics).await;
            }
        }
    }

    /// Writes into the marker how far the log is known to be committed and durable here.
    async fn mark(&self, metrics: &RaftMetrics<Types>) {
        let Some(id) = metrics.last_applied.min(self.flusher.durable()) else {
            return;
        };
        let id = marked_id(&id);
        if self.marker.read().committed >= Some(id) {
            return;
        }
        let marker = Arc::clone(&self.marker);
        let marked = tokio::task::spawn_blocking(move || {
            marker.update(|record| record.committed = Some(id))
        });
        let marked = marked.await.map_err(std::io::Error::other);
        if let Err(error) = marked.and_then(|marked| Ok(marked?)) {
            self.fatal
                .stop(disk("the marker cannot be written", &error));
        }
    }

    /// Stops this node if it leads and a quorum of voters has another tree: it is damaged, and one of the others can lead.
    fn compare_trees(&self, metrics: &RaftMetrics<Types>) {
        let voters: Vec<u64> = metrics.membership_config.voter_ids().collect();
        let refusals = &self.peers.refusals;
        if metrics.state == ServerState::Leader
            && let Some(others) = refusals.quorum_with_another_tree(metrics.current_term, &voters)
        {
            self.fatal.stop(damaged(&format!(
                "a quorum of the voters, nodes {others:?}, has another tree than this leader"
            )));
        }
    }

    /// Stops this node if batches are void here on which a quorum has gone on: its tree is the wrong one.
    fn compare_sizes(&mut self, metrics: &RaftMetrics<Types>) {
        let size = self.ledger.tip().borrow().size;
        let doubts = self.suspicion.current();
        let has_all = metrics.last_applied >= metrics.cluster_committed;
        let larger = self.cosigner.ahead_size().filter(|ahead| *ahead > size);
        let (Some(void), Some(larger), true) = (doubts, larger, has_all) else {
            self.left_behind = 0;
            return;
        };
        self.left_behind = self.left_behind.saturating_add(1);
        if self.left_behind >= LEFT_BEHIND_LOOKS {
            self.fatal.stop(damaged(&format!(
                "{void}, and a quorum has gone on with it and cosigned a tree of size {larger}: this node's is the wrong one"
            )));
        }
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

    /// Takes entries out of the log that are dated ahead of clocks, once admins have adjusted the ledger's time to them. A node that has
    /// not got them refuses them for as long as they are ahead of its clock; a snapshot brings it behind the adjustment. This is done
    /// again after a start: it may have been interrupted.
    async fn purge_dates_ahead(&mut self, metrics: &RaftMetrics<Types>) -> std::io::Result<()> {
        let offset_us = self.ledger.tip().borrow().time_offset_us;
        if offset_us == self.purged_for_us {
            return Ok(());
        }
        match self.adjusted {
            Some((of_us, through)) if of_us == offset_us => {
                if purge_log(&self.raft, &self.snapshots, &*self.store, through).await? {
                    self.purged_for_us = offset_us;
                }
            }
            Some(_) | None => {
                // The metrics may be older than the tip.
                let applied = metrics.last_applied.map_or(0, |id| id.index());
                self.adjusted = Some((offset_us, applied.saturating_add(1)));
            }
        }
        Ok(())
    }

    /// Ends sessions whose time is over, one after the other, so that none is sealed twice.
    async fn seal(&self, metrics: &RaftMetrics<Types>) {
        let voters: Vec<u64> = metrics.membership_config.voter_ids().collect();
        let (clocks, now_us) = (&self.peers.clocks, self.clock.now_us());
        // A session ends for good: this node's clock alone is not enough.
        let Some(reached) = clocks.supported_us(metrics.id, &voters, now_us) else {
            return;
        };
        let offset_us = self.ledger.tip().borrow().time_offset_us;
        let until = reached.min(now_us).saturating_add(offset_us);
        let until = until.saturating_sub(SEAL_AFTER_US);
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
