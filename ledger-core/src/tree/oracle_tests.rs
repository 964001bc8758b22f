//! The whole tree against two independent implementations, at every small size and at random large ones.

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use digest::Digest;
use proptest::prelude::*;

use super::frontier::Frontier;
use super::proof::TileReader as _;
use super::test_ledger::{EVERY_SIZE, Ledger, flat, index_of, leaf_bytes, profiles, size_of};
use super::tile::{TILE_HEIGHT, TILE_WIDTH, tiles_of_size};
use super::verify::{verify_consistency, verify_inclusion};
use crate::hash::{HASH_LEN, Hash, TreeHash};

/// Large enough for three tile levels (256 * 256 leaves fill a tile of level 1).
const LARGE_SIZE: usize = 70_000;

/// `rs_merkle` over a whole tree, with the prefixes written out once more.
#[derive(Clone)]
struct OracleNodes<D>(D);

impl<D: Digest + Clone> rs_merkle::Hasher for OracleNodes<D> {
    type Hash = [u8; HASH_LEN];

    fn hash(data: &[u8]) -> Self::Hash {
        D::new()
            .chain_update([0])
            .chain_update(data)
            .finalize()
            .as_slice()
            .try_into()
            .unwrap()
    }

    fn concat_and_hash(left: &Self::Hash, right: Option<&Self::Hash>) -> Self::Hash {
        let Some(right) = right else { return *left };
        let node = D::new()
            .chain_update([1])
            .chain_update(left)
            .chain_update(right)
            .finalize();
        node.as_slice().try_into().unwrap()
    }
}

/// Roots, every inclusion path and every consistency proof of every size equal those of `ct-merkle`, and they verify.
fn equals_ct_merkle<D: Digest>(hash: TreeHash) {
    let ledger = Ledger::new(hash, EVERY_SIZE);
    let mut oracle = MemoryBackedTree::<D, Vec<u8>>::new();
    for size in 1..=EVERY_SIZE {
        oracle.push(leaf_bytes(size - 1));
        let root = ledger.roots[size];
        assert_eq!(
            root.as_bytes(),
            oracle.root().as_bytes().as_slice(),
            "root at size {size}"
        );
        let mut prover = ledger.prover(size);
        assert_eq!(prover.root(), Ok(root), "root from tiles at size {size}");
        for index in 0..size {
            let path = prover.inclusion(index_of(index)).unwrap();
            assert_eq!(
                flat(&path),
                oracle.prove_inclusion(index).as_bytes(),
                "{index} in {size}"
            );
            let leaf = &ledger.leaves[index];
            assert_eq!(
                verify_inclusion(hash, leaf, index_of(index), size_of(size), &path, &root),
                Ok(())
            );
        }
        for older in 1..=size {
            let proof = prover.consistency(size_of(older)).unwrap();
            if older < size {
                let expected = oracle.prove_consistency(size - older);
                assert_eq!(flat(&proof), expected.as_bytes(), "{older} to {size}");
            }
            let (from, to) = (size_of(older), size_of(size));
            let verified = verify_consistency(hash, from, &ledger.roots[older], to, &root, &proof);
            assert_eq!(verified, Ok(()), "{older} to {size}");
        }
    }
}

#[test]
fn every_proof_of_every_small_size_equals_ct_merkle_with_sha256() {
    equals_ct_merkle::<sha2::Sha256>(TreeHash::Sha256);
}

#[test]
fn every_proof_of_every_small_size_equals_ct_merkle_with_blake3() {
    equals_ct_merkle::<blake3::Hasher>(TreeHash::Blake3);
}

/// Roots and every inclusion path of every size equal those of `rs_merkle` over the whole tree.
fn equals_rs_merkle<D: Digest + Clone>(hash: TreeHash) {
    let ledger = Ledger::new(hash, EVERY_SIZE);
    let leaves: Vec<[u8; HASH_LEN]> = ledger.leaves.iter().map(|leaf| *leaf.as_bytes()).collect();
    for size in 1..=EVERY_SIZE {
        let oracle = rs_merkle::MerkleTree::<OracleNodes<D>>::from_leaves(&leaves[..size]);
        assert_eq!(
            oracle.root(),
            Some(*ledger.roots[size].as_bytes()),
            "root at size {size}"
        );
        let mut prover = ledger.prover(size);
        for index in 0..size {
            let path = prover.inclusion(index_of(index)).unwrap();
            assert_eq!(
                flat(&path),
                oracle.proof(&[index]).to_bytes(),
                "{index} in {size}"
            );
        }
    }
}

#[test]
fn every_path_of_every_small_size_equals_rs_merkle_with_sha256() {
    equals_rs_merkle::<sha2::Sha256>(TreeHash::Sha256);
}

#[test]
fn every_path_of_every_small_size_equals_rs_merkle_with_blake3() {
    equals_rs_merkle::<blake3::Hasher>(TreeHash::Blake3);
}

#[test]
fn random_proofs_at_random_sizes_of_a_large_ledger_verify() {
    let ledger = Ledger::new(TreeHash::Blake3, LARGE_SIZE);
    let full = usize::from(TILE_WIDTH);
    let edges = [
        full - 1,
        full,
        full + 1,
        full * full - 1,
        full * full,
        full * full + 1,
        LARGE_SIZE,
    ];
    let size = prop_oneof![1..=LARGE_SIZE, prop::sample::select(edges.to_vec())];
    let case = (
        size,
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
    );
    let verify = |(size, index, older): (usize, prop::sample::Index, prop::sample::Index)| {
        let (index, older) = (index.index(size), older.index(size) + 1);
        let (place, from, to) = (index_of(index), size_of(older), size_of(size));
        let (leaf, older_root, root) = (
            &ledger.leaves[index],
            &ledger.roots[older],
            &ledger.roots[size],
        );
        let mut prover = ledger.prover(size);
        prop_assert_eq!(prover.root(), Ok(*root));
        let path = prover.inclusion(place).unwrap();
        prop_assert_eq!(
            verify_inclusion(ledger.hash, leaf, place, to, &path, root),
            Ok(())
        );
        let proof = prover.consistency(from).unwrap();
        let consistent = verify_consistency(ledger.hash, from, older_root, to, root, &proof);
        prop_assert_eq!(consistent, Ok(()));
        Ok(())
    };
    proptest::test_runner::TestRunner::default()
        .run(&case, verify)
        .unwrap();
}

#[test]
fn proofs_of_a_large_ledger_equal_ct_merkle() {
    let ledger = Ledger::new(TreeHash::Sha256, LARGE_SIZE);
    let mut oracle = MemoryBackedTree::<sha2::Sha256, Vec<u8>>::new();
    (0..LARGE_SIZE).for_each(|index| oracle.push(leaf_bytes(index)));
    assert_eq!(
        ledger.roots[LARGE_SIZE].as_bytes(),
        oracle.root().as_bytes().as_slice()
    );
    let mut prover = ledger.prover(LARGE_SIZE);
    for index in [
        0,
        1,
        255,
        256,
        65_535,
        65_536,
        69_887,
        69_888,
        LARGE_SIZE - 1,
    ] {
        let path = prover.inclusion(index_of(index)).unwrap();
        assert_eq!(
            flat(&path),
            oracle.prove_inclusion(index).as_bytes(),
            "{index}"
        );
    }
    for older in [1, 255, 256, 300, 65_535, 65_536, 65_792, 69_999] {
        let proof = prover.consistency(size_of(older)).unwrap();
        assert_eq!(
            flat(&proof),
            oracle.prove_consistency(LARGE_SIZE - older).as_bytes(),
            "{older}"
        );
    }
}

#[test]
fn tiles_hold_the_roots_that_tlog_tiles_defines() {
    for hash in profiles() {
        let ledger = Ledger::new(hash, LARGE_SIZE);
        let mut compared = 0;
        for tile in tiles_of_size(size_of(LARGE_SIZE)).filter(|tile| tile.level() > 0) {
            let span = 1_usize << (u32::from(tile.level()) * TILE_HEIGHT);
            let first = usize::try_from(tile.index()).unwrap() * usize::from(TILE_WIDTH);
            for (position, stored) in ledger.tiles.read_tile(&tile).unwrap().iter().enumerate() {
                let leaves = &ledger.leaves[(first + position) * span..][..span];
                assert_eq!(*stored, root_of(hash, leaves), "{tile} at {position}");
                compared += 1;
            }
        }
        assert_eq!(compared, 256 + 17 + 1);
    }
}

fn root_of(hash: TreeHash, leaves: &[Hash]) -> Hash {
    let mut frontier = Frontier::new(hash);
    for leaf in leaves {
        frontier.append(*leaf);
    }
    frontier.root()
}
