//! What a partition keeps, for how long, how much of it, and in which bytes.

use proptest::prelude::*;

use super::{DAY_US, USER, allow, permit, read_after_login};
use crate::fixtures::{HOUR_US, SECOND_US, START_US, World, compiled, request};
use crate::limits::MAX_HISTORY_EVENTS;
use crate::*;

#[test]
fn a_partition_keeps_what_rules_read_and_drops_it_in_time() {
    let bounced =
        "formerly within 2h Countersign::Action::\"bank/pay\"::error{ input.to: \"bob\" }";
    let rules = [
        allow("login"),
        allow("read"),
        read_after_login("1h"),
        permit("bounced", "bank/pay", bounced),
    ]
    .concat();
    let mut world = World::new(&rules);
    world.ask("read", USER, 1);
    assert!(world.partition.is_empty());
    assert_eq!(world.partition.expires_at_us(), None);
    // The allowed login holds the place of its outcome, without its arguments.
    world.ask("login", USER, 2);
    let held: Vec<(EventKind, Value)> = world
        .partition
        .events()
        .map(|event| (event.kind, event.input.clone()))
        .collect();
    assert_eq!(held, [(EventKind::Allowed, Value::Record([].into()))]);
    assert_eq!(
        world.partition.expires_at_us(),
        Some(START_US + 2 + DAY_US + 1)
    );
    world.succeed("login", USER, None, 3);
    assert_eq!(world.partition.events().count(), 2);
    let input = world.partition.events().next_back().unwrap().input.clone();
    assert_eq!(
        input,
        Value::Record([("user".to_owned(), Value::String("u".to_owned()))].into())
    );
    // Anything stepped after the windows have passed sweeps them out.
    world.ask("read", USER, 2 + HOUR_US);
    assert_eq!(world.partition.events().count(), 2);
    world.ask("read", USER, 3 + HOUR_US);
    assert_eq!(world.partition.events().count(), 1);
    world.ask("read", USER, 3 + DAY_US);
    assert!(world.partition.is_empty());
}

#[test]
fn windows_inside_windows_keep_events_for_their_sum() {
    let condition = "formerly within 1h (Countersign::Action::\"approve\"::allowed{}
        && formerly within 1h Countersign::Action::\"login\"::allowed{})";
    let rules = [
        allow("login"),
        allow("approve"),
        permit("nested", "deploy", condition),
    ];
    let mut world = World::new(&rules.concat());
    let minute = 60 * SECOND_US;
    let ticket = "{\"ticket\": \"T\"}";
    world.ask("login", USER, 0);
    world.ask("approve", ticket, 59 * minute);
    world.ask("login", "{}", 90 * minute);
    world.ask("read", USER, 90 * minute);
    assert_eq!(
        world.ask("deploy", ticket, 118 * minute).verdict,
        Verdict::Allow
    );
    assert_eq!(
        world.ask("deploy", ticket, 120 * minute).verdict,
        Verdict::Deny
    );
}

#[test]
fn fields_that_no_rule_compares_are_not_kept() {
    let paid = "formerly within 1h Countersign::Action::\"bank/pay\"::allowed{ input.to: context.input.user }";
    let rules = [allow("bank/pay"), permit("paid", "read", paid)].concat();
    let mut world = World::new(&rules);
    world.ask(
        "bank/pay",
        "{\"amount\": 7, \"to\": \"bob\", \"note\": \"for the holidays\"}",
        1,
    );
    let event = world.partition.events().next().unwrap();
    assert_eq!(
        event.input,
        Value::Record([("to".to_owned(), Value::String("bob".to_owned()))].into())
    );
    assert_eq!(
        world.ask("read", "{\"user\": \"bob\"}", 2).verdict,
        Verdict::Allow
    );
    assert_eq!(
        world.ask("read", "{\"user\": \"eve\"}", 3).verdict,
        Verdict::Deny
    );
}

#[test]
fn rules_without_a_past_cost_nothing() {
    let mut world = World::new(&[allow("login"), allow("read")].concat());
    assert!(world.compiled.temporal_rules().is_empty());
    for second in 0..100 {
        world.ask("login", USER, second * SECOND_US);
        world.succeed("login", USER, None, second * SECOND_US + 1);
    }
    assert!(world.partition.is_empty());
    assert!(world.partition.to_bytes().is_empty());
}

#[test]
fn a_full_partition_denies_but_still_takes_the_outcomes_of_what_it_allowed() {
    let rules = [allow("login"), read_after_login("1h")].concat();
    let mut world = World::new(&rules);
    let plain = compiled(&allow("login"));
    let mut allowed = 0;
    for second in 0..30 {
        let reason = world.ask("login", USER, second).reason;
        assert_eq!(reason, Reason::AllowedByPolicy);
        allowed += 1;
    }
    // Fill it the quick way: the machine would take hours of test time.
    let event = world.partition.events().next().unwrap().clone();
    while world.partition.events().count() < MAX_HISTORY_EVENTS {
        allowed += 1;
        let event = Event {
            time_ns: event.time_ns + allowed,
            ..event.clone()
        };
        world.partition.step(&[&world.compiled], event);
    }
    let evaluated = world.decide(&request("login", USER, START_US + SECOND_US));
    assert_eq!(evaluated.decision.reason, Reason::HistoryLimit);
    assert!(evaluated.events.is_empty());
    for second in 0..allowed {
        world.succeed(
            "login",
            USER,
            None,
            SECOND_US + u64::try_from(second).unwrap(),
        );
    }
    assert_eq!(world.partition.events().count(), 2 * MAX_HISTORY_EVENTS);
    assert_eq!(
        world.ask("read", USER, 2 * SECOND_US).reason,
        Reason::HistoryLimit
    );
    // Rules that read no past decide on. What they leave no room for blinds the others, for as long as it would matter.
    let request = request("login", USER, START_US + 3 * SECOND_US);
    let evaluated = plain.decide(&Starts::new(), &world.partition, &request);
    assert_eq!(evaluated.decision.reason, Reason::AllowedByPolicy);
    evaluated
        .events
        .into_iter()
        .for_each(|event| world.partition.step(&[&world.compiled, &plain], event));
    assert_eq!(world.partition.events().count(), 2 * MAX_HISTORY_EVENTS);
    let bytes = world.partition.to_bytes();
    assert_eq!(Partition::from_bytes(&bytes).unwrap(), world.partition);
    assert_eq!(
        world.ask("read", USER, DAY_US + 3 * SECOND_US).reason,
        Reason::HistoryLimit
    );
    assert_eq!(
        world.ask("read", USER, DAY_US + 4 * SECOND_US).reason,
        Reason::NoMatchingPermit
    );
    assert!(world.partition.is_empty());
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Long),
        any::<i64>().prop_map(|value| Value::Decimal(Decimal(value))),
        ".{0,8}".prop_map(Value::String),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::btree_set(inner.clone(), 0..4).prop_map(Value::Set),
            proptest::collection::btree_map(".{0,4}", inner, 0..4).prop_map(Value::Record),
        ]
    })
}

fn any_event() -> impl Strategy<Value = Event> {
    let text = || "[a-z0-9]{0,6}";
    let kind = prop_oneof![
        Just(EventKind::Request),
        Just(EventKind::Allowed),
        Just(EventKind::Denied),
        Just(EventKind::Response),
        Just(EventKind::Error),
    ];
    (
        0..i64::MAX / 2,
        kind,
        text(),
        text(),
        any_value(),
        proptest::option::of(any_value()),
    )
        .prop_map(|(time_ns, kind, request_id, agent, input, output)| Event {
            time_ns,
            kind,
            request_id,
            session_id: "s".to_owned(),
            agent,
            action: "login".to_owned(),
            resource: "r".to_owned(),
            input,
            output,
        })
}

proptest! {
    #[test]
    fn a_partition_reads_back_what_it_wrote_and_nothing_else(
        events in proptest::collection::vec(any_event(), 0..8),
        flip in any::<proptest::sample::Index>(),
        bit in 0..8_u32,
    ) {
        // A condition that any event could change keeps all of them.
        let world = World::new(&permit("last", "login", "previous within 30d Countersign::Action::\"login\"::denied{}"));
        let mut partition = Partition::default();
        let mut events = events;
        events.sort_by_key(|event| event.time_ns);
        events.into_iter().for_each(|event| partition.step(&[&world.compiled], event));
        let bytes = partition.to_bytes();
        prop_assert_eq!(Partition::from_bytes(&bytes).unwrap(), partition);
        let mut changed = bytes.clone();
        if !changed.is_empty() {
            let place = flip.index(changed.len());
            changed[place] ^= 1 << bit;
            if let Ok(other) = Partition::from_bytes(&changed) {
                prop_assert_eq!(other.to_bytes(), changed);
            }
        }
        let mut longer = bytes;
        longer.push(0);
        prop_assert!(Partition::from_bytes(&longer).is_err());
    }
}
