//! Packing submissions into Raft entries.
//!
//! A batch is what one Raft entry carries: a time, what the proposer's ledger looked like, and submissions in order. It is
//! closed before it would grow past its limit, so that no Raft entry is ever longer than a replica accepts.

use ledger_proto::v1;
use prost::Message;

use crate::limits::{MAX_BATCH_LEN, MAX_BATCH_SUBMISSIONS, MAX_SUBMISSION_LEN};

/// Bytes of a batch besides its submissions: time, size, root, and their tags; generously.
const HEADER_LEN: usize = 64;
/// Bytes before a submission in a batch: a tag and a length of at most five bytes.
const FRAME_LEN: usize = 6;

/// A batch being filled.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchBuilder {
    batch: v1::Batch,
    len: usize,
}

impl BatchBuilder {
    /// An empty batch. `time_us` is the proposer's clock, `prior_size` and `prior_root` its ledger after the last batch it
    /// applied.
    #[must_use]
    pub fn new(time_us: u64, prior_size: u64, prior_root: &[u8; 32]) -> Self {
        let batch = v1::Batch {
            time_us,
            prior_size,
            prior_root: prior_root.to_vec(),
            submissions: Vec::new(),
        };
        Self {
            batch,
            len: HEADER_LEN,
        }
    }

    /// Adds a submission, or gives it back if the batch has no room for it. An empty batch has room for every submission
    /// that is within its own limit.
    ///
    /// # Errors
    /// The submission, to be put into the next batch.
    pub fn push(&mut self, submission: v1::Submission) -> Result<(), v1::Submission> {
        let len = FRAME_LEN + submission.encoded_len();
        if self.len + len > MAX_BATCH_LEN || self.batch.submissions.len() >= MAX_BATCH_SUBMISSIONS {
            return Err(submission);
        }
        self.len += len;
        self.batch.submissions.push(submission);
        Ok(())
    }

    /// True if it has no submission.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batch.submissions.is_empty()
    }

    /// The batch.
    #[must_use]
    pub fn finish(self) -> v1::Batch {
        self.batch
    }
}

// An empty batch takes the longest submission.
const _: () = assert!(HEADER_LEN + FRAME_LEN + MAX_SUBMISSION_LEN <= MAX_BATCH_LEN);
