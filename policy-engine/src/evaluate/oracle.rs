//! Equality with Dogwood's own authorizer, over random histories.
//!
//! Dogwood's authorizer keeps the whole past and interprets every condition over all of it, in whole seconds. Ours keeps only
//! what a partition retains. Both must answer the same, down to the determining rules, before our one deliberate difference
//! (an erring forbid denies) applies.

use std::collections::{BTreeMap, BTreeSet};

use dogwood_language::{Authorizer, LoweredPolicySet, PolicySchema, Value as Dogwood};

use super::{context, temporal};
use crate::event_schema::service_schema;
use crate::fixtures::{SECOND_US, START_US, compiled, request, schema, starts_at};
use crate::history::view::{Guarded, View};
use crate::*;

const RULES: &str = r#"
@id("login") permit (principal, action == Countersign::Action::"login", resource)
  when temporal { !(formerly within 10m Countersign::Action::"login"::denied{ input.user: context.input.user }) };
@id("cap") forbid (principal, action == Countersign::Action::"login", resource)
  when temporal { count_within(30m, Countersign::Action::"login"::allowed{}) >= 3 };
@id("formerly") permit (principal, action == Countersign::Action::"read", resource)
  when temporal { formerly within 1h Countersign::Action::"login"::response{} };
@id("correlated") permit (principal, action == Countersign::Action::"read", resource)
  when temporal { formerly within 2h Countersign::Action::"login"::response{ input.user: context.input.user, callerPrincipal: principal } };
@id("doc") forbid (principal, action == Countersign::Action::"read", resource)
  when { context.input has doc } when temporal { formerly within 20m Countersign::Action::"read"::error{ input.doc: context.input.doc, callerResource: resource } };
@id("since") permit (principal, action == Countersign::Action::"approve", resource)
  when temporal { !Countersign::Action::"login"::denied{} since within 1h Countersign::Action::"login"::allowed{} };
@id("since-positive") permit (principal, action == Countersign::Action::"deploy", resource)
  when temporal { !(!Countersign::Action::"approve"::allowed{} && !Countersign::Action::"deploy"::request{} && !Countersign::Action::"deploy"::denied{})
    since within 1h Countersign::Action::"approve"::request{ input.ticket: context.input.ticket } };
@id("previous") forbid (principal, action == Countersign::Action::"deploy", resource)
  when temporal { previous within 1h Countersign::Action::"bank/pay"::error{} };
@id("not-previous") permit (principal, action == Countersign::Action::"deploy", resource)
  when temporal { formerly within 15m (!Countersign::Action::"login"::request{} && previous within 5m Countersign::Action::"approve"::allowed{ input.ticket: context.input.ticket }) };
@id("sum") permit (principal, action == Countersign::Action::"bank/pay", resource)
  when temporal { bind(spent, sum_within(a, 1h, Countersign::Action::"bank/pay"::allowed{ input.amount: a }), spent + context.input.amount <= 100) };
@id("distinct") forbid (principal, action == Countersign::Action::"bank/pay", resource)
  when temporal { count_distinct_within(who, 40m, Countersign::Action::"bank/pay"::allowed{ input.to: who }) > 2 };
@id("output") forbid (principal, action == Countersign::Action::"bank/pay", resource)
  when temporal { exists (b: Long). (formerly within 30m Countersign::Action::"bank/pay"::response{ output.balance: b } && b < 20) };
@id("nested") permit (principal, action == Countersign::Action::"approve", resource)
  when temporal { exists (u: String). (formerly within 20m (Countersign::Action::"read"::allowed{ input.user: u } && formerly within 30m Countersign::Action::"login"::allowed{ input.user: u, sessionId: context.session.id })) };
@id("owner") forbid (principal in Countersign::Group::"g1", action == Countersign::Action::"approve", resource)
  when temporal { formerly within 10m Countersign::Action::"read"::denied{ callerPrincipal: principal } } unless { principal.owner == Countersign::Operator::"o1" };
@id("reported") permit (principal, action == Countersign::Action::"deploy", resource)
  when temporal { formerly within 1h Countersign::Action::"read"::self_reported_response{ recorder: principal } };
@id("by-gate") permit (principal, action == Countersign::Action::"approve", resource)
  when temporal { formerly within 1h Countersign::Action::"login"::response{ recorder: Countersign::Gateway::"gate" } };
@id("errs") permit (principal, action == Countersign::Action::"bank/pay", resource)
  when { context.input.amount * 9223372036854775807 > 0 };
@id("plain") forbid (principal, action in Countersign::Action::"CallTool", resource)
  when { resource.type == "sealed" && context.request.assurance != "BOTH_SIGNED" };
"#;

/// A small generator of its own, so that a failure's seed says everything.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        let count = u64::try_from(of.len()).unwrap();
        of[usize::try_from(self.roll(count)).unwrap()]
    }
}

fn any_request(dice: &mut Dice, time_us: u64) -> Request {
    let user = dice.pick(&["u1", "u2", "u3"]);
    let ticket = dice.pick(&["t1", "t2"]);
    let (action, input) = match dice.roll(6) {
        0 => ("login", format!("{{\"user\": \"{user}\"}}")),
        1 => ("read", format!("{{\"user\": \"{user}\"}}")),
        2 => (
            "read",
            format!("{{\"user\": \"{user}\", \"doc\": \"{ticket}\"}}"),
        ),
        3 => ("approve", format!("{{\"ticket\": \"{ticket}\"}}")),
        4 => ("deploy", format!("{{\"ticket\": \"{ticket}\"}}")),
        _ => (
            "bank/pay",
            format!("{{\"amount\": {}, \"to\": \"{user}\"}}", 1 + dice.roll(60)),
        ),
    };
    let mut request = request(action, &input, time_us);
    request.agent.id = dice.pick(&["a1", "a2"]).to_owned();
    request.agent.owner = dice.pick(&["o1", "o2"]).to_owned();
    request.agent.groups = BTreeSet::from([dice.pick(&["g1", "g2"]).to_owned()]);
    request.agent.attributes = BTreeMap::new();
    request.session.id = dice.pick(&["s1", "s2"]).to_owned();
    request.resource.id = dice.pick(&["r1", "r2"]).to_owned();
    request.resource.kind = Some(dice.pick(&["open", "open", "open", "sealed"]).to_owned());
    if dice.roll(2) == 0 {
        request.assurance = Assurance::BothSigned;
    }
    request
}

/// The same event for Dogwood's authorizer, whose clock ticks in seconds.
fn in_seconds(event: &Event) -> dogwood_language::EventBuilder {
    temporal::played(event).timestamp(event.time_ns / 1_000_000_000)
}

fn ask_dogwood(
    authorizer: &mut Authorizer,
    request: &Request,
    asked: &Event,
) -> (bool, Vec<String>) {
    let mut event = in_seconds(asked);
    for (name, group) in context::for_dogwood(request, &asked.input).unwrap() {
        event = event.request_context_field(&name, group);
    }
    let owner = Dogwood::Entity {
        ty: "Countersign::Operator".to_owned(),
        id: request.agent.owner.clone(),
    };
    let group = request.agent.groups.first().unwrap();
    let agent = ("Countersign::Agent", request.agent.id.as_str());
    let kind = Dogwood::String(request.resource.kind.clone().unwrap());
    let event = event
        .entity_for(agent.0, agent.1, [("owner", owner)])
        .parents_for(agent.0, agent.1, [("Countersign::Group", group.as_str())])
        .entity_for(
            "Countersign::Resource",
            &request.resource.id,
            [("type", kind)],
        )
        .build();
    let response = authorizer.is_authorized(&event).unwrap();
    let mut rules: Vec<String> = response
        .diagnostics()
        .reason()
        .map(|rule| rule.cedar_policy_id.clone())
        .collect();
    rules.sort_unstable();
    (response.allowed(), rules)
}

/// Our authorizer and Dogwood's, after the same history.
struct Both {
    ours: Compiled,
    starts: Starts,
    partition: Partition,
    dogwood: Authorizer,
    /// By Dogwood's names of them.
    ids: BTreeMap<String, String>,
}

impl Both {
    fn new() -> Self {
        let ours = compiled(RULES);
        let schema = PolicySchema::from_cedarschema_str(&schema()).unwrap();
        let lowered =
            LoweredPolicySet::from_str(RULES, &service_schema().unwrap(), &schema).unwrap();
        let policies = lowered.as_cedar().policies();
        let ids = policies.map(|policy| {
            let id = policy.annotation("id").unwrap();
            (policy.id().to_string(), id.to_owned())
        });
        Self {
            starts: starts_at(&ours, START_US),
            ours,
            partition: Partition::default(),
            ids: ids.collect(),
            dogwood: Authorizer::new(lowered),
        }
    }

    /// What both say, which must be the same; the request is then part of both histories.
    fn ask(&mut self, request: &Request) -> (bool, Vec<String>, Event) {
        let input = self.ours.typed_input(request).unwrap();
        let asked = temporal::event(request, EventKind::Request, input).unwrap();
        let records = Guarded::new(&self.partition);
        let past = View::load(&records, asked.time_ns).unwrap();
        let case = self
            .ours
            .case(&self.starts, &past, request, asked.clone())
            .unwrap();
        let answer = self.ours.satisfied(&case, None, &case.slice).unwrap();
        let ours = self.ours.rules_at(answer.determining());
        let ours: BTreeSet<String> = ours.map(|rule| rule.id.0.clone()).collect();
        let (is_allow, theirs) = ask_dogwood(&mut self.dogwood, request, &asked);
        let theirs: BTreeSet<String> = theirs.iter().map(|id| self.ids[id].clone()).collect();
        assert_eq!(
            (answer.is_allow(), &ours),
            (is_allow, &theirs),
            "{request:?}"
        );
        step(
            &mut self.partition,
            &[&self.ours],
            std::slice::from_ref(&asked),
        )
        .unwrap();
        (is_allow, ours.into_iter().collect(), asked)
    }

    fn step(&mut self, event: Event) {
        let response = self.dogwood.is_authorized(&in_seconds(&event).build());
        assert!(response.is_none(), "only requests are decided");
        step(&mut self.partition, &[&self.ours], &[event]).unwrap();
    }
}

/// Plays one random history to both; counts the decisions that each rule determined.
fn play(seed: u64, requests: u64, determined: &mut BTreeMap<String, u32>) {
    let mut both = Both::new();
    let mut dice = Dice(seed);
    let mut time_us = START_US;
    for _ in 0..requests {
        time_us += (3 + dice.roll(400)) * SECOND_US;
        let request = any_request(&mut dice, time_us);
        let (is_allow, rules, asked) = both.ask(&request);
        for rule in rules {
            *determined.entry(rule).or_default() += 1;
        }
        // A second later, because that is all that Dogwood's clock can tell apart.
        let gateway = dice.pick(&["gate", "door"]).to_owned();
        let at = |seconds: i64, kind: EventKind| Event {
            time_ns: asked.time_ns + seconds * 1_000_000_000,
            kind,
            recorder: matches!(kind, EventKind::Response | EventKind::Error)
                .then(|| gateway.clone()),
            ..asked.clone()
        };
        if !is_allow {
            both.step(at(1, EventKind::Denied));
            continue;
        }
        both.step(at(1, EventKind::Allowed));
        match dice.roll(4) {
            0 => {}
            1 => both.step(at(2, EventKind::Error)),
            roll => {
                let self_reported = roll == 2;
                let mut response = at(
                    2,
                    if self_reported {
                        EventKind::SelfReportedResponse
                    } else {
                        EventKind::Response
                    },
                );
                if request.action == "bank/pay" && dice.roll(2) == 0 {
                    let balance = Value::Long(i64::try_from(dice.roll(100)).unwrap());
                    response.output = Some(Value::Record([("balance".to_owned(), balance)].into()));
                }
                both.step(response);
            }
        }
    }
}

mod decided;
mod generated;

#[test]
fn random_histories_are_judged_as_dogwood_judges_them() {
    let mut determined = BTreeMap::new();
    for seed in 1..=12 {
        play(
            0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed),
            250,
            &mut determined,
        );
    }
    println!(
        "{} decisions, by determining rule: {determined:?}",
        12 * 250
    );
    let decided: BTreeSet<&str> = determined.keys().map(String::as_str).collect();
    let expected = [
        "by-gate",
        "cap",
        "correlated",
        "distinct",
        "doc",
        "errs",
        "formerly",
        "login",
        "nested",
        "not-previous",
        "output",
        "owner",
        "plain",
        "previous",
        "reported",
        "since",
        "since-positive",
        "sum",
    ];
    assert_eq!(
        decided,
        BTreeSet::from(expected),
        "every rule must have had a say, or it was not tested"
    );
}
