//! The leader's queue: bounded, and fair between authors.
//!
//! Each author has its own line and the proposer takes one from each in turn, so that an agent that floods the node waits
//! behind itself. What does not fit is answered at once.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ledger_core::batch::BatchBuilder;
use ledger_core::limits::MAX_SUBMISSION_LEN;
use ledger_proto::v1::{self, ErrorReason};
use prost::Message;
use tokio::sync::Notify;

use crate::apply::prepare::CallKey;
use crate::failure::Failure;
use crate::limits::MAX_PER_AUTHOR;

/// So many authors fill the queue's bytes between them, however long their submissions are. One author always has room for one
/// submission: with the smallest queue, 4 MiB, a share is less than the longest.
const SHARES: usize = 16;

/// Why a submission was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueueFull {
    /// The author has too many waiting.
    #[error(
        "{MAX_PER_AUTHOR} commands of this author wait already; send the same command again in a moment"
    )]
    Author,
    /// What waits of the author is too long together.
    #[error(
        "the commands of this author that wait already take its share of the leader's queue; send the same command again in a moment"
    )]
    AuthorBytes,
    /// Callers on this node wait for too much.
    #[error(
        "as many commands wait on this node as it may hold; send the same command again in a moment"
    )]
    Waiting,
    /// All together are too many.
    #[error("the queue of the leader is full; send the same command again in a moment")]
    Node,
}

impl From<QueueFull> for Failure {
    fn from(full: QueueFull) -> Self {
        let (reason, wait) = match full {
            QueueFull::Author | QueueFull::AuthorBytes => (ErrorReason::QuotaExceeded, 200),
            QueueFull::Waiting | QueueFull::Node => (ErrorReason::QueueFull, 100),
        };
        Self::new(reason, full.to_string()).after(Duration::from_millis(wait))
    }
}

#[derive(Debug)]
struct Waiting {
    key: CallKey,
    len: usize,
    submission: v1::Submission,
}

/// What waits of one author.
#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Lines {
    by_author: HashMap<String, Line>,
    /// Authors with something waiting, each once, the next first.
    turn: VecDeque<String>,
    /// What waits.
    keys: HashSet<CallKey>,
    count: usize,
    bytes: usize,
}

/// The queue.
#[derive(Debug)]
pub struct Queue {
    lines: Mutex<Lines>,
    max_count: usize,
    max_bytes: usize,
    max_bytes_of_author: usize,
    filled: Notify,
}

impl Queue {
    /// An empty queue with its limits.
    #[must_use]
    pub fn new(max_count: usize, max_bytes: usize) -> Self {
        Self {
            lines: Mutex::default(),
            max_count,
            max_bytes,
            max_bytes_of_author: (max_bytes / SHARES).max(MAX_SUBMISSION_LEN),
            filled: Notify::new(),
        }
    }

    /// Queues a submission under its author. One that waits already is as good as queued: callers bring theirs again and again,
    /// and the slower the log is, the more often.
    ///
    /// # Errors
    /// [`QueueFull`]; nothing happened.
    pub fn push(
        &self,
        author: &str,
        key: CallKey,
        submission: v1::Submission,
    ) -> Result<(), QueueFull> {
        let len = submission.encoded_len();
        let mut lines = self.lock();
        if lines.keys.contains(&key) {
            return Ok(());
        }
        if lines.count >= self.max_count || lines.bytes + len > self.max_bytes {
            return Err(QueueFull::Node);
        }
        let line = lines.by_author.entry(author.to_owned()).or_default();
        let begins = line.waiting.is_empty();
        if line.waiting.len() >= MAX_PER_AUTHOR {
            return Err(QueueFull::Author);
        }
        // Whoever has nothing waiting is heard, so that no line is left empty.
        if !begins && line.bytes + len > self.max_bytes_of_author {
            return Err(QueueFull::AuthorBytes);
        }
        line.waiting.push_back(Waiting {
            key,
            len,
            submission,
        });
        line.bytes += len;
        if begins {
            lines.turn.push_back(author.to_owned());
        }
        lines.keys.insert(key);
        lines.count += 1;
        lines.bytes += len;
        drop(lines);
        self.filled.notify_one();
        Ok(())
    }

    /// Moves waiting submissions into a batch, one of each author in turn, until it is full. What may not be proposed now is dropped;
    /// its callers bring it again. Returns how many were moved.
    pub fn fill(
        &self,
        batch: &mut BatchBuilder,
        may_propose: &dyn Fn(&v1::Submission) -> bool,
    ) -> usize {
        let mut lines = self.lock();
        let mut taken = 0;
        while let Some(author) = lines.turn.pop_front() {
            let Some(line) = lines.by_author.get_mut(&author) else {
                continue;
            };
            let Some(Waiting {
                key,
                len,
                submission,
            }) = line.waiting.pop_front()
            else {
                lines.by_author.remove(&author);
                continue;
            };
            let pushed = if may_propose(&submission) {
                batch.push(submission).map(|()| taken += 1)
            } else {
                Ok(())
            };
            match pushed {
                Ok(()) => {}
                Err(submission) if !batch.is_empty() => {
                    line.waiting.push_front(Waiting {
                        key,
                        len,
                        submission,
                    });
                    lines.turn.push_front(author);
                    break;
                }
                // Admission lets none of these in. Whoever kept one would wait for ever for a batch that has room for it, and
                // everybody behind it too.
                Err(_) => tracing::error!(
                    author,
                    len,
                    "a command for which no batch has room was dropped"
                ),
            }
            line.bytes -= len;
            if line.waiting.is_empty() {
                lines.by_author.remove(&author);
            } else {
                lines.turn.push_back(author);
            }
            lines.keys.remove(&key);
            lines.count -= 1;
            lines.bytes -= len;
        }
        taken
    }

    /// Returns when something waits.
    pub async fn filled(&self) {
        loop {
            let filled = self.filled.notified();
            if self.lock().count > 0 {
                return;
            }
            filled.await;
        }
    }

    /// Forgets everything: who waits for it looks for the new leader.
    pub fn clear(&self) {
        *self.lock() = Lines::default();
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().count
    }

    /// True if nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use ledger_core::limits::MAX_BATCH_LEN;

    use super::*;
    use crate::apply::prepare::call_key;

    fn submission(content: &str) -> v1::Submission {
        v1::Submission {
            signed: Some(v1::SignedCommand {
                command: content.as_bytes().to_vec(),
                signatures: Vec::new(),
            }),
            compartments: Vec::new(),
        }
    }

    /// Queues a command of its own content.
    #[test]
    fn what_may_not_be_proposed_now_is_dropped() {
        let queue = Queue::new(10, 1 << 20);
        for content in ["a", "b", "c"] {
            push(&queue, content, content).unwrap();
        }
        let mut batch = BatchBuilder::new(0, 0, &[0; 32]);
        let is_b = |submission: &v1::Submission| {
            let signed = submission.signed.as_ref();
            signed.is_some_and(|signed| signed.command == b"b")
        };
        assert_eq!(queue.fill(&mut batch, &is_b), 1);
        assert_eq!(batch.finish().submissions, [submission("b")]);
        assert!(queue.is_empty());
    }

    fn push(queue: &Queue, author: &str, content: &str) -> Result<(), QueueFull> {
        let submission = submission(content);
        queue.push(author, call_key(&submission), submission)
    }

    fn drained(queue: &Queue) -> Vec<String> {
        let mut batch = BatchBuilder::new(0, 0, &[0; 32]);
        queue.fill(&mut batch, &|_| true);
        let text = |submission: v1::Submission| {
            String::from_utf8(submission.signed.unwrap().command).unwrap()
        };
        batch.finish().submissions.into_iter().map(text).collect()
    }

    #[test]
    fn authors_take_turns() {
        let queue = Queue::new(100, 10_000);
        for content in ["a1", "a2", "a3"] {
            push(&queue, "a", content).unwrap();
        }
        push(&queue, "b", "b1").unwrap();
        assert_eq!(drained(&queue), ["a1", "b1", "a2", "a3"]);
        assert!(queue.is_empty());
    }

    #[test]
    fn what_waits_already_takes_no_room() {
        let queue = Queue::new(2, 10_000);
        for content in ["a1", "a1", "a2", "a1", "a2"] {
            push(&queue, "a", content).unwrap();
        }
        assert_eq!(push(&queue, "a", "a3"), Err(QueueFull::Node));
        assert_eq!(drained(&queue), ["a1", "a2"]);
        // What is on its way no longer waits, and neither does what was forgotten.
        for _ in 0..2 {
            push(&queue, "a", "a1").unwrap();
            assert_eq!(queue.len(), 1);
            queue.clear();
        }
        push(&queue, "a", "a1").unwrap();
        assert_eq!(drained(&queue), ["a1"]);
    }

    #[test]
    fn each_limit_answers() {
        let queue = Queue::new(MAX_PER_AUTHOR + 2, usize::MAX);
        for number in 0..MAX_PER_AUTHOR {
            push(&queue, "flood", &number.to_string()).unwrap();
        }
        assert_eq!(push(&queue, "flood", "x"), Err(QueueFull::Author));
        push(&queue, "calm", "y").unwrap();
        push(&queue, "calm", "z").unwrap();
        assert_eq!(push(&queue, "calm", "x"), Err(QueueFull::Node));
        let tiny = Queue::new(10, 20);
        assert_eq!(push(&tiny, "a", &"z".repeat(30)), Err(QueueFull::Node));
        assert!(tiny.is_empty());
    }

    #[test]
    fn long_commands_of_one_author_leave_room_for_others() {
        const LEN: usize = 640_000;
        let (max_bytes, content) = (64 << 20, "z".repeat(LEN));
        let queue = Queue::new(16_384, max_bytes);
        let long = |number: usize| format!("{number}{content}");
        let mut taken = 0;
        let full = loop {
            match push(&queue, "flood", &long(taken)) {
                Ok(()) => taken += 1,
                Err(full) => break full,
            }
        };
        assert_eq!(full, QueueFull::AuthorBytes);
        assert_eq!(taken, max_bytes / SHARES / LEN);
        push(&queue, "flood", "a short one").unwrap();
        push(&queue, "calm", &content).unwrap();
        // What was taken gives its room back.
        assert!(!drained(&queue).is_empty());
        push(&queue, "flood", &long(taken)).unwrap();

        let small = Queue::new(64, 4 << 20);
        push(&small, "a", &content).unwrap();
        assert_eq!(
            push(&small, "a", &long(1)),
            Err(QueueFull::AuthorBytes),
            "a share is for one of the longest"
        );
    }

    #[test]
    fn what_does_not_fit_stays_first() {
        let queue = Queue::new(100_000, usize::MAX);
        for number in 0..5_000 {
            let author = format!("{}", number % 7);
            push(&queue, &author, &number.to_string()).unwrap();
        }
        assert_eq!(drained(&queue).len(), 4_096);
        assert_eq!(drained(&queue).len(), 904);
    }

    #[test]
    fn what_no_batch_has_room_for_stands_in_nobodys_way() {
        let queue = Queue::new(100, usize::MAX);
        let giant = "z".repeat(MAX_BATCH_LEN);
        push(&queue, "a", &giant).unwrap();
        push(&queue, "b", "b1").unwrap();
        push(&queue, "a", "a1").unwrap();
        assert_eq!(drained(&queue), ["b1", "a1"]);
        push(&queue, "a", &giant).unwrap();
        assert!(drained(&queue).is_empty() && queue.is_empty());
        // Who only comes too late for this batch is first in the next.
        let mut batch = BatchBuilder::new(0, 0, &[0; 32]);
        let [first, second] = ["y", "z"].map(|text| text.repeat(MAX_BATCH_LEN / 2));
        push(&queue, "a", &first).unwrap();
        push(&queue, "b", &second).unwrap();
        assert_eq!((queue.fill(&mut batch, &|_| true), queue.len()), (1, 1));
        push(&queue, "b", &second).unwrap();
        assert_eq!(drained(&queue), [second]);
    }
}
