//! The machine over many commands: every eight bytes are a number, and every number is a step of a stream, made against what the
//! ledger has answered so far. The fuzzer looks for the sequence that a single command cannot show.

use std::sync::OnceLock;

use ledger_core::machine::{Applied, Machine, SignatureChecks, check_signatures, tip};
use ledger_core::state::{State, Txn};

use crate::kit::World;
use crate::stream::{Dice, Step, Stream};

/// Most steps of one input.
const MAX_STEPS: usize = 48;
/// Steps that come before every input, so that there are agents, sessions and bundles to work with.
const BEFORE: usize = 500;
/// The seed of those.
const SEED: u64 = 16;

/// A ledger in the middle of its life, with the stream that knows it.
struct Middle {
    world: World,
    stream: Stream,
}

fn middle() -> &'static Middle {
    static MIDDLE: OnceLock<Middle> = OnceLock::new();
    MIDDLE.get_or_init(|| {
        let mut world = World::new();
        let mut stream = Stream::new(&world.origin, world.now_us);
        let mut dice = Dice::new(SEED);
        for _ in 0..BEFORE {
            for step in stream.next(dice.word()) {
                world.now_us = step.time_us;
                let applied = world.apply(&step.submission);
                stream.learn(&applied);
            }
        }
        Middle { world, stream }
    })
}

/// Two replicas apply the same commands, one by one and all at once: the same entries, writes and root must come of it.
///
/// # Panics
/// If not, or if a command damages the state.
pub fn target_machine(data: &[u8]) {
    let Middle { world, stream } = middle();
    let mut stream = stream.clone();
    let mut steady = Txn::new(&world.state);
    let (mut steps, mut expected) = (Vec::new(), Vec::new());
    for number in data.chunks_exact(8).take(MAX_STEPS) {
        let number = number.try_into().map(u64::from_le_bytes);
        for step in stream.next(number.expect("eight bytes")) {
            let (applied, writes) = apply_on(&world.machine, &steady, &step, false);
            let before = tip(&steady).expect("sound state");
            steady.absorb(writes);
            let after = tip(&steady).expect("sound state");
            let grown = matches!(applied, Applied::Appended(_));
            assert_eq!(after.size.0, before.size.0 + u64::from(grown));
            assert!(!grown || after.time_us > before.time_us);
            stream.learn(&applied);
            steps.push(step);
            expected.push(applied);
        }
    }
    // Another replica, which has compiled nothing, and has checked signatures ahead.
    let machine = Machine::new();
    let mut other = Txn::new(&world.state);
    for (step, expected) in steps.iter().zip(expected) {
        let (applied, writes) = apply_on(&machine, &other, step, true);
        other.absorb(writes);
        assert_eq!(applied, expected, "the same command gave something else");
    }
    assert_eq!(
        tip(&other).expect("sound state").root,
        tip(&steady).expect("sound state").root
    );
    assert_eq!(other.into_writes(), steady.into_writes());
}

fn apply_on(
    machine: &Machine,
    below: &dyn State,
    step: &Step,
    checked_ahead: bool,
) -> (Applied, ledger_core::state::Writes) {
    let checks = if checked_ahead {
        let origin = &middle().world.origin;
        check_signatures(below, origin, &step.submission).expect("sound state")
    } else {
        SignatureChecks::default()
    };
    let mut txn = Txn::new(below);
    let applied = machine
        .apply(&mut txn, step.time_us, &step.submission, &checks)
        .expect("no command damages the state");
    (applied, txn.into_writes())
}

/// What fuzzing begins with: numbers of some seeds.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    (0..4)
        .map(|seed| {
            let mut dice = Dice::new(seed);
            let numbers = std::iter::repeat_with(|| dice.word().to_le_bytes());
            numbers.take(MAX_STEPS).flatten().collect()
        })
        .collect()
}
