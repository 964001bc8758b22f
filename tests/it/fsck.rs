//! `fsck`: a sound store passes, and whatever is damaged in it is found and named.

use std::ops::Bound;

use countersign_tests::kit::{World, genesis_message, tell_story};
use ledger_core::hash::{Hash, TreeHash, TreeSize};
use ledger_core::machine::{Applied, Machine, SignatureChecks, genesis_digest, tip};
use ledger_core::state::{Family, Key, Txn};
use ledger_node::cli::init::create_state;
use ledger_node::fsck::{self, Finding, Place, Report, family_of};
use ledger_node::index;
use ledger_node::storage::marker::{MarkedLogId, MarkedTree, MarkedVote, MarkerRecord};
use ledger_node::storage::memory::{MemoryStore, Operation};
use ledger_node::storage::store_id::StoreId;
use ledger_node::storage::view::StoreState;
use ledger_node::storage::{Batch, Direction, Pair, Read, Store, Table, meta};
use ledger_proto::peer::v1 as wire;
use ledger_proto::v1;
use prost::Message;

/// The id of the store in which the story is told.
const STORE: StoreId = StoreId::from_bytes([1; 16]);

/// A store in which a node applied the whole story, each command in a batch of its own.
pub(crate) fn story(tree_hash: TreeHash) -> (MemoryStore, World) {
    let world = tell_story(tree_hash).world;
    let store = MemoryStore::new();
    create_state(&store, &genesis_message(tree_hash), 1, STORE, false).expect("a new store");
    let blank = wire::log_entry::Payload::Blank(true);
    write_log(&store, 0, blank);
    let machine = Machine::new();
    for (index, (time_us, submission)) in (1..).zip(&world.log) {
        let before = tip(&StoreState(&store)).expect("sound");
        let batch = v1::Batch {
            time_us: *time_us,
            prior_size: before.size.0,
            prior_root: before.root.as_bytes().to_vec(),
            submissions: vec![submission.clone()],
        };
        let batch = batch.encode_to_vec().into();
        write_log(&store, index, wire::log_entry::Payload::Batch(batch));
        apply(&store, &machine, *time_us, submission);
    }
    let last = log_id(u64::try_from(world.log.len()).expect("few commands"));
    let mut batch = Batch::new();
    let vote = wire::Vote {
        term: 1,
        node_id: 1,
        committed: true,
    };
    batch.put(Table::Meta, meta::VOTE, vote.encode_to_vec());
    batch.put(Table::Meta, meta::COMMITTED, last.encode_to_vec());
    let applied = wire::AppliedRecord {
        last_log_id: Some(last),
        ..wire::AppliedRecord::default()
    };
    batch.put(Table::Meta, meta::APPLIED, applied.encode_to_vec());
    let end = tip(&StoreState(&store)).expect("sound");
    assert_eq!(end.root, world.root());
    let note = world.checkpoint(&[1, 2, 3, 4]);
    batch.put(Table::Meta, meta::checkpoint_key(end.size.0), note.clone());
    batch.put(Table::Meta, meta::trust_step_key(1), note);
    store.write(&batch).expect("writes");
    (store, world)
}

const fn log_id(index: u64) -> wire::LogId {
    wire::LogId { term: 1, index }
}

fn write_log(store: &MemoryStore, index: u64, payload: wire::log_entry::Payload) {
    let entry = wire::LogEntry {
        log_id: Some(log_id(index)),
        payload: Some(payload),
    };
    let mut batch = Batch::new();
    batch.put(Table::Log, meta::log_key(index), entry.encode_to_vec());
    store.write(&batch).expect("writes");
}

fn apply(store: &MemoryStore, machine: &Machine, time_us: u64, submission: &v1::Submission) {
    let state = StoreState(store);
    let mut txn = Txn::new(&state);
    let applied = machine
        .apply(&mut txn, time_us, submission, &SignatureChecks::default())
        .expect("sound state");
    let mut batch = Batch::new();
    if let Applied::Appended(appended) = applied {
        index::changes(&txn, &appended.entry, &mut batch).expect("sound state");
    }
    for (key, value) in txn.into_writes() {
        match value {
            Some(value) => batch.put(Table::State, key, value),
            None => batch.delete(Table::State, key),
        }
    }
    store.write(&batch).expect("writes");
}

/// What a node has promised that has this store.
fn marker(store: &MemoryStore, world: &World) -> MarkerRecord {
    let end = tip(&StoreState(store)).expect("sound");
    MarkerRecord {
        node_id: 1,
        genesis_digest: genesis_digest(&genesis_message(TreeHash::Sha256)),
        store_id: STORE,
        instance: None,
        vote: Some(MarkedVote {
            term: 1,
            node: 1,
            committed: true,
        }),
        committed: Some(MarkedLogId {
            term: 1,
            index: u64::try_from(world.log.len()).expect("few commands"),
        }),
        cosigned: Some(MarkedTree {
            size: end.size,
            root: end.root,
        }),
    }
}

fn run(store: &MemoryStore) -> Report {
    fsck::run(store, None, &mut |_, _| {})
}

pub(crate) fn pairs(store: &MemoryStore, table: Table) -> Vec<Pair> {
    let all = (Bound::Unbounded, Bound::Unbounded);
    store
        .range(table, all, Direction::Ascending, usize::MAX)
        .expect("reads")
}

pub(crate) fn with(
    store: &MemoryStore,
    table: Table,
    key: &[u8],
    value: Option<Vec<u8>>,
) -> MemoryStore {
    let copy = store.killed();
    let mut batch = Batch::new();
    match value {
        Some(value) => batch.put(table, key, value),
        None => batch.delete(table, key),
    }
    copy.write(&batch).expect("writes");
    copy
}

fn named(findings: &[Finding], table: Table, key: &[u8]) -> bool {
    let place = Place::Key(table, key.to_vec());
    findings.iter().any(|finding| finding.place == place)
}

#[test]
fn a_sound_store_of_either_tree_hash_is_clean() {
    for tree_hash in [TreeHash::Sha256, TreeHash::Blake3] {
        let (store, world) = story(tree_hash);
        let report = run(&store);
        assert_eq!(report.findings, Vec::new());
        let size = TreeSize(u64::try_from(world.log.len()).expect("few commands") + 1);
        assert_eq!(report.tree, Some((size, world.root())));
        assert_eq!(report.state_digest, Some(world.digest()));
        for (table, keys) in report.keys {
            let there = u64::try_from(pairs(&store, table).len()).expect("few keys");
            assert_eq!(keys, there, "{table:?}");
        }
    }
}

#[test]
fn every_family_is_in_the_store_that_is_damaged_here() {
    let (store, _) = story(TreeHash::Sha256);
    let state = pairs(&store, Table::State);
    for family in Family::ALL {
        let there = state.iter().any(|(key, _)| family_of(key) == Some(family));
        assert!(there, "{family:?}");
    }
}

/// Keys without which a store is as sound as with them.
fn is_optional(table: Table, key: &[u8]) -> bool {
    let notes = [meta::CHECKPOINT, meta::TRUST_STEP];
    let optional = [meta::VOTE, meta::COMMITTED, meta::PURGED];
    match table {
        Table::Meta => optional.contains(&key) || notes.iter().any(|note| key.starts_with(note)),
        Table::Log | Table::State | Table::Index => false,
    }
}

#[test]
fn every_key_that_is_lost_is_named() {
    let (store, _) = story(TreeHash::Sha256);
    let mut unnoticed = Vec::new();
    for table in Table::ALL {
        for (key, _) in pairs(&store, table) {
            let report = run(&with(&store, table, &key, None));
            if !is_optional(table, &key) && !named(&report.findings, table, &key) {
                unnoticed.push((table, hex::encode(&key), report.findings));
            }
        }
    }
    assert!(unnoticed.is_empty(), "{unnoticed:#?}");
}

#[test]
fn every_value_that_begins_with_another_byte_is_named() {
    let (store, _) = story(TreeHash::Sha256);
    let mut unnoticed = Vec::new();
    for table in Table::ALL {
        for (key, mut value) in pairs(&store, table) {
            match value.first_mut() {
                Some(first) => *first ^= 0x81,
                None => value.push(0),
            }
            let report = run(&with(&store, table, &key, Some(value)));
            // Which node this is, with which store, says only the marker.
            let is_own = [meta::NODE, meta::STORE].contains(&key.as_slice());
            let is_bound = table != Table::Meta || !is_own;
            if is_bound && !named(&report.findings, table, &key) {
                unnoticed.push((table, hex::encode(&key), report.findings));
            }
        }
    }
    assert!(unnoticed.is_empty(), "{unnoticed:#?}");
}

#[test]
fn where_every_byte_is_bound_every_byte_counts() {
    let (store, _) = story(TreeHash::Sha256);
    let bound = [
        Family::Head,
        Family::Request,
        Family::Entry,
        Family::TileHash,
        Family::Compartment,
        Family::Trust,
        Family::Attestation,
    ];
    let mut unnoticed = Vec::new();
    for family in bound {
        let last = pairs(&store, Table::State)
            .into_iter()
            .rfind(|(key, _)| family_of(key) == Some(family));
        let (key, value) = last.expect("the story has every family");
        // Every seventh byte keeps the test short and meets every field of these records.
        for position in (0..value.len()).step_by(7) {
            let mut value = value.clone();
            value[position] ^= 1;
            let report = run(&with(&store, Table::State, &key, Some(value)));
            if report.findings.is_empty() {
                unnoticed.push((family, position));
            }
        }
    }
    assert!(unnoticed.is_empty(), "{unnoticed:#?}");
}

#[test]
fn keys_that_nobody_writes_are_named() {
    let (store, _) = story(TreeHash::Sha256);
    let entries = pairs(&store, Table::State);
    let size = entries
        .iter()
        .filter(|(key, _)| family_of(key) == Some(Family::Entry))
        .count();
    let beyond = u64::try_from(size).expect("few entries");
    let leaf = ledger_core::hash::LeafIndex(beyond);
    let request = entries
        .iter()
        .find(|(key, _)| family_of(key) == Some(Family::Request));
    let (mut request, record) = request.expect("the story has requests").clone();
    *request.last_mut().expect("a key") ^= 1;
    let listed = pairs(&store, Table::Index).remove(0);
    let mut unlisted = listed.0;
    *unlisted.last_mut().expect("a key") ^= 0x40;
    for (table, key, value) in [
        (Table::State, Key::entry(leaf).into_bytes(), vec![1]),
        (
            Table::State,
            Key::tile_hash(0, beyond).into_bytes(),
            vec![7; 32],
        ),
        (Table::State, Key::tile_hash(1, 0).into_bytes(), vec![7; 32]),
        (Table::State, request, record),
        (Table::State, vec![0x7f, 1], Vec::new()),
        (Table::Index, unlisted, listed.1),
        (Table::Index, vec![0xff], Vec::new()),
        (Table::Meta, b"another".to_vec(), Vec::new()),
        (Table::Log, vec![0xff; 8], Vec::new()),
        (Table::Log, vec![0], Vec::new()),
    ] {
        let report = run(&with(&store, table, &key, Some(value)));
        // A log entry far beyond the end says that those between are missing.
        let gap = key == vec![0xff; 8] && !report.findings.is_empty();
        assert!(
            gap || named(&report.findings, table, &key),
            "{table:?} {key:?}: {report:#?}"
        );
    }
}

#[test]
fn what_was_erased_and_came_back_is_named() {
    let (store, world) = story(TreeHash::Sha256);
    let erased = world.log.iter().find_map(|(_, submission)| {
        let signed = submission.signed.as_ref()?;
        let command = v1::Command::decode(signed.command.as_slice()).ok()?;
        match command.body {
            Some(v1::command::Body::Erase(erase)) => erase.compartments.into_iter().next(),
            _ => None,
        }
    });
    let erased = erased.expect("the story erases");
    let key = Key::compartment(ledger_core::hash::LeafIndex(erased.index), erased.kind());
    let back = with(&store, Table::State, key.as_bytes(), Some(Vec::new()));
    assert!(named(&run(&back).findings, Table::State, key.as_bytes()));
}

#[test]
fn a_store_older_than_its_marker_is_found() {
    let (store, world) = story(TreeHash::Sha256);
    let sound = marker(&store, &world);
    let with_marker = |marker: &MarkerRecord| {
        let report = fsck::run(&store, Some(marker), &mut |_, _| {});
        report.findings
    };
    assert_eq!(with_marker(&sound), Vec::new());
    let tree = sound.cosigned.expect("set above");
    let wrong = [
        MarkerRecord {
            node_id: 2,
            ..sound
        },
        MarkerRecord {
            genesis_digest: Hash::from_bytes([7; 32]),
            ..sound
        },
        MarkerRecord {
            store_id: StoreId::from_bytes([2; 16]),
            ..sound
        },
        MarkerRecord {
            vote: Some(MarkedVote {
                term: 2,
                node: 1,
                committed: false,
            }),
            ..sound
        },
        MarkerRecord {
            committed: Some(MarkedLogId {
                term: 1,
                index: 10_000,
            }),
            ..sound
        },
        MarkerRecord {
            cosigned: Some(MarkedTree {
                size: TreeSize(10_000),
                ..tree
            }),
            ..sound
        },
        MarkerRecord {
            cosigned: Some(MarkedTree {
                root: Hash::from_bytes([7; 32]),
                ..tree
            }),
            ..sound
        },
    ];
    for marker in wrong {
        let findings = with_marker(&marker);
        assert!(
            findings
                .iter()
                .any(|finding| finding.place == Place::Marker),
            "{marker:?}"
        );
    }
}

#[test]
fn what_cannot_be_read_is_a_finding() {
    let (store, _) = story(TreeHash::Sha256);
    for table in Table::ALL {
        let unreadable = store.killed();
        unreadable.set_script(std::sync::Arc::new(move |operation| {
            if operation == Operation::Range(table) {
                Err(std::io::Error::other("a bad block"))
            } else {
                Ok(())
            }
        }));
        let findings = run(&unreadable).findings;
        let found = findings
            .iter()
            .any(|finding| finding.what.contains("a bad block"));
        assert!(found, "{table:?}: {findings:?}");
    }
}
