//! How a partition's past grows and goes.
//!
//! An event is retained as long as some rule could still read it. How long that is is settled when the event is stepped, from
//! the bundles tracked at that time: a bundle tracked later starts later, and never reads it.

use std::collections::BTreeMap;

use crate::compile::Compiled;
use crate::history::Event;
use crate::history::NS_PER_S;
use crate::history::cell::Spec;
use crate::history::codec::event_to_bytes;
use crate::history::header::{Cell, CellBody, Header, Seen, held_owner};
use crate::history::records::{
    ALL, CellId, HEADER, Owner, RecordsMut, cell_key, due_key, event_key, owner, split_due,
};
use crate::history::series::{Measure, Series};
use crate::history::tracking::{Kept, Tracking, kept};
use crate::limits::{CELLS_PER_STEP, MAX_HISTORY_BYTES, MAX_HISTORY_EVENTS, OUTCOME_RESERVE};
use crate::value::Value;

/// Adds what happened, as far as some rule of a tracked bundle can read it, and drops what none can read any more. Gives the
/// time in microseconds since 1970 from which on nothing in the partition can matter; none if there is nothing.
///
/// `tracked` are the bundles whose history runs: published and not yet retired, the active one among them. The outcomes of
/// what was allowed find room in a full partition, because it allows nothing further. Should there be no room for an event
/// after all, rules that read the past deny until it would have been gone: they never decide as if it had not happened.
///
/// # Errors
/// If the records cannot be read, or are not what was written. Then nothing may be kept of what was put.
pub fn step<R: RecordsMut>(
    records: &mut R,
    tracked: &[&Compiled],
    events: &[Event],
) -> Result<Option<u64>, R::Error> {
    let mut header = Header::load(records)?;
    let before = header.clone();
    let tracked: Vec<&Tracking> = tracked.iter().map(|compiled| compiled.tracking()).collect();
    for event in events {
        expire(records, &mut header, event.time_ns)?;
        if let Some(kept) = kept(&tracked, event) {
            add(records, &mut header, &kept, event)?;
        }
    }
    if header != before {
        let record = (header != Header::default()).then(|| header.to_bytes());
        records.put(HEADER.to_vec(), record);
    }
    Ok(header.expires_at_us())
}

/// Removes what no rule can read any more.
fn expire<R: RecordsMut>(
    records: &mut R,
    header: &mut Header,
    now_ns: i64,
) -> Result<(), R::Error> {
    if header.until_ns != 0 && header.is_over_at(now_ns) {
        for (key, _) in records.scan(b"", ALL)? {
            records.put(key, None);
        }
        *header = Header::default();
        return Ok(());
    }
    if header.blind_until_ns < now_ns {
        header.blind_until_ns = 0;
    }
    for (keep_s, series) in &mut header.held {
        let from_ns = now_ns.saturating_sub(keep_s.saturating_mul(NS_PER_S));
        let owner = held_owner(*keep_s);
        series.expire(records, &owner, from_ns, |records, value| {
            if let Some((seq, size)) = value.split_first_chunk::<8>()
                && size != [0; 8]
            {
                records.put(event_key(*keep_s, u64::from_be_bytes(*seq)), None);
            }
        })?;
    }
    header.held.retain(|_, series| !series.is_empty());
    let mut gone: Vec<CellId> = Vec::new();
    for (id, cell) in &mut header.cells {
        if expire_cell(records, &owner(*id, [0; 16]), cell, now_ns)? {
            gone.push(*id);
        }
    }
    for id in gone {
        header.cells.remove(&id);
    }
    expire_own_records(records, now_ns)
}

/// Removes what no longer counts in a cell; true if nothing is left.
fn expire_cell<R: RecordsMut>(
    records: &mut R,
    owner: &Owner,
    cell: &mut Cell,
    now_ns: i64,
) -> Result<bool, R::Error> {
    let window_ns = cell.window_ns;
    match &mut cell.body {
        CellBody::Last(seen) => Ok(seen.time_ns.saturating_add(window_ns) < now_ns),
        CellBody::Series(series) => {
            series.expire(records, owner, now_ns.saturating_sub(window_ns), |_, _| {})?;
            Ok(series.is_empty())
        }
    }
}

/// The same for some of the cells that have records of their own, those that are due first. Each step adds fewer than it
/// looks at, so that they cannot pile up.
fn expire_own_records<R: RecordsMut>(records: &mut R, now_ns: i64) -> Result<(), R::Error> {
    for (due, _) in records.scan(b"x", CELLS_PER_STEP)? {
        let (at_ns, owner) = split_due(&due).ok_or_else(|| records.damaged(&due))?;
        if at_ns >= now_ns {
            break;
        }
        records.put(due, None);
        let key = cell_key(&owner);
        let Some(bytes) = records.get(&key)? else {
            continue;
        };
        let mut cell = Cell::from_bytes(&bytes).ok_or_else(|| records.damaged(&key))?;
        if expire_cell(records, &owner, &mut cell, now_ns)? {
            records.put(key, None);
        } else if let Some(at_ns) = cell.due_ns() {
            records.put(due_key(at_ns, &owner), Some(Vec::new()));
            records.put(key, Some(cell.to_bytes()));
        }
    }
    Ok(())
}

fn add<R: RecordsMut>(
    records: &mut R,
    header: &mut Header,
    kept: &Kept<'_>,
    event: &Event,
) -> Result<(), R::Error> {
    // The ledger's time only grows; if it did not, what came later would still be later.
    let now_ns = event.time_ns.max(header.last_ns);
    let until_ns = now_ns.saturating_add(kept.keep_s.saturating_mul(NS_PER_S));
    header.until_ns = header.until_ns.max(until_ns);
    let logged = kept.logged.as_ref().map(|fields| logged(event, fields));
    let size = logged.as_ref().map_or(0, Vec::len);
    let times = if event.kind.is_outcome() {
        OUTCOME_RESERVE
    } else {
        1
    };
    if !has_room(header.held.values().map(Series::all), times) {
        header.blind_until_ns = header.blind_until_ns.max(until_ns);
        return Ok(());
    }
    header.seq += 1;
    header.last_ns = now_ns;
    let seen = Seen {
        time_ns: now_ns,
        seq: header.seq,
    };
    let held = header.held.entry(kept.keep_s);
    let held = held.or_insert_with(|| Series::new(Measure::Held));
    let size_bytes = i64::try_from(size).unwrap_or(i64::MAX).to_be_bytes();
    let value = [seen.seq.to_be_bytes(), size_bytes].concat();
    held.push(records, &held_owner(kept.keep_s), now_ns, &value)?;
    if let Some(logged) = logged {
        records.put(event_key(kept.keep_s, seen.seq), Some(logged));
    }
    for spec in &kept.cells {
        feed(records, header, spec, event, seen)?;
    }
    Ok(())
}

/// True if so many events and bytes are within so many times the limits.
pub(super) fn has_room(
    held: impl Iterator<Item = crate::history::series::Totals>,
    times: usize,
) -> bool {
    let (mut count, mut bytes) = (0_u64, 0_i128);
    for totals in held {
        count = count.saturating_add(totals.count);
        bytes = bytes.saturating_add(totals.sum);
    }
    let within = |limit: usize| u64::try_from(limit.saturating_mul(times)).unwrap_or(u64::MAX);
    count < within(MAX_HISTORY_EVENTS) && bytes < i128::from(within(MAX_HISTORY_BYTES))
}

fn feed<R: RecordsMut>(
    records: &mut R,
    header: &mut Header,
    spec: &Spec,
    event: &Event,
    seen: Seen,
) -> Result<(), R::Error> {
    if !spec.pattern.is_like(event) {
        return Ok(());
    }
    let (Some(values), Some(entry)) = (spec.pattern.values_of(event), spec.keep.entry(event))
    else {
        return Ok(());
    };
    let owner = owner(spec.id, values);
    let fresh = || Cell {
        window_ns: spec.window_ns,
        body: match spec.keep.measure() {
            None => CellBody::Last(seen),
            Some(measure) => CellBody::Series(Series::new(measure)),
        },
    };
    if spec.pattern.asked.is_empty() {
        let cell = header.cells.entry(spec.id).or_insert_with(fresh);
        return put(records, &owner, cell, seen, &entry);
    }
    let key = cell_key(&owner);
    let stored = records.get(&key)?;
    let is_new = stored.is_none();
    let mut cell = match stored {
        None => fresh(),
        Some(bytes) => Cell::from_bytes(&bytes).ok_or_else(|| records.damaged(&key))?,
    };
    expire_cell(records, &owner, &mut cell, seen.time_ns)?;
    put(records, &owner, &mut cell, seen, &entry)?;
    if is_new && let Some(at_ns) = cell.due_ns() {
        records.put(due_key(at_ns, &owner), Some(Vec::new()));
    }
    records.put(key, Some(cell.to_bytes()));
    Ok(())
}

fn put<R: RecordsMut>(
    records: &mut R,
    owner: &Owner,
    cell: &mut Cell,
    seen: Seen,
    entry: &[u8],
) -> Result<(), R::Error> {
    match &mut cell.body {
        CellBody::Last(last) => *last = seen,
        CellBody::Series(series) => series.push(records, owner, seen.time_ns, entry)?,
    }
    Ok(())
}

/// The event, with those fields that conditions without a plan compare.
fn logged(event: &Event, fields: &[&[String]]) -> Vec<u8> {
    event_to_bytes(&Event {
        input: project(&event.input, &fields_under("input", fields)),
        output: event
            .output
            .as_ref()
            .map(|output| project(output, &fields_under("output", fields))),
        ..event.clone()
    })
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
