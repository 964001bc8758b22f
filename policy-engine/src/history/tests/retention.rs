//! What a partition keeps, for how long, how much of it, and in which bytes.

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
    assert_eq!(world.step(&[]), None);
    // The allowed login holds the place of its outcome, without its arguments.
    world.ask("login", USER, 2);
    assert!(tags(&world).iter().all(|tag| *tag == b'h'));
    assert_eq!(world.step(&[]), Some(START_US + 2 + DAY_US + 1));
    world.succeed("login", USER, None, 3);
    // A cell for the user who logged in, and when to look at it again.
    assert_eq!(tags(&world), b"chx");
    // Anything stepped after the windows have passed sweeps them out.
    world.ask("read", USER, HOUR_US);
    assert_eq!(tags(&world), b"chx");
    // The verdict falls a nanosecond after the end of the window.
    world.ask("read", USER, 3 + HOUR_US);
    assert_eq!(tags(&world), b"h");
    world.ask("read", USER, 3 + DAY_US);
    assert!(world.partition.is_empty());
}

/// What kinds of records there are.
fn tags(world: &World) -> Vec<u8> {
    let keys = world.partition.records();
    keys.filter_map(|(key, _)| key.first().copied()).collect()
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
    assert!(world.partition.records().all(|(_, record)| {
        let text = String::from_utf8_lossy(record);
        !text.contains("bob") && !text.contains("holidays")
    }));
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
    let allowed_at = |nth: u64| Event {
        time_ns: i64::try_from(START_US + nth).unwrap() * 1_000 + 1,
        kind: EventKind::Allowed,
        request_id: "r".to_owned(),
        session_id: "s".to_owned(),
        agent: "billing-bot".to_owned(),
        action: "login".to_owned(),
        resource: "login".to_owned(),
        input: Value::Record([("user".to_owned(), Value::String("u".to_owned()))].into()),
        output: None,
        recorder: None,
    };
    while allowed < MAX_HISTORY_EVENTS as u64 {
        world.step(&[allowed_at(allowed)]);
        allowed += 1;
    }
    let evaluated = world.decide(&request("login", USER, START_US + SECOND_US));
    assert_eq!(evaluated.decision.reason, Reason::HistoryLimit);
    assert!(evaluated.events.is_empty());
    // Of each the agent's own report, which some rule may read, and a gateway's record.
    for second in 0..allowed {
        let after_us = SECOND_US + 2 * second;
        world.succeed_by(&Recorder::Agent, "login", USER, None, after_us);
        world.succeed("login", USER, None, after_us + 1);
    }
    assert_eq!(
        world.ask("read", USER, 2 * SECOND_US).reason,
        Reason::HistoryLimit
    );
    // Rules that read no past decide on. What they leave no room for blinds the others, for as long as it would matter.
    let request = request("login", USER, START_US + 3 * SECOND_US);
    let evaluated = plain.decide(&Starts::new(), &world.partition, &request);
    let evaluated = evaluated.unwrap();
    assert_eq!(evaluated.decision.reason, Reason::AllowedByPolicy);
    step(
        &mut world.partition,
        &[&world.compiled, &plain],
        &evaluated.events,
    )
    .unwrap();
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
