//! Cosignatures: "as of this time, this is the largest consistent tree of that log that I have seen" (C2SP
//! tlog-cosignature, Ed25519, `cosignature/v1`).
//!
//! Nodes cosign their own ledger with keys of their own, and outside witnesses do the same. The message does not contain
//! the cosigner's name, so one key must serve one cosigner only.

use std::fmt;

use thiserror::Error;

use super::checkpoint::Checkpoint;
use super::signed_note::{NoteError, NoteSignature};
use super::vkey::KeyType;
use crate::signer::{SIGNATURE_LEN, Signer};

/// The first line of the signed message: the domain separation.
const HEADER: &str = "cosignature/v1";
/// Bytes of the time before the signature proper.
const TIME_LEN: usize = 8;

/// A POSIX time in whole seconds, at most 2^63 - 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CosignatureTime(u64);

impl CosignatureTime {
    /// The time as so many seconds since the Epoch.
    ///
    /// # Errors
    /// [`TimeOutOfRange`] above 2^63 - 1.
    pub fn from_seconds(seconds: u64) -> Result<Self, TimeOutOfRange> {
        if i64::try_from(seconds).is_ok() {
            Ok(Self(seconds))
        } else {
            Err(TimeOutOfRange)
        }
    }

    /// Seconds since the Epoch.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        self.0
    }
}

impl fmt::Display for CosignatureTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A time that no cosignature can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a cosignature's time is at most 2^63 - 1 seconds")]
pub struct TimeOutOfRange;

/// The bytes that a cosigner signs: the header line, the time line, and the whole text of the checkpoint.
#[must_use]
pub fn cosignature_message(time: CosignatureTime, checkpoint_text: &str) -> Vec<u8> {
    format!("{HEADER}\ntime {time}\n{checkpoint_text}").into_bytes()
}

/// Cosigns a checkpoint. The caller has checked that the checkpoint is consistent with every earlier one it cosigned, and
/// has made that fact durable.
///
/// # Errors
/// [`NoteError::Key`] for a name that no note can carry.
pub fn cosign(
    checkpoint: &Checkpoint,
    time: CosignatureTime,
    name: &str,
    signer: &dyn Signer,
) -> Result<NoteSignature, NoteError> {
    let signature = signer.sign(&cosignature_message(time, &checkpoint.to_string()));
    let timestamped = [&time.0.to_be_bytes()[..], &signature].concat();
    NoteSignature::by(name, KeyType::CosignatureV1, signer, timestamped)
}

/// Reads a `timestamped_signature`, the bytes of a cosignature after the key id: `u64be time || signature`. `None` for
/// another length or an impossible time. Nothing is verified here.
#[must_use]
pub fn split_timestamped(bytes: &[u8]) -> Option<(CosignatureTime, &[u8])> {
    let (time, signature) = bytes.split_first_chunk::<TIME_LEN>()?;
    let time = CosignatureTime::from_seconds(u64::from_be_bytes(*time)).ok()?;
    (signature.len() == SIGNATURE_LEN).then_some((time, signature))
}
