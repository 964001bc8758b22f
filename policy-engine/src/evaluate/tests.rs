//! Decisions, from requests to reasons.

use crate::fixtures::{HOUR_US, SECOND_US, START_US, World, compiled, ids, request, starts_at};
use crate::*;

mod altered;
mod facts;

const PERMIT_ALL: &str = "@id(\"all\") permit (principal, action, resource);\n";

fn decide(rules: &str, request: &Request) -> Decision {
    let compiled = compiled(rules);
    compiled
        .decide(&Starts::new(), &Partition::default(), request)
        .unwrap()
        .decision
}

fn pay(amount: i64) -> Request {
    request(
        "bank/pay",
        &format!("{{\"amount\": {amount}, \"to\": \"bob\"}}"),
        START_US,
    )
}

#[test]
fn a_permit_allows_a_forbid_wins_and_nothing_denies() {
    let allowed = decide(PERMIT_ALL, &pay(1));
    assert_eq!(
        (allowed.verdict, allowed.reason),
        (Verdict::Allow, Reason::AllowedByPolicy)
    );
    assert_eq!(ids(&allowed), ["all"]);
    let rules = format!("{PERMIT_ALL}@id(\"big\") forbid (principal, action == Countersign::Action::\"bank/pay\", resource)
        when {{ context.input.amount > 100 }};");
    assert_eq!(decide(&rules, &pay(100)).verdict, Verdict::Allow);
    let forbidden = decide(&rules, &pay(101));
    assert_eq!(
        (forbidden.verdict, forbidden.reason),
        (Verdict::Deny, Reason::ForbiddenByPolicy)
    );
    assert_eq!(ids(&forbidden), ["big"]);
    let nothing = decide("", &pay(1));
    assert_eq!(
        (nothing.verdict, nothing.reason),
        (Verdict::Deny, Reason::NoMatchingPermit)
    );
    assert!(nothing.rules.is_empty());
}

#[test]
fn an_unknown_action_is_allowed_by_nobody() {
    for action in [
        "nope",
        "CallTool",
        "",
        "login\0",
        "Countersign::Action::\"login\"",
        "pay",
    ] {
        let decision = decide(PERMIT_ALL, &request(action, "{}", START_US));
        assert_eq!(
            (decision.verdict, decision.reason),
            (Verdict::Deny, Reason::UnknownAction),
            "{action}"
        );
    }
}

#[test]
fn what_does_not_fit_the_schema_is_denied_before_any_rule_is_asked() {
    for input in [
        "",
        "{",
        "[]",
        "null",
        "{}",
        "{\"amount\": 1}",
        "{\"amount\": \"1\", \"to\": \"bob\"}",
        "{\"amount\": 1.5, \"to\": \"bob\"}",
        "{\"amount\": 1, \"to\": \"bob\", \"more\": 1}",
        "{\"amount\": 1, \"amount\": 1, \"to\": \"bob\"}",
        "{\"amount\": 9223372036854775808, \"to\": \"bob\"}",
    ] {
        let evaluated = compiled(PERMIT_ALL)
            .decide(
                &Starts::new(),
                &Partition::default(),
                &request("bank/pay", input, START_US),
            )
            .unwrap();
        assert_eq!(evaluated.decision.reason, Reason::SchemaMismatch, "{input}");
        assert!(evaluated.events.is_empty());
    }
    let mut late = pay(1);
    late.time_us = u64::MAX;
    assert_eq!(decide(PERMIT_ALL, &late).verdict, Verdict::Deny);
    let mut endless = pay(1);
    endless.session.seq = u64::MAX;
    assert_eq!(decide(PERMIT_ALL, &endless).reason, Reason::SchemaMismatch);
}

#[test]
fn an_erring_permit_is_no_permit_and_an_erring_forbid_denies() {
    let erring = "(principal, action == Countersign::Action::\"bank/pay\", resource)
        when { context.input.amount + 9223372036854775807 > 0 };";
    let permit = format!("@id(\"errs\") permit {erring}");
    let decision = decide(&permit, &pay(1));
    assert_eq!(
        (decision.verdict, decision.reason),
        (Verdict::Deny, Reason::NoMatchingPermit)
    );
    let decision = decide(&format!("{PERMIT_ALL}{permit}"), &pay(1));
    assert_eq!(
        (decision.verdict, ids(&decision)),
        (Verdict::Allow, vec!["all"])
    );

    let forbid = format!("{PERMIT_ALL}@id(\"errs\") forbid {erring}");
    let decision = decide(&forbid, &pay(1));
    assert_eq!(
        (decision.verdict, decision.reason),
        (Verdict::Deny, Reason::EvaluationError)
    );
    assert_eq!(ids(&decision), ["errs"]);
    assert_eq!(decide(&forbid, &pay(-1)).verdict, Verdict::Deny);
    assert_eq!(decide(&forbid, &pay(-1)).reason, Reason::ForbiddenByPolicy);
    // Even beside a forbid that matched, so that nobody reads the error as a verdict of the rules.
    let both = format!("{forbid}@id(\"no\") forbid (principal, action, resource);");
    assert_eq!(decide(&both, &pay(1)).reason, Reason::EvaluationError);
}

#[test]
fn one_determining_permit_makes_it_a_single_use() {
    let rules = "@id(\"a\") permit (principal, action, resource);
        @id(\"b\") @single_use permit (principal, action == Countersign::Action::\"bank/pay\", resource);
        @id(\"c\") forbid (principal, action, resource) when { context.session.delegated };";
    assert!(decide(rules, &pay(1)).single_use);
    let login = request("login", "{\"user\": \"u\"}", START_US);
    assert!(!decide(rules, &login).single_use);
    let denied = format!("{rules}@id(\"d\") forbid (principal, action, resource);");
    assert!(!decide(&denied, &pay(1)).single_use);
}

#[test]
fn conditions_and_the_shortest_ttl_come_from_the_determining_rules() {
    let rules = "@id(\"b\") @permit_ttl(\"120\") @obligation(\"log:full:all\") permit (principal, action, resource);
        @id(\"a\") @permit_ttl(\"30\") @advice(\"slow\") permit (principal, action, resource);
        @id(\"c\") @permit_ttl(\"1\") @obligation(\"x:y\") permit (principal, action, resource) when { context.session.delegated };
        @id(\"d\") @obligation(\"call:owner\") forbid (principal, action == Countersign::Action::\"login\", resource);";
    let decision = decide(rules, &pay(1));
    assert_eq!(ids(&decision), ["a", "b"]);
    assert_eq!(decision.permit_ttl_s, Some(30));
    let condition = |kind: &str, value: &str, critical| Condition {
        kind: kind.to_owned(),
        value: value.to_owned(),
        critical,
    };
    assert_eq!(
        decision.conditions,
        [
            condition("log", "full:all", true),
            condition("slow", "", false)
        ]
    );
    let denied = decide(rules, &request("login", "{\"user\": \"u\"}", START_US));
    assert_eq!((ids(&denied), denied.permit_ttl_s), (vec!["d"], None));
    assert_eq!(denied.conditions, [condition("call", "owner", true)]);
}

#[test]
fn a_denial_that_approvals_would_lift_escalates() {
    let rules =
        "@id(\"small\") permit (principal, action == Countersign::Action::\"bank/pay\", resource)
          when { context.input.amount <= 10 };
        @id(\"z-approved\") @approvers(\"finance:2,legal\")
        permit (principal, action == Countersign::Action::\"bank/pay\", resource)
          when { context.input.amount <= 1000 };
        @id(\"never\") forbid (principal, action == Countersign::Action::\"bank/pay\", resource)
          when { context.input.to == \"mallory\" };";
    let compiled = compiled(rules);
    let decide = |request: &Request| {
        compiled
            .decide(&Starts::new(), &Partition::default(), request)
            .unwrap()
    };
    assert_eq!(decide(&pay(10)).decision.verdict, Verdict::Allow);
    let escalated = decide(&pay(11));
    assert_eq!(
        (escalated.decision.verdict, escalated.decision.reason),
        (Verdict::Escalate, Reason::ApprovalRequired)
    );
    assert_eq!(ids(&escalated.decision), ["z-approved"]);
    let approver = |group: &str, count| Approver {
        group: group.to_owned(),
        count,
    };
    assert_eq!(
        escalated.decision.approvers,
        [approver("finance", 2), approver("legal", 1)]
    );
    let kinds: Vec<EventKind> = escalated.events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::Request, EventKind::Denied]);
    assert_eq!(decide(&pay(1001)).decision.reason, Reason::NoMatchingPermit);

    let approved = |groups: &[(&str, u32)]| {
        let groups = groups
            .iter()
            .map(|(group, count)| ((*group).to_owned(), *count));
        let mut request = pay(11);
        request.approval = Some(Approval {
            groups: groups.collect(),
            count: 3,
        });
        decide(&request).decision
    };
    assert_eq!(
        ids(&approved(&[("finance", 2), ("legal", 1)])),
        ["z-approved"]
    );
    // Three approvals that are not the three which are demanded.
    let others: [&[(&str, u32)]; 4] = [
        &[("finance", 3)],
        &[("finance", 1), ("legal", 2)],
        &[("finance", 2), ("sales", 1)],
        &[],
    ];
    for other in others {
        assert_eq!(approved(other).verdict, Verdict::Escalate, "{other:?}");
    }
    let mut forbidden = request(
        "bank/pay",
        "{\"amount\": 11, \"to\": \"mallory\"}",
        START_US,
    );
    assert_eq!(
        decide(&forbidden).decision.reason,
        Reason::ForbiddenByPolicy
    );
    forbidden.input = b"{\"amount\": 1}".to_vec();
    assert_eq!(decide(&forbidden).decision.reason, Reason::SchemaMismatch);
}

#[test]
fn approvers_are_a_condition_whatever_the_rule_says_besides() {
    for condition in [
        "",
        "when { context.input.amount > 0 }",
        "unless { context.request has approval }",
        "when { context.request has approval }",
        "when { context.request has approval && context.request.approval.groups.contains(\"sre\") }",
        "when { if context.request has approval then context.request.approval.count < 9 else true }",
        "when temporal { !(formerly within 1h Countersign::Action::\"bank/pay\"::allowed{}) }",
    ] {
        let scope = "(principal, action == Countersign::Action::\"bank/pay\", resource)";
        let rules = format!("@id(\"two\") @approvers(\"sre:2\") permit {scope} {condition};");
        let mut world = World::new(&rules);
        let decision = world.decide(&pay(1)).decision;
        // Where the rule forbids what it demands, nothing can lift the denial; it is no ALLOW either.
        let expected = if condition.contains("unless") {
            Verdict::Deny
        } else {
            Verdict::Escalate
        };
        assert_eq!(decision.verdict, expected, "{condition}");
    }
    let rules = "@id(\"two\") @approvers(\"sre:2\") permit (principal, action, resource);
        @id(\"any\") permit (principal, action == Countersign::Action::\"bank/pay\", resource)
          when { context.input.amount < 5 };";
    assert_eq!(ids(&decide(rules, &pay(1))), ["any"]);
    assert_eq!(decide(rules, &pay(9)).verdict, Verdict::Escalate);
}

#[test]
fn approvals_that_a_forbid_would_still_refuse_are_not_asked_for() {
    let rules = "@id(\"approved\") @approvers(\"finance\") permit (principal, action, resource)
          when { context.request has approval };
        @id(\"no-approvals\") forbid (principal, action, resource) when { context.request has approval };";
    assert_eq!(decide(rules, &pay(1)).reason, Reason::NoMatchingPermit);
}

#[test]
fn deciding_changes_nothing_and_repeats_exactly() {
    let mut world = World::new(
        "@id(\"cap\") permit (principal, action == Countersign::Action::\"login\", resource) when temporal {
          count_within(1h, Countersign::Action::\"login\"::allowed{}) < 3 };",
    );
    for second in 0..5 {
        world.ask("login", "{\"user\": \"u\"}", second * SECOND_US);
    }
    let before = world.partition.clone();
    let request = request("login", "{\"user\": \"u\"}", START_US + HOUR_US);
    let first = world
        .compiled
        .decide(&world.starts, &world.partition, &request)
        .unwrap();
    let again = world
        .compiled
        .decide(&world.starts, &world.partition, &request)
        .unwrap();
    assert_eq!(first, again);
    assert_eq!(world.partition, before);
    assert_eq!(starts_at(&world.compiled, START_US), world.starts);
}

/// An outcome that the agent reports of itself.
fn outcome<'a>(action: &'a str, input: &'a str, output: Option<&'a str>) -> Outcome<'a> {
    Outcome {
        time_us: START_US,
        succeeded: true,
        recorder: &Recorder::Agent,
        request_id: "r",
        session_id: "s",
        agent: "a",
        action,
        resource: "x",
        input: input.as_bytes(),
        output: output.map(str::as_bytes),
    }
}

#[test]
fn an_outcome_is_an_event_of_whoever_recorded_it() {
    let compiled = compiled(PERMIT_ALL);
    let input = "{\"amount\": 1, \"to\": \"bob\"}";
    let gate = Recorder::Gateway("gate".to_owned());
    for (recorder, succeeded, kind) in [
        (&Recorder::Agent, false, EventKind::SelfReportedError),
        (&gate, false, EventKind::Error),
        (&gate, true, EventKind::Response),
    ] {
        let output = (!succeeded).then_some("not json");
        let event = compiled.outcome_event(&Outcome {
            succeeded,
            recorder,
            ..outcome("bank/pay", input, output)
        });
        let event = event.unwrap();
        let by_gateway = *recorder == gate;
        assert_eq!(
            (event.kind, event.recorder),
            (kind, by_gateway.then(|| "gate".to_owned()))
        );
    }
}

#[test]
fn an_outcome_that_does_not_fit_is_no_event() {
    let compiled = compiled(PERMIT_ALL);
    let input = "{\"amount\": 1, \"to\": \"bob\"}";
    let event = compiled
        .outcome_event(&outcome("bank/pay", input, Some("{\"balance\": 7}")))
        .unwrap();
    assert_eq!(
        (event.kind, event.time_ns, &event.recorder),
        (
            EventKind::SelfReportedResponse,
            1_767_225_600_000_000_000,
            &None
        )
    );
    assert_eq!(
        event.output,
        Some(Value::Record(
            [("balance".to_owned(), Value::Long(7))].into()
        ))
    );
    assert_eq!(
        compiled
            .outcome_event(&outcome("bank/pay", input, None))
            .unwrap()
            .output,
        None
    );
    for misuse in [
        outcome("nope", input, None),
        outcome("CallTool", "{}", None),
        outcome("bank/pay", "{\"amount\": 1}", None),
        outcome("bank/pay", "", None),
        outcome("bank/pay", input, Some("{\"balance\": \"7\"}")),
        outcome("bank/pay", input, Some("not json")),
        outcome("bank/pay", input, Some("{}")),
        Outcome {
            time_us: u64::MAX,
            ..outcome("bank/pay", input, None)
        },
    ] {
        assert_eq!(compiled.outcome_event(&misuse), None, "{misuse:?}");
    }
    // An action without a declared output takes none along.
    let ignored = outcome(
        "login",
        "{\"user\": \"u\"}",
        Some("{\"token\": \"secret\"}"),
    );
    assert_eq!(compiled.outcome_event(&ignored).unwrap().output, None);
}

#[test]
fn a_panic_inside_denies_and_leaves_nothing() {
    let evaluated = super::caught(|| panic!("as a fault in an evaluator would"));
    assert_eq!(evaluated.decision.reason, Reason::EvaluationError);
    assert_eq!(evaluated.decision.verdict, Verdict::Deny);
    assert!(evaluated.events.is_empty());
}

#[test]
fn a_compiled_bundle_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Compiled>();
}
