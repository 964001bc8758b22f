//! The small tree over the hashes of one tile, built by `rs_merkle`.
//!
//! `rs_merkle` computes roots and single-leaf paths of trees of at most 256 leaves, nothing else: it promotes an
//! unpaired node, which is the RFC 6962 shape, and takes the 0x01 prefix from our `Hasher`. Its proof verification is
//! never used, because version 1.5.0 accepts forged leaves (rs-merkle issue 52); see [`super::verify`].

use std::fmt;

use rs_merkle::{Hasher, MerkleTree};

use crate::hash::{HASH_LEN, Hash, TreeHash};

/// `rs_merkle`'s view of SHA-256 trees.
#[derive(Clone)]
struct Sha256Nodes;
/// `rs_merkle`'s view of BLAKE3 trees.
#[derive(Clone)]
struct Blake3Nodes;

impl Hasher for Sha256Nodes {
    type Hash = [u8; HASH_LEN];

    fn hash(data: &[u8]) -> Self::Hash {
        *TreeHash::Sha256.leaf(data).as_bytes()
    }

    fn concat_and_hash(left: &Self::Hash, right: Option<&Self::Hash>) -> Self::Hash {
        parent(TreeHash::Sha256, left, right)
    }
}

impl Hasher for Blake3Nodes {
    type Hash = [u8; HASH_LEN];

    fn hash(data: &[u8]) -> Self::Hash {
        *TreeHash::Blake3.leaf(data).as_bytes()
    }

    fn concat_and_hash(left: &Self::Hash, right: Option<&Self::Hash>) -> Self::Hash {
        parent(TreeHash::Blake3, left, right)
    }
}

/// The parent of two nodes; a node without a right sibling is promoted unchanged.
fn parent(hash: TreeHash, left: &[u8; HASH_LEN], right: Option<&[u8; HASH_LEN]>) -> [u8; HASH_LEN] {
    match right {
        Some(right) => *hash
            .node(&Hash::from_bytes(*left), &Hash::from_bytes(*right))
            .as_bytes(),
        None => *left,
    }
}

/// The RFC 6962 tree over a few given hashes: those of a tile, or the leaf hashes of a command batch.
#[derive(Clone)]
pub(super) struct TileTree {
    /// The hash profile, for the root of the empty tree.
    hash: TreeHash,
    /// How many hashes the tree is over.
    width: usize,
    /// All inner nodes.
    nodes: Nodes,
}

/// `rs_merkle` fixes the hash function in the type; this is where a runtime value chooses it.
#[derive(Clone)]
enum Nodes {
    Sha256(MerkleTree<Sha256Nodes>),
    Blake3(MerkleTree<Blake3Nodes>),
}

impl TileTree {
    /// Builds the tree over these hashes. Costs O(n) hashing and about 160 bytes per hash.
    pub(super) fn new(hash: TreeHash, hashes: &[Hash]) -> Self {
        let leaves: Vec<[u8; HASH_LEN]> = hashes.iter().map(|hash| *hash.as_bytes()).collect();
        let nodes = match hash {
            TreeHash::Sha256 => Nodes::Sha256(MerkleTree::from_leaves(&leaves)),
            TreeHash::Blake3 => Nodes::Blake3(MerkleTree::from_leaves(&leaves)),
        };
        Self {
            hash,
            width: leaves.len(),
            nodes,
        }
    }

    /// The root; the hash of nothing if the tree is empty.
    pub(super) fn root(&self) -> Hash {
        let root = match &self.nodes {
            Nodes::Sha256(tree) => tree.root(),
            Nodes::Blake3(tree) => tree.root(),
        };
        root.map_or_else(|| self.hash.empty(), Hash::from_bytes)
    }

    /// The audit path of one leaf, its sibling first (RFC 6962, section 2.1.1). `None` if there is no such leaf, which
    /// `rs_merkle` itself does not notice.
    pub(super) fn path(&self, position: usize) -> Option<Vec<Hash>> {
        if position >= self.width {
            return None;
        }
        let of = |hashes: &[[u8; HASH_LEN]]| hashes.iter().copied().map(Hash::from_bytes).collect();
        Some(match &self.nodes {
            Nodes::Sha256(tree) => of(tree.proof(&[position]).proof_hashes()),
            Nodes::Blake3(tree) => of(tree.proof(&[position]).proof_hashes()),
        })
    }
}

impl fmt::Debug for TileTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TileTree")
            .field("width", &self.width)
            .field("root", &self.root())
            .finish_non_exhaustive()
    }
}
