//! The retained events of one partition, and how they come and go.
//!
//! An event stays as long as some rule could still read it, stripped of the fields that none compares. How long that is is
//! settled when the event is stepped, from the bundles tracked at that time: a bundle tracked later starts later, and never
//! reads it.

use std::collections::BTreeMap;

use crate::compile::Compiled;
use crate::history::codec::event_bytes;
use crate::history::{Event, EventKind};
use crate::limits::{MAX_HISTORY_BYTES, MAX_HISTORY_EVENTS, OUTCOME_HORIZON_S};
use crate::value::Value;

const NS_PER_S: i64 = 1_000_000_000;
const NS_PER_US: i64 = 1_000;

/// An event, and the last moment at which a rule could read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Retained {
    event: Event,
    until_ns: i64,
    bytes: usize,
}

impl Retained {
    pub(super) fn new(event: Event, until_ns: i64) -> Self {
        let bytes = event_bytes(&event);
        Self {
            event,
            until_ns,
            bytes,
        }
    }

    pub(super) fn event(&self) -> &Event {
        &self.event
    }

    pub(super) fn until_ns(&self) -> i64 {
        self.until_ns
    }
}

/// The retained events of one partition, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Partition {
    events: Vec<Retained>,
    /// Until then an event is missing that there was no room for; zero if none is.
    blind_until_ns: i64,
}

impl Partition {
    pub(super) fn from_parts(events: Vec<Retained>, blind_until_ns: i64) -> Option<Self> {
        events
            .is_sorted_by_key(|retained| retained.event.time_ns)
            .then_some(Self {
                events,
                blind_until_ns,
            })
    }

    pub(super) fn retained(&self) -> &[Retained] {
        &self.events
    }

    pub(super) fn blind_until_ns(&self) -> i64 {
        self.blind_until_ns
    }

    /// The retained events, oldest first, each with the fields that some rule compares.
    pub fn events(&self) -> impl DoubleEndedIterator<Item = &Event> {
        self.events.iter().map(|retained| &retained.event)
    }

    /// True if nothing is retained.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.blind_until_ns == 0
    }

    /// From this time on, in microseconds since 1970, nothing in here can matter; none if there is nothing.
    pub fn expires_at_us(&self) -> Option<u64> {
        let last = self
            .events
            .iter()
            .map(|retained| retained.until_ns)
            .chain([self.blind_until_ns])
            .max()
            .filter(|_| !self.is_empty())?;
        // A window is closed, so at its very end the event still counts.
        u64::try_from(last / NS_PER_US).ok()?.checked_add(1)
    }

    /// True if no further request may be decided on this history: it has no room for another verdict, or an event is
    /// missing from it.
    pub(crate) fn is_full_at(&self, now_ns: i64) -> bool {
        let live = self
            .events
            .iter()
            .filter(|retained| retained.until_ns >= now_ns);
        let (count, bytes) = live.fold((0_usize, 0_usize), |(count, bytes), retained| {
            (count + 1, bytes.saturating_add(retained.bytes))
        });
        count >= MAX_HISTORY_EVENTS || bytes >= MAX_HISTORY_BYTES || self.blind_until_ns >= now_ns
    }

    /// Adds what happened, as far as some rule of a tracked bundle can read it, and drops what none can read any more.
    ///
    /// `tracked` are the bundles whose history runs: published and not yet retired, the active one among them. The outcome
    /// of an allowed action always finds room, because a full partition allows nothing further.
    pub fn step(&mut self, tracked: &[&Compiled], event: Event) {
        let now_ns = event.time_ns;
        self.events.retain(|retained| retained.until_ns >= now_ns);
        if self.blind_until_ns < now_ns {
            self.blind_until_ns = 0;
        }
        let Some(retained) = retain(tracked, event) else {
            return;
        };
        let is_outcome = match retained.event.kind {
            EventKind::Response | EventKind::Error => true,
            EventKind::Request | EventKind::Allowed | EventKind::Denied => false,
        };
        // A request that was decided on a full partition was decided by rules that do not read it. Rules of another
        // tracked bundle would have read this event, so they must not decide until it would have been gone.
        if !is_outcome && self.is_full_at(now_ns) {
            self.blind_until_ns = self.blind_until_ns.max(retained.until_ns);
            return;
        }
        let place = self
            .events
            .partition_point(|earlier| earlier.event.time_ns <= now_ns);
        self.events.insert(place, retained);
    }
}

/// The event as far as the rules of the tracked bundles can read it.
fn retain(tracked: &[&Compiled], mut event: Event) -> Option<Retained> {
    let mut keep_s = None;
    let mut paths: Vec<&[String]> = Vec::new();
    for reads in tracked.iter().flat_map(|compiled| compiled.reads()) {
        let named = reads.topics.get(&(event.action.clone(), event.kind));
        if named.is_some() || reads.everything {
            keep_s = keep_s.max(Some(reads.reach_s));
        }
        paths.extend(named.into_iter().flatten().map(Vec::as_slice));
        // An allowed action whose outcome is awaited holds that outcome's place.
        let awaited = [EventKind::Response, EventKind::Error]
            .into_iter()
            .any(|kind| reads.topics.contains_key(&(event.action.clone(), kind)));
        if event.kind == EventKind::Allowed && (awaited || reads.everything) {
            keep_s = keep_s.max(Some(OUTCOME_HORIZON_S));
        }
    }
    let until_ns = event
        .time_ns
        .saturating_add(keep_s?.saturating_mul(NS_PER_S));
    event.input = project(&event.input, &fields_under("input", &paths));
    event.output = event
        .output
        .map(|output| project(&output, &fields_under("output", &paths)));
    Some(Retained::new(event, until_ns))
}

/// The rest of the paths that begin with `root`.
fn fields_under<'a>(root: &str, paths: &[&'a [String]]) -> Vec<&'a [String]> {
    paths
        .iter()
        .filter_map(|path| path.split_first())
        .filter(|(head, _)| *head == root)
        .map(|(_, rest)| rest)
        .collect()
}

/// The value with only those fields of its records that some path leads to or through.
fn project(value: &Value, paths: &[&[String]]) -> Value {
    if paths.iter().any(|path| path.is_empty()) {
        return value.clone();
    }
    let Value::Record(fields) = value else {
        return Value::Record(BTreeMap::new());
    };
    let kept = fields.iter().filter_map(|(name, field)| {
        let inside = fields_under(name, paths);
        (!inside.is_empty()).then(|| (name.clone(), project(field, &inside)))
    });
    Value::Record(kept.collect())
}
