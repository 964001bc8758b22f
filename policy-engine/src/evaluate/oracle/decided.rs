//! Whole decisions of generated bundles, whosever past they read, against Dogwood's authorizer.
//!
//! Rules compare decimals, sets, and attributes of whoever asks and of what is asked about; permits and forbids have plain and
//! temporal conditions. Ours decide as test cases and `policy diff` do. Dogwood's authorizer knows no partitions, so each past has
//! one of its own, which is told everything that happened in that past.

use super::*;
use crate::fixtures::bundle_with_schema;

const ORDER: &str = r#"
  action "order" in [CallTool] appliesTo { principal: [Agent], resource: [Resource], context: {
    input: { price: decimal, tags: Set<String>, kind: String, count: Long }, output?: { paid: decimal },
    system: SystemContext, session: SessionContext, request: RequestContext } };
}
"#;

const KINDS: [&str; 5] = [
    "request",
    "allowed",
    "denied",
    "response",
    "self_reported_response",
];

fn orders() -> String {
    let open = TEMPLATE.trim_end().strip_suffix('}').unwrap();
    format!("{open}{ORDER}")
}

fn predicate(dice: &mut Dice, measured: &str) -> String {
    let kind = dice.pick(&KINDS);
    let mut args: Vec<&str> = vec![measured];
    for arg in [
        "input.price: context.input.price",
        "input.price: decimal(\"1.5\")",
        "input.tags: context.input.tags",
        "input.kind: resource.type",
        "input.kind: context.input.kind",
        "callerPrincipal: principal",
        "callerResource: resource",
        "sessionId: context.session.id",
        "input.count: *",
        "input.count: 2",
    ] {
        let field = arg.split(':').next().unwrap();
        let taken = args.iter().any(|other| other.starts_with(field));
        if !taken && dice.roll(6) == 0 {
            args.push(arg);
        }
    }
    args.retain(|arg| !arg.is_empty());
    let args = args.join(", ");
    format!("Countersign::Action::\"order\"::{kind}{{ {args} }}")
}

fn temporal_condition(dice: &mut Dice) -> String {
    let window = dice.pick(&["5s", "20s", "1m", "10m"]);
    let op = dice.pick(&["<", "<=", ">", ">=", "==", "!="]);
    let number = dice.roll(4);
    match dice.roll(8) {
        0 => format!("formerly within {window} {}", predicate(dice, "")),
        1 => format!("!(formerly within {window} {})", predicate(dice, "")),
        2 => format!(
            "count_within({window}, {}) {op} {number}",
            predicate(dice, "")
        ),
        3 => format!(
            "count_distinct_within(x, {window}, {}) {op} {number}",
            predicate(dice, "input.kind: x")
        ),
        4 => format!(
            "bind(spent, sum_within(a, {window}, {}), spent + context.input.count {op} {})",
            predicate(dice, "input.count: a"),
            number * 3
        ),
        5 => format!(
            "(!{} since within {window} {})",
            predicate(dice, ""),
            predicate(dice, "")
        ),
        6 => format!("previous within {window} {}", predicate(dice, "")),
        _ => {
            // Ours puts a verdict just after its second, from where the edge of a window is another one than for Dogwood.
            let outer = predicate(dice, "")
                .replace("::allowed{", "::request{")
                .replace("::denied{", "::request{");
            let inner = predicate(dice, "");
            format!("formerly within {window} ({outer} && formerly within {window} {inner})")
        }
    }
}

fn rule(dice: &mut Dice, number: u64) -> String {
    let effect = dice.pick(&["permit", "permit", "forbid"]);
    let principal = dice.pick(&[
        "principal",
        "principal",
        "principal in Countersign::Group::\"g1\"",
    ]);
    let plain = dice.pick(&[
        "",
        "",
        "when { context.input.price.lessThan(decimal(\"2.0\")) }",
        "when { context.input.tags.contains(\"a\") }",
        "unless { principal.owner == Countersign::Operator::\"o1\" }",
        "when { resource.type == context.input.kind }",
    ]);
    let past = if dice.roll(5) == 0 {
        String::new()
    } else {
        let keyword = dice.pick(&["when", "unless"]);
        format!("{keyword} temporal {{ {} }}", temporal_condition(dice))
    };
    format!(
        "@id(\"r{number}\") {effect} ({principal}, action == Countersign::Action::\"order\", resource) {plain} {past};\n"
    )
}

fn order(dice: &mut Dice, time_us: u64) -> Request {
    let price = dice.pick(&["1", "1.5", "1.50", "2.25"]);
    let tags = dice.pick(&["[]", "[\"a\"]", "[\"b\", \"a\"]", "[\"a\", \"b\", \"a\"]"]);
    let kind = dice.pick(&["open", "sealed"]);
    let count = dice.roll(4);
    let input = format!(
        "{{\"price\": {price}, \"tags\": {tags}, \"kind\": \"{kind}\", \"count\": {count}}}"
    );
    let mut request = request("order", &input, time_us);
    request.agent.id = dice.pick(&["a1", "a2"]).to_owned();
    request.agent.owner = dice.pick(&["o1", "o2"]).to_owned();
    request.agent.groups = [dice.pick(&["g1", "g2"]).to_owned()].into();
    request.agent.attributes = BTreeMap::new();
    request.session.id = dice.pick(&["s1", "s2"]).to_owned();
    request.resource.id = dice.pick(&["r1", "r2"]).to_owned();
    request.resource.kind = Some(dice.pick(&["open", "sealed"]).to_owned());
    request.session.subject = match dice.roll(3) {
        0 => None,
        other => Some(Subject {
            iss: "i".to_owned(),
            sub: format!("s{other}"),
            assurance: "ISSUER_ASSERTED".to_owned(),
        }),
    };
    request
}

/// Whose past it is, in words of its own.
fn whose(scope: &str, request: &Request) -> String {
    match scope {
        "agent" => request.agent.id.clone(),
        "session" => request.session.id.clone(),
        "owner" => request.agent.owner.clone(),
        "namespace" => String::new(),
        _ => request.session.subject.as_ref().map_or_else(
            || format!("agent {}", request.agent.id),
            |subject| format!("subject {}", subject.sub),
        ),
    }
}

fn play_orders<'a>(seed: u64, scope: &'a str, tally: &mut BTreeMap<(&'a str, &'static str), u32>) {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
    let rules: String = (0..7).map(|number| rule(&mut dice, number)).collect();
    let ours = bundle_with_schema(scope, &orders(), &rules);
    let ours = Compiled::compile(&ours).unwrap_or_else(|findings| panic!("{rules}\n{findings:#?}"));
    let lowered = || {
        let schema = PolicySchema::from_cedarschema_str(&orders()).unwrap();
        LoweredPolicySet::from_str(&rules, &service_schema().unwrap(), &schema).unwrap()
    };
    let ids: BTreeMap<String, String> = lowered()
        .as_cedar()
        .policies()
        .map(|policy| {
            (
                policy.id().to_string(),
                policy.annotation("id").unwrap().to_owned(),
            )
        })
        .collect();
    let mut rehearsal = Rehearsal::new(&ours);
    let mut pasts: BTreeMap<String, Authorizer> = BTreeMap::new();
    let mut time_us = START_US;
    for number in 0..60 {
        // Whole seconds: Dogwood's clock can tell nothing smaller apart. A verdict comes within the second of its request.
        time_us += (1 + dice.roll(9)) * SECOND_US;
        let mut request = order(&mut dice, time_us);
        request.request_id = format!("{number:032x}");
        let input = ours.typed_input(&request).unwrap();
        let asked = temporal::event(&request, EventKind::Request, input).unwrap();
        let past = pasts
            .entry(whose(scope, &request))
            .or_insert_with(|| Authorizer::new(lowered()));
        let (is_allow, theirs) = ask_dogwood(past, &request, &asked);
        let theirs: BTreeSet<&String> = theirs.iter().map(|id| &ids[id]).collect();
        let decision = rehearsal.ask(request.clone());
        let told: BTreeSet<&String> = decision.rules.iter().map(|RuleId(id)| id).collect();
        assert_eq!(
            (decision.verdict == Verdict::Allow, told),
            (is_allow, theirs),
            "step {number} of seed {seed}, {scope}: {request:?} under {rules}"
        );
        *tally.entry((scope, decision.reason.as_str())).or_default() += 1;
        let kind = if is_allow {
            EventKind::Allowed
        } else {
            EventKind::Denied
        };
        let mut tell = |event: Event| {
            let response = past.is_authorized(&in_seconds(&event).build());
            assert!(response.is_none(), "only requests are decided");
        };
        tell(Event {
            kind,
            ..asked.clone()
        });
        if is_allow && dice.roll(2) == 0 {
            time_us += SECOND_US;
            let (kind, recorder) = match dice.roll(3) {
                0 => (EventKind::SelfReportedResponse, Recorder::Agent),
                _ => (EventKind::Response, Recorder::Gateway("gate".to_owned())),
            };
            rehearsal.outcome(&request.request_id, time_us, true, &recorder, None);
            tell(Event {
                recorder: (recorder != Recorder::Agent).then(|| "gate".to_owned()),
                kind,
                time_ns: i64::try_from(time_us * 1_000).unwrap(),
                ..asked
            });
        }
    }
}

#[test]
fn generated_bundles_decide_as_dogwoods_authorizer_does() {
    let mut tally = BTreeMap::new();
    let scopes = ["agent", "session", "subject", "owner", "namespace"];
    for seed in 1..=60 {
        for scope in scopes {
            play_orders(seed, scope, &mut tally);
        }
    }
    println!(
        "{} decisions, by history and reason: {tally:?}",
        60 * 60 * scopes.len()
    );
    let reasons = [
        "ALLOWED_BY_POLICY",
        "FORBIDDEN_BY_POLICY",
        "NO_MATCHING_PERMIT",
    ];
    for (scope, reason) in scopes
        .iter()
        .flat_map(|scope| reasons.map(|reason| (*scope, reason)))
    {
        let seen = tally.get(&(scope, reason)).copied().unwrap_or(0);
        assert!(seen > 100, "{scope}, {reason}: {seen}");
    }
}
