//! What a decision and a compilation cost, beside Dogwood's own authorizer: `cargo bench -p policy-engine`.
//!
//! A program, not a test: it prints the median of what it saw in this run. Compare figures of one run with each other.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a program that measures and prints"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use dogwood_language::{
    Authorizer, Event, LoweredPolicySet, PolicySchema, ServiceSchema, Value as Dogwood,
};
use policy_engine::{
    Agent, Assurance, Bundle, Compiled, Issuer, Partition, Request, Resource, Session, Starts,
    StringSets, TEMPLATE, Verdict,
};

const START_US: u64 = 1_767_225_600_000_000;

fn main() {
    println!("{:<52} {:>12} {:>14}", "work", "p50", "Authorizer");
    decide("10 rules, all for this action", 10, 1);
    decide("10,000 rules, 10 of them for this action", 10_000, 1_000);
    decide_by_principal("10,000 rules, 10 of them for this agent", 10_000);
    compile("compile 10,000 rules over 2 actions", 10_000, 2);
    compile("compile 10,000 rules over 1,000 actions", 10_000, 1_000);
}

fn schema(actions: usize) -> String {
    let open = TEMPLATE.trim_end().strip_suffix('}').unwrap();
    let mut text = open.to_owned();
    for action in 0..actions {
        writeln!(
            text,
            "action \"tool-{action}\" in [CallTool] appliesTo {{ principal: [Agent], resource: [Resource], context: {{
    input: {{ amount: Long, to: String }}, system: SystemContext, session: SessionContext, request: RequestContext }} }};"
        )
        .unwrap();
    }
    text + "}\n"
}

/// A rule that looks at an argument, the agent's groups and its attributes. Most are forbids that do not apply; one permits.
fn rule(number: usize, scope: &str) -> String {
    if number.is_multiple_of(10) {
        return format!(
            "@id(\"permit-{number}\") permit ({scope}) when {{ context.input.amount < 1000 && principal.owner == Countersign::Operator::\"alice\" }};\n"
        );
    }
    format!(
        "@id(\"forbid-{number}\") forbid ({scope}) when {{ context.input.amount > {} && principal in Countersign::Group::\"g{}\" }};\n",
        1_000 + number,
        number % 5,
    )
}

fn rules(count: usize, actions: usize) -> String {
    let of = |number: usize| {
        let action = number / 10 % actions;
        rule(
            number,
            &format!("principal, action == Countersign::Action::\"tool-{action}\", resource"),
        )
    };
    (0..count).map(of).collect()
}

fn bundle(rules: &str, actions: usize) -> Bundle {
    let header = "name = \"bench\"\nhistory = \"agent\"\nschema = \"schema.cedarschema\"\n";
    let files = [
        ("bundle.toml", header.to_owned()),
        ("schema.cedarschema", schema(actions)),
        ("rules/main.dw", rules.to_owned()),
    ];
    let files: BTreeMap<String, Vec<u8>> = files
        .into_iter()
        .map(|(path, text)| (path.to_owned(), text.into_bytes()))
        .collect();
    Bundle::from_files(files).unwrap()
}

fn request() -> Request {
    Request {
        time_us: START_US,
        request_id: "00".repeat(16),
        agent: Agent {
            id: "agent-7".to_owned(),
            owner: "alice".to_owned(),
            groups: ["g7", "g8", "g9"].map(str::to_owned).into(),
            attributes: [("team", "payments"), ("tier", "2")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        },
        session: Session {
            id: "5e".repeat(16),
            purpose: Some("refunds".to_owned()),
            issuer: Issuer::Operator("alice".to_owned()),
            delegated: false,
            seq: 1,
            opened_at_us: START_US,
            subject: None,
            grants: StringSets::new(),
        },
        presenter: None,
        assurance: Assurance::AgentSigned,
        action: "tool-0".to_owned(),
        resource: Resource {
            id: "tool-0".to_owned(),
            kind: None,
            parents: BTreeSet::new(),
            attributes: BTreeMap::new(),
        },
        input: b"{\"amount\": 12, \"to\": \"bob\"}".to_vec(),
        claims: StringSets::new(),
        approval: None,
    }
}

/// The median of many timings, each of one call, after some that warm up.
fn median(times: usize, mut work: impl FnMut()) -> Duration {
    for _ in 0..times / 10 {
        work();
    }
    let mut all: Vec<Duration> = (0..times)
        .map(|_| {
            let begun = Instant::now();
            work();
            begun.elapsed()
        })
        .collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or_default()
}

fn print(work: &str, ours: Duration, theirs: Option<Duration>) {
    let us = |duration: Duration| {
        let tenths = duration.as_nanos() / 100;
        format!("{}.{} us", tenths / 10, tenths % 10)
    };
    let theirs = theirs.map_or_else(String::new, |theirs| {
        format!("{} ({}x)", us(theirs), theirs.as_nanos() / ours.as_nanos())
    });
    println!("{work:<52} {:>12} {theirs:>14}", us(ours));
}

fn decide(work: &str, count: usize, actions: usize) {
    compare(work, &rules(count, actions), actions);
}

fn decide_by_principal(work: &str, count: usize) {
    let of = |number: usize| {
        let agent = number / 10;
        let scope = format!("principal == Countersign::Agent::\"agent-{agent}\", action, resource");
        rule(number, &scope)
    };
    compare(work, &(0..count).map(of).collect::<String>(), 1);
}

fn compare(work: &str, rules: &str, actions: usize) {
    let compiled = Compiled::compile(&bundle(rules, actions)).unwrap();
    let (starts, partition, request) = (Starts::new(), Partition::default(), request());
    let ours = median(10_000, || {
        let evaluated = compiled.decide(&starts, &partition, &request).unwrap();
        assert_eq!(evaluated.decision.verdict, Verdict::Allow);
    });
    let mut dogwood = dogwood(rules, actions);
    let mut time = 0;
    let theirs = median(if rules.len() > 100_000 { 40 } else { 2_000 }, || {
        time += 1;
        assert!(
            dogwood
                .is_authorized(&event(&request, time))
                .unwrap()
                .allowed()
        );
    });
    print(work, ours, Some(theirs));
}

fn dogwood(rules: &str, actions: usize) -> Authorizer {
    let events = "decision event <A>::request { ...inputs(A), callerPrincipal: principalType(A), callerResource: resourceType(A) }\n";
    let service = ServiceSchema::builder()
        .event_schema_str(events)
        .build()
        .unwrap();
    let schema = PolicySchema::from_cedarschema_str(&schema(actions)).unwrap();
    Authorizer::new(LoweredPolicySet::from_str(rules, &service, &schema).unwrap())
}

/// The same request for Dogwood: arguments, owner and groups. Its events have no tags, so the agent's are left out.
fn event(request: &Request, time: i64) -> Event {
    let agent = ("Countersign::Agent", request.agent.id.as_str());
    let text = |text: &str| Dogwood::String(text.to_owned());
    let input = [("amount", Dogwood::Int(12)), ("to", text("bob"))];
    let input = input.map(|(name, value)| (name.to_owned(), value));
    let owner = Dogwood::Entity {
        ty: "Countersign::Operator".to_owned(),
        id: request.agent.owner.clone(),
    };
    let groups = request.agent.groups.iter();
    let groups: Vec<_> = groups
        .map(|group| ("Countersign::Group", group.as_str()))
        .collect();
    Event::builder_for(&["Countersign", "Action"], &request.action, "request")
        .timestamp(time)
        .principal_for(agent.0, agent.1)
        .resource_for("Countersign::Resource", &request.resource.id)
        .logged_field("input", Dogwood::Object(input.into()))
        .request_context_field(
            "input",
            Dogwood::Object(
                [
                    ("amount".to_owned(), Dogwood::Int(12)),
                    ("to".to_owned(), text("bob")),
                ]
                .into(),
            ),
        )
        .entity_for(agent.0, agent.1, [("owner", owner)])
        .parents_for(agent.0, agent.1, groups)
        .build()
}

fn compile(work: &str, count: usize, actions: usize) {
    let bundle = bundle(&rules(count, actions), actions);
    let mut all: Vec<Duration> = (0..3)
        .map(|_| {
            let begun = Instant::now();
            Compiled::compile(&bundle).unwrap();
            begun.elapsed()
        })
        .collect();
    all.sort_unstable();
    let median = all.get(1).copied().unwrap_or_default().as_millis();
    println!("{work:<52} {median:>9} ms");
}
