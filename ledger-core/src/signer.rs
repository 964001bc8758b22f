//! How a private key signs, without this crate knowing where the key is.
//!
//! Keys live in files today and in hardware later; only their owner's [`Signer`] touches them. Checking signatures is
//! the other half and never goes through this trait.

use ed25519_dalek::SigningKey;

/// Bytes in an Ed25519 public key.
pub const PUBLIC_KEY_LEN: usize = 32;
/// Bytes in an Ed25519 signature.
pub const SIGNATURE_LEN: usize = 64;

/// Something that holds one Ed25519 private key and signs with it (RFC 8032, "Ed25519" without prehash or context).
pub trait Signer {
    /// The public key that verifies what [`Signer::sign`] returns.
    fn public_key(&self) -> [u8; PUBLIC_KEY_LEN];

    /// The signature over exactly these bytes. Callers add the domain separation.
    fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LEN];
}

impl Signer for SigningKey {
    fn public_key(&self) -> [u8; PUBLIC_KEY_LEN] {
        self.verifying_key().to_bytes()
    }

    fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        ed25519_dalek::Signer::sign(self, message).to_bytes()
    }
}

impl<S: Signer + ?Sized> Signer for &S {
    fn public_key(&self) -> [u8; PUBLIC_KEY_LEN] {
        (**self).public_key()
    }

    fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        (**self).sign(message)
    }
}
