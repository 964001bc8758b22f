//! The running ledger as the services see it: submit, wait, read, checkpoint.

mod readiness;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ledger_core::hash::{LeafIndex, TreeSize};
use ledger_core::ledger;
use ledger_core::machine::{CLUSTER_VERSION, ENGINE_VERSIONS, Machine, Tip};
use ledger_core::state::{Key, read};
use ledger_proto::peer::v1 as wire;
use ledger_proto::v1::{self, ErasureState, ErrorReason};
use policy_engine::BundleDigest;
use tokio::sync::watch;

use crate::apply::receipts::Submitted;
use crate::apply::suspicion::Suspicion;
use crate::clock::Clock;
use crate::cosign::attested::not_cosigning;
use crate::cosign::{Cosigned, Cosigner, kept_page};
use crate::failure::{Answer, Failure};
use crate::raft::peers::Purpose;
use crate::raft::standing::{Leading, Standing};
use crate::reads::Reads;
use crate::storage::view::StoreState;
use crate::storage::view::View;
use crate::storage::{Read, Store, Table, meta};
use crate::submit::Submitter;
use crate::submit::pace::Pace;
use readiness::not_ready;

/// How long another node has to answer.
const ASK: Duration = Duration::from_secs(2);

/// A handle on the running ledger. Clones are the same ledger.
#[derive(Debug, Clone)]
pub struct Ledger(pub(super) Arc<Parts>);

/// What the handle stands for.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) origin: String,
    pub(super) node_id: u64,
    pub(super) store: Arc<dyn Store>,
    pub(super) machine: Arc<Machine>,
    pub(super) submitter: Submitter,
    pub(super) reads: Arc<Reads>,
    pub(super) cosigner: Arc<Cosigner>,
    pub(super) standing: watch::Receiver<Standing>,
    pub(super) clock: Arc<dyn Clock>,
    /// Why the node takes no commands, if it does not.
    pub(super) not_ready: watch::Receiver<Option<String>>,
    /// Why the clock is not to be used, if it is not.
    pub(super) clock_is_off: watch::Receiver<Option<String>>,
    /// What the membership waits for, if this node leads and it waits.
    pub(super) membership_waits: watch::Receiver<Option<String>>,
    pub(super) pace: Arc<Pace>,
    /// Whether this node doubts its tree.
    pub(super) suspicion: Arc<Suspicion>,
}

impl Ledger {
    /// The name of the ledger.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.0.origin
    }

    /// This node.
    #[must_use]
    pub fn node_id(&self) -> u64 {
        self.0.node_id
    }

    /// Microseconds since 1970 by this node's clock.
    #[must_use]
    pub fn clock_us(&self) -> u64 {
        self.0.clock.now_us()
    }

    /// The ledger's time by this node's clock, in microseconds since 1970.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        let tip = self.tip();
        let offset_us = tip.borrow().time_offset_us;
        self.clock_us().saturating_add(offset_us)
    }

    /// What is applied now, frozen.
    #[must_use]
    pub fn view(&self) -> View {
        View::new(self.0.store.view())
    }

    /// The end of what is applied, as it moves.
    #[must_use]
    pub fn tip(&self) -> watch::Receiver<Tip> {
        self.0.reads.applier.tip()
    }

    /// The machine, for simulations.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.0.machine
    }

    /// Returns once everything is applied that was committed before the call (ReadIndex).
    ///
    /// # Errors
    /// There is no leader with a quorum until the deadline.
    pub async fn fully_consistent(&self, deadline: Instant) -> Answer<()> {
        self.0.reads.fully_consistent(deadline).await
    }

    /// Returns once the tree has that size here.
    ///
    /// # Errors
    /// It does not until the deadline.
    pub async fn at_least(&self, size: TreeSize, deadline: Instant) -> Answer<()> {
        self.0.reads.at_least(size, deadline).await
    }

    /// Brings a command into the ledger and waits for its entry. Form, signatures and limits are checked here; whether the body
    /// fits the rpc is the caller's to check. For COSIGNED it waits for cosigning as long as the deadline allows, and answers
    /// COMMITTED otherwise.
    ///
    /// # Errors
    /// [`Failure`], which says whether anything happened.
    pub async fn submit(
        &self,
        submission: v1::Submission,
        level: v1::ReceiptLevel,
        deadline: Instant,
    ) -> Answer<Submitted> {
        if let Some(why) = self.takes_nothing(&submission) {
            return Err(not_ready(why));
        }
        let submitted = self.0.submitter.submit(submission, deadline).await;
        let submitted = submitted.map_err(|failure| {
            if failure.reason == ErrorReason::RequestStale {
                // The clock may have jumped just then.
                self.or_clock_is_off(failure)
            } else {
                failure
            }
        })?;
        // What was applied behind a batch that is void here is not vouched for by this node alone.
        let doubt = self.doubt();
        if level != v1::ReceiptLevel::Cosigned && doubt.is_none() {
            return Ok(submitted);
        }
        let level = v1::ReceiptLevel::Cosigned;
        let enough = TreeSize(submitted.index.0 + 1);
        match self.checkpoint(enough, level, deadline).await {
            Ok((checkpoint, size)) => {
                let entry = self.0.reads.prove(submitted.index, size);
                Ok(Submitted {
                    entry: entry.map_err(Failure::once_brought)?,
                    checkpoint,
                    level,
                    ..submitted
                })
            }
            Err(_) => match doubt {
                Some(why) => Err(not_ready(why).once_brought()),
                None => Ok(submitted),
            },
        }
    }

    /// Returns once this node stops, with what to tell those whose stream ends for it.
    pub async fn stopping(&self) -> Failure {
        let mut why = self.0.not_ready.clone();
        let why = why.wait_for(Option::is_some).await;
        // A node that has ended without saying so is one that stops.
        not_ready(why.ok().and_then(|why| why.clone()).unwrap_or_default())
    }

    /// A checkpoint of at least that size: the newest for COMMITTED (signed for what is applied now), the newest that met the
    /// trust policy for COSIGNED; waits until there is one. Returns the note and its size.
    ///
    /// # Errors
    /// There is none until the deadline.
    pub async fn checkpoint(
        &self,
        min_size: TreeSize,
        level: v1::ReceiptLevel,
        deadline: Instant,
    ) -> Answer<(Arc<str>, TreeSize)> {
        if level != v1::ReceiptLevel::Cosigned {
            if let Some(why) = self.doubt() {
                return Err(not_ready(why));
            }
            self.at_least(min_size, deadline).await?;
            let tip = *self.tip().borrow();
            return Ok((self.0.reads.notary.sign(&tip)?, tip.size));
        }
        let mut latest = self.0.cosigner.latest();
        let enough = |latest: &Option<Cosigned>| {
            latest
                .as_ref()
                .is_some_and(|latest| latest.size >= min_size)
        };
        if !enough(&latest.borrow()) {
            self.0.cosigner.want(min_size);
        }
        let found = tokio::time::timeout_at(deadline.into(), latest.wait_for(enough)).await;
        match found {
            Ok(Ok(latest)) => latest
                .as_ref()
                .map(|latest| (Arc::clone(&latest.note), latest.size)),
            Ok(Err(_)) | Err(_) => None,
        }
        .ok_or_else(|| {
            Failure::new(
                ErrorReason::BeyondTree,
                format!(
                    "no checkpoint of at least {min_size} entries has met the trust policy yet"
                ),
            )
        })
    }

    /// The cosigned checkpoint that carries the change of trust policy to `epoch`: it covers the change and meets the policy
    /// before and the policy after. None while there is none yet.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn trust_checkpoint(&self, epoch: u64) -> Answer<Option<String>> {
        let damaged = |what: String| Failure::new(ErrorReason::DataDamaged, what);
        let note = self
            .0
            .store
            .get(Table::Meta, &meta::trust_step_key(epoch))
            .map_err(|error| damaged(error.to_string()))?;
        note.map(String::from_utf8)
            .transpose()
            .map_err(|error| damaged(error.to_string()))
    }

    /// A page of the cosigned checkpoints that are kept here, those of trees larger than `after`, the smallest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn kept_checkpoints(
        &self,
        after: Option<u64>,
        limit: usize,
    ) -> Answer<Vec<(TreeSize, String)>> {
        kept_page(&*self.0.store, after, limit)
            .map_err(|error| Failure::new(ErrorReason::DataDamaged, error.to_string()))
    }

    /// How far each replica has come with an erasure, this one included; those that do not answer are left out.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn erasure_states(&self, leaf: LeafIndex) -> Answer<BTreeMap<u64, ErasureState>> {
        let own = erasure_state(&*self.0.store, leaf)
            .map_err(|error| Failure::new(ErrorReason::DataDamaged, error.to_string()))?;
        let peers = &self.0.reads.peers;
        let asked = self
            .0
            .reads
            .others()
            .into_iter()
            .map(|(id, address)| async move {
                let mut client = peers.client(id, &address, Purpose::Other).ok()?;
                let message = wire::GetErasureStateRequest { index: leaf.0 };
                let mut request = peers.request(id, message);
                request.set_timeout(ASK);
                let answer = client.get_erasure_state(request).await.ok()?;
                Some((id, answer.into_inner().state()))
            });
        let asked = futures_util::future::join_all(asked).await;
        let mut states: BTreeMap<u64, ErasureState> = asked.into_iter().flatten().collect();
        states.insert(self.node_id(), own);
        Ok(states)
    }

    /// How far this node is with a bundle whose chunks are all there, and if it does not compile, why: one finding each.
    #[must_use]
    pub fn compile_state(
        &self,
        namespace: &str,
        digest: &BundleDigest,
    ) -> (v1::CompileState, Vec<String>) {
        let key = Key::bundle(namespace, digest);
        let record: Result<Option<v1::BundleRecord>, _> = read(&StoreState(&*self.0.store), &key);
        // A bundle is complete once its last chunk was applied, and that compiles it.
        let state = match record {
            Ok(Some(record)) if record.complete => v1::CompileState::Ready,
            Ok(Some(record)) if record.received == record.chunk_count => v1::CompileState::Invalid,
            Ok(_) | Err(_) => v1::CompileState::Incomplete,
        };
        (state, Vec::new())
    }

    /// How this node is.
    #[must_use]
    pub fn status(&self) -> v1::GetNodeStatusResponse {
        let latest = self.0.cosigner.latest();
        let quorum_cosigned = latest.borrow().as_ref().map_or(0, |latest| latest.size.0);
        let not_ready = self.not_ready();
        // By itself: what is borrowed stays locked until the end of a statement, and others below read it too.
        let tip = *self.tip().borrow();
        let peers = &self.0.reads.peers;
        let ahead =
            peers
                .clocks
                .ahead_of_median_us(self.node_id(), &self.voters(), self.clock_us());
        v1::GetNodeStatusResponse {
            node_id: self.node_id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ready: not_ready.is_none(),
            not_ready_reason: not_ready.unwrap_or_default(),
            leader_id: self.leader(),
            tree_size: tip.size.0,
            last_entry_time_us: tip.time_us,
            time_offset_us: tip.time_offset_us,
            cosigned_tree_size: self.0.cosigner.signed().0,
            quorum_cosigned_tree_size: quorum_cosigned,
            clock_offset_us: ahead,
            disk_bytes: self.0.store.disk_bytes(),
            engine_versions: ENGINE_VERSIONS.to_vec(),
            cluster_versions: vec![CLUSTER_VERSION],
            attested_tree_size: self.attested_tree_size(),
            // What cannot be read stops the node elsewhere.
            not_cosigning_reason: peers
                .participation
                .why_not()
                .or_else(|| {
                    not_cosigning(&*self.0.store, self.node_id())
                        .unwrap_or_else(|error| Some(error.to_string()))
                })
                .unwrap_or_default(),
            waiting_for: self.waiting_for(),
            witnesses: self.0.cosigner.witness_statuses(),
        }
    }

    /// What the leader waits for: for the membership, and for the next cosigned checkpoint. Empty for nothing.
    fn waiting_for(&self) -> String {
        let membership = self.0.membership_waits.borrow().clone();
        let membership = membership.or_else(|| self.voters_lag());
        let cosigner = self.0.cosigner.waits_for();
        let waits: Vec<String> = membership.into_iter().chain(cosigner).collect();
        waits.join("; ")
    }

    /// The size at which the ledger has this node's digest of its state; 0 if it has none.
    fn attested_tree_size(&self) -> u64 {
        let key = Key::attestation(self.node_id());
        let last: Result<Option<v1::AttestationRecord>, _> =
            read(&StoreState(&*self.0.store), &key);
        last.ok().flatten().map_or(0, |last| last.tree_size)
    }

    /// The voters as Raft has them, ascending.
    #[must_use]
    pub fn voters(&self) -> Vec<u64> {
        self.0.reads.raft.voter_ids().collect()
    }

    /// The leader as this node sees it.
    #[must_use]
    pub fn leader(&self) -> Option<u64> {
        match &self.0.standing.borrow().leading {
            Leading::This | Leading::ThisAdjusting => Some(self.node_id()),
            Leading::Other { node_id, .. } => Some(*node_id),
            Leading::Nobody => None,
        }
    }
}

/// How far this node has come with an erasure; unspecified if it has not applied it yet.
///
/// # Errors
/// The store cannot be read.
pub fn erasure_state(store: &dyn Read, leaf: LeafIndex) -> io::Result<ErasureState> {
    // In this order: the two come with one write, and the list only gets shorter after it.
    let applied = ledger::entry(&StoreState(store), leaf)?;
    let listed = store.get(Table::Meta, &meta::erasing_key(leaf.0))?;
    Ok(match (applied, listed) {
        (None, _) => ErasureState::Unspecified,
        (Some(_), Some(_)) => ErasureState::Logical,
        (Some(_), None) => ErasureState::Physical,
    })
}
