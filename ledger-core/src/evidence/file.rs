//! Evidence as a file: a header that names the format, canonical bytes, and a digest that finds damage.
//!
//! The digest says "these bytes are what was written". It is no proof of origin: anybody can compute it.

use ledger_proto::v1;
use prost::Message;
use thiserror::Error;

use crate::canonical::{self, CanonicalError};

/// The first bytes of an evidence file.
const HEADER: &[u8] = b"countersign-evidence-v1\n";
/// Bytes of the digest at the end.
const DIGEST_LEN: usize = 32;
/// Longest evidence file in bytes: a bundle of 8 MiB in chunk entries, a long session, and proofs.
pub const MAX_EVIDENCE_LEN: usize = 64 * 1024 * 1024;

/// Why bytes are not an evidence file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FileError {
    /// It does not begin as evidence does.
    #[error("this is not an evidence file: it does not begin with `countersign-evidence-v1`")]
    Header,
    /// It is longer than evidence can be.
    #[error("an evidence file has at most {MAX_EVIDENCE_LEN} bytes")]
    TooLong,
    /// The digest does not match.
    #[error("the file is damaged: its digest does not match its content; fetch it again")]
    Damaged,
    /// The content is not canonical.
    #[error("the content is not evidence: {0}")]
    Content(#[from] CanonicalError),
    /// The JSON form cannot be read.
    #[error("the JSON form is not evidence: {0}")]
    Json(String),
}

/// The file: header, canonical bytes, `BLAKE3` of all before.
#[must_use]
pub fn encode(evidence: &v1::Evidence) -> Vec<u8> {
    // It can be long: there is one buffer for all of it.
    let mut file = Vec::with_capacity(HEADER.len() + evidence.encoded_len() + DIGEST_LEN);
    file.extend_from_slice(HEADER);
    // A vector takes any length.
    let _ = evidence.encode(&mut file);
    let digest = blake3::hash(&file);
    file.extend_from_slice(digest.as_bytes());
    file
}

/// Reads the file. What it says is not checked yet; see [`super::verify`].
///
/// # Errors
/// [`FileError`]
pub fn decode(file: &[u8]) -> Result<v1::Evidence, FileError> {
    if file.len() > MAX_EVIDENCE_LEN {
        return Err(FileError::TooLong);
    }
    if !file.starts_with(HEADER) {
        return Err(FileError::Header);
    }
    let Some((content, digest)) = file.split_last_chunk::<DIGEST_LEN>() else {
        return Err(FileError::Damaged);
    };
    // A file cut inside its header would have its digest overlap it.
    let Some(body) = content.strip_prefix(HEADER) else {
        return Err(FileError::Damaged);
    };
    if blake3::hash(content).as_bytes() != digest {
        return Err(FileError::Damaged);
    }
    Ok(canonical::decode(body, MAX_EVIDENCE_LEN)?)
}

/// The digest that both forms carry.
pub(super) fn digest(evidence: &v1::Evidence) -> Option<[u8; DIGEST_LEN]> {
    encode(evidence).last_chunk::<DIGEST_LEN>().copied()
}
