//! One request, decided.
//!
//! Everything is validated before any rule is asked, because Dogwood and Cedar check nothing at run time: an action that the
//! schema does not know would be allowed by a permit without scope, and an argument of the wrong type would make a forbid err
//! and be skipped.

use std::panic::{AssertUnwindSafe, catch_unwind};

use cedar_policy::{Context, Request as CedarRequest, RestrictedExpression};

use crate::compile::{Compiled, Rule};
use crate::decision::{Approver, Decision, Reason, RuleId, Verdict};
use crate::history::view::{Guarded, View};
use crate::history::{Event, EventKind, Records, Starts};
use crate::json::Json;
use crate::limits::{MAX_INPUT_BYTES, MAX_OUTPUT_BYTES};
use crate::request::{Approval, Request};
use crate::value::Value;

pub mod cedar;
pub(crate) mod context;
mod entities;
pub(crate) mod names;
pub(crate) mod temporal;

use names::uid;

/// A decision, and what later rules may know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluated {
    /// What the rules said.
    pub decision: Decision,
    /// The events to step, in order: the request, then its verdict. Empty unless [`Decision::is_observed`].
    pub events: Vec<Event>,
}

/// What became of an allowed request, as its record has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// The entry time of the record in microseconds since 1970.
    pub time_us: u64,
    /// True if the action succeeded (`response`), false if it failed (`error`).
    pub succeeded: bool,
    /// The id of the request that was allowed, in lowercase hex.
    pub request_id: &'a str,
    /// Its session, in lowercase hex.
    pub session_id: &'a str,
    /// Its agent.
    pub agent: &'a str,
    /// Its action.
    pub action: &'a str,
    /// Its resource.
    pub resource: &'a str,
    /// The arguments that were allowed: the bytes of a JSON object, as sent.
    pub input: &'a [u8],
    /// The bytes of the JSON output, if the record carries it; ignored for a failure.
    pub output: Option<&'a [u8]>,
}

/// What the rules say of a request that fits the schema, by rule.
struct Answer<'a> {
    is_allow: bool,
    determining: Vec<&'a Rule>,
    erring: Vec<&'a Rule>,
}

impl Compiled {
    /// Decides a request. Reads the past and never changes it; the same arguments give the same answer everywhere.
    ///
    /// `starts` says since when each temporal rule has a past; a rule without an entry that
    /// could apply is an evaluation error: a cap over an unknown past would be no cap.
    ///
    /// # Errors
    /// If the past cannot be read: that is no decision.
    pub fn decide<R: Records>(
        &self,
        starts: &Starts,
        past: &R,
        request: &Request,
    ) -> Result<Evaluated, R::Error> {
        let records = Guarded::new(past);
        let evaluated = caught(|| {
            let now_ns = temporal::time_ns(request.time_us).ok_or(Reason::EvaluationError)?;
            let past = if self.temporal_rules().is_empty() {
                View::empty(&records)
            } else {
                View::load(&records, now_ns).map_err(|_| Reason::EvaluationError)?
            };
            self.decide_observed(starts, &past, request)
        });
        records.into_error().map_or(Ok(evaluated), Err)
    }

    /// The event that an outcome adds to the history, or none if its arguments or output do not fit the schema; then
    /// nothing is stepped.
    pub fn outcome_event(&self, outcome: &Outcome<'_>) -> Option<Event> {
        let schema = self.shapes().get(outcome.action)?;
        let json = Json::parse(outcome.input, MAX_INPUT_BYTES).ok()?;
        let input = schema.input.map(&json).ok()?;
        let output = match (outcome.output, &schema.output) {
            (Some(bytes), Some(shape)) if outcome.succeeded => {
                let json = Json::parse(bytes, MAX_OUTPUT_BYTES).ok()?;
                Some(shape.map(&json).ok()?)
            }
            _ => None,
        };
        Some(Event {
            time_ns: temporal::time_ns(outcome.time_us)?,
            kind: if outcome.succeeded {
                EventKind::Response
            } else {
                EventKind::Error
            },
            request_id: outcome.request_id.to_owned(),
            session_id: outcome.session_id.to_owned(),
            agent: outcome.agent.to_owned(),
            action: outcome.action.to_owned(),
            resource: outcome.resource.to_owned(),
            input,
            output,
        })
    }

    fn decide_observed(
        &self,
        starts: &Starts,
        past: &View<'_>,
        request: &Request,
    ) -> Result<Evaluated, Reason> {
        let input = self.typed_input(request)?;
        let asked =
            temporal::event(request, EventKind::Request, input).ok_or(Reason::EvaluationError)?;
        let answer = self.answer(starts, past, request, &asked)?;
        let decision = match self.escalation(starts, past, request, &asked, &answer) {
            Some(rule) => escalated(rule),
            None => decided(&answer),
        };
        if !decision.is_observed() {
            return Ok(Evaluated {
                decision,
                events: Vec::new(),
            });
        }
        let kind = match decision.verdict {
            Verdict::Allow => EventKind::Allowed,
            Verdict::Deny | Verdict::Escalate => EventKind::Denied,
        };
        let verdict =
            temporal::event(request, kind, asked.input.clone()).ok_or(Reason::EvaluationError)?;
        Ok(Evaluated {
            decision,
            events: vec![asked, verdict],
        })
    }

    fn typed_input(&self, request: &Request) -> Result<Value, Reason> {
        let schema = self
            .shapes()
            .get(&request.action)
            .ok_or(Reason::UnknownAction)?;
        let json =
            Json::parse(&request.input, MAX_INPUT_BYTES).map_err(|_| Reason::SchemaMismatch)?;
        schema.input.map(&json).map_err(|_| Reason::SchemaMismatch)
    }

    /// Asks the rules; `asked` is the request as an event.
    fn answer(
        &self,
        starts: &Starts,
        past: &View<'_>,
        request: &Request,
        asked: &Event,
    ) -> Result<Answer<'_>, Reason> {
        let names = self.names();
        let principal = uid(&names.agent, &request.agent.id);
        let action = uid(&names.action, &request.action);
        let resource = uid(&names.resource, &request.resource.id);
        let context =
            context::for_cedar(names, request, &asked.input).map_err(|_| Reason::SchemaMismatch)?;
        let context = Context::from_pairs(context).map_err(|_| Reason::SchemaMismatch)?;
        // Against the bundle's own schema, which does not demand the booleans of temporal conditions.
        CedarRequest::new(
            principal.clone(),
            action.clone(),
            resource.clone(),
            context.clone(),
            Some(self.base()),
        )
        .map_err(|_| Reason::SchemaMismatch)?;
        let is_full = past.is_full_at(asked.time_ns);
        if is_full.map_err(|_| Reason::EvaluationError)? {
            return Err(Reason::HistoryLimit);
        }
        let entities =
            entities::build(names, self.entities(), request).map_err(|_| Reason::SchemaMismatch)?;
        let rules = self.rules_with_a_past(&request.action);
        let past = temporal::evaluate(self, &rules, starts, past, &entities, asked, request)
            .map_err(|_| Reason::EvaluationError)?;
        let past = past
            .into_iter()
            .map(|(name, holds)| (name, RestrictedExpression::new_bool(holds)));
        let context = context.merge(past).map_err(|_| Reason::EvaluationError)?;
        let asked = CedarRequest::new(principal, action, resource, context, None)
            .map_err(|_| Reason::EvaluationError)?;
        let answer = cedar::evaluate(self.policies(), &entities, &asked);
        Ok(Answer {
            is_allow: answer.is_allow,
            determining: self.rules_of(&answer.determining),
            erring: self.rules_of(&answer.erring),
        })
    }

    /// The rules that read the past and could apply to the action.
    fn rules_with_a_past(&self, action: &str) -> Vec<&Rule> {
        let concerns = |rule: &&Rule| {
            let leaves = rule.past.iter().flat_map(|past| &past.leaves);
            let mut actions = leaves.flat_map(|leaf| &leaf.field.target_actions);
            actions.any(|named| named.id == action)
        };
        self.rules().values().filter(concerns).collect()
    }

    fn rules_of(&self, policies: &[String]) -> Vec<&Rule> {
        policies
            .iter()
            .filter_map(|policy| self.rules().get(policy))
            .collect()
    }

    /// The first permit, by id, whose approvals would turn the denial into an allow.
    fn escalation(
        &self,
        starts: &Starts,
        past: &View<'_>,
        request: &Request,
        asked: &Event,
        answer: &Answer<'_>,
    ) -> Option<&Rule> {
        if decided(answer).reason != Reason::NoMatchingPermit {
            return None;
        }
        let mut candidates: Vec<&Rule> = self
            .rules()
            .values()
            .filter(|rule| !rule.approvers.is_empty())
            .collect();
        candidates.sort_unstable_by(|left, right| left.id.cmp(&right.id));
        candidates.into_iter().find(|rule| {
            let approved = Request {
                approval: Some(approvals(&rule.approvers)),
                ..request.clone()
            };
            self.answer(starts, past, &approved, asked)
                .is_ok_and(|answer| {
                    let permits = answer.determining.iter().any(|permit| permit.id == rule.id);
                    permits && decided(&answer).verdict == Verdict::Allow
                })
        })
    }
}

/// What the request would carry if everybody asked had approved.
fn approvals(approvers: &[Approver]) -> Approval {
    Approval {
        groups: approvers
            .iter()
            .map(|approver| approver.group.clone())
            .collect(),
        count: approvers.iter().map(|approver| approver.count).sum(),
    }
}

/// The decision that an answer amounts to. A forbid that erred might have forbidden, so it denies; Cedar would skip it.
fn decided(answer: &Answer<'_>) -> Decision {
    let erring_forbids: Vec<&Rule> = answer
        .erring
        .iter()
        .filter(|rule| !rule.is_permit)
        .copied()
        .collect();
    if !erring_forbids.is_empty() {
        return decision(Verdict::Deny, Reason::EvaluationError, &erring_forbids);
    }
    let rules = &answer.determining;
    match (answer.is_allow, rules.is_empty()) {
        (true, _) => decision(Verdict::Allow, Reason::AllowedByPolicy, rules),
        (false, true) => decision(Verdict::Deny, Reason::NoMatchingPermit, rules),
        (false, false) => decision(Verdict::Deny, Reason::ForbiddenByPolicy, rules),
    }
}

fn escalated(permit: &Rule) -> Decision {
    Decision {
        permit_ttl_s: None,
        approvers: permit.approvers.clone(),
        ..decision(Verdict::Escalate, Reason::ApprovalRequired, &[permit])
    }
}

fn decision(verdict: Verdict, reason: Reason, rules: &[&Rule]) -> Decision {
    let mut conditions: Vec<_> = rules
        .iter()
        .flat_map(|rule| rule.conditions.iter().cloned())
        .collect();
    conditions.sort_unstable();
    conditions.dedup();
    let mut ids: Vec<RuleId> = rules.iter().map(|rule| rule.id.clone()).collect();
    ids.sort_unstable();
    Decision {
        verdict,
        reason,
        rules: ids,
        conditions,
        permit_ttl_s: rules.iter().filter_map(|rule| rule.permit_ttl_s).min(),
        approvers: Vec::new(),
    }
}

/// A panic denies. Deciding changes nothing on the way, so it leaves nothing half done.
fn caught(decide: impl FnOnce() -> Result<Evaluated, Reason>) -> Evaluated {
    match catch_unwind(AssertUnwindSafe(decide)) {
        Ok(Ok(evaluated)) => evaluated,
        Ok(Err(reason)) => without_rules(reason),
        Err(_) => without_rules(Reason::EvaluationError),
    }
}

fn without_rules(reason: Reason) -> Evaluated {
    Evaluated {
        decision: decision(Verdict::Deny, reason, &[]),
        events: Vec::new(),
    }
}

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
