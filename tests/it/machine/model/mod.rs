//! The machine against a model that is too simple to be wrong: plain maps, written from the design and not from the code.
//!
//! The model says what must become of each command; the machine is asked; the two must agree, number by number.
//!
//! To run long: `PROPTEST_CASES=2000 cargo test -p countersign-tests --test it machine::model`.

mod driver;
mod permits;
mod reference;
mod rules;
mod transition;

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use driver::Driver;
use reference::Model;
use transition::Transition;

prop_state_machine! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(super::cases(48)) })]

    #[test]
    fn the_machine_does_what_the_model_says(sequential 1..160 => Driver);
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Transition;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self::new()).boxed()
    }

    fn transitions(_: &Self) -> BoxedStrategy<Transition> {
        transition::transitions()
    }

    fn apply(mut state: Self, transition: &Transition) -> Self {
        state.step(transition);
        state
    }
}

impl StateMachineTest for Driver {
    type SystemUnderTest = Self;
    type Reference = Model;

    fn init_test(_: &Model) -> Self {
        Self::new()
    }

    fn apply(mut driver: Self, model: &Model, transition: Transition) -> Self {
        let found = driver.step(&transition);
        assert_eq!(found, model.expected, "after {transition:?}");
        driver
    }
}

/// A model that never meets a case says nothing about it, so this counts what random runs reach.
#[test]
fn random_runs_reach_what_the_model_knows() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut met: BTreeMap<String, usize> = BTreeMap::new();
    let strategy = Model::sequential_strategy(150..160);
    for _ in 0..400 {
        let tree = strategy.new_tree(&mut runner).expect("a run");
        let (mut model, transitions, _) = tree.current();
        for transition in &transitions {
            model.step(transition);
            *met.entry(model.expected.kind()).or_default() += 1;
        }
    }
    for kind in reference::KINDS {
        assert!(met.contains_key(kind), "no run meets {kind}: {met:#?}");
    }
}
