//! What rules see of the past, and what a partition keeps of it.

use crate::fixtures::{
    HOUR_US, SECOND_US, START_US, World, bundle, bundle_of, compiled, request, starts_at,
};
use crate::*;

mod retention;

const USER: &str = "{\"user\": \"u\"}";
const DAY_US: u64 = 24 * HOUR_US;

/// A permit for `action`, subject to a condition over the past.
fn permit(id: &str, action: &str, condition: &str) -> String {
    format!(
        "@id(\"{id}\") permit (principal, action == Countersign::Action::\"{action}\", resource)
           when temporal {{ {condition} }};\n"
    )
}

fn cap(limit: u32) -> String {
    let counted = "Countersign::Action::\"login\"::allowed{}";
    permit(
        "cap",
        "login",
        &format!("count_within(1h, {counted}) < {limit}"),
    )
}

fn read_after_login(window: &str) -> String {
    permit(
        "after-login",
        "read",
        &format!(
            "formerly within {window} Countersign::Action::\"login\"::response{{ input.user: context.input.user }}"
        ),
    )
}

fn allow(action: &str) -> String {
    format!(
        "@id(\"allow-{action}\") permit (principal, action == Countersign::Action::\"{action}\", resource);\n"
    )
}

#[test]
fn a_thousand_requests_against_a_cap_allow_exactly_the_cap() {
    let mut world = World::new(&cap(50));
    let allowed: Vec<u64> = (0..1_000)
        .filter(|second| world.ask("login", USER, second * SECOND_US).verdict == Verdict::Allow)
        .collect();
    assert_eq!(allowed, (0..50).collect::<Vec<_>>());
    // The window is closed: an hour after the first it still counts, and a microsecond later it does not.
    assert_eq!(world.ask("login", USER, HOUR_US).verdict, Verdict::Deny);
    assert_eq!(
        world.ask("login", USER, HOUR_US + 1).verdict,
        Verdict::Allow
    );
    assert_eq!(world.ask("login", USER, HOUR_US + 2).verdict, Verdict::Deny);
}

#[test]
fn a_sum_is_capped_exactly() {
    let rules = "@id(\"budget\") permit (principal, action == Countersign::Action::\"bank/pay\", resource)
      when temporal { bind(spent, sum_within(a, 1d, Countersign::Action::\"bank/pay\"::allowed{ input.amount: a }),
        spent + context.input.amount <= 1000) };";
    let mut world = World::new(rules);
    let mut pay = |amount: i64, after_us: u64| {
        world
            .ask(
                "bank/pay",
                &format!("{{\"amount\": {amount}, \"to\": \"bob\"}}"),
                after_us,
            )
            .verdict
    };
    assert_eq!(pay(1001, 0), Verdict::Deny);
    assert_eq!(pay(600, 1), Verdict::Allow);
    assert_eq!(pay(401, 2), Verdict::Deny);
    assert_eq!(pay(400, 3), Verdict::Allow);
    assert_eq!(pay(1, 4), Verdict::Deny);
    assert_eq!(pay(0, 5), Verdict::Allow);
    // A verdict is stepped one nanosecond after its request, so a day after it is still inside the window.
    assert_eq!(pay(600, DAY_US + 1), Verdict::Deny);
    assert_eq!(pay(600, DAY_US + 2), Verdict::Allow);
}

#[test]
fn windows_are_hours_and_not_nanoseconds() {
    // With Dogwood's default tick of a second, an hour's window over times in nanoseconds would last 3.6 microseconds.
    let mut world = World::new(&[allow("login"), read_after_login("1h")].concat());
    world.ask("login", USER, 0);
    world.succeed("login", USER, None, SECOND_US);
    let mut read = |after_us: u64| world.ask("read", USER, after_us).verdict;
    assert_eq!(read(2 * SECOND_US), Verdict::Allow);
    assert_eq!(read(30 * 60 * SECOND_US), Verdict::Allow);
    assert_eq!(read(HOUR_US + SECOND_US), Verdict::Allow);
    assert_eq!(read(HOUR_US + SECOND_US + 1), Verdict::Deny);
}

#[test]
fn only_what_was_done_unlocks_and_only_for_its_own_user() {
    let mut world = World::new(&[allow("login"), read_after_login("1h")].concat());
    assert_eq!(world.ask("read", USER, 1).verdict, Verdict::Deny);
    world.ask("login", USER, 2);
    assert_eq!(world.ask("read", USER, 3).verdict, Verdict::Deny);
    world.succeed("login", "{\"user\": \"other\"}", None, 4);
    assert_eq!(world.ask("read", USER, 5).verdict, Verdict::Deny);
    assert_eq!(
        world.ask("read", "{\"user\": \"other\"}", 6).verdict,
        Verdict::Allow
    );
    world.succeed("login", USER, None, 7);
    assert_eq!(world.ask("read", USER, 8).verdict, Verdict::Allow);
}

#[test]
fn a_denied_approval_approves_nothing() {
    let ticket = "{\"ticket\": \"T-1\"}";
    let approved = "formerly within 1h Countersign::Action::\"approve\"::allowed{ input.ticket: context.input.ticket }";
    let mut world = World::new(&permit("approved", "deploy", approved));
    assert_eq!(world.ask("approve", ticket, 1).verdict, Verdict::Deny);
    assert_eq!(world.ask("deploy", ticket, 2).verdict, Verdict::Deny);
    let mut world =
        World::new(&[allow("approve"), permit("approved", "deploy", approved)].concat());
    assert_eq!(world.ask("approve", ticket, 1).verdict, Verdict::Allow);
    assert_eq!(
        world.ask("deploy", "{\"ticket\": \"T-2\"}", 2).verdict,
        Verdict::Deny
    );
    assert_eq!(world.ask("deploy", ticket, 3).verdict, Verdict::Allow);
}

#[test]
fn outputs_of_actions_can_be_read() {
    let ticket = "{\"ticket\": \"T-1\"}";
    let condition = "formerly within 1h Countersign::Action::\"approve\"::response{
        input.ticket: context.input.ticket, output.ok: true }";
    let mut world =
        World::new(&[allow("approve"), permit("approved", "deploy", condition)].concat());
    world.ask("approve", ticket, 1);
    world.succeed("approve", ticket, None, 2);
    assert_eq!(world.ask("deploy", ticket, 3).verdict, Verdict::Deny);
    world.succeed("approve", ticket, Some("{\"ok\": false}"), 4);
    assert_eq!(world.ask("deploy", ticket, 5).verdict, Verdict::Deny);
    world.succeed("approve", ticket, Some("{\"ok\": true}"), 6);
    assert_eq!(world.ask("deploy", ticket, 7).verdict, Verdict::Allow);
}

#[test]
fn a_request_that_reached_no_rule_is_no_event() {
    let mut world = World::new(&cap(50));
    for input in ["", "{}", "{\"user\": 1}"] {
        let evaluated = world.decide(&request("login", input, START_US + 1));
        assert_eq!(evaluated.decision.reason, Reason::SchemaMismatch);
        assert!(evaluated.events.is_empty() && world.partition.is_empty());
    }
}

#[test]
fn each_rule_has_a_past_of_its_own() {
    let mut world = World::new(&cap(1));
    assert_eq!(world.ask("login", USER, 0).verdict, Verdict::Allow);
    let ask = |world: &World, starts: &Starts, after_us: u64| {
        let request = request("login", USER, START_US + after_us);
        world
            .compiled
            .decide(starts, &world.partition, &request)
            .unwrap()
            .decision
            .verdict
    };
    assert_eq!(
        ask(&world, &starts_at(&world.compiled, START_US), 10),
        Verdict::Deny
    );
    // The allowed event is a nanosecond younger than its request.
    assert_eq!(
        ask(&world, &starts_at(&world.compiled, START_US + 1), 10),
        Verdict::Allow
    );
    // Without a start the past is unknown, and nothing is allowed on it.
    assert_eq!(ask(&world, &Starts::new(), 10), Verdict::Deny);

    // Two rules with different starts in one decision.
    let other = permit(
        "other",
        "login",
        "count_within(2h, Countersign::Action::\"login\"::allowed{}) < 1",
    );
    let both = compiled(&[cap(1), other].concat());
    let mut starts = starts_at(&both, START_US);
    let late = both
        .temporal_rules()
        .iter()
        .find(|rule| rule.id.0 == "other")
        .unwrap();
    starts.insert(late.fingerprint, START_US + SECOND_US);
    let decision = both
        .decide(
            &starts,
            &world.partition,
            &request("login", USER, START_US + 2 * SECOND_US),
        )
        .unwrap()
        .decision;
    assert_eq!(decision.rules, [RuleId("other".to_owned())]);
}

#[test]
fn an_unchanged_rule_keeps_its_history_across_bundles() {
    let mut world = World::new(&cap(2));
    world.ask("login", USER, 1);
    world.ask("login", USER, 2);
    let fingerprint = |rules: &str| {
        let compiled = compiled(rules);
        let rule = compiled
            .temporal_rules()
            .iter()
            .find(|rule| rule.id.0 == "cap");
        rule.unwrap().fingerprint
    };
    let kept = world.compiled.temporal_rules()[0].fingerprint;
    // Other rules, other places, other layout, comments.
    let moved = format!(
        "// a comment\ndef cedar f(?x) {{ ?x == 1 }};\n{}\n\n{}",
        allow("read"),
        cap(2)
    )
    .replace(" < ", "\n  // why\n  <   ");
    assert_eq!(fingerprint(&moved), kept);
    let elsewhere = Compiled::compile(&bundle_of(
        "agent",
        &[
            ("rules/a.cedar", &allow("read")),
            ("rules/z/cap.dw", &cap(2)),
        ],
    ));
    assert_eq!(elsewhere.unwrap().temporal_rules()[0].fingerprint, kept);
    // Another limit, name or scope is another rule.
    assert_ne!(fingerprint(&cap(3)), kept);
    assert_ne!(
        compiled(&cap(2).replace("cap", "cup")).temporal_rules()[0].fingerprint,
        kept
    );
    let scoped = Compiled::compile(&bundle_of("session", &[("rules/main.dw", &cap(2))])).unwrap();
    assert_ne!(scoped.temporal_rules()[0].fingerprint, kept);
    // A macro that the rule calls is part of it.
    let called = |window: &str| {
        let seen = format!(
            "formerly within {window} Countersign::Action::\"login\"::allowed{{ input.user: ?u }}"
        );
        let rule = permit("cap", "login", "seen(context.input.user)");
        format!("def temporal seen(?u) {{ {seen} }};\n{rule}")
    };
    assert_ne!(fingerprint(&called("2h")), fingerprint(&called("3h")));

    let next = compiled(&moved);
    let verdict = |starts: &Starts| {
        next.decide(
            starts,
            &world.partition,
            &request("login", USER, START_US + 3),
        )
        .unwrap()
        .decision
        .verdict
    };
    assert_eq!(verdict(&world.starts), Verdict::Deny);
    assert_eq!(verdict(&starts_at(&next, START_US + 3)), Verdict::Allow);
    assert_eq!(verdict(&Starts::new()), Verdict::Deny);
}

#[test]
fn the_schema_of_what_a_rule_reads_is_part_of_its_meaning() {
    let with_schema = |from: &str, to: &str| {
        let files = bundle(&cap(2))
            .files()
            .iter()
            .map(|file| (file.path.clone(), file.text.replace(from, to).into_bytes()))
            .collect();
        Compiled::compile(&Bundle::from_files(files).unwrap())
            .unwrap()
            .temporal_rules()[0]
            .fingerprint
    };
    let kept = with_schema("", "");
    assert_eq!(with_schema("note?: String", "note?: Long"), kept);
    assert_ne!(
        with_schema(
            "input: { user: String }",
            "input: { user: String, via?: String }"
        ),
        kept
    );
}

#[test]
fn time_does_not_run_backwards() {
    let mut world = World::new(&cap(50));
    world.ask("login", USER, SECOND_US);
    assert_eq!(world.ask("login", USER, 0).reason, Reason::EvaluationError);
}
