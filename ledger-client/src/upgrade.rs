//! From the word of one node to proof, in the background: the tree of each provisional receipt must turn out to be a part of a
//! tree that a quorum has cosigned.
//!
//! Receipts are proven to a tree already, so that only trees have to be vouched for: one consistency proof for all receipts of
//! one checkpoint.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use ledger_core::hash::Hash;
use ledger_core::note::checkpoint::Checkpoint;
use tokio::sync::{Notify, watch};

use crate::client::{Client, Inner};
use crate::error::Error;

/// How long a tree may stay provisional before it is an alarm.
const ALARM: Duration = Duration::from_secs(10);
/// Trees that wait at most. One more is not vouched for, and that is an alarm.
const MAX_WAITING: usize = 1_024;

/// How far provisional receipts have been vouched for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Upgrades {
    /// Every receipt proven to a tree of at most this size is vouched for by a quorum, if there is no alarm.
    pub cosigned_size: u64,
    /// Trees that wait.
    pub waiting: usize,
    /// What is wrong. That a tree has waited for more than 10 s passes when it has been vouched for; that one turned out not to
    /// be part of the ledger, or that too many waited to be looked at, stays.
    pub alarm: Option<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Upgrading {
    waiting: Mutex<Waiting>,
    wake: Arc<Notify>,
    state: OnceLock<watch::Sender<Upgrades>>,
    started: OnceLock<()>,
}

/// Trees that wait, by size; nodes that lie may have told of several of one size.
#[derive(Debug, Default)]
struct Waiting {
    trees: BTreeMap<(u64, Hash), (Checkpoint, Instant)>,
    /// There is an alarm that does not pass.
    is_over: bool,
}

impl Drop for Upgrading {
    fn drop(&mut self) {
        // The task ends when it finds the client gone.
        self.wake.notify_one();
    }
}

impl Upgrading {
    pub(crate) fn watch(&self) -> watch::Receiver<Upgrades> {
        self.state().subscribe()
    }

    fn state(&self) -> &watch::Sender<Upgrades> {
        self.state
            .get_or_init(|| watch::Sender::new(Upgrades::default()))
    }

    /// Puts a provisional tree on the list.
    pub(crate) fn add(&self, client: &Client, checkpoint: &Checkpoint) {
        self.list(checkpoint);
        if self.started.set(()).is_ok() {
            tokio::spawn(run(Arc::downgrade(&client.0), Arc::clone(&self.wake)));
        }
        self.wake.notify_one();
    }

    fn list(&self, checkpoint: &Checkpoint) {
        let size = checkpoint.size().0;
        let tree = (size, checkpoint.root());
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.trees.len() >= MAX_WAITING && !waiting.trees.contains_key(&tree) {
            drop(waiting);
            self.alarm_for_good(format!(
                "more than {MAX_WAITING} trees wait to be vouched for: the one of {size} entries will not be; read its entries again"
            ));
            return;
        }
        let now = || (checkpoint.clone(), Instant::now());
        waiting.trees.entry(tree).or_insert_with(now);
        let waiting = waiting.trees.len();
        self.state().send_modify(|state| state.waiting = waiting);
    }

    fn first(&self) -> Option<(Checkpoint, Instant)> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let first = waiting.trees.first_key_value();
        first.map(|(_, first)| first.clone())
    }

    /// A tree is a part of one that a quorum has cosigned.
    fn vouched(&self, checkpoint: &Checkpoint) {
        let size = checkpoint.size().0;
        let waiting = self.remove(checkpoint);
        self.state().send_modify(|state| {
            state.waiting = waiting.trees.len();
            state.cosigned_size = state.cosigned_size.max(size);
            if waiting.trees.is_empty() && !waiting.is_over {
                state.alarm = None;
            }
        });
    }

    /// A tree is not a part of the ledger.
    fn forked(&self, checkpoint: &Checkpoint, what: String) {
        let waiting = self.remove(checkpoint).trees.len();
        self.state().send_modify(|state| state.waiting = waiting);
        self.alarm_for_good(what);
    }

    fn remove(&self, checkpoint: &Checkpoint) -> std::sync::MutexGuard<'_, Waiting> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let tree = (checkpoint.size().0, checkpoint.root());
        waiting.trees.remove(&tree);
        waiting
    }

    /// A tree has waited for long.
    fn late(&self, what: String) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.is_over {
            self.state().send_modify(|state| state.alarm = Some(what));
        }
    }

    /// The first of these alarms is kept: what comes after it may come of it.
    fn alarm_for_good(&self, what: String) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.is_over {
            waiting.is_over = true;
            self.state().send_modify(|state| state.alarm = Some(what));
        }
    }
}

/// Vouches for what waits, the smallest tree first, until the client is gone.
async fn run(client: Weak<Inner>, wake: Arc<Notify>) {
    loop {
        let Some(inner) = client.upgrade() else {
            return;
        };
        let Some((checkpoint, since)) = inner.upgrading.first() else {
            drop(inner);
            wake.notified().await;
            continue;
        };
        let client = Client(inner, Arc::default());
        let size = checkpoint.size().0;
        let deadline = Instant::now() + ALARM;
        match vouch(&client, &checkpoint, deadline).await {
            Ok(()) => client.0.upgrading.vouched(&checkpoint),
            Err(Error::Inconsistent(what)) => client.0.upgrading.forked(&checkpoint, what),
            Err(error) => {
                if since.elapsed() >= ALARM {
                    client.0.upgrading.late(format!(
                        "the tree of {size} entries has been provisional for more than {} s: {error}",
                        ALARM.as_secs()
                    ));
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// Finds a tree that a quorum vouches for and that contains this one.
pub(crate) async fn vouch(
    client: &Client,
    checkpoint: &Checkpoint,
    deadline: Instant,
) -> Result<(), Error> {
    let size = checkpoint.size().0;
    let seen = client.trust().seen();
    let vouched = match seen.filter(|seen| seen.size().0 >= size) {
        Some(seen) => seen,
        None => {
            let (note, newest) = client.checkpoint_by(size, deadline).await?;
            client.observe(&note, &newest).await?;
            newest
        }
    };
    client.must_extend(checkpoint, &vouched, deadline).await
}

#[cfg(test)]
mod tests {
    use ledger_core::hash::TreeSize;

    use super::*;

    fn tree(size: u64, root: u8) -> Checkpoint {
        let root = Hash::from_bytes([root; 32]);
        Checkpoint::new("ledger.test/prod", TreeSize(size), root).unwrap()
    }

    fn state(upgrading: &Upgrading) -> Upgrades {
        upgrading.watch().borrow().clone()
    }

    #[test]
    fn that_a_tree_is_late_passes_and_that_one_is_forked_stays() {
        let upgrading = Upgrading::default();
        let (first, second, third) = (tree(1, 1), tree(2, 2), tree(3, 3));
        for tree in [&first, &second, &third, &third] {
            upgrading.list(tree);
        }
        assert_eq!(state(&upgrading).waiting, 3);
        upgrading.late("slow".to_owned());
        upgrading.vouched(&first);
        assert_eq!(state(&upgrading).alarm.as_deref(), Some("slow"));
        upgrading.vouched(&second);
        upgrading.vouched(&third);
        let all_is_well = Upgrades {
            cosigned_size: 3,
            ..Upgrades::default()
        };
        assert_eq!(state(&upgrading), all_is_well);

        let (fork, fourth) = (tree(3, 9), tree(4, 4));
        upgrading.list(&fork);
        upgrading.list(&fourth);
        upgrading.forked(&fork, "forked".to_owned());
        upgrading.late("slow".to_owned());
        upgrading.forked(&tree(3, 8), "again".to_owned());
        upgrading.vouched(&fourth);
        let found = state(&upgrading);
        assert_eq!((found.cosigned_size, found.waiting), (4, 0));
        assert_eq!(found.alarm.as_deref(), Some("forked"));
    }

    #[test]
    fn nodes_that_tell_of_two_trees_of_one_size_are_both_looked_into() {
        let upgrading = Upgrading::default();
        upgrading.list(&tree(7, 1));
        upgrading.list(&tree(7, 2));
        assert_eq!(state(&upgrading).waiting, 2);
        upgrading.vouched(&tree(7, 1));
        let (left, _) = upgrading.first().unwrap();
        assert_eq!(left.root(), tree(7, 2).root());
    }

    #[test]
    fn a_tree_too_many_is_an_alarm() {
        let upgrading = Upgrading::default();
        let most = u64::try_from(MAX_WAITING).unwrap();
        for size in 1..=most {
            upgrading.list(&tree(size, 1));
        }
        upgrading.list(&tree(most, 1));
        assert_eq!(state(&upgrading).alarm, None);
        upgrading.list(&tree(most + 1, 1));
        let found = state(&upgrading);
        assert_eq!(found.waiting, MAX_WAITING);
        assert!(
            found
                .alarm
                .is_some_and(|alarm| alarm.contains("1025 entries"))
        );
    }
}
