//! The keys of [`Table::Meta`], and those of the log.

use std::io;

use super::{Direction, Pair, Read, Table, scan};

/// u32: the version of the disk format.
pub const FORMAT: &[u8] = b"format";
/// u64: this node's id.
pub const NODE: &[u8] = b"node";
/// 32 bytes: the digest of the genesis.
pub const GENESIS: &[u8] = b"genesis";
/// 16 bytes: the id of this store.
pub const STORE: &[u8] = b"store";
/// Before a u64 node id: a `PeerRecord`, what this node remembers of that node.
pub const PEER: &[u8] = b"peer/";
/// Present until the cluster has begun, on the one node that begins it.
pub const BOOTSTRAP: &[u8] = b"bootstrap";
/// A `Vote`.
pub const VOTE: &[u8] = b"vote";
/// A `LogId`: what this node knows to be committed.
pub const COMMITTED: &[u8] = b"committed";
/// A `LogId`: the last entry that was removed from the beginning of the log.
pub const PURGED: &[u8] = b"purged";
/// An `AppliedRecord`.
pub const APPLIED: &[u8] = b"applied";
/// Before a u64 tree size: a checkpoint that met the trust policy.
pub const CHECKPOINT: &[u8] = b"checkpoint/";
/// Before a u64 epoch: the checkpoint that carries the change of the trust policy to that epoch.
pub const TRUST_STEP: &[u8] = b"trust-step/";

/// u64: the size of the tree of a snapshot that this node began with, until most of the others have attested the same state.
pub const COPIED: &[u8] = b"copied";

/// Before a u64 leaf: an applied erasure whose bytes may still be on this disk. The value is its place in the log, a u64.
pub const ERASING: &[u8] = b"erasing/";

/// The version of the disk format that this build reads and writes.
pub const FORMAT_VERSION: u32 = 1;

/// The key of a log entry.
#[must_use]
pub const fn log_key(index: u64) -> [u8; 8] {
    index.to_be_bytes()
}

/// The key of a cosigned checkpoint.
#[must_use]
pub fn checkpoint_key(size: u64) -> Vec<u8> {
    [CHECKPOINT, &size.to_be_bytes()].concat()
}

/// The key of what is remembered of a node.
#[must_use]
pub fn peer_key(node_id: u64) -> Vec<u8> {
    [PEER, &node_id.to_be_bytes()].concat()
}

/// The key of the checkpoint of a trust step.
#[must_use]
pub fn trust_step_key(epoch: u64) -> Vec<u8> {
    [TRUST_STEP, &epoch.to_be_bytes()].concat()
}

/// The erasures that are not physical yet: keys and values as they are stored.
///
/// # Errors
/// The store cannot be read.
pub fn erasing(store: &dyn Read) -> io::Result<Vec<Pair>> {
    let direction = Direction::Ascending;
    scan(store, Table::Meta, ERASING, None, direction, usize::MAX)
}

/// The key of an erasure that is not physical yet.
#[must_use]
pub fn erasing_key(leaf: u64) -> Vec<u8> {
    [ERASING, &leaf.to_be_bytes()].concat()
}
