//! Which trust policy is in force for a tree, and what it takes to change it: said once, for whoever signs, collects or shows.

use std::ops::RangeInclusive;

use ledger_core::hash::{LeafIndex, TreeSize};
use ledger_core::note::checkpoint::Checkpoint;
use ledger_core::note::tlog_policy::TlogPolicy;
use ledger_core::note::verify::verify_checkpoint;
use ledger_core::state::{Key, State, StateError, read};
use ledger_proto::v1;

/// The trust policies of a ledger up to the one in force for a tree, by epoch.
pub(crate) struct TrustPolicies<'s> {
    state: &'s dyn State,
    epoch: u64,
}

/// Changes of the trust policy that one checkpoint is to carry: nearly always one.
pub(crate) struct Step {
    leaf: LeafIndex,
    before: TlogPolicy,
    after: TlogPolicy,
}

impl<'s> TrustPolicies<'s> {
    /// Those of a tree of this size: a change is in force for the trees that have its leaf.
    ///
    /// # Errors
    /// The state cannot be read, or lacks a record.
    pub(crate) fn read(state: &'s dyn State, size: TreeSize) -> Result<Self, StateError> {
        let ledger: v1::LedgerRecord =
            read(state, &Key::ledger())?.ok_or_else(|| missing(&Key::ledger()))?;
        let mut policies = Self {
            state,
            epoch: ledger.trust_epoch,
        };
        // Nearly everybody asks about the end of the ledger.
        while policies.epoch > 0 {
            let leaf = policies.record(policies.epoch)?.leaf;
            if size.contains(LeafIndex(leaf)) {
                break;
            }
            policies.epoch -= 1;
        }
        Ok(policies)
    }

    /// The epoch of the policy in force; the changes up to it are numbered from 1.
    pub(crate) const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The policy in force.
    ///
    /// # Errors
    /// Its record is missing or damaged.
    pub(crate) fn in_force(&self) -> Result<TlogPolicy, StateError> {
        self.policy(self.epoch)
    }

    /// The policy of an epoch.
    ///
    /// # Errors
    /// Its record is missing or damaged.
    pub(crate) fn policy(&self, epoch: u64) -> Result<TlogPolicy, StateError> {
        parse(epoch, &self.record(epoch)?)
    }

    /// The changes to these epochs; none for the first policy, which is no change, and for what the tree does not have.
    ///
    /// # Errors
    /// A record is missing or damaged.
    pub(crate) fn step(&self, epochs: RangeInclusive<u64>) -> Result<Option<Step>, StateError> {
        let (first, last) = epochs.into_inner();
        let Some(before) = first
            .checked_sub(1)
            .filter(|_| first <= last && last <= self.epoch)
        else {
            return Ok(None);
        };
        let record = self.record(last)?;
        Ok(Some(Step {
            leaf: LeafIndex(record.leaf),
            before: self.policy(before)?,
            after: parse(last, &record)?,
        }))
    }

    fn record(&self, epoch: u64) -> Result<v1::TrustRecord, StateError> {
        let key = Key::trust(epoch);
        read(self.state, &key)?.ok_or_else(|| missing(&key))
    }
}

impl Step {
    /// Checks that a checkpoint carries the changes: it covers the last, and meets the policy before the first and the policy
    /// after the last. Whether its tree is this ledger's is not looked at.
    ///
    /// # Errors
    /// It does not, in one sentence.
    pub(crate) fn must_be_carried_by(&self, note: &str) -> Result<Checkpoint, String> {
        let verify = |policy: &TlogPolicy| verify_checkpoint(note.as_bytes(), policy);
        verify(&self.before).map_err(|error| format!("under the policy before: {error}"))?;
        let verified =
            verify(&self.after).map_err(|error| format!("under the policy after: {error}"))?;
        let checkpoint = verified.checkpoint();
        if checkpoint.size().contains(self.leaf) {
            Ok(checkpoint.clone())
        } else {
            Err("the checkpoint does not cover the change of the trust policy".to_owned())
        }
    }
}

fn parse(epoch: u64, record: &v1::TrustRecord) -> Result<TlogPolicy, StateError> {
    TlogPolicy::parse(record.trust_policy.as_bytes()).map_err(|_| missing(&Key::trust(epoch)))
}

fn missing(key: &Key) -> StateError {
    StateError::damaged(key, "a record is missing or damaged")
}

#[cfg(test)]
mod tests {
    use ledger_core::hash::Hash;
    use ledger_core::state::MemoryState;
    use prost::Message as _;

    use super::super::test_ledger::{ORIGIN, cosigned, trust_policy};
    use super::*;

    /// A ledger whose trust policy changed at leaves 4 and 9: node 1, then node 2, then node 3.
    fn state() -> MemoryState {
        let mut state = MemoryState::new();
        let ledger = v1::LedgerRecord {
            origin: ORIGIN.to_owned(),
            trust_epoch: 2,
            ..v1::LedgerRecord::default()
        };
        let key = Key::ledger().into_bytes();
        state.commit([(key, Some(ledger.encode_to_vec()))].into());
        for (epoch, leaf) in [(0, 0), (1, 4), (2, 9)] {
            let record = v1::TrustRecord {
                leaf,
                trust_policy: trust_policy(&[epoch + 1]),
            };
            let key = Key::trust(epoch).into_bytes();
            state.commit([(key, Some(record.encode_to_vec()))].into());
        }
        state
    }

    #[test]
    fn a_policy_is_in_force_for_the_trees_that_have_its_leaf() {
        let state = state();
        for (size, epoch) in [(0, 0), (4, 0), (5, 1), (9, 1), (10, 2), (u64::MAX, 2)] {
            let policies = TrustPolicies::read(&state, TreeSize(size)).unwrap();
            assert_eq!(policies.epoch(), epoch, "{size}");
            let text = policies.in_force().unwrap().to_string();
            assert_eq!(text, trust_policy(&[epoch + 1]), "{size}");
            for other in 0..4 {
                let there = policies.step(other..=other).unwrap().is_some();
                assert_eq!(there, (1..=epoch).contains(&other), "{size}: {other}");
            }
        }
    }

    #[test]
    fn a_step_is_carried_by_what_covers_it_and_meets_both_policies() {
        let state = state();
        let policies = TrustPolicies::read(&state, TreeSize(10)).unwrap();
        let step = policies.step(1..=1).unwrap().expect("a step");
        let root = Hash::from_bytes([7; 32]);
        for (size, nodes, carries) in [
            (5, &[1, 2][..], true),
            (10, &[1, 2, 3], true),
            (4, &[1, 2], false),
            (5, &[1], false),
            (5, &[2], false),
            (5, &[2, 3], false),
        ] {
            let note = cosigned(size, root, nodes);
            let carried = step.must_be_carried_by(&note);
            assert_eq!(carried.is_ok(), carries, "{size} {nodes:?}: {carried:?}");
        }
    }

    #[test]
    fn changes_are_carried_together_by_what_meets_the_first_and_the_last_policy() {
        let state = state();
        let policies = TrustPolicies::read(&state, TreeSize(10)).unwrap();
        let both = policies.step(1..=2).unwrap().expect("two steps");
        let root = Hash::from_bytes([7; 32]);
        for (size, nodes, carries) in [
            (10, &[1, 3][..], true),
            (9, &[1, 3], false),
            (10, &[1, 2], false),
            (10, &[2, 3], false),
        ] {
            let note = cosigned(size, root, nodes);
            let carried = both.must_be_carried_by(&note);
            assert_eq!(carried.is_ok(), carries, "{size} {nodes:?}: {carried:?}");
        }
        let backwards = RangeInclusive::new(2, 1);
        for none in [0..=1, backwards, 1..=3, 0..=u64::MAX] {
            assert!(policies.step(none.clone()).unwrap().is_none(), "{none:?}");
        }
    }

    #[test]
    fn a_missing_record_is_an_error() {
        let empty = MemoryState::new();
        assert!(TrustPolicies::read(&empty, TreeSize(1)).is_err());
    }
}
