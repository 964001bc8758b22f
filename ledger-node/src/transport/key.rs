//! A node's key as TLS uses it.
//!
//! The same key signs cosignatures, the node's own commands, and its proof of possession. None of them can be taken for
//! another: what TLS 1.3 has signed begins with 64 spaces (RFC 8446, 4.4.3), and everything else that a node's key signs
//! begins with a word: `countersign-…` or `cosignature/v1`. A key that signs for TLS refuses anything that does not begin so.

use std::fmt;
use std::sync::Arc;

use ledger_core::signer::{PUBLIC_KEY_LEN, Signer};
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, alg_id};
use rustls::sign::{self, CertifiedKey, SigningKey, public_key_to_spki};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};

/// A signer that the threads of a node share.
pub type SharedSigner = Arc<dyn Signer + Send + Sync>;

/// How everything begins that TLS 1.3 has signed.
const TLS_CONTEXT: &[u8; 73] =
    b"                                                                TLS 1.3, ";

/// An Ed25519 public key in the encoding in which TLS shows it, a SubjectPublicKeyInfo.
#[derive(Clone, PartialEq, Eq)]
pub struct Spki(SubjectPublicKeyInfoDer<'static>);

impl Spki {
    /// The encoding of a key.
    #[must_use]
    pub fn of(key: &[u8; PUBLIC_KEY_LEN]) -> Self {
        Self(public_key_to_spki(&alg_id::ED25519, key))
    }

    /// True if this is the key that the other end shows.
    #[must_use]
    pub fn is_shown_as(&self, shown: &CertificateDer<'_>) -> bool {
        self.0.as_ref() == shown.as_ref()
    }

    /// The key itself: the end of its encoding.
    #[must_use]
    pub fn bytes(&self) -> Option<[u8; PUBLIC_KEY_LEN]> {
        self.0.last_chunk().copied()
    }

    fn to_shown(&self) -> CertificateDer<'static> {
        CertificateDer::from(self.0.as_ref().to_vec())
    }
}

impl fmt::Debug for Spki {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Spki").field(&hex::encode(&self.0)).finish()
    }
}

/// The key that this node shows.
pub(super) fn certified(signer: SharedSigner) -> CertifiedKey {
    let spki = Spki::of(&signer.public_key());
    CertifiedKey::new(vec![spki.to_shown()], Arc::new(TlsKey { signer, spki }))
}

/// A private key behind a [`Signer`], for TLS only.
#[derive(Clone)]
struct TlsKey {
    signer: SharedSigner,
    spki: Spki,
}

impl fmt::Debug for TlsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TlsKey").field(&self.spki).finish()
    }
}

impl SigningKey for TlsKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn sign::Signer>> {
        let ed25519 = offered.contains(&SignatureScheme::ED25519);
        ed25519.then(|| Box::new(self.clone()) as Box<dyn sign::Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from(self.spki.0.as_ref()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ED25519
    }
}

impl sign::Signer for TlsKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        if !message.starts_with(TLS_CONTEXT) {
            let what = "a node's key signs nothing for TLS that is not of its handshake";
            return Err(Error::General(what.to_owned()));
        }
        Ok(self.signer.sign(message).to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey as Ed25519Key;
    use ledger_core::id::Identity;
    use ledger_core::keys::possession_message;

    use super::*;

    fn tls_key() -> CertifiedKey {
        certified(Arc::new(Ed25519Key::from_bytes(&[7; 32])))
    }

    #[test]
    fn a_key_that_signs_for_tls_signs_nothing_else() {
        let key = tls_key().key;
        let signer = key.choose_scheme(&[SignatureScheme::ED25519]).unwrap();
        let mut handshake = TLS_CONTEXT.to_vec();
        handshake.extend_from_slice(b"server CertificateVerify\0");
        handshake.extend_from_slice(&[1; 32]);
        assert_eq!(signer.sign(&handshake).unwrap().len(), 64);
        let possession = possession_message("ledger.example.com/prod", &Identity::Node(1));
        let others: [&[u8]; 5] = [
            b"",
            b"countersign-command-v1\0",
            b"cosignature/v1\ntime 1\n",
            &possession,
            &handshake[1..],
        ];
        for other in others {
            assert!(signer.sign(other).is_err(), "{other:?}");
        }
    }

    #[test]
    fn only_ed25519_is_signed_with() {
        let key = tls_key().key;
        let others = [SignatureScheme::RSA_PSS_SHA256, SignatureScheme::ED448];
        assert!(key.choose_scheme(&others).is_none());
    }
}
