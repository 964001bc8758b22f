//! The nodes that do not know the members of now, for the task that tells them: they have refused this node's key, or its election.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::key::Spki;

/// How long a refusal is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);

/// A node that does not know the members of now, and where it was dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedDial {
    /// Its id.
    pub node_id: u64,
    /// The key that it has shown.
    pub key: Spki,
    /// host:port.
    pub address: String,
}

/// The refusals of late, the last one of each node. Only nodes that have shown the key that this one asked for are in it.
#[derive(Debug, Default)]
pub struct Refusals {
    latest: Mutex<BTreeMap<u64, Refusal>>,
    added: Notify,
}

#[derive(Debug)]
struct Refusal {
    dial: RefusedDial,
    at: Instant,
    /// It was this node's key that was refused.
    is_of_key: bool,
    /// Since when the node waits to be looked at; none if it has been.
    waits_since: Option<Instant>,
}

impl Refusals {
    fn latest(&self) -> MutexGuard<'_, BTreeMap<u64, Refusal>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers that a node has refused this node's key.
    pub(crate) fn note(&self, dial: RefusedDial) {
        self.add(dial, true);
    }

    /// Remembers that a node knows this node's key, and not the members that have elected it.
    pub(super) fn note_election(&self, dial: RefusedDial) {
        self.add(dial, false);
    }

    fn add(&self, dial: RefusedDial, is_of_key: bool) {
        let mut latest = self.latest();
        latest.retain(|_, refusal| refusal.at.elapsed() < REMEMBERED);
        let (now, before) = (Instant::now(), latest.get(&dial.node_id));
        let waits_since = before.and_then(|before| before.waits_since);
        let refusal = Refusal {
            at: now,
            is_of_key,
            waits_since: waits_since.or(Some(now)),
            dial,
        };
        latest.insert(refusal.dial.node_id, refusal);
        drop(latest);
        self.added.notify_one();
    }

    /// True if the node has refused this node's key since then.
    #[must_use]
    pub fn has_refused_since(&self, node_id: u64, since: Instant) -> bool {
        let latest = self.latest();
        latest
            .get(&node_id)
            .is_some_and(|refusal| refusal.is_of_key && refusal.at >= since)
    }

    /// Waits for a refusal that was not returned before: that of the node which has waited longest.
    pub async fn next(&self) -> RefusedDial {
        loop {
            if let Some(dial) = self.take() {
                return dial;
            }
            self.added.notified().await;
        }
    }

    fn take(&self) -> Option<RefusedDial> {
        let mut latest = self.latest();
        let waiting = latest.values_mut().filter(|it| it.waits_since.is_some());
        let refusal = waiting.min_by_key(|it| it.waits_since)?;
        refusal.waits_since = None;
        Some(refusal.dial.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_node_that_has_waited_longest_comes_first_however_often_others_refuse() {
        let refusals = Refusals::default();
        let refuses = |node_id: u64| {
            refusals.note(RefusedDial {
                node_id,
                key: Spki::of(&[7; 32]),
                address: String::new(),
            });
        };
        for node_id in [5, 3, 5, 2, 3] {
            refuses(node_id);
        }
        assert_eq!(refusals.next().await.node_id, 5);
        refuses(5);
        let mut order = Vec::new();
        for _ in 0..3 {
            order.push(refusals.next().await.node_id);
        }
        assert_eq!(order, [3, 2, 5]);
    }
}
