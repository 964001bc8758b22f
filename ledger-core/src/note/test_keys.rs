//! Keys of fixed seeds, for the tests of notes.

use ed25519_dalek::SigningKey;

use super::checkpoint::Checkpoint;
use super::cosignature::{CosignatureTime, cosign};
use super::signed_note::NoteSignature;
use super::vkey::{KeyType, VerifierKey};
use crate::keys::PublicKey;
use crate::signer::Signer as _;

pub(crate) const LOG: &str = "ledger.example.com/test";

/// The key made from 32 bytes of `seed`.
pub(crate) fn signing_key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn vkey(name: &str, key_type: KeyType, seed: u8) -> VerifierKey {
    let public_key = PublicKey::from_bytes(&signing_key(seed).public_key()).unwrap();
    VerifierKey::new(name, key_type, public_key).unwrap()
}

pub(crate) fn log_key(name: &str, seed: u8) -> VerifierKey {
    vkey(name, KeyType::Ed25519, seed)
}

pub(crate) fn witness_name(seed: u8) -> String {
    format!("witness.example.com/{seed}")
}

pub(crate) fn witness_key(seed: u8) -> VerifierKey {
    vkey(&witness_name(seed), KeyType::CosignatureV1, seed)
}

pub(crate) fn time(seconds: u64) -> CosignatureTime {
    CosignatureTime::from_seconds(seconds).unwrap()
}

/// The cosignature of the witness with this seed.
pub(crate) fn cosigned(checkpoint: &Checkpoint, seed: u8, seconds: u64) -> NoteSignature {
    cosign(
        checkpoint,
        time(seconds),
        &witness_name(seed),
        &signing_key(seed),
    )
    .unwrap()
}
