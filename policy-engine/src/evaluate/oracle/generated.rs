//! Generated conditions over generated histories: cells against Dogwood's engine on everything that happened.
//!
//! Bundles come and go while the history runs, some rules staying the same. The partition is taken apart into its records and
//! put together again between any two events, so that every step and every verdict begins from a snapshot.

use super::*;
use crate::compile::Rule;
use crate::evaluate::temporal::play;
use crate::fixtures;
use dogwood_language::TemporalField;

const KINDS: [&str; 7] = [
    "request",
    "allowed",
    "denied",
    "response",
    "error",
    "self_reported_response",
    "self_reported_error",
];

fn predicate(dice: &mut Dice, measured: &str) -> String {
    let kind = dice.pick(&KINDS);
    if measured.is_empty() && dice.roll(4) == 0 {
        let arg = dice.pick(&["", "input.user: context.input.to", "input.user: \"u1\""]);
        return format!("Countersign::Action::\"login\"::{kind}{{ {arg} }}");
    }
    let recorder = match kind {
        "response" | "error" => "recorder: Countersign::Gateway::\"gate\"",
        "self_reported_response" | "self_reported_error" => "recorder: principal",
        _ => "callerPrincipal: principal",
    };
    let mut args = vec![measured];
    for arg in [
        recorder,
        "callerPrincipal: principal",
        "callerResource: resource",
        "sessionId: context.session.id",
        "input.note: *",
        "input.note: context.input.to",
        "input.note: context.input.note",
        "input.to: \"u1\"",
        "input.to: context.input.to",
        "input.amount: context.input.amount",
        "input.amount: 2",
    ] {
        let field = arg.split(':').next().unwrap();
        let taken = args.iter().any(|other| other.starts_with(field));
        if !taken && dice.roll(9) == 0 {
            args.push(arg);
        }
    }
    args.retain(|arg| !arg.is_empty());
    format!(
        "Countersign::Action::\"bank/pay\"::{kind}{{ {} }}",
        args.join(", ")
    )
}

fn condition(dice: &mut Dice, depth: u32) -> String {
    let window = dice.pick(&["5s", "20s", "1m", "5m"]);
    let op = dice.pick(&["<", "<=", ">", ">=", "==", "!="]);
    let number = dice.roll(5);
    let plain = |dice: &mut Dice| predicate(dice, "");
    match dice.roll(if depth == 0 { 9 } else { 8 }) {
        0 => format!("formerly within {window} {}", plain(dice)),
        1 => format!("!(formerly within {window} {})", plain(dice)),
        2 => format!("count_within({window}, {}) {op} {number}", plain(dice)),
        3 => format!(
            "bind(spent, sum_within(a, {window}, {}), spent + context.input.amount {op} {})",
            predicate(dice, "input.amount: a"),
            number * 3
        ),
        4 => format!(
            "count_distinct_within(who, {window}, {}) {op} {number}",
            predicate(dice, "input.to: who")
        ),
        5 => format!("(!{} since within {window} {})", plain(dice), plain(dice)),
        6 => format!(
            "((!{} && !{}) since within {window} {})",
            plain(dice),
            plain(dice),
            plain(dice)
        ),
        7 => format!("previous within {window} {}", plain(dice)),
        _ => match dice.roll(3) {
            0 => format!("{} && {}", condition(dice, 1), condition(dice, 1)),
            1 => format!(
                "count_within({window}, {}) * 2 {op} sum_within(a, {window}, {})",
                plain(dice),
                predicate(dice, "input.amount: a")
            ),
            _ => format!(
                "formerly within {window} ({} && formerly within {window} {})",
                plain(dice),
                plain(dice)
            ),
        },
    }
}

fn rule(dice: &mut Dice, number: u64) -> String {
    format!(
        "@id(\"r{number}\") permit (principal, action == Countersign::Action::\"bank/pay\", resource) when temporal {{ {} }};\n",
        condition(dice, 0)
    )
}

/// A bundle, and since when its rules have a past.
struct Tracked {
    compiled: Compiled,
    starts: Starts,
}

fn tracked(rules: &[String], now_us: u64, before: Option<&Tracked>) -> Tracked {
    let compiled = Compiled::compile(&fixtures::bundle(&rules.concat()))
        .unwrap_or_else(|findings| panic!("{findings:#?}"));
    let begun = |fingerprint| before.and_then(|before| before.starts.get(&fingerprint).copied());
    let rules = compiled.temporal_rules().iter();
    let starts = rules
        .map(|rule| (rule.fingerprint, begun(rule.fingerprint).unwrap_or(now_us)))
        .collect();
    Tracked { compiled, starts }
}

fn from_records(partition: &Partition) -> Partition {
    let records = partition.records().map(|(key, record)| {
        check_record(key, record).unwrap_or_else(|error| panic!("{error}: {key:x?}"));
        (key.to_vec(), record.to_vec())
    });
    records.collect()
}

/// The values of all conditions, from cells and from everything that happened.
fn compare(
    tracked: &Tracked,
    partition: &Partition,
    all: &[Event],
    request: &Request,
    tally: &mut BTreeMap<(bool, bool), u64>,
) -> Event {
    let Tracked { compiled, starts } = tracked;
    let input = compiled.typed_input(request).unwrap();
    let asked = temporal::event(request, EventKind::Request, input).unwrap();
    let rules: Vec<&Rule> = compiled.rules().iter().collect();
    let records = Guarded::new(partition);
    let past = View::load(&records, asked.time_ns).unwrap();
    let case = compiled.case(starts, &past, request, asked.clone());
    let entities = case.unwrap().entities;
    let ours =
        temporal::evaluate(compiled, &rules, starts, &past, &entities, &asked, request).unwrap();
    let mut theirs = Vec::new();
    let mut planned = BTreeMap::new();
    for past in rules.iter().filter_map(|rule| rule.past.as_ref()) {
        let start = starts[&past.fingerprint];
        let leaves: Vec<TemporalField> =
            past.leaves.iter().map(|leaf| leaf.field.clone()).collect();
        for leaf in &past.leaves {
            planned.insert(leaf.field.id.clone(), leaf.plan.is_some());
        }
        let events = all
            .iter()
            .filter(|event| event.time_ns >= i64::try_from(start * 1_000).unwrap())
            .map(|event| temporal::played(event).build());
        let now = temporal::decision_event(compiled, &entities, &asked, request).unwrap();
        theirs.extend(play(&leaves, compiled.schema(), events, &now).unwrap());
    }
    theirs.sort_unstable();
    for ((leaf, ours), (other, theirs)) in ours.iter().zip(&theirs) {
        assert_eq!(leaf, other);
        let text = compiled.rules().iter().map(|rule| &rule.source.text);
        let rules: Vec<&String> = text.collect();
        assert_eq!(
            ours, theirs,
            "{leaf} of {rules:#?} at {request:?} after {all:#?}"
        );
        *tally.entry((planned[leaf], *ours)).or_default() += 1;
    }
    assert_eq!(ours.len(), theirs.len());
    asked
}

fn generated_request(dice: &mut Dice, time_us: u64) -> Request {
    let user = dice.pick(&["u1", "u2", "u3"]);
    let (action, input) = if dice.roll(5) == 0 {
        ("login", format!("{{\"user\": \"{user}\"}}"))
    } else {
        let note = dice.pick(&["", ", \"note\": \"u1\"", ", \"note\": \"u2\""]);
        let amount = dice.roll(4);
        let input = format!("{{\"amount\": {amount}, \"to\": \"{user}\"{note}}}");
        ("bank/pay", input)
    };
    let mut request = request(action, &input, time_us);
    request.agent.id = dice.pick(&["a1", "a2"]).to_owned();
    request.session.id = dice.pick(&["s1", "s2"]).to_owned();
    request.resource.id = dice.pick(&["r1", "r2"]).to_owned();
    request
}

fn play_generated(seed: u64, requests: u64, tally: &mut BTreeMap<(bool, bool), u64>) -> u64 {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
    let mut rules: Vec<String> = (0..6).map(|number| rule(&mut dice, number)).collect();
    let mut time_us = START_US;
    let mut bundles = vec![tracked(&rules, time_us, None)];
    let (mut partition, mut all) = (Partition::default(), Vec::new());
    let mut decisions = 0;
    for round in 0..requests {
        // Sometimes nothing happens until everything has expired.
        let idle = if dice.roll(40) == 0 {
            400 * SECOND_US
        } else {
            0
        };
        time_us += 1 + dice.roll(8 * SECOND_US) + idle;
        if round % 25 == 24 {
            let changed = usize::try_from(dice.roll(6)).unwrap();
            rules[changed] = rule(&mut dice, u64::try_from(changed).unwrap());
            bundles.push(tracked(&rules, time_us, bundles.last()));
            if bundles.len() > 2 {
                bundles.remove(0);
            }
        }
        let request = generated_request(&mut dice, time_us);
        let newest = bundles.last().unwrap();
        let asked = if request.action == "bank/pay" {
            decisions += 1;
            compare(newest, &partition, &all, &request, tally)
        } else {
            let input = newest.compiled.typed_input(&request).unwrap();
            temporal::event(&request, EventKind::Request, input).unwrap()
        };
        let mut events = vec![asked.clone()];
        let allowed = dice.roll(3) > 0;
        let kind = if allowed {
            EventKind::Allowed
        } else {
            EventKind::Denied
        };
        let mut verdict = Event {
            kind,
            ..asked.clone()
        };
        // Equal times keep their order.
        verdict.time_ns += i64::from(dice.roll(4) > 0);
        events.push(verdict);
        if allowed && dice.roll(2) == 0 {
            let kind = match dice.roll(6) {
                0 => EventKind::SelfReportedError,
                1 => EventKind::SelfReportedResponse,
                2 => EventKind::Error,
                _ => EventKind::Response,
            };
            let by_gateway = matches!(kind, EventKind::Response | EventKind::Error);
            time_us += 1 + dice.roll(SECOND_US);
            events.push(Event {
                kind,
                time_ns: i64::try_from(time_us).unwrap() * 1_000,
                recorder: by_gateway.then(|| dice.pick(&["gate", "door"]).to_owned()),
                ..asked
            });
        }
        let readers: Vec<&Compiled> = bundles.iter().map(|bundle| &bundle.compiled).collect();
        let mut continuous = partition.clone();
        step(&mut continuous, &readers, &events).unwrap();
        for event in &events {
            partition = from_records(&partition);
            step(&mut partition, &readers, std::slice::from_ref(event)).unwrap();
        }
        assert_eq!(continuous, partition, "one way of stepping, one state");
        all.extend(events);
    }
    decisions
}

#[test]
fn generated_conditions_hold_exactly_when_dogwood_says_so() {
    let mut tally = BTreeMap::new();
    let mut decisions = 0;
    for seed in 1..=60 {
        decisions += play_generated(seed, 100, &mut tally);
    }
    println!("{decisions} decisions; values by (has a plan, holds): {tally:?}");
    // Both kinds of conditions, and both answers, or it was not tested.
    assert!(
        tally.len() == 4 && tally.values().all(|count| *count > 100),
        "{tally:?}"
    );
}
