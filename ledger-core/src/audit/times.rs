//! The times of entries beside the times at which cosigners signed the trees that hold them.
//!
//! A cosigner signs no tree whose last entry is ahead of its own clock by more than [`MAX_CLOCK_OFFSET_US`], and times never fall from
//! one entry to the next. So an entry that is dated later than all cosigners of a tree that holds it were by their own clocks was not
//! made when it says: its time is impossible. Where only some of them contradict it, one of their clocks may be off, or one of them
//! lies; the entry is then in doubt.

use crate::hash::{LeafIndex, TreeSize};
use crate::limits::{MAX_CLOCK_OFFSET_US, SECOND_US};
use crate::note::verify::{VerifiedCheckpoint, VerifiedCosignature};

/// Conflicts that are listed one by one; the others are counted.
pub const MAX_LISTED_CONFLICTS: usize = 100;

/// Entries whose times cosigners contradict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeConflict {
    /// The first of the entries.
    pub first: LeafIndex,
    /// How many entries, from the first on without gaps.
    pub entries: u64,
    /// The time of the first, in microseconds since 1970.
    pub time_us: u64,
    /// The size of the tree that was cosigned.
    pub tree_size: TreeSize,
    /// The cosigners whose clocks had not reached the time of the first entry when they signed, with the time that each stated, in
    /// seconds since 1970.
    pub contradicted_by: Vec<(String, u64)>,
    /// True if no cosigner of the tree supports the time of the first entry.
    pub is_impossible: bool,
}

/// A comparison of entries with cosignatures, from the first entry on.
#[derive(Debug, Default)]
pub struct TimeComparison {
    /// Times of the entries since the last cosigned tree, the first of them at `next`.
    since: Vec<u64>,
    next: u64,
    checkpoints: u64,
    impossible: u64,
    doubtful: u64,
    conflicts: Vec<TimeConflict>,
}

impl TimeComparison {
    /// Adds the time of the next entry.
    pub fn add_entry(&mut self, time_us: u64) {
        self.since.push(time_us);
    }

    /// Compares the entries since the last checkpoint with the next one, which covers exactly the entries that were added. After them,
    /// the ledger's time is ahead of clocks by this offset, which cosigners know.
    pub fn add_checkpoint(&mut self, checkpoint: &VerifiedCheckpoint, time_offset_us: u64) {
        self.checkpoints = self.checkpoints.saturating_add(1);
        let tree_size = checkpoint.checkpoint().size();
        let since = std::mem::take(&mut self.since);
        let first = self.next;
        self.next = tree_size.0;
        let cosigners = checkpoint.cosignatures();
        let limit_us = |by: &VerifiedCosignature| limit_us(by).saturating_add(time_offset_us);
        let limits = cosigners.iter().map(limit_us);
        let (Some(earliest), Some(latest)) = (limits.clone().min(), limits.max()) else {
            return;
        };
        // Times do not fall, so that those which are too late are the last ones.
        let supported = since.partition_point(|time| *time <= earliest);
        let Some(time_us) = since.get(supported).copied() else {
            return;
        };
        let count = |from: usize| to_u64(since.len().saturating_sub(from));
        let impossible = count(since.partition_point(|time| *time <= latest));
        self.impossible = self.impossible.saturating_add(impossible);
        self.doubtful = self.doubtful.saturating_add(count(supported) - impossible);
        if self.conflicts.len() == MAX_LISTED_CONFLICTS {
            return;
        }
        let contradicting = cosigners.iter().filter(|by| limit_us(by) < time_us);
        self.conflicts.push(TimeConflict {
            first: LeafIndex(first.saturating_add(to_u64(supported))),
            entries: count(supported),
            time_us,
            tree_size,
            contradicted_by: contradicting
                .map(|by| (by.witness.clone(), by.time.seconds()))
                .collect(),
            is_impossible: time_us > latest,
        });
    }

    /// How many checkpoints were compared.
    #[must_use]
    pub const fn checkpoints(&self) -> u64 {
        self.checkpoints
    }

    /// How many entries no cosigner of their tree supports.
    #[must_use]
    pub const fn impossible(&self) -> u64 {
        self.impossible
    }

    /// How many further entries some cosigners of their tree contradict.
    #[must_use]
    pub const fn doubtful(&self) -> u64 {
        self.doubtful
    }

    /// The conflicts in their order, at most [`MAX_LISTED_CONFLICTS`].
    #[must_use]
    pub fn conflicts(&self) -> &[TimeConflict] {
        &self.conflicts
    }
}

/// The latest time in microseconds that an entry can have in a tree which this cosigner signed: a cosignature states whole seconds.
fn limit_us(by: &VerifiedCosignature) -> u64 {
    let second = by.time.seconds().saturating_add(1);
    second
        .saturating_mul(SECOND_US)
        .saturating_add(MAX_CLOCK_OFFSET_US)
}

fn to_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Hash;
    use crate::note::checkpoint::Checkpoint;
    use crate::note::test_keys::{LOG, cosigned, log_key, signing_key, witness_key};
    use crate::note::tlog_policy::TlogPolicy;
    use crate::note::verify::verify_checkpoint;

    /// A checkpoint of so many entries that witnesses 1, 2, … signed at these seconds.
    fn checkpoint(size: u64, seconds: &[u64]) -> VerifiedCheckpoint {
        let witnesses = || (1..).zip(seconds.iter().copied());
        let checkpoint = Checkpoint::new(LOG, TreeSize(size), Hash::from_bytes([7; 32])).unwrap();
        let mut note = checkpoint.sign(&signing_key(100)).unwrap();
        let mut policy = format!("log {}\n", log_key(LOG, 100));
        let mut names = String::new();
        for (seed, second) in witnesses() {
            note.add(cosigned(&checkpoint, seed, second)).unwrap();
            policy.push_str(&format!("witness w{seed} {}\n", witness_key(seed)));
            names.push_str(&format!(" w{seed}"));
        }
        policy.push_str(&format!("group all 1{names}\nquorum all\n"));
        let policy = TlogPolicy::parse(policy.as_bytes()).unwrap();
        verify_checkpoint(note.to_string().as_bytes(), &policy).unwrap()
    }

    fn compared(entries: &[u64], checkpoints: &[VerifiedCheckpoint]) -> TimeComparison {
        compared_with(entries, checkpoints, 0)
    }

    fn compared_with(
        entries: &[u64],
        checkpoints: &[VerifiedCheckpoint],
        offset_us: u64,
    ) -> TimeComparison {
        let mut comparison = TimeComparison::default();
        let mut checkpoints = checkpoints.iter().peekable();
        for (size, seconds) in (1..).zip(entries) {
            comparison.add_entry(seconds * SECOND_US);
            while let Some(next) =
                checkpoints.next_if(|next| next.checkpoint().size() == TreeSize(size))
            {
                comparison.add_checkpoint(next, offset_us);
            }
        }
        comparison
    }

    #[test]
    fn what_clocks_may_differ_by_is_no_conflict() {
        let comparison = compared(&[100, 103], &[checkpoint(2, &[100, 100])]);
        assert_eq!(comparison.conflicts(), []);
        assert_eq!((comparison.checkpoints(), comparison.impossible()), (1, 0));
    }

    #[test]
    fn a_ledger_that_admins_have_put_ahead_is_ahead_by_so_much_and_no_more() {
        let entries = [90_100, 90_103, 90_104];
        let checkpoints = [checkpoint(2, &[100, 100]), checkpoint(3, &[100, 100])];
        let of_offset = |seconds: u64| {
            let compared = compared_with(&entries, &checkpoints, seconds * SECOND_US);
            (compared.impossible(), compared.doubtful())
        };
        assert_eq!(of_offset(90_000), (1, 0));
        assert_eq!(of_offset(90_001), (0, 0));
        assert_eq!(of_offset(0), (3, 0));
    }

    #[test]
    fn entries_that_nobodys_clock_had_reached_are_impossible() {
        let comparison = compared(
            &[90, 100, 161, 161, 170],
            &[checkpoint(1, &[90, 91]), checkpoint(5, &[101, 110])],
        );
        assert_eq!((comparison.impossible(), comparison.doubtful()), (3, 0));
        let [conflict] = comparison.conflicts() else {
            panic!("{comparison:?}");
        };
        assert_eq!((conflict.first, conflict.entries), (LeafIndex(2), 3));
        assert!(conflict.is_impossible);
        let by = [("w1".to_owned(), 101), ("w2".to_owned(), 110)];
        assert_eq!(conflict.contradicted_by, by);
    }

    #[test]
    fn entries_that_some_cosigners_support_are_in_doubt() {
        let comparison = compared(&[100, 161, 300], &[checkpoint(3, &[100, 162])]);
        assert_eq!((comparison.impossible(), comparison.doubtful()), (1, 1));
        let [conflict] = comparison.conflicts() else {
            panic!("{comparison:?}");
        };
        assert_eq!(conflict.first, LeafIndex(1));
        assert!(!conflict.is_impossible);
        assert_eq!(conflict.contradicted_by, [("w1".to_owned(), 100)]);
    }

    #[test]
    fn many_conflicts_are_counted_and_the_first_are_listed() {
        let sizes = 1..=150_u64;
        let entries: Vec<u64> = sizes.clone().map(|size| 1_000 + size).collect();
        let checkpoints: Vec<_> = sizes.map(|size| checkpoint(size, &[10])).collect();
        let comparison = compared(&entries, &checkpoints);
        assert_eq!(comparison.impossible(), 150);
        assert_eq!(comparison.conflicts().len(), MAX_LISTED_CONFLICTS);
    }
}
