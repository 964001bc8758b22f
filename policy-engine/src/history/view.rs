//! The past as one decision reads it: nothing here is written.

use std::cell::RefCell;

use crate::history::NS_PER_S;
use crate::history::cell::{Keep, Spec};
use crate::history::codec::event_from_bytes;
use crate::history::header::{Cell, CellBody, Header, Seen, held_owner};
use crate::history::records::{ALL, CellId, Record, Records, cell_key, owner, value_key};
use crate::history::series::{Totals, times};
use crate::history::step::has_room;
use crate::history::{Event, NotCanonical};

/// The store failed; [`Guarded`] knows how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// Records whose first error is put aside. It outranks whatever was decided without them.
pub(crate) struct Guarded<'a, R: Records> {
    records: &'a R,
    error: RefCell<Option<R::Error>>,
}

impl<'a, R: Records> Guarded<'a, R> {
    pub(crate) const fn new(records: &'a R) -> Self {
        Self {
            records,
            error: RefCell::new(None),
        }
    }

    pub(crate) fn into_error(self) -> Option<R::Error> {
        self.error.into_inner()
    }

    fn note<T>(&self, result: Result<T, R::Error>) -> Result<T, Unreadable> {
        result.map_err(|error| {
            self.error.borrow_mut().get_or_insert(error);
            Unreadable
        })
    }
}

impl<R: Records> Records for Guarded<'_, R> {
    type Error = Unreadable;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Unreadable> {
        self.note(self.records.get(key))
    }

    fn scan(&self, prefix: &[u8], limit: usize) -> Result<Vec<Record>, Unreadable> {
        self.note(self.records.scan(prefix, limit))
    }

    fn damaged(&self, key: &[u8]) -> Unreadable {
        let damaged = self.records.damaged(key);
        self.error.borrow_mut().get_or_insert(damaged);
        Unreadable
    }
}

/// The past of one partition.
pub(crate) struct View<'a> {
    records: &'a dyn Records<Error = Unreadable>,
    header: Header,
}

impl<'a> View<'a> {
    pub(crate) fn load(
        records: &'a dyn Records<Error = Unreadable>,
        now_ns: i64,
    ) -> Result<Self, Unreadable> {
        let header = Header::load(records)?;
        Ok(Self {
            records,
            header: if header.is_over_at(now_ns) {
                Header::default()
            } else {
                header
            },
        })
    }

    /// A past without events.
    pub(crate) fn empty(records: &'a dyn Records<Error = Unreadable>) -> Self {
        Self {
            records,
            header: Header::default(),
        }
    }

    /// The time and number of the last event that any rule could read.
    pub(crate) const fn last(&self) -> Seen {
        Seen {
            time_ns: self.header.last_ns,
            seq: self.header.seq,
        }
    }

    /// True if no further request may be decided on this history: it has no room for another verdict, or an event is
    /// missing from it.
    pub(crate) fn is_full_at(&self, now_ns: i64) -> Result<bool, Unreadable> {
        if self.header.blind_until_ns >= now_ns {
            return Ok(true);
        }
        let mut held = Vec::new();
        for (keep_s, series) in &self.header.held {
            let from_ns = now_ns.saturating_sub(keep_s.saturating_mul(NS_PER_S));
            held.push(series.since(self.records, &held_owner(*keep_s), from_ns, |_| {})?);
        }
        Ok(!has_room(held.into_iter(), 1))
    }

    fn cell(&self, id: CellId, values: [u8; 16]) -> Result<Option<Cell>, Unreadable> {
        let key = cell_key(&owner(id, values));
        let Some(bytes) = self.records.get(&key)? else {
            return Ok(None);
        };
        let cell = Cell::from_bytes(&bytes);
        cell.map(Some).ok_or_else(|| self.records.damaged(&key))
    }

    /// Calls `read` with the cell, which is in the header if it is about all values.
    fn with_cell<T: Default>(
        &self,
        spec: &Spec,
        values: [u8; 16],
        read: impl FnOnce(&Cell) -> Result<T, Unreadable>,
    ) -> Result<T, Unreadable> {
        if self.header.seq == 0 {
            return Ok(T::default());
        }
        if spec.pattern.asked.is_empty() {
            return self
                .header
                .cells
                .get(&spec.id)
                .map_or_else(|| Ok(T::default()), read);
        }
        let cell = self.cell(spec.id, values)?;
        cell.as_ref().map_or_else(|| Ok(T::default()), read)
    }

    /// The last event that matched, if it came at that time or later.
    pub(crate) fn last_since(
        &self,
        spec: &Spec,
        values: [u8; 16],
        from_ns: i64,
    ) -> Result<Option<Seen>, Unreadable> {
        self.with_cell(spec, values, |cell| {
            Ok(match &cell.body {
                CellBody::Last(seen) => Some(*seen).filter(|seen| seen.time_ns >= from_ns),
                CellBody::Series(_) => None,
            })
        })
    }

    /// Count and sum of the events that matched from that time on; of different values only the count, `entry` being one
    /// more.
    pub(crate) fn totals_since(
        &self,
        spec: &Spec,
        values: [u8; 16],
        from_ns: i64,
        entry: Option<&[u8]>,
    ) -> Result<Totals, Unreadable> {
        let owner = owner(spec.id, values);
        let is_distinct = matches!(spec.keep, Keep::Distinct(_));
        let mut totals = self.with_cell(spec, values, |cell| {
            let CellBody::Series(series) = &cell.body else {
                return Ok(Totals::default());
            };
            let mut expired: Vec<Vec<u8>> = Vec::new();
            let totals = series.since(self.records, &owner, from_ns, |value| {
                if is_distinct {
                    expired.push(value.to_vec());
                }
            })?;
            if !is_distinct {
                return Ok(totals);
            }
            expired.sort_unstable();
            let mut count = series.distinct();
            for group in expired.chunk_by(|left, right| left == right) {
                let value = group.first().map_or(&[][..], Vec::as_slice);
                let times = times(self.records, &value_key(&owner, value))?;
                count = count.saturating_sub(u64::from(times == group.len() as u64));
            }
            // Another one of a value that counts already changes nothing.
            if let Some(entry) = entry {
                let gone = expired.iter().filter(|value| *value == entry).count() as u64;
                let times = times(self.records, &value_key(&owner, entry))?;
                count += u64::from(times <= gone);
            }
            Ok(Totals { count, sum: 0 })
        })?;
        if let Some(entry) = entry {
            let number = entry
                .last_chunk::<8>()
                .map_or(0, |last| i64::from_be_bytes(*last));
            match spec.keep {
                Keep::Sum(_) => totals.sum = totals.sum.saturating_add(i128::from(number)),
                Keep::Count => totals.count += 1,
                // Without a cell it is the first.
                Keep::Distinct(_) => totals.count = totals.count.max(1),
                Keep::Last => {}
            }
        }
        Ok(totals)
    }

    /// The events that were logged, oldest first.
    pub(crate) fn events(&self) -> Result<Vec<Event>, Unreadable> {
        if self.header.seq == 0 {
            return Ok(Vec::new());
        }
        let mut events = Vec::new();
        for (key, bytes) in self.records.scan(b"e", ALL)? {
            let seq = key.last_chunk::<8>().map(|seq| u64::from_be_bytes(*seq));
            let event =
                event_from_bytes(&bytes).map_err(|NotCanonical| self.records.damaged(&key))?;
            events.push((seq, event));
        }
        events.sort_by_key(|(seq, _)| *seq);
        Ok(events.into_iter().map(|(_, event)| event).collect())
    }
}
