//! Bundles and requests for the tests of this crate.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Agent, Assurance, Bundle, Compiled, Decision, Diagnostic, Evaluated, Event, Issuer, Outcome,
    Partition, Recorder, Request, Resource, RuleId, Session, Starts, StringSets, TEMPLATE, step,
};

/// 2026-01-01T00:00:00Z.
pub(crate) const START_US: u64 = 1_767_225_600_000_000;
pub(crate) const SECOND_US: u64 = 1_000_000;
pub(crate) const HOUR_US: u64 = 3_600 * SECOND_US;

const ACTIONS: &str = r#"
  action "login" in [CallTool] appliesTo { principal: [Agent], resource: [Resource], context: {
    input: { user: String }, system: SystemContext, session: SessionContext, request: RequestContext } };
  action "read" in [CallTool] appliesTo { principal: [Agent], resource: [Resource], context: {
    input: { user: String, doc?: String }, system: SystemContext, session: SessionContext, request: RequestContext } };
  action "bank/pay" in [CallTool] appliesTo { principal: [Agent], resource: [Resource], context: {
    input: { amount: Long, to: String, note?: String }, output?: { balance: Long }, system: SystemContext,
    session: SessionContext, request: RequestContext } };
  action "approve" in [CallTool] appliesTo { principal: [Agent], resource: [Resource], context: {
    input: { ticket: String }, output?: { ok: Bool }, system: SystemContext, session: SessionContext,
    request: RequestContext } };
  action "deploy" appliesTo { principal: [Agent], resource: [Resource], context: {
    input: { ticket: String }, system: SystemContext, session: SessionContext, request: RequestContext } };
}
"#;

/// The schema of the bundles here: the template and five actions.
pub(crate) fn schema() -> String {
    let open = TEMPLATE.trim_end().strip_suffix('}').unwrap();
    format!("{open}{ACTIONS}")
}

pub(crate) fn bundle_of(history: &str, files: &[(&str, &str)]) -> Bundle {
    bundle_in(history, schema(), files)
}

/// A bundle with one file of rules under a schema of its own.
pub(crate) fn bundle_with_schema(history: &str, schema: &str, rules: &str) -> Bundle {
    bundle_in(history, schema.to_owned(), &[("rules/main.dw", rules)])
}

fn bundle_in(history: &str, schema: String, files: &[(&str, &str)]) -> Bundle {
    let header =
        format!("name = \"test\"\nhistory = \"{history}\"\nschema = \"schema.cedarschema\"\n");
    let mut all: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    all.insert("bundle.toml".to_owned(), header.into_bytes());
    all.insert("schema.cedarschema".to_owned(), schema.into_bytes());
    for (path, text) in files {
        all.insert((*path).to_owned(), text.as_bytes().to_vec());
    }
    Bundle::from_files(all).unwrap()
}

/// A bundle with one file of rules.
pub(crate) fn bundle(rules: &str) -> Bundle {
    bundle_of("agent", &[("rules/main.dw", rules)])
}

pub(crate) fn compiled(rules: &str) -> Compiled {
    Compiled::compile(&bundle(rules)).unwrap_or_else(|findings| panic!("{findings:#?}"))
}

pub(crate) fn refused(rules: &str) -> Vec<Diagnostic> {
    Compiled::compile(&bundle(rules)).unwrap_err()
}

/// Starts for all temporal rules of a bundle.
pub(crate) fn starts_at(compiled: &Compiled, us: u64) -> Starts {
    let rules = compiled.temporal_rules().iter();
    rules.map(|rule| (rule.fingerprint, us)).collect()
}

pub(crate) fn request(action: &str, input: &str, time_us: u64) -> Request {
    Request {
        time_us,
        request_id: format!("{time_us:032x}"),
        agent: Agent {
            id: "billing-bot".to_owned(),
            owner: "alice".to_owned(),
            groups: BTreeSet::from(["billing".to_owned()]),
            attributes: BTreeMap::from([("team".to_owned(), "payments".to_owned())]),
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
        action: action.to_owned(),
        resource: Resource {
            id: action.to_owned(),
            kind: None,
            parents: BTreeSet::new(),
            attributes: BTreeMap::new(),
        },
        input: input.as_bytes().to_vec(),
        claims: StringSets::new(),
        approval: None,
    }
}

pub(crate) fn ids(decision: &Decision) -> Vec<&str> {
    decision
        .rules
        .iter()
        .map(|RuleId(id)| id.as_str())
        .collect()
}

/// One bundle deciding on one partition, as the machine does it.
pub(crate) struct World {
    pub(crate) compiled: Compiled,
    pub(crate) starts: Starts,
    pub(crate) partition: Partition,
}

impl World {
    /// A bundle whose history begins at [`START_US`].
    pub(crate) fn new(rules: &str) -> Self {
        let compiled = compiled(rules);
        Self {
            starts: starts_at(&compiled, START_US),
            compiled,
            partition: Partition::default(),
        }
    }

    /// Decides, and steps what is to be stepped.
    pub(crate) fn decide(&mut self, request: &Request) -> Evaluated {
        let evaluated = self.compiled.decide(&self.starts, &self.partition, request);
        let evaluated = evaluated.unwrap();
        self.step(&evaluated.events);
        evaluated
    }

    /// Steps what happened; gives the time at which the past expires.
    pub(crate) fn step(&mut self, events: &[Event]) -> Option<u64> {
        step(&mut self.partition, &[&self.compiled], events).unwrap()
    }

    /// Decides a request that many microseconds after the start.
    pub(crate) fn ask(&mut self, action: &str, input: &str, after_us: u64) -> Decision {
        self.decide(&request(action, input, START_US + after_us))
            .decision
    }

    /// Steps the success of a request that was made and now has an outcome, so many microseconds after the start, as a gateway
    /// records it.
    pub(crate) fn succeed(
        &mut self,
        action: &str,
        input: &str,
        output: Option<&str>,
        after_us: u64,
    ) {
        let gateway = Recorder::Gateway("gate".to_owned());
        self.succeed_by(&gateway, action, input, output, after_us);
    }

    /// The same, as this recorder says.
    pub(crate) fn succeed_by(
        &mut self,
        recorder: &Recorder,
        action: &str,
        input: &str,
        output: Option<&str>,
        after_us: u64,
    ) {
        let request = request(action, input, START_US + after_us);
        let outcome = Outcome {
            time_us: request.time_us,
            succeeded: true,
            recorder,
            request_id: &request.request_id,
            session_id: &request.session.id,
            agent: &request.agent.id,
            action,
            resource: &request.resource.id,
            input: input.as_bytes(),
            output: output.map(str::as_bytes),
        };
        let event = self.compiled.outcome_event(&outcome).unwrap();
        self.step(&[event]);
    }
}
