//! What a snapshot from another node holds is checked before it is installed.

use std::io;
use std::path::Path;
use std::sync::Arc;

use countersign_tests::kit::{World, genesis_message};
use ledger_core::evidence::StateTiles;
use ledger_core::hash::{Hash, LeafIndex, TreeHash, TreeSize};
use ledger_core::machine::{genesis_digest, tip};
use ledger_core::state::{Family, Key};
use ledger_core::tree::proof::Prover;
use ledger_node::cosign::check_copied;
use ledger_node::fsck::family_of;
use ledger_node::raft::incoming::Incoming;
use ledger_node::raft::log::read_meta;
use ledger_node::raft::snapshot::Snapshots;
use ledger_node::storage::marker::{MarkedTree, Marker};
use ledger_node::storage::memory::MemoryStore;
use ledger_node::storage::rocks::RocksStore;
use ledger_node::storage::store_id::StoreId;
use ledger_node::storage::view::StoreState;
use ledger_node::storage::{Batch, Read, Store, Table, meta};
use ledger_proto::peer::v1 as wire;
use prost::Message;

use super::fsck::{pairs, story, with};

/// Sends a copy of a store to a node on an empty disk, as the leader does.
fn send(store: &dyn Store, to: &Path, receiver: Arc<dyn Store>) -> io::Result<()> {
    send_to(&Arc::new(marker(to)), store, to, receiver, |_| ())
}

/// The marker of node 2 of the ledger that the story is told of.
fn marker(dir: &Path) -> Marker {
    let digest = genesis_digest(&genesis_message(TreeHash::Sha256));
    Marker::create(dir, 2, digest, StoreId::from_bytes([2; 16])).expect("a marker")
}

/// The same to a node that has promised something, with another manifest.
fn send_to(
    marker: &Arc<Marker>,
    store: &dyn Store,
    to: &Path,
    receiver: Arc<dyn Store>,
    change: impl FnOnce(&mut wire::SnapshotManifest),
) -> io::Result<()> {
    let (mut manifest, contents) = copy(store, to)?;
    change(&mut manifest);
    let snapshots = Snapshots::open(
        &to.join("snapshots"),
        receiver,
        Arc::clone(marker),
        check_copied,
    )?;
    let incoming = snapshots.receive(&manifest)?;
    write_all(&incoming, &contents)?;
    let received = snapshots.complete(&incoming).map(drop);
    if received.is_err() {
        let again = snapshots.receive(&manifest);
        assert!(again.is_err(), "the same copy is not sent again");
    }
    received
}

/// Writes every file of a copy, as if it had come in one part.
fn write_all(incoming: &Incoming, contents: &[Vec<u8>]) -> io::Result<()> {
    (0..)
        .zip(contents)
        .try_for_each(|(number, content)| incoming.write(number, 0, content))
}

/// A copy of a store, as the leader announces it, and its files.
fn copy(store: &dyn Store, to: &Path) -> io::Result<(wire::SnapshotManifest, Vec<Vec<u8>>)> {
    let folder = to.join("sent");
    store.checkpoint(&folder)?;
    let mut files = Vec::new();
    let mut contents = Vec::new();
    for item in std::fs::read_dir(&folder)? {
        let item = item?;
        let name = item.file_name().into_string().expect("a plain name");
        if name.starts_with("LOG") || name == "LOCK" {
            continue;
        }
        let content = std::fs::read(item.path())?;
        files.push(wire::SnapshotFile {
            name,
            size: content.len() as u64,
            digest: blake3::hash(&content).as_bytes().to_vec(),
        });
        contents.push(content);
    }
    let end = tip(&StoreState(store)).expect("sound");
    let applied: Option<wire::AppliedRecord> = read_meta(store, meta::APPLIED)?;
    let manifest = wire::SnapshotManifest {
        meta: Some(wire::SnapshotMeta {
            last_log_id: applied.expect("something was applied").last_log_id,
            ..wire::SnapshotMeta::default()
        }),
        files,
        tree_size: end.size.0,
        root: end.root.as_bytes().to_vec(),
    };
    Ok((manifest, contents))
}

/// What a node says to a copy of a store.
fn received(store: &MemoryStore) -> io::Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    send(store, folder.path(), Arc::new(MemoryStore::new()))
}

fn told() -> (MemoryStore, World) {
    story(TreeHash::Sha256)
}

/// The store with one bit of a value of this family changed, and the leaf that the key begins with.
fn altered(store: &MemoryStore, family: Family) -> (MemoryStore, u64) {
    let state = pairs(store, Table::State);
    let mut found = state
        .into_iter()
        .filter(|(key, _)| family_of(key) == Some(family));
    let (key, mut value) = found.nth(1).expect("the story has every family");
    let middle = value.len() / 2;
    value[middle] ^= 1;
    let leaf = u64::from_be_bytes(key[1..9].try_into().expect("8 bytes"));
    (with(store, Table::State, &key, Some(value)), leaf)
}

#[test]
fn a_sound_copy_is_taken_by_either_engine() {
    let (store, _) = told();
    received(&store).expect("it is sound");
    let folder = tempfile::tempdir().expect("a folder");
    let on_disk = RocksStore::create(folder.path()).expect("a store");
    let mut batch = Batch::new();
    for table in Table::ALL {
        for (key, value) in pairs(&store, table) {
            batch.put(table, key, value);
        }
    }
    on_disk.write(&batch).expect("writes");
    on_disk.sync().expect("syncs");
    let on_disk = Arc::new(on_disk);
    let as_store: Arc<dyn Store> = Arc::<RocksStore>::clone(&on_disk);
    send(&*on_disk, folder.path(), as_store).expect("it is sound");
}

#[test]
fn a_copy_with_altered_content_or_entries_is_refused_by_the_entrys_name() {
    let (store, _) = told();
    for family in [Family::Compartment, Family::Entry] {
        let (copy, leaf) = altered(&store, family);
        let error = received(&copy).expect_err("it is altered").to_string();
        assert!(error.contains(&format!("entry {leaf} ")), "{error}");
        assert!(error.contains("a snapshot is refused"), "{error}");
    }
}

#[test]
fn content_that_no_entry_commits_to_is_refused() {
    let (store, _) = told();
    let content = pairs(&store, Table::State)
        .into_iter()
        .find(|(key, _)| family_of(key) == Some(Family::Compartment))
        .expect("the story has content");
    let stored = ledger_proto::v1::Compartment::decode(content.1.as_slice()).expect("decodes");
    // The genesis commits to nothing.
    let key = Key::compartment(LeafIndex(0), stored.kind());
    let key = key.as_bytes();
    assert_eq!(store.get(Table::State, key).expect("reads"), None);
    let copy = with(&store, Table::State, key, Some(content.1));
    let error = received(&copy).expect_err("it is altered").to_string();
    assert!(error.contains("entry 0 "), "{error}");
}

#[test]
fn a_copy_that_lacks_content_which_nobody_erased_is_refused() {
    let (store, _) = told();
    let state = pairs(&store, Table::State).into_iter();
    let content = state.filter(|(key, _)| family_of(key) == Some(Family::Compartment));
    let keys: Vec<Vec<u8>> = content.map(|(key, _)| key).collect();
    assert!(keys.len() > 1, "the story has content");
    for key in keys {
        let leaf = u64::from_be_bytes(key[1..9].try_into().expect("8 bytes"));
        let copy = with(&store, Table::State, &key, None);
        let error = received(&copy).expect_err("it lacks something").to_string();
        assert!(
            error.contains(&format!("lacks content of entry {leaf},")),
            "{error}"
        );
    }
}

/// What a node that has cosigned this tree says to the copy.
fn received_after(store: &MemoryStore, size: u64, root: Hash) -> io::Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let marker = marker(folder.path());
    let size = TreeSize(size);
    let cosigned = marker.update(|record| record.cosigned = Some(MarkedTree { size, root }));
    cosigned.expect("is written");
    let receiver = Arc::new(MemoryStore::new());
    send_to(&Arc::new(marker), store, folder.path(), receiver, |_| ())
}

#[test]
fn a_copy_that_does_not_hold_what_this_node_has_cosigned_is_refused() {
    let (store, _) = told();
    let end = tip(&StoreState(&store)).expect("sound");
    let root = |size: u64| {
        let state = StoreState(&store);
        let tiles = StateTiles(&state);
        let mut prover = Prover::new(&tiles, TreeHash::Sha256, TreeSize(size));
        prover.root().expect("sound")
    };
    for size in [1, 2, end.size.0] {
        received_after(&store, size, root(size)).expect("it goes on from there");
        let error = received_after(&store, size, root(1 + size % 2)).map_err(|e| e.to_string());
        let error = error.expect_err("another history");
        let what = format!("the tree of {size} entries that this node has cosigned");
        assert!(error.contains(&what), "{error}");
    }
    let error = received_after(&store, end.size.0 + 1, end.root).expect_err("too short");
    assert!(error.to_string().contains("has cosigned"), "{error}");
}

#[test]
fn a_copy_of_another_ledger_or_of_another_end_is_refused() {
    let (other, _) = story(TreeHash::Blake3);
    let error = received(&other).expect_err("another ledger").to_string();
    assert!(
        error.contains("entry 0 of the snapshot is not the genesis"),
        "{error}"
    );

    let (store, _) = told();
    let folder = tempfile::tempdir().expect("a folder");
    let marker = Arc::new(marker(folder.path()));
    let receiver = Arc::new(MemoryStore::new());
    let later = |manifest: &mut wire::SnapshotManifest| {
        let meta = manifest.meta.as_mut().expect("it has meta");
        meta.last_log_id.as_mut().expect("it has an end").index += 1;
    };
    let sent = send_to(&marker, &store, folder.path(), receiver, later);
    let error = sent.expect_err("another end").to_string();
    assert!(
        error.contains("the log entry that its manifest names"),
        "{error}"
    );
}

#[test]
fn a_copy_with_a_checkpoint_that_its_ledger_does_not_bear_out_is_refused() {
    let (store, world) = told();
    let size = tip(&StoreState(&store)).expect("sound").size.0;
    let note = world.checkpoint(&[1, 2, 3, 4]);
    let other = Hash::from_bytes([2; 32]);
    let of_other_tree = world.checkpoint_of(TreeSize(size), other, &[1, 2, 3, 4]);
    let nobodys = world.checkpoint(&[]);
    let (ahead, step) = (meta::checkpoint_key(1 << 60), meta::trust_step_key(1));
    let newest = meta::checkpoint_key(size);
    let unnumbered = [meta::CHECKPOINT, b"newest"].concat();
    for (key, note, why) in [
        (&newest, "noise", "the cosigned checkpoint of"),
        (&newest, &nobodys, "the cosigned checkpoint of"),
        (&newest, &of_other_tree, "is not of this tree"),
        (
            &ahead,
            &note,
            "the cosigned checkpoint of 1152921504606846976 entries is of",
        ),
        (&unnumbered, &note, "has no number"),
        (&step, "noise", "the step of the trust policy"),
        (&step, &world.checkpoint(&[4]), "under the policy before"),
        (&step, &of_other_tree, "is not of this tree"),
        (&meta::trust_step_key(9), &note, "there is no such change"),
    ] {
        let copy = with(&store, Table::Meta, key, Some(note.as_bytes().to_vec()));
        let error = received(&copy).expect_err(why).to_string();
        assert!(error.contains("a snapshot is refused"), "{error}");
        assert!(error.contains(why), "{why}: {error}");
    }
}

#[test]
fn a_copy_goes_on_where_it_was_interrupted_and_takes_no_other_part() {
    let (store, _) = told();
    let folder = tempfile::tempdir().expect("a folder");
    let (manifest, contents) = copy(&store, folder.path()).expect("a copy");
    let at = folder.path().join("snapshots");
    let marker = Arc::new(marker(folder.path()));
    let open = || {
        let store = Arc::new(MemoryStore::new());
        Snapshots::open(&at, store, Arc::clone(&marker), check_copied).expect("opens")
    };
    let longest = (0..contents.len()).max_by_key(|number| contents[*number].len());
    let longest = longest.expect("there are files");
    let half = contents[longest].len() / 2;
    let number = u32::try_from(longest).expect("few files");
    let (first, second) = contents[longest].split_at(half);

    let incoming = open().receive(&manifest).expect("is taken");
    incoming.write(number, 0, first).expect("is written");
    for offset in [0, half - 1, half + 1] {
        let offset = u64::try_from(offset).expect("small");
        assert!(incoming.write(number, offset, second).is_err(), "{offset}");
    }
    // The receiver is killed, and asked again.
    let snapshots = open();
    let incoming = snapshots.receive(&manifest).expect("is taken");
    let have = incoming.have().expect("reads");
    assert_eq!(have[longest], u64::try_from(half).expect("small"));
    for (number, content) in (0..).zip(&contents) {
        let have = have[number as usize];
        let rest = &content[usize::try_from(have).expect("small")..];
        incoming.write(number, have, rest).expect("is written");
    }
    snapshots.complete(&incoming).expect("it is whole");

    // A part that arrived damaged costs its file, not the others.
    let mut other = manifest;
    other.files[longest].digest = vec![7; 32];
    let snapshots = open();
    let incoming = snapshots.receive(&other).expect("is taken");
    write_all(&incoming, &contents).expect("is written");
    let damaged = snapshots.complete(&incoming).expect_err("it is damaged");
    assert!(
        damaged.to_string().contains("will be sent again"),
        "{damaged}"
    );
    let have = incoming.have().expect("reads");
    for (number, content) in contents.iter().enumerate() {
        let expected = if number == longest { 0 } else { content.len() };
        assert_eq!(have[number], u64::try_from(expected).expect("small"));
    }
}

#[test]
fn a_copy_that_is_damaged_at_rest_is_known_or_dropped() {
    let (store, _) = told();
    let folder = tempfile::tempdir().expect("a folder");
    let (manifest, contents) = copy(&store, folder.path()).expect("a copy");
    let at = folder.path().join("snapshots");
    let marker = Arc::new(marker(folder.path()));
    let open = || {
        let store = Arc::new(MemoryStore::new());
        Snapshots::open(&at, store, Arc::clone(&marker), check_copied).expect("opens")
    };
    let snapshots = open();
    let incoming = snapshots.receive(&manifest).expect("is taken");
    write_all(&incoming, &contents).expect("is written");
    let complete = snapshots.complete(&incoming).expect("it is whole");
    let of = |number: usize| complete.file(number).expect("a file");
    let longest = (0..contents.len()).max_by_key(|number| contents[*number].len());
    let path = of(longest.expect("there are files"));
    complete.check();
    assert!(!complete.is_damaged());
    let mut content = std::fs::read(&path).expect("reads");
    let middle = content.len() / 2;
    content[middle] ^= 1;
    std::fs::write(&path, &content).expect("writes");
    complete.check();
    assert!(complete.is_damaged());

    // Nobody installed it, so that it goes.
    drop(complete);
    // A process that is killed leaves it behind; the next one finds nothing that it can call a snapshot.
    let kept = at.join("snap-00000000000000000009-0000000001");
    std::fs::create_dir(&kept).expect("a folder");
    for damaged in [&b"\xff"[..], b""] {
        let _ = std::fs::create_dir(&kept);
        std::fs::write(kept.join("snapshot.manifest"), damaged).expect("writes");
        if damaged.is_empty() {
            std::fs::remove_file(kept.join("snapshot.manifest")).expect("goes");
        }
        assert!(open().current().is_none());
        assert!(!kept.exists());
    }
}
