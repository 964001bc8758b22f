//! RFC 6962 inclusion and consistency proofs of the transparency-dev `merkle` module, most of them damaged on purpose.

use std::fs;
use std::path::{Path, PathBuf};

use countersign_tests::shared_data::shared_data;
use ledger_core::hash::{Hash, LeafIndex, TreeHash, TreeSize};
use ledger_core::tree::frontier::Frontier;
use ledger_core::tree::verify::{ProofError, verify_consistency, verify_inclusion};
use serde::Deserialize;

use super::{from_base64, hash_of_hex, json_of, read_json};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Inclusion {
    leaf_idx: u64,
    tree_size: u64,
    root: String,
    leaf_hash: String,
    proof: Option<Vec<String>>,
    want_err: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Consistency {
    size1: u64,
    size2: u64,
    root1: String,
    root2: String,
    proof: Option<Vec<String>>,
    want_err: bool,
}

#[derive(Deserialize)]
struct ReferenceTree {
    leaf_inputs_hex: Vec<String>,
    node_hashes_by_level_hex: Vec<Vec<String>>,
    root_by_size_hex: Vec<String>,
}

/// All JSON files below a directory, in a fixed order.
fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The hash in base64, or `None` if it does not have 32 bytes: our types cannot hold such a hash.
fn hash(text: &str) -> Option<Hash> {
    Hash::from_slice(&from_base64(text))
}

#[test]
fn inclusion_proofs_verify_exactly_if_they_should() {
    let Some(directory) = shared_data("vectors/rfc6962/inclusion") else {
        return;
    };
    let (mut verified, mut refused, mut unrepresentable) = (0, 0, 0);
    for path in files_below(&directory) {
        let case: Inclusion = json_of(&path);
        let proof: Option<Vec<Hash>> = case
            .proof
            .unwrap_or_default()
            .iter()
            .map(|text| hash(text))
            .collect();
        let (Some(root), Some(leaf), Some(proof)) =
            (hash(&case.root), hash(&case.leaf_hash), proof)
        else {
            assert!(case.want_err, "{}", path.display());
            unrepresentable += 1;
            continue;
        };
        let (index, size) = (LeafIndex(case.leaf_idx), TreeSize(case.tree_size));
        let result = verify_inclusion(TreeHash::Sha256, &leaf, index, size, &proof, &root);
        assert_eq!(
            result.is_err(),
            case.want_err,
            "{}: {result:?}",
            path.display()
        );
        match result {
            Ok(()) => verified += 1,
            Err(_) => refused += 1,
        }
    }
    assert_eq!((verified, refused, unrepresentable), (6, 66, 26));
}

#[test]
fn consistency_proofs_verify_exactly_if_they_should() {
    let Some(directory) = shared_data("vectors/rfc6962/consistency") else {
        return;
    };
    // Some roots are short placeholders; a hash of each stands in, equal if and only if they are.
    let stand_in =
        |text: &str| hash(text).unwrap_or_else(|| TreeHash::Blake3.leaf(&from_base64(text)));
    let (mut verified, mut refused, mut from_empty) = (0, 0, 0);
    for path in files_below(&directory) {
        let case: Consistency = json_of(&path);
        let proof: Vec<Hash> = case
            .proof
            .unwrap_or_default()
            .iter()
            .map(|text| stand_in(text))
            .collect();
        let (older, newer) = (TreeSize(case.size1), TreeSize(case.size2));
        let (root1, root2) = (stand_in(&case.root1), stand_in(&case.root2));
        let result = verify_consistency(TreeHash::Sha256, older, &root1, newer, &root2, &proof);
        assert_eq!(
            result.is_err(),
            case.want_err,
            "{}: {result:?}",
            path.display()
        );
        if case.size1 == 0 {
            assert_eq!(result, Err(ProofError::OlderIsEmpty), "{}", path.display());
            from_empty += 1;
        }
        match result {
            Ok(()) => verified += 1,
            Err(_) => refused += 1,
        }
    }
    assert_eq!((verified, refused, from_empty), (6, 92, 9));
}

#[test]
fn the_reference_tree_has_our_roots_and_nodes() {
    let Some(tree) = read_json::<ReferenceTree>("rfc6962/rfc6962-reference-tree.json") else {
        return;
    };
    let mut frontier = Frontier::new(TreeHash::Sha256);
    let mut roots = vec![frontier.root()];
    let mut row = Vec::new();
    for input in &tree.leaf_inputs_hex {
        let leaf = TreeHash::Sha256.leaf(&hex::decode(input).unwrap());
        row.push(leaf);
        frontier.append(leaf);
        roots.push(frontier.root());
    }
    assert_eq!(roots, super::hashes_of_hex(&tree.root_by_size_hex));
    assert_eq!((roots.len(), tree.node_hashes_by_level_hex.len()), (9, 4));
    for level in &tree.node_hashes_by_level_hex {
        assert_eq!(
            row,
            level
                .iter()
                .map(|text| hash_of_hex(text))
                .collect::<Vec<_>>()
        );
        row = row
            .chunks_exact(2)
            .map(|pair| TreeHash::Sha256.node(&pair[0], &pair[1]))
            .collect();
    }
}
