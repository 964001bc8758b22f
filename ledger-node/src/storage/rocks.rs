//! The store on disk: RocksDB, one column family per table, one write-ahead log.
//!
//! The live database is the folder that the file `LIVE` names; a snapshot becomes live by one rename of that file, so that a
//! crash leaves either the old or the new. Everything else in the data directory that looks like a database is left over
//! from such a moment and is removed at start.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, mpsc};
use std::time::Duration;

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode,
    IteratorMode, LogLevel, Options, ReadOptions, SnapshotWithThreadMode, WriteBatch, WriteOptions,
};
use self_cell::self_cell;

use super::{Batch, Change, Direction, KeyRange, Pair, Read, Store, Table};

/// Names the folder of the live database.
const LIVE: &str = "LIVE";
/// How folders of databases begin.
const FOLDER: &str = "db-";
/// Memory for blocks read from disk, in bytes, all tables together.
const BLOCK_CACHE: usize = 128 << 20;
/// Memory for what is written and not yet in tables, in bytes, all tables together.
const WRITE_BUFFERS: usize = 96 << 20;
/// Memory for one table's newest writes before they are flushed, in bytes.
const WRITE_BUFFER: usize = 32 << 20;
/// Past this many bytes of write-ahead log the oldest tables are flushed, so that the log can be deleted.
const MAX_WAL: u64 = 512 << 20;

impl Table {
    const fn family(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Log => "log",
            Self::State => "state",
            Self::Index => "index",
        }
    }
}

/// An open database. Its folder goes with it once another one is live.
struct Database {
    db: DB,
    folder: PathBuf,
    retired: AtomicBool,
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

type Snapshot<'d> = SnapshotWithThreadMode<'d, DB>;

self_cell! {
    /// A frozen moment, together with the database that it is a moment of.
    struct Frozen {
        owner: Arc<Database>,
        #[not_covariant]
        dependent: Snapshot,
    }
}

/// The store of a running node.
pub struct RocksStore {
    data_dir: PathBuf,
    live: RwLock<Arc<Database>>,
    cache: Cache,
    open: mpsc::Sender<Infallible>,
}

/// Waits for a store to be closed. A process that ended before would tear the database down under its own threads.
#[derive(Debug)]
pub struct Closed(mpsc::Receiver<Infallible>);

impl Closed {
    /// Blocks until the last thread has let go of the store and it is closed, or until `at_most` has passed. True if it is
    /// closed.
    #[must_use]
    pub fn wait(&self, at_most: Duration) -> bool {
        self.0.recv_timeout(at_most) == Err(mpsc::RecvTimeoutError::Disconnected)
    }
}

impl RocksStore {
    /// Makes an empty store in an existing directory that holds none.
    ///
    /// # Errors
    /// There is a store already, or the directory cannot be written.
    pub fn create(data_dir: &Path) -> io::Result<Self> {
        if data_dir.join(LIVE).exists() {
            let what = format!("{} holds a store already", data_dir.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
        }
        let folder = data_dir.join(format!("{FOLDER}1"));
        let cache = Cache::new_lru_cache(BLOCK_CACHE);
        let (held, _) = mpsc::channel();
        let database = open(&folder, &cache, true, held.clone())?;
        database.db.flush_wal(true).map_err(other)?;
        sync_dir(&folder)?;
        make_live(data_dir, &folder)?;
        Ok(Self::with(data_dir, database, cache, held))
    }

    /// Opens the store of a directory. A torn end of the write-ahead log is cut off; any other damage is an error. The second
    /// value tells when the store, and all views of it, are gone.
    ///
    /// # Errors
    /// There is no store, it is open elsewhere, or it is damaged.
    pub fn open(data_dir: &Path) -> io::Result<(Self, Closed)> {
        let name = live_name(data_dir)?;
        let cache = Cache::new_lru_cache(BLOCK_CACHE);
        let (held, closed) = mpsc::channel();
        let database = open(&data_dir.join(&name), &cache, false, held.clone())?;
        remove_leftovers(data_dir, &name)?;
        let store = Self::with(data_dir, database, cache, held);
        Ok((store, Closed(closed)))
    }

    /// Opens the store of a directory for reading: no file is changed, and writes fail. Nobody else may write to it meanwhile.
    ///
    /// # Errors
    /// There is no store, or it is damaged.
    pub fn open_read_only(data_dir: &Path) -> io::Result<Self> {
        let folder = data_dir.join(live_name(data_dir)?);
        let cache = Cache::new_lru_cache(BLOCK_CACHE);
        let (held, _) = mpsc::channel();
        let db = DB::open_cf_descriptors_read_only(
            &options(false),
            &folder,
            families(&cache),
            // What was written last is only in the write-ahead log, and is read from there.
            false,
        )
        .map_err(|error| context(&other(error), "cannot open the database"))?;
        let database = Database {
            db,
            folder,
            retired: AtomicBool::new(false),
            _open: held.clone(),
        };
        Ok(Self::with(data_dir, database, cache, held))
    }

    fn with(
        data_dir: &Path,
        database: Database,
        cache: Cache,
        open: mpsc::Sender<Infallible>,
    ) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            live: RwLock::new(Arc::new(database)),
            cache,
            open,
        }
    }

    fn database(&self) -> Arc<Database> {
        Arc::clone(&self.live.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl std::fmt::Debug for RocksStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RocksStore").field(&self.data_dir).finish()
    }
}

impl Read for RocksStore {
    fn get(&self, table: Table, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let database = self.database();
        database
            .db
            .get_cf(family(&database.db, table)?, key)
            .map_err(other)
    }

    fn range(
        &self,
        table: Table,
        range: KeyRange<'_>,
        direction: Direction,
        limit: usize,
    ) -> io::Result<Vec<Pair>> {
        let database = self.database();
        let options = bounded(range);
        let family = family(&database.db, table)?;
        let mode = mode(direction);
        let pairs = database.db.iterator_cf_opt(family, options, mode);
        collect(pairs, range, limit)
    }
}

impl Store for RocksStore {
    fn write(&self, batch: &Batch) -> io::Result<()> {
        // Held while writing, so that an install sees every write or comes before it.
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        write(&live.db, batch)
    }

    fn sync(&self) -> io::Result<()> {
        self.database().db.flush_wal(true).map_err(other)
    }

    fn view(&self) -> Arc<dyn Read> {
        Arc::new(RocksView(Frozen::new(self.database(), |database| {
            database.db.snapshot()
        })))
    }

    fn checkpoint(&self, dir: &Path) -> io::Result<()> {
        let database = self.database();
        Checkpoint::new(&database.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(dir))
            .map_err(other)?;
        sync_files(dir)
    }

    fn install(&self, dir: &Path, own: &dyn Fn(&dyn Read) -> io::Result<Batch>) -> io::Result<()> {
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        let number = live
            .folder
            .file_name()
            .and_then(|name| name.to_str()?.strip_prefix(FOLDER)?.parse::<u64>().ok())
            .ok_or_else(|| io::Error::other("the live database has no number"))?;
        let folder = self.data_dir.join(format!("{FOLDER}{}", number + 1));
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        let old = RocksView(Frozen::new(Arc::clone(&live), |database| {
            database.db.snapshot()
        }));
        let own = own(&old)?;
        drop(old);
        fs::rename(dir, &folder)?;
        let database = open(&folder, &self.cache, false, self.open.clone())?;
        write(&database.db, &own)?;
        database.db.flush_wal(true).map_err(other)?;
        sync_files(&folder)?;
        // The commit point of an installation.
        make_live(&self.data_dir, &folder)?;
        live.retired.store(true, Ordering::Release);
        *live = Arc::new(database);
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        folder_bytes(&self.database().folder)
    }
}

/// What [`Store::view`] gives out.
struct RocksView(Frozen);

impl Read for RocksView {
    fn get(&self, table: Table, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.0.with_dependent(|database, snapshot| {
            snapshot
                .get_cf(family(&database.db, table)?, key)
                .map_err(other)
        })
    }

    fn range(
        &self,
        table: Table,
        range: KeyRange<'_>,
        direction: Direction,
        limit: usize,
    ) -> io::Result<Vec<Pair>> {
        self.0.with_dependent(|database, snapshot| {
            let family = family(&database.db, table)?;
            let pairs = snapshot.iterator_cf_opt(family, bounded(range), mode(direction));
            collect(pairs, range, limit)
        })
    }
}

/// Which folder holds the live database.
fn live_name(data_dir: &Path) -> io::Result<String> {
    let name = fs::read_to_string(data_dir.join(LIVE))
        .map_err(|error| context(&error, "cannot read which database is live"))?;
    let name = name.trim();
    if !name.starts_with(FOLDER) || name.contains(['/', '\\']) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{LIVE} does not name a database: {name:?}"),
        ));
    }
    Ok(name.to_owned())
}

fn options(create: bool) -> Options {
    let mut options = Options::default();
    options.create_if_missing(create);
    options.create_missing_column_families(create);
    options.set_error_if_exists(create);
    // A torn last record is the ordinary trace of a crash; damage before it would silently lose acknowledged writes.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_wal_bytes_per_sync(0);
    options.set_bytes_per_sync(1 << 20);
    options.set_max_total_wal_size(MAX_WAL);
    options.set_db_write_buffer_size(WRITE_BUFFERS);
    options.set_max_background_jobs(2);
    options.set_max_open_files(512);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    options.set_log_level(LogLevel::Warn);
    options
}

fn families(cache: &Cache) -> [ColumnFamilyDescriptor; 4] {
    Table::ALL
        .map(|table| ColumnFamilyDescriptor::new(table.family(), family_options(table, cache)))
}

fn open(
    folder: &Path,
    cache: &Cache,
    create: bool,
    held: mpsc::Sender<Infallible>,
) -> io::Result<Database> {
    let db = DB::open_cf_descriptors(&options(create), folder, families(cache))
        .map_err(|error| context(&other(error), "cannot open the database"))?;
    Ok(Database {
        db,
        folder: folder.to_owned(),
        retired: AtomicBool::new(false),
        _open: held,
    })
}

fn family_options(table: Table, cache: &Cache) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_block_size(16 << 10);
    blocks.set_format_version(5);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    if matches!(table, Table::State) {
        // Most request ids that are asked for are new.
        blocks.set_bloom_filter(10.0, false);
    }
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_write_buffer_size(WRITE_BUFFER);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_level_compaction_dynamic_level_bytes(true);
    options
}

fn family(db: &DB, table: Table) -> io::Result<&rocksdb::ColumnFamily> {
    db.cf_handle(table.family())
        .ok_or_else(|| io::Error::other(format!("the table {} is missing", table.family())))
}

fn write(db: &DB, batch: &Batch) -> io::Result<()> {
    let mut changes = WriteBatch::default();
    for change in batch.changes() {
        match change {
            Change::Put(table, key, value) => changes.put_cf(family(db, *table)?, key, value),
            Change::Delete(table, key) => changes.delete_cf(family(db, *table)?, key),
            Change::DeleteRange(table, from, until) => {
                changes.delete_range_cf(family(db, *table)?, from, until);
            }
        }
    }
    let mut options = WriteOptions::default();
    options.set_sync(false);
    db.write_opt(changes, &options).map_err(other)
}

fn bounded((from, until): KeyRange<'_>) -> ReadOptions {
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

const fn mode(direction: Direction) -> IteratorMode<'static> {
    match direction {
        Direction::Ascending => IteratorMode::Start,
        Direction::Descending => IteratorMode::End,
    }
}

type Item = Result<(Box<[u8]>, Box<[u8]>), rocksdb::Error>;

fn collect(
    pairs: impl Iterator<Item = Item>,
    range: KeyRange<'_>,
    limit: usize,
) -> io::Result<Vec<Pair>> {
    if super::is_empty_range(range) {
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

/// Names a folder as the live database, durably.
fn make_live(data_dir: &Path, folder: &Path) -> io::Result<()> {
    let name = folder
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| io::Error::other("a database folder without a name"))?;
    let temporary = data_dir.join("LIVE.new");
    let mut file = File::create(&temporary)?;
    file.write_all(name.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, data_dir.join(LIVE))?;
    sync_dir(data_dir)
}

fn remove_leftovers(data_dir: &Path, live: &str) -> io::Result<()> {
    for item in fs::read_dir(data_dir)? {
        let item = item?;
        let name = item.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.starts_with(FOLDER) && name != live {
            fs::remove_dir_all(item.path())?;
        }
    }
    Ok(())
}

/// Makes the files of a folder durable, and the folder itself.
fn sync_files(dir: &Path) -> io::Result<()> {
    for item in fs::read_dir(dir)? {
        let item = item?;
        if item.file_type()?.is_file() {
            match File::open(item.path()) {
                Ok(file) => file.sync_all()?,
                // An open database removes what it no longer needs.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    sync_dir(dir)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn folder_bytes(dir: &Path) -> u64 {
    let Ok(items) = fs::read_dir(dir) else {
        return 0;
    };
    items
        .filter_map(|item| item.ok()?.metadata().ok())
        .map(|metadata| metadata.len())
        .sum()
}

fn other(error: rocksdb::Error) -> io::Error {
    io::Error::other(error)
}

fn context(error: &io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
