//! What a node keeps of its own when a snapshot replaces its store: who it is, its vote, what it remembers of the others, what is
//! on its disk and is to be erased, and the end of its log if it goes on where the snapshot ends.

use std::io;
use std::ops::Bound;

use prost::Message;

use super::log::decode_entry;
use super::types::{self, LogId};
use crate::storage::meta::{self, log_key};
use crate::storage::{Batch, Direction, Read, Table, prefix_end, scan};

/// What is written over a copy before it becomes this node's store.
///
/// # Errors
/// The old store cannot be read, or its log is damaged.
pub(super) fn own(old: &dyn Read, last: &LogId, tree_size: u64) -> io::Result<Batch> {
    let mut batch = Batch::new();
    batch.put(Table::Meta, meta::COPIED, tree_size.to_be_bytes());
    for key in [
        meta::FORMAT,
        meta::NODE,
        meta::GENESIS,
        meta::STORE,
        meta::VOTE,
    ] {
        match old.get(Table::Meta, key)? {
            Some(value) => batch.put(Table::Meta, key, value),
            None => batch.delete(Table::Meta, key),
        }
    }
    batch.delete(Table::Meta, meta::BOOTSTRAP);
    // What others have promised to the sender, they have not promised to this node.
    if let Some(end) = prefix_end(meta::PEER) {
        batch.delete_range(Table::Meta, meta::PEER, end);
    }
    let direction = Direction::Ascending;
    for (key, value) in scan(old, Table::Meta, meta::PEER, None, direction, usize::MAX)? {
        batch.put(Table::Meta, key, value);
    }
    // What the sender had not erased yet came along; what this node had not is on this disk until its old store is gone.
    for (key, value) in meta::erasing(old)? {
        batch.put(Table::Meta, key, value);
    }
    let last_bytes = types::log_id_to_wire(last).encode_to_vec();
    batch.put(Table::Meta, meta::PURGED, last_bytes.clone());
    batch.put(Table::Meta, meta::COMMITTED, last_bytes);
    // The log that came along is another node's; only what is beyond the snapshot is of use, and only our own, if it goes on
    // from there: what another leader once wrote behind another entry was never committed.
    batch.delete_range(Table::Log, log_key(0), log_key(u64::MAX));
    let beyond = log_key(last.index());
    let ours = old.get(Table::Log, &beyond)?;
    if ours
        .map(|entry| decode_entry(&entry))
        .transpose()?
        .map(|entry| entry.log_id)
        != Some(*last)
    {
        return Ok(batch);
    }
    let range = (Bound::Excluded(beyond.as_slice()), Bound::Unbounded);
    for (key, value) in old.range(Table::Log, range, Direction::Ascending, usize::MAX)? {
        batch.put(Table::Log, key, value);
    }
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use openraft::EntryPayload;

    use super::*;
    use crate::raft::types::{Entry, Term, entry_to_wire};
    use crate::storage::Store as _;
    use crate::storage::memory::MemoryStore;

    fn id(term: u64, index: u64) -> LogId {
        LogId::new(Term { term }, index)
    }

    #[test]
    fn what_another_leader_wrote_behind_another_entry_does_not_outlive_a_snapshot() {
        let store = MemoryStore::new();
        let mut log = Batch::new();
        for index in 1..=5 {
            let entry = Entry {
                log_id: id(2, index),
                payload: EntryPayload::Blank,
            };
            let bytes = entry_to_wire(&entry).encode_to_vec();
            log.put(Table::Log, log_key(index).to_vec(), bytes);
        }
        store.write(&log).unwrap();
        for (last, kept) in [
            (id(2, 3), vec![4, 5]),
            (id(3, 3), vec![]),
            (id(3, 9), vec![]),
        ] {
            store.write(&log).unwrap();
            store.write(&own(&store, &last, 7).unwrap()).unwrap();
            let everything = (Bound::Unbounded, Bound::Unbounded);
            let left = store.range(Table::Log, everything, Direction::Ascending, usize::MAX);
            let left: Vec<Vec<u8>> = left.unwrap().into_iter().map(|(key, _)| key).collect();
            let kept: Vec<Vec<u8>> = kept
                .into_iter()
                .map(|index| log_key(index).to_vec())
                .collect();
            assert_eq!(left, kept, "{last}");
        }
    }
}
