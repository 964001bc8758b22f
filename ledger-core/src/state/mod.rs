//! State: bytes by key, read through one small trait, written only as a batch.
//!
//! The machine reads through a [`Txn`], which lays its own writes over what is stored. Nothing reaches the store until the
//! caller takes the writes and commits them together: that is what makes one command, or one Raft entry of many commands,
//! all or nothing.

mod digest;
mod key;
mod memory;

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;

use prost::Message;
use thiserror::Error;

pub use digest::state_digest;
pub use key::{Family, Key};
pub(crate) use key::{last_key_id, split_expiry};
pub use memory::MemoryState;

/// The stored state cannot be read, or this replica cannot do what the others do with it. Whoever runs the machine must stop:
/// going on could give another answer than the other replicas give.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("this replica must stop: {what} (state key {key})", key = hex::encode(.key))]
pub struct StateError {
    /// The key.
    pub key: Vec<u8>,
    /// What is wrong with it.
    pub what: String,
    /// Where the fault is: `InvalidData` if what is stored is not what was written, `Unsupported` if another build is needed;
    /// any other kind is that of the store, or of this process, and may pass.
    pub kind: io::ErrorKind,
}

impl StateError {
    /// What is stored under a key is not what was written there, or is missing.
    pub fn damaged(key: impl AsRef<[u8]>, what: impl Into<String>) -> Self {
        Self::unable(key, io::ErrorKind::InvalidData, what)
    }

    /// The store did not give out what is under a key.
    pub fn unreadable(key: impl AsRef<[u8]>, error: &io::Error) -> Self {
        let what = format!("the store cannot be read: {error}");
        Self::unable(key, error.kind(), what)
    }

    /// This process cannot do what is to be done with a key.
    pub fn unable(key: impl AsRef<[u8]>, kind: io::ErrorKind, what: impl Into<String>) -> Self {
        Self {
            key: key.as_ref().to_vec(),
            what: what.into(),
            kind,
        }
    }
}

impl From<StateError> for io::Error {
    fn from(error: StateError) -> Self {
        Self::new(error.kind, error)
    }
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// What the machine reads. Implementations return what was last committed, in byte order of the keys.
pub trait State {
    /// The value of a key.
    ///
    /// # Errors
    /// [`StateError`] if the store cannot be read.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError>;

    /// Up to `limit` pairs whose keys begin with `prefix` and are greater than `after` (if given), ascending.
    ///
    /// # Errors
    /// [`StateError`] if the store cannot be read.
    fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Pair>, StateError>;
}

/// What a transaction wants to change: a new value, or none for a deletion.
pub type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Reads through to the state below, keeps writes to itself.
pub struct Txn<'s> {
    below: &'s dyn State,
    writes: Writes,
}

impl<'s> Txn<'s> {
    /// A transaction without writes.
    #[must_use]
    pub fn new(below: &'s dyn State) -> Self {
        Self {
            below,
            writes: Writes::new(),
        }
    }

    /// The writes, to be committed together.
    #[must_use]
    pub fn into_writes(self) -> Writes {
        self.writes
    }

    /// Takes over the writes of a transaction that was laid over this one.
    pub fn absorb(&mut self, writes: Writes) {
        self.writes.extend(writes);
    }

    /// Sets the value of a key.
    pub fn put(&mut self, key: Key, value: Vec<u8>) {
        self.writes.insert(key.into_bytes(), Some(value));
    }

    /// Deletes a key.
    pub fn delete(&mut self, key: Key) {
        self.writes.insert(key.into_bytes(), None);
    }

    /// Deletes a key that was scanned.
    pub(crate) fn delete_raw(&mut self, key: Vec<u8>) {
        self.writes.insert(key, None);
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`StateError`] if the store cannot be read, or the bytes are not such a record.
    pub fn read<M: Message + Default>(&self, key: &Key) -> Result<Option<M>, StateError> {
        read(self, key)
    }

    /// Reads a record that must exist.
    ///
    /// # Errors
    /// [`StateError`] also if it does not.
    pub fn must_read<M: Message + Default>(&self, key: &Key) -> Result<M, StateError> {
        self.read(key)?
            .ok_or_else(|| StateError::damaged(key, "a record is missing"))
    }

    /// All records whose keys begin with `prefix`, ascending, each with the rest of its key.
    ///
    /// # Errors
    /// [`StateError`] if the store cannot be read, or a value is not such a record.
    pub fn records<M: Message + Default>(
        &self,
        prefix: &Key,
    ) -> Result<Vec<(Vec<u8>, M)>, StateError> {
        let damaged = |what: String| StateError::damaged(prefix, what);
        self.scan(prefix.as_bytes(), None, usize::MAX)?
            .into_iter()
            .map(|(key, value)| {
                let rest = key.get(prefix.as_bytes().len()..).unwrap_or_default();
                let record =
                    M::decode(value.as_slice()).map_err(|error| damaged(error.to_string()))?;
                Ok((rest.to_vec(), record))
            })
            .collect()
    }

    /// Like [`Txn::records`], for keys that end in a text.
    ///
    /// # Errors
    /// [`StateError`] also if the rest of a key is not UTF-8.
    pub fn records_by_text<M: Message + Default>(
        &self,
        prefix: &Key,
    ) -> Result<Vec<(String, M)>, StateError> {
        self.records(prefix)?
            .into_iter()
            .map(|(rest, record)| {
                let text = String::from_utf8(rest)
                    .map_err(|error| StateError::damaged(prefix, error.to_string()))?;
                Ok((text, record))
            })
            .collect()
    }

    /// Writes a record.
    pub fn write<M: Message>(&mut self, key: Key, record: &M) {
        self.put(key, record.encode_to_vec());
    }

    /// True if the key has a value.
    ///
    /// # Errors
    /// [`StateError`] if the store cannot be read.
    pub fn contains(&self, key: &Key) -> Result<bool, StateError> {
        Ok(self.get(key.as_bytes())?.is_some())
    }
}

impl std::fmt::Debug for Txn<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Txn")
            .field("writes", &self.writes.len())
            .finish_non_exhaustive()
    }
}

/// Reads a record from any state.
///
/// # Errors
/// [`StateError`] if the store cannot be read, or the bytes are not such a record.
pub fn read<M: Message + Default>(state: &dyn State, key: &Key) -> Result<Option<M>, StateError> {
    state
        .get(key.as_bytes())?
        .map(|bytes| {
            M::decode(bytes.as_slice()).map_err(|error| StateError::damaged(key, error.to_string()))
        })
        .transpose()
}

impl State for Txn<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        match self.writes.get(key) {
            Some(written) => Ok(written.clone()),
            None => self.below.get(key),
        }
    }

    fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Pair>, StateError> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after.to_vec()),
            _ => Bound::Included(prefix.to_vec()),
        };
        let mut own = self
            .writes
            .range((start, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .peekable();
        if own.peek().is_none() {
            return self.below.scan(prefix, after, limit);
        }
        // Each own deletion can hide one pair below, so this many pairs below are always enough.
        let own: BTreeMap<_, _> = own.collect();
        let mut merged: BTreeMap<Vec<u8>, Vec<u8>> = self
            .below
            .scan(prefix, after, limit.saturating_add(own.len()))?
            .into_iter()
            .collect();
        for (key, value) in own {
            match value {
                Some(value) => merged.insert(key.clone(), value.clone()),
                None => merged.remove(key),
            };
        }
        Ok(merged.into_iter().take(limit).collect())
    }
}
