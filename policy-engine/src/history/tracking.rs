//! Which events a bundle's rules could read: found once, looked up by action and kind whenever something happens.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::cell::Spec;
use crate::history::plan::Plan;
use crate::history::reads::Reads;
use crate::history::{Event, EventKind};
use crate::limits::OUTCOME_HORIZON_S;

/// What the rules of one bundle remember of the past.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tracking {
    by_action: BTreeMap<String, BTreeMap<EventKind, Topic>>,
    /// Actions whose outcomes some rule reads.
    awaited: BTreeSet<String>,
    /// How long any event is retained, whatever it is.
    everything_s: Option<i64>,
    /// True if any event is needed as it was.
    logs_everything: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Topic {
    keep_s: i64,
    cells: Vec<Spec>,
    /// The fields that conditions without a plan compare, if there are such conditions.
    logged: Option<BTreeSet<Vec<String>>>,
}

/// What is to be kept of one event.
#[derive(Debug, Default)]
pub(super) struct Kept<'a> {
    pub(super) keep_s: i64,
    pub(super) cells: Vec<&'a Spec>,
    /// The fields to log, if the event is logged.
    pub(super) logged: Option<Vec<&'a [String]>>,
}

impl Tracking {
    /// Adds a rule: all that it reads, its plans, and what the conditions without a plan read.
    pub(crate) fn add<'a>(
        &mut self,
        reads: &Reads,
        plans: impl Iterator<Item = &'a Plan>,
        unplanned: &Reads,
    ) {
        if reads.everything {
            self.everything_s = self.everything_s.max(Some(reads.reach_s));
        }
        self.logs_everything |= unplanned.everything;
        for (action, kind) in reads.topics.keys() {
            let topic = self.topic(action, *kind);
            topic.keep_s = topic.keep_s.max(reads.reach_s);
            if kind.is_outcome() {
                self.awaited.insert(action.clone());
            }
        }
        for ((action, kind), fields) in &unplanned.topics {
            let logged = &mut self.topic(action, *kind).logged;
            logged
                .get_or_insert_default()
                .extend(fields.iter().cloned());
        }
        let mut cells = Vec::new();
        plans.for_each(|plan| plan.cells(&mut cells));
        for spec in cells {
            let topic = self.topic(&spec.pattern.action, spec.pattern.kind);
            if topic.cells.iter().all(|other| other.id != spec.id) {
                topic.cells.push(spec.clone());
            }
        }
    }

    fn topic(&mut self, action: &str, kind: EventKind) -> &mut Topic {
        let kinds = self.by_action.entry(action.to_owned()).or_default();
        kinds.entry(kind).or_default()
    }
}

/// What the rules of several bundles could read of an event, and for how long; none if nothing.
pub(super) fn kept<'a>(tracked: &[&'a Tracking], event: &Event) -> Option<Kept<'a>> {
    let mut keep_s = None;
    let mut kept = Kept::default();
    for tracking in tracked {
        let kinds = tracking.by_action.get(&event.action);
        let topic = kinds.and_then(|kinds| kinds.get(&event.kind));
        keep_s = keep_s.max(topic.map(|topic| topic.keep_s));
        keep_s = keep_s.max(tracking.everything_s);
        // An allowed action whose outcome is awaited holds that outcome's place.
        let awaited = tracking.everything_s.is_some() || tracking.awaited.contains(&event.action);
        if event.kind == EventKind::Allowed && awaited {
            keep_s = keep_s.max(Some(OUTCOME_HORIZON_S));
        }
        if tracking.logs_everything {
            kept.logged.get_or_insert_default();
        }
        let Some(topic) = topic else { continue };
        if let Some(fields) = &topic.logged {
            let logged = kept.logged.get_or_insert_default();
            logged.extend(fields.iter().map(Vec::as_slice));
        }
        for spec in &topic.cells {
            if kept.cells.iter().all(|other| other.id != spec.id) {
                kept.cells.push(spec);
            }
        }
    }
    kept.keep_s = keep_s?;
    Some(kept)
}
