//! Proof files: one entry's index and audit path with the checkpoint they lead to (C2SP tlog-proof).
//!
//! Size and root are never taken from the file's first half, only from its verified checkpoint.

use std::fmt;

use thiserror::Error;

use super::signed_note::MAX_NOTE_LEN;
use super::text::{from_base64, from_decimal, hash_from_base64, to_base64};
use super::tlog_policy::TlogPolicy;
use super::verify::{CheckpointVerifyError, VerifiedCheckpoint, verify_checkpoint};
use crate::hash::{Hash, LeafIndex};
use crate::tree::verify::ProofError;

/// The first line.
const HEADER: &str = "c2sp.org/tlog-proof@v1\n";
/// The most hashes of an audit path: the height of a tree of 2^63 leaves.
pub const MAX_PROOF_HASHES: usize = 63;
/// The most extra data, before base64.
pub const MAX_EXTRA_LEN: usize = 64 * 1024;
/// The longest file: extra data in base64, the index, the path and the note, with room for their lines.
pub const MAX_TLOG_PROOF_LEN: usize = MAX_EXTRA_LEN.div_ceil(3) * 4 + MAX_NOTE_LEN + 4096;

/// A proof file, not verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlogProof {
    /// The entry's index.
    pub index: LeafIndex,
    /// The audit path, the leaf's sibling first: at most [`MAX_PROOF_HASHES`].
    pub path: Vec<Hash>,
    /// Data that nothing authenticates: at most [`MAX_EXTRA_LEN`] bytes, and empty if the file has none.
    pub extra: Vec<u8>,
    /// The signed checkpoint as a note, verbatim.
    pub checkpoint: String,
}

impl TlogProof {
    /// Reads a proof file. Printing gives back the same bytes. The checkpoint is not looked into.
    ///
    /// # Errors
    /// [`TlogProofError`] names the part that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, TlogProofError> {
        if bytes.len() > MAX_TLOG_PROOF_LEN {
            return Err(TlogProofError::Length);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| TlogProofError::Utf8)?;
        let body = text.strip_prefix(HEADER).ok_or(TlogProofError::Header)?;
        let (head, checkpoint) = body
            .split_once("\n\n")
            .ok_or(TlogProofError::NoCheckpoint)?;
        let mut lines = head.split('\n').peekable();
        let extra = match lines.next_if(|line| line.starts_with("extra")) {
            Some(line) => parse_extra(line).ok_or(TlogProofError::Extra)?,
            None => Vec::new(),
        };
        let index = lines
            .next()
            .and_then(|line| line.strip_prefix("index "))
            .and_then(from_decimal);
        let index = index.ok_or(TlogProofError::Index)?;
        if lines.clone().count() > MAX_PROOF_HASHES {
            return Err(TlogProofError::TooManyHashes);
        }
        let path = lines
            .map(hash_from_base64)
            .collect::<Option<_>>()
            .ok_or(TlogProofError::Hash)?;
        Ok(Self {
            index: LeafIndex(index),
            path,
            extra,
            checkpoint: checkpoint.to_owned(),
        })
    }

    /// Verifies that the entry with this leaf hash is in the ledger at [`TlogProof::index`], and returns the checkpoint.
    ///
    /// # Errors
    /// [`TlogProofVerifyError`] says whether the checkpoint or the path fails.
    pub fn verify(
        &self,
        leaf_hash: &Hash,
        policy: &TlogPolicy,
    ) -> Result<VerifiedCheckpoint, TlogProofVerifyError> {
        let verified = verify_checkpoint(self.checkpoint.as_bytes(), policy)?;
        verified.includes(leaf_hash, self.index, &self.path)?;
        Ok(verified)
    }
}

fn parse_extra(line: &str) -> Option<Vec<u8>> {
    // Without data there is no line.
    from_base64(line.strip_prefix("extra ")?)
        .filter(|extra| (1..=MAX_EXTRA_LEN).contains(&extra.len()))
}

impl fmt::Display for TlogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEADER)?;
        if !self.extra.is_empty() {
            writeln!(f, "extra {}", to_base64(&self.extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        self.path
            .iter()
            .try_for_each(|hash| writeln!(f, "{}", to_base64(hash.as_bytes())))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

/// Why bytes are not a proof file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TlogProofError {
    /// Above [`MAX_TLOG_PROOF_LEN`].
    #[error("a proof file has at most {MAX_TLOG_PROOF_LEN} bytes")]
    Length,
    /// Not UTF-8.
    #[error("a proof file is UTF-8 text")]
    Utf8,
    /// The first line is another one.
    #[error("the file does not start with the line c2sp.org/tlog-proof@v1")]
    Header,
    /// No empty line before a checkpoint.
    #[error("the checkpoint is missing after an empty line")]
    NoCheckpoint,
    /// The extra line has no data, too much, or no base64.
    #[error("the extra line does not have base64 of 1 to {MAX_EXTRA_LEN} bytes")]
    Extra,
    /// The index line is missing or has no number.
    #[error("the index line is missing or has no decimal number without leading zeros")]
    Index,
    /// A line of the path is not a hash.
    #[error("a line of the path is not the base64 of 32 bytes")]
    Hash,
    /// Above [`MAX_PROOF_HASHES`].
    #[error("a path has at most {MAX_PROOF_HASHES} hashes")]
    TooManyHashes,
}

/// Why a proof file proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TlogProofVerifyError {
    /// The checkpoint is not believed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointVerifyError),
    /// The path does not lead from the entry to the checkpoint.
    #[error(transparent)]
    Proof(#[from] ProofError),
}
