//! Roots and proofs of one list of leaves under both tree hashes, made with an independent crate.

use ledger_core::hash::{Hash, LeafIndex, TreeHash, TreeSize};
use ledger_core::tree::frontier::Frontier;
use ledger_core::tree::proof::{MemoryTiles, Prover};
use ledger_core::tree::verify::{verify_consistency, verify_inclusion};
use serde::Deserialize;

use super::{hashes_of_hex, read_json};

#[derive(Deserialize)]
struct Vectors {
    hash: String,
    leaves_hex: Vec<String>,
    root_by_size: Vec<String>,
    inclusion: Vec<Inclusion>,
    consistency: Vec<Consistency>,
}

#[derive(Deserialize)]
struct Inclusion {
    index: u64,
    size: u64,
    proof: Vec<String>,
}

#[derive(Deserialize)]
struct Consistency {
    size1: u64,
    size2: u64,
    proof: Vec<String>,
}

fn check(file: &str, tree_hash: TreeHash) {
    let Some(vectors) = read_json::<Vectors>(file) else {
        return;
    };
    assert_eq!(TreeHash::parse(&vectors.hash), Ok(tree_hash));
    let leaves: Vec<Hash> = vectors
        .leaves_hex
        .iter()
        .map(|leaf| tree_hash.leaf(&hex::decode(leaf).unwrap()))
        .collect();
    let (mut frontier, mut tiles) = (Frontier::new(tree_hash), MemoryTiles::new());
    let mut roots = vec![frontier.root()];
    for leaf in &leaves {
        tiles.store(&frontier.append(*leaf));
        roots.push(frontier.root());
    }
    assert_eq!(roots, hashes_of_hex(&vectors.root_by_size));
    let at = |index: u64| usize::try_from(index).unwrap();

    for case in &vectors.inclusion {
        let (index, size, expected) = (
            LeafIndex(case.index),
            TreeSize(case.size),
            hashes_of_hex(&case.proof),
        );
        let proof = Prover::new(&tiles, tree_hash, size)
            .inclusion(index)
            .unwrap();
        assert_eq!(proof, expected, "{index} in {size}");
        let (leaf, root) = (&leaves[at(case.index)], &roots[at(case.size)]);
        assert_eq!(
            verify_inclusion(tree_hash, leaf, index, size, &expected, root),
            Ok(())
        );
    }
    for case in &vectors.consistency {
        let (older, newer) = (TreeSize(case.size1), TreeSize(case.size2));
        let expected = hashes_of_hex(&case.proof);
        let proof = Prover::new(&tiles, tree_hash, newer)
            .consistency(older)
            .unwrap();
        assert_eq!(proof, expected, "{older} to {newer}");
        let (from, to) = (&roots[at(case.size1)], &roots[at(case.size2)]);
        assert_eq!(
            verify_consistency(tree_hash, older, from, newer, to, &expected),
            Ok(())
        );
    }
    assert_eq!(
        (
            roots.len(),
            vectors.inclusion.len(),
            vectors.consistency.len()
        ),
        (71, 185, 185)
    );
}

#[test]
fn the_blake3_tree_is_ours() {
    check("blake3-tree/blake3.json", TreeHash::Blake3);
}

#[test]
fn its_sha256_twin_is_ours() {
    check("blake3-tree/sha256.json", TreeHash::Sha256);
}
