//! Private keys in files: Ed25519, PKCS#8 PEM, readable by their owner only.
//!
//! The node's key and the log's key both live in such files; everything else sees a [`Signer`], so that a key can move into
//! hardware without anybody noticing. A file that others can read is refused, because nobody can tell who has read it.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::spki::der::zeroize::Zeroizing;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _};
use ledger_core::id::Identity;
use ledger_core::keys::PublicKey;
use ledger_core::signer::{PUBLIC_KEY_LEN, SIGNATURE_LEN, Signer};
use thiserror::Error;

use crate::clock::Entropy;

/// Longest key file in bytes. Ours have about 120; a little more is left for comments of other tools.
const MAX_KEY_FILE_LEN: usize = 4 * 1024;
/// The permission bits that must not be set: group and others, whatever for.
const OTHERS: u32 = 0o077;

/// Where the key itself begins; what stands before it is for people and for `ledger-client`.
const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";

/// Why a key file cannot be made or used.
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// It is there already.
    #[error("{0} exists already; keys are never overwritten, choose another name")]
    Exists(PathBuf),
    /// It cannot be read or written.
    #[error("the key file {path} cannot be used: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Group or others have rights.
    #[error(
        "the key file {path} can be used by others than its owner (mode {mode:03o}); run `chmod 600 {path}`, and replace the key if somebody may have read it"
    )]
    Mode {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is something else.
    #[error("{0} is not an Ed25519 private key in PKCS#8 PEM; make one with `ledger-node key new`")]
    Format(PathBuf),
}

/// A private key that was read from a file. Wiped from memory when dropped.
pub struct KeyFile {
    key: SigningKey,
    public: PublicKey,
}

impl KeyFile {
    /// Makes a key and writes its file, durably. The line before the key says whose it is; the log's key is nobody's.
    ///
    /// # Errors
    /// [`KeyFileError::Exists`], or no randomness, or the file cannot be written.
    pub fn create(
        path: &Path,
        identity: Option<&Identity>,
        entropy: &dyn Entropy,
    ) -> Result<Self, KeyFileError> {
        let failed = |error| KeyFileError::Io {
            path: path.to_owned(),
            error,
        };
        let mut seed = Zeroizing::new([0; 32]);
        entropy.fill(&mut *seed).map_err(failed)?;
        let made = Self::of(SigningKey::from_bytes(&seed), path)?;
        let pem = made
            .key
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|error| failed(io::Error::other(error)))?;
        let whose = identity.map_or_else(String::new, |identity| {
            format!("identity: {}\n", identity.to_text())
        });
        let text = Zeroizing::new(format!("{whose}{}", pem.as_str()));
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| {
                if error.kind() == io::ErrorKind::AlreadyExists {
                    KeyFileError::Exists(path.to_owned())
                } else {
                    failed(error)
                }
            })?;
        let written = file
            .write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| sync_dir_of(path));
        if let Err(error) = written {
            // Half a key is no use to anybody; if it stays, reading it says so.
            let _ = std::fs::remove_file(path);
            return Err(failed(error));
        }
        Ok(made)
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// [`KeyFileError`]
    pub fn open(path: &Path) -> Result<Self, KeyFileError> {
        let failed = |error| KeyFileError::Io {
            path: path.to_owned(),
            error,
        };
        let file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.mode() & 0o777;
        if mode & OTHERS != 0 {
            return Err(KeyFileError::Mode {
                path: path.to_owned(),
                mode,
            });
        }
        // With room for all of it from the start, no copy is left behind by growing.
        let mut pem = Zeroizing::new(Vec::with_capacity(MAX_KEY_FILE_LEN + 1));
        file.take(MAX_KEY_FILE_LEN as u64 + 1)
            .read_to_end(&mut pem)
            .map_err(failed)?;
        let text = std::str::from_utf8(&pem)
            .ok()
            .filter(|text| text.len() <= MAX_KEY_FILE_LEN)
            .and_then(|text| text.get(text.find(BEGIN)?..))
            .ok_or_else(|| KeyFileError::Format(path.to_owned()))?;
        let key =
            SigningKey::from_pkcs8_pem(text).map_err(|_| KeyFileError::Format(path.to_owned()))?;
        Self::of(key, path)
    }

    fn of(key: SigningKey, path: &Path) -> Result<Self, KeyFileError> {
        let public = PublicKey::from_bytes(key.verifying_key().as_bytes())
            .map_err(|_| KeyFileError::Format(path.to_owned()))?;
        Ok(Self { key, public })
    }

    /// The public key.
    #[must_use]
    pub const fn public(&self) -> &PublicKey {
        &self.public
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

/// Never shows the private key.
impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyFile")
            .field("public", &hex::encode(self.public.as_bytes()))
            .finish_non_exhaustive()
    }
}

/// Makes the name of a new file durable.
pub(crate) fn sync_dir_of(path: &Path) -> io::Result<()> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::clock::SystemEntropy;

    #[test]
    fn a_key_is_read_back_and_signs_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        let made = KeyFile::create(&path, Some(&Identity::Node(3)), &SystemEntropy).unwrap();
        let read = KeyFile::open(&path).unwrap();
        assert_eq!(made.public_key(), read.public_key());
        assert_eq!(made.sign(b"m"), read.sign(b"m"));
        assert!(read.public().verify(b"m", &made.sign(b"m")));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let pem = std::fs::read_to_string(&path).unwrap();
        assert!(
            pem.starts_with("identity: node:3\n-----BEGIN PRIVATE KEY-----\n"),
            "{pem}"
        );
    }

    #[test]
    fn a_key_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        KeyFile::create(&path, None, &SystemEntropy).unwrap();
        let before = std::fs::read(&path).unwrap();
        let error = KeyFile::create(&path, None, &SystemEntropy).unwrap_err();
        assert!(matches!(error, KeyFileError::Exists(_)));
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_key_that_others_can_use_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        KeyFile::create(&path, None, &SystemEntropy).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o666] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = KeyFile::open(&path).unwrap_err().to_string();
            assert!(error.contains("chmod 600"), "{mode:o}: {error}");
        }
        for mode in [0o600, 0o400] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            KeyFile::open(&path).unwrap();
        }
    }

    #[test]
    fn what_is_no_key_is_refused_and_a_key_is_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        let key = KeyFile::create(&path, None, &SystemEntropy).unwrap();
        let pem = std::fs::read_to_string(&path).unwrap();
        let secret = hex::encode(key.key.to_bytes());
        assert!(!format!("{key:?}").contains(&secret));
        let long = format!("{pem}{}", "#".repeat(MAX_KEY_FILE_LEN));
        for text in ["", "PRIVATE", &pem[1..], &pem[..pem.len() / 2], &long] {
            std::fs::write(&path, text).unwrap();
            let error = KeyFile::open(&path).unwrap_err();
            assert!(matches!(error, KeyFileError::Format(_)), "{text}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(KeyFile::open(&path), Err(KeyFileError::Io { .. })));
    }
}
