//! The ledger's formats against vectors that others made. Each test pins how many cases it ran, so that an empty or cut
//! file fails.

mod blake3_hash;
mod blake3_tree;
mod c2sp;
mod ed25519;
mod go_sumdb;
mod rfc6962;
mod transparency_dev;

use std::path::Path;

use base64::Engine as _;
use countersign_tests::shared_data::shared_data;
use ledger_core::hash::Hash;
use serde::de::DeserializeOwned;

/// Reads a JSON file below `shared/data/vectors`, or says that it is skipped.
fn read_json<T: DeserializeOwned>(path: &str) -> Option<T> {
    shared_data(&format!("vectors/{path}")).map(|path| json_of(&path))
}

fn json_of<T: DeserializeOwned>(path: &Path) -> T {
    let bytes = std::fs::read(path).unwrap();
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn from_base64(text: &str) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap()
}

fn hash_of_hex(text: &str) -> Hash {
    Hash::from_slice(&hex::decode(text).unwrap()).unwrap()
}

fn hashes_of_hex(texts: &[String]) -> Vec<Hash> {
    texts.iter().map(|text| hash_of_hex(text)).collect()
}
