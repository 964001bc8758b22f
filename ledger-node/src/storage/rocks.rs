//! The store on disk: RocksDB, one column family per table, one write-ahead log.
//!
//! A torn end of the write-ahead log is the ordinary trace of a crash and is cut off. Any other damage is refused: what was
//! acknowledged would disappear in silence. [`RocksStore::open_until_damage`] takes what is before the damage, on a copy, for
//! a caller who can tell whether that is enough.

mod database;
mod scrub;

use std::convert::Infallible;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock, mpsc};
use std::time::Duration;

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{DB, DBRecoveryMode, SnapshotWithThreadMode};
use self_cell::self_cell;

pub use database::Memory;
use database::{Database, Opening, bounded, collect, family, mode, open, other, read_only};

use super::{Batch, Direction, KeyRange, OwnedRange, Pair, Read, Store, Table, folders};

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
    opening: Opening,
}

/// A damaged store that cannot be used up to its damage either.
#[derive(Debug)]
pub enum Unusable<E> {
    /// What is before the damage is not enough.
    NotCovered(E),
    /// What is before the damage cannot be read, or cannot be made live.
    Unreadable(io::Error),
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
        if folders::has_live(data_dir) {
            let what = format!("{} holds a store already", data_dir.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
        }
        let folder = folders::first(data_dir);
        let opening = Opening::new(Memory::default(), mpsc::channel().0);
        let database = open(&folder, &opening, true)?;
        database.db.flush_wal(true).map_err(other)?;
        folders::sync_dir(&folder)?;
        folders::make_live(data_dir, &folder)?;
        Ok(Self::with(data_dir, database, opening))
    }

    /// Opens the store of a directory. A torn end of the write-ahead log is cut off; any other damage is an error. The second
    /// value tells when the store, and all views of it, are gone.
    ///
    /// # Errors
    /// There is no store, it is open elsewhere, or the disk fails; with [`io::ErrorKind::InvalidData`], it is damaged.
    pub fn open(data_dir: &Path, memory: Memory) -> io::Result<(Self, Closed)> {
        let folder = folders::live(data_dir)?;
        let (held, closed) = mpsc::channel();
        let opening = Opening::new(memory, held);
        let database = open(&folder, &opening, false)?;
        folders::remove_leftovers(data_dir, &folder)?;
        Ok((Self::with(data_dir, database, opening), Closed(closed)))
    }

    /// Opens a damaged store as it was before the first damage of its write-ahead log. That happens on a copy, which becomes
    /// live only if `covers` finds that nothing is missing in it that others rely on. If not, nothing has changed.
    ///
    /// # Errors
    /// [`Unusable`]
    pub fn open_until_damage<E>(
        data_dir: &Path,
        memory: Memory,
        covers: &dyn Fn(&dyn Read) -> Result<(), E>,
    ) -> Result<(Self, Closed), Unusable<E>> {
        let damaged = folders::live(data_dir).map_err(Unusable::Unreadable)?;
        let copy = folders::next(&damaged).map_err(Unusable::Unreadable)?;
        let opened = Self::open_copy(data_dir, memory, &damaged, &copy, covers);
        // An error that came after the copy had become live leaves it alone: there may be no other any more.
        if opened.is_err() && folders::live(data_dir).is_ok_and(|live| live == damaged) {
            // What stays behind is removed at the next start.
            let _ = fs::remove_dir_all(&copy);
        }
        opened
    }

    fn open_copy<E>(
        data_dir: &Path,
        memory: Memory,
        damaged: &Path,
        copy: &Path,
        covers: &dyn Fn(&dyn Read) -> Result<(), E>,
    ) -> Result<(Self, Closed), Unusable<E>> {
        folders::copy_linked(damaged, copy, None).map_err(Unusable::Unreadable)?;
        let (held, closed) = mpsc::channel();
        let mut opening = Opening::new(memory, held);
        opening.recovery = DBRecoveryMode::PointInTime;
        let database = open(copy, &opening, false).map_err(Unusable::Unreadable)?;
        opening.recovery = DBRecoveryMode::TolerateCorruptedTailRecords;
        let store = Self::with(data_dir, database, opening);
        covers(&store).map_err(Unusable::NotCovered)?;
        folders::sync_files(copy)
            // The commit point: from here on the damaged one is a leftover.
            .and_then(|()| folders::make_live(data_dir, copy))
            .and_then(|()| folders::remove_leftovers(data_dir, copy))
            .map_err(Unusable::Unreadable)?;
        Ok((store, Closed(closed)))
    }

    /// Opens the store of a directory for reading: no file is changed, and writes fail. Nobody else may write to it meanwhile.
    ///
    /// # Errors
    /// There is no store, or it is damaged.
    pub fn open_read_only(data_dir: &Path) -> io::Result<Self> {
        let folder = folders::live(data_dir)?;
        let opening = Opening::new(Memory::default(), mpsc::channel().0);
        let database = read_only(&folder, &opening)?;
        Ok(Self::with(data_dir, database, opening))
    }

    fn with(data_dir: &Path, database: Database, opening: Opening) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            live: RwLock::new(Arc::new(database)),
            opening,
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
        live.write(batch)
    }

    fn sync(&self) -> io::Result<()> {
        self.database().sync()
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
        folders::sync_files(dir)
    }

    fn open_copy(&self, dir: &Path) -> io::Result<Box<dyn Read>> {
        let database = Arc::new(read_only(dir, &self.opening)?);
        Ok(Box::new(RocksView(Frozen::new(database, |database| {
            database.db.snapshot()
        }))))
    }

    fn install(&self, dir: &Path, own: &dyn Fn(&dyn Read) -> io::Result<Batch>) -> io::Result<()> {
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        let folder = folders::next(&live.folder)?;
        let old = RocksView(Frozen::new(Arc::clone(&live), |database| {
            database.db.snapshot()
        }));
        let own = own(&old)?;
        drop(old);
        fs::rename(dir, &folder)?;
        let database = open(&folder, &self.opening, false)?;
        database.write(&own)?;
        database.sync()?;
        folders::sync_files(&folder)?;
        // The commit point of an installation.
        folders::make_live(&self.data_dir, &folder)?;
        live.retired.store(true, Ordering::Release);
        *live = Arc::new(database);
        Ok(())
    }

    fn scrub(&self, ranges: &[OwnedRange]) -> io::Result<bool> {
        let database = self.database();
        Ok(
            scrub::scrub(&database, ranges)?
                && folders::is_alone(&self.data_dir, &database.folder)?,
        )
    }

    fn disk_bytes(&self) -> u64 {
        folders::bytes(&self.database().folder)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_it_was_told() {
        let dir = tempfile::tempdir().unwrap();
        drop(RocksStore::create(dir.path()).unwrap());
        let memory = Memory {
            block_cache: 3 << 20,
            write_buffers: 2 << 20,
        };
        let (store, _closed) = RocksStore::open(dir.path(), memory).unwrap();
        let database = store.database();
        let number = |table: Table, name: &str| {
            let family = family(&database.db, table).unwrap();
            let value = database.db.property_int_value_cf(family, name);
            value.unwrap().unwrap()
        };
        for table in Table::ALL {
            let capacity = number(table, "rocksdb.block-cache-capacity");
            assert_eq!(capacity, 3 << 20, "{table:?}");
        }
        let mut options = String::new();
        for item in fs::read_dir(dir.path().join("db-1")).unwrap() {
            let path = item.unwrap().path();
            if path.to_str().unwrap().contains("OPTIONS-") {
                options.push_str(&fs::read_to_string(path).unwrap());
            }
        }
        assert!(
            options.contains("db_write_buffer_size=2097152"),
            "{options}"
        );
        assert!(options.contains(" write_buffer_size=1048576"), "{options}");
        // No block is larger than a shard of the cache.
        assert!(options.contains("partition_filters=true"), "{options}");
        assert!(
            options.contains("index_type=kTwoLevelIndexSearch"),
            "{options}"
        );
    }
}
