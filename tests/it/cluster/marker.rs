//! A disk that went back in time is found out; a write that was cut off is not taken for it.

use std::path::Path;

use countersign_tests::cluster::load::Load;
use countersign_tests::cluster::wait::until;
use countersign_tests::cluster::{Cluster, Options, RECOVERY, SOON};
use ledger_core::hash::TreeSize;
use ledger_node::storage::marker::Marker;

/// The exit code that tells service managers not to start a node again.
pub(super) const EXIT_DATA: i32 = 65;

/// Copies a folder with all that is in it.
pub(super) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_store_under_the_newest_marker_does_not_start() {
    let (mut cluster, actors) = Cluster::with_actors(Options::default(), 4).await;
    let node = cluster.follower().await;
    let size = cluster.converge().await;
    cluster.stop(node).await;
    let data = cluster.file(node).data();
    let old = cluster.folder().join("old");
    copy(&data, &old);
    // As with a marker on another volume, and only then: a copy of the whole folder brings its own marker along, see `rollback.rs`.
    let newest = cluster.folder().join("newest");
    cluster.restart(node);
    cluster.is_whole().await;
    let load = Load::start(&cluster, &actors);
    until("the node promises more", RECOVERY, async || {
        let promised = Marker::peek(&data).ok()?.cosigned?.size;
        (promised > TreeSize(size)).then_some(())
    })
    .await;
    cluster.kill(node);
    load.finish().await;
    std::fs::rename(&data, &newest).expect("moves");
    copy(&old, &data);
    std::fs::copy(newest.join("marker"), data.join("marker")).expect("a copy");

    cluster.restart(node);
    let status = cluster.process(node).must_end(SOON).await;
    assert_eq!(status.code(), Some(EXIT_DATA), "{status}");
    let log = std::fs::read_to_string(cluster.file(node).log()).expect("a log");
    let last = log.lines().last().unwrap_or_default();
    assert!(last.contains("new node id"), "says how to go on: {last}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_tail_after_a_kill_starts() {
    let (mut cluster, actors) = Cluster::with_actors(Options::default(), 4).await;
    let load = Load::start(&cluster, &actors);
    load.flows(200, RECOVERY).await;
    let node = cluster.follower().await;
    cluster.kill(node);
    let wal = newest_wal(&cluster.file(node).data());
    let file = std::fs::OpenOptions::new()
        .append(true)
        .open(&wal)
        .expect("the log opens");
    // A header that promises more than there is: the beginning of a write that never ended.
    let mut torn = &[0x11_u8, 0x22, 0x33, 0x44, 0xff, 0x0f, 0x01, 0x55][..];
    std::io::copy(&mut torn, &mut &file).expect("writes");
    cluster.restart(node);
    cluster.is_whole().await;
    load.finish().await;
    cluster.must_keep_promises().await;
    cluster.must_be_sound_on_disk().await;
}

/// A record as RocksDB writes it, but with a checksum that does not hold: what is left when the pages of a write that was
/// never synced reach the disk only in part.
fn shreds(written: usize) -> Vec<u8> {
    /// Records do not cross blocks of this many bytes.
    const BLOCK: usize = 32 * 1024;
    /// Checksum, length and kind.
    const HEADER: usize = 7;
    /// The kind of a record that is whole.
    const FULL: u8 = 1;
    let mut room = BLOCK - written % BLOCK;
    let mut bytes = Vec::new();
    if room <= HEADER {
        bytes.resize(room, 0);
        room = BLOCK;
    }
    let len = (room - HEADER).min(100);
    bytes.extend_from_slice(&[0x5a; 4]);
    bytes.extend_from_slice(&u16::try_from(len).expect("short").to_le_bytes());
    bytes.push(FULL);
    bytes.resize(bytes.len() + len, 0x11);
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_in_shreds_behind_all_promises_starts() {
    let (mut cluster, actors) = Cluster::with_actors(Options::default(), 4).await;
    let load = Load::start(&cluster, &actors);
    load.flows(200, RECOVERY).await;
    let node = cluster.follower().await;
    cluster.kill(node);
    let data = cluster.file(node).data();
    let wal = newest_wal(&data);
    let mut bytes = std::fs::read(&wal).expect("a log");
    bytes.extend(shreds(bytes.len()));
    std::fs::write(&wal, bytes).expect("a log");
    cluster.restart(node);
    cluster.is_whole().await;
    let live = std::fs::read_to_string(data.join("LIVE")).expect("a name");
    assert_eq!(live, "db-2", "a copy was made live");
    assert!(!data.join("db-1").exists());
    load.flows(100, RECOVERY).await;
    load.finish().await;
    cluster.must_keep_promises().await;
    cluster.must_be_sound_on_disk().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_damaged_before_a_promise_does_not_start() {
    let (mut cluster, actors) = Cluster::with_actors(Options::default(), 4).await;
    let load = Load::start(&cluster, &actors);
    load.flows(200, RECOVERY).await;
    load.finish().await;
    let node = cluster.follower().await;
    let size = cluster.converge().await;
    let data = cluster.file(node).data();
    until("the node has promised all of it", RECOVERY, async || {
        let promised = Marker::peek(&data).ok()?.cosigned?.size;
        (promised >= TreeSize(size)).then_some(())
    })
    .await;
    cluster.kill(node);
    let wal = newest_wal(&data);
    let mut bytes = std::fs::read(&wal).expect("a log");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&wal, &bytes).expect("a log");

    cluster.restart(node);
    let status = cluster.process(node).must_end(SOON).await;
    assert_eq!(status.code(), Some(EXIT_DATA), "{status}");
    let log = std::fs::read_to_string(cluster.file(node).log()).expect("a log");
    let last = log.lines().last().unwrap_or_default();
    for words in [
        "the check of the store failed",
        "Corruption",
        "is not enough",
        "ledger-node fsck",
        "new node id",
    ] {
        assert!(last.contains(words), "{words:?} is not in: {last}");
    }
    assert_eq!(std::fs::read(&wal).expect("a log"), bytes, "left as it was");
}

/// The write-ahead log that was written last.
fn newest_wal(folder: &Path) -> std::path::PathBuf {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "log") {
                found.push(path);
            }
        }
    }
    found.sort();
    found.pop().expect("a write-ahead log")
}
