//! The store in memory: the same behaviour as on disk, with faults that a test scripts.
//!
//! It knows two contents: what was written, and what would survive a loss of power. [`MemoryStore::power_cut`] and
//! [`MemoryStore::killed`] give the store that a process would find afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::{Batch, Change, Direction, KeyRange, OwnedRange, Pair, Read, Store, Table};

type Content = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// The one file of a checkpoint.
const CHECKPOINT_FILE: &str = "memory";

/// An operation that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A key is read.
    Get(Table),
    /// A range is read.
    Range(Table),
    /// A batch is written.
    Write,
    /// Writes are made durable.
    Sync,
    /// A copy is made.
    Checkpoint,
    /// A copy becomes the content.
    Install,
}

/// Decides before each operation whether it fails, and sees all of them in their order.
pub type Script = Arc<dyn Fn(Operation) -> io::Result<()> + Send + Sync>;

struct Contents {
    written: Arc<Content>,
    durable: Arc<Content>,
}

/// A store without a disk.
pub struct MemoryStore {
    contents: Mutex<Contents>,
    script: RwLock<Script>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::with(Arc::default())
    }
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MemoryStore")
    }
}

impl MemoryStore {
    /// An empty store without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn with(content: Arc<Content>) -> Self {
        Self {
            contents: Mutex::new(Contents {
                written: Arc::clone(&content),
                durable: content,
            }),
            script: RwLock::new(Arc::new(|_| Ok(()))),
        }
    }

    /// From now on this decides which operations fail.
    pub fn set_script(&self, script: Script) {
        *self.script.write().unwrap_or_else(PoisonError::into_inner) = script;
    }

    /// What a new process finds after this one was killed: all that was written.
    #[must_use]
    pub fn killed(&self) -> Self {
        Self::with(Arc::clone(&self.contents().written))
    }

    /// What is found after a loss of power: all that was synced.
    #[must_use]
    pub fn power_cut(&self) -> Self {
        Self::with(Arc::clone(&self.contents().durable))
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, operation: Operation) -> io::Result<()> {
        let script = Arc::clone(&self.script.read().unwrap_or_else(PoisonError::into_inner));
        script(operation)
    }
}

impl Read for MemoryStore {
    fn get(&self, table: Table, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.ask(Operation::Get(table))?;
        let written = Arc::clone(&self.contents().written);
        get(&written, table, key)
    }

    fn range(
        &self,
        table: Table,
        range: KeyRange<'_>,
        direction: Direction,
        limit: usize,
    ) -> io::Result<Vec<Pair>> {
        self.ask(Operation::Range(table))?;
        let written = Arc::clone(&self.contents().written);
        Ok(read_range(&written, table, range, direction, limit))
    }
}

impl Store for MemoryStore {
    fn write(&self, batch: &Batch) -> io::Result<()> {
        self.ask(Operation::Write)?;
        apply(Arc::make_mut(&mut self.contents().written), batch);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let written = Arc::clone(&self.contents().written);
        self.ask(Operation::Sync)?;
        self.contents().durable = written;
        Ok(())
    }

    fn view(&self) -> Arc<dyn Read> {
        Arc::new(MemoryView(Arc::clone(&self.contents().written)))
    }

    fn checkpoint(&self, dir: &Path) -> io::Result<()> {
        self.ask(Operation::Checkpoint)?;
        let written = Arc::clone(&self.contents().written);
        fs::create_dir(dir)?;
        let mut file = fs::File::create(dir.join(CHECKPOINT_FILE))?;
        for ((table, key), value) in written.iter() {
            file.write_all(&[*table as u8])?;
            for part in [key, value] {
                let len = u32::try_from(part.len()).map_err(io::Error::other)?;
                file.write_all(&len.to_be_bytes())?;
                file.write_all(part)?;
            }
        }
        file.sync_all()
    }

    fn open_copy(&self, dir: &Path) -> io::Result<Box<dyn Read>> {
        Ok(Box::new(MemoryView(Arc::new(read_copy(dir)?))))
    }

    fn install(&self, dir: &Path, own: &dyn Fn(&dyn Read) -> io::Result<Batch>) -> io::Result<()> {
        self.ask(Operation::Install)?;
        let mut content = read_copy(dir)?;
        let mut contents = self.contents();
        let own = own(&MemoryView(Arc::clone(&contents.written)))?;
        apply(&mut content, &own);
        contents.written = Arc::new(content);
        contents.durable = Arc::clone(&contents.written);
        fs::remove_dir_all(dir)
    }

    fn scrub(&self, _: &[OwnedRange]) -> io::Result<bool> {
        // What is deleted here is gone at once.
        Ok(true)
    }

    fn disk_bytes(&self) -> u64 {
        0
    }
}

struct MemoryView(Arc<Content>);

impl Read for MemoryView {
    fn get(&self, table: Table, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        get(&self.0, table, key)
    }

    fn range(
        &self,
        table: Table,
        range: KeyRange<'_>,
        direction: Direction,
        limit: usize,
    ) -> io::Result<Vec<Pair>> {
        Ok(read_range(&self.0, table, range, direction, limit))
    }
}

fn get(content: &Content, table: Table, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
    Ok(content.get(&(table, key.to_vec())).cloned())
}

fn read_range(
    content: &Content,
    table: Table,
    range: KeyRange<'_>,
    direction: Direction,
    limit: usize,
) -> Vec<Pair> {
    if super::is_empty_range(range) {
        return Vec::new();
    }
    let own = |bound: Bound<&[u8]>, open: Bound<(Table, Vec<u8>)>| match bound {
        Bound::Included(key) => Bound::Included((table, key.to_vec())),
        Bound::Excluded(key) => Bound::Excluded((table, key.to_vec())),
        Bound::Unbounded => open,
    };
    let first = Bound::Included((table, Vec::new()));
    let last = Table::ALL
        .into_iter()
        .find(|next| *next > table)
        .map_or(Bound::Unbounded, |next| Bound::Excluded((next, Vec::new())));
    let pairs = content
        .range((own(range.0, first), own(range.1, last)))
        .map(|((_, key), value)| (key.clone(), value.clone()));
    match direction {
        Direction::Ascending => pairs.take(limit).collect(),
        Direction::Descending => pairs.rev().take(limit).collect(),
    }
}

fn apply(content: &mut Content, batch: &Batch) {
    for change in batch.changes() {
        match change {
            Change::Put(table, key, value) => {
                content.insert((*table, key.clone()), value.clone());
            }
            Change::Delete(table, key) => {
                content.remove(&(*table, key.clone()));
            }
            Change::DeleteRange(table, from, until) => {
                let range = (
                    Bound::Included(from.as_slice()),
                    Bound::Excluded(until.as_slice()),
                );
                for (key, _) in read_range(content, *table, range, Direction::Ascending, usize::MAX)
                {
                    content.remove(&(*table, key));
                }
            }
        }
    }
}

fn read_copy(dir: &Path) -> io::Result<Content> {
    parse(&fs::read(dir.join(CHECKPOINT_FILE))?)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a checkpoint"))
}

fn parse(mut bytes: &[u8]) -> Option<Content> {
    let mut content = Content::new();
    while let Some((table, rest)) = bytes.split_first() {
        let table = Table::ALL
            .into_iter()
            .find(|known| *known as u8 == *table)?;
        let (key, rest) = part(rest)?;
        let (value, rest) = part(rest)?;
        content.insert((table, key), value);
        bytes = rest;
    }
    Some(content)
}

fn part(bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
    let (part, rest) = rest.split_at_checked(len)?;
    Some((part.to_vec(), rest))
}
