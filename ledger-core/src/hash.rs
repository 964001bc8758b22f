//! The hash of the ledger's Merkle tree, and the numbers that address it.
//!
//! A ledger chooses its tree hash once, at genesis, and names it in its origin. Everything above this module takes a
//! [`TreeHash`] as a value, so that one code path serves both profiles. Leaves and inner nodes are hashed with
//! different prefixes (RFC 6962, section 2.1), without which an inner node could be passed off as a leaf.

use std::fmt;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// Bytes in a [`struct@Hash`].
pub const HASH_LEN: usize = 32;

/// The prefix of a leaf's bytes before hashing (RFC 6962, section 2.1).
const LEAF_PREFIX: u8 = 0x00;
/// The prefix of two child hashes before hashing (RFC 6962, section 2.1).
const NODE_PREFIX: u8 = 0x01;
/// Bytes hashed for an inner node: the prefix and two hashes.
const NODE_INPUT_LEN: usize = 1 + 2 * HASH_LEN;
/// An origin with this ending names a BLAKE3 tree; every other origin names a SHA-256 tree.
const BLAKE3_ORIGIN_SUFFIX: &str = "/blake3";

/// A 32-byte hash: of a leaf, of an inner node, or of a whole tree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; HASH_LEN]);

impl Hash {
    /// The hash with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; HASH_LEN]) -> Self {
        Self(bytes)
    }

    /// The hash with these bytes, or `None` unless there are exactly [`HASH_LEN`] of them.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; HASH_LEN] {
        &self.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

/// The hash function of a ledger's tree, fixed at genesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TreeHash {
    /// SHA-256, the default: the only hash that C2SP tlog-tiles defines, so that witnesses and tools of others work.
    Sha256,
    /// BLAKE3, for ledgers whose origin says so.
    Blake3,
}

impl TreeHash {
    /// The tree hash of the ledger with this origin: BLAKE3 if the origin ends in `/blake3`, otherwise SHA-256.
    ///
    /// The origin is in the verifier's own trust policy, so that nobody else tells the verifier which hash to use.
    #[must_use]
    pub fn of_origin(origin: &str) -> Self {
        if origin.ends_with(BLAKE3_ORIGIN_SUFFIX) {
            Self::Blake3
        } else {
            Self::Sha256
        }
    }

    /// The name used in configuration: `sha256` or `blake3`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Blake3 => "blake3",
        }
    }

    /// The inverse of [`TreeHash::name`].
    ///
    /// # Errors
    /// [`UnknownTreeHash`] for any other name, a differently cased one included.
    pub fn parse(name: &str) -> Result<Self, UnknownTreeHash> {
        [Self::Sha256, Self::Blake3]
            .into_iter()
            .find(|hash| hash.name() == name)
            .ok_or(UnknownTreeHash)
    }

    /// The hash of a leaf's bytes: `H(0x00 || bytes)` (RFC 6962, section 2.1).
    #[must_use]
    pub fn leaf(self, bytes: &[u8]) -> Hash {
        self.digest(&[&[LEAF_PREFIX], bytes])
    }

    /// The hash of an inner node: `H(0x01 || left || right)` (RFC 6962, section 2.1).
    #[must_use]
    pub fn node(self, left: &Hash, right: &Hash) -> Hash {
        let mut input = [NODE_PREFIX; NODE_INPUT_LEN];
        let (_, children) = input.split_at_mut(1);
        for (to, from) in children.iter_mut().zip(left.0.iter().chain(&right.0)) {
            *to = *from;
        }
        self.digest(&[&input])
    }

    /// The root of the tree without leaves: the hash of nothing (RFC 6962, section 2.1).
    #[must_use]
    pub fn empty(self) -> Hash {
        self.digest(&[])
    }

    /// The hash of the parts, one after the other.
    fn digest(self, parts: &[&[u8]]) -> Hash {
        match self {
            Self::Sha256 => Hash(
                parts
                    .iter()
                    .fold(Sha256::new(), Sha256::chain_update)
                    .finalize()
                    .into(),
            ),
            Self::Blake3 => {
                let mut hasher = blake3::Hasher::new();
                for part in parts {
                    hasher.update(part);
                }
                Hash(hasher.finalize().into())
            }
        }
    }
}

impl fmt::Display for TreeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A tree hash name that is neither `sha256` nor `blake3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("unknown tree hash; use sha256 or blake3")]
pub struct UnknownTreeHash;

/// The zero-based position of a leaf in the ledger: the only way to refer to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeafIndex(pub u64);

impl fmt::Display for LeafIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of leaves in a tree: the first `n` leaves of the ledger are its tree of size `n`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeSize(pub u64);

impl TreeSize {
    /// The largest size that this ledger reads or writes. Other implementations hold sizes as signed 64-bit integers.
    pub const MAX: Self = Self((1 << 63) - 1);

    /// Whether the tree of this size has a leaf at `index`.
    #[must_use]
    pub const fn contains(self, index: LeafIndex) -> bool {
        index.0 < self.0
    }

    /// The index that the next appended leaf gets.
    #[must_use]
    pub const fn next_index(self) -> LeafIndex {
        LeafIndex(self.0)
    }

    /// The index of the last leaf, or `None` in the empty tree.
    #[must_use]
    pub fn last_index(self) -> Option<LeafIndex> {
        self.0.checked_sub(1).map(LeafIndex)
    }
}

impl fmt::Display for TreeSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(hash: Hash) -> String {
        hash.to_string()
    }

    #[test]
    fn sha256_bytes_are_pinned() {
        let hash = TreeHash::Sha256;
        assert_eq!(
            hex(hash.empty()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(
            hex(hash.leaf(b"")),
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
        );
        let node = hash.node(&hash.leaf(b""), &hash.leaf(&[0x00]));
        assert_eq!(
            hex(node),
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
        );
    }

    #[test]
    fn blake3_bytes_are_pinned() {
        let hash = TreeHash::Blake3;
        assert_eq!(
            hex(hash.empty()),
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        );
        assert_eq!(hex(hash.leaf(b"")), blake3::hash(&[0]).to_hex().as_str());
        let (left, right) = (hash.leaf(b"left"), hash.leaf(b"right"));
        let input: Vec<u8> = [&[1_u8][..], left.as_bytes(), right.as_bytes()].concat();
        assert_eq!(
            hex(hash.node(&left, &right)),
            blake3::hash(&input).to_hex().as_str()
        );
    }

    #[test]
    fn a_leaf_is_never_an_inner_node() {
        for hash in [TreeHash::Sha256, TreeHash::Blake3] {
            let (left, right) = (hash.leaf(b"a"), hash.leaf(b"b"));
            let children = [*left.as_bytes(), *right.as_bytes()].concat();
            assert_ne!(hash.leaf(&children), hash.node(&left, &right));
            assert_ne!(hash.node(&right, &left), hash.node(&left, &right));
        }
    }

    #[test]
    fn names_round_trip_and_others_are_refused() {
        for hash in [TreeHash::Sha256, TreeHash::Blake3] {
            assert_eq!(TreeHash::parse(hash.name()), Ok(hash));
        }
        for name in ["", "SHA256", "sha-256", "blake3 ", "md5"] {
            assert_eq!(TreeHash::parse(name), Err(UnknownTreeHash));
        }
    }

    #[test]
    fn the_origin_names_the_hash() {
        assert_eq!(
            TreeHash::of_origin("ledger.example.com/prod"),
            TreeHash::Sha256
        );
        assert_eq!(
            TreeHash::of_origin("ledger.example.com/prod/blake3"),
            TreeHash::Blake3
        );
        assert_eq!(
            TreeHash::of_origin("ledger.example.com/blake3/prod"),
            TreeHash::Sha256
        );
        assert_eq!(
            TreeHash::of_origin("ledger.example.com/notblake3"),
            TreeHash::Sha256
        );
        assert_eq!(
            TreeHash::of_origin("ledger.example.com/prod/BLAKE3"),
            TreeHash::Sha256
        );
    }

    #[test]
    fn sizes_and_indexes_agree_at_the_edges() {
        assert_eq!(TreeSize(0).last_index(), None);
        assert_eq!(TreeSize(3).last_index(), Some(LeafIndex(2)));
        assert_eq!(TreeSize(3).next_index(), LeafIndex(3));
        assert!(TreeSize(3).contains(LeafIndex(2)));
        assert!(!TreeSize(3).contains(LeafIndex(3)));
    }

    #[test]
    fn a_hash_is_exactly_32_bytes() {
        assert!(Hash::from_slice(&[7; 31]).is_none());
        assert!(Hash::from_slice(&[7; 33]).is_none());
        assert_eq!(Hash::from_slice(&[7; 32]), Some(Hash::from_bytes([7; 32])));
    }
}
