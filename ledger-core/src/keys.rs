//! Public keys: parsed strictly, verified strictly.
//!
//! A signature is valid iff `verify_strict` of `ed25519-dalek` 3 accepts it: canonical `s`, no small-order `A` or `R`. Every
//! strict verifier in the world then agrees, which matters because each replica checks each signature for itself.

use ed25519_dalek::{Signature, VerifyingKey};
use ledger_proto::v1;
use thiserror::Error;

use crate::id::{Identity, KeyId};

/// What precedes algorithm and key in the hash of a key id.
const KEY_DOMAIN: &[u8] = b"countersign-key-v1\0";
/// What precedes origin and identity in the message that proves possession of a key.
const POSSESSION_DOMAIN: &[u8] = b"countersign-possession-v1\0";

/// Why bytes are not an acceptable public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyError {
    /// The algorithm is not Ed25519.
    #[error("the key algorithm must be Ed25519")]
    Algorithm,
    /// Not 32 bytes, or not the canonical encoding of a point.
    #[error("the key is not the canonical encoding of an Ed25519 point")]
    Encoding,
    /// The point has small order: anyone can sign for it.
    #[error("the key is weak: signatures by it prove nothing; make another")]
    Weak,
    /// It ends before it begins, or lives too long.
    #[error("the key's validity is empty or too long")]
    Validity,
}

/// An Ed25519 public key that is canonical and not weak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// From 32 bytes.
    ///
    /// # Errors
    /// [`KeyError::Encoding`] for other lengths and non-canonical points, [`KeyError::Weak`] for points of small order.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let bytes: &[u8; 32] = bytes.try_into().map_err(|_| KeyError::Encoding)?;
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::Encoding)?;
        if key.is_weak() {
            return Err(KeyError::Weak);
        }
        // Decompression accepts a y coordinate past the field's prime; compressing again gives the canonical one.
        if key.to_edwards().compress().as_bytes() != bytes {
            return Err(KeyError::Encoding);
        }
        Ok(Self(key))
    }

    /// From a message, checking the algorithm too.
    ///
    /// # Errors
    /// [`KeyError`]
    pub fn parse(message: &v1::PublicKey) -> Result<Self, KeyError> {
        match message.algorithm() {
            v1::KeyAlgorithm::Ed25519 => Self::from_bytes(&message.bytes),
            v1::KeyAlgorithm::Unspecified => Err(KeyError::Algorithm),
        }
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// `BLAKE3("countersign-key-v1\0" || algorithm || bytes)[..16]`, the algorithm as one byte.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(KEY_DOMAIN)
            .update(&[1])
            .update(self.as_bytes());
        let mut id = [0; 16];
        hasher.finalize_xof().fill(&mut id);
        KeyId::from_bytes(id)
    }

    /// True if the 64 bytes are a strictly valid signature of the message by this key.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature)
            .is_ok_and(|signature| self.0.verify_strict(message, &signature).is_ok())
    }
}

/// What a new key signs to prove that its holder asks for this identity in this ledger:
/// `domain || u16be(len origin) || origin || u8(kind) || u16be(len id) || id`.
#[must_use]
pub fn possession_message(origin: &str, identity: &Identity) -> Vec<u8> {
    let id = identity.id();
    let mut message = POSSESSION_DOMAIN.to_vec();
    push_str(&mut message, origin);
    message.push(kind_byte(identity));
    push_str(&mut message, &id);
    message
}

/// Appends a length in two bytes, big-endian, and the text. Origins and ids are checked to be far below 64 KiB.
pub(crate) fn push_str(message: &mut Vec<u8>, text: &str) {
    let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
    message.extend_from_slice(&len.to_be_bytes());
    message.extend_from_slice(text.as_bytes());
}

/// The kind of an identity as one byte: the number of the enum.
pub(crate) const fn kind_byte(identity: &Identity) -> u8 {
    match identity {
        Identity::Operator(_) => 1,
        Identity::Agent(_) => 2,
        Identity::Gateway(_) => 3,
        Identity::Node(_) => 4,
        Identity::Recovery => 5,
    }
}
