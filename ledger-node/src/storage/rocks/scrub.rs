//! Getting deleted bytes off the disk. RocksDB deletes by writing that something is deleted; here the files that hold it are
//! written again without it, and the old ones are seen to go.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rocksdb::{BottommostLevelCompaction, CompactOptions, FlushOptions};

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
    let failures = || {
        db.property_int_value("rocksdb.background-errors")
            .map_err(other)
    };
    let failed_before = failures()?;
    let mut anew = CompactOptions::default();
    anew.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
    anew.set_exclusive_manual_compaction(false);
    for (table, from, until) in ranges {
        db.compact_range_cf_opt(family(db, *table)?, Some(from), Some(until), &anew);
    }
    // A compaction that failed, as for want of room, says nothing: the old tables are then still in use.
    if failures()? != failed_before {
        tracing::warn!(
            "tables that hold what was deleted were not written anew; is the disk full?"
        );
        return Ok(false);
    }
    let live: BTreeSet<String> = db
        .live_files()
        .map_err(other)?
        .into_iter()
        .map(|file| file.name.trim_start_matches('/').to_owned())
        .collect();
    let replaced: BTreeSet<String> = tables.difference(&live).chain(&logs).cloned().collect();
    within_reason(|| {
        let left = &files(&database.folder, "sst")? | &files(&database.folder, "log")?;
        Ok(left.is_disjoint(&replaced))
    })
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
    fn a_range_is_written_anew_as_often_as_somebody_asks() {
        let dir = tempfile::tempdir().unwrap();
        let store = RocksStore::create(dir.path()).unwrap();
        let mut batch = Batch::new();
        for key in [b"a", b"k", b"z"] {
            batch.put(Table::State, key.to_vec(), b"v".to_vec());
        }
        store.write(&batch).unwrap();
        let mut deletion = Batch::new();
        deletion.delete(Table::State, b"k".to_vec());
        store.write(&deletion).unwrap();
        let database = store.database();
        let range = vec![(Table::State, b"k".to_vec(), b"k\0".to_vec())];
        // The second time no key is in the range, and a table spans it all the same.
        for number in 0..2_u8 {
            // As its caller does before.
            let mut mark = Batch::new();
            mark.put(Table::Meta, b"m".to_vec(), vec![number]);
            store.write(&mark).unwrap();
            assert!(scrub(&database, &range).unwrap(), "{number}");
        }
    }
}
