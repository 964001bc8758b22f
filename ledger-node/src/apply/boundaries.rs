//! The ends of the batches applied last: the trees that proposers have when they make the next ones.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ledger_core::hash::{Hash, TreeSize};

/// How many ends of batches are remembered. A proposer has at most four batches on their way; the rest is for replicas that are
/// behind by seconds. They take 160 KiB.
const MAX_BOUNDARIES: usize = 4_096;

/// Roots of this replica's tree at the ends of batches, the newest last. The applier alone adds to it.
#[derive(Debug, Default)]
pub struct Boundaries(Mutex<VecDeque<(TreeSize, Hash)>>);

impl Boundaries {
    /// The root at a size, if a batch has ended there lately.
    #[must_use]
    pub fn root_at(&self, size: TreeSize) -> Option<Hash> {
        let ends = self.lock();
        let after = ends.partition_point(|(end, _)| *end <= size);
        let newest = after.checked_sub(1).and_then(|at| ends.get(at));
        newest
            .filter(|(end, _)| *end == size)
            .map(|(_, root)| *root)
    }

    /// More batches have ended.
    pub(super) fn extend(&self, ended: impl IntoIterator<Item = (TreeSize, Hash)>) {
        let mut ends = self.lock();
        ends.extend(ended);
        while ends.len() > MAX_BOUNDARIES {
            ends.pop_front();
        }
    }

    /// The replica has another tree now, or begins.
    pub(crate) fn begin_at(&self, size: TreeSize, root: Hash) {
        *self.lock() = VecDeque::from([(size, root)]);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(TreeSize, Hash)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(size: u64) -> (TreeSize, Hash) {
        let low = u8::try_from(size % 251).unwrap();
        (TreeSize(size), Hash::from_bytes([low; 32]))
    }

    #[test]
    fn the_ends_of_the_batches_applied_last_are_known_and_no_others() {
        let ends = Boundaries::default();
        ends.begin_at(TreeSize(10), end(10).1);
        assert_eq!(ends.root_at(TreeSize(10)), Some(end(10).1));
        for unknown in [0, 9, 11, u64::MAX] {
            assert_eq!(ends.root_at(TreeSize(unknown)), None);
        }
        let most = u64::try_from(MAX_BOUNDARIES).unwrap();
        ends.extend((1..=most).map(|step| end(10 + 3 * step)));
        assert_eq!(ends.root_at(TreeSize(10)), None, "forgotten");
        assert_eq!(ends.root_at(TreeSize(13)), Some(end(13).1));
        assert_eq!(ends.root_at(TreeSize(14)), None, "inside a batch");
        ends.begin_at(TreeSize(7), end(7).1);
        assert_eq!(ends.root_at(TreeSize(13)), None);
    }
}
