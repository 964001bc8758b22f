//! How fresh a read is, and proofs for what it finds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ledger_core::evidence::StateTiles;
use ledger_core::hash::{LeafIndex, TreeSize};
use ledger_core::machine::Liveness;
use ledger_core::tree::proof::Prover;
use ledger_proto::peer::v1 as wire;
use ledger_proto::v1::{self, ErrorReason};
use openraft::ReadPolicy;
use openraft::async_runtime::WatchReceiver;
use tokio::sync::watch;

use crate::apply::Applier;
use crate::apply::receipts::Notary;
use crate::apply::receipts::Submitted;
use crate::failure::{Answer, Failure};
use crate::raft::Raft;
use crate::raft::peers::{Peers, Purpose};
use crate::raft::standing::{Leading, Standing};
use crate::raft::types::{self, LogId};
use crate::storage::Store;
use crate::storage::view::StoreState;

/// Between tries to find a leader with a quorum.
const PAUSE: Duration = Duration::from_millis(50);
/// How long one try may take.
const TRY: Duration = Duration::from_secs(2);

/// Reads.
#[derive(Debug)]
pub struct Reads {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Signs and proves.
    pub notary: Arc<Notary>,
    /// openraft.
    pub raft: Raft,
    /// What was applied.
    pub applier: Applier,
    /// The way to the leader.
    pub peers: Arc<Peers>,
    /// Who leads.
    pub standing: watch::Receiver<Standing>,
}

impl Reads {
    /// Returns once everything is applied here that was committed before the call.
    ///
    /// # Errors
    /// There is no leader with a quorum until the deadline.
    pub async fn fully_consistent(&self, deadline: Instant) -> Answer<()> {
        let reached = async {
            loop {
                if let Some(committed) = self.read_index().await {
                    break self.wait_applied(committed).await;
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        let no_quorum = || {
            Failure::new(
                ErrorReason::NoQuorum,
                "no leader with a quorum answers; start nodes until more than half run, and ask again",
            )
            .after(Duration::from_secs(1))
        };
        tokio::time::timeout_at(deadline.into(), reached)
            .await
            .map_err(|_| no_quorum())
    }

    /// What is committed, confirmed by a quorum after this call.
    async fn read_index(&self) -> Option<LogId> {
        let leading = self.standing.borrow().leading.clone();
        match leading {
            Leading::This | Leading::ThisAdjusting => {
                let read = self.raft.get_read_log_id(ReadPolicy::ReadIndex);
                let read = tokio::time::timeout(TRY, read).await.ok()?;
                read.ok().map(|(id, _)| *id.log_id())
            }
            Leading::Other { node_id, address } => {
                let mut client = self.peers.client(node_id, &address, Purpose::Other).ok()?;
                let mut request = self.peers.request(node_id, wire::ReadIndexRequest {});
                request.set_timeout(TRY);
                let answer = client.read_index(request).await.ok()?.into_inner();
                answer.committed.as_ref().map(types::log_id)
            }
            Leading::Nobody => None,
        }
    }

    async fn wait_applied(&self, id: LogId) {
        let mut applied = self.applier.watch_applied();
        // The applier only ends with the node.
        let _ = applied
            .wait_for(|applied| applied.last.is_some_and(|last| last.index() >= id.index()))
            .await;
    }

    /// Returns once the tree has that size here.
    ///
    /// # Errors
    /// It does not until the deadline.
    pub async fn at_least(&self, size: TreeSize, deadline: Instant) -> Answer<()> {
        let mut tip = self.applier.tip();
        let reached = tip.wait_for(|tip| tip.size >= size);
        let reached = tokio::time::timeout_at(deadline.into(), reached).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Failure::new(
                ErrorReason::BeyondTree,
                format!("the tree does not have {size} entries here yet"),
            )),
        }
    }

    /// The other replicas as Raft has them, with their addresses.
    #[must_use]
    pub fn others(&self) -> Vec<(u64, String)> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let nodes = metrics.membership_config.nodes();
        nodes
            .filter(|(id, _)| **id != self.peers.node_id)
            .map(|(id, peer)| (*id, peer.address.clone()))
            .collect()
    }

    /// An entry that is applied, proven to a checkpoint of now.
    ///
    /// # Errors
    /// The store cannot be read, or is damaged.
    pub fn submitted(&self, index: LeafIndex, replayed: Option<Liveness>) -> Answer<Submitted> {
        let tip = *self.applier.tip().borrow();
        let checkpoint = self.notary.sign(&tip)?;
        let (entry, checkpoint) = (self.prove(index, tip.size)?, checkpoint);
        Ok(Submitted {
            index,
            replayed,
            entry,
            checkpoint,
            level: v1::ReceiptLevel::Committed,
        })
    }

    /// An entry with its proof to the tree of a size.
    ///
    /// # Errors
    /// The store cannot be read, or is damaged.
    pub fn prove(&self, index: LeafIndex, size: TreeSize) -> Answer<v1::ProvenEntry> {
        let state = StoreState(&*self.store);
        let tiles = StateTiles(&state);
        let mut prover = Prover::new(&tiles, self.notary.tree_hash(), size);
        self.notary.prove(&mut prover, index)
    }
}
