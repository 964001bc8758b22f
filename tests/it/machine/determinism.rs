//! The same log gives the same ledger: on every replica, however it groups its writes, whenever it restarts.
//!
//! To run long: `PROPTEST_CASES=200 cargo test -p countersign-tests --test it machine::determinism`.

use std::collections::BTreeSet;

use countersign_tests::kit::World;
use ledger_core::hash::{Hash, TreeHash};
use ledger_core::machine::{
    self, Applied, ENGINE_VERSION, Machine, SignatureChecks, check_signatures,
};
use ledger_core::state::{MemoryState, Txn, state_digest};
use ledger_proto::v1;
use proptest::prelude::*;

use super::history;
use countersign_tests::stream::{Dice, Step, Stream};

/// A replica: what it remembers, and the machine that writes it.
#[derive(Debug)]
struct Replica {
    state: MemoryState,
    machine: Machine,
}

impl Replica {
    fn new(state: &MemoryState) -> Self {
        Self {
            state: copy(state, |_| true),
            machine: Machine::new(),
        }
    }

    /// A process ends, and another begins on what was saved.
    fn restart(&mut self) {
        *self = Self::new(&self.state);
    }

    /// Applies steps in one transaction and commits it.
    fn apply(&mut self, steps: &[(&Step, SignatureChecks)]) -> Vec<Applied> {
        let mut txn = Txn::new(&self.state);
        let applied = steps
            .iter()
            .map(|(step, checks)| {
                self.machine
                    .apply(&mut txn, step.time_us, &step.submission, checks)
                    .expect("no command damages the state")
            })
            .collect();
        let writes = txn.into_writes();
        self.state.commit(writes);
        applied
    }
}

/// A copy of the pairs whose keys are wanted: what a snapshot brings to another node.
fn copy(state: &MemoryState, wanted: impl Fn(&[u8]) -> bool) -> MemoryState {
    state
        .pairs()
        .filter(|(key, _)| wanted(key))
        .map(|(key, value)| (key.to_vec(), value.to_vec()))
        .collect()
}

fn digest(state: &MemoryState) -> Hash {
    state_digest(state).expect("sound")
}

fn root(state: &MemoryState) -> Hash {
    machine::tip(state).expect("sound").root
}

/// Applies the stream of these numbers on a replica that takes commands one by one and never restarts, and on one that
/// groups, restarts and checks signatures ahead of time as `how` says; compares them all along.
fn run(tree_hash: TreeHash, numbers: &[u64], how: u64) -> Replica {
    let world = World::with_tree(tree_hash);
    let mut stream = Stream::new(&world.origin, world.now_us);
    let mut steady = Replica::new(&world.state);
    let mut other = Replica::new(&world.state);
    let mut dice = Dice::new(how);
    // Compared often, because a difference can be healed by the next command and still be one.
    for part in numbers.chunks(15) {
        let mut steps = Vec::new();
        let mut expected = Vec::new();
        for number in part {
            for step in stream.next(*number) {
                let applied = steady
                    .apply(&[(&step, SignatureChecks::default())])
                    .remove(0);
                stream.learn(&applied);
                steps.push(step);
                expected.push(applied);
            }
        }
        let found = replay(&mut other, &mut dice, &world.origin, &steady, &steps);
        for (at, (expected, found)) in expected.iter().zip(&found).enumerate() {
            assert_eq!(
                expected, found,
                "step {at} of the part that begins with {}",
                part[0]
            );
        }
        assert_eq!(expected.len(), found.len());
        assert_eq!(root(&steady.state), root(&other.state));
        assert_eq!(digest(&steady.state), digest(&other.state));
        assert!(
            steady.state == other.state,
            "the digest is the same, and yet the state is not"
        );
    }
    steady
}

/// The other replica's way through the same steps.
fn replay(
    replica: &mut Replica,
    dice: &mut Dice,
    origin: &str,
    ahead: &Replica,
    steps: &[Step],
) -> Vec<Applied> {
    let mut found = Vec::new();
    let mut rest = steps;
    while !rest.is_empty() {
        if dice.percent(10) {
            replica.restart();
        }
        let size = 1 + usize::try_from(dice.below(12)).expect("small");
        let (group, later) = rest.split_at(size.min(rest.len()));
        rest = later;
        let group: Vec<(&Step, SignatureChecks)> = group
            .iter()
            .map(|step| (step, checks(replica, dice, origin, ahead, step)))
            .collect();
        found.extend(replica.apply(&group));
        if group.iter().any(|(step, _)| is_erasure(step)) && dice.percent(50) {
            forget_erased(replica, &found);
            replica.restart();
        }
    }
    found
}

/// Signatures checked before this transaction, after everything, or not yet.
fn checks(
    replica: &Replica,
    dice: &mut Dice,
    origin: &str,
    ahead: &Replica,
    step: &Step,
) -> SignatureChecks {
    let state = match dice.below(3) {
        0 => return SignatureChecks::default(),
        1 => &replica.state,
        _ => &ahead.state,
    };
    check_signatures(state, origin, &step.submission).expect("sound")
}

fn is_erasure(step: &Step) -> bool {
    let signed = step.submission.signed.as_ref();
    signed
        .and_then(|signed| <v1::Command as prost::Message>::decode(signed.command.as_slice()).ok())
        .is_some_and(|command| matches!(command.body, Some(v1::command::Body::Erase(_))))
}

/// Drops what applied erasures name, as compaction and a purged log do.
fn forget_erased(replica: &mut Replica, applied: &[Applied]) {
    let mut erased: BTreeSet<Vec<u8>> = BTreeSet::new();
    for applied in applied {
        if let Applied::Appended(appended) = applied {
            erased.extend(history::erased_keys(&appended.entry));
        }
    }
    let kept = copy(&replica.state, |key| !erased.contains(key));
    assert!(
        kept == replica.state,
        "an applied erasure leaves nothing to drop"
    );
    replica.state = kept;
}

/// The ledger that the stream of these numbers gives.
pub(super) fn ledger(tree_hash: TreeHash, numbers: &[u64]) -> MemoryState {
    run(tree_hash, numbers, 0).state
}

/// The first numbers of a seed.
pub(super) fn numbers(seed: u64, count: usize) -> Vec<u64> {
    let mut dice = Dice::new(seed);
    std::iter::repeat_with(|| dice.word()).take(count).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: super::cases(3), max_shrink_time: 60_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn replicas_agree_however_they_group_and_restart(
        numbers in prop::collection::vec(any::<u64>(), 2_000..2_500), how in any::<u64>(), blake3 in any::<bool>(),
    ) {
        let tree_hash = if blake3 { TreeHash::Blake3 } else { TreeHash::Sha256 };
        let replica = run(tree_hash, &numbers, how);
        history::verify(tree_hash, &replica.state);
    }
}

/// The seed of the pinned run, and how many numbers it takes.
const PINNED: (u64, usize) = (20_261_140, 5_000);

#[test]
fn a_long_run_gives_the_pinned_ledger_with_sha256() {
    pinned(
        TreeHash::Sha256,
        "c84279da34f3452560508245858ed9b8e460616151d88cf041452a6fb12b3cd6",
        "fae84e2ae7e964226639ee7fa615d1694c650321a21eaacaa5ee54a7e34534af",
    );
}

#[test]
fn a_long_run_gives_the_pinned_ledger_with_blake3() {
    pinned(
        TreeHash::Blake3,
        "1c1581046975ddd2f8bb12390b20feb99f019c24ce3790941570f5a5c03a0fcc",
        "aec92f49bd5603231ad2799b3a6cef193b0a8565d29de8d4e1e18543d7d5fa59",
    );
}

fn pinned(tree_hash: TreeHash, pinned_root: &str, pinned_digest: &str) {
    let (seed, count) = PINNED;
    let replica = run(tree_hash, &numbers(seed, count), seed);
    let seen = history::verify(tree_hash, &replica.state);
    seen.require_everything();
    assert_eq!(
        (
            root(&replica.state).to_string(),
            digest(&replica.state).to_string()
        ),
        (pinned_root.to_owned(), pinned_digest.to_owned()),
        "root and state digest of a fixed log have changed: replicas of engine version {ENGINE_VERSION} that run the code \
         before and after this change would part. If the change is meant, it belongs behind the next engine version; \
         before the first release, pin the new values and say so in the changelog.",
    );
}

#[test]
fn the_state_digest_does_not_cover_compartments() {
    let replica = run(TreeHash::Sha256, &numbers(1, 300), 1);
    let without = copy(&replica.state, |key| !history::is_compartment(key));
    assert!(
        without != replica.state,
        "the run leaves compartments to take away"
    );
    assert_eq!(digest(&without), digest(&replica.state));
    assert_eq!(root(&without), root(&replica.state));
}
