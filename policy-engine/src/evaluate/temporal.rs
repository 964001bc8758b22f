//! The booleans of temporal conditions.
//!
//! Each rule has a past of its own, which begins when its bundle was published. A condition with a plan is answered from the
//! partition's cells; for the others the logged past is played to Dogwood's engine, which lives for one decision. Nothing of
//! the partition is written.

use std::collections::BTreeMap;

use cedar_policy::Schema;
use cedar_policy_core::entities::Entities;
use dogwood_language::{Event as Played, TemporalBindings, TemporalEngine, TemporalField};
use dogwood_local_engine::{LocalTemporalEngine, TickRate};

use crate::compile::{Compiled, Rule};
use crate::evaluate::Case;
use crate::evaluate::context::{self, value_for_dogwood};
use crate::evaluate::entities::attributes_for_dogwood;
use crate::evaluate::explain::Measured;
use crate::evaluate::names::{ACTION_PATH, AGENT, RESOURCE, uid};
use crate::history::cell::field;
use crate::history::plan::Plan;
use crate::history::view::{Unreadable, View};
use crate::history::{Event, EventKind, Fingerprint, Starts};
use crate::request::Request;
use crate::value::Value;

mod verdict;

use verdict::Asking;

/// Why the conditions have no values.
#[derive(Debug)]
pub(crate) struct Unplayable;

impl From<Unreadable> for Unplayable {
    fn from(_: Unreadable) -> Self {
        Self
    }
}

/// The values of all conditions of these rules, by context attribute, sorted.
pub(super) fn evaluate(
    compiled: &Compiled,
    rules: &[&Rule],
    starts: &Starts,
    past: &View<'_>,
    entities: &Entities,
    asked: &Event,
    request: &Request,
) -> Result<Vec<(String, bool)>, Unplayable> {
    let mut values = Vec::new();
    let mut unplanned: BTreeMap<u64, Vec<TemporalField>> = BTreeMap::new();
    let asking = Asking::new(past, asked, compiled, entities, request);
    for rule_past in rules.iter().filter_map(|rule| rule.past.as_ref()) {
        // Windows are only right when time does not run backwards.
        if past.last().time_ns > asked.time_ns {
            return Err(Unplayable);
        }
        // Nobody says since when: an empty past would let every cap through.
        let start = *starts.get(&rule_past.fingerprint).ok_or(Unplayable)?;
        for leaf in &rule_past.leaves {
            match &leaf.plan {
                Some(plan) => {
                    let holds = asking.holds(plan, since_ns(start))?;
                    values.push((leaf.field.id.clone(), holds));
                }
                None => unplanned.entry(start).or_default().push(leaf.field.clone()),
            }
        }
    }
    if !unplanned.is_empty() {
        let events = past.events()?;
        let asked = decision_event(compiled, entities, asked, request)?;
        for (start, leaves) in unplanned {
            let from_ns = since_ns(start);
            let events = events
                .iter()
                .filter(|event| event.time_ns >= from_ns)
                .map(|event| played(event).build());
            values.extend(play(&leaves, compiled.schema(), events, &asked)?);
        }
    }
    values.sort_unstable();
    Ok(values)
}

/// The figures that a plan of a rule compares, for whoever asks why; none if they cannot be told.
pub(super) fn measured(
    compiled: &Compiled,
    case: &Case<'_>,
    rule: Fingerprint,
    plan: &Plan,
) -> Vec<Measured> {
    let asking = Asking::new(
        case.past,
        &case.asked,
        compiled,
        &case.entities,
        case.request,
    );
    let start = case.starts.get(&rule);
    let measured = start.and_then(|start| asking.measured(plan, since_ns(*start)).ok());
    measured.unwrap_or_default()
}

fn since_ns(start_us: u64) -> i64 {
    i64::try_from(start_us).map_or(i64::MAX, |us| us.saturating_mul(1_000))
}

/// What Dogwood's engine says after that past, once it has been asked.
pub(crate) fn play(
    leaves: &[TemporalField],
    schema: &Schema,
    past: impl Iterator<Item = Played>,
    asked: &Played,
) -> Result<TemporalBindings, Unplayable> {
    let mut engine = LocalTemporalEngine::new().with_tick_rate(TickRate::NANOS);
    // The leaves are already those of this action; finding that out again costs more than evaluating them.
    engine.disable_slicing();
    engine
        .prepare(leaves, schema, &[])
        .map_err(|_| Unplayable)?;
    past.for_each(|event| engine.step_monitors(&event));
    engine.observe(asked);
    engine.evaluate().map_err(|_| Unplayable)
}

/// An event in Dogwood's form.
pub(crate) fn played(event: &Event) -> dogwood_language::EventBuilder {
    let mut builder = Played::builder_for(&ACTION_PATH, &event.action, event.kind.as_str())
        .timestamp(event.time_ns)
        .principal_for(AGENT, &event.agent)
        .resource_for(RESOURCE, &event.resource)
        .logged_field("requestId", text(&event.request_id))
        .logged_field("sessionId", text(&event.session_id))
        .logged_field("input", value_for_dogwood(&event.input));
    if let Some(recorder) = field(event, &["recorder".to_owned()]) {
        builder = builder.logged_field("recorder", recorder);
    }
    if let Some(output) = &event.output {
        builder = builder.logged_field("output", value_for_dogwood(output));
    }
    builder
}

fn text(text: &str) -> dogwood_language::Value {
    dogwood_language::Value::String(text.to_owned())
}

/// The request as Dogwood's conditions see it: an event, and the context and attributes to compare older events with.
pub(crate) fn decision_event(
    compiled: &Compiled,
    entities: &Entities,
    asked: &Event,
    request: &Request,
) -> Result<Played, Unplayable> {
    let mut builder = played(asked);
    for (name, group) in context::for_dogwood(request, &asked.input).map_err(|_| Unplayable)? {
        builder = builder.request_context_field(&name, group);
    }
    if compiled.reads().any(|reads| reads.scope_attributes) {
        let names = compiled.names();
        for (name, ty, id) in [
            (AGENT, &names.agent, &request.agent.id),
            (RESOURCE, &names.resource, &request.resource.id),
        ] {
            let attributes = attributes_for_dogwood(entities, &uid(ty, id));
            let attributes = attributes
                .iter()
                .map(|(name, value)| (name.as_str(), value.clone()));
            builder = builder.entity_for(name, id, attributes);
        }
    }
    Ok(builder.build())
}

/// The events of a request, from its typed arguments: the request itself, and the verdict just after it.
pub(super) fn event(request: &Request, kind: EventKind, input: Value) -> Option<Event> {
    let verdict = match kind {
        EventKind::Allowed | EventKind::Denied => 1,
        EventKind::Request
        | EventKind::Response
        | EventKind::Error
        | EventKind::SelfReportedResponse
        | EventKind::SelfReportedError => 0,
    };
    Some(Event {
        time_ns: time_ns(request.time_us)?.checked_add(verdict)?,
        kind,
        request_id: request.request_id.clone(),
        session_id: request.session.id.clone(),
        agent: request.agent.id.clone(),
        action: request.action.clone(),
        resource: request.resource.id.clone(),
        input,
        output: None,
        recorder: None,
    })
}

/// A time of history; none if it is centuries away.
pub(super) fn time_ns(us: u64) -> Option<i64> {
    i64::try_from(us).ok()?.checked_mul(1_000)
}
