//! Both engines against each other: whatever is done to them, they hold and show the same.

use std::ops::Bound;
use std::sync::Arc;

use proptest::prelude::*;

use super::memory::{MemoryStore, Operation};
use super::rocks::{Memory, RocksStore, Unusable};
use super::*;

#[derive(Debug, Clone)]
enum Step {
    Write(Vec<Change>),
    Range(Table, Bound<Vec<u8>>, Bound<Vec<u8>>, bool, usize),
    Reopen,
    Install,
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(vec![0_u8, 1, 255]), 0..3)
}

fn table() -> impl Strategy<Value = Table> {
    prop::sample::select(Table::ALL.to_vec())
}

fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    prop_oneof![
        key().prop_map(Bound::Included),
        key().prop_map(Bound::Excluded),
        Just(Bound::Unbounded)
    ]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (table(), key(), key()).prop_map(|(t, k, v)| Change::Put(t, k, v)),
        1 => (table(), key()).prop_map(|(t, k)| Change::Delete(t, k)),
        1 => (table(), key(), key()).prop_map(|(t, a, b)| Change::DeleteRange(t, a.clone().min(b.clone()), a.max(b))),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(change(), 1..8).prop_map(Step::Write),
        6 => (table(), bound(), bound(), any::<bool>(), 0..5_usize).prop_map(|(t, a, b, d, n)| Step::Range(t, a, b, d, n)),
        1 => Just(Step::Reopen),
        1 => Just(Step::Install),
    ]
}

fn batch(changes: &[Change]) -> Batch {
    Batch {
        changes: changes.to_vec(),
    }
}

fn all(read: &dyn Read) -> Vec<(Table, Vec<Pair>)> {
    let everything = (Bound::Unbounded, Bound::Unbounded);
    Table::ALL
        .into_iter()
        .map(|table| {
            let pairs = read.range(table, everything, Direction::Ascending, usize::MAX);
            (table, pairs.unwrap())
        })
        .collect()
}

fn borrowed(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}

fn keep_one(_: &dyn Read) -> io::Result<Batch> {
    let mut own = Batch::new();
    own.delete_range(Table::Meta, [], [255, 255, 255]);
    own.put(Table::Meta, b"own", b"kept");
    Ok(own)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn engines_agree(steps in prop::collection::vec(step(), 1..30)) {
        let dir = tempfile::tempdir().unwrap();
        let mut rocks = RocksStore::create(dir.path()).unwrap();
        let mut memory = MemoryStore::new();
        for (number, step) in steps.iter().enumerate() {
            match step {
                Step::Write(changes) => {
                    let frozen: [Arc<dyn Read>; 2] = [rocks.view(), memory.view()];
                    let before = all(&memory);
                    rocks.write(&batch(changes)).unwrap();
                    memory.write(&batch(changes)).unwrap();
                    for view in frozen {
                        prop_assert_eq!(all(&*view), before.clone());
                    }
                }
                Step::Range(table, from, until, descending, limit) => {
                    let direction = if *descending { Direction::Descending } else { Direction::Ascending };
                    let range = (borrowed(from), borrowed(until));
                    let one = rocks.range(*table, range, direction, *limit).unwrap();
                    let other = memory.range(*table, range, direction, *limit).unwrap();
                    prop_assert_eq!(one, other);
                }
                Step::Reopen => {
                    drop(rocks);
                    rocks = RocksStore::open(dir.path(), Memory::default()).unwrap().0;
                    memory = memory.killed();
                }
                Step::Install => {
                    for (store, name) in [(&rocks as &dyn Store, "r"), (&memory as &dyn Store, "m")] {
                        let copy = dir.path().join(format!("copy-{name}-{number}"));
                        store.checkpoint(&copy).unwrap();
                        store.install(&copy, &keep_one).unwrap();
                        prop_assert!(!copy.exists());
                    }
                }
            }
            prop_assert_eq!(all(&rocks), all(&memory));
        }
    }
}

#[test]
fn a_power_cut_keeps_what_was_synced() {
    let store = MemoryStore::new();
    let mut one = Batch::new();
    one.put(Table::Log, b"1", b"a");
    store.write(&one).unwrap();
    store.sync().unwrap();
    let mut two = Batch::new();
    two.put(Table::Log, b"2", b"b");
    store.write(&two).unwrap();
    assert_eq!(
        store.power_cut().get(Table::Log, b"1").unwrap(),
        Some(b"a".to_vec())
    );
    assert_eq!(store.power_cut().get(Table::Log, b"2").unwrap(), None);
    assert_eq!(
        store.killed().get(Table::Log, b"2").unwrap(),
        Some(b"b".to_vec())
    );
}

#[test]
fn a_scripted_fault_changes_nothing() {
    let store = MemoryStore::new();
    store.set_script(Arc::new(|operation| {
        if operation == Operation::Write {
            Err(io::Error::other("scripted"))
        } else {
            Ok(())
        }
    }));
    let mut one = Batch::new();
    one.put(Table::Log, b"1", b"a");
    assert!(store.write(&one).is_err());
    assert_eq!(store.get(Table::Log, b"1").unwrap(), None);
}

#[test]
fn a_view_outlives_an_installation() {
    let dir = tempfile::tempdir().unwrap();
    let store = RocksStore::create(dir.path()).unwrap();
    let mut one = Batch::new();
    one.put(Table::State, b"k", b"old");
    store.write(&one).unwrap();
    let view = store.view();
    let copy = dir.path().join("copy");
    store.checkpoint(&copy).unwrap();
    let mut two = Batch::new();
    two.put(Table::State, b"k", b"new");
    store.write(&two).unwrap();
    store.install(&copy, &|_| Ok(Batch::new())).unwrap();
    assert_eq!(view.get(Table::State, b"k").unwrap(), Some(b"old".to_vec()));
    assert_eq!(
        store.get(Table::State, b"k").unwrap(),
        Some(b"old".to_vec())
    );
    drop(view);
    drop(store);
    let (again, _) = RocksStore::open(dir.path(), Memory::default()).unwrap();
    assert_eq!(
        again.get(Table::State, b"k").unwrap(),
        Some(b"old".to_vec())
    );
    let folders = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(folders, 2, "one database and the file that names it");
}

/// A store of 200 log entries as a process leaves it that is killed: the folder, and its write-ahead log.
fn killed_after_200() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let store = RocksStore::create(dir.path()).unwrap();
    for number in 0..200_u32 {
        let mut one = Batch::new();
        one.put(Table::Log, number.to_be_bytes(), [7; 200]);
        store.write(&one).unwrap();
    }
    store.sync().unwrap();
    // A process that is killed does not flush.
    copy_dir(dir.path(), copy.path());
    let log = std::fs::read_dir(copy.path().join("db-1"))
        .unwrap()
        .map(|item| item.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "log"))
        .max_by_key(|path| path.metadata().unwrap().len())
        .unwrap();
    (copy, log)
}

fn has(store: &dyn Read, number: u32) -> bool {
    let found = store.get(Table::Log, &number.to_be_bytes());
    found.unwrap().is_some()
}

#[test]
fn a_torn_end_is_cut_off() {
    let (dir, log) = killed_after_200();
    let whole = std::fs::read(&log).unwrap();
    std::fs::write(&log, &whole[..whole.len() - 100]).unwrap();
    let (store, _) = RocksStore::open(dir.path(), Memory::default()).unwrap();
    assert!(has(&store, 198));
    assert!(!has(&store, 199));
}

#[test]
fn what_is_before_a_hole_is_used_only_if_that_is_enough() {
    let (dir, log) = killed_after_200();
    let mut holed = std::fs::read(&log).unwrap();
    let middle = holed.len() / 2;
    holed[middle] ^= 0xff;
    std::fs::write(&log, &holed).unwrap();
    let open = || RocksStore::open(dir.path(), Memory::default());
    let until_damage = |needed: u32| {
        RocksStore::open_until_damage(dir.path(), Memory::default(), &|store: &dyn Read| {
            if has(store, needed) {
                Ok(())
            } else {
                Err(needed)
            }
        })
    };
    let error = open().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");

    let refused = until_damage(199).unwrap_err();
    assert!(matches!(refused, Unusable::NotCovered(199)), "{refused:?}");
    assert_eq!(std::fs::read(&log).unwrap(), holed, "nothing has changed");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    assert!(open().is_err(), "and it is still refused");

    let (store, closed) = until_damage(50).unwrap();
    assert!(has(&store, 50) && !has(&store, 199));
    drop(store);
    assert!(closed.wait(std::time::Duration::from_secs(10)));
    assert!(!log.exists(), "the damaged one is gone");
    let (store, _) = open().unwrap();
    assert!(has(&store, 50) && !has(&store, 199));
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for item in std::fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy_dir(&item.path(), &target);
        } else {
            std::fs::copy(item.path(), target).unwrap();
        }
    }
}
