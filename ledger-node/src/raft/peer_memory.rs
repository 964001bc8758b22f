//! What this node remembers of each other node: with which store it was met first, and what it has promised to this one.
//!
//! Raft counts on the promises of a node for ever. A node that was given an empty disk under its old id, or an old copy of its
//! disk, has forgotten them, and would vote and acknowledge as if it had never made them. Those to whom it made them remember.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ledger_proto::peer::v1 as wire;
use prost::Message;
use thiserror::Error;

use super::types::{self, LogId, Vote, invalid};
use crate::fatal::{Fatal, disk};
use crate::seldom::Seldom;
use crate::storage::store_id::StoreId;
use crate::storage::{Batch, Direction, Store, Table, meta, scan};

/// Between two words on the same peer.
const TELL_AGAIN: Duration = Duration::from_secs(60);
/// Most nodes that are remembered. Ids are never used again, and a ledger that replaces a node every week has 500 in ten years.
pub const MAX_REMEMBERED: usize = 4_096;

/// Why a peer is not dealt with.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StoreRefusal {
    /// It is on another disk than before.
    #[error(
        "node {peer} was met with store {known} and comes with store {comes}: its disk was replaced, or the id was given to two disks"
    )]
    OtherStore {
        /// Which node.
        peer: u64,
        /// The store that is remembered.
        known: StoreId,
        /// The store that it says it has.
        comes: StoreId,
    },
    /// It says nothing of its store.
    #[error("node {0} does not say which store it has")]
    NoStore(u64),
    /// No more nodes are remembered.
    #[error("node {0} is not known here, and {MAX_REMEMBERED} others are")]
    TooMany(u64),
    /// The store of this node cannot be written.
    #[error("this node cannot remember node {0} and is stopping")]
    NotKept(u64),
}

/// A peer as this node remembers it.
#[derive(Debug)]
struct Remembered {
    record: wire::PeerRecord,
    /// All of the record is in the store.
    is_saved: bool,
    told: Seldom,
}

impl Remembered {
    fn new(record: wire::PeerRecord, is_saved: bool) -> Self {
        Self {
            record,
            is_saved,
            told: Seldom::new(TELL_AGAIN),
        }
    }
}

/// The memory of a node about the others.
#[derive(Debug)]
pub struct PeerMemory {
    own: StoreId,
    store: Arc<dyn Store>,
    fatal: Fatal,
    peers: Mutex<BTreeMap<u64, Remembered>>,
    /// Who remembers this node with another store.
    refused_by: Mutex<BTreeSet<u64>>,
}

impl PeerMemory {
    /// Reads what a store of this id remembers.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn open(store: Arc<dyn Store>, own: StoreId, fatal: Fatal) -> io::Result<Self> {
        let direction = Direction::Ascending;
        let kept = scan(
            &*store,
            Table::Meta,
            meta::PEER,
            None,
            direction,
            usize::MAX,
        )?;
        let mut peers = BTreeMap::new();
        for (key, value) in kept {
            let id = key
                .strip_prefix(meta::PEER)
                .and_then(|id| id.try_into().ok());
            let id = id.ok_or_else(|| invalid("a peer record without a node id"))?;
            let record = wire::PeerRecord::decode(value.as_slice());
            let record = record.map_err(|error| invalid(format!("a peer record: {error}")))?;
            peers.insert(u64::from_be_bytes(id), Remembered::new(record, true));
        }
        Ok(Self {
            own,
            store,
            fatal,
            peers: Mutex::new(peers),
            refused_by: Mutex::default(),
        })
    }

    /// The id of this node's store.
    #[must_use]
    pub const fn own(&self) -> StoreId {
        self.own
    }

    fn peers(&self) -> MutexGuard<'_, BTreeMap<u64, Remembered>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store with which a peer was met first.
    #[must_use]
    pub fn store_of(&self, peer: u64) -> Option<StoreId> {
        let peers = self.peers();
        StoreId::from_slice(&peers.get(&peer)?.record.store_id)
    }

    /// A peer says which store it has. The first one is remembered, durably before this returns; that blocks for one sync, once.
    ///
    /// # Errors
    /// [`StoreRefusal`]: nothing that it says counts.
    pub fn meet(&self, peer: u64, comes: Option<StoreId>) -> Result<(), StoreRefusal> {
        let comes = comes.ok_or(StoreRefusal::NoStore(peer))?;
        let mut peers = self.peers();
        let full = peers.len() >= MAX_REMEMBERED && !peers.contains_key(&peer);
        if full {
            return Err(StoreRefusal::TooMany(peer));
        }
        let met = peers
            .entry(peer)
            .or_insert_with(|| Remembered::new(wire::PeerRecord::default(), false));
        match StoreId::from_slice(&met.record.store_id) {
            Some(known) if known == comes => return Ok(()),
            Some(known) => {
                let other = StoreRefusal::OtherStore { peer, known, comes };
                if met.told.may_say() {
                    tracing::error!(
                        node_id = peer,
                        "{other}. Nothing that it says counts: it may have forgotten what it promised, and with one more the ledger could lose what it acknowledged. If its first disk still exists, start it on that one; else remove this id with `ledger-client cluster remove` and let it join under a new node id with a new key"
                    );
                }
                return Err(other);
            }
            None => {}
        }
        met.record.store_id = comes.as_bytes().to_vec();
        let mut batch = Batch::new();
        batch.put(
            Table::Meta,
            meta::peer_key(peer),
            met.record.encode_to_vec(),
        );
        let kept = self.store.write(&batch).and_then(|()| self.store.sync());
        if let Err(error) = kept {
            met.record.store_id = Vec::new();
            self.fatal
                .stop(disk("what is known of a peer cannot be written", &error));
            return Err(StoreRefusal::NotKept(peer));
        }
        met.is_saved = true;
        Ok(())
    }

    /// A peer remembers this node with another store than the one that it has.
    pub fn note_refused(&self, by: u64) {
        let mut refused_by = self
            .refused_by
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if refused_by.insert(by) {
            tracing::error!(
                node_id = by,
                own = %self.own,
                "that node has met this one with another store: {OTHER_STORE}"
            );
        }
    }

    /// Who remembers this node with another store, ascending.
    #[must_use]
    pub fn refused_by(&self) -> Vec<u64> {
        let refused_by = self
            .refused_by
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        refused_by.iter().copied().collect()
    }

    /// A peer has granted this node its vote. Not durable yet: whoever is elected saves that vote next, and syncs.
    pub(super) fn note_granted(&self, peer: u64, vote: &Vote) {
        let mut peers = self.peers();
        if let Some(known) = peers.get_mut(&peer) {
            known.record.granted = Some(types::vote_to_wire(vote));
            self.write(peer, known);
        }
    }

    /// A peer says that its log is durable up to an entry, while this node led in a term.
    pub(super) fn note_acknowledged(&self, peer: u64, term: u64, last: &LogId) {
        let mut peers = self.peers();
        let Some(known) = peers.get_mut(&peer) else {
            return;
        };
        let before = known.record.acknowledged.as_ref().map(types::log_id);
        // A later leader can have taken back what was acknowledged to an earlier one and was never committed.
        let is_later = known.record.acknowledged_in_term != term || before < Some(*last);
        if is_later {
            known.record.acknowledged_in_term = term;
            known.record.acknowledged = Some(types::log_id_to_wire(last));
            known.is_saved = false;
        }
    }

    /// A peer says that it does not hold the entry at an index. True if it had acknowledged that entry, or a later one.
    pub(super) fn is_lost(&self, peer: u64, term: u64, index: u64) -> bool {
        let peers = self.peers();
        let Some(known) = peers.get(&peer) else {
            return false;
        };
        let acknowledged = known.record.acknowledged.as_ref();
        let Some(acknowledged) = acknowledged.filter(|acknowledged| {
            known.record.acknowledged_in_term == term && acknowledged.index >= index
        }) else {
            return false;
        };
        if known.told.may_say() {
            tracing::error!(
                node_id = peer,
                acknowledged = acknowledged.index,
                missing = index,
                "a node has lost log entries that it had acknowledged; was its disk put back from a copy? It is sent nothing more. If a newer disk of it exists, start it on that one; else stop it, keep its disk, remove it with `ledger-client cluster remove`, and let it join under a new node id with a new key"
            );
        }
        true
    }

    /// What is remembered of a peer.
    #[must_use]
    pub fn recall(&self, peer: u64) -> wire::PeerRecord {
        let peers = self.peers();
        let known = peers.get(&peer);
        known.map(|known| known.record.clone()).unwrap_or_default()
    }

    /// Writes what has changed, to be durable with the next sync of the store.
    pub fn save(&self) {
        for (peer, known) in self.peers().iter_mut() {
            if !known.is_saved {
                self.write(*peer, known);
            }
        }
    }

    fn write(&self, peer: u64, known: &mut Remembered) {
        let mut batch = Batch::new();
        batch.put(
            Table::Meta,
            meta::peer_key(peer),
            known.record.encode_to_vec(),
        );
        match self.store.write(&batch) {
            Ok(()) => known.is_saved = true,
            Err(error) => self
                .fatal
                .stop(disk("what is known of a peer cannot be written", &error)),
        }
    }
}

/// What to do with a node whose id was met with another store.
pub const OTHER_STORE: &str = "either this data directory was made anew under an id that has run, or the id was given to two \
                               disks. This node votes, acknowledges and cosigns nothing. Look for the disk that ran before and \
                               start that one; if it is lost, an admin removes this id and adds a new one with `ledger-client \
                               cluster`";

#[cfg(test)]
mod tests {
    use super::super::types::Term;
    use super::*;
    use crate::storage::memory::MemoryStore;

    const OWN: StoreId = StoreId::from_bytes([1; 16]);
    const FIRST: StoreId = StoreId::from_bytes([2; 16]);
    const SECOND: StoreId = StoreId::from_bytes([3; 16]);

    fn open(store: &Arc<MemoryStore>) -> PeerMemory {
        let store = Arc::clone(store) as Arc<dyn Store>;
        PeerMemory::open(store, OWN, Fatal::default()).unwrap()
    }

    fn id(term: u64, index: u64) -> LogId {
        LogId::new(Term { term }, index)
    }

    #[test]
    fn the_first_store_of_a_node_is_remembered_and_no_other_is_taken() {
        let store = Arc::new(MemoryStore::new());
        let memory = open(&store);
        assert_eq!(memory.meet(2, None), Err(StoreRefusal::NoStore(2)));
        assert_eq!(memory.store_of(2), None);
        memory.meet(2, Some(FIRST)).unwrap();
        memory.meet(2, Some(FIRST)).unwrap();
        let other = StoreRefusal::OtherStore {
            peer: 2,
            known: FIRST,
            comes: SECOND,
        };
        assert_eq!(memory.meet(2, Some(SECOND)), Err(other.clone()));
        memory.meet(3, Some(SECOND)).unwrap();
        // As a loss of power leaves it.
        let kept = open(&Arc::new(store.power_cut()));
        assert_eq!(kept.store_of(2), Some(FIRST));
        assert_eq!(kept.meet(2, Some(SECOND)), Err(other));
        assert_eq!(kept.store_of(4), None);
    }

    #[test]
    fn nothing_is_met_that_cannot_be_remembered() {
        let store = Arc::new(MemoryStore::new());
        let memory = open(&store);
        store.set_script(Arc::new(|_| Err(io::Error::from_raw_os_error(5))));
        assert_eq!(memory.meet(2, Some(FIRST)), Err(StoreRefusal::NotKept(2)));
        assert!(memory.fatal.message().is_some());
        assert_eq!(memory.store_of(2), None);
    }

    #[test]
    fn strangers_do_not_fill_the_memory() {
        let store = Arc::new(MemoryStore::new());
        let memory = open(&store);
        for peer in 1..=4_096 {
            memory.meet(peer, Some(FIRST)).unwrap();
        }
        assert_eq!(
            memory.meet(5_000, Some(FIRST)),
            Err(StoreRefusal::TooMany(5_000))
        );
        memory.meet(4_096, Some(FIRST)).unwrap();
    }

    #[test]
    fn only_what_was_acknowledged_in_the_same_term_can_be_lost() {
        let memory = open(&Arc::new(MemoryStore::new()));
        memory.note_acknowledged(2, 1, &id(1, 7));
        assert!(!memory.is_lost(2, 1, 0), "nobody has met it");
        memory.meet(2, Some(FIRST)).unwrap();
        memory.note_acknowledged(2, 1, &id(1, 7));
        memory.note_acknowledged(2, 1, &id(1, 5));
        assert!(!memory.is_lost(2, 1, 8), "a peer that is behind");
        assert!(memory.is_lost(2, 1, 7));
        assert!(memory.is_lost(2, 1, 3));
        assert!(!memory.is_lost(3, 1, 3), "another peer");
        assert!(!memory.is_lost(2, 2, 3), "another term");
        memory.note_acknowledged(2, 2, &id(2, 4));
        assert!(!memory.is_lost(2, 2, 5));
        assert!(memory.is_lost(2, 2, 4));
    }

    #[test]
    fn promises_are_remembered_after_a_restart() {
        let store = Arc::new(MemoryStore::new());
        let memory = open(&store);
        memory.meet(2, Some(FIRST)).unwrap();
        memory.note_granted(2, &Vote::new(3, 1));
        memory.note_acknowledged(2, 3, &id(3, 9));
        memory.save();
        store.sync().unwrap();
        let kept = open(&Arc::new(store.power_cut())).recall(2);
        assert_eq!(kept, memory.recall(2));
        assert_eq!(kept.acknowledged_in_term, 3);
        assert_eq!(kept.acknowledged.map(|id| id.index), Some(9));
        assert_eq!(kept.granted.map(|vote| vote.term), Some(3));
    }
}
