//! Ten temporal rules for one action, a hundred thousand agents with history: what a request, an outcome and an agent cost.
//!
//! `cargo bench -p policy-engine --bench temporal [AGENTS]` prints medians. Memory is the growth of the resident set.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::indexing_slicing,
    reason = "a program that measures and prints"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use policy_engine::{
    Agent, Assurance, Bundle, Compiled, Evaluated, Issuer, Outcome, Partition, Recorder, Request,
    Resource, Session, Starts, StringSets, TEMPLATE, Verdict, step,
};

const START_US: u64 = 1_767_225_600_000_000;
const LEAVES: usize = 10;

const ACTION: &str = r#"
  action "pay" in [CallTool] appliesTo { principal: [Agent], resource: [Resource], context: {
    input: { amount: Long, to: String }, system: SystemContext, session: SessionContext, request: RequestContext } };
}
"#;

fn rules() -> String {
    let pay = "Countersign::Action::\"pay\"";
    let conditions = [
        format!("formerly within 1h {pay}::error{{}}"),
        format!("formerly within 2h {pay}::response{{}}"),
        format!("formerly within 3h {pay}::response{{ input.to: context.input.to }}"),
        format!("count_within(1h, {pay}::allowed{{}}) > 1000"),
        format!("count_within(1h, {pay}::request{{}}) > 2000"),
        format!(
            "bind(spent, sum_within(a, 1d, {pay}::allowed{{ input.amount: a }}), spent + context.input.amount > 1000000)"
        ),
        format!("count_distinct_within(who, 1h, {pay}::allowed{{ input.to: who }}) > 50"),
        format!("!{pay}::error{{}} since within 1h {pay}::response{{}}"),
        format!("previous within 1h {pay}::denied{{}}"),
        format!("formerly within 1h {pay}::denied{{}}"),
    ];
    let rules = conditions.iter().enumerate().map(|(number, condition)| {
        // Every condition is read, none decides, so that all requests are allowed.
        format!(
            "@id(\"r{number}\") forbid (principal, action == {pay}, resource)
               when temporal {{ {condition} }} when {{ context.input.amount < 0 }};\n"
        )
    });
    let permit = format!("@id(\"permit\") permit (principal, action == {pay}, resource);\n");
    rules.chain([permit]).collect()
}

fn compiled() -> Compiled {
    let schema = format!("{}{ACTION}", TEMPLATE.trim_end().strip_suffix('}').unwrap());
    let header = "name = \"bench\"\nhistory = \"agent\"\nschema = \"schema.cedarschema\"\n";
    let files = BTreeMap::from([
        ("bundle.toml".to_owned(), header.as_bytes().to_vec()),
        ("schema.cedarschema".to_owned(), schema.into_bytes()),
        ("rules/main.dw".to_owned(), rules().into_bytes()),
    ]);
    Compiled::compile(&Bundle::from_files(files).expect("a bundle")).expect("sound rules")
}

fn request(agent: usize, nth: u64, time_us: u64) -> Request {
    Request {
        time_us,
        request_id: format!("{time_us:032x}"),
        agent: Agent {
            id: format!("agent-{agent}"),
            owner: "alice".to_owned(),
            groups: BTreeSet::from(["billing".to_owned()]),
            attributes: BTreeMap::new(),
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
        action: "pay".to_owned(),
        resource: Resource {
            id: "pay".to_owned(),
            kind: None,
            parents: BTreeSet::new(),
            attributes: BTreeMap::new(),
        },
        input: format!("{{\"amount\": 5, \"to\": \"payee-{}\"}}", nth % 20).into_bytes(),
        claims: StringSets::new(),
        approval: None,
    }
}

struct World {
    compiled: Compiled,
    starts: Starts,
}

impl World {
    fn decide(&self, past: &Partition, request: &Request) -> Evaluated {
        self.compiled.decide(&self.starts, past, request).unwrap()
    }

    fn step(&self, past: &mut Partition, evaluated: &Evaluated) {
        step(past, &[&self.compiled], &evaluated.events).unwrap();
    }

    fn succeed(&self, past: &mut Partition, request: &Request, time_us: u64) {
        let event = self.compiled.outcome_event(&Outcome {
            time_us,
            succeeded: true,
            recorder: &Recorder::Gateway("gate".to_owned()),
            request_id: &request.request_id,
            session_id: &request.session.id,
            agent: &request.agent.id,
            action: &request.action,
            resource: &request.resource.id,
            input: &request.input,
            output: None,
        });
        step(past, &[&self.compiled], &[event.unwrap()]).unwrap();
    }

    /// The medians of deciding, stepping and recording, in nanoseconds.
    fn medians(&self, pasts: &mut [Partition], mut time_us: u64, times: usize) -> [u128; 3] {
        let mut taken: [Vec<u128>; 3] = Default::default();
        for nth in 0..times {
            // Far apart, so that caches do not flatter.
            let agent = nth * 7_919 % pasts.len();
            time_us += 2;
            let request = request(agent, nth as u64, time_us);
            let past = &mut pasts[agent];
            let begun = Instant::now();
            let evaluated = self.decide(past, &request);
            taken[0].push(begun.elapsed().as_nanos());
            assert_eq!(evaluated.decision.verdict, Verdict::Allow);
            let begun = Instant::now();
            self.step(past, &evaluated);
            taken[1].push(begun.elapsed().as_nanos());
            let begun = Instant::now();
            self.succeed(past, &request, time_us + 1);
            taken[2].push(begun.elapsed().as_nanos());
        }
        taken.map(|mut taken| {
            taken.sort_unstable();
            taken[taken.len() / 2]
        })
    }
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0_usize) * 4_096
}

fn main() {
    let agents = std::env::args().skip(1).find_map(|arg| arg.parse().ok());
    let agents: usize = agents.unwrap_or(100_000);
    let compiled = compiled();
    let rules = compiled.temporal_rules().iter();
    let starts = rules.map(|rule| (rule.fingerprint, START_US)).collect();
    let world = World { compiled, starts };

    // As many as a partition has room for beside those that are measured: past its limit it only denies.
    for events in [10, 9_000] {
        let mut past = Partition::default();
        // Three events each time, and the outcomes have places of their own.
        for nth in 0..events / 3 {
            let time_us = START_US + nth * 1_000;
            let request = request(0, nth, time_us);
            let evaluated = world.decide(&past, &request);
            world.step(&mut past, &evaluated);
            world.succeed(&mut past, &request, time_us + 500);
        }
        let [decide, step, outcome] = world.medians(&mut [past], START_US + events * 1_000, 200);
        println!(
            "{events} events in the window: decide {decide} ns, step {step} ns, outcome {outcome} ns"
        );
    }

    let before = resident_bytes();
    let mut pasts: Vec<Partition> = Vec::new();
    pasts.resize_with(agents, Partition::default);
    for (agent, past) in pasts.iter_mut().enumerate() {
        let time_us = START_US + agent as u64 * 10;
        let request = request(agent, agent as u64, time_us);
        let evaluated = world.decide(past, &request);
        world.step(past, &evaluated);
        world.succeed(past, &request, time_us + 5);
    }
    let bytes = resident_bytes().saturating_sub(before);
    println!(
        "{agents} agents with three events: {} bytes per agent and leaf",
        bytes / agents / LEAVES
    );
    let [decide, step, outcome] = world.medians(&mut pasts, START_US + 3_000_000_000, 20_000);
    println!("{agents} agents: decide {decide} ns, step {step} ns, outcome {outcome} ns");
}
