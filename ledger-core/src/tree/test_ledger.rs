//! A ledger in memory with every root it had, for the tests of the tree.

use super::frontier::Frontier;
use super::proof::{MemoryTiles, Prover};
use crate::hash::{Hash, LeafIndex, TreeHash, TreeSize};

/// Every size up to this one is checked exhaustively.
pub(super) const EVERY_SIZE: usize = 600;

/// A ledger built by the code under test, and all roots it had.
pub(super) struct Ledger {
    pub(super) hash: TreeHash,
    pub(super) leaves: Vec<Hash>,
    pub(super) tiles: MemoryTiles,
    /// The root at each size, from 0 on.
    pub(super) roots: Vec<Hash>,
}

impl Ledger {
    pub(super) fn new(hash: TreeHash, size: usize) -> Self {
        let (mut frontier, mut tiles) = (Frontier::new(hash), MemoryTiles::new());
        let leaves: Vec<Hash> = (0..size)
            .map(|index| hash.leaf(&leaf_bytes(index)))
            .collect();
        let mut roots = vec![frontier.root()];
        for leaf in &leaves {
            tiles.store(&frontier.append(*leaf));
            roots.push(frontier.root());
        }
        assert_eq!(frontier.size(), size_of(size));
        Self {
            hash,
            leaves,
            tiles,
            roots,
        }
    }

    pub(super) fn prover(&self, size: usize) -> Prover<'_, MemoryTiles> {
        Prover::new(&self.tiles, self.hash, size_of(size))
    }
}

pub(super) fn leaf_bytes(index: usize) -> Vec<u8> {
    format!("entry {index}").into_bytes()
}

pub(super) fn size_of(size: usize) -> TreeSize {
    TreeSize(size as u64)
}

pub(super) fn index_of(index: usize) -> LeafIndex {
    LeafIndex(index as u64)
}

pub(super) fn flat(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

pub(super) fn profiles() -> [TreeHash; 2] {
    [TreeHash::Sha256, TreeHash::Blake3]
}
