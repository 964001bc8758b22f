//! `tests/*.json`: what a bundle's author expects of its rules, carried in the bundle so that everybody can run it again.
//!
//! ```json
//! {"cases": [{
//!   "name": "the third refund within an hour needs approval",
//!   "agent": {"id": "billing-bot", "owner": "alice", "groups": ["billing"], "attributes": {"team": "payments"}},
//!   "session": {"purpose": "refunds", "issuer": {"operator": "alice"}, "grants": {"accounts": ["A1"]}},
//!   "steps": [
//!     {"at_s": 0, "request": {"action": "bank/refund", "input": {"amount": 10.50}},
//!      "expect": {"verdict": "ALLOW", "reason": "ALLOWED_BY_POLICY", "rules": ["small-refunds"]}},
//!     {"at_s": 1, "response": {"ok": true}},
//!     {"at_s": 60, "request": {"action": "bank/refund", "input": {"amount": 20}}, "expect": {"verdict": "ESCALATE"}},
//!     {"at_s": 61, "error": true}
//!   ]
//! }]}
//! ```
//!
//! JSON and not TOML, because arguments are JSON and their numbers must arrive as they were written. A step may have its own
//! `agent` and `session`; `response` (the output, or `null`) and `error` are about the nearest request before them, or the
//! one whose step number (from 0) `of` gives. A gateway records them, named by `recorder`, unless `"self_reported": true` says that
//! the agent did. Everything but names, `action`, `input` and `verdict` has a default.

use std::collections::BTreeSet;

use super::SourceFile;
use crate::decision::{Reason, RuleId, Verdict};
use crate::diagnostic::Diagnostic;
use crate::json::Json;
use crate::limits::{MAX_BUNDLE_BYTES, MAX_CASES, MAX_STEPS};
use crate::request::{Agent, Recorder, Request, Session};

mod fields;
mod request;

use fields::{Fields, Wrong};
use request::{default_session, read_agent, read_request, read_session};

/// 2026-01-01T00:00:00Z, the time of `at_s` 0 unless a case has its own `start_s`, in seconds since 1970.
const START_S: u64 = 1_767_225_600;
/// The last second a case may speak of: 9999-12-31T23:59:59Z.
const LAST_S: u64 = 253_402_300_799;

/// One test case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The file that holds it.
    pub file: String,
    /// What it shows.
    pub name: String,
    /// What happens, in the order of time.
    pub steps: Vec<Step>,
}

/// One thing that happens in a test case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// When, in microseconds since 1970.
    pub time_us: u64,
    /// What.
    pub kind: StepKind,
}

/// What happens in a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepKind {
    /// A request is decided; its decision becomes part of the case's history.
    Request {
        /// The request.
        request: Box<Request>,
        /// What its decision should be; always there in a bundle.
        expect: Option<Expectation>,
    },
    /// An allowed action was executed.
    Response {
        /// The step that requested it.
        of: usize,
        /// Its output: the bytes of a JSON object, if it had one.
        output: Option<Vec<u8>>,
        /// Who says so.
        recorder: Recorder,
    },
    /// An allowed action failed.
    Error {
        /// The step that requested it.
        of: usize,
        /// Who says so.
        recorder: Recorder,
    },
}

/// What a decision should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// The verdict.
    pub verdict: Verdict,
    /// The reason, unless any will do.
    pub reason: Option<Reason>,
    /// Exactly these determining rules, unless any will do.
    pub rules: Option<BTreeSet<RuleId>>,
}

/// Reads the cases of one file of a bundle, after those of the files before it.
pub(super) fn read(file: &SourceFile, cases: &mut Vec<Case>) -> Result<(), Diagnostic> {
    read_file(file, true, cases)
}

impl Case {
    /// Reads cases that are in no bundle, and need not expect anything of their decisions.
    ///
    /// # Errors
    /// What in the file is no case, and where.
    pub fn read_all(file: &SourceFile) -> Result<Vec<Self>, Diagnostic> {
        let mut cases = Vec::new();
        read_file(file, false, &mut cases)?;
        Ok(cases)
    }
}

fn read_file(
    file: &SourceFile,
    must_expect: bool,
    cases: &mut Vec<Case>,
) -> Result<(), Diagnostic> {
    let json = Json::parse(file.text.as_bytes(), MAX_BUNDLE_BYTES).map_err(|error| {
        Diagnostic::error(&file.path, error.to_string(), "write strict JSON").at_line(error.line())
    })?;
    read_cases(&file.path, &json, must_expect, cases).map_err(|Wrong { at, message }| {
        let message = format!("at `{at}`: {message}");
        Diagnostic::error(&file.path, message, "see the format of test cases")
    })
}

fn read_cases(
    file: &str,
    json: &Json,
    must_expect: bool,
    cases: &mut Vec<Case>,
) -> Result<(), Wrong> {
    let mut fields = Fields::of("", json)?;
    let written = fields.required("cases", Fields::array)?;
    fields.end()?;
    let mut steps: usize = cases.iter().map(|case| case.steps.len()).sum();
    for (index, json) in written.iter().enumerate() {
        let at = format!("/cases/{index}");
        if cases.len() == MAX_CASES {
            let message = format!("the bundle has more than {MAX_CASES} cases");
            return Err(Wrong::new(&at, message));
        }
        let case = read_case(file, &at, json, must_expect)?;
        steps += case.steps.len();
        if steps > MAX_STEPS {
            let message = format!("the bundle's cases have more than {MAX_STEPS} steps");
            return Err(Wrong::new(&at, message));
        }
        cases.push(case);
    }
    Ok(())
}

fn read_case(file: &str, at: &str, json: &Json, must_expect: bool) -> Result<Case, Wrong> {
    let mut fields = Fields::of(at, json)?;
    let name = fields.required("name", Fields::string)?;
    let start_s = fields
        .optional("start_s", Fields::seconds)?
        .unwrap_or(START_S);
    let defaults = Defaults {
        must_expect,
        start_s,
        agent: read_agent(&mut fields)?,
        session: read_session(&mut fields, start_s)?,
    };
    let steps = fields.required("steps", Fields::array)?;
    fields.end()?;
    if steps.len() > MAX_STEPS {
        return Err(Wrong::new(
            at,
            format!("it has more than {MAX_STEPS} steps"),
        ));
    }
    let mut case = Case {
        file: file.to_owned(),
        name,
        steps: Vec::new(),
    };
    for (index, step) in steps.iter().enumerate() {
        let at = format!("{at}/steps/{index}");
        let step = read_step(&at, step, &defaults, &case.steps)?;
        if case
            .steps
            .last()
            .is_some_and(|last| last.time_us > step.time_us)
        {
            return Err(Wrong::new(&at, "it is earlier than the step before it"));
        }
        case.steps.push(step);
    }
    Ok(case)
}

struct Defaults {
    must_expect: bool,
    start_s: u64,
    agent: Option<Agent>,
    session: Option<Session>,
}

fn read_step(at: &str, json: &Json, defaults: &Defaults, before: &[Step]) -> Result<Step, Wrong> {
    let mut fields = Fields::of(at, json)?;
    let at_s = fields.required("at_s", Fields::seconds)?;
    let time_us = (defaults.start_s.saturating_add(at_s).min(LAST_S)).saturating_mul(1_000_000);
    let kind = if let Some(request) = fields.take("request") {
        let agent = read_agent(&mut fields)?.or_else(|| defaults.agent.clone());
        let session =
            read_session(&mut fields, defaults.start_s)?.or_else(|| defaults.session.clone());
        let expect = if defaults.must_expect {
            Some(fields.required("expect", Ok)?)
        } else {
            fields.take("expect")
        };
        let expect = expect.map(|json| read_expectation(&format!("{at}/expect"), json));
        let mut request = read_request(&format!("{at}/request"), request, time_us)?;
        request.request_id = format!("{:032x}", before.len());
        request.agent = agent.unwrap_or(request.agent);
        request.session = session.unwrap_or_else(|| default_session(defaults.start_s));
        request.session.seq = next_seq(&request.session.id, before);
        StepKind::Request {
            request: Box::new(request),
            expect: expect.transpose()?,
        }
    } else {
        read_outcome(at, &mut fields, before)?
    };
    fields.end()?;
    Ok(Step { time_us, kind })
}

fn read_outcome(at: &str, fields: &mut Fields<'_>, before: &[Step]) -> Result<StepKind, Wrong> {
    let is_request = |step: &Step| matches!(step.kind, StepKind::Request { .. });
    let of = match fields.optional("of", Fields::index)? {
        Some(index) => Some(index).filter(|index| before.get(*index).is_some_and(is_request)),
        None => before.iter().rposition(is_request),
    };
    let of = of.ok_or_else(|| Wrong::new(at, "it is not about a request before it"))?;
    let recorder = read_recorder(at, fields)?;
    if let Some(response) = fields.take("response") {
        let output = match response {
            Json::Null => None,
            Json::Object(_) => Some(response.to_string().into_bytes()),
            Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) => {
                return Err(Wrong::new(at, "`response` is neither an object nor `null`"));
            }
        };
        return Ok(StepKind::Response {
            of,
            output,
            recorder,
        });
    }
    match fields.take("error") {
        Some(Json::Bool(true)) => Ok(StepKind::Error { of, recorder }),
        _ => Err(Wrong::new(
            at,
            "it has no `request`, no `response` and no `error: true`",
        )),
    }
}

fn read_recorder(at: &str, fields: &mut Fields<'_>) -> Result<Recorder, Wrong> {
    let gateway = fields.optional("recorder", Fields::string)?;
    let self_reported = fields.optional("self_reported", Fields::boolean)?;
    match (gateway, self_reported.unwrap_or(false)) {
        (Some(_), true) => Err(Wrong::new(
            at,
            "`recorder` names a gateway, and what is `self_reported` has none",
        )),
        (Some(gateway), false) if gateway.is_empty() => Err(Wrong::new(at, "`recorder` is empty")),
        (None, true) => Ok(Recorder::Agent),
        (gateway, false) => Ok(Recorder::Gateway(
            gateway.unwrap_or_else(|| "gateway".to_owned()),
        )),
    }
}

/// The number of a session's next decision, from 1.
fn next_seq(session: &str, before: &[Step]) -> u64 {
    let is_of_session = |step: &&Step| matches!(&step.kind, StepKind::Request { request, .. } if request.session.id == session);
    u64::try_from(before.iter().filter(is_of_session).count()).map_or(u64::MAX, |count| count + 1)
}

fn read_expectation(at: &str, json: &Json) -> Result<Expectation, Wrong> {
    let mut fields = Fields::of(at, json)?;
    let verdict = fields.required("verdict", Fields::string)?;
    let reason = fields.optional("reason", Fields::string)?;
    let rules = fields.optional("rules", Fields::strings)?;
    fields.end()?;
    let verdict = match verdict.as_str() {
        "ALLOW" => Verdict::Allow,
        "DENY" => Verdict::Deny,
        "ESCALATE" => Verdict::Escalate,
        _ => {
            return Err(Wrong::new(
                at,
                "`verdict` is none of ALLOW, DENY and ESCALATE",
            ));
        }
    };
    let reason = match reason {
        Some(name) => {
            Some(reason_named(&name).ok_or_else(|| Wrong::new(at, "no `reason` has that name"))?)
        }
        None => None,
    };
    let rules = rules.map(|rules| rules.into_iter().map(RuleId).collect());
    Ok(Expectation {
        verdict,
        reason,
        rules,
    })
}

fn reason_named(name: &str) -> Option<Reason> {
    Some(match name {
        "ALLOWED_BY_POLICY" => Reason::AllowedByPolicy,
        "NO_MATCHING_PERMIT" => Reason::NoMatchingPermit,
        "FORBIDDEN_BY_POLICY" => Reason::ForbiddenByPolicy,
        "APPROVAL_REQUIRED" => Reason::ApprovalRequired,
        "SCHEMA_MISMATCH" => Reason::SchemaMismatch,
        "UNKNOWN_ACTION" => Reason::UnknownAction,
        "HISTORY_LIMIT" => Reason::HistoryLimit,
        "EVALUATION_ERROR" => Reason::EvaluationError,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
