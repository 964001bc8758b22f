//! The right edge of the tree: everything that appending needs to know about the past.
//!
//! The frontier of a tree of size n is the roots of the complete subtrees that n splits into, one per set bit, the
//! largest first. It is part of the replicated state, so it has one encoding and a decoder that accepts nothing else.

use thiserror::Error;

use super::tile::{TILE_HEIGHT, TileWrite};
use crate::hash::{HASH_LEN, Hash, TreeHash, TreeSize};

/// Bytes of the tree size in the encoding.
const SIZE_LEN: usize = 8;
/// The longest encoding: a size with 63 set bits.
pub const MAX_FRONTIER_LEN: usize = SIZE_LEN + 63 * HASH_LEN;

/// The incremental RFC 6962 tree: append and root at O(log n) time and memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frontier {
    hash: TreeHash,
    size: TreeSize,
    /// Roots of the complete subtrees, the largest (leftmost) first: one per set bit of `size`.
    roots: Vec<Hash>,
}

impl Frontier {
    /// The empty tree.
    #[must_use]
    pub const fn new(hash: TreeHash) -> Self {
        Self {
            hash,
            size: TreeSize(0),
            roots: Vec::new(),
        }
    }

    /// The hash of this tree.
    #[must_use]
    pub const fn tree_hash(&self) -> TreeHash {
        self.hash
    }

    /// How many leaves were appended.
    #[must_use]
    pub const fn size(&self) -> TreeSize {
        self.size
    }

    /// The root over all leaves appended so far (RFC 6962, section 2.1): H("") of the empty tree.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut smallest_first = self.roots.iter().rev();
        let Some(last) = smallest_first.next() else {
            return self.hash.empty();
        };
        smallest_first.fold(*last, |right, left| self.hash.node(left, &right))
    }

    /// Appends a leaf by its hash and returns which tile hashes to store: the leaf first, then the root of each tile
    /// that it fills, upwards.
    ///
    /// The size cannot overflow: the decoder refuses sizes above [`TreeSize::MAX`], from which 2^63 appends are left.
    pub fn append(&mut self, leaf_hash: Hash) -> Vec<TileWrite> {
        let index = self.size.0;
        let mut writes = vec![TileWrite::at(0, index, leaf_hash)];
        let mut node = leaf_hash;
        let mut level = 0;
        // Each trailing one bit of the size is a complete subtree as large as the one that just ended here.
        for height in 1..=index.trailing_ones() {
            let Some(left) = self.roots.pop() else { break };
            node = self.hash.node(&left, &node);
            if height % TILE_HEIGHT == 0 {
                level += 1;
                writes.push(TileWrite::at(level, index >> height, node));
            }
        }
        self.roots.push(node);
        self.size.0 += 1;
        writes
    }

    /// The canonical encoding: `u64be size || roots`, the largest subtree first. The tree hash is not in it: it is fixed
    /// by the ledger's genesis.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.size.0.to_be_bytes().to_vec();
        for root in &self.roots {
            bytes.extend_from_slice(root.as_bytes());
        }
        bytes
    }

    /// Reads what [`Frontier::to_bytes`] writes.
    ///
    /// # Errors
    /// [`FrontierError`] for any other length than the size demands, or a size above [`TreeSize::MAX`]. Whether the roots
    /// are those of the ledger shows only when the root is compared with a checkpoint.
    pub fn from_bytes(hash: TreeHash, bytes: &[u8]) -> Result<Self, FrontierError> {
        let (size, rest) = bytes
            .split_first_chunk::<SIZE_LEN>()
            .ok_or(FrontierError::Length)?;
        let size = TreeSize(u64::from_be_bytes(*size));
        if size > TreeSize::MAX {
            return Err(FrontierError::Size(size));
        }
        let (roots, odd_bytes) = rest.as_chunks::<HASH_LEN>();
        if !odd_bytes.is_empty() || u32::try_from(roots.len()) != Ok(size.0.count_ones()) {
            return Err(FrontierError::Length);
        }
        Ok(Self {
            hash,
            size,
            roots: roots.iter().copied().map(Hash::from_bytes).collect(),
        })
    }
}

/// Why bytes are not a frontier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrontierError {
    /// One root per set bit of the size, and nothing after them.
    #[error("the frontier does not have one hash per set bit of its size")]
    Length,
    /// Larger than any ledger.
    #[error("a frontier of size {0} is larger than any ledger")]
    Size(TreeSize),
}
