//! Getting deleted bytes off the disk. RocksDB deletes by writing that something is deleted; here the files that hold it are
//! written again without it, and the old ones are seen to go.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rocksdb::{BottommostLevelCompaction, CompactOptions, FlushOptions, LiveFile};

use super::database::{Database, family, other};
use crate::storage::{OwnedRange, Table};

/// How long readers have to end, and RocksDB to remove files that it needs no more.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Writes the tables of the ranges again without what is deleted, and the write-ahead log anew. False if something still
/// holds an old file, or if a reader could still see what was deleted, so that it had to be kept.
pub(super) fn scrub(database: &Database, ranges: &[OwnedRange]) -> io::Result<bool> {
    let db = &database.db;
    // A reader of an older moment keeps what it can see in the new files too.
    let deleted = db.latest_sequence_number();
    let no_reader = || -> io::Result<bool> {
        let oldest = db
            .property_int_value("rocksdb.oldest-snapshot-sequence")
            .map_err(other)?;
        Ok(oldest.is_some_and(|oldest| oldest == 0 || oldest >= deleted))
    };
    if !within_reason(no_reader)? {
        return Ok(false);
    }
    let logs = files(&database.folder, "log")?;
    let mut wait = FlushOptions::default();
    wait.set_wait(true);
    // With all tables on disk the log written until now is needed no more. The table Meta has just been written, so that
    // a new log begins.
    for table in Table::ALL {
        db.flush_cf_opt(family(db, table)?, &wait).map_err(other)?;
    }
    let tables = files(&database.folder, "sst")?;
    let mut anew = CompactOptions::default();
    anew.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
    anew.set_exclusive_manual_compaction(false);
    for (table, from, until) in ranges {
        db.compact_range_cf_opt(family(db, *table)?, Some(from), Some(until), &anew);
    }
    let live = db.live_files().map_err(other)?;
    if let Some(old) = not_replaced(&live, &tables, ranges) {
        tracing::warn!(table = %old, "a table that holds what was deleted was not written anew; is the disk full?");
        return Ok(false);
    }
    let live: BTreeSet<String> = live.iter().map(name).collect();
    let replaced: BTreeSet<String> = tables.difference(&live).chain(&logs).cloned().collect();
    within_reason(|| {
        let left = &files(&database.folder, "sst")? | &files(&database.folder, "log")?;
        Ok(left.is_disjoint(&replaced))
    })
}

fn name(file: &LiveFile) -> String {
    file.name.trim_start_matches('/').to_owned()
}

/// One of the old tables that is still in use and may hold keys of the ranges. RocksDB says nothing of a compaction that
/// failed, as for want of room.
fn not_replaced(
    live: &[LiveFile],
    old: &BTreeSet<String>,
    ranges: &[OwnedRange],
) -> Option<String> {
    // As for RocksDB, the end of a range belongs to it.
    let overlaps = |file: &LiveFile, (table, from, until): &OwnedRange| {
        file.column_family_name == table.family()
            && file.start_key.as_ref().is_none_or(|start| start <= until)
            && file.end_key.as_ref().is_none_or(|end| end >= from)
    };
    live.iter()
        .find(|file| old.contains(&name(file)) && ranges.iter().any(|range| overlaps(file, range)))
        .map(name)
}

/// Waits until it holds. False if it does not.
fn within_reason(holds: impl Fn() -> io::Result<bool>) -> io::Result<bool> {
    let until = Instant::now() + PATIENCE;
    loop {
        if holds()? {
            return Ok(true);
        }
        if Instant::now() > until {
            return Ok(false);
        }
        std::thread::sleep(PAUSE);
    }
}

/// The names of the files of a kind.
fn files(folder: &Path, kind: &str) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for item in fs::read_dir(folder)? {
        let path = item?.path();
        if path.extension().is_some_and(|extension| extension == kind)
            && let Some(name) = path.file_name().and_then(|name| name.to_str())
        {
            names.insert(name.to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::rocks::RocksStore;
    use crate::storage::{Batch, Store as _};

    #[test]
    fn a_table_that_was_not_written_anew_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let store = RocksStore::create(dir.path()).unwrap();
        let mut batch = Batch::new();
        batch.put(Table::State, b"k".to_vec(), b"v".to_vec());
        store.write(&batch).unwrap();
        let database = store.database();
        let mut wait = FlushOptions::default();
        wait.set_wait(true);
        let state = family(&database.db, Table::State).unwrap();
        database.db.flush_cf_opt(state, &wait).unwrap();
        let old = files(&database.folder, "sst").unwrap();
        let range = |table, from: &[u8], until: &[u8]| vec![(table, from.to_vec(), until.to_vec())];
        let ours = range(Table::State, b"k", b"k\0");
        let find =
            |ranges: &[OwnedRange]| not_replaced(&database.db.live_files().unwrap(), &old, ranges);
        assert!(old.contains(&find(&ours).unwrap()));
        for others in [
            range(Table::State, b"a", b"b"),
            range(Table::State, b"l", b"m"),
            range(Table::Log, b"k", b"k\0"),
        ] {
            assert_eq!(find(&others), None);
        }
        // As its caller does before.
        let mut mark = Batch::new();
        mark.put(Table::Meta, b"m".to_vec(), b"v".to_vec());
        store.write(&mark).unwrap();
        assert!(scrub(&database, &ours).unwrap());
        assert_eq!(find(&ours), None);
    }
}
