//! RocksDB as this store uses it: how a database is opened, written and read, and what its errors mean.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{OnceLock, mpsc};

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRecoveryMode, IteratorMode, LogLevel, Options, ReadOptions, WriteBatch, WriteOptions,
};

use crate::storage::{Batch, Change, Direction, KeyRange, Pair, Table, is_empty_range};

/// Past this many bytes of write-ahead log the oldest tables are flushed, so that the log can be deleted.
const MAX_WAL: u64 = 512 << 20;

/// How much memory a store takes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// For blocks read from disk, all tables together.
    pub block_cache: usize,
    /// For what is written and not yet in files, all tables together.
    pub write_buffers: usize,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            block_cache: 32 << 20,
            write_buffers: 32 << 20,
        }
    }
}

/// What a database is opened with.
#[derive(Clone)]
pub(super) struct Opening {
    cache: Cache,
    write_buffers: usize,
    pub(super) recovery: DBRecoveryMode,
    held: mpsc::Sender<Infallible>,
}

impl Opening {
    pub(super) fn new(memory: Memory, held: mpsc::Sender<Infallible>) -> Self {
        Self {
            cache: Cache::new_lru_cache(memory.block_cache),
            write_buffers: memory.write_buffers,
            // A torn last record is the ordinary trace of a crash; damage before it would silently lose acknowledged writes.
            recovery: DBRecoveryMode::TolerateCorruptedTailRecords,
            held,
        }
    }
}

impl Table {
    pub(super) const fn family(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Log => "log",
            Self::State => "state",
            Self::Index => "index",
        }
    }
}

/// An open database. Its folder goes with it once another one is live.
pub(super) struct Database {
    pub(super) db: DB,
    pub(super) folder: PathBuf,
    pub(super) retired: AtomicBool,
    /// Why the first write or sync failed. RocksDB tells only whoever asked for that one.
    failed: OnceLock<(io::ErrorKind, String)>,
    /// Dropped after the database is closed: fields are dropped in this order.
    _open: mpsc::Sender<Infallible>,
}

impl Drop for Database {
    fn drop(&mut self) {
        if self.retired.load(Ordering::Acquire) {
            // What stays behind is removed at the next start.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

impl Database {
    fn new(db: DB, folder: &Path, opening: &Opening) -> Self {
        Self {
            db,
            folder: folder.to_owned(),
            retired: AtomicBool::new(false),
            failed: OnceLock::new(),
            _open: opening.held.clone(),
        }
    }

    pub(super) fn write(&self, batch: &Batch) -> io::Result<()> {
        let mut changes = WriteBatch::default();
        for change in batch.changes() {
            match change {
                Change::Put(table, key, value) => {
                    changes.put_cf(family(&self.db, *table)?, key, value);
                }
                Change::Delete(table, key) => changes.delete_cf(family(&self.db, *table)?, key),
                Change::DeleteRange(table, from, until) => {
                    changes.delete_range_cf(family(&self.db, *table)?, from, until);
                }
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(false);
        self.db
            .write_opt(changes, &options)
            .map_err(|error| self.failed(error))
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.db.flush_wal(true).map_err(|error| self.failed(error))
    }

    /// Why a write or a sync failed, though RocksDB may only refer to an earlier one.
    fn failed(&self, error: rocksdb::Error) -> io::Error {
        let is_first = !is_refusal(&error);
        let error = other(error);
        if is_first {
            let _ = self.failed.set((error.kind(), error.to_string()));
            return error;
        }
        match self.failed.get() {
            Some((kind, why)) => io::Error::new(*kind, format!("{error}: {why}")),
            None => error,
        }
    }
}

fn options(opening: &Opening, create: bool) -> Options {
    let mut options = Options::default();
    options.create_if_missing(create);
    options.create_missing_column_families(create);
    options.set_error_if_exists(create);
    options.set_wal_recovery_mode(opening.recovery);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_wal_bytes_per_sync(0);
    options.set_bytes_per_sync(1 << 20);
    options.set_max_total_wal_size(MAX_WAL);
    options.set_db_write_buffer_size(opening.write_buffers);
    options.set_max_background_jobs(2);
    options.set_max_open_files(512);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    options.set_log_level(LogLevel::Warn);
    options
}

fn families(opening: &Opening) -> [ColumnFamilyDescriptor; 4] {
    Table::ALL
        .map(|table| ColumnFamilyDescriptor::new(table.family(), family_options(table, opening)))
}

pub(super) fn open(folder: &Path, opening: &Opening, create: bool) -> io::Result<Database> {
    let options = options(opening, create);
    let db = DB::open_cf_descriptors(&options, folder, families(opening)).map_err(cannot_open)?;
    Ok(Database::new(db, folder, opening))
}

/// Opens a database so that no file of it is changed.
pub(super) fn read_only(folder: &Path, opening: &Opening) -> io::Result<Database> {
    let db = DB::open_cf_descriptors_read_only(
        &options(opening, false),
        folder,
        families(opening),
        // What was written last is only in the write-ahead log, and is read from there.
        false,
    )
    .map_err(cannot_open)?;
    Ok(Database::new(db, folder, opening))
}

fn family_options(table: Table, opening: &Opening) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&opening.cache);
    blocks.set_block_size(16 << 10);
    blocks.set_format_version(5);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    // In parts of a few KiB: one filter for a whole file is larger than a shard of the cache, which then keeps none of them,
    // and every lookup reads and checks megabytes.
    blocks.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    blocks.set_partition_filters(true);
    blocks.set_pin_top_level_index_and_filter(true);
    if matches!(table, Table::State) {
        // Most request ids that are asked for are new.
        blocks.set_bloom_filter(10.0, false);
    }
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    // Two tables take nearly all writes, the log and the state.
    options.set_write_buffer_size(opening.write_buffers / 2);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_level_compaction_dynamic_level_bytes(true);
    options
}

pub(super) fn family(db: &DB, table: Table) -> io::Result<&rocksdb::ColumnFamily> {
    db.cf_handle(table.family())
        .ok_or_else(|| io::Error::other(format!("the table {} is missing", table.family())))
}

pub(super) fn bounded((from, until): KeyRange<'_>) -> ReadOptions {
    let mut options = ReadOptions::default();
    match from {
        Bound::Included(key) => options.set_iterate_lower_bound(key),
        Bound::Excluded(key) => options.set_iterate_lower_bound([key, &[0]].concat()),
        Bound::Unbounded => {}
    }
    match until {
        Bound::Included(key) => options.set_iterate_upper_bound([key, &[0]].concat()),
        Bound::Excluded(key) => options.set_iterate_upper_bound(key),
        Bound::Unbounded => {}
    }
    options
}

pub(super) const fn mode(direction: Direction) -> IteratorMode<'static> {
    match direction {
        Direction::Ascending => IteratorMode::Start,
        Direction::Descending => IteratorMode::End,
    }
}

type Item = Result<(Box<[u8]>, Box<[u8]>), rocksdb::Error>;

pub(super) fn collect(
    pairs: impl Iterator<Item = Item>,
    range: KeyRange<'_>,
    limit: usize,
) -> io::Result<Vec<Pair>> {
    if is_empty_range(range) {
        return Ok(Vec::new());
    }
    pairs
        .take(limit)
        .map(|pair| {
            pair.map(|(key, value)| (key.into_vec(), value.into_vec()))
                .map_err(other)
        })
        .collect()
}

/// What RocksDB says instead of a cause: after one failure it refuses everything, and tells only the first caller why.
const REFUSALS: &[&str] = &["Seen error", "previous error"];

fn is_refusal(error: &rocksdb::Error) -> bool {
    REFUSALS.iter().any(|words| error.as_ref().contains(words))
}

pub(super) fn other(error: rocksdb::Error) -> io::Error {
    if is_refusal(&error) {
        return io::Error::other("an earlier write or sync of the store failed");
    }
    let kind = if error.kind() == rocksdb::ErrorKind::Corruption {
        io::ErrorKind::InvalidData
    } else if error.as_ref().contains("No space left on device") {
        // RocksDB passes on what the system said only in words.
        io::ErrorKind::StorageFull
    } else {
        io::ErrorKind::Other
    };
    io::Error::new(kind, error)
}

fn cannot_open(error: rocksdb::Error) -> io::Error {
    let error = other(error);
    io::Error::new(error.kind(), format!("cannot open the database: {error}"))
}
