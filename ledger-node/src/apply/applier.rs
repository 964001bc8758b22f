//! The thread that applies: committed entries in, one write batch out, answers after it.
//!
//! It is the only writer of the tables State and Index and of what was applied. Its stack is large and fixed, because whether
//! a rule can be evaluated must not depend on the thread it happens to run on.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use ledger_core::evidence::StateTiles;
use ledger_core::hash::{Hash, TreeHash, TreeSize};
use ledger_core::machine::{Applied, Machine, Tip, tip};
use ledger_core::state::{Key, Txn};
use ledger_core::tree::proof::Prover;
use ledger_proto::peer::v1 as wire;
use ledger_proto::v1::{self, governance::Detail};
use openraft::EntryPayload;
use prost::Message;
use tokio::sync::{oneshot, watch};

use super::boundaries::Boundaries;
use super::points::{self, Points};
use super::prepare::{CallKey, Prepared, Preparer};
use super::receipts::Answers;
use super::suspicion::{Suspicion, VoidBatch};
use super::waiters::{Outcome, Waiters};
use crate::fatal::{Fatal, damaged, disk};
use crate::index;
use crate::raft::log::read_meta;
use crate::raft::proposers::{PriorTree, Proposers};
use crate::raft::types::{self, Entry, LogId, Members, Proposal, invalid};
use crate::storage::view::StoreState;
use crate::storage::{Batch, Read, Store, Table, meta};
use crate::worker;

/// The stack of the thread in bytes; the machine asks for 2 MiB.
const STACK_LEN: usize = 16 << 20;

/// What a replica has applied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppliedState {
    /// The last log entry.
    pub last: Option<LogId>,
    /// The replicas.
    pub members: Members,
}

impl AppliedState {
    /// Reads it from a store.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn read(store: &dyn Read) -> io::Result<Self> {
        let record: wire::AppliedRecord = read_meta(store, meta::APPLIED)?.unwrap_or_default();
        Ok(Self {
            last: record.last_log_id.as_ref().map(types::log_id),
            members: types::members(&record.membership_log_id, &record.membership)?,
        })
    }

    fn write(&self, batch: &mut Batch) {
        let membership_log_id = self.members.log_id().as_ref();
        let record = wire::AppliedRecord {
            last_log_id: self.last.as_ref().map(types::log_id_to_wire),
            membership_log_id: membership_log_id.map(types::log_id_to_wire),
            membership: membership_log_id
                .map(|_| types::membership_to_wire(self.members.membership())),
        };
        batch.put(Table::Meta, meta::APPLIED, record.encode_to_vec());
    }
}

type Own = Box<dyn Fn(&dyn Read) -> io::Result<Batch> + Send>;

enum Job {
    Apply(Vec<Entry>, oneshot::Sender<io::Result<()>>),
    Checkpoint(PathBuf, oneshot::Sender<io::Result<(AppliedState, Tip)>>),
    Install(PathBuf, Own, oneshot::Sender<io::Result<()>>),
}

/// A handle on the thread. It ends when all handles are gone.
#[derive(Clone)]
pub struct Applier {
    jobs: Sender<Job>,
    applied: watch::Receiver<AppliedState>,
    tip: watch::Receiver<Tip>,
}

impl std::fmt::Debug for Applier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Applier")
            .field("tip", &*self.tip.borrow())
            .finish_non_exhaustive()
    }
}

/// What the thread works with.
#[derive(Debug)]
pub struct Parts {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The machine.
    pub machine: Arc<Machine>,
    /// Prepares entries ahead.
    pub preparer: Arc<Preparer>,
    /// Callers that wait here.
    pub waiters: Arc<Waiters>,
    /// Where their answers are made.
    pub answers: Sender<Answers>,
    /// Where views for digests of the state are left.
    pub points: Arc<Points>,
    /// The trees at the ends of batches, to compare with what later proposers saw.
    pub boundaries: Arc<Boundaries>,
    /// Whether this replica doubts its tree.
    pub suspicion: Arc<Suspicion>,
    /// Who has proposed what.
    pub proposers: Arc<Proposers>,
    /// Stops the node.
    pub fatal: Fatal,
}

impl Applier {
    /// Starts the thread on what the store says was applied.
    ///
    /// # Errors
    /// The store cannot be read, or no thread can be started.
    pub fn start(parts: Parts) -> io::Result<Self> {
        let applied = AppliedState::read(&*parts.store)?;
        let now = tip(&StoreState(&*parts.store))?;
        let (tip_sender, tip) = watch::channel(now);
        let (applied_sender, applied_receiver) = watch::channel(applied.clone());
        let (jobs, waiting) = channel();
        parts.boundaries.begin_at(now.size, now.root);
        let mut worker = Worker {
            parts,
            applied,
            tip: now,
            applied_sender,
            tip_sender,
        };
        let lifetime = worker.parts.fatal.lifetime(worker::Worker::Applier);
        std::thread::Builder::new()
            .name("apply".to_owned())
            .stack_size(STACK_LEN)
            .spawn(move || {
                worker.run(&waiting);
                // Its handles are gone.
                lifetime.release();
            })?;
        Ok(Self {
            jobs,
            applied: applied_receiver,
            tip,
        })
    }

    /// What was applied last.
    #[must_use]
    pub fn applied(&self) -> AppliedState {
        self.applied.borrow().clone()
    }

    /// What was applied last, as it moves.
    #[must_use]
    pub fn watch_applied(&self) -> watch::Receiver<AppliedState> {
        self.applied.clone()
    }

    /// The end of the ledger, as it moves.
    #[must_use]
    pub fn tip(&self) -> watch::Receiver<Tip> {
        self.tip.clone()
    }

    /// Applies committed entries, in one write unless there is a point among them.
    ///
    /// # Errors
    /// This replica must stop.
    pub async fn apply(&self, entries: Vec<Entry>) -> io::Result<()> {
        self.ask(|done| Job::Apply(entries, done)).await
    }

    /// Copies the store between two applies. Returns what the copy holds.
    ///
    /// # Errors
    /// The copy cannot be made.
    pub async fn checkpoint(&self, dir: PathBuf) -> io::Result<(AppliedState, Tip)> {
        self.ask(|done| Job::Checkpoint(dir, done)).await
    }

    /// Replaces the store by a copy, keeping what `own` returns.
    ///
    /// # Errors
    /// This replica must stop.
    pub async fn install(&self, dir: PathBuf, own: Own) -> io::Result<()> {
        self.ask(|done| Job::Install(dir, own, done)).await
    }

    async fn ask<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<io::Result<T>>) -> Job,
    ) -> io::Result<T> {
        let stopped = || io::Error::other("the applier has stopped");
        let (done, waiting) = oneshot::channel();
        self.jobs.send(job(done)).map_err(|_| stopped())?;
        waiting.await.map_err(|_| stopped())?
    }
}

/// True if the entry erased something: its bytes are still on this disk.
fn is_erasure(entry: &v1::Entry) -> bool {
    let Some(v1::entry::Body::Governance(governance)) = &entry.body else {
        return false;
    };
    matches!(&governance.detail, Some(Detail::Erasure(erasure)) if erasure.erased > 0)
}

struct Worker {
    parts: Parts,
    applied: AppliedState,
    tip: Tip,
    applied_sender: watch::Sender<AppliedState>,
    tip_sender: watch::Sender<Tip>,
}

/// What an apply collects until its write.
struct Pending<'s> {
    txn: Txn<'s>,
    batch: Batch,
    outcomes: Vec<(CallKey, Outcome)>,
    boundaries: Vec<(TreeSize, Hash)>,
    /// The last entry ends in a point.
    point: bool,
}

impl Worker {
    fn run(&mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            match job {
                Job::Apply(entries, done) => {
                    let result = self.apply(&entries);
                    if let Err(error) = &result {
                        self.parts.fatal.stop(disk("cannot apply", error));
                    }
                    let _ = done.send(result);
                }
                Job::Checkpoint(dir, done) => {
                    let copied = self.parts.store.checkpoint(&dir);
                    let _ = done.send(copied.map(|()| (self.applied.clone(), self.tip)));
                }
                Job::Install(dir, own, done) => {
                    let result = self.install(&dir, &own);
                    if let Err(error) = &result {
                        self.parts
                            .fatal
                            .stop(disk("a snapshot cannot be installed", error));
                    }
                    let _ = done.send(result);
                }
            }
        }
    }

    fn apply(&mut self, entries: &[Entry]) -> io::Result<()> {
        // Before the caller learns that there is no answer: its words would be the ones that are told.
        let _guard = self.parts.fatal.guard(worker::Worker::Applier);
        worker::strike(worker::Worker::Applier);
        let mut entries = entries.iter();
        while !entries.as_slice().is_empty() {
            self.apply_to_point(&mut entries)?;
        }
        Ok(())
    }

    /// One write: entries up to the first point, or all.
    fn apply_to_point(&mut self, entries: &mut std::slice::Iter<'_, Entry>) -> io::Result<()> {
        let store = Arc::clone(&self.parts.store);
        let below = StoreState(&*store);
        let mut pending = Pending {
            txn: Txn::new(&below),
            batch: Batch::new(),
            outcomes: Vec::new(),
            boundaries: Vec::new(),
            point: false,
        };
        let mut applied = self.applied.clone();
        for entry in entries {
            applied.last = Some(entry.log_id);
            match &entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Membership(members) => {
                    applied.members = Members::new(Some(entry.log_id), members.clone());
                }
                EntryPayload::Normal(proposal) => {
                    self.apply_batch(&entry.log_id, proposal, &mut pending)?;
                }
            }
            if pending.point {
                break;
            }
        }
        let now = tip(&pending.txn)?;
        let mut batch = pending.batch;
        for (key, value) in pending.txn.into_writes() {
            match value {
                Some(value) => batch.put(Table::State, key, value),
                None => batch.delete(Table::State, key),
            }
        }
        applied.write(&mut batch);
        // The commit point of an apply: entries, tiles, state, index and what was applied, together.
        store.write(&batch)?;
        if pending.point {
            // Before anything more is written.
            self.parts.points.put(now.size, store.view());
        }
        self.settle(applied, now, pending.boundaries);
        self.answer(pending.outcomes);
        Ok(())
    }

    fn apply_batch(
        &self,
        id: &LogId,
        proposal: &Proposal,
        pending: &mut Pending<'_>,
    ) -> io::Result<()> {
        let Prepared {
            batch,
            checks,
            keys,
        } = self.parts.preparer.take(id, proposal)?;
        if !self.agrees_with_proposer(id, &batch, pending)? {
            // Without an outcome: whoever waits brings its command again.
            return Ok(());
        }
        for ((submission, checks), key) in batch.submissions.iter().zip(&checks).zip(keys) {
            let applied =
                self.parts
                    .machine
                    .apply(&mut pending.txn, batch.time_us, submission, checks)?;
            let outcome = match applied {
                Applied::Appended(appended) => {
                    if is_erasure(&appended.entry) {
                        let (key, place) = (meta::erasing_key(appended.index.0), id.index());
                        let place = place.to_be_bytes();
                        pending.batch.put(Table::Meta, key, place);
                    }
                    pending.point |= points::is_asked_for(&appended.entry);
                    index::changes(&pending.txn, &appended.entry, &mut pending.batch)?;
                    Outcome::Appended(appended.index)
                }
                Applied::Replayed { index, now } => Outcome::Replayed(index, now),
                Applied::Refused(refusal) => {
                    tracing::warn!(%refusal, log_index = id.index(), "a committed command was refused");
                    Outcome::Refused(refusal)
                }
            };
            pending.outcomes.push((key, outcome));
        }
        let now = tip(&pending.txn)?;
        pending.point |= points::is_due(self.end_of(pending), now.size);
        pending.boundaries.push((now.size, now.root));
        Ok(())
    }

    /// The proposer wrote into the batch what its ledger looked like. Where this replica has another ledger the batch is void:
    /// all replicas with the same tree find the same, at each replay and however they group entries into writes, and one that is
    /// damaged is found by the next checkpoint.
    fn agrees_with_proposer(
        &self,
        id: &LogId,
        batch: &v1::Batch,
        pending: &Pending<'_>,
    ) -> io::Result<bool> {
        let size = TreeSize(batch.prior_size);
        let theirs = Hash::from_slice(&batch.prior_root);
        let end = self.end_of(pending);
        let ours = if size <= end {
            Some(self.root_at(size, pending)?)
        } else {
            None
        };
        if ours.is_some() && ours == theirs {
            return Ok(true);
        }
        let on = theirs.map(|root| PriorTree { size, root });
        let term = id.committed_leader_id().term;
        let void = VoidBatch {
            log_index: id.index(),
            term,
            proposer: on.and_then(|on| self.parts.proposers.of(id, &on)),
            // What is beyond this replica's tree cannot be cosigned here.
            size: size.min(end),
        };
        if on.is_some_and(|on| self.parts.proposers.is_own(&on)) {
            let what = "this node has proposed a batch on another tree than it has";
            self.parts.fatal.stop(damaged(what));
            return Err(invalid(what));
        }
        let doubts = self.parts.suspicion.raise(void);
        tracing::error!(
            node_id = void.proposer,
            log_index = void.log_index,
            term,
            doubts,
            "{void}: the batch is void; keep both disks, run fsck on both nodes, and compare the newest checkpoints of all nodes with those that clients and evidence remember before one is replaced under a new node id"
        );
        Ok(false)
    }

    /// The root of this replica's tree of a size that it has come to, be it in a write that is not made yet.
    fn root_at(&self, size: TreeSize, pending: &Pending<'_>) -> io::Result<Hash> {
        let mut newest = pending.boundaries.iter();
        let known = newest.find(|(end, _)| *end == size);
        let known = known.map(|(_, root)| *root);
        if let Some(root) = known.or_else(|| self.parts.boundaries.root_at(size)) {
            return Ok(root);
        }
        let ledger: v1::LedgerRecord = pending.txn.must_read(&Key::ledger())?;
        let tiles = StateTiles(&pending.txn);
        let mut prover = Prover::new(&tiles, TreeHash::of_origin(&ledger.origin), size);
        Ok(prover.root()?)
    }

    /// The size of the tree with what is pending.
    fn end_of(&self, pending: &Pending<'_>) -> TreeSize {
        let newest = pending.boundaries.last();
        newest.map_or(self.tip.size, |(size, _)| *size)
    }

    fn settle(&mut self, applied: AppliedState, now: Tip, boundaries: Vec<(TreeSize, Hash)>) {
        // Before anybody can see the new end.
        self.parts.boundaries.extend(boundaries);
        self.tip = now;
        self.applied = applied;
        self.tip_sender.send_replace(now);
        self.applied_sender.send_replace(self.applied.clone());
    }

    fn answer(&self, outcomes: Vec<(CallKey, Outcome)>) {
        let mut callers = Vec::new();
        for (key, outcome) in outcomes {
            for caller in self.parts.waiters.take(&key) {
                callers.push((caller, outcome));
            }
        }
        if !callers.is_empty() {
            let tip = self.tip;
            let _ = self.parts.answers.send(Answers { tip, callers });
        }
    }

    fn install(&mut self, dir: &std::path::Path, own: &Own) -> io::Result<()> {
        self.parts.points.begin_again();
        self.parts.store.install(dir, &**own)?;
        // Now, and not while the first decision waits.
        let machine = &self.parts.machine;
        machine.warm(&StoreState(&*self.parts.store))?;
        let applied = AppliedState::read(&*self.parts.store)?;
        let now = tip(&StoreState(&*self.parts.store))?;
        self.parts.boundaries.begin_at(now.size, now.root);
        self.settle(applied, now, Vec::new());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
