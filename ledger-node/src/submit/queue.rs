//! The leader's queue: bounded, and fair between authors.
//!
//! Each author has its own line and the proposer takes one from each in turn, so that an agent that floods the node waits
//! behind itself. What does not fit is answered at once.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ledger_core::batch::BatchBuilder;
use ledger_proto::v1;
use prost::Message;
use tokio::sync::Notify;

/// Most submissions of one author that wait.
pub const MAX_PER_AUTHOR: usize = 1_024;

/// Why a submission was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueueFull {
    /// The author has too many waiting.
    #[error(
        "{MAX_PER_AUTHOR} commands of this author wait already; send the same command again in a moment"
    )]
    Author,
    /// All together are too many.
    #[error("the queue of the leader is full; send the same command again in a moment")]
    Node,
}

#[derive(Debug, Default)]
struct Lines {
    by_author: HashMap<String, VecDeque<v1::Submission>>,
    /// Authors with something waiting, each once, the next first.
    turn: VecDeque<String>,
    count: usize,
    bytes: usize,
}

/// The queue.
#[derive(Debug)]
pub struct Queue {
    lines: Mutex<Lines>,
    max_count: usize,
    max_bytes: usize,
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
            filled: Notify::new(),
        }
    }

    /// Queues a submission under its author.
    ///
    /// # Errors
    /// [`QueueFull`]; nothing happened.
    pub fn push(&self, author: &str, submission: v1::Submission) -> Result<(), QueueFull> {
        let len = submission.encoded_len();
        let mut lines = self.lock();
        if lines.count >= self.max_count || lines.bytes + len > self.max_bytes {
            return Err(QueueFull::Node);
        }
        let line = lines.by_author.entry(author.to_owned()).or_default();
        if line.len() >= MAX_PER_AUTHOR {
            return Err(QueueFull::Author);
        }
        let begins = line.is_empty();
        line.push_back(submission);
        if begins {
            lines.turn.push_back(author.to_owned());
        }
        lines.count += 1;
        lines.bytes += len;
        drop(lines);
        self.filled.notify_one();
        Ok(())
    }

    /// Moves waiting submissions into a batch, one of each author in turn, until it is full. Returns how many.
    pub fn fill(&self, batch: &mut BatchBuilder) -> usize {
        let mut lines = self.lock();
        let mut taken = 0;
        while let Some(author) = lines.turn.pop_front() {
            let Some(line) = lines.by_author.get_mut(&author) else {
                continue;
            };
            let Some(submission) = line.pop_front() else {
                lines.by_author.remove(&author);
                continue;
            };
            let len = submission.encoded_len();
            match batch.push(submission) {
                Ok(()) => taken += 1,
                Err(back) if !batch.is_empty() => {
                    line.push_front(back);
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
            if line.is_empty() {
                lines.by_author.remove(&author);
            } else {
                lines.turn.push_back(author);
            }
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

    fn submission(content: &str) -> v1::Submission {
        v1::Submission {
            signed: Some(v1::SignedCommand {
                command: content.as_bytes().to_vec(),
                signatures: Vec::new(),
            }),
            compartments: Vec::new(),
        }
    }

    fn drained(queue: &Queue) -> Vec<String> {
        let mut batch = BatchBuilder::new(0, 0, &[0; 32]);
        queue.fill(&mut batch);
        let text = |submission: v1::Submission| {
            String::from_utf8(submission.signed.unwrap().command).unwrap()
        };
        batch.finish().submissions.into_iter().map(text).collect()
    }

    #[test]
    fn authors_take_turns() {
        let queue = Queue::new(100, 10_000);
        for content in ["a1", "a2", "a3"] {
            queue.push("a", submission(content)).unwrap();
        }
        queue.push("b", submission("b1")).unwrap();
        assert_eq!(drained(&queue), ["a1", "b1", "a2", "a3"]);
        assert!(queue.is_empty());
    }

    #[test]
    fn each_limit_answers() {
        let queue = Queue::new(MAX_PER_AUTHOR + 2, usize::MAX);
        for _ in 0..MAX_PER_AUTHOR {
            queue.push("flood", submission("x")).unwrap();
        }
        assert_eq!(queue.push("flood", submission("x")), Err(QueueFull::Author));
        queue.push("calm", submission("y")).unwrap();
        queue.push("calm", submission("y")).unwrap();
        assert_eq!(queue.push("calm", submission("y")), Err(QueueFull::Node));
        let tiny = Queue::new(10, 20);
        assert_eq!(
            tiny.push("a", submission(&"z".repeat(30))),
            Err(QueueFull::Node)
        );
        assert!(tiny.is_empty());
    }

    #[test]
    fn what_does_not_fit_stays_first() {
        let queue = Queue::new(100_000, usize::MAX);
        for number in 0..5_000 {
            queue
                .push(&format!("{}", number % 7), submission("x"))
                .unwrap();
        }
        assert_eq!(drained(&queue).len(), 4_096);
        assert_eq!(drained(&queue).len(), 904);
    }

    #[test]
    fn what_no_batch_has_room_for_stands_in_nobodys_way() {
        let queue = Queue::new(100, usize::MAX);
        let giant = "z".repeat(MAX_BATCH_LEN);
        queue.push("a", submission(&giant)).unwrap();
        queue.push("b", submission("b1")).unwrap();
        queue.push("a", submission("a1")).unwrap();
        assert_eq!(drained(&queue), ["b1", "a1"]);
        queue.push("a", submission(&giant)).unwrap();
        assert!(drained(&queue).is_empty() && queue.is_empty());
        // Who only comes too late for this batch is first in the next.
        let mut batch = BatchBuilder::new(0, 0, &[0; 32]);
        let half = "z".repeat(MAX_BATCH_LEN / 2);
        queue.push("a", submission(&half)).unwrap();
        queue.push("b", submission(&half)).unwrap();
        assert_eq!((queue.fill(&mut batch), queue.len()), (1, 1));
        assert_eq!(drained(&queue), [half]);
    }
}
