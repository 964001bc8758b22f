//! The marker: what this node has promised, kept apart from the store.
//!
//! A store can come back older than it was: a disk that lied about a flush, a copy put back from a backup, a torn log cut too
//! far. Such a node has forgotten votes and cosignatures that others rely on, and must not take part again. The marker is how
//! it finds out: a small file of its own, durable before the promise leaves the node, compared with the store at every start.
//!
//! The file has two slots of [`SLOT_LEN`] bytes. Each update overwrites the older one in place and syncs, so that a torn write
//! leaves the newer one as it was.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use ledger_core::hash::{Hash, TreeSize};
use thiserror::Error;

/// The file's name in the data directory.
pub const MARKER_FILE: &str = "marker";
/// Bytes of a slot: the largest unit that disks in use write at once, so that writing one slot cannot hurt the other.
pub const SLOT_LEN: usize = 4_096;
/// How many slots there are.
const SLOTS: u64 = 2;

/// The first bytes of a slot.
const MAGIC: &[u8; 8] = b"cs-mark\0";
/// The version of the layout.
const VERSION: u32 = 1;
/// Bytes of magic, version, sequence number, and the fields of [`MarkerRecord`] in their order, each option led by a byte.
const RECORD_LEN: usize = 8 + 4 + 8 + (8 + 32) + (1 + 8 + 8 + 1) + (1 + 8 + 8) + (1 + 8 + 32);

/// A vote: never given to somebody else in the same term, unless a quorum did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkedVote {
    /// The term.
    pub term: u64,
    /// For whom.
    pub node: u64,
    /// True once a quorum gave the same vote.
    pub committed: bool,
}

impl MarkedVote {
    /// True if a node that gave the old vote may give this one: in a later term, or in the same term to the same node, or, as a
    /// candidate that lost, to the leader whom a quorum chose.
    fn may_follow(self, old: Self) -> bool {
        if self.term != old.term {
            self.term > old.term
        } else if self.node == old.node {
            self.committed >= old.committed
        } else {
            self.committed && !old.committed
        }
    }
}

/// True if the new vote takes nothing of the old one back.
fn keeps_vote(old: Option<MarkedVote>, new: Option<MarkedVote>) -> bool {
    old.is_none_or(|old| new.is_some_and(|new| new.may_follow(old)))
}

/// The place of an entry in Raft's log. The greater one is the later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MarkedLogId {
    /// The term.
    pub term: u64,
    /// The index.
    pub index: u64,
}

/// A tree that this node has cosigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkedTree {
    /// Its size.
    pub size: TreeSize,
    /// Its root.
    pub root: Hash,
}

/// What a node has promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkerRecord {
    /// Who this is.
    pub node_id: u64,
    /// Which ledger this is.
    pub genesis_digest: Hash,
    /// The greatest vote.
    pub vote: Option<MarkedVote>,
    /// The last log id that was committed and durable here.
    pub committed: Option<MarkedLogId>,
    /// The largest tree cosigned.
    pub cosigned: Option<MarkedTree>,
}

/// Why the marker cannot be used.
#[derive(Debug, Error)]
pub enum MarkerError {
    /// There is one already.
    #[error("this directory already holds a node; start it, or choose an empty directory")]
    Exists,
    /// There is none.
    #[error(
        "there is no marker in {0}: if this node has ever run, do not start it on this data and do not make it again under its id, but replace it; if `ledger-node init` was interrupted, remove the directory and run it again"
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
    #[error("the marker would go back: {0}")]
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
const REJOIN: &str = "do not start it on this data: make a key for a new node id with `ledger-node key new`, let an admin \
                      replace this node by that card, and `ledger-node init` an empty data directory without --first";

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
    pub fn create(dir: &Path, node_id: u64, genesis_digest: Hash) -> Result<Self, MarkerError> {
        let record = MarkerRecord {
            node_id,
            genesis_digest,
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

    /// Opens the marker and locks it against other processes.
    ///
    /// # Errors
    /// [`MarkerError`]
    pub fn open(dir: &Path) -> Result<Self, MarkerError> {
        let marker = Self::lock(dir)?;
        {
            let inner = marker.inner.lock().unwrap_or_else(PoisonError::into_inner);
            // If the process before ended because a sync of this slot had failed, the slot was read from memory, and may not be
            // on disk. The same bytes once more, durably, before anything is promised because of them; the other slot stays.
            let bytes = encode(inner.sequence, &inner.record);
            inner.file.write_all_at(&bytes, offset(inner.sequence))?;
            inner.file.sync_data()?;
        }
        Ok(marker)
    }

    /// The same without a change to the file, for who only looks.
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
        let written = inner
            .file
            .write_all_at(&encode(sequence, &next), offset(sequence))
            .and_then(|()| inner.file.sync_data());
        if let Err(error) = written {
            inner.failed = true;
            return Err(error.into());
        }
        inner.sequence = sequence;
        inner.record = next;
        Ok(())
    }
}

fn missing(dir: &Path, error: io::Error) -> MarkerError {
    if error.kind() == io::ErrorKind::NotFound {
        MarkerError::Missing(dir.display().to_string())
    } else {
        MarkerError::Io(error)
    }
}

/// Where the slot of a sequence number begins.
const fn offset(sequence: u64) -> u64 {
    (sequence % SLOTS) * SLOT_LEN as u64
}

/// Says what of the old record the new one takes back, if anything.
fn grows(old: &MarkerRecord, new: &MarkerRecord) -> Result<(), &'static str> {
    if (new.node_id, new.genesis_digest) != (old.node_id, old.genesis_digest) {
        return Err("it would be of another node or ledger");
    }
    if !keeps_vote(old.vote, new.vote) {
        return Err("a vote would be taken back");
    }
    if new.committed < old.committed {
        return Err("a committed log id would be taken back");
    }
    let cosigned = match (old.cosigned, new.cosigned) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(old), Some(new)) => new.size > old.size || new == old,
    };
    if cosigned {
        Ok(())
    } else {
        Err("a cosignature would be taken back, or a second root be cosigned at one size")
    }
}

/// The slot of a record: the record, its BLAKE3 hash, zeros.
fn encode(sequence: u64, record: &MarkerRecord) -> [u8; SLOT_LEN] {
    let mut bytes = Vec::with_capacity(SLOT_LEN);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&sequence.to_be_bytes());
    bytes.extend_from_slice(&record.node_id.to_be_bytes());
    bytes.extend_from_slice(record.genesis_digest.as_bytes());
    let vote = record.vote.unwrap_or(MarkedVote {
        term: 0,
        node: 0,
        committed: false,
    });
    bytes.push(record.vote.is_some().into());
    bytes.extend_from_slice(&vote.term.to_be_bytes());
    bytes.extend_from_slice(&vote.node.to_be_bytes());
    bytes.push(vote.committed.into());
    let committed = record
        .committed
        .unwrap_or(MarkedLogId { term: 0, index: 0 });
    bytes.push(record.committed.is_some().into());
    bytes.extend_from_slice(&committed.term.to_be_bytes());
    bytes.extend_from_slice(&committed.index.to_be_bytes());
    let cosigned = record.cosigned.unwrap_or(MarkedTree {
        size: TreeSize(0),
        root: Hash::from_bytes([0; 32]),
    });
    bytes.push(record.cosigned.is_some().into());
    bytes.extend_from_slice(&cosigned.size.0.to_be_bytes());
    bytes.extend_from_slice(cosigned.root.as_bytes());
    let hash = blake3::hash(&bytes);
    bytes.extend_from_slice(hash.as_bytes());
    let mut slot = [0; SLOT_LEN];
    for (to, from) in slot.iter_mut().zip(bytes) {
        *to = from;
    }
    slot
}

/// The newest whole slot.
fn newest(file: &File) -> Result<(u64, MarkerRecord), MarkerError> {
    let mut found: Option<(u64, MarkerRecord)> = None;
    let mut unknown = None;
    for slot in 0..SLOTS {
        let mut bytes = [0; SLOT_LEN];
        match file.read_exact_at(&mut bytes, offset(slot)) {
            Ok(()) => {}
            // A slot that is cut short is as good as a torn one.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
            Err(error) => return Err(error.into()),
        }
        match decode(&bytes) {
            Some(Decoded::Record(sequence, record)) => {
                let newer = found.is_none_or(|(found, _)| sequence > found);
                if newer {
                    found = Some((sequence, record));
                }
            }
            Some(Decoded::OtherVersion(version)) => unknown = Some(version),
            None => {}
        }
    }
    // The slot of a later program may be the newer one: what the other says would be out of date.
    match unknown {
        Some(version) => Err(MarkerError::Version(version)),
        None => found.ok_or(MarkerError::Damaged),
    }
}

enum Decoded {
    Record(u64, MarkerRecord),
    OtherVersion(u32),
}

fn decode(slot: &[u8; SLOT_LEN]) -> Option<Decoded> {
    let (record, rest) = slot.split_at_checked(RECORD_LEN)?;
    let mut reader = Reader(record);
    if reader.take::<8>()? != *MAGIC {
        return None;
    }
    let whole = rest.first_chunk::<32>()? == blake3::hash(record).as_bytes();
    let version = u32::from_be_bytes(reader.take()?);
    if version != VERSION {
        // Where a later layout keeps its hash is not known here, so a damaged version number also ends here: to be refused is
        // the safe side of that.
        return Some(Decoded::OtherVersion(version));
    }
    if !whole {
        return None;
    }
    let sequence = reader.u64()?;
    let node_id = reader.u64()?;
    let genesis_digest = Hash::from_bytes(reader.take()?);
    let has_vote = reader.flag()?;
    let vote = MarkedVote {
        term: reader.u64()?,
        node: reader.u64()?,
        committed: reader.flag()?,
    };
    let has_committed = reader.flag()?;
    let committed = MarkedLogId {
        term: reader.u64()?,
        index: reader.u64()?,
    };
    let has_cosigned = reader.flag()?;
    let cosigned = MarkedTree {
        size: TreeSize(reader.u64()?),
        root: Hash::from_bytes(reader.take()?),
    };
    let record = MarkerRecord {
        node_id,
        genesis_digest,
        vote: has_vote.then_some(vote),
        committed: has_committed.then_some(committed),
        cosigned: has_cosigned.then_some(cosigned),
    };
    Some(Decoded::Record(sequence, record))
}

struct Reader<'b>(&'b [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn flag(&mut self) -> Option<bool> {
        self.take::<1>().map(|[byte]| byte != 0)
    }
}

/// What a start finds in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovered {
    /// The vote.
    pub vote: Option<MarkedVote>,
    /// The last log id: of the log, of what was purged from it, or of what was applied, whichever is the greatest.
    pub last_log: Option<MarkedLogId>,
    /// The tree as it was applied: what was applied is durable before it is cosigned.
    pub tree: RecoveredTree,
}

/// The tree that a start finds in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveredTree {
    /// Its size.
    pub size: TreeSize,
    /// The root that it had at the size cosigned last, if it is that large.
    pub root_at_cosigned: Option<Hash>,
}

/// The store is older than what this node has promised, or is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Behind {
    /// A vote is forgotten.
    #[error("this node has voted in term {0}, and its store does not know; {REJOIN}")]
    Vote(u64),
    /// Committed entries are missing.
    #[error(
        "this node has held the committed log up to index {0}, and its store does not; {REJOIN}"
    )]
    Log(u64),
    /// Cosigned entries are missing.
    #[error(
        "this node has cosigned a tree of {cosigned} entries, and its store has {found}; {REJOIN}"
    )]
    Tree {
        /// The size cosigned.
        cosigned: TreeSize,
        /// The size found.
        found: TreeSize,
    },
    /// The entries are other ones.
    #[error(
        "the root of the tree of {0} entries is not the one that this node has cosigned; {REJOIN}"
    )]
    Root(TreeSize),
}

/// Compares a store with the marker.
///
/// # Errors
/// [`Behind`], whose message says what to do. The node must not start.
pub fn behind(marker: &MarkerRecord, recovered: &Recovered) -> Result<(), Behind> {
    if let Some(vote) = marker.vote
        && !keeps_vote(Some(vote), recovered.vote)
    {
        return Err(Behind::Vote(vote.term));
    }
    if let Some(committed) = marker.committed
        && recovered.last_log < Some(committed)
    {
        return Err(Behind::Log(committed.index));
    }
    let (Some(cosigned), tree) = (marker.cosigned, recovered.tree) else {
        return Ok(());
    };
    if tree.size < cosigned.size {
        return Err(Behind::Tree {
            cosigned: cosigned.size,
            found: tree.size,
        });
    }
    if tree.root_at_cosigned == Some(cosigned.root) {
        Ok(())
    } else {
        Err(Behind::Root(cosigned.size))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: Hash = Hash::from_bytes([7; 32]);

    fn tree(size: u64, root: u8) -> MarkedTree {
        MarkedTree {
            size: TreeSize(size),
            root: Hash::from_bytes([root; 32]),
        }
    }

    fn full() -> MarkerRecord {
        MarkerRecord {
            node_id: 3,
            genesis_digest: DIGEST,
            vote: Some(MarkedVote {
                term: 5,
                node: 2,
                committed: true,
            }),
            committed: Some(MarkedLogId { term: 5, index: 90 }),
            cosigned: Some(tree(80, 1)),
        }
    }

    fn file_with(slots: [&[u8]; 2]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(MARKER_FILE), slots.concat()).unwrap();
        dir
    }

    #[test]
    fn the_layout_is_pinned() {
        let slot = encode(9, &full());
        assert_eq!(
            blake3::hash(&slot).to_hex().as_str(),
            "430212f9f2f731f348a887acd8259703cb4d05e8968190f2e4848f712a5949e3"
        );
        assert!(slot[RECORD_LEN + 32..].iter().all(|byte| *byte == 0));
        assert_ne!(slot[RECORD_LEN - 32..RECORD_LEN + 32], [0; 64]);
    }

    #[test]
    fn what_is_updated_is_read_after_opening_again() {
        let dir = tempfile::tempdir().unwrap();
        let marker = Marker::create(dir.path(), 3, DIGEST).unwrap();
        for index in 1..=5 {
            marker
                .update(|record| record.committed = Some(MarkedLogId { term: 1, index }))
                .unwrap();
            assert_eq!(Marker::peek(dir.path()).unwrap(), marker.read());
        }
        marker.update(|record| *record = full()).unwrap();
        assert!(matches!(Marker::open(dir.path()), Err(MarkerError::Locked)));
        drop(marker);
        assert_eq!(Marker::open(dir.path()).unwrap().read(), full());
        assert!(matches!(
            Marker::create(dir.path(), 3, DIGEST),
            Err(MarkerError::Exists)
        ));
        assert_eq!(Marker::open(dir.path()).unwrap().read(), full());
        let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(names.len(), 1);
    }

    #[test]
    fn nothing_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let marker = Marker::create(dir.path(), 3, DIGEST).unwrap();
        marker.update(|record| *record = full()).unwrap();
        let vote = full().vote.unwrap();
        let back: [fn(&mut MarkerRecord, MarkedVote); 11] = [
            |record, _| record.node_id = 4,
            |record, _| record.genesis_digest = Hash::from_bytes([8; 32]),
            |record, _| record.vote = None,
            |record, vote| record.vote = Some(MarkedVote { term: 4, ..vote }),
            |record, vote| record.vote = Some(MarkedVote { node: 1, ..vote }),
            |record, vote| {
                record.vote = Some(MarkedVote {
                    committed: false,
                    ..vote
                });
            },
            |record, _| record.committed = None,
            |record, _| record.committed = Some(MarkedLogId { term: 5, index: 89 }),
            |record, _| record.cosigned = None,
            |record, _| record.cosigned = Some(tree(79, 1)),
            |record, _| record.cosigned = Some(tree(80, 2)),
        ];
        for change in back {
            let refused = marker.update(|record| change(record, vote));
            assert!(matches!(refused, Err(MarkerError::Back(_))));
            assert_eq!(marker.read(), full());
            assert_eq!(Marker::peek(dir.path()).unwrap(), full());
        }
        marker
            .update(|record| record.cosigned = Some(tree(81, 2)))
            .unwrap();
    }

    #[test]
    fn a_candidate_that_lost_follows_the_leader_of_its_term_and_votes_for_nobody_else() {
        let vote = |term, node, committed| {
            Some(MarkedVote {
                term,
                node,
                committed,
            })
        };
        let own = vote(3, 2, false);
        for leader in [1, 2, 3] {
            assert!(keeps_vote(own, vote(3, leader, true)), "{leader}");
            assert!(keeps_vote(vote(3, leader, true), vote(4, 1, false)));
            assert!(!keeps_vote(vote(3, leader, true), own), "{leader}");
        }
        assert!(!keeps_vote(own, vote(3, 1, false)) && !keeps_vote(own, vote(3, 3, false)));
        assert!(!keeps_vote(vote(3, 1, true), vote(3, 2, true)));
        assert!(!keeps_vote(own, vote(2, 3, true)) && !keeps_vote(own, None));
        assert!(keeps_vote(None, None) && keeps_vote(None, own));
    }

    #[test]
    fn a_missing_or_damaged_marker_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let error = Marker::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("ledger-node init"), "{error}");
        let dir = file_with([&[0; SLOT_LEN], &[0; SLOT_LEN]]);
        let error = Marker::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("new node id"), "{error}");
        let mut later = encode(1, &full());
        later[11] = 2;
        let dir = file_with([&encode(2, &full()), &later]);
        assert!(matches!(
            Marker::open(dir.path()),
            Err(MarkerError::Version(2))
        ));
    }

    #[test]
    fn a_store_that_has_forgotten_is_told_from_one_that_has_not() {
        let marker = full();
        let same = Recovered {
            vote: marker.vote,
            last_log: marker.committed,
            tree: RecoveredTree {
                size: TreeSize(80),
                root_at_cosigned: marker.cosigned.map(|tree| tree.root),
            },
        };
        assert_eq!(behind(&marker, &same), Ok(()));
        let later = Recovered {
            vote: Some(MarkedVote {
                term: 6,
                node: 1,
                committed: false,
            }),
            last_log: Some(MarkedLogId { term: 6, index: 80 }),
            ..same
        };
        assert_eq!(behind(&marker, &later), Ok(()));
        let old_vote = Recovered {
            vote: marker.vote.map(|vote| MarkedVote { term: 4, ..vote }),
            ..same
        };
        assert_eq!(behind(&marker, &old_vote), Err(Behind::Vote(5)));
        assert_eq!(
            behind(&marker, &Recovered { vote: None, ..same }),
            Err(Behind::Vote(5))
        );
        let short = Recovered {
            last_log: Some(MarkedLogId { term: 5, index: 89 }),
            ..same
        };
        assert_eq!(behind(&marker, &short), Err(Behind::Log(90)));
        let with_tree = |size, root_at_cosigned| Recovered {
            tree: RecoveredTree {
                size: TreeSize(size),
                root_at_cosigned,
            },
            ..same
        };
        assert_eq!(
            behind(&marker, &with_tree(79, None)),
            Err(Behind::Tree {
                cosigned: TreeSize(80),
                found: TreeSize(79)
            })
        );
        for root in [None, Some(Hash::from_bytes([9; 32]))] {
            let error = behind(&marker, &with_tree(90, root)).unwrap_err();
            assert_eq!(error, Behind::Root(TreeSize(80)));
            let text = error.to_string();
            assert!(text.contains("new node id") && text.contains("without --first"));
        }
    }

    #[test]
    fn a_write_torn_at_any_byte_leaves_the_old_record_or_the_new_one() {
        let old = full();
        let new = MarkerRecord {
            committed: Some(MarkedLogId { term: 6, index: 91 }),
            cosigned: Some(tree(81, 4)),
            ..old
        };
        let before = MarkerRecord {
            committed: Some(MarkedLogId { term: 4, index: 60 }),
            ..old
        };
        let (kept, overwritten, written) = (encode(7, &old), encode(6, &before), encode(8, &new));
        let path_dir = tempfile::tempdir().unwrap();
        let path = path_dir.path().join(MARKER_FILE);
        // Beyond the hash both slots are zeros: tearing there changes nothing.
        for at in 0..=RECORD_LEN + 33 {
            for (head, tail) in [(&written, &overwritten), (&overwritten, &written)] {
                let torn = [&head[..at], &tail[at..], &kept[..]].concat();
                std::fs::write(&path, torn).unwrap();
                let found = Marker::peek(path_dir.path()).unwrap();
                assert!(found == old || found == new, "torn at {at}: {found:?}");
                let whole = head == &written && at >= RECORD_LEN + 32;
                if whole {
                    assert_eq!(found, new, "torn at {at}");
                }
            }
        }
    }

    fn record() -> impl Strategy<Value = MarkerRecord> {
        let vote = proptest::option::of((any::<u64>(), any::<u64>(), any::<bool>()));
        let log = proptest::option::of((any::<u64>(), any::<u64>()));
        let cosigned = proptest::option::of((any::<u64>(), any::<[u8; 32]>()));
        (any::<u64>(), any::<[u8; 32]>(), vote, log, cosigned).prop_map(
            |(node_id, digest, vote, log, cosigned)| MarkerRecord {
                node_id,
                genesis_digest: Hash::from_bytes(digest),
                vote: vote.map(|(term, node, committed)| MarkedVote {
                    term,
                    node,
                    committed,
                }),
                committed: log.map(|(term, index)| MarkedLogId { term, index }),
                cosigned: cosigned.map(|(size, root)| MarkedTree {
                    size: TreeSize(size),
                    root: Hash::from_bytes(root),
                }),
            },
        )
    }

    proptest! {
        #[test]
        fn slots_round_trip(sequence in any::<u64>(), record in record()) {
            let decoded = decode(&encode(sequence, &record));
            let same = matches!(decoded, Some(Decoded::Record(s, r)) if s == sequence && r == record);
            prop_assert!(same);
        }

        #[test]
        fn a_flipped_bit_is_never_read_as_a_record(
            record in record(), at in 0..RECORD_LEN + 32, bit in 0..8_u32,
        ) {
            let mut slot = encode(1, &record);
            slot[at] ^= 1 << bit;
            let accepted = matches!(decode(&slot), Some(Decoded::Record(..)));
            prop_assert!(!accepted);
        }

        #[test]
        fn any_bytes_are_read_without_panicking(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut slot = [0; SLOT_LEN];
            slot[..bytes.len()].copy_from_slice(&bytes);
            let accepted = matches!(decode(&slot), Some(Decoded::Record(..)));
            prop_assert!(!accepted);
        }
    }
}
