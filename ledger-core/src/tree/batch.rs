//! The tree over the commands that share one signature.
//!
//! A client signs up to [`MAX_BATCH`] commands at once by signing the RFC 6962 root over their bytes; each command then
//! travels alone with its audit path. The hash is BLAKE3 whatever the ledger's tree hash is: this tree is never seen by
//! witnesses.

use thiserror::Error;

use super::tile_tree::TileTree;
use super::verify::{ProofError, root_from_inclusion_path};
use crate::hash::{Hash, LeafIndex, TreeHash, TreeSize};

/// The most commands under one signature.
pub const MAX_BATCH: usize = 64;
/// The longest audit path in a batch of [`MAX_BATCH`] commands.
pub const MAX_BATCH_PATH: usize = 6;

/// The hash of batch trees.
const BATCH_HASH: TreeHash = TreeHash::Blake3;

/// Why there is no root or path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BatchError {
    /// A batch holds one to [`MAX_BATCH`] commands.
    #[error("a batch of {0} commands cannot be signed; use 1 to {MAX_BATCH}")]
    Size(u64),
    /// The index, the size and the path do not fit together.
    #[error(transparent)]
    Path(#[from] ProofError),
}

/// The root that one signature covers: RFC 6962 with BLAKE3 over the commands' bytes, in order.
///
/// # Errors
/// [`BatchError::Size`] unless there are 1 to [`MAX_BATCH`] commands.
pub fn batch_root(commands: &[&[u8]]) -> Result<Hash, BatchError> {
    tree(commands).map(|tree| tree.root())
}

/// The audit path of command `index`, its sibling first; empty in a batch of one.
///
/// # Errors
/// [`BatchError::Size`] unless there are 1 to [`MAX_BATCH`] commands, [`ProofError::IndexBeyondSize`] for an index that
/// none of them has.
pub fn batch_path(commands: &[&[u8]], index: usize) -> Result<Vec<Hash>, BatchError> {
    let (at, size) = (LeafIndex(to_u64(index)), TreeSize(to_u64(commands.len())));
    let path = tree(commands)?
        .path(index)
        .ok_or(ProofError::IndexBeyondSize { index: at, size })?;
    Ok(path)
}

/// The root to which a command and its path lead. The caller checks the signature over `size` and this root.
///
/// # Errors
/// [`BatchError::Size`] unless `size` is 1 to [`MAX_BATCH`]; [`BatchError::Path`] if the index is not below the size or
/// the path does not have exactly the length that both demand.
pub fn batch_root_from_path(
    command: &[u8],
    index: u32,
    size: u32,
    path: &[Hash],
) -> Result<Hash, BatchError> {
    check_size(u64::from(size))?;
    let (index, size) = (LeafIndex(u64::from(index)), TreeSize(u64::from(size)));
    Ok(root_from_inclusion_path(
        BATCH_HASH,
        &BATCH_HASH.leaf(command),
        index,
        size,
        path,
    )?)
}

fn tree(commands: &[&[u8]]) -> Result<TileTree, BatchError> {
    check_size(to_u64(commands.len()))?;
    let leaves: Vec<Hash> = commands
        .iter()
        .map(|command| BATCH_HASH.leaf(command))
        .collect();
    Ok(TileTree::new(BATCH_HASH, &leaves))
}

fn check_size(size: u64) -> Result<(), BatchError> {
    if (1..=to_u64(MAX_BATCH)).contains(&size) {
        Ok(())
    } else {
        Err(BatchError::Size(size))
    }
}

/// A count as a 64-bit number; no supported machine counts higher.
fn to_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(count: usize) -> Vec<Vec<u8>> {
        (0..count)
            .map(|index| format!("command {index}").into_bytes())
            .collect()
    }

    fn slices(commands: &[Vec<u8>]) -> Vec<&[u8]> {
        commands.iter().map(Vec::as_slice).collect()
    }

    fn small(count: usize) -> u32 {
        u32::try_from(count).unwrap()
    }

    #[test]
    fn every_command_of_every_batch_size_leads_to_the_root() {
        let mut longest = 0;
        for size in 1..=MAX_BATCH {
            let commands = commands(size);
            let slices = slices(&commands);
            let root = batch_root(&slices).unwrap();
            for (index, command) in slices.iter().enumerate() {
                let path = batch_path(&slices, index).unwrap();
                longest = longest.max(path.len());
                let at = |other| batch_root_from_path(command, small(other), small(size), &path);
                assert_eq!(at(index), Ok(root));
                for other in (0..size).filter(|other| *other != index) {
                    assert_ne!(at(other), Ok(root), "command {index} at {other} of {size}");
                }
                assert_ne!(
                    batch_root_from_path(b"forged", small(index), small(size), &path),
                    Ok(root)
                );
            }
        }
        assert_eq!(longest, MAX_BATCH_PATH);
    }

    #[test]
    fn bytes_are_pinned() {
        let root = batch_root(&[b"a"]).unwrap();
        assert_eq!(root, TreeHash::Blake3.leaf(b"a"));
        assert_eq!(batch_path(&[b"a"], 0), Ok(Vec::new()));
        let root = batch_root(&[b"a", b"b", b"c"]).unwrap();
        let [a, b, c] = [b"a", b"b", b"c"].map(|command| TreeHash::Blake3.leaf(command));
        assert_eq!(
            root,
            TreeHash::Blake3.node(&TreeHash::Blake3.node(&a, &b), &c)
        );
        assert_eq!(
            root.to_string(),
            "6c62dd52a0971b7d00a7cead004e0c3f3c0766e3f5359a0f8297768d2b02d03c"
        );
    }

    #[test]
    fn a_path_has_exactly_one_length() {
        let commands = commands(5);
        let slices = slices(&commands);
        let path = batch_path(&slices, 1).unwrap();
        let long = [&path[..], &path[..1]].concat();
        let verify = |path: &[Hash]| batch_root_from_path(&commands[1], 1, 5, path);
        assert!(verify(&path).is_ok());
        assert_eq!(verify(&long), Err(ProofError::TooManyHashes.into()));
        assert_eq!(verify(&path[1..]), Err(ProofError::TooFewHashes.into()));
    }

    #[test]
    fn limits_are_errors_one_past_them() {
        let commands = commands(MAX_BATCH + 1);
        let slices = slices(&commands);
        assert_eq!(batch_root(&slices), Err(BatchError::Size(65)));
        assert_eq!(batch_root(&[]), Err(BatchError::Size(0)));
        assert_eq!(batch_path(&slices, 0), Err(BatchError::Size(65)));
        assert_eq!(
            batch_root_from_path(b"", 0, 0, &[]),
            Err(BatchError::Size(0))
        );
        assert_eq!(
            batch_root_from_path(b"", 0, 65, &[]),
            Err(BatchError::Size(65))
        );
        let (index, size) = (LeafIndex(3), TreeSize(3));
        let beyond = BatchError::Path(ProofError::IndexBeyondSize { index, size });
        assert_eq!(batch_path(&slices[..3], 3), Err(beyond));
        assert_eq!(batch_root_from_path(b"", 3, 3, &[]), Err(beyond));
    }
}
