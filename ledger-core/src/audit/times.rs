//! The times of entries beside the times at which cosigners signed the trees that hold them.
//!
//! A cosigner signs no tree whose last entry is ahead of its own clock by more than [`MAX_CLOCK_OFFSET_US`], and times never fall from
//! one entry to the next. So the time of an entry is supported by those cosigners of a tree that holds it whose clocks had
//! come to it, and contradicted by the others. Where those who support it do not meet the trust policy of the tree alone, it is impossible:
//! those who lie can date their own cosignatures as well, and what the policy demands beside them, an outside witness for instance,
//! contradicts them. Where they do meet it, one clock may be off, or one cosigner lies; the entry is then in doubt.

use crate::hash::{LeafIndex, TreeSize};
use crate::limits::{MAX_CLOCK_OFFSET_US, SECOND_US};
use crate::note::tlog_policy::TlogPolicy;
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
    /// True if those cosigners of the tree that support the time of the first entry do not meet its trust policy.
    pub is_impossible: bool,
}

/// How many entries are contradicted.
#[derive(Debug, Clone, Copy, Default)]
struct Contradicted {
    /// By some cosigner.
    by_some: u64,
    /// By so many that the others do not meet the trust policy.
    by_quorum: u64,
}

/// A comparison of entries with cosignatures, from the first entry on.
#[derive(Debug, Default)]
pub struct TimeComparison {
    /// Times of the entries since the last cosigned tree that is smaller, the first of them at `first`.
    since: Vec<u64>,
    first: u64,
    /// What checkpoints of this tree say of them: it can have several, and each may say more.
    found: Option<Contradicted>,
    checkpoints: u64,
    /// Of the entries before them.
    before: Contradicted,
    conflicts: Vec<TimeConflict>,
}

impl Contradicted {
    const fn and(self, other: Self) -> Self {
        Self {
            by_some: self.by_some.saturating_add(other.by_some),
            by_quorum: self.by_quorum.saturating_add(other.by_quorum),
        }
    }

    fn max(self, other: Self) -> Self {
        Self {
            by_some: self.by_some.max(other.by_some),
            by_quorum: self.by_quorum.max(other.by_quorum),
        }
    }
}

impl TimeComparison {
    /// Adds the time of the next entry.
    pub fn add_entry(&mut self, time_us: u64) {
        if let Some(found) = self.found.take() {
            self.before = self.before.and(found);
            self.first = self.first.saturating_add(to_u64(self.since.len()));
            self.since.clear();
        }
        self.since.push(time_us);
    }

    /// Compares the entries since the last smaller checkpoint with one that covers exactly the entries that were added, and meets this
    /// trust policy. After them, the ledger's time is ahead of clocks by this offset, which cosigners know.
    pub fn add_checkpoint(
        &mut self,
        checkpoint: &VerifiedCheckpoint,
        policy: &TlogPolicy,
        time_offset_us: u64,
    ) {
        self.checkpoints = self.checkpoints.saturating_add(1);
        let cosigners = checkpoint.cosignatures();
        let limit_us = |by: &VerifiedCosignature| limit_us(by).saturating_add(time_offset_us);
        let mut limits: Vec<u64> = cosigners.iter().map(limit_us).collect();
        limits.sort_unstable();
        let (Some(earliest), Some(latest)) = (limits.first(), limits.last()) else {
            return;
        };
        // The latest time that a quorum supports; a policy that asks for none is content with anybody.
        let is_enough = |limit: &&u64| {
            let supports = |name: &str| {
                let mut by = cosigners.iter().filter(|by| by.witness == name);
                by.any(|by| limit_us(by) >= **limit)
            };
            policy.is_met_by(|witness| supports(&witness.name))
        };
        let reached = limits.iter().rev().find(is_enough).unwrap_or(latest);
        // Times do not fall, so that those which are too late are the last ones.
        let since = &self.since;
        let upto = |limit: u64| since.partition_point(|time| *time <= limit);
        let count = |from: usize| to_u64(since.len().saturating_sub(from));
        let supported = upto(*earliest);
        let found = Contradicted {
            by_some: count(supported),
            by_quorum: count(upto(*reached)),
        };
        self.found = Some(self.found.unwrap_or_default().max(found));
        let Some(time_us) = since.get(supported).copied() else {
            return;
        };
        let contradicting = cosigners.iter().filter(|by| limit_us(by) < time_us);
        let conflict = TimeConflict {
            first: LeafIndex(self.first.saturating_add(to_u64(supported))),
            entries: found.by_some,
            time_us,
            tree_size: checkpoint.checkpoint().size(),
            contradicted_by: contradicting
                .map(|by| (by.witness.clone(), by.time.seconds()))
                .collect(),
            is_impossible: time_us > *reached,
        };
        if self.conflicts.len() < MAX_LISTED_CONFLICTS && !self.conflicts.contains(&conflict) {
            self.conflicts.push(conflict);
        }
    }

    fn contradicted(&self) -> Contradicted {
        self.before.and(self.found.unwrap_or_default())
    }

    /// How many checkpoints were compared.
    #[must_use]
    pub const fn checkpoints(&self) -> u64 {
        self.checkpoints
    }

    /// How many entries no quorum of the cosigners of their tree supports.
    #[must_use]
    pub fn impossible(&self) -> u64 {
        self.contradicted().by_quorum
    }

    /// How many further entries some cosigners of their tree contradict.
    #[must_use]
    pub fn doubtful(&self) -> u64 {
        let found = self.contradicted();
        found.by_some.saturating_sub(found.by_quorum)
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
    use crate::note::verify::verify_checkpoint;

    /// A checkpoint, and the policy that it meets.
    type Cosigned = (VerifiedCheckpoint, TlogPolicy);

    /// A checkpoint of so many entries that witnesses 1, 2, … signed at these seconds; any one of them is enough.
    fn checkpoint(size: u64, seconds: &[u64]) -> Cosigned {
        checkpoint_of(size, seconds, 1)
    }

    /// The same where so many of them are a quorum.
    fn checkpoint_of(size: u64, seconds: &[u64], quorum: usize) -> Cosigned {
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
        policy.push_str(&format!("group all {quorum}{names}\nquorum all\n"));
        let policy = TlogPolicy::parse(policy.as_bytes()).unwrap();
        let verified = verify_checkpoint(note.to_string().as_bytes(), &policy).unwrap();
        (verified, policy)
    }

    fn compared(entries: &[u64], checkpoints: &[Cosigned]) -> TimeComparison {
        compared_with(entries, checkpoints, 0)
    }

    fn compared_with(entries: &[u64], checkpoints: &[Cosigned], offset_us: u64) -> TimeComparison {
        let mut comparison = TimeComparison::default();
        let mut checkpoints = checkpoints.iter().peekable();
        for (size, seconds) in (1..).zip(entries) {
            comparison.add_entry(seconds * SECOND_US);
            while let Some((next, policy)) =
                checkpoints.next_if(|(next, _)| next.checkpoint().size() == TreeSize(size))
            {
                comparison.add_checkpoint(next, policy, offset_us);
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

    /// Those who lie date their own cosignatures as they date entries.
    #[test]
    fn entries_that_no_quorum_supports_are_impossible() {
        let of_quorum = |quorum: usize| {
            let checkpoint = checkpoint_of(3, &[162, 100, 163], quorum);
            let comparison = compared(&[90, 161, 165], &[checkpoint]);
            let impossible = comparison.conflicts().iter().map(|it| it.is_impossible);
            let impossible: Vec<bool> = impossible.collect();
            let counted = (comparison.impossible(), comparison.doubtful());
            (counted, impossible)
        };
        assert_eq!(of_quorum(1), ((0, 2), vec![false]));
        assert_eq!(of_quorum(2), ((0, 2), vec![false]));
        assert_eq!(of_quorum(3), ((2, 0), vec![true]));
    }

    #[test]
    fn each_checkpoint_of_a_tree_is_compared_whichever_comes_first() {
        let early = || checkpoint(2, &[100]);
        let late = || checkpoint(2, &[161]);
        for two in [[early(), late()], [late(), early()]] {
            let comparison = compared(&[90, 161], &two);
            assert_eq!((comparison.impossible(), comparison.doubtful()), (1, 0));
            assert_eq!(comparison.conflicts().len(), 1);
            assert_eq!(comparison.checkpoints(), 2);
        }
        // What two say is one conflict, and the next tree begins after it.
        let comparison = compared(&[90, 161, 300], &[early(), early(), checkpoint(3, &[100])]);
        assert_eq!((comparison.impossible(), comparison.doubtful()), (2, 0));
        let first: Vec<_> = comparison.conflicts().iter().map(|it| it.first.0).collect();
        assert_eq!(first, [1, 2]);
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
