//! A record as bytes: one slot of the file, written and read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use ledger_core::hash::{Hash, TreeSize};

use super::MarkerError;
use super::record::{MarkedLogId, MarkedTree, MarkedVote, MarkerRecord};
use crate::storage::instance::{FileIdentity, InstanceFile};
use crate::storage::store_id::StoreId;

/// Bytes of a slot: the largest unit that disks in use write at once, so that writing one slot cannot hurt the other.
pub const SLOT_LEN: usize = 4_096;
/// How many slots there are.
const SLOTS: u64 = 2;

/// The first bytes of a slot.
const MAGIC: &[u8; 8] = b"cs-mark\0";
/// The version of the layout.
const VERSION: u32 = 3;
/// Bytes of magic, version, sequence number, and the fields of [`MarkerRecord`] in their order, each option led by a byte.
pub(super) const RECORD_LEN: usize = 8
    + 4
    + 8
    + (8 + 32 + 16)
    + (1 + 16 + FILE_LEN + 8 + FILE_LEN)
    + (1 + 8 + 8 + 1)
    + (1 + 8 + 8)
    + (1 + 8 + 32);
/// Bytes of a file's identity: device, inode, birth.
const FILE_LEN: usize = 8 + 8 + 8;
/// What stands for the identity of no file.
const NO_FILE: FileIdentity = FileIdentity {
    device: 0,
    inode: 0,
    born_at_ns: 0,
};

/// Where the slot of a sequence number begins.
pub(super) const fn offset(sequence: u64) -> u64 {
    (sequence % SLOTS) * SLOT_LEN as u64
}

/// The slot of a record: the record, its BLAKE3 hash, zeros.
pub(super) fn encode(sequence: u64, record: &MarkerRecord) -> [u8; SLOT_LEN] {
    let mut bytes = Vec::with_capacity(SLOT_LEN);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&sequence.to_be_bytes());
    bytes.extend_from_slice(&record.node_id.to_be_bytes());
    bytes.extend_from_slice(record.genesis_digest.as_bytes());
    bytes.extend_from_slice(record.store_id.as_bytes());
    let instance = record.instance.unwrap_or(InstanceFile {
        nonce: [0; 16],
        file: NO_FILE,
        changed_at_ns: 0,
        marker: NO_FILE,
    });
    bytes.push(record.instance.is_some().into());
    bytes.extend_from_slice(&instance.nonce);
    encode_file(&mut bytes, &instance.file);
    bytes.extend_from_slice(&instance.changed_at_ns.to_be_bytes());
    encode_file(&mut bytes, &instance.marker);
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

fn encode_file(bytes: &mut Vec<u8>, file: &FileIdentity) {
    bytes.extend_from_slice(&file.device.to_be_bytes());
    bytes.extend_from_slice(&file.inode.to_be_bytes());
    bytes.extend_from_slice(&file.born_at_ns.to_be_bytes());
}

/// The newest whole slot.
pub(super) fn newest(file: &File) -> Result<(u64, MarkerRecord), MarkerError> {
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
                    found = Some((sequence, *record));
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

pub(super) enum Decoded {
    Record(u64, Box<MarkerRecord>),
    OtherVersion(u32),
}

pub(super) fn decode(slot: &[u8; SLOT_LEN]) -> Option<Decoded> {
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
    let store_id = StoreId::from_bytes(reader.take()?);
    let has_instance = reader.flag()?;
    let instance = InstanceFile {
        nonce: reader.take()?,
        file: reader.file()?,
        changed_at_ns: reader.u64()?,
        marker: reader.file()?,
    };
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
        store_id,
        instance: has_instance.then_some(instance),
        vote: has_vote.then_some(vote),
        committed: has_committed.then_some(committed),
        cosigned: has_cosigned.then_some(cosigned),
    };
    Some(Decoded::Record(sequence, Box::new(record)))
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

    fn file(&mut self) -> Option<FileIdentity> {
        Some(FileIdentity {
            device: self.u64()?,
            inode: self.u64()?,
            born_at_ns: self.u64()?,
        })
    }

    fn flag(&mut self) -> Option<bool> {
        self.take::<1>().map(|[byte]| byte != 0)
    }
}
