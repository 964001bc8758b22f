//! What a log says to a witness outside: "you have cosigned so many entries; here is a larger tree, and the proof that it
//! contains them" (C2SP tlog-witness, `add-checkpoint`).
//!
//! The request is text. Size and root of the new tree come from its checkpoint; the old size is what the log believes of the
//! witness, which compares it with what it remembers.

use std::fmt;

use thiserror::Error;

use super::signed_note::MAX_NOTE_LEN;
use super::text::{from_decimal, hash_from_base64, to_base64};
use super::tlog_proof::MAX_PROOF_HASHES;
use crate::hash::{Hash, TreeSize};

/// The longest request: the line of the old size, the hashes in base64, and the note.
pub const MAX_ADD_CHECKPOINT_LEN: usize = MAX_NOTE_LEN + 4096;
/// The media type of the size that a witness answers if the old size is another one.
pub const SIZE_MEDIA_TYPE: &str = "text/x.tlog.size";
/// The path of the call below a witness's URL.
pub const ADD_CHECKPOINT_PATH: &str = "add-checkpoint";

/// The request `add-checkpoint`, not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size of the largest tree that the witness has cosigned; 0 for none.
    pub old: TreeSize,
    /// The proof that the tree of that size is the beginning of the new one: at most [`MAX_PROOF_HASHES`].
    pub proof: Vec<Hash>,
    /// The new checkpoint as a note with the log's signature, verbatim.
    pub checkpoint: String,
}

impl AddCheckpoint {
    /// Reads a request. Printing gives back the same bytes. The checkpoint is not looked into.
    ///
    /// # Errors
    /// [`AddCheckpointError`] names the part that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, AddCheckpointError> {
        if bytes.len() > MAX_ADD_CHECKPOINT_LEN {
            return Err(AddCheckpointError::Length);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| AddCheckpointError::Utf8)?;
        let (head, checkpoint) = text
            .split_once("\n\n")
            .ok_or(AddCheckpointError::NoCheckpoint)?;
        let mut lines = head.split('\n');
        let old = lines
            .next()
            .and_then(|line| line.strip_prefix("old "))
            .and_then(from_decimal)
            .map(TreeSize)
            .filter(|old| *old <= TreeSize::MAX)
            .ok_or(AddCheckpointError::Old)?;
        if lines.clone().count() > MAX_PROOF_HASHES {
            return Err(AddCheckpointError::TooManyHashes);
        }
        let proof = lines.map(hash_from_base64).collect::<Option<_>>();
        Ok(Self {
            old,
            proof: proof.ok_or(AddCheckpointError::Hash)?,
            checkpoint: checkpoint.to_owned(),
        })
    }
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        self.proof
            .iter()
            .try_for_each(|hash| writeln!(f, "{}", to_base64(hash.as_bytes())))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

/// Reads the size that a witness has cosigned, from its answer that the old size is another one.
#[must_use]
pub fn parse_size(body: &[u8]) -> Option<TreeSize> {
    let line = std::str::from_utf8(body).ok()?.strip_suffix('\n')?;
    let size = from_decimal(line).map(TreeSize)?;
    (size <= TreeSize::MAX).then_some(size)
}

/// Why bytes are not a request `add-checkpoint`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AddCheckpointError {
    /// Above [`MAX_ADD_CHECKPOINT_LEN`].
    #[error("a request has at most {MAX_ADD_CHECKPOINT_LEN} bytes")]
    Length,
    /// Not text.
    #[error("the request is not valid UTF-8")]
    Utf8,
    /// The first line is another one.
    #[error("the first line is `old` and a tree size in decimal without leading zeros")]
    Old,
    /// Above [`MAX_PROOF_HASHES`].
    #[error("a proof has at most {MAX_PROOF_HASHES} hashes")]
    TooManyHashes,
    /// A line of the proof is no hash.
    #[error("a line of the proof is not a hash of 32 bytes in base64")]
    Hash,
    /// No empty line with a checkpoint behind it.
    #[error("the checkpoint and the empty line before it are missing")]
    NoCheckpoint,
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECKPOINT: &str = "ledger.test/prod\n7\nAAAA\n\n\u{2014} ledger.test/prod AAAA\n";

    fn request(hashes: usize) -> AddCheckpoint {
        AddCheckpoint {
            old: TreeSize(5),
            proof: vec![Hash::from_bytes([7; 32]); hashes],
            checkpoint: CHECKPOINT.to_owned(),
        }
    }

    #[test]
    fn a_request_is_printed_as_it_was_read() {
        for hashes in [0, 1, MAX_PROOF_HASHES] {
            let text = request(hashes).to_string();
            assert_eq!(AddCheckpoint::parse(text.as_bytes()), Ok(request(hashes)));
        }
        let text = request(1).to_string();
        let expected = format!("old 5\n{}\n\n{CHECKPOINT}", to_base64(&[7; 32]));
        assert_eq!(text, expected);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let hash = to_base64(&[7; 32]);
        let too_long = "x".repeat(MAX_ADD_CHECKPOINT_LEN);
        for (text, error) in [
            (format!("old 05\n\n{CHECKPOINT}"), AddCheckpointError::Old),
            (format!("Old 5\n\n{CHECKPOINT}"), AddCheckpointError::Old),
            (format!("old -1\n\n{CHECKPOINT}"), AddCheckpointError::Old),
            (
                format!("old {}\n\n{CHECKPOINT}", u64::MAX),
                AddCheckpointError::Old,
            ),
            (format!("{hash}\n\n{CHECKPOINT}"), AddCheckpointError::Old),
            (
                format!("old 5\n{hash}x\n\n{CHECKPOINT}"),
                AddCheckpointError::Hash,
            ),
            (
                request(MAX_PROOF_HASHES + 1).to_string(),
                AddCheckpointError::TooManyHashes,
            ),
            (format!("old 5\n{hash}\n"), AddCheckpointError::NoCheckpoint),
            (String::new(), AddCheckpointError::NoCheckpoint),
            (format!("old 5\n\n{too_long}"), AddCheckpointError::Length),
        ] {
            assert_eq!(AddCheckpoint::parse(text.as_bytes()), Err(error), "{text}");
        }
        assert_eq!(
            AddCheckpoint::parse(b"old 5\n\xff\n\n"),
            Err(AddCheckpointError::Utf8)
        );
    }

    #[test]
    fn a_size_has_one_form() {
        assert_eq!(parse_size(b"0\n"), Some(TreeSize(0)));
        assert_eq!(parse_size(b"20852014\n"), Some(TreeSize(20_852_014)));
        for wrong in [&b""[..], b"7", b"07\n", b"7\n\n", b"seven\n", b"\xff\n"] {
            assert_eq!(parse_size(wrong), None, "{wrong:?}");
        }
    }
}
