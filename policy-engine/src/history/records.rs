//! Where a partition's past is kept: bytes by key.
//!
//! The ledger keeps the records of a partition among its replicated state; tests and test cases keep them in memory. Nothing
//! else is remembered of a partition, so restoring the records restores the past.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::history::NotCanonical;
use crate::limits::MAX_HISTORY_EVENTS;

/// A record: its key inside the partition, and its bytes.
pub type Record = (Vec<u8>, Vec<u8>);

/// What deciding reads of a partition.
pub trait Records {
    /// Why a record cannot be read.
    type Error;

    /// The record of a key.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Self::Error>;

    /// At most `limit` records whose keys begin with `prefix`, ascending.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn scan(&self, prefix: &[u8], limit: usize) -> Result<Vec<Record>, Self::Error>;

    /// The error that says that a record is not what was written.
    fn damaged(&self, key: &[u8]) -> Self::Error;
}

/// What stepping changes in a partition.
pub trait RecordsMut: Records {
    /// Sets the record of a key, or removes it.
    fn put(&mut self, key: Vec<u8>, record: Option<Vec<u8>>);
}

/// The records of one partition in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Partition {
    records: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Partition {
    /// True if nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// All records, ascending by key.
    pub fn records(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.records
            .iter()
            .map(|(key, record)| (key.as_slice(), record.as_slice()))
    }
}

impl FromIterator<Record> for Partition {
    fn from_iter<T: IntoIterator<Item = Record>>(records: T) -> Self {
        Self {
            records: records.into_iter().collect(),
        }
    }
}

impl Records for Partition {
    type Error = NotCanonical;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, NotCanonical> {
        Ok(self.records.get(key).cloned())
    }

    fn scan(&self, prefix: &[u8], limit: usize) -> Result<Vec<Record>, NotCanonical> {
        Ok(self
            .records
            .range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(limit)
            .map(|(key, record)| (key.clone(), record.clone()))
            .collect())
    }

    fn damaged(&self, _: &[u8]) -> NotCanonical {
        NotCanonical
    }
}

impl RecordsMut for Partition {
    fn put(&mut self, key: Vec<u8>, record: Option<Vec<u8>>) {
        match record {
            Some(record) => self.records.insert(key, record),
            None => self.records.remove(&key),
        };
    }
}

/// 16 bytes that name a cell: what it remembers, whatever rule reads it.
pub(crate) type CellId = [u8; 16];
/// A cell's id, and the digest of the values that it is about; zeros if it is about all.
pub(crate) type Owner = [u8; 32];

/// The key of the record that every step reads and writes, and that is there exactly if anything is.
pub const HEADER: &[u8] = b"h";

pub(crate) fn owner(id: CellId, values: [u8; 16]) -> Owner {
    let mut owner = [0; 32];
    for (place, byte) in owner.iter_mut().zip(id.iter().chain(&values)) {
        *place = *byte;
    }
    owner
}

/// The cell that is about one combination of values.
pub(crate) fn cell_key(owner: &Owner) -> Vec<u8> {
    [b"c".as_slice(), owner].concat()
}

/// The middle of a cell's series.
pub(crate) fn chunk_key(owner: &Owner, chunk: u64) -> Vec<u8> {
    [b"k".as_slice(), owner, &chunk.to_be_bytes()].concat()
}

/// How often a value occurs in a series that counts distinct ones.
pub(crate) fn value_key(owner: &Owner, value: &[u8]) -> Vec<u8> {
    [b"v".as_slice(), owner, value].concat()
}

/// An event that some condition needs as it was.
pub(crate) fn event_key(keep_s: i64, seq: u64) -> Vec<u8> {
    [b"e".as_slice(), &keep_s.to_be_bytes(), &seq.to_be_bytes()].concat()
}

/// When a cell of its own record is to be looked at again.
pub(crate) fn due_key(at_ns: i64, owner: &Owner) -> Vec<u8> {
    let at = at_ns.max(0).to_be_bytes();
    [b"x".as_slice(), &at, owner].concat()
}

/// The time and the cell of such a key.
pub(crate) fn split_due(key: &[u8]) -> Option<(i64, Owner)> {
    let (at, owner) = key.strip_prefix(b"x")?.split_first_chunk::<8>()?;
    Some((i64::from_be_bytes(*at), owner.try_into().ok()?))
}

/// More records than a partition can have.
pub(crate) const ALL: usize = MAX_HISTORY_EVENTS * 1_000;
