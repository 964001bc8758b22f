//! Keys, trust policies and notes of a ledger that only tests know.

use ed25519_dalek::SigningKey;
use ledger_core::hash::{Hash, TreeSize};
use ledger_core::keys::PublicKey;
use ledger_core::note::checkpoint::Checkpoint;
use ledger_core::note::cosignature::{CosignatureTime, cosign};
use ledger_core::note::tlog_policy::TlogPolicy;
use ledger_core::note::vkey::{KeyType, VerifierKey};
use ledger_core::signer::Signer as _;

pub(super) const ORIGIN: &str = "ledger.test/prod";

/// The key of the log for 0, else that of a node.
pub(super) fn key(number: u64) -> SigningKey {
    SigningKey::from_bytes(blake3::hash(&number.to_be_bytes()).as_bytes())
}

/// The name of a node as a cosigner.
pub(super) fn name(node: u64) -> String {
    format!("{ORIGIN}/node-{node}")
}

fn verifier_key(name: &str, key_type: KeyType, number: u64) -> VerifierKey {
    let public = PublicKey::from_bytes(&key(number).public_key()).unwrap();
    VerifierKey::new(name, key_type, public).unwrap()
}

/// The policy that asks all of these nodes for a cosignature.
pub(super) fn trust_policy(nodes: &[u64]) -> String {
    let mut text = format!("log {}\n", verifier_key(ORIGIN, KeyType::Ed25519, 0));
    let mut names = String::new();
    for node in nodes {
        let cosigner = verifier_key(&name(*node), KeyType::CosignatureV1, *node);
        text.push_str(&format!("witness node-{node} {cosigner}\n"));
        names.push_str(&format!(" node-{node}"));
    }
    let all = nodes.len();
    text.push_str(&format!("group nodes {all}{names}\nquorum nodes\n"));
    TlogPolicy::parse(text.as_bytes()).unwrap().to_string()
}

/// A checkpoint with the log's signature and the cosignatures of these nodes.
pub(super) fn cosigned(size: u64, root: Hash, nodes: &[u64]) -> String {
    dated(size, root, nodes, 1_795_392_000)
}

/// A checkpoint of some tree of this size, cosigned by node 1 at this second.
pub(super) fn cosigned_at(size: u64, seconds: u64) -> String {
    dated(size, Hash::from_bytes([7; 32]), &[1], seconds)
}

fn dated(size: u64, root: Hash, nodes: &[u64], seconds: u64) -> String {
    let checkpoint = Checkpoint::new(ORIGIN, TreeSize(size), root).unwrap();
    let mut note = checkpoint.sign(&key(0)).unwrap();
    for node in nodes {
        let time = CosignatureTime::from_seconds(seconds).unwrap();
        let line = cosign(&checkpoint, time, &name(*node), &key(*node));
        note.add(line.unwrap()).unwrap();
    }
    note.to_string()
}
