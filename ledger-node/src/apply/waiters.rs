//! Callers that wait for their command's entry.
//!
//! A caller waits where it called, whoever leads: every replica applies every command, so its own replica knows the answer as
//! soon as anyone may. A change of leader changes nothing for the caller but the time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use ledger_core::hash::LeafIndex;
use ledger_core::machine::{Liveness, Refusal};
use tokio::sync::oneshot;

use super::prepare::CallKey;

/// What became of a command, without its proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It made an entry.
    Appended(LeafIndex),
    /// It had made an entry before.
    Replayed(LeafIndex, Liveness),
    /// It made none.
    Refused(Refusal),
}

/// The callers.
#[derive(Debug)]
pub struct Waiters<T> {
    waiting: Mutex<HashMap<CallKey, Vec<oneshot::Sender<T>>>>,
}

impl<T> Default for Waiters<T> {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
        }
    }
}

impl<T> Waiters<T> {
    /// Waits for a call's outcome. Register before the command can be applied.
    pub fn register(&self, key: CallKey) -> oneshot::Receiver<T> {
        let (done, waiting) = oneshot::channel();
        let mut all = self.lock();
        let same = all.entry(key).or_default();
        same.retain(|other| !other.is_closed());
        same.push(done);
        waiting
    }

    /// Forgets those of a call that no longer wait.
    pub fn forget(&self, key: &CallKey) {
        let mut all = self.lock();
        if let Some(same) = all.get_mut(key) {
            same.retain(|other| !other.is_closed());
            if same.is_empty() {
                all.remove(key);
            }
        }
    }

    /// Those who wait for a call, who wait no longer in the table.
    pub fn take(&self, key: &CallKey) -> Vec<oneshot::Sender<T>> {
        self.lock().remove(key).unwrap_or_default()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<CallKey, Vec<oneshot::Sender<T>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
