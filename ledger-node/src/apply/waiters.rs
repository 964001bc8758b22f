//! Callers that wait for their command's entry.
//!
//! A caller waits where it called, whoever leads: every replica applies every command, so its own replica knows the answer as
//! soon as anyone may. A change of leader changes nothing for the caller but the time.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ledger_core::hash::LeafIndex;
use ledger_core::machine::{Liveness, Refusal};
use ledger_proto::v1::ErrorReason;
use tokio::sync::oneshot;

use super::prepare::CallKey;
use crate::apply::receipts::Submitted;
use crate::failure::{Answer, Failure};
use crate::limits::MAX_EQUAL_CALLS;

/// When a caller too many may come again.
const COME_AGAIN: Duration = Duration::from_millis(200);

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

/// Where a caller hears its answer.
pub type Caller = oneshot::Sender<Answer<Submitted>>;

#[derive(Debug, Default)]
struct Waiting {
    /// Callers of each call by their slot.
    by_call: HashMap<CallKey, BTreeMap<u64, Caller>>,
    /// Slots are given once, so that whoever gives up its own never gives up another's.
    next_slot: u64,
}

/// The callers.
#[derive(Debug, Default)]
pub struct Waiters(Mutex<Waiting>);

/// A place among those who wait, given up on drop.
#[derive(Debug)]
pub struct Place<'w> {
    waiters: &'w Waiters,
    key: CallKey,
    slot: u64,
    answer: oneshot::Receiver<Answer<Submitted>>,
}

impl Waiters {
    /// Takes a place among those who wait for a call's outcome. What was applied before is not heard of here: look whether it
    /// was once the place is taken.
    ///
    /// # Errors
    /// Too many wait for the same command.
    pub fn register(&self, key: CallKey) -> Answer<Place<'_>> {
        let (done, answer) = oneshot::channel();
        let mut waiting = self.lock();
        let slot = waiting.next_slot;
        let same = waiting.by_call.entry(key).or_default();
        if same.len() >= MAX_EQUAL_CALLS {
            let what = format!(
                "{MAX_EQUAL_CALLS} calls with this same command wait on this node already; their answer is this one's"
            );
            return Err(Failure::new(ErrorReason::QueueFull, what).after(COME_AGAIN));
        }
        same.insert(slot, done);
        waiting.next_slot = slot.wrapping_add(1);
        Ok(Place {
            waiters: self,
            key,
            slot,
            answer,
        })
    }

    /// Those who wait for a call, who wait no longer in the table.
    pub fn take(&self, key: &CallKey) -> Vec<Caller> {
        let callers = self.lock().by_call.remove(key);
        callers.unwrap_or_default().into_values().collect()
    }

    fn forget(&self, key: &CallKey, slot: u64) {
        let mut waiting = self.lock();
        if let Some(same) = waiting.by_call.get_mut(key) {
            same.remove(&slot);
            if same.is_empty() {
                waiting.by_call.remove(key);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// Waits for the answer, which comes once.
    ///
    /// # Errors
    /// What became of the command, or that this node is stopping.
    pub async fn answer(&mut self) -> Answer<Submitted> {
        let stopped = |_| {
            Failure::new(
                ErrorReason::Undetermined,
                "this node is stopping; send the same bytes to another node to find out",
            )
        };
        (&mut self.answer).await.map_err(stopped)?
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiters.forget(&self.key, self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: CallKey = [1; 32];

    fn refused() -> Answer<Submitted> {
        Err(Failure::from(Refusal::Stale))
    }

    #[tokio::test]
    async fn every_place_hears_the_answer() {
        let waiters = Waiters::default();
        let mut places: Vec<Place<'_>> = (0..3).map(|_| waiters.register(KEY).unwrap()).collect();
        assert!(waiters.take(&[2; 32]).is_empty());
        for caller in waiters.take(&KEY) {
            caller.send(refused()).unwrap();
        }
        for place in &mut places {
            assert_eq!(
                place.answer().await.unwrap_err(),
                Failure::from(Refusal::Stale)
            );
        }
    }

    #[tokio::test]
    async fn who_gives_up_leaves_the_others_where_they_are() {
        let waiters = Waiters::default();
        let given_up = waiters.register(KEY).unwrap();
        assert!(!waiters.take(&KEY).is_empty());
        let mut later = waiters.register(KEY).unwrap();
        // Its place was taken from the table before; the one there now is another's.
        drop(given_up);
        let callers = waiters.take(&KEY);
        assert_eq!(callers.len(), 1);
        for caller in callers {
            caller.send(refused()).unwrap();
        }
        assert!(later.answer().await.is_err());
        drop(waiters.register(KEY).unwrap());
        assert!(waiters.lock().by_call.is_empty(), "nothing is left behind");
    }

    #[test]
    fn equal_calls_have_a_limit_and_a_place_that_is_given_up_is_free() {
        let waiters = Waiters::default();
        let mut places: Vec<Place<'_>> = (0..MAX_EQUAL_CALLS)
            .map(|_| waiters.register(KEY).unwrap())
            .collect();
        let refused = waiters.register(KEY).unwrap_err();
        assert_eq!(refused.reason, ErrorReason::QueueFull);
        assert!(waiters.register([2; 32]).is_ok(), "another command");
        places.pop();
        assert!(waiters.register(KEY).is_ok());
    }
}
