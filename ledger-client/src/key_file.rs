//! Private keys in files: Ed25519, PKCS#8 PEM, readable by their owner only. The line before the key says whose it is, so that
//! a program needs one file and no more to sign.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::spki::der::zeroize::Zeroizing;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _};
use ledger_core::id::Identity;
use ledger_core::keys::{PublicKey, possession_message};
use ledger_core::signer::{PUBLIC_KEY_LEN, SIGNATURE_LEN, Signer};

use crate::error::Error;
use crate::files::write_new;

/// Longest key file in bytes.
const MAX_KEY_FILE_LEN: usize = 4 * 1024;
/// The permission bits that must not be set: group and others, whatever for.
const OTHERS: u32 = 0o077;
/// What stands before the identity in the first line.
const IDENTITY: &str = "identity: ";
/// Where the key itself begins.
const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";

/// A private key and whose it is. Wiped from memory when dropped, never shown.
pub struct KeyFile {
    key: SigningKey,
    public: PublicKey,
    identity: Option<Identity>,
}

impl KeyFile {
    /// Makes a key for an identity and writes its file, durably.
    ///
    /// # Errors
    /// [`Error::Configuration`] if the file exists, [`Error::Internal`] if it cannot be written.
    pub fn create(path: &Path, identity: &Identity) -> Result<Self, Error> {
        Self::write(path, Some(identity))
    }

    /// The same for a key that is no identity's of a ledger, such as a witness's.
    ///
    /// # Errors
    /// See [`KeyFile::create`].
    pub(crate) fn create_nameless(path: &Path) -> Result<Self, Error> {
        Self::write(path, None)
    }

    fn write(path: &Path, identity: Option<&Identity>) -> Result<Self, Error> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed)
            .map_err(|error| Error::Internal(format!("no randomness: {error}")))?;
        let key = SigningKey::from_bytes(&seed);
        let pem = key
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|error| Error::Internal(error.to_string()))?;
        let line = identity.map(|identity| format!("{IDENTITY}{}\n", identity.to_text()));
        let text = Zeroizing::new(format!("{}{}", line.unwrap_or_default(), pem.as_str()));
        write_new(path, text.as_bytes(), 0o600)?;
        Self::of(key, identity.cloned(), path)
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// [`Error::Configuration`]: it cannot be read, others can read it, or it is something else.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let shown = path.display();
        let failed = |error: io::Error| {
            Error::Configuration(format!("the key file {shown} cannot be read: {error}"))
        };
        let file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.mode() & 0o777;
        if mode & OTHERS != 0 {
            return Err(Error::Configuration(format!(
                "the key file {shown} can be used by others than its owner (mode {mode:03o}); run `chmod 600 {shown}`, and replace the key if somebody may have read it"
            )));
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_KEY_FILE_LEN + 1));
        file.take(MAX_KEY_FILE_LEN as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        let is_none = || {
            Error::Configuration(format!(
                "{shown} is not an Ed25519 private key in PKCS#8 PEM; make one with `ledger-client key new`"
            ))
        };
        let text = std::str::from_utf8(&bytes)
            .ok()
            .filter(|text| text.len() <= MAX_KEY_FILE_LEN)
            .ok_or_else(is_none)?;
        let (before, pem) = text.split_at(text.find(BEGIN).ok_or_else(is_none)?);
        let key = SigningKey::from_pkcs8_pem(pem).map_err(|_| is_none())?;
        let mut identity = None;
        if let Some(line) = before.lines().find_map(|line| line.strip_prefix(IDENTITY)) {
            let parsed = Identity::from_text(line.trim());
            let bad = |error| {
                Error::Configuration(format!("{shown}: `{line}` names no identity: {error}"))
            };
            identity = Some(parsed.map_err(bad)?);
        }
        Self::of(key, identity, path)
    }

    fn of(key: SigningKey, identity: Option<Identity>, path: &Path) -> Result<Self, Error> {
        let public = PublicKey::from_bytes(key.verifying_key().as_bytes())
            .map_err(|error| Error::Configuration(format!("{}: {error}", path.display())))?;
        Ok(Self {
            key,
            public,
            identity,
        })
    }

    /// The public key.
    #[must_use]
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Whose key it is, as the file says.
    #[must_use]
    pub const fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// The proof that whoever holds this key asks for this identity in this ledger.
    #[must_use]
    pub fn proof_of_possession(&self, origin: &str, identity: &Identity) -> [u8; SIGNATURE_LEN] {
        Signer::sign(&self.key, &possession_message(origin, identity))
    }
}

impl Signer for KeyFile {
    fn public_key(&self) -> [u8; PUBLIC_KEY_LEN] {
        *self.public.as_bytes()
    }

    fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        Signer::sign(&self.key, message)
    }
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyFile")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_read_back_with_its_identity() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.key");
        let identity = Identity::Agent("refund-bot".to_owned());
        let made = KeyFile::create(&path, &identity).unwrap();
        let read = KeyFile::open(&path).unwrap();
        assert_eq!(read.identity(), Some(&identity));
        assert_eq!(made.sign(b"m"), read.sign(b"m"));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = KeyFile::create(&path, &identity).unwrap_err().to_string();
        assert!(again.contains("exists"), "{again}");
        assert!(!format!("{read:?}").contains("key:"), "{read:?}");
    }

    #[test]
    fn what_is_no_key_is_refused_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.key");
        KeyFile::create(&path, &Identity::Recovery).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = KeyFile::open(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        for bad in ["", "x", &text[..text.len() - 40]] {
            std::fs::write(&path, bad).unwrap();
            let error = KeyFile::open(&path).unwrap_err().to_string();
            assert!(error.contains("ledger-client key new"), "{error}");
        }
        std::fs::write(&path, text.replace("recovery", "robot:x")).unwrap();
        let error = KeyFile::open(&path).unwrap_err().to_string();
        assert!(error.contains("robot:x"), "{error}");
        let missing = KeyFile::open(&dir.path().join("none")).unwrap_err();
        assert!(missing.to_string().contains("cannot be read"));
    }
}
