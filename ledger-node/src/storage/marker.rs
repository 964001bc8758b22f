//! The marker: what this node has promised, kept apart from the store.
//!
//! A store can come back older than it was: a disk that lied about a flush, a copy put back from a backup, a torn log cut too
//! far. Such a node has forgotten votes and cosignatures that others rely on, and must not take part again. The marker is how
//! it finds out: a small file of its own, durable before the promise leaves the node, compared with the store at every start.
//!
//! The file has two slots of [`SLOT_LEN`] bytes. Each update overwrites the older one in place and syncs, so that a torn write
//! leaves the newer one as it was.

mod behind;
mod record;
mod slot;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use ledger_core::hash::Hash;
use thiserror::Error;

use super::instance::FileIdentity;
use super::store_id::StoreId;
use crate::fatal::FIND_OUT;
pub use behind::{Behind, Recovered, RecoveredTree, behind};
use record::grows;
pub use record::{MarkedLogId, MarkedTree, MarkedVote, MarkerRecord};
pub use slot::SLOT_LEN;
use slot::{encode, newest, offset};

/// The file's name in the data directory.
pub const MARKER_FILE: &str = "marker";

/// Why the marker cannot be used.
#[derive(Debug, Error)]
pub enum MarkerError {
    /// There is one already.
    #[error("this directory already holds a node; start it, or choose an empty directory")]
    Exists,
    /// There is none.
    #[error(
        "there is no marker in {0}: if this node has ever run, do not start it on this data and do not make it again under its id; look for the disk that it ran on and start it on that one, else let it join under a new node id with a new key. If `ledger-node init` was interrupted, remove the directory and run it again"
    )]
    Missing(String),
    /// Another process has it.
    #[error("another process is using this data directory; stop it first")]
    Locked,
    /// Neither slot is whole.
    #[error(
        "both copies of the marker are damaged, so that nobody knows what this node has promised; {REJOIN}"
    )]
    Damaged,
    /// Written by a later version of this program.
    #[error("the marker has layout {0}, which this program does not know; run a later version")]
    Version(u32),
    /// An update would take something back.
    #[error(
        "the marker would go back: {0}. Either this node's data are an older copy, or the other nodes have lost what this one holds: {FIND_OUT}"
    )]
    Back(&'static str),
    /// An update failed earlier, and what is on disk is not known.
    #[error("an earlier write of the marker failed")]
    Failed,
    /// The file cannot be read or written.
    #[error("the marker cannot be read or written: {0}")]
    Io(#[from] io::Error),
}

impl From<MarkerError> for io::Error {
    fn from(error: MarkerError) -> Self {
        match error {
            // Its kind tells a full disk from a broken one.
            MarkerError::Io(error) => error,
            MarkerError::Exists
            | MarkerError::Missing(_)
            | MarkerError::Locked
            | MarkerError::Damaged
            | MarkerError::Version(_)
            | MarkerError::Back(_)
            | MarkerError::Failed => Self::other(error.to_string()),
        }
    }
}

/// What to do with a node that has forgotten something.
const REJOIN: &str = "the data are an older copy, or the disk has lost writes: do not start it on this data, and keep it until \
                      it is known that no other node has lost anything (compare their newest checkpoints with those that \
                      clients and evidence remember). If a newer disk of this node exists, start it on that one; else make a \
                      key for a new node id with `ledger-node key new`, let an admin replace this node by that card, and \
                      `ledger-node init` an empty data directory without --first";

/// The marker of a running node. Holds the file, and a lock on it, until dropped.
#[derive(Debug)]
pub struct Marker {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    sequence: u64,
    record: MarkerRecord,
    failed: bool,
}

impl Marker {
    /// Makes the marker of a new node and opens it. It is there as a whole, durably, or not at all.
    ///
    /// # Errors
    /// [`MarkerError::Exists`], or the file cannot be written.
    pub fn create(
        dir: &Path,
        node_id: u64,
        genesis_digest: Hash,
        store_id: StoreId,
    ) -> Result<Self, MarkerError> {
        let record = MarkerRecord {
            node_id,
            genesis_digest,
            store_id,
            instance: None,
            vote: None,
            committed: None,
            cosigned: None,
        };
        let partial = dir.join("marker.partial");
        let mut both = encode(0, &record).to_vec();
        both.resize(SLOT_LEN * 2, 0);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&partial)?;
        file.write_all_at(&both, 0)?;
        file.sync_all()?;
        // A link, unlike a rename, never replaces what is there.
        let linked = std::fs::hard_link(&partial, dir.join(MARKER_FILE));
        std::fs::remove_file(&partial)?;
        linked.map_err(|error| {
            if error.kind() == io::ErrorKind::AlreadyExists {
                MarkerError::Exists
            } else {
                MarkerError::Io(error)
            }
        })?;
        File::open(dir)?.sync_all()?;
        Self::open(dir)
    }

    /// Opens the marker and locks it against other processes. If its file is not the one that its node wrote last, the record says
    /// from now on that the directory was copied: the first write takes away what tells.
    ///
    /// # Errors
    /// [`MarkerError`]
    pub fn open(dir: &Path) -> Result<Self, MarkerError> {
        let marker = Self::lock(dir)?;
        {
            let mut inner = marker.inner.lock().unwrap_or_else(PoisonError::into_inner);
            let file = inner.file.metadata()?;
            let mut record = inner.record;
            record.instance = record.instance.map(|instance| {
                if instance.is_marked_by(&file) {
                    instance
                } else {
                    instance.copied()
                }
            });
            // If the process before ended because a sync of this slot had failed, the slot was read from memory, and may not be on
            // disk. The same bytes once more, durably, before anything is promised because of them; the other slot stays.
            let other_slot = u64::from(record != inner.record);
            let sequence = inner.sequence.saturating_add(other_slot);
            inner.write(sequence, record)?;
        }
        Ok(marker)
    }

    /// Locks and reads without rewriting the slot: for fsck.
    ///
    /// # Errors
    /// [`MarkerError`]
    pub fn lock(dir: &Path) -> Result<Self, MarkerError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(dir.join(MARKER_FILE))
            .map_err(|error| missing(dir, error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(MarkerError::Locked),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let (sequence, record) = newest(&file)?;
        Ok(Self {
            inner: Mutex::new(Inner {
                file,
                sequence,
                record,
                failed: false,
            }),
        })
    }

    /// Reads a marker without locking it, for tools.
    ///
    /// # Errors
    /// [`MarkerError`]
    pub fn peek(dir: &Path) -> Result<MarkerRecord, MarkerError> {
        let file = File::open(dir.join(MARKER_FILE)).map_err(|error| missing(dir, error))?;
        newest(&file).map(|(_, record)| record)
    }

    /// What is promised.
    #[must_use]
    pub fn read(&self) -> MarkerRecord {
        self.inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .record
    }

    /// Changes the record. When this returns, the change is durable, and the promise may leave the node. Nothing is written if
    /// nothing changes. Costs one sync; blocks.
    ///
    /// # Errors
    /// [`MarkerError::Back`] if anything would be taken back; the marker is as before. After any other error it is not known
    /// what is on disk: every later update fails too, and the node must stop.
    pub fn update(&self, change: impl FnOnce(&mut MarkerRecord)) -> Result<(), MarkerError> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.failed {
            return Err(MarkerError::Failed);
        }
        let mut next = inner.record;
        change(&mut next);
        if next == inner.record {
            return Ok(());
        }
        grows(&inner.record, &next).map_err(MarkerError::Back)?;
        let sequence = inner.sequence.saturating_add(1);
        inner.write(sequence, next)?;
        Ok(())
    }

    /// The identity of the marker's own file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn file_identity(&self) -> io::Result<FileIdentity> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(FileIdentity::of(&inner.file.metadata()?))
    }
}

impl Inner {
    /// Writes a slot, durably. After an error it is not known what is on disk.
    fn write(&mut self, sequence: u64, record: MarkerRecord) -> io::Result<()> {
        let written = self
            .file
            .write_all_at(&encode(sequence, &record), offset(sequence))
            .and_then(|()| self.file.sync_data());
        if written.is_ok() {
            self.sequence = sequence;
            self.record = record;
        } else {
            self.failed = true;
        }
        written
    }
}

fn missing(dir: &Path, error: io::Error) -> MarkerError {
    if error.kind() == io::ErrorKind::NotFound {
        MarkerError::Missing(dir.display().to_string())
    } else {
        MarkerError::Io(error)
    }
}
