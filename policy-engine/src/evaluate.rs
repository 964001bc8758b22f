//! One request, decided.
//!
//! Everything is validated before any rule is asked, because Dogwood and Cedar check nothing at run time: an action that the
//! schema does not know would be allowed by a permit without scope, and an argument of the wrong type would make a forbid err
//! and be skipped.

use std::panic::{AssertUnwindSafe, catch_unwind};

use cedar_policy_core::ast::{EntityUIDEntry, Request as CedarRequest};
use cedar_policy_core::entities::Entities;

use crate::compile::{Compiled, Rule};
use crate::decision::{Decision, Reason, RuleId, Verdict};
use crate::history::view::{Guarded, View};
use crate::history::{Event, EventKind, Records, Starts};
use crate::json::Json;
use crate::limits::{MAX_INPUT_BYTES, MAX_OUTPUT_BYTES};
use crate::request::{Approval, Recorder, Request};
use crate::value::Value;

pub mod cedar;
pub(crate) mod context;
pub(crate) mod entities;
pub(crate) mod explain;
pub(crate) mod names;
pub(crate) mod slices;
pub(crate) mod temporal;

use names::uid;
use slices::{Needs, Place, Placed, Satisfied};

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
    /// Who says so.
    pub recorder: &'a Recorder,
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

/// A request that fits the schema, and what its rules need of it.
struct Case<'a> {
    starts: &'a Starts,
    past: &'a View<'a>,
    request: &'a Request,
    /// The request as an event.
    asked: Event,
    principal: Placed,
    action: Placed,
    resource: Placed,
    /// The rules whose scope matches.
    slice: Vec<Place>,
    entities: Entities,
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
            kind: match (outcome.recorder, outcome.succeeded) {
                (Recorder::Gateway(_), true) => EventKind::Response,
                (Recorder::Gateway(_), false) => EventKind::Error,
                (Recorder::Agent, true) => EventKind::SelfReportedResponse,
                (Recorder::Agent, false) => EventKind::SelfReportedError,
            },
            request_id: outcome.request_id.to_owned(),
            session_id: outcome.session_id.to_owned(),
            agent: outcome.agent.to_owned(),
            action: outcome.action.to_owned(),
            resource: outcome.resource.to_owned(),
            input,
            output,
            recorder: match outcome.recorder {
                Recorder::Gateway(id) => Some(id.clone()),
                Recorder::Agent => None,
            },
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
        let case = self.case(starts, past, request, asked)?;
        let satisfied = self.satisfied(&case, request.approval.as_ref(), &case.slice)?;
        let decision = match self.escalation(&case, &satisfied) {
            Some(rule) => escalated(rule),
            None => self.decided(&satisfied),
        };
        let asked = case.asked;
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

    fn case<'a>(
        &self,
        starts: &'a Starts,
        past: &'a View<'a>,
        request: &'a Request,
        asked: Event,
    ) -> Result<Case<'a>, Reason> {
        let (names, facts) = (self.names(), self.facts());
        let is_full = past.is_full_at(asked.time_ns);
        if is_full.map_err(|_| Reason::EvaluationError)? {
            return Err(Reason::HistoryLimit);
        }
        let principal = facts.agent(names, request);
        let action = facts.placed(uid(&names.action, &request.action));
        let resource = facts
            .resource(names, request)
            .map_err(|_| Reason::SchemaMismatch)?;
        let slice = self.slices().slice(&principal, &action, &resource);
        let named = self.slices().named(&slice);
        let entities = facts
            .reached(names, request, (&principal, &action, &resource), named)
            .map_err(|_| Reason::SchemaMismatch)?;
        Ok(Case {
            starts,
            past,
            request,
            asked,
            principal,
            action,
            resource,
            slice,
            entities,
        })
    }

    /// Asks the rules at those places, as if the request came with that approval.
    fn satisfied(
        &self,
        case: &Case<'_>,
        approval: Option<&Approval>,
        places: &[Place],
    ) -> Result<Satisfied, Reason> {
        let approved;
        let request = if approval == case.request.approval.as_ref() {
            case.request
        } else {
            approved = Request {
                approval: approval.cloned(),
                ..case.request.clone()
            };
            &approved
        };
        let needs = self.slices().needs(places);
        let asked = self.cedar_request(case, request, places, needs)?;
        let mut satisfied = self.slices().evaluate(places, asked, &case.entities);
        // What `@approvers` demands is a condition of its permit, whatever the rule's text says besides.
        satisfied.permits.retain(|place| {
            let rule = self.rules().get(*place);
            rule.is_some_and(|rule| rule.is_approved(approval))
        });
        Ok(satisfied)
    }

    /// The request as Cedar evaluates it: as much of the context as is needed, and what the rules at those places are told of
    /// the past.
    fn cedar_request(
        &self,
        case: &Case<'_>,
        request: &Request,
        places: &[Place],
        needs: Needs,
    ) -> Result<CedarRequest, Reason> {
        let rules: Vec<&Rule> = self.rules_at(places).collect();
        let past = temporal::evaluate(
            self,
            &rules,
            case.starts,
            case.past,
            &case.entities,
            &case.asked,
            request,
        );
        let context = |past: &[(String, bool)]| {
            context::for_cedar(self.names(), request, &case.asked.input, needs, past)
                .map_err(|_| Reason::SchemaMismatch)
        };
        // What does not fit the schema is told before what the past could not say.
        let context = match past {
            Ok(past) => context(&past)?,
            Err(_) => return Err(context(&[]).err().unwrap_or(Reason::EvaluationError)),
        };
        let known = |placed: &Placed| EntityUIDEntry::known(placed.uid.clone(), None);
        Ok(CedarRequest::new_unchecked(
            known(&case.principal),
            known(&case.action),
            known(&case.resource),
            Some(context),
        ))
    }

    /// The first permit of the slice, by id, whose approvals would turn the denial into an allow.
    ///
    /// Each is asked by itself first, so that a slice full of them costs little more than one of others.
    fn escalation(&self, case: &Case<'_>, satisfied: &Satisfied) -> Option<&Rule> {
        if self.decided(satisfied).reason != Reason::NoMatchingPermit {
            return None;
        }
        let mut candidates: Vec<(&Rule, Place)> = self
            .rules_at(&case.slice)
            .zip(case.slice.iter().copied())
            .filter(|(rule, _)| !rule.approvers.is_empty())
            .collect();
        candidates.sort_unstable_by(|(left, _), (right, _)| left.id.cmp(&right.id));
        candidates
            .into_iter()
            .find(|(rule, place)| self.would_allow(case, rule, *place))
            .map(|(rule, _)| rule)
    }

    /// True if the request would be allowed with the approvals that this permit names, and by this permit.
    fn would_allow(&self, case: &Case<'_>, rule: &Rule, place: Place) -> bool {
        let approval = Approval::meeting(&rule.approvers);
        let permits = |places: &[Place]| {
            let satisfied = self.satisfied(case, Some(&approval), places).ok()?;
            let permits = satisfied.permits.contains(&place);
            permits.then(|| self.decided(&satisfied).verdict)
        };
        permits(&[place]).is_some() && permits(&case.slice) == Some(Verdict::Allow)
    }

    /// The decision that an answer amounts to. A forbid that erred might have forbidden, so it denies; Cedar would skip it.
    fn decided(&self, satisfied: &Satisfied) -> Decision {
        let erring = self.rules_at(&satisfied.erring);
        let erring_forbids: Vec<&Rule> = erring.filter(|rule| !rule.is_permit).collect();
        if !erring_forbids.is_empty() {
            return decision(Verdict::Deny, Reason::EvaluationError, &erring_forbids);
        }
        let rules: Vec<&Rule> = self.rules_at(satisfied.determining()).collect();
        match (satisfied.is_allow(), rules.is_empty()) {
            (true, _) => decision(Verdict::Allow, Reason::AllowedByPolicy, &rules),
            (false, true) => decision(Verdict::Deny, Reason::NoMatchingPermit, &rules),
            (false, false) => decision(Verdict::Deny, Reason::ForbiddenByPolicy, &rules),
        }
    }
}

fn escalated(permit: &Rule) -> Decision {
    Decision {
        permit_ttl_s: None,
        single_use: false,
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
        single_use: verdict == Verdict::Allow && rules.iter().any(|rule| rule.single_use),
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

pub(crate) fn without_rules(reason: Reason) -> Evaluated {
    Evaluated {
        decision: decision(Verdict::Deny, reason, &[]),
        events: Vec::new(),
    }
}

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
