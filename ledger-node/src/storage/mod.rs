//! The store: bytes by table and key, one write-ahead log under all tables.
//!
//! Everything that a node keeps goes through [`Store`], which is small enough to be implemented twice: by RocksDB, and in
//! memory with faults that a test scripts. A write is a [`Batch`]: all of it or nothing, visible at once, and durable only
//! after the next [`Store::sync`]. Because all tables share one log, what was written earlier is durable no later.

pub mod folders;
pub mod instance;
pub mod marker;
pub mod memory;
pub mod meta;
pub mod rocks;
pub mod store_id;
#[cfg(test)]
mod tests;
pub mod view;

use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

/// The tables. The numbers are stored on disk and are never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Table {
    /// What a node knows of itself: vote, committed and purged log ids, what was applied, versions of the disk format.
    Meta = 0,
    /// Raft's log: u64 index, big-endian, to an entry.
    Log = 1,
    /// The machine's state, entries, tiles and compartments, under the keys of `ledger_core::state::Key`.
    State = 2,
    /// What this node derives from entries to find them again; never part of a state digest.
    Index = 3,
}

impl Table {
    /// Every table, ascending.
    pub const ALL: [Self; 4] = [Self::Meta, Self::Log, Self::State, Self::Index];
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Sets a value.
    Put(Table, Vec<u8>, Vec<u8>),
    /// Removes a key.
    Delete(Table, Vec<u8>),
    /// Removes every key from the first (included) to the second (excluded).
    DeleteRange(Table, Vec<u8>, Vec<u8>),
}

/// Changes that happen together or not at all, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    changes: Vec<Change>,
}

impl Batch {
    /// No changes.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            changes: Vec::new(),
        }
    }

    /// Sets a value.
    pub fn put(&mut self, table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        let change = Change::Put(table, key.into(), value.into());
        self.changes.push(change);
    }

    /// Removes a key.
    pub fn delete(&mut self, table: Table, key: impl Into<Vec<u8>>) {
        self.changes.push(Change::Delete(table, key.into()));
    }

    /// Removes every key from `from` (included) to `until` (excluded).
    pub fn delete_range(
        &mut self,
        table: Table,
        from: impl Into<Vec<u8>>,
        until: impl Into<Vec<u8>>,
    ) {
        let change = Change::DeleteRange(table, from.into(), until.into());
        self.changes.push(change);
    }

    /// The changes in their order.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// True if nothing changes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// Which way a range is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The smallest key first.
    Ascending,
    /// The greatest key first.
    Descending,
}

/// A range of keys.
pub type KeyRange<'k> = (Bound<&'k [u8]>, Bound<&'k [u8]>);

/// A table and the keys from the first (included) to the second (excluded).
pub type OwnedRange = (Table, Vec<u8>, Vec<u8>);

/// Reading. An error means that stored bytes cannot be trusted or reached; whoever depends on them must stop.
pub trait Read: Send + Sync {
    /// The value of a key.
    ///
    /// # Errors
    /// Damaged or unreachable storage.
    fn get(&self, table: Table, key: &[u8]) -> io::Result<Option<Vec<u8>>>;

    /// Up to `limit` pairs of a range.
    ///
    /// # Errors
    /// Damaged or unreachable storage.
    fn range(
        &self,
        table: Table,
        range: KeyRange<'_>,
        direction: Direction,
        limit: usize,
    ) -> io::Result<Vec<Pair>>;
}

/// A store that is open.
pub trait Store: Read + std::fmt::Debug {
    /// Writes a batch: visible when this returns, safe from a crash of the process, not yet from a loss of power.
    ///
    /// # Errors
    /// The storage cannot be written. The node must stop.
    fn write(&self, batch: &Batch) -> io::Result<()>;

    /// Makes everything durable whose write returned before this call.
    ///
    /// # Errors
    /// It is not known what is durable. The node must stop, and must not sync again.
    fn sync(&self) -> io::Result<()>;

    /// This moment, frozen: later writes do not show.
    fn view(&self) -> Arc<dyn Read>;

    /// Writes a copy of this moment into a new directory. The files may be hard links to live ones; they are durable when
    /// this returns.
    ///
    /// # Errors
    /// The directory exists, or the storage cannot be written.
    fn checkpoint(&self, dir: &Path) -> io::Result<()>;

    /// Opens a copy that [`Store::checkpoint`] made, for reading. No file of it is changed.
    ///
    /// # Errors
    /// It is damaged, or cannot be read.
    fn open_copy(&self, dir: &Path) -> io::Result<Box<dyn Read>>;

    /// Replaces everything by a copy that [`Store::checkpoint`] made, with what `own` returns written over it, durably and at
    /// once: after a crash there is either all of the old or all of the new. `own` sees the old content; no write comes between.
    /// The directory is consumed.
    ///
    /// # Errors
    /// The copy cannot be opened, or the storage cannot be written.
    fn install(&self, dir: &Path, own: &dyn Fn(&dyn Read) -> io::Result<Batch>) -> io::Result<()>;

    /// Makes what was deleted in these ranges go from the disk, with the write-ahead log that brought it there. False if
    /// readers still hold some of it: call again.
    ///
    /// # Errors
    /// The storage cannot be read or written.
    fn scrub(&self, ranges: &[OwnedRange]) -> io::Result<bool>;

    /// Bytes on disk.
    fn disk_bytes(&self) -> u64;
}

/// The first key after all keys with a prefix; none if there is no such key.
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

/// Up to `limit` pairs of a table under a prefix, beyond `after` in the direction of reading.
///
/// # Errors
/// The store cannot be read.
pub fn scan(
    read: &dyn Read,
    table: Table,
    prefix: &[u8],
    after: Option<&[u8]>,
    direction: Direction,
    limit: usize,
) -> io::Result<Vec<Pair>> {
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
    read.range(table, (from, until), direction, limit)
}

/// True if no key can be in the range: a bound below the other, which a map would not take.
fn is_empty_range((from, until): KeyRange<'_>) -> bool {
    match (from, until) {
        (Bound::Included(from), Bound::Included(until)) => from > until,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Excluded(until))
        | (Bound::Excluded(from), Bound::Included(until)) => from >= until,
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
    }
}
