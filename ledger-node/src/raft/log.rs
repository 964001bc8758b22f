//! Raft's log and vote in the store.
//!
//! An append is visible when it returns and counts once the flusher has synced it. The newest entries also stay in memory,
//! bounded by bytes, because replication and apply read each of them again within milliseconds.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::{Stream, StreamExt as _};
use ledger_proto::peer::v1 as wire;
use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use prost::Message;

use super::flusher::Flusher;
use super::tail::Tail;
use super::types::{self, Entry, LogId, Types, Vote, invalid};
use crate::apply::prepare::Preparer;
use crate::limits::LOG_READ_LEN;
use crate::storage::meta::{self, log_key};
use crate::storage::{Batch, Direction, Read, Store, Table};

/// Called with each vote before it is answered, so that the marker can follow.
pub type OnVote = Arc<dyn Fn(&Vote) -> io::Result<()> + Send + Sync>;

/// The log. Clones are the same log.
#[derive(Clone)]
pub struct Log {
    store: Arc<dyn Store>,
    flusher: Flusher,
    preparer: Option<Arc<Preparer>>,
    on_vote: OnVote,
    tail: Arc<Mutex<Tail>>,
    tail_len: usize,
    appended: Arc<AtomicU64>,
}

impl Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Log")
    }
}

impl Log {
    /// The log of a store, of which `tail_len` bytes of the newest entries stay in memory; `len` bytes are in no snapshot.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        flusher: Flusher,
        preparer: Option<Arc<Preparer>>,
        on_vote: OnVote,
        tail_len: usize,
        len: u64,
    ) -> Self {
        Self {
            store,
            flusher,
            preparer,
            on_vote,
            tail: Arc::default(),
            tail_len,
            appended: Arc::new(AtomicU64::new(len)),
        }
    }

    /// Bytes that were in no snapshot when the process began, and all that were appended since.
    #[must_use]
    pub fn appended_bytes(&self) -> u64 {
        self.appended.load(Ordering::Relaxed)
    }

    /// Writes a batch. A node that cannot write must stop.
    fn write(&self, batch: &Batch) -> io::Result<()> {
        self.store.write(batch).inspect_err(|error| {
            self.flusher.stop("the log cannot be written", error);
        })
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Entries from `start` to before `end`: at least one if there is one, and no more than fit. A node that cannot read its log
    /// must stop: it can neither go on nor help others to.
    fn read(&self, start: u64, end: u64, max_len: usize) -> io::Result<Vec<Entry>> {
        if start >= end {
            return Ok(Vec::new());
        }
        if let Some(entries) = self.tail().read(start, end, max_len) {
            return Ok(entries);
        }
        self.must_read(self.read_stored(start, end, max_len))
    }

    fn must_read<T>(&self, read: io::Result<T>) -> io::Result<T> {
        read.inspect_err(|error| self.flusher.stop("the log cannot be read", error))
    }

    fn read_stored(&self, start: u64, end: u64, max_len: usize) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let (mut len, mut next) = (0_usize, start);
        while next < end && len < max_len {
            let from = log_key(next);
            let until = log_key(end);
            let page = self.store.range(
                Table::Log,
                (Bound::Included(&from), Bound::Excluded(&until)),
                Direction::Ascending,
                64,
            )?;
            if page.is_empty() {
                break;
            }
            for (key, value) in page {
                let entry = decode_entry(&value)?;
                if key != log_key(next) || entry.log_id.index() != next {
                    return Err(invalid(format!("log entry {next} is missing")));
                }
                len += types::entry_len(&entry);
                if len > max_len && !entries.is_empty() {
                    return Ok(entries);
                }
                entries.push(entry);
                next += 1;
            }
        }
        Ok(entries)
    }
}

/// Reads an entry as it is on disk.
///
/// # Errors
/// The bytes are not an entry.
pub fn decode_entry(bytes: &[u8]) -> io::Result<Entry> {
    wire::LogEntry::decode(bytes)
        .map_err(|error| invalid(format!("a log entry: {error}")))
        .and_then(types::entry)
}

/// Reads a record of the Meta table.
///
/// # Errors
/// The store cannot be read, or the bytes are not such a record.
pub fn read_meta<M: Message + Default>(store: &dyn Read, key: &[u8]) -> io::Result<Option<M>> {
    let Some(bytes) = store.get(Table::Meta, key)? else {
        return Ok(None);
    };
    M::decode(bytes.as_slice())
        .map(Some)
        .map_err(|error| invalid(format!("meta {}: {error}", String::from_utf8_lossy(key))))
}

fn read_log_id(store: &dyn Read, key: &[u8]) -> io::Result<Option<LogId>> {
    Ok(read_meta::<wire::LogId>(store, key)?.map(|id| types::log_id(&id)))
}

/// The end of the log: its last entry, or what was purged last.
///
/// # Errors
/// The store cannot be read.
pub fn last_log_id(store: &dyn Read) -> io::Result<Option<LogId>> {
    let everything = (Bound::Unbounded, Bound::Unbounded);
    let last = store.range(Table::Log, everything, Direction::Descending, 1)?;
    match last.into_iter().next() {
        Some((_, value)) => Ok(Some(decode_entry(&value)?.log_id)),
        None => read_log_id(store, meta::PURGED),
    }
}

/// Bytes of the log's entries behind an index, or `at_most` if there are more. None may be missing between two others, as after
/// a loss of power that took from an older write-ahead log what was never synced, and left a younger one.
///
/// # Errors
/// One is missing, or the store cannot be read.
pub fn log_len(store: &dyn Read, after: u64, at_most: u64) -> io::Result<u64> {
    let mut next = first_index(store)?.max(after.saturating_add(1));
    let mut len = 0;
    while len < at_most {
        let from = log_key(next);
        let range = (Bound::Included(from.as_slice()), Bound::Unbounded);
        let page = store.range(Table::Log, range, Direction::Ascending, 64)?;
        if page.is_empty() {
            return Ok(len);
        }
        for (key, value) in page {
            if key != log_key(next) {
                return Err(invalid(format!("log entry {next} is missing")));
            }
            next = next.saturating_add(1);
            len += u64::try_from(value.len()).map_err(io::Error::other)?;
        }
    }
    Ok(at_most)
}

/// Where the log begins. Whoever asks for more gets what there is from there on, unless it was not purged.
fn first_index(store: &dyn Read) -> io::Result<u64> {
    let everything = (Bound::Unbounded, Bound::Unbounded);
    let first = store.range(Table::Log, everything, Direction::Ascending, 1)?;
    let Some((_, value)) = first.into_iter().next() else {
        return Ok(0);
    };
    let first = decode_entry(&value)?.log_id.index();
    match read_log_id(store, meta::PURGED)? {
        Some(purged) if first > purged.index().saturating_add(1) => Err(invalid(format!(
            "the log was purged up to {} and begins only at {first}",
            purged.index()
        ))),
        Some(_) | None => Ok(first),
    }
}

impl RaftLogReader<Types> for Log {
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        // In pages, so that a replica that has much to apply does not read all of it at once.
        let (start, end) = half_open(&range);
        let log = self.clone();
        futures_util::stream::unfold(
            (log, start, end, VecDeque::new()),
            |(log, mut start, end, mut page)| async move {
                if page.is_empty() {
                    match log.read(start, end, LOG_READ_LEN) {
                        Ok(entries) => page.extend(entries),
                        Err(error) => return Some((Err(error), (log, end, end, page))),
                    }
                }
                let entry: Entry = page.pop_front()?;
                start = entry.log_id.index() + 1;
                Some((Ok(entry), (log, start, end, page)))
            },
        )
        // openraft looks again after the end.
        .fuse()
    }

    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let (start, end) = half_open(&range);
        let start = start.max(self.must_read(first_index(&*self.store))?);
        self.read(start, end, usize::MAX)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(start, end, LOG_READ_LEN)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        let vote: Option<wire::Vote> = self.must_read(read_meta(&*self.store, meta::VOTE))?;
        Ok(vote.map(|vote| types::vote(&vote)))
    }
}

fn half_open(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        Ok(LogState {
            last_purged_log_id: self.must_read(read_log_id(&*self.store, meta::PURGED))?,
            last_log_id: self.must_read(last_log_id(&*self.store))?,
        })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let mut batch = Batch::new();
        let bytes = types::vote_to_wire(vote).encode_to_vec();
        batch.put(Table::Meta, meta::VOTE, bytes);
        self.write(&batch)?;
        self.flusher.barrier().await?;
        (self.on_vote)(vote).inspect_err(|error| {
            self.flusher
                .stop("a vote cannot be written to the marker", error);
        })
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let mut batch = Batch::new();
        match &committed {
            Some(id) => {
                let bytes = types::log_id_to_wire(id).encode_to_vec();
                batch.put(Table::Meta, meta::COMMITTED, bytes);
            }
            None => batch.delete(Table::Meta, meta::COMMITTED),
        }
        self.write(&batch)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        self.must_read(read_log_id(&*self.store, meta::COMMITTED))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut batch = Batch::new();
        let mut appended = Vec::new();
        for entry in entries {
            let bytes = types::entry_to_wire(&entry).encode_to_vec();
            let len = u64::try_from(bytes.len()).unwrap_or_default();
            self.appended.fetch_add(len, Ordering::Relaxed);
            batch.put(Table::Log, log_key(entry.log_id.index()), bytes);
            appended.push(entry);
        }
        self.write(&batch)?;
        let last = appended.last().map(|entry| entry.log_id);
        {
            let mut tail = self.tail();
            for entry in appended {
                if let Some(preparer) = &self.preparer {
                    preparer.prepare(&entry);
                }
                tail.push(entry, self.tail_len);
            }
        }
        self.flusher.appended(callback, last);
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let first_gone = last.map_or(0, |id| id.index() + 1);
        let mut batch = Batch::new();
        let end = self
            .must_read(last_log_id(&*self.store))?
            .map_or(0, |id| id.index().saturating_add(1));
        if first_gone < end {
            batch.delete_range(Table::Log, log_key(first_gone), log_key(end));
        }
        self.tail().truncate_after(last.map(|id| id.index()));
        self.write(&batch)?;
        self.flusher.truncated(last);
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let purged = read_log_id(&*self.store, meta::PURGED)?;
        let from = purged.map_or(0, |id| id.index());
        let mut batch = Batch::new();
        batch.put(
            Table::Meta,
            meta::PURGED,
            types::log_id_to_wire(&upto).encode_to_vec(),
        );
        batch.delete_range(
            Table::Log,
            log_key(from),
            log_key(upto.index().saturating_add(1)),
        );
        self.tail().purge(upto.index());
        self.write(&batch)
    }
}

#[cfg(test)]
mod tests {
    use openraft::EntryPayload;

    use super::*;
    use crate::fatal::Fatal;
    use crate::raft::types::{Proposal, Term};
    use crate::storage::memory::MemoryStore;

    /// Bytes of the payload of each entry.
    const LEN: usize = 1_000;

    fn entry(index: u64) -> Entry {
        Entry {
            log_id: LogId::new(Term { term: 1 }, index),
            payload: EntryPayload::Normal(Proposal(vec![7; LEN].into())),
        }
    }

    fn log(tail_len: usize) -> (Arc<MemoryStore>, Log) {
        let store = Arc::new(MemoryStore::new());
        let flusher = Flusher::start(Arc::clone(&store) as Arc<dyn Store>, Fatal::default());
        let on_vote: OnVote = Arc::new(|_| Ok(()));
        let log = Log::new(
            Arc::clone(&store) as Arc<dyn Store>,
            flusher.unwrap(),
            None,
            on_vote,
            tail_len,
            0,
        );
        (store, log)
    }

    async fn append(log: &mut Log, indexes: std::ops::Range<u64>) {
        for index in indexes {
            log.append([entry(index)], IOFlushed::noop()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn memory_holds_only_so_many_bytes_and_the_store_the_rest() {
        let (_, mut log) = log(10 * LEN);
        append(&mut log, 0..100).await;
        let len = log.tail().len();
        assert!(len <= 10 * LEN, "{len}");
        let all = log.try_get_log_entries(0..100).await.unwrap();
        let indexes: Vec<u64> = all.iter().map(|entry| entry.log_id.index()).collect();
        assert_eq!(indexes, (0..100).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn an_entry_that_is_missing_is_an_error() {
        let (store, mut log) = log(0);
        append(&mut log, 0..10).await;
        log.purge(entry(3).log_id).await.unwrap();
        assert_eq!(log.try_get_log_entries(0..10).await.unwrap().len(), 6);
        for (after, entries) in [(0, 6), (3, 6), (7, 2), (9, 0), (20, 0)] {
            let len = log_len(&*store, after, u64::MAX).unwrap();
            let len = usize::try_from(len).unwrap();
            let more = entries * LEN + entries * 100;
            assert!((entries * LEN..=more).contains(&len), "{after}: {len}");
        }
        assert_eq!(log_len(&*store, 0, 10).unwrap(), 10);
        let mut hole = Batch::new();
        hole.delete(Table::Log, log_key(6));
        store.write(&hole).unwrap();
        log.try_get_log_entries(0..10).await.unwrap_err();
        let error = log_len(&*store, 0, u64::MAX).unwrap_err();
        assert_eq!(error.to_string(), "log entry 6 is missing");
        let mut beginning = Batch::new();
        beginning.delete_range(Table::Log, log_key(4), log_key(8));
        store.write(&beginning).unwrap();
        log.try_get_log_entries(0..10).await.unwrap_err();
        log.limited_get_log_entries(4, 10).await.unwrap_err();
    }
}
