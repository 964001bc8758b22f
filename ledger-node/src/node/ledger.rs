//! The running ledger as the services see it: submit, wait, read, checkpoint.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use ledger_core::hash::{LeafIndex, TreeSize};
use ledger_core::machine::{Liveness, Machine, Tip};
use ledger_core::state::{Pair, State, StateError};
use ledger_proto::v1;
use policy_engine::BundleDigest;
use tokio::sync::watch;

use crate::front::failure::Answer;
use crate::storage::{Direction, Read, Table, prefix_end};

/// One frozen moment of the ledger: state, entries, and the index over them.
#[derive(Clone)]
pub struct View(Arc<dyn Read>);

/// A command that is in the ledger.
#[derive(Debug, Clone)]
pub struct Submitted {
    /// Where its entry is.
    pub index: LeafIndex,
    /// Set if the entry is of an earlier call with the same bytes: what holds now.
    pub replayed: Option<Liveness>,
    /// The entry, proven to `checkpoint`.
    pub entry: v1::ProvenEntry,
    /// A signed note; shared by all that were proven to it.
    pub checkpoint: Arc<str>,
    /// What the checkpoint is worth.
    pub level: v1::ReceiptLevel,
}

/// A handle on the running ledger. Clones are the same ledger.
#[derive(Debug, Clone)]
pub struct Ledger {}

impl Ledger {
    /// The name of the ledger.
    #[must_use]
    pub fn origin(&self) -> &str {
        unimplemented!()
    }
    /// This node.
    #[must_use]
    pub fn node_id(&self) -> u64 {
        unimplemented!()
    }
    /// Microseconds since 1970 by this node's clock.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        unimplemented!()
    }
    /// What is applied now, frozen.
    #[must_use]
    pub fn view(&self) -> View {
        unimplemented!()
    }
    /// The end of what is applied, as it moves.
    #[must_use]
    pub fn tip(&self) -> watch::Receiver<Tip> {
        unimplemented!()
    }
    /// The machine, for simulations.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        unimplemented!()
    }
    /// Returns once everything is applied that was committed before the call (ReadIndex).
    pub async fn fully_consistent(&self, _deadline: Instant) -> Answer<()> {
        unimplemented!()
    }
    /// Returns once the tree has that size here.
    pub async fn at_least(&self, _size: TreeSize, _deadline: Instant) -> Answer<()> {
        unimplemented!()
    }
    /// Brings a command into the ledger and waits for its entry. Form, signatures and limits are checked here; whether the body fits
    /// the rpc is the caller's to check. For COSIGNED it waits for cosigning as long as the deadline allows, and answers COMMITTED otherwise.
    pub async fn submit(
        &self,
        _submission: v1::Submission,
        _level: v1::ReceiptLevel,
        _deadline: Instant,
    ) -> Answer<Submitted> {
        unimplemented!()
    }
    /// A checkpoint of at least that size: the newest for COMMITTED (signed for what is applied now), the newest that met the
    /// trust policy for COSIGNED; waits until there is one. Returns the note and its size.
    pub async fn checkpoint(
        &self,
        _min_size: TreeSize,
        _level: v1::ReceiptLevel,
        _deadline: Instant,
    ) -> Answer<(Arc<str>, TreeSize)> {
        unimplemented!()
    }
    /// The cosigned checkpoint that carries the change of trust policy to `epoch`: it covers the change and meets the policy
    /// before and the policy after. None while there is none yet.
    pub fn trust_checkpoint(&self, _epoch: u64) -> Answer<Option<String>> {
        unimplemented!()
    }
    /// How far this node is with a bundle whose chunks are all there, and if it does not compile, why: one finding each.
    #[must_use]
    pub fn compile_state(
        &self,
        _namespace: &str,
        _digest: &BundleDigest,
    ) -> (v1::CompileState, Vec<String>) {
        unimplemented!()
    }
    /// How this node is.
    #[must_use]
    pub fn status(&self) -> v1::GetNodeStatusResponse {
        unimplemented!()
    }
    /// The voters as Raft has them, ascending.
    #[must_use]
    pub fn voters(&self) -> Vec<u64> {
        unimplemented!()
    }
    /// The leader as this node sees it.
    #[must_use]
    pub fn leader(&self) -> Option<u64> {
        unimplemented!()
    }
}

impl View {
    /// A view on what a reader sees.
    #[must_use]
    pub fn new(read: Arc<dyn Read>) -> Self {
        Self(read)
    }

    /// Pairs of the index under a prefix, beyond `after` in the direction of reading.
    ///
    /// # Errors
    /// [`StateError`] if the store cannot be read.
    pub fn index(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Pair>, StateError> {
        self.pairs(Table::Index, prefix, after, direction, limit)
    }

    fn pairs(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Pair>, StateError> {
        let end = prefix_end(prefix);
        let mut from = Bound::Included(prefix);
        let mut until = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        // A position outside the prefix bounds nothing on one side and everything on the other.
        match (direction, after) {
            (Direction::Ascending, Some(after)) if after >= prefix => {
                if end.as_deref().is_some_and(|end| after >= end) {
                    return Ok(Vec::new());
                }
                from = Bound::Excluded(after);
            }
            (Direction::Descending, Some(after)) => {
                if after <= prefix {
                    return Ok(Vec::new());
                }
                if end.as_deref().is_none_or(|end| after < end) {
                    until = Bound::Excluded(after);
                }
            }
            (Direction::Ascending, _) | (Direction::Descending, None) => {}
        }
        self.0
            .range(table, (from, until), direction, limit)
            .map_err(|error| unreadable(prefix, &error))
    }
}

fn unreadable(key: &[u8], error: &std::io::Error) -> StateError {
    StateError {
        key: key.to_vec(),
        what: error.to_string(),
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("View")
    }
}

impl State for View {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.0
            .get(Table::State, key)
            .map_err(|error| unreadable(key, &error))
    }

    fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Pair>, StateError> {
        self.pairs(Table::State, prefix, after, Direction::Ascending, limit)
    }
}
