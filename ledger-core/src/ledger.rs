//! The ledger itself: entries in order, and the tree over them.
//!
//! Appending is the only way in. It writes the entry, the hashes of the tree that it completes and the new end of the
//! ledger into one transaction, so that the three can never disagree.

use ledger_proto::v1;
use prost::Message;

use crate::canonical;
use crate::hash::{Hash, LeafIndex, TreeHash, TreeSize};
use crate::limits::MAX_ENTRY_LEN;
use crate::state::{Key, State, StateError, Txn, read};
use crate::tree::frontier::Frontier;

/// Where the ledger ends.
#[derive(Debug, Clone)]
pub struct Head {
    /// Time of the last entry in microseconds since 1970; 0 before the genesis.
    pub time_us: u64,
    frontier: Frontier,
}

impl Head {
    /// The end of a ledger without entries.
    #[must_use]
    pub const fn empty(hash: TreeHash) -> Self {
        Self {
            time_us: 0,
            frontier: Frontier::new(hash),
        }
    }

    /// Reads the end of the ledger.
    ///
    /// # Errors
    /// [`StateError`] if the record is missing or damaged.
    pub fn read(state: &dyn State, hash: TreeHash) -> Result<Self, StateError> {
        let key = Key::head();
        let record: v1::HeadRecord = read(state, &key)?
            .ok_or_else(|| StateError::damaged(&key, "the ledger has no genesis"))?;
        let frontier = Frontier::from_bytes(hash, &record.frontier)
            .map_err(|error| StateError::damaged(&key, error.to_string()))?;
        Ok(Self {
            time_us: record.time_us,
            frontier,
        })
    }

    /// How many entries there are.
    #[must_use]
    pub const fn size(&self) -> TreeSize {
        self.frontier.size()
    }

    /// The root over all entries.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.frontier.root()
    }

    /// Appends an entry. Returns its bytes and leaf hash.
    ///
    /// # Errors
    /// [`StateError`] if the entry is longer than an entry can be, which no command can cause.
    pub fn append(
        &mut self,
        txn: &mut Txn<'_>,
        entry: &v1::Entry,
    ) -> Result<(Vec<u8>, Hash), StateError> {
        let leaf = LeafIndex(self.size().0);
        let bytes = entry.encode_to_vec();
        if bytes.len() > MAX_ENTRY_LEN {
            return Err(StateError::damaged(
                Key::entry(leaf),
                "the new entry is over its limit",
            ));
        }
        let leaf_hash = self.frontier.tree_hash().leaf(&bytes);
        for write in self.frontier.append(leaf_hash) {
            let index = write.tile * 256 + u64::from(write.position);
            txn.put(
                Key::tile_hash(write.level, index),
                write.hash.as_bytes().to_vec(),
            );
        }
        txn.put(Key::entry(leaf), bytes.clone());
        self.time_us = entry.time_us;
        let record = v1::HeadRecord {
            time_us: self.time_us,
            frontier: self.frontier.to_bytes(),
        };
        txn.write(Key::head(), &record);
        Ok((bytes, leaf_hash))
    }
}

/// The canonical bytes of an entry, if there is one at that leaf.
///
/// # Errors
/// [`StateError`] if the store cannot be read.
pub fn entry_bytes(state: &dyn State, leaf: LeafIndex) -> Result<Option<Vec<u8>>, StateError> {
    state.get(Key::entry(leaf).as_bytes())
}

/// The entry at a leaf, if there is one.
///
/// # Errors
/// [`StateError`] if the store cannot be read or the entry is damaged.
pub fn entry(state: &dyn State, leaf: LeafIndex) -> Result<Option<v1::Entry>, StateError> {
    let key = Key::entry(leaf);
    entry_bytes(state, leaf)?
        .map(|bytes| {
            canonical::decode(&bytes, MAX_ENTRY_LEN)
                .map_err(|error| StateError::damaged(&key, error.to_string()))
        })
        .transpose()
}
