//! Building inclusion and consistency proofs from tiles, at any size that the ledger has had.
//!
//! A tree of size n reads only hashes that were there at size n: complete nodes from tiles, and on each level at most one
//! ragged node, over the leaves at the right edge that do not fill a tile. A node's path is the chain of its paths
//! through one tile per level (RFC 6962, section 2.1.1); a consistency proof is the path of the last complete subtree of
//! the older tree (section 2.1.2).

use std::collections::BTreeMap;
use std::io;

use thiserror::Error;

use super::tile::{TILE_HEIGHT, TILE_WIDTH, Tile, TileWrite, row_len, split_index};
use super::tile_tree::TileTree;
use crate::hash::{Hash, LeafIndex, TreeHash, TreeSize};

/// The most tile trees a [`Prover`] keeps. One takes about 40 KiB.
const MAX_KEPT_TREES: usize = 64;

/// Where tiles are kept.
pub trait TileReader {
    /// The first [`Tile::width`] hashes of a tile; more are cut off.
    ///
    /// # Errors
    /// [`ReadError`] if the tile is not there or cannot be read.
    fn read_tile(&self, tile: &Tile) -> Result<Vec<Hash>, ReadError>;
}

/// Why a tile could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    /// The tile, or some of the hashes asked for, are not there.
    #[error("{0} is missing or too short")]
    Missing(Tile),
    /// The store failed.
    #[error("{tile} is unreadable: {reason}")]
    Unreadable {
        /// The tile asked for.
        tile: Tile,
        /// What the store says.
        reason: String,
        /// Where the fault is, as in [`StateError::kind`].
        ///
        /// [`StateError::kind`]: crate::state::StateError::kind
        kind: io::ErrorKind,
    },
}

/// Why there is no proof.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProveError {
    /// A tile that the tree needs could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The tree of this size has no such leaf.
    #[error("leaf {index} is not in a tree of size {size}; ask for a newer size")]
    IndexBeyondSize {
        /// The leaf asked for.
        index: LeafIndex,
        /// The size of the tree.
        size: TreeSize,
    },
    /// Every tree extends the empty tree, so that nothing can be proven.
    #[error("there is no consistency proof from the empty tree; start from a size of at least one")]
    OlderIsEmpty,
    /// The older tree is the larger one.
    #[error("a tree of size {newer} cannot be consistent with a larger one of size {older}")]
    OlderBeyondNewer {
        /// The size given as the older one.
        older: TreeSize,
        /// The size of the prover's tree.
        newer: TreeSize,
    },
}

impl From<ProveError> for io::Error {
    fn from(error: ProveError) -> Self {
        let kind = match &error {
            ProveError::Read(ReadError::Missing(_)) => io::ErrorKind::InvalidData,
            ProveError::Read(ReadError::Unreadable { kind, .. }) => *kind,
            ProveError::IndexBeyondSize { .. }
            | ProveError::OlderIsEmpty
            | ProveError::OlderBeyondNewer { .. } => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}

/// Proves facts about the tree of one size. Keeps the inner nodes of the tiles it has read, so that the proofs of one
/// batch, which share most tiles, cost little more than one.
#[derive(Debug)]
pub struct Prover<'a, R: ?Sized> {
    reader: &'a R,
    hash: TreeHash,
    size: TreeSize,
    /// At most [`MAX_KEPT_TREES`], by level and index.
    kept: BTreeMap<(u8, u64), TileTree>,
}

impl<'a, R: TileReader + ?Sized> Prover<'a, R> {
    /// A prover for the tree of this size, which the tiles must cover.
    #[must_use]
    pub const fn new(reader: &'a R, hash: TreeHash, size: TreeSize) -> Self {
        Self {
            reader,
            hash,
            size,
            kept: BTreeMap::new(),
        }
    }

    /// The root of the tree.
    ///
    /// # Errors
    /// [`ProveError::Read`] if a tile at the right edge cannot be read.
    pub fn root(&mut self) -> Result<Hash, ProveError> {
        if self.size.0 == 0 {
            return Ok(self.hash.empty());
        }
        let mut top = 0;
        while self.nodes_on(top) > u64::from(TILE_WIDTH) {
            top += 1;
        }
        Ok(self.tree(top, 0)?.root())
    }

    /// The audit path of a leaf, its sibling first (RFC 6962, section 2.1.1).
    ///
    /// # Errors
    /// [`ProveError::IndexBeyondSize`], or [`ProveError::Read`] if a tile on the way cannot be read.
    pub fn inclusion(&mut self, index: LeafIndex) -> Result<Vec<Hash>, ProveError> {
        if !self.size.contains(index) {
            return Err(ProveError::IndexBeyondSize {
                index,
                size: self.size,
            });
        }
        self.path_from(0, index.0)
    }

    /// The proof that the first `older` leaves are the tree of size `older` (RFC 6962, section 2.1.2); empty if the sizes
    /// are equal.
    ///
    /// # Errors
    /// [`ProveError::OlderIsEmpty`], [`ProveError::OlderBeyondNewer`], or [`ProveError::Read`] if a tile on the way cannot
    /// be read.
    pub fn consistency(&mut self, older: TreeSize) -> Result<Vec<Hash>, ProveError> {
        if older > self.size {
            return Err(ProveError::OlderBeyondNewer {
                older,
                newer: self.size,
            });
        }
        if older == self.size {
            return Ok(Vec::new());
        }
        // The last complete subtree of the older tree has 2^height leaves: 2^inner nodes on this tile level, of which
        // `last` is the last.
        let height = older.0.trailing_zeros();
        let level = u8::try_from(height / TILE_HEIGHT).unwrap_or(u8::MAX);
        let inner = height % TILE_HEIGHT;
        let last = row_len(older, level)
            .checked_sub(1)
            .ok_or(ProveError::OlderIsEmpty)?;
        let path = self.path_from(level, last)?;
        let mut proof = Vec::with_capacity(path.len() + 1);
        if !older.0.is_power_of_two() {
            proof.push(self.subtree(level, last, inner)?);
        }
        // The first `inner` hashes of the path lie inside the subtree.
        let inside = usize::try_from(inner).unwrap_or(usize::MAX);
        proof.extend(path.into_iter().skip(inside));
        Ok(proof)
    }

    /// The path of a node of a tile level up to the root.
    fn path_from(&mut self, mut level: u8, mut index: u64) -> Result<Vec<Hash>, ProveError> {
        let mut path = Vec::new();
        loop {
            let (tile, position) = split_index(index);
            let tree = self.tree(level, tile)?;
            path.extend(tree.path(usize::from(position)).unwrap_or_default());
            if self.nodes_on(level) <= u64::from(TILE_WIDTH) {
                return Ok(path);
            }
            (level, index) = (level + 1, tile);
        }
    }

    /// The root of the `2^inner` nodes that end with node `last` of a tile level. They lie in one tile.
    fn subtree(&self, level: u8, last: u64, inner: u32) -> Result<Hash, ProveError> {
        let (tile, position) = split_index(last);
        let hashes = self.read(level, tile, u16::from(position) + 1)?;
        let skipped = hashes.len().saturating_sub(1 << inner);
        Ok(TileTree::new(self.hash, hashes.get(skipped..).unwrap_or_default()).root())
    }

    /// How many nodes the tree has on a tile level, the ragged one included.
    fn nodes_on(&self, level: u8) -> u64 {
        row_len(self.size, level) + u64::from(self.is_ragged(level))
    }

    /// Whether the last node of a tile level covers fewer leaves than the others.
    fn is_ragged(&self, level: u8) -> bool {
        let leaves = 1_u64.checked_shl(u32::from(level) * TILE_HEIGHT);
        leaves.is_none_or(|leaves| !self.size.0.is_multiple_of(leaves))
    }

    /// The tree over the nodes of one tile, the ragged one included.
    fn tree(&mut self, level: u8, tile: u64) -> Result<&TileTree, ProveError> {
        let tree = match self.kept.remove(&(level, tile)) {
            Some(tree) => tree,
            None => self.build(level, tile)?,
        };
        if self.kept.len() >= MAX_KEPT_TREES {
            // The leftmost tile on the lowest level is the least likely to be on the next path.
            self.kept.pop_first();
        }
        Ok(self.kept.entry((level, tile)).or_insert(tree))
    }

    fn build(&mut self, level: u8, tile: u64) -> Result<TileTree, ProveError> {
        let (full_tiles, partial) = split_index(row_len(self.size, level));
        let mut hashes = match (tile < full_tiles, partial) {
            (true, _) => self.read(level, tile, TILE_WIDTH)?,
            (false, 0) => Vec::new(),
            (false, width) => self.read(level, tile, u16::from(width))?,
        };
        if tile == full_tiles && self.is_ragged(level) {
            // The ragged node is over the tile below it at the right edge.
            let below = row_len(self.size, level);
            hashes.push(self.tree(level.saturating_sub(1), below)?.root());
        }
        Ok(TileTree::new(self.hash, &hashes))
    }

    fn read(&self, level: u8, index: u64, width: u16) -> Result<Vec<Hash>, ProveError> {
        let tile = Tile {
            level,
            index,
            width,
        };
        let mut hashes = self.reader.read_tile(&tile)?;
        hashes.truncate(usize::from(width));
        if hashes.len() < usize::from(width) {
            return Err(ReadError::Missing(tile).into());
        }
        Ok(hashes)
    }
}

/// Tiles in memory: for tests, and for readers that rebuild a ledger as they stream it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryTiles {
    /// Every stored hash by level and index in its level.
    hashes: BTreeMap<(u8, u64), Hash>,
}

impl MemoryTiles {
    /// No tiles.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            hashes: BTreeMap::new(),
        }
    }

    /// Stores what an append says.
    pub fn store(&mut self, writes: &[TileWrite]) {
        for write in writes {
            let index = first_of_tile(write.tile) | u64::from(write.position);
            self.hashes.insert((write.level, index), write.hash);
        }
    }
}

impl TileReader for MemoryTiles {
    fn read_tile(&self, tile: &Tile) -> Result<Vec<Hash>, ReadError> {
        let first = first_of_tile(tile.index);
        (first..first.saturating_add(u64::from(tile.width)))
            .map(|index| self.hashes.get(&(tile.level, index)).copied())
            .collect::<Option<_>>()
            .ok_or(ReadError::Missing(*tile))
    }
}

/// The index in its level of a tile's first hash. Bits beyond 64 name no tile and are lost.
const fn first_of_tile(tile: u64) -> u64 {
    tile << TILE_HEIGHT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::frontier::Frontier;

    fn tiles(size: u64) -> MemoryTiles {
        let (mut frontier, mut tiles) = (Frontier::new(TreeHash::Sha256), MemoryTiles::new());
        for index in 0..size {
            tiles.store(&frontier.append(TreeHash::Sha256.leaf(&index.to_be_bytes())));
        }
        tiles
    }

    #[test]
    fn a_missing_tile_is_an_error_that_names_it() {
        let tiles = tiles(300);
        let mut prover = Prover::new(&tiles, TreeHash::Sha256, TreeSize(600));
        let missing = |level, index, width| {
            Err(ReadError::Missing(Tile {
                level,
                index,
                width,
            })
            .into())
        };
        assert_eq!(
            prover.root(),
            missing(1, 0, 2).map(|()| TreeHash::Sha256.empty())
        );
        assert_eq!(
            prover.inclusion(LeafIndex(299)),
            missing(0, 1, 256).map(|()| Vec::new())
        );
        assert_eq!(
            prover.inclusion(LeafIndex(599)),
            missing(0, 2, 88).map(|()| Vec::new())
        );
    }

    #[test]
    fn the_edges_of_the_question_are_errors() {
        let tiles = tiles(5);
        let mut prover = Prover::new(&tiles, TreeHash::Sha256, TreeSize(5));
        let (index, size) = (LeafIndex(5), TreeSize(5));
        assert_eq!(
            prover.inclusion(index),
            Err(ProveError::IndexBeyondSize { index, size })
        );
        assert_eq!(
            prover.consistency(TreeSize(0)),
            Err(ProveError::OlderIsEmpty)
        );
        let older = TreeSize(6);
        let beyond = ProveError::OlderBeyondNewer { older, newer: size };
        assert_eq!(prover.consistency(older), Err(beyond));
        assert_eq!(prover.consistency(size), Ok(Vec::new()));
    }

    #[test]
    fn the_empty_tree_has_a_root_and_no_proofs() {
        let tiles = MemoryTiles::new();
        let mut prover = Prover::new(&tiles, TreeHash::Blake3, TreeSize(0));
        assert_eq!(prover.root(), Ok(TreeHash::Blake3.empty()));
        assert!(prover.inclusion(LeafIndex(0)).is_err());
    }

    #[test]
    fn the_largest_sizes_do_not_overflow() {
        let tiles = MemoryTiles::new();
        for size in [TreeSize::MAX, TreeSize(u64::MAX)] {
            let mut prover = Prover::new(&tiles, TreeHash::Blake3, size);
            assert!(prover.root().is_err());
            assert!(prover.inclusion(LeafIndex(size.0 - 1)).is_err());
            assert!(prover.consistency(TreeSize(1 << 62)).is_err());
        }
    }

    #[test]
    fn kept_trees_are_bounded_and_eviction_changes_no_proof() {
        let tiles = tiles(256 * 70);
        let mut prover = Prover::new(&tiles, TreeHash::Sha256, TreeSize(256 * 70));
        let paths = |prover: &mut Prover<'_, MemoryTiles>| -> Vec<Vec<Hash>> {
            (0..70)
                .map(|tile| prover.inclusion(LeafIndex(tile * 256)).unwrap())
                .collect()
        };
        let first = paths(&mut prover);
        assert!(prover.kept.len() <= MAX_KEPT_TREES);
        assert_eq!(paths(&mut prover), first);
    }
}
