//! From the word of one node to proof, in the background: the tree of each provisional receipt must turn out to be a part of a
//! tree that a quorum has cosigned.
//!
//! Receipts are proven to a tree already, so that only trees have to be vouched for: one consistency proof for all receipts of
//! one checkpoint.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use ledger_core::note::checkpoint::Checkpoint;
use tokio::sync::{Notify, watch};

use crate::client::{Client, Inner};
use crate::error::Error;

/// How long a tree may stay provisional before it is an alarm.
const ALARM: Duration = Duration::from_secs(10);
/// Trees that wait at most. Beyond it the oldest is vouched for through a younger one that contains it, or not at all.
const MAX_WAITING: usize = 1_024;

/// How far provisional receipts have been vouched for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Upgrades {
    /// Every receipt proven to a tree of at most this size is vouched for by a quorum.
    pub cosigned_size: u64,
    /// Trees that wait.
    pub waiting: usize,
    /// What is wrong: a tree has waited for more than 10 s, or turned out not to be part of the ledger.
    pub alarm: Option<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Upgrading {
    waiting: Mutex<BTreeMap<u64, (Checkpoint, Instant)>>,
    wake: Arc<Notify>,
    state: OnceLock<watch::Sender<Upgrades>>,
    started: OnceLock<()>,
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
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.len() >= MAX_WAITING {
                waiting.pop_first();
            }
            let size = checkpoint.size().0;
            waiting
                .entry(size)
                .or_insert_with(|| (checkpoint.clone(), Instant::now()));
            self.state()
                .send_modify(|state| state.waiting = waiting.len());
        }
        if self.started.set(()).is_ok() {
            tokio::spawn(run(Arc::downgrade(&client.0), Arc::clone(&self.wake)));
        }
        self.wake.notify_one();
    }

    fn first(&self) -> Option<(Checkpoint, Instant)> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.first_key_value().map(|(_, first)| first.clone())
    }

    fn done(&self, size: u64, cosigned: u64) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.remove(&size);
        self.state().send_modify(|state| {
            state.waiting = waiting.len();
            state.cosigned_size = state.cosigned_size.max(cosigned);
            if waiting.is_empty() && cosigned > 0 {
                state.alarm = None;
            }
        });
    }

    fn alarm(&self, what: String) {
        self.state().send_modify(|state| state.alarm = Some(what));
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
        match vouch(&client, &checkpoint).await {
            Ok(cosigned) => client.0.upgrading.done(size, cosigned),
            Err(Error::Inconsistent(what)) => {
                client.0.upgrading.alarm(what);
                client.0.upgrading.done(size, 0);
            }
            Err(error) => {
                if since.elapsed() >= ALARM {
                    client.0.upgrading.alarm(format!(
                        "the tree of {size} entries has been provisional for more than {} s: {error}",
                        ALARM.as_secs()
                    ));
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn vouch(client: &Client, checkpoint: &Checkpoint) -> Result<u64, Error> {
    let deadline = Instant::now() + ALARM;
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
    client.must_extend(checkpoint, &vouched, deadline).await?;
    Ok(size)
}
