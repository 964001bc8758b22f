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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frontier(hash: TreeHash, size: u64) -> Frontier {
        let mut frontier = Frontier::new(hash);
        for index in 0..size {
            frontier.append(hash.leaf(&index.to_be_bytes()));
        }
        frontier
    }

    #[test]
    fn bytes_are_pinned() {
        let hash = TreeHash::Sha256;
        let (a, b, c) = (hash.leaf(b"a"), hash.leaf(b"b"), hash.leaf(b"c"));
        let mut frontier = Frontier::new(hash);
        assert_eq!(frontier.to_bytes(), [0; 8]);
        for leaf in [a, b, c] {
            frontier.append(leaf);
        }
        let expected = [
            &3_u64.to_be_bytes()[..],
            hash.node(&a, &b).as_bytes(),
            c.as_bytes(),
        ]
        .concat();
        assert_eq!(frontier.to_bytes(), expected);
        assert_eq!(frontier.root(), hash.node(&hash.node(&a, &b), &c));
        assert_eq!(
            frontier.root().to_string(),
            "36642e73c2540ab121e3a6bf9545b0a24982cd830eb13d3cd19de3ce6c021ec1"
        );
    }

    #[test]
    fn an_append_writes_the_leaf_and_the_roots_of_the_tiles_it_fills() {
        let mut frontier = frontier(TreeHash::Blake3, 255);
        let root_of_tile = {
            let mut filled = frontier.clone();
            filled.append(TreeHash::Blake3.leaf(b"last"));
            filled.root()
        };
        let last = TreeHash::Blake3.leaf(b"last");
        let writes = frontier.append(last);
        let leaf_write = TileWrite {
            level: 0,
            tile: 0,
            position: 255,
            hash: last,
        };
        let tile_write = TileWrite {
            level: 1,
            tile: 0,
            position: 0,
            hash: root_of_tile,
        };
        assert_eq!(writes, [leaf_write, tile_write]);
        let next = frontier.append(last);
        assert_eq!(
            next,
            [TileWrite {
                level: 0,
                tile: 1,
                position: 0,
                hash: last
            }]
        );
    }

    proptest! {
        #[test]
        fn bytes_round_trip_and_appending_goes_on_the_same(size in 0..1200_u64, blake3 in any::<bool>()) {
            let hash = if blake3 { TreeHash::Blake3 } else { TreeHash::Sha256 };
            let mut before = frontier(hash, size);
            let mut after = Frontier::from_bytes(hash, &before.to_bytes()).unwrap();
            prop_assert_eq!(&after, &before);
            let leaf = hash.leaf(b"next");
            prop_assert_eq!(before.append(leaf), after.append(leaf));
            prop_assert_eq!(before.root(), after.root());
        }

        #[test]
        fn only_canonical_bytes_decode(bytes in prop::collection::vec(any::<u8>(), 0..300), size in 0..16_u64) {
            let sized = [&size.to_be_bytes()[..], &bytes].concat();
            for bytes in [bytes, sized] {
                if let Ok(frontier) = Frontier::from_bytes(TreeHash::Sha256, &bytes) {
                    prop_assert_eq!(frontier.to_bytes(), bytes);
                }
            }
        }
    }

    #[test]
    fn other_lengths_and_impossible_sizes_are_refused() {
        let bytes = frontier(TreeHash::Sha256, 7).to_bytes();
        let decode = |bytes: &[u8]| Frontier::from_bytes(TreeHash::Sha256, bytes);
        for length in 0..bytes.len() {
            assert_eq!(
                decode(&bytes[..length]),
                Err(FrontierError::Length),
                "{length}"
            );
        }
        assert_eq!(
            decode(&[&bytes[..], &[0; HASH_LEN]].concat()),
            Err(FrontierError::Length)
        );
        let impossible = TreeSize(1 << 63);
        let bytes = [&impossible.0.to_be_bytes()[..], &[0; HASH_LEN]].concat();
        assert_eq!(decode(&bytes), Err(FrontierError::Size(impossible)));
        let largest = [&TreeSize::MAX.0.to_be_bytes()[..], &[0; 63 * HASH_LEN]].concat();
        assert_eq!(largest.len(), MAX_FRONTIER_LEN);
        assert_eq!(
            decode(&largest).map(|frontier| frontier.size()),
            Ok(TreeSize::MAX)
        );
    }
}
