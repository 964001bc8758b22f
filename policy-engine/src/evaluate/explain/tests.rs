//! Explanations against the decision they explain, and against Cedar, which is asked each clause by itself.

use std::str::FromStr as _;

use cedar_policy::PolicySet;
use proptest::prelude::*;

use super::super::{cedar, slices::Needs, temporal};
use super::*;
use crate::fixtures::{SECOND_US, START_US, World, request};
use crate::*;

const PAY: &str = "(principal, action == Countersign::Action::\"bank/pay\", resource)";

/// Conditions on a payment: some hold, some do not, some err, some rely on the one before them.
const CLAUSES: [&str; 18] = [
    "context.input.amount > 2",
    "context.input.amount <= 3",
    "context.input has note && context.input.note == \"u1\"",
    "context.input.to == \"u1\" || context.input.to == \"u2\"",
    "context.input.to == \"u1\" || (context.input.amount == 1 && context.input.to == \"u3\")",
    "context.input.amount * 9223372036854775807 > 0",
    "principal in Countersign::Group::\"g1\"",
    "principal in Countersign::Group::\"g1\" && !(context.input.amount == 2)",
    "principal.hasTag(\"team\") && principal.getTag(\"team\") == \"a && b || c\"",
    "principal.owner == Countersign::Operator::\"o1\"",
    "principal is Countersign::Agent in Countersign::Group::\"g2\"",
    "resource.type == \"sealed\"",
    "context.session.grants.hasTag(\"to\") && context.session.grants.getTag(\"to\").contains(context.input.to)",
    "if context.input.amount > 1 then context.input.to == \"u1\" else context.request.assurance == \"BOTH_SIGNED\"",
    "context.session has subject && context.session.subject.sub == \"s\"",
    "[\"u1\", \"u2\"].contains(context.input.to) && true",
    "context.input.to like \"u*\"",
    "context.system.now < datetime(\"2026-06-01\")",
];

const PAST: [&str; 4] = [
    "count_within(1h, Countersign::Action::\"bank/pay\"::allowed{}) < 2",
    "formerly within 1h Countersign::Action::\"bank/pay\"::denied{ input.to: context.input.to }",
    "bind(spent, sum_within(a, 1h, Countersign::Action::\"bank/pay\"::allowed{ input.amount: a }), spent + context.input.amount <= 6)",
    "count_within(1h, Countersign::Action::\"bank/pay\"::allowed{}) * 2 < sum_within(a, 1h, Countersign::Action::\"bank/pay\"::request{ input.amount: a })",
];

fn conditions() -> impl Strategy<Value = String> {
    let one = (
        0..5_usize,
        0..CLAUSES.len(),
        0..CLAUSES.len(),
        0..PAST.len(),
    );
    let one = one.prop_map(|(form, first, second, past)| {
        let (first, second, past) = (CLAUSES[first], CLAUSES[second], PAST[past]);
        match form {
            0 => format!("when {{ {first} }}"),
            1 => format!("when {{ ({first}) && ({second}) }}"),
            2 => format!("unless {{ {first} }}"),
            3 => format!("unless {{ ({first}) || ({second}) }}"),
            _ => format!("when temporal {{ {past} }}"),
        }
    });
    prop::collection::vec(one, 0..4).prop_map(|all| all.join(" "))
}

fn rule() -> impl Strategy<Value = String> {
    let scope = prop::sample::select(vec![
        PAY,
        "(principal in Countersign::Group::\"g1\", action in [Countersign::Action::\"bank/pay\"], resource)",
        "(principal == Countersign::Agent::\"nobody\", action == Countersign::Action::\"bank/pay\", resource)",
    ]);
    let approvers = prop::sample::select(vec!["", "", "@approvers(\"finance:1\") "]);
    (prop::bool::weighted(0.75), approvers, scope, conditions()).prop_map(
        |(is_permit, approvers, scope, conditions)| {
            let (approvers, effect) = if is_permit {
                (approvers, "permit")
            } else {
                ("", "forbid")
            };
            format!("{approvers}{effect} {scope} {conditions};\n")
        },
    )
}

/// Amount, whom to, whether there is a note, and who the agent is.
type Asked = (i64, u8, bool, u8);

fn payment((amount, to, note, agent): Asked, time_us: u64) -> Request {
    let note = if note { ", \"note\": \"u1\"" } else { "" };
    let input = format!("{{\"amount\": {amount}, \"to\": \"u{to}\"{note}}}");
    let mut request = request("bank/pay", &input, time_us);
    request.agent.groups = [format!("g{}", agent % 3)].into();
    if agent > 2 {
        request.agent.owner = "o1".to_owned();
        request.assurance = Assurance::BothSigned;
        request.resource.kind = Some("sealed".to_owned());
        let granted = ("to".to_owned(), ["u1".to_owned()].into());
        request.session.grants = [granted].into();
        let team = ("team".to_owned(), "a && b || c".to_owned());
        request.agent.attributes = [team].into();
    }
    request
}

/// What Cedar makes of an expression on that request: none if it errs.
fn in_cedar(world: &World, request: &Request, text: &str) -> Option<bool> {
    let compiled = &world.compiled;
    let input = compiled.typed_input(request).unwrap();
    let asked = temporal::event(request, EventKind::Request, input).unwrap();
    let records = Guarded::new(&world.partition);
    let past = View::load(&records, asked.time_ns).unwrap();
    let case = compiled.case(&world.starts, &past, request, asked).unwrap();
    let whole = compiled.cedar_request(&case, request, &case.slice, Needs::ALL);
    let policy = format!("permit (principal, action, resource) when {{ {text} }};");
    let policies = PolicySet::from_str(&policy).unwrap_or_else(|error| panic!("{text}: {error}"));
    let answer = cedar::evaluate(&policies, &case.entities.into(), &whole.unwrap().into());
    answer.erring.is_empty().then_some(answer.is_allow)
}

/// Asserts that what is said of each clause is what Cedar says of it. Gives how many held, failed, erred, were not reached.
fn clauses_are_true(
    world: &World,
    request: &Request,
    told: &Explanation,
    rule: &ExplainedRule,
) -> [u32; 4] {
    let mut seen = [0; 4];
    for clause in &rule.clauses {
        let past = told.history.iter();
        let mut past =
            past.filter(|counted| counted.rule == rule.id && counted.text == clause.text);
        let found = match past.next() {
            Some(counted) => Some(counted.holds),
            None if clause.text.starts_with('@') => Some(request.approval.is_some()),
            None => in_cedar(world, request, &clause.text),
        };
        let found = found.map(|value| value != clause.is_unless);
        let (place, expected) = match &clause.result {
            ClauseResult::Holds => (0, Some(true)),
            ClauseResult::Fails => (1, Some(false)),
            ClauseResult::Errs(_) => (2, None),
            ClauseResult::NotReached => (3, None),
        };
        assert_eq!(found, expected, "{clause:?} of {rule:#?} on {request:?}");
        seen[place] += 1;
    }
    let failing = rule
        .clauses
        .iter()
        .filter(|clause| clause.result.is_failing());
    assert_eq!(failing.count(), rule.failing);
    let first = rule
        .clauses
        .iter()
        .find(|clause| clause.result != ClauseResult::Holds);
    assert!(first.is_none_or(|clause| clause.result.is_failing()));
    seen
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn an_explanation_says_what_the_decision_and_cedar_say(
        rules in prop::collection::vec(rule(), 1..9),
        requests in prop::collection::vec((0..5_i64, 1..4_u8, any::<bool>(), 0..6_u8), 6),
    ) {
        let numbered = rules.iter().enumerate();
        let text: String = numbered.map(|(number, rule)| format!("@id(\"r{number}\") {rule}")).collect();
        let mut world = World::new(&text);
        for (number, asked) in (1_u64..).zip(requests) {
            let request = payment(asked, START_US + number * SECOND_US);
            let told = world.compiled.explain(&world.starts, &world.partition, &request).unwrap();
            let again = world.compiled.explain(&world.starts, &world.partition, &request).unwrap();
            prop_assert_eq!(&told, &again);
            for rule in &told.nearest {
                clauses_are_true(&world, &request, &told, rule);
                prop_assert!(rule.is_permit && rule.failing > 0);
            }
            let decision = world.decide(&request).decision;
            prop_assert_eq!(&told.decision, &decision);
            let determining: Vec<&RuleId> = told.determining.iter().map(|rule| &rule.id).collect();
            prop_assert_eq!(determining, decision.rules.iter().collect::<Vec<_>>());
            let near = |rule: &ExplainedRule| (rule.failing, rule.id.clone());
            prop_assert!(told.nearest.is_sorted_by_key(near));
            prop_assert_eq!(told.nearest.len(), told.permits_failed.min(MAX_NEAREST_PERMITS));
            let permits = rules.iter().filter(|rule| rule.contains("permit (")).count();
            prop_assert_eq!(told.permits_held + told.permits_failed + told.permits_elsewhere, permits);
            for rule in &told.determining {
                let held = rule.failing == 0 && rule.clauses.iter().all(|clause| clause.result == ClauseResult::Holds);
                let expected = matches!(decision.reason, Reason::AllowedByPolicy | Reason::ForbiddenByPolicy);
                prop_assert_eq!(held, expected, "{:?}", rule);
            }
        }
    }
}

fn told(rules: &str, request: &Request) -> Explanation {
    explained(&World::new(rules), request)
}

fn texts(rule: &ExplainedRule) -> Vec<(bool, &str, &str)> {
    let clauses = rule.clauses.iter();
    clauses
        .map(|clause| {
            (
                clause.is_unless,
                clause.text.as_str(),
                clause.result.as_str(),
            )
        })
        .collect()
}

#[test]
fn a_rule_is_told_in_the_clauses_of_its_author() {
    let rules = format!(
        "@id(\"other\") permit (principal, action == Countersign::Action::\"login\", resource);
// Small payments.
@id(\"small\")
permit {PAY}
when {{ context.input.amount < 10 &&
       context.input has note && context.input.note == \"a && b\" }}
unless {{ context.input.to == \"eve\" || context.input.to == \"mallory\" }}
when temporal {{ count_within(1h, Countersign::Action::\"bank/pay\"::allowed{{}}) < 2 }};"
    );
    let input = "{\"amount\": 3, \"to\": \"eve\"}";
    let told = told(&rules, &request("bank/pay", input, START_US));
    assert_eq!(told.decision.reason, Reason::NoMatchingPermit);
    let [small] = told.nearest.as_slice() else {
        panic!("one permit: {told:?}");
    };
    assert_eq!((small.path.as_str(), small.line), ("rules/main.dw", 3));
    assert_eq!(
        texts(small),
        [
            (false, "context.input.amount < 10", "HOLDS"),
            (false, "context.input has note", "FAILS"),
            (false, "context.input.note == \"a && b\"", "NOT_REACHED"),
            (true, "context.input.to == \"eve\"", "FAILS"),
            (true, "context.input.to == \"mallory\"", "HOLDS"),
            (
                false,
                "temporal { count_within(1h, Countersign::Action::\"bank/pay\"::allowed{}) < 2 }",
                "HOLDS"
            ),
        ]
    );
    let lines: Vec<usize> = small.clauses.iter().map(|clause| clause.line).collect();
    assert_eq!(lines, [5, 6, 6, 7, 7, 8]);
    assert_eq!(small.failing, 2);
    assert_eq!(
        (
            told.permits_held,
            told.permits_failed,
            told.permits_elsewhere
        ),
        (0, 1, 1)
    );
}

#[test]
fn an_operator_that_cedar_writes_out_is_one_clause() {
    let rules = format!(
        "@id(\"is\") permit {PAY} when {{ principal is Countersign::Agent in Countersign::Group::\"nobody\" }};
         @id(\"has\") permit {PAY} when {{ context has session.subject.iss && false }};"
    );
    let told = told(
        &rules,
        &request("bank/pay", "{\"amount\": 3, \"to\": \"eve\"}", START_US),
    );
    let nearest: Vec<_> = told.nearest.iter().map(texts).collect();
    assert_eq!(
        nearest,
        [
            vec![(
                false,
                "principal is Countersign::Agent in Countersign::Group::\"nobody\"",
                "FAILS"
            )],
            vec![
                (false, "context has session.subject.iss", "FAILS"),
                (false, "false", "FAILS")
            ],
        ]
    );
}

/// A rule that reads a fact from everybody who could vouch for one, and a request that has most of them.
fn everybody() -> (World, Request) {
    let rules = format!(
        "@id(\"all\") permit {PAY} when {{
           context.input.to == \"bob\" && principal in Countersign::Group::\"billing\" && principal.owner == Countersign::Operator::\"alice\" &&
           principal.hasTag(\"team\") && resource.hasTag(\"account\") && resource.getTag(\"account\") == \"A\" &&
           context.session.grants.hasTag(\"to\") && context.session.grants.getTag(\"to\").contains(\"bob\") &&
           context.request.claims.hasTag(\"why\") && context.session has subject && context.session has purpose && context.session.purpose != \"\" &&
           Countersign::Resource::\"vault\".type == \"vault\" && context.request.assurance == \"BOTH_SIGNED\" }}
         when temporal {{ formerly within 1h Countersign::Action::\"login\"::response{{ sessionId: context.session.id, callerPrincipal: principal }} }};"
    );
    let entities = r#"[{"uid": {"type": "Countersign::Resource", "id": "vault"},
        "attrs": {"type": "vault"}, "parents": []}]"#;
    let files = [
        ("rules/main.dw", rules.as_str()),
        ("entities.json", entities),
    ];
    let compiled = Compiled::compile(&fixtures::bundle_of("agent", &files)).unwrap();
    let mut request = request("bank/pay", "{\"amount\": 3, \"to\": \"bob\"}", START_US);
    request.presenter = Some("gate".to_owned());
    request.assurance = Assurance::BothSigned;
    let account = ("account".to_owned(), "A".to_owned());
    request.resource.attributes = [account].into();
    request.session.grants = [("to".to_owned(), ["bob".to_owned()].into())].into();
    let claimed = ("why".to_owned(), ["because".to_owned()].into());
    request.claims = [claimed].into();
    let world = World {
        starts: fixtures::starts_at(&compiled, START_US - 1),
        partition: Partition::default(),
        compiled,
    };
    (world, request)
}

fn explained(world: &World, request: &Request) -> Explanation {
    let explained = world
        .compiled
        .explain(&world.starts, &world.partition, request);
    explained.unwrap()
}

#[test]
fn each_fact_says_who_vouches_for_it() {
    let (world, request) = everybody();
    let told = explained(&world, &request);
    let facts: Vec<String> = told
        .facts
        .iter()
        .map(|fact| {
            let (who, id) = (fact.voucher.as_str(), fact.voucher.id());
            let value = fact.value.as_deref().unwrap_or("absent");
            format!("{} = {value}, {who} {id}", fact.name)
        })
        .collect();
    assert_eq!(
        facts,
        [
            "Countersign::Resource::\"vault\".type = \"vault\", BUNDLE ",
            "context.input.to = \"bob\", GATEWAY gate",
            "context.request.assurance = \"BOTH_SIGNED\", LEDGER ",
            "context.request.claims.getTag(\"why\") = [\"because\"], AGENT ",
            "context.session.grants.getTag(\"to\") = [\"bob\"], ISSUER operator:alice",
            &format!("context.session.id = \"{}\", LEDGER ", "5e".repeat(16)),
            "context.session.purpose = \"refunds\", ISSUER operator:alice",
            "context.session.subject = absent, ISSUER operator:alice",
            "principal = Countersign::Agent::\"billing-bot\", GATEWAY gate",
            "principal in Countersign::Group::\"billing\" = true, REGISTRY ",
            "principal.getTag(\"team\") = \"payments\", REGISTRY ",
            "principal.owner = Countersign::Operator::\"alice\", REGISTRY ",
            "resource.getTag(\"account\") = \"A\", GATEWAY gate",
        ]
    );
    let read_by: Vec<&str> = told
        .facts
        .iter()
        .flat_map(|fact| &fact.rules)
        .map(|id| id.0.as_str())
        .collect();
    assert_eq!(read_by, ["all"; 13]);
}

#[test]
fn for_what_an_agent_says_and_signs_alone_nobody_else_vouches() {
    let (world, mut request) = everybody();
    request.presenter = None;
    request.assurance = Assurance::AgentSigned;
    request.session.issuer = Issuer::Agent(request.agent.id.clone());
    request.session.purpose = None;
    let told = explained(&world, &request);
    for name in [
        "context.input.to",
        "context.session.grants.getTag(\"to\")",
        "context.session.purpose",
        "context.session.subject",
    ] {
        let fact = told.facts.iter().find(|fact| fact.name == name).unwrap();
        assert_eq!(fact.voucher, Voucher::Agent, "{name}");
    }
    // An operator of the agent's name is somebody else.
    request.session.issuer = Issuer::Operator(request.agent.id.clone());
    let told = explained(&world, &request);
    let grants = "context.session.grants.getTag(\"to\")";
    let fact = told.facts.iter().find(|fact| fact.name == grants).unwrap();
    assert_eq!(fact.voucher.id(), "operator:billing-bot");
}

#[test]
fn the_history_is_counted_as_the_conditions_count_it() {
    let rules = format!(
        "@id(\"cap\") permit {PAY} when temporal {{ count_within(1h, Countersign::Action::\"bank/pay\"::allowed{{}}) < 2 }}
           when temporal {{ bind(spent, sum_within(a, 30m, Countersign::Action::\"bank/pay\"::allowed{{ input.amount: a }}), spent + context.input.amount <= 100) }};
         @id(\"who\") forbid {PAY} when temporal {{ count_distinct_within(who, 2h, Countersign::Action::\"bank/pay\"::allowed{{ input.to: who }}) > 2 }};
         @id(\"after\") permit {PAY} when temporal {{ formerly within 1h Countersign::Action::\"login\"::allowed{{}} }};
         @id(\"nested\") permit {PAY} when temporal {{ formerly within 5m (Countersign::Action::\"bank/pay\"::allowed{{}} && formerly within 10m Countersign::Action::\"login\"::allowed{{}}) }};"
    );
    let mut world = World::new(&rules);
    for (after, to) in [(1, "a"), (2, "b")] {
        let input = format!("{{\"amount\": 40, \"to\": \"{to}\"}}");
        let decision = world.ask("bank/pay", &input, after * SECOND_US);
        assert_eq!(decision.verdict, Verdict::Allow);
    }
    let asked = request(
        "bank/pay",
        "{\"amount\": 40, \"to\": \"c\"}",
        START_US + 3 * SECOND_US,
    );
    let told = world
        .compiled
        .explain(&world.starts, &world.partition, &asked)
        .unwrap();
    let history: Vec<_> = told
        .history
        .iter()
        .map(|counted| {
            let measured = counted.measured.iter();
            let measured = measured.map(|found| {
                (
                    found.measure.as_str(),
                    found.event,
                    found.window_s,
                    found.measure.value(),
                )
            });
            let measured: Vec<_> = measured.collect();
            (
                counted.rule.0.as_str(),
                counted.reach_s,
                counted.holds,
                measured,
            )
        })
        .collect();
    assert_eq!(
        history,
        [
            ("after", 3600, false, vec![("LAST", "allowed", 3600, None)]),
            (
                "cap",
                3600,
                false,
                vec![("COUNT", "allowed", 3600, Some(2))]
            ),
            ("cap", 1800, false, vec![("SUM", "allowed", 1800, Some(80))]),
            ("nested", 900, false, vec![]),
        ]
    );
    let near: Vec<&str> = told.nearest.iter().map(|rule| rule.id.0.as_str()).collect();
    assert_eq!(near, ["after", "nested", "cap"]);
}

#[test]
fn where_no_rule_is_asked_it_says_why() {
    let rules = "@id(\"all\") permit (principal, action, resource);";
    let note = |action, input| told(rules, &request(action, input, START_US)).note;
    assert_eq!(
        note("bank/pay", "{\"amount\": \"3\", \"to\": \"bob\"}").as_deref(),
        Some("the arguments do not fit the schema: at `/amount`: expected a number")
    );
    assert_eq!(
        note("nothing", "{}").as_deref(),
        Some("the bundle's schema has no action of that name")
    );
    assert!(
        note("bank/pay", "{")
            .is_some_and(|note| note.starts_with("the arguments are not strict JSON"))
    );
    assert_eq!(note("bank/pay", "{\"amount\": 3, \"to\": \"bob\"}"), None);
}

#[test]
fn an_explanation_is_bounded() {
    let long = "x".repeat(3_000);
    let clause = |number: usize| format!("context.input.to != \"{number}\"");
    let many: Vec<String> = (0..60).map(clause).collect();
    let mut rules = String::new();
    for number in 0..200 {
        rules.push_str(&format!(
            "@id(\"p{number:03}\") permit {PAY} when {{ {} && context.input.to == \"{long}\" }};\n",
            many.join(" && ")
        ));
        rules.push_str(&format!(
            "@id(\"f{number:03}\") forbid {PAY} when {{ {} }};\n",
            many.join(" && ")
        ));
    }
    let input = format!("{{\"amount\": 3, \"to\": \"é{}\"}}", "é".repeat(5_000));
    let told = told(&rules, &request("bank/pay", &input, START_US));
    assert_eq!(told.decision.rules.len(), 200);
    assert_eq!(told.determining.len(), MAX_EXPLAINED_RULES);
    assert_eq!(told.nearest.len(), MAX_NEAREST_PERMITS);
    assert_eq!(told.permits_failed, 200);
    // Of a rule with too many clauses those that did not hold are told.
    let failed = &told.nearest[0].clauses;
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].text.len(), MAX_EXPLAINED_CLAUSE_BYTES + "…".len());
    let value = told.facts[0].value.as_ref().unwrap();
    assert!(value.len() <= limits::MAX_EXPLAINED_VALUE_BYTES + "…".len());
}
