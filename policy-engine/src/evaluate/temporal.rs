//! The booleans of temporal conditions, found by playing a partition's past to Dogwood's engine.
//!
//! Each rule has a past of its own, which begins when its bundle was published. Rules that began together share an engine.
//! The engines live for one decision, so the partition is only read.

use std::collections::BTreeMap;

use cedar_policy::Schema;
use cedar_policy_core::entities::Entities;
use dogwood_language::{Event as Played, TemporalBindings, TemporalEngine, TemporalField};
use dogwood_local_engine::{LocalTemporalEngine, TickRate};

use crate::compile::{Compiled, Rule};
use crate::evaluate::context::{self, value_for_dogwood};
use crate::evaluate::entities::attributes_for_dogwood;
use crate::evaluate::names::{ACTION_PATH, AGENT, RESOURCE, uid};
use crate::history::{Event, EventKind, Partition, Starts};
use crate::request::Request;
use crate::value::Value;

/// Why the conditions have no values.
#[derive(Debug)]
pub(super) struct Unplayable;

/// The values of the conditions in these rules, by context attribute.
pub(super) fn evaluate<'a>(
    compiled: &Compiled,
    rules: impl Iterator<Item = &'a Rule>,
    starts: &Starts,
    partition: &Partition,
    entities: &Entities,
    asked: &Event,
    request: &Request,
) -> Result<Vec<(String, bool)>, Unplayable> {
    let mut by_start: BTreeMap<u64, Vec<TemporalField>> = BTreeMap::new();
    for past in rules.filter_map(|rule| rule.past.as_ref()) {
        // Nobody says since when: an empty past would let every cap through.
        let start = starts.get(&past.fingerprint).ok_or(Unplayable)?;
        let leaves = by_start.entry(*start).or_default();
        leaves.extend(past.leaves.iter().cloned());
    }
    if by_start.is_empty() {
        return Ok(Vec::new());
    }
    // Dogwood's windows are only right when time does not run backwards.
    if partition
        .events()
        .next_back()
        .is_some_and(|last| last.time_ns > asked.time_ns)
    {
        return Err(Unplayable);
    }
    let asked = decision_event(compiled, entities, asked, request)?;
    let mut values = Vec::new();
    for (start, leaves) in by_start {
        let since_ns = i64::try_from(start).map_or(i64::MAX, |us| us.saturating_mul(1_000));
        let past = partition
            .events()
            .filter(|event| event.time_ns >= since_ns)
            .map(|event| played(event).build());
        values.extend(play(&leaves, compiled.schema(), past, &asked)?);
    }
    values.sort_unstable();
    Ok(values)
}

fn play(
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
    if let Some(output) = &event.output {
        builder = builder.logged_field("output", value_for_dogwood(output));
    }
    builder
}

fn text(text: &str) -> dogwood_language::Value {
    dogwood_language::Value::String(text.to_owned())
}

/// The request as Dogwood's conditions see it: an event, and the context and attributes to compare older events with.
fn decision_event(
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
        EventKind::Request | EventKind::Response | EventKind::Error => 0,
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
    })
}

/// A time of history; none if it is centuries away.
pub(super) fn time_ns(us: u64) -> Option<i64> {
    i64::try_from(us).ok()?.checked_mul(1_000)
}
