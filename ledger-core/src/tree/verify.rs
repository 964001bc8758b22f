//! Checking inclusion and consistency proofs: RFC 9162, sections 2.1.3.2 and 2.1.4.2.
//!
//! A root does not commit to its size: with honest roots, one proof may verify at several sizes. Size and root therefore
//! always come together, from a verified checkpoint, never from the one who presents the proof. Every hash of a proof is
//! consumed, so that no two proofs of the same fact exist.

use thiserror::Error;

use crate::hash::{Hash, LeafIndex, TreeHash, TreeSize};

/// Why a proof proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProofError {
    /// The tree of this size has no such leaf.
    #[error("leaf {index} is not in a tree of size {size}; fetch a newer checkpoint")]
    IndexBeyondSize {
        /// The leaf asked about.
        index: LeafIndex,
        /// The size of the tree.
        size: TreeSize,
    },
    /// The proof ends before the root is reached.
    #[error("the proof has too few hashes")]
    TooFewHashes,
    /// The root is reached before the proof ends.
    #[error("the proof has too many hashes")]
    TooManyHashes,
    /// The leaf and the path lead to another root.
    #[error("the leaf hash and the path lead to another root than the checkpoint's")]
    RootMismatch,
    /// Every tree extends the empty tree, so that a proof from it says nothing.
    #[error(
        "consistency with the empty tree proves nothing; start from a checkpoint with at least one entry"
    )]
    OlderIsEmpty,
    /// The tree called older is the larger one.
    #[error("the older tree has {older} leaves and the newer only {newer}")]
    OlderBeyondNewer {
        /// The size given as the older one.
        older: TreeSize,
        /// The size given as the newer one.
        newer: TreeSize,
    },
    /// The proof does not lead to the older root: the older tree is not a prefix of what is proven.
    #[error("the proof does not lead to the older root: the ledger was rewritten or forked")]
    OlderRootMismatch,
    /// The proof does not lead to the newer root.
    #[error("the proof does not lead to the newer root: the ledger was rewritten or forked")]
    NewerRootMismatch,
}

/// Checks that the leaf with this hash is at `index` in the tree with this size and root (RFC 9162, section 2.1.3.2).
///
/// # Errors
/// What is wrong, as a [`ProofError`]. Costs at most one hash per hash in `path`.
pub fn verify_inclusion(
    hash: TreeHash,
    leaf_hash: &Hash,
    index: LeafIndex,
    size: TreeSize,
    path: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    let reached = root_from_inclusion_path(hash, leaf_hash, index, size, path)?;
    if reached == *root {
        Ok(())
    } else {
        Err(ProofError::RootMismatch)
    }
}

/// The root to which a leaf and its audit path lead, without an opinion whether it is the right one.
///
/// # Errors
/// [`ProofError`] if the index is not below the size or the path does not have exactly the length that both demand.
pub fn root_from_inclusion_path(
    hash: TreeHash,
    leaf_hash: &Hash,
    index: LeafIndex,
    size: TreeSize,
    path: &[Hash],
) -> Result<Hash, ProofError> {
    let mut walk = match size.last_index() {
        Some(last) if index <= last => Walk {
            node: index.0,
            last: last.0,
        },
        _ => return Err(ProofError::IndexBeyondSize { index, size }),
    };
    let mut reached = *leaf_hash;
    for sibling in path {
        reached = match walk.step()? {
            Side::Left => hash.node(sibling, &reached),
            Side::Right => hash.node(&reached, sibling),
        };
    }
    walk.finish()?;
    Ok(reached)
}

/// Checks that the first `older` leaves of the newer tree are the older tree (RFC 9162, section 2.1.4.2).
///
/// Equal sizes need equal roots and an empty proof.
///
/// # Errors
/// What is wrong, as a [`ProofError`]; [`ProofError::OlderIsEmpty`] for size 0, which proves nothing whatever the rest.
pub fn verify_consistency(
    hash: TreeHash,
    older: TreeSize,
    older_root: &Hash,
    newer: TreeSize,
    newer_root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    let (Some(older_last), Some(newer_last)) = (older.last_index(), newer.last_index()) else {
        return Err(if older.0 == 0 {
            ProofError::OlderIsEmpty
        } else {
            ProofError::OlderBeyondNewer { older, newer }
        });
    };
    if older > newer {
        return Err(ProofError::OlderBeyondNewer { older, newer });
    }
    if older == newer {
        if !proof.is_empty() {
            return Err(ProofError::TooManyHashes);
        }
        return if older_root == newer_root {
            Ok(())
        } else {
            Err(ProofError::OlderRootMismatch)
        };
    }
    // The proof starts with the largest complete subtree that ends where the older tree ends. If that is the whole
    // older tree, its root is known and left out.
    let (start, rest) = if older.0.is_power_of_two() {
        (older_root, proof)
    } else {
        proof.split_first().ok_or(ProofError::TooFewHashes)?
    };
    let height = older.0.trailing_zeros();
    let mut walk = Walk {
        node: older_last.0 >> height,
        last: newer_last.0 >> height,
    };
    let (mut older_reached, mut newer_reached) = (*start, *start);
    for sibling in rest {
        match walk.step()? {
            Side::Left => {
                older_reached = hash.node(sibling, &older_reached);
                newer_reached = hash.node(sibling, &newer_reached);
            }
            Side::Right => newer_reached = hash.node(&newer_reached, sibling),
        }
    }
    walk.finish()?;
    if older_reached != *older_root {
        return Err(ProofError::OlderRootMismatch);
    }
    if newer_reached != *newer_root {
        return Err(ProofError::NewerRootMismatch);
    }
    Ok(())
}

/// On which side of the node reached so far its sibling stands.
enum Side {
    Left,
    Right,
}

/// The way from a node up to the root: `fn` and `sn` of RFC 9162.
struct Walk {
    /// The node's index in its row (`fn`).
    node: u64,
    /// The index of the last node in that row (`sn`).
    last: u64,
}

impl Walk {
    /// Goes up to the parent that has a sibling below it, and says on which side that sibling is.
    fn step(&mut self) -> Result<Side, ProofError> {
        if self.last == 0 {
            return Err(ProofError::TooManyHashes);
        }
        let side = if self.node % 2 == 1 || self.node == self.last {
            // A last node in an even place has no sibling: it stands for its parents until it is a right child.
            self.up(self.node.trailing_zeros());
            Side::Left
        } else {
            Side::Right
        };
        self.up(1);
        Ok(side)
    }

    const fn up(&mut self, rows: u32) {
        self.node >>= rows;
        self.last >>= rows;
    }

    /// Accepts that no hash is left only at the root.
    const fn finish(&self) -> Result<(), ProofError> {
        if self.last == 0 {
            Ok(())
        } else {
            Err(ProofError::TooFewHashes)
        }
    }
}
