//! Moments of the ledger at which every replica can say what its state is.
//!
//! A point is the end of a Raft entry, so that all replicas come by it however they group entries into writes. The applier
//! ends a write there and leaves a view; whoever computes the digest takes the newest view and never holds the applier up.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ledger_core::entry;
use ledger_core::hash::TreeSize;
use ledger_proto::v1::{self, command::Body as Ask, entry::Body};
use tokio::sync::Notify;

use crate::storage::Read;

/// Entries between two points, at least. A digest of the state that so many entries leave takes well under a second.
pub const MIN_INTERVAL: u64 = 65_536;
/// A digest reads the records of all entries. So that the work for each entry does not grow with the ledger, points are at
/// least this part of the ledger apart.
const PART: u64 = 16;

/// How far points are apart in a ledger of this size.
fn interval(size: TreeSize) -> u64 {
    let part = (size.0 / PART).max(MIN_INTERVAL);
    // A power of two, so that points of a smaller ledger are points of a larger one.
    1 << part.ilog2()
}

/// True if a Raft entry that made the tree grow like this ends in a point.
#[must_use]
pub fn is_due(before: TreeSize, after: TreeSize) -> bool {
    let interval = interval(after);
    before.0 / interval < after.0 / interval
}

/// True if the Raft entry that holds this entry ends in a point: the set of replicas changes, or a replica says which versions
/// it runs. A replica that got its state as a copy says so again, to make the others attest theirs.
#[must_use]
pub fn is_asked_for(entry: &v1::Entry) -> bool {
    let Some(Body::Governance(governance)) = &entry.body else {
        return false;
    };
    let command = entry::command(entry).ok().flatten();
    let asks = matches!(
        command.and_then(|command| command.body),
        Some(Ask::DeclareSupport(_) | Ask::UpdateMembership(_))
    );
    asks && governance.result() == v1::Result::Applied
}

/// A point with its view.
#[derive(Clone)]
pub struct Point {
    /// The size of the tree.
    pub size: TreeSize,
    /// The store then.
    pub view: Arc<dyn Read>,
    /// Of which store it is a view.
    pub store: StoreNumber,
}

impl std::fmt::Debug for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Point")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// How often the store had been replaced by a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreNumber(u64);

/// The newest point that nobody has taken.
#[derive(Debug, Default)]
pub struct Points {
    newest: Mutex<(StoreNumber, Option<Point>)>,
    arrived: Notify,
}

impl Points {
    /// Leaves a point. One that nobody has taken yet goes: the newer one says more.
    pub fn put(&self, size: TreeSize, view: Arc<dyn Read>) {
        let mut newest = self.newest();
        let store = newest.0;
        newest.1 = Some(Point { size, view, store });
        drop(newest);
        self.arrived.notify_one();
    }

    /// Takes the newest point, as soon as there is one.
    pub async fn take(&self) -> Point {
        loop {
            if let Some(point) = self.newest().1.take() {
                return point;
            }
            self.arrived.notified().await;
        }
    }

    /// The store is about to be replaced: what was seen of it so far counts no more.
    pub fn begin_again(&self) {
        let mut newest = self.newest();
        newest.0.0 += 1;
        newest.1 = None;
    }

    /// Which store it is now.
    #[must_use]
    pub fn store(&self) -> StoreNumber {
        self.newest().0
    }

    /// Does something, unless it is another store by now. The store is not replaced meanwhile. None if it is another one.
    ///
    /// # Errors
    /// Those of `act`.
    pub fn while_it_is(
        &self,
        store: StoreNumber,
        act: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<Option<()>> {
        let newest = self.newest();
        if newest.0 == store {
            act().map(Some)
        } else {
            Ok(None)
        }
    }

    fn newest(&self) -> MutexGuard<'_, (StoreNumber, Option<Point>)> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Store;
    use crate::storage::memory::MemoryStore;

    #[test]
    fn points_are_where_a_multiple_is_crossed_however_far_an_entry_reaches() {
        let due = |before, after| is_due(TreeSize(before), TreeSize(after));
        assert!(!due(0, 1));
        assert!(!due(0, MIN_INTERVAL - 1));
        assert!(due(0, MIN_INTERVAL));
        assert!(due(MIN_INTERVAL - 1, MIN_INTERVAL + 4_095));
        assert!(!due(MIN_INTERVAL, MIN_INTERVAL + 1));
        assert!(due(2 * MIN_INTERVAL - 1, 2 * MIN_INTERVAL));
        assert!(!due(5, 5), "an entry without commands is no point");
        // In a ledger of 64 million entries, points are 4 million apart.
        let (million, interval) = (1 << 20, 4 << 20);
        assert!(!due(64 * million + 1, 64 * million + interval - 1));
        assert!(due(64 * million + 1, 64 * million + interval));
    }

    #[tokio::test]
    async fn the_newest_point_is_taken_and_none_of_a_store_that_is_gone() {
        let (points, store) = (Points::default(), MemoryStore::new());
        points.put(TreeSize(3), store.view());
        points.put(TreeSize(5), store.view());
        let taken = points.take().await;
        assert_eq!(taken.size, TreeSize(5));
        points.put(TreeSize(7), store.view());
        points.begin_again();
        points.put(TreeSize(9), store.view());
        let next = points.take().await;
        assert_eq!(next.size, TreeSize(9));
        let act = |of: StoreNumber| points.while_it_is(of, || Ok(())).unwrap();
        assert_eq!(act(taken.store), None, "of the store before");
        assert_eq!(act(next.store), Some(()));
    }
}
