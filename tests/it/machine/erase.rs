//! Erasing: content goes, the ledger stays as it was, and what is gone is gone for rules too.

use countersign_tests::kit::{Ask, DAY, SECOND, World, bank, outcome_of, result_of};
use ledger_core::hash::LeafIndex;
use ledger_core::id::Identity;
use ledger_core::state::{Key, State};
use ledger_proto::v1::{self, CompartmentKind, command::Body, entry, governance::Detail};

fn erase(world: &mut World, index: u64) -> v1::Entry {
    let ask = Ask::new(
        Identity::Operator("root".to_owned()),
        Body::Erase(v1::Erase {
            compartments: vec![v1::CompartmentRef {
                index,
                kind: CompartmentKind::Input.into(),
            }],
        }),
    );
    world.must(ask).entry
}

fn erasure(entry: &v1::Entry) -> v1::Erasure {
    match &entry.body {
        Some(entry::Body::Governance(v1::Governance {
            detail: Some(Detail::Erasure(erasure)),
            ..
        })) => *erasure,
        other => panic!("no erasure but {other:?}"),
    }
}

#[test]
fn values_live_on_until_the_window_after_the_outcome_and_erasing_again_finds_nothing() {
    let mut world = World::new();
    world.agent_in("team", "boss", &["approvers"]);
    world.policy("team", &bank());
    let session = world.session("boss");
    let approval = world.authorize("boss", session, "bank/approve", r#"{"ticket": "T"}"#);
    world.now_us += 30 * SECOND;
    let outcome = world.record("boss", &approval, Some(r#"{"ok": true}"#));
    assert!(outcome_of(&outcome.entry).observed);

    let key = Key::compartment(LeafIndex(approval.index.0), CompartmentKind::Input);
    assert!(world.state.get(key.as_bytes()).expect("sound").is_some());
    let erased = erasure(&erase(&mut world, approval.index.0));
    assert_eq!(erased.erased, 1);
    assert_eq!(erased.values_until_us, outcome.entry.time_us + 30 * DAY);
    assert_eq!(world.state.get(key.as_bytes()).expect("sound"), None);
    assert_eq!(world.entry(approval.index.0), approval.entry);
    assert_eq!(erasure(&erase(&mut world, approval.index.0)).erased, 0);
}

#[test]
fn an_outcome_of_erased_arguments_is_kept_and_not_observed() {
    let mut world = World::new();
    world.agent_in("team", "boss", &["approvers"]);
    world.policy("team", &bank());
    let session = world.session("boss");
    let approval = world.authorize("boss", session, "bank/approve", r#"{"ticket": "T"}"#);
    assert_eq!(
        result_of(&erase(&mut world, approval.index.0)),
        v1::Result::Applied
    );
    let outcome = world.record("boss", &approval, Some(r#"{"ok": true}"#));
    let outcome = outcome_of(&outcome.entry);
    assert_eq!((outcome.drift.len(), outcome.observed), (0, false));
}
