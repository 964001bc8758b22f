//! The ledger of a lying node: a real replica in memory. It leads with the true end of the tree, and what it makes up goes on from there.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use ledger_core::evidence::StateTiles;
use ledger_core::hash::{Hash, LeafIndex, TreeHash, TreeSize};
use ledger_core::ledger::Head;
use ledger_core::machine::{self, Applied, Machine, SignatureChecks, Tip};
use ledger_core::state::{MemoryState, Txn};
use ledger_core::tree::proof::Prover;
use ledger_node::raft::log::read_meta;
use ledger_node::storage::rocks::RocksStore;
use ledger_node::storage::{Direction, Read, Table, meta};
use ledger_proto::peer::v1 as wire;
use ledger_proto::v1;
use prost::Message as _;

use super::knowledge::Log;
use crate::cluster::client::now_us;
use crate::kit::SECOND;

/// The stack of the thread that applies, in bytes; the machine asks for 2 MiB.
const STACK_LEN: usize = 16 << 20;
/// How long a permit lives that nobody gave, in microseconds.
const FORGED_PERMIT_US: u64 = 3_600 * SECOND;

/// The replica.
#[derive(Debug)]
pub(super) struct Replica {
    state: MemoryState,
    machine: Arc<Machine>,
    hash: TreeHash,
    /// The log entry that was applied last.
    applied: u64,
}

/// What the node had whose place is taken.
#[derive(Debug)]
pub(super) struct Inheritance {
    pub(super) replica: Replica,
    pub(super) log: Log,
    pub(super) vote: wire::Vote,
}

impl Inheritance {
    /// Reads the store of a node that has ended.
    ///
    /// # Panics
    /// If it cannot be read.
    pub(super) fn read(data_dir: &Path, hash: TreeHash) -> Self {
        let store = RocksStore::open_read_only(data_dir).expect("the store of a node that ended");
        let all = |table| {
            let range = (Bound::Unbounded, Bound::Unbounded);
            let pairs = store.range(table, range, Direction::Ascending, usize::MAX);
            pairs.expect("a table that can be read")
        };
        let applied: Option<wire::AppliedRecord> =
            read_meta(&store, meta::APPLIED).expect("a record that can be read");
        let applied = applied.and_then(|record| record.last_log_id);
        let entries = all(Table::Log).into_iter().map(|(_, bytes)| {
            let entry = wire::LogEntry::decode(bytes.as_slice()).expect("a log entry");
            (entry.log_id.unwrap_or_default().index, entry)
        });
        let replica = Replica {
            state: all(Table::State).into_iter().collect(),
            machine: Arc::default(),
            hash,
            applied: applied.map_or(0, |id| id.index),
        };
        let vote: Option<wire::Vote> =
            read_meta(&store, meta::VOTE).expect("a record that can be read");
        Self {
            replica,
            log: Log::new(entries.collect::<BTreeMap<_, _>>()),
            vote: vote.unwrap_or_default(),
        }
    }
}

/// A yes that nobody gave, in a tree that goes on from the real one.
#[derive(Debug)]
pub(super) struct Forgery {
    /// The entry and its path.
    pub(super) proven: v1::ProvenEntry,
    /// Its tree.
    pub(super) tree: (TreeSize, Hash),
}

impl Replica {
    /// Where the ledger ends.
    pub(super) fn tip(&self) -> Tip {
        machine::tip(&self.state).expect("the liar's state is sound")
    }

    /// The log entry that was applied last.
    pub(super) const fn applied(&self) -> u64 {
        self.applied
    }

    /// Applies the log entries that come next.
    pub(super) fn apply_next(&mut self, entries: &[wire::LogEntry]) {
        if entries.is_empty() {
            return;
        }
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(STACK_LEN);
            let applying = thread.spawn_scoped(scope, || self.apply(entries));
            applying.expect("a thread").join().expect("it applies");
        });
    }

    fn apply(&mut self, entries: &[wire::LogEntry]) {
        for entry in entries {
            let index = entry.log_id.map_or(0, |id| id.index);
            if index != self.applied + 1 {
                return;
            }
            self.applied = index;
            let Some(wire::log_entry::Payload::Batch(bytes)) = &entry.payload else {
                continue;
            };
            let batch = v1::Batch::decode(bytes.clone()).expect("honest nodes have taken it");
            if self.has(&batch) {
                self.apply_batch(&batch);
            }
        }
    }

    /// True if its proposer had this tree. If not, the batch is void.
    fn has(&self, batch: &v1::Batch) -> bool {
        let size = TreeSize(batch.prior_size);
        if size > self.tip().size {
            return false;
        }
        let tiles = StateTiles(&self.state);
        let root = Prover::new(&tiles, self.hash, size).root();
        root.is_ok_and(|root| root.as_bytes().as_slice() == batch.prior_root)
    }

    fn apply_batch(&mut self, batch: &v1::Batch) {
        for submission in &batch.submissions {
            let mut txn = Txn::new(&self.state);
            let checks = SignatureChecks::default();
            let machine = Arc::clone(&self.machine);
            let applied = machine.apply(&mut txn, batch.time_us, submission, &checks);
            applied.expect("the liar's state is sound");
            let writes = txn.into_writes();
            self.state.commit(writes);
        }
    }

    /// A yes to a question, whatever the rules say, as the next entry of the ledger.
    pub(super) fn forge(&self, submission: &v1::Submission) -> Option<Forgery> {
        let now_us = now_us();
        let honest = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(STACK_LEN);
            let applying = thread.spawn_scoped(scope, || {
                let mut txn = Txn::new(&self.state);
                let checks = SignatureChecks::default();
                let applied = self.machine.apply(&mut txn, now_us, submission, &checks);
                applied.ok()
            });
            applying.ok()?.join().ok()?
        });
        let Some(Applied::Appended(honest)) = honest else {
            return None;
        };
        let mut entry = honest.entry;
        entry.body = Some(v1::entry::Body::Decision(v1::Decision {
            verdict: v1::Verdict::Allow.into(),
            reason: v1::DecisionReason::AllowedByPolicy.into(),
            permit_expires_at_us: entry.time_us + FORGED_PERMIT_US,
            ..v1::Decision::default()
        }));
        let mut head = Head::read(&self.state, self.hash).ok()?;
        let leaf = LeafIndex(head.size().0);
        let mut fork = Txn::new(&self.state);
        let (bytes, _) = head.append(&mut fork, &entry).ok()?;
        let tiles = StateTiles(&fork);
        let path = Prover::new(&tiles, self.hash, head.size()).inclusion(leaf);
        Some(Forgery {
            proven: v1::ProvenEntry {
                index: leaf.0,
                entry: bytes,
                path: wire_path(&path.ok()?),
            },
            tree: (head.size(), head.root()),
        })
    }

    /// That a forged tree of one more entry goes on from an older one.
    pub(super) fn consistency(&self, older: u64, forged: &v1::ProvenEntry) -> Option<Vec<Vec<u8>>> {
        let entry = ledger_core::entry::decode(&forged.entry).ok()?;
        let mut head = Head::read(&self.state, self.hash).ok()?;
        if head.size().0 != forged.index {
            return None;
        }
        let mut fork = Txn::new(&self.state);
        head.append(&mut fork, &entry).ok()?;
        let tiles = StateTiles(&fork);
        let path = Prover::new(&tiles, self.hash, head.size()).consistency(TreeSize(older));
        Some(wire_path(&path.ok()?))
    }
}

fn wire_path(path: &[Hash]) -> Vec<Vec<u8>> {
    path.iter().map(|hash| hash.as_bytes().to_vec()).collect()
}
