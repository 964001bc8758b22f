//! One session under a bundle, stepped as the machine steps it: request, verdict, outcome of what was allowed.
//!
//! The only file of these that calls the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ledger_client::bundle_dir;
use policy_engine::{
    Agent, Assurance, Bundle, Compiled, Issuer, Reason, Recorder, Rehearsal, Request, Resource,
    Session, StringSets, Verdict,
};

/// 2026-01-01T00:00:00Z, when every session is opened, in microseconds since 1970.
const OPENED_US: u64 = 1_767_225_600_000_000;
/// What passes between two events of a session, in microseconds.
const TICK_US: u64 = 1_000_000;
/// Who owns the agents and opens their sessions.
const OWNER: &str = "owner";

/// Why an action did not happen, or that it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It was allowed.
    Allowed,
    /// Its arguments are not those of its tool, or there is no such tool.
    DeniedBySchema,
    /// The session was not opened for it, or the rules do not allow it, or not without approval.
    DeniedByRules,
}

/// The rules of one suite.
#[derive(Debug)]
pub struct Rules(Compiled);

impl Rules {
    /// Compiles the bundle in a folder.
    ///
    /// # Errors
    /// A file cannot be read, or the bundle is not sound.
    pub fn read(folder: &Path) -> Result<Self, String> {
        let files = bundle_dir::read(folder).map_err(|error| error.to_string())?;
        let said = |found: Vec<policy_engine::Diagnostic>| {
            let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
            format!("{}: {}", folder.display(), lines.join("\n"))
        };
        let bundle = Bundle::from_files(files).map_err(said)?;
        Ok(Self(Compiled::compile(&bundle).map_err(said)?))
    }

    /// A session of its own, with nothing in its past. Without a scope everything is in it.
    #[must_use]
    pub fn session<'a>(
        &'a self,
        id: &str,
        purpose: &str,
        scope: Option<&'a BTreeSet<String>>,
        grants: StringSets,
    ) -> Run<'a> {
        Run {
            rehearsal: Rehearsal::new(&self.0),
            scope,
            session: Session {
                id: id.to_owned(),
                purpose: Some(purpose.to_owned()),
                issuer: Issuer::Operator(OWNER.to_owned()),
                delegated: false,
                seq: 0,
                opened_at_us: OPENED_US,
                subject: None,
                grants,
            },
            now_us: OPENED_US,
        }
    }
}

/// A session, as far as it has come.
#[derive(Debug)]
pub struct Run<'a> {
    rehearsal: Rehearsal<'a>,
    scope: Option<&'a BTreeSet<String>>,
    session: Session,
    now_us: u64,
}

impl Run<'_> {
    /// Asks for the next action, and executes it if it is allowed; gives the answer and the name of its reason.
    pub fn ask(
        &mut self,
        agent: &str,
        action: &str,
        input: &str,
        succeeded: bool,
    ) -> (Answer, &'static str, Vec<String>) {
        self.now_us += TICK_US;
        self.session.seq += 1;
        if self.scope.is_some_and(|scope| !scope.contains(action)) {
            return (Answer::DeniedByRules, "OUT_OF_SCOPE", Vec::new());
        }
        let request = self.request(agent, action, input);
        let request_id = request.request_id.clone();
        let decision = self.rehearsal.ask(request);
        let rules = decision.rules.iter().map(|rule| rule.0.clone()).collect();
        let answer = match (decision.verdict, decision.reason) {
            (Verdict::Allow, _) => Answer::Allowed,
            (_, Reason::SchemaMismatch | Reason::UnknownAction) => Answer::DeniedBySchema,
            (Verdict::Deny | Verdict::Escalate, _) => Answer::DeniedByRules,
        };
        if answer == Answer::Allowed {
            self.now_us += TICK_US;
            let agent = Recorder::Agent;
            self.rehearsal
                .outcome(&request_id, self.now_us, succeeded, &agent, None);
        }
        (answer, decision.reason.as_str(), rules)
    }

    fn request(&self, agent: &str, action: &str, input: &str) -> Request {
        Request {
            time_us: self.now_us,
            request_id: format!("{:032x}", self.session.seq),
            agent: Agent {
                id: agent.to_owned(),
                owner: OWNER.to_owned(),
                groups: BTreeSet::new(),
                attributes: BTreeMap::new(),
            },
            session: self.session.clone(),
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
            claims: BTreeMap::new(),
            approval: None,
        }
    }
}
