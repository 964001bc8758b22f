//! What must never verify: other places, other sizes, other bits, other lengths.

use proptest::prelude::*;

use super::proof::{Prover, ReadError, TileReader};
use super::test_ledger::{EVERY_SIZE, Ledger, flat, index_of, profiles, size_of};
use super::tile::Tile;
use super::verify::{ProofError, root_from_inclusion_path, verify_consistency, verify_inclusion};
use crate::hash::{HASH_LEN, Hash, LeafIndex, TreeHash, TreeSize};

#[test]
fn a_proof_never_verifies_for_another_index_or_another_size() {
    let largest = 70;
    let mut refused = 0_u32;
    for hash in profiles() {
        let ledger = Ledger::new(hash, largest);
        for size in 1..=largest {
            let mut prover = ledger.prover(size);
            for index in 0..size {
                let (leaf, path) = (
                    &ledger.leaves[index],
                    prover.inclusion(index_of(index)).unwrap(),
                );
                let mut verify = |index: usize, size: usize| {
                    let (place, count, root) =
                        (index_of(index), size_of(size), &ledger.roots[size]);
                    let verified = verify_inclusion(hash, leaf, place, count, &path, root);
                    refused += u32::from(verified.is_err());
                    verified
                };
                assert_eq!(verify(index, size), Ok(()));
                for other in (0..=2 * size).filter(|other| *other != index) {
                    assert!(
                        verify(other, size).is_err(),
                        "leaf {index} of {size} at {other}"
                    );
                }
                // A root does not commit to its size, but every size has its own root.
                for other in (0..=largest).filter(|other| *other != size) {
                    assert!(
                        verify(index, other).is_err(),
                        "leaf {index} of {size} in {other}"
                    );
                }
            }
        }
    }
    assert_eq!(refused, 815_080);
}

#[test]
fn a_consistency_proof_never_verifies_between_other_sizes() {
    let largest = 40;
    let pairs = || (0..=largest).flat_map(|from| (0..=largest).map(move |to| (from, to)));
    for hash in profiles() {
        let ledger = Ledger::new(hash, largest);
        for size in 2..=largest {
            let mut prover = ledger.prover(size);
            for older in 1..size {
                let proof = prover.consistency(size_of(older)).unwrap();
                for (from, to) in pairs() {
                    let (from_root, to_root) = (&ledger.roots[from], &ledger.roots[to]);
                    let (from_size, to_size) = (size_of(from), size_of(to));
                    let verified =
                        verify_consistency(hash, from_size, from_root, to_size, to_root, &proof);
                    assert_eq!(
                        verified.is_ok(),
                        (from, to) == (older, size),
                        "{from} to {to}"
                    );
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn a_changed_inclusion_proof_never_verifies(
        size in 1..EVERY_SIZE, index in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(),
        bit in 0..8_u8, blake3 in any::<bool>(),
    ) {
        let hash = if blake3 { TreeHash::Blake3 } else { TreeHash::Sha256 };
        let ledger = Ledger::new(hash, size);
        let index = index.index(size);
        let (place, count) = (index_of(index), size_of(size));
        let path = ledger.prover(size).inclusion(place).unwrap();
        let root = ledger.roots[size];

        // Leaf, path and root in one string of bits, each of which matters.
        let mut bytes = flat(&[&[ledger.leaves[index]], &path[..], &[root]].concat());
        let byte = at.index(bytes.len());
        bytes[byte] ^= 1 << bit;
        let hashes: Vec<Hash> = bytes.chunks(HASH_LEN).filter_map(Hash::from_slice).collect();
        let (leaf, changed, changed_root) = (&hashes[0], &hashes[1..=path.len()], &hashes[path.len() + 1]);
        let verified = verify_inclusion(hash, leaf, place, count, changed, changed_root);
        prop_assert_eq!(verified, Err(ProofError::RootMismatch));

        // Longer, shorter, in another order.
        let leaf = &ledger.leaves[index];
        let position = at.index(path.len() + 1);
        let mut longer = path.clone();
        longer.insert(position, root);
        let verified = root_from_inclusion_path(hash, leaf, place, count, &longer);
        prop_assert_eq!(verified, Err(ProofError::TooManyHashes));
        if !path.is_empty() {
            let position = at.index(path.len());
            let mut shorter = path.clone();
            shorter.remove(position);
            let verified = root_from_inclusion_path(hash, leaf, place, count, &shorter);
            prop_assert_eq!(verified, Err(ProofError::TooFewHashes));
            let mut swapped = path;
            swapped.swap(0, position);
            let verified = verify_inclusion(hash, leaf, place, count, &swapped, &root);
            prop_assert_eq!(verified.is_ok(), position == 0);
        }
    }

    #[test]
    fn a_changed_consistency_proof_never_verifies(
        size in 2..EVERY_SIZE, older in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(),
        bit in 0..8_u8, blake3 in any::<bool>(),
    ) {
        let hash = if blake3 { TreeHash::Blake3 } else { TreeHash::Sha256 };
        let ledger = Ledger::new(hash, size);
        let older = older.index(size - 1) + 1;
        let (from, to) = (size_of(older), size_of(size));
        let proof = ledger.prover(size).consistency(from).unwrap();
        let (older_root, newer_root) = (ledger.roots[older], ledger.roots[size]);

        let mut bytes = flat(&[&[older_root], &proof[..], &[newer_root]].concat());
        let byte = at.index(bytes.len());
        bytes[byte] ^= 1 << bit;
        let hashes: Vec<Hash> = bytes.chunks(HASH_LEN).filter_map(Hash::from_slice).collect();
        let (changed, last) = (&hashes[1..=proof.len()], &hashes[proof.len() + 1]);
        let verified = verify_consistency(hash, from, &hashes[0], to, last, changed);
        let mismatch = matches!(
            verified,
            Err(ProofError::OlderRootMismatch | ProofError::NewerRootMismatch)
        );
        prop_assert!(mismatch, "{verified:?}");

        let mut longer = proof.clone();
        longer.insert(at.index(proof.len() + 1), newer_root);
        let verified = verify_consistency(hash, from, &older_root, to, &newer_root, &longer);
        prop_assert_eq!(verified, Err(ProofError::TooManyHashes));
        let mut shorter = proof.clone();
        shorter.remove(at.index(proof.len()));
        let verified = verify_consistency(hash, from, &older_root, to, &newer_root, &shorter);
        prop_assert_eq!(verified, Err(ProofError::TooFewHashes));
    }

    #[test]
    fn verification_takes_any_numbers_without_panicking(
        index in any::<u64>(), older in any::<u64>(), size in any::<u64>(), length in 0..70_usize,
    ) {
        let hash = TreeHash::Blake3;
        let path = vec![hash.empty(); length];
        let root = hash.empty();
        let included =
            verify_inclusion(hash, &root, LeafIndex(index), TreeSize(size), &path, &root);
        prop_assert!(included.is_err());
        let consistent =
            verify_consistency(hash, TreeSize(older), &root, TreeSize(size), &root, &path);
        prop_assert!(consistent.is_err());
    }
}

/// Tiles with so many hashes more than asked for, or fewer.
struct Resized<'a>(&'a Ledger, i8);

impl TileReader for Resized<'_> {
    fn read_tile(&self, tile: &Tile) -> Result<Vec<Hash>, ReadError> {
        let mut hashes = self.0.tiles.read_tile(tile)?;
        let width = hashes.len().saturating_add_signed(isize::from(self.1));
        hashes.resize(width, self.0.hash.empty());
        Ok(hashes)
    }
}

#[test]
fn a_reader_may_return_more_hashes_but_not_fewer() {
    let ledger = Ledger::new(TreeHash::Sha256, 300);
    let root = |change| {
        let tiles = Resized(&ledger, change);
        Prover::new(&tiles, ledger.hash, size_of(300)).root()
    };
    assert_eq!(root(0), Ok(ledger.roots[300]));
    assert_eq!(root(1), Ok(ledger.roots[300]));
    assert!(root(-1).is_err());
}
