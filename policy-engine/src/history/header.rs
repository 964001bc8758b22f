//! The record that every step of a partition reads and writes: the cells that are about all events of their kind, and what is
//! retained, for the limits.

use std::collections::BTreeMap;

use crate::history::bytes::{Reader, Writer};
use crate::history::records::{CellId, HEADER, Owner, Records, owner};
use crate::history::series::{Measure, Series};

/// What is remembered of the events that one predicate matches, within one window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) window_ns: i64,
    pub(crate) body: CellBody,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CellBody {
    /// The last one.
    Last(Seen),
    /// All of them.
    Series(Series),
}

/// When something happened, and as the how-manieth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) time_ns: i64,
    pub(crate) seq: u64,
}

impl Cell {
    /// The last moment at which its oldest event counts.
    pub(crate) fn due_ns(&self) -> Option<i64> {
        let oldest = match &self.body {
            CellBody::Last(seen) => Some(seen.time_ns),
            CellBody::Series(series) => series.oldest_ns(),
        };
        Some(oldest?.saturating_add(self.window_ns))
    }

    fn write(&self, out: &mut Writer) {
        out.raw(&self.window_ns.to_be_bytes());
        match &self.body {
            CellBody::Last(seen) => {
                out.byte(0);
                out.raw(&seen.time_ns.to_be_bytes());
                out.number(seen.seq);
            }
            CellBody::Series(series) => series.write(out),
        }
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let window_ns = i64::from_be_bytes(from.array()?);
        let body = if from.0.first() == Some(&0) {
            from.byte()?;
            CellBody::Last(Seen {
                time_ns: i64::from_be_bytes(from.array()?),
                seq: from.number()?,
            })
        } else {
            CellBody::Series(Series::read(from)?)
        };
        Some(Self { window_ns, body })
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::default();
        self.write(&mut out);
        out.0
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        let cell = Self::read(&mut from)?;
        from.is_at_end().then_some(cell)
    }
}

/// The header of a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Header {
    /// Events that any rule could read, ever.
    pub(crate) seq: u64,
    /// The time of the last one.
    pub(crate) last_ns: i64,
    /// The last moment at which anything in the partition can matter.
    pub(crate) until_ns: i64,
    /// Until then an event is missing that there was no room for; zero if none is.
    pub(crate) blind_until_ns: i64,
    /// The retained events, by how many seconds they are retained.
    pub(crate) held: BTreeMap<i64, Series>,
    pub(crate) cells: BTreeMap<CellId, Cell>,
}

/// The owner of the series of events that are retained for so long.
pub(crate) fn held_owner(keep_s: i64) -> Owner {
    let mut id = [0; 16];
    for (place, byte) in id.iter_mut().zip(keep_s.to_be_bytes()) {
        *place = byte;
    }
    owner(id, [0xff; 16])
}

impl Header {
    pub(crate) fn load<R: Records + ?Sized>(records: &R) -> Result<Self, R::Error> {
        match records.get(HEADER)? {
            None => Ok(Self::default()),
            Some(bytes) => Self::from_bytes(&bytes).ok_or_else(|| records.damaged(HEADER)),
        }
    }

    /// True if nothing that the partition holds can matter then.
    pub(crate) const fn is_over_at(&self, now_ns: i64) -> bool {
        self.until_ns < now_ns
    }

    /// From this time on, in microseconds since 1970, nothing in the partition can matter; none if there is nothing.
    pub(crate) fn expires_at_us(&self) -> Option<u64> {
        // A window is closed, so at its very end the event still counts.
        let until = (self.until_ns != 0).then_some(self.until_ns)?;
        u64::try_from(until / 1_000).ok()?.checked_add(1)
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer(Vec::with_capacity(64 + 96 * self.cells.len()));
        out.number(self.seq);
        for time in [self.last_ns, self.until_ns, self.blind_until_ns] {
            out.raw(&time.to_be_bytes());
        }
        out.number(self.held.len() as u64);
        for (keep_s, series) in &self.held {
            out.raw(&keep_s.to_be_bytes());
            series.write(&mut out);
        }
        out.number(self.cells.len() as u64);
        for (id, cell) in &self.cells {
            out.raw(id);
            cell.write(&mut out);
        }
        out.0
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        let mut header = Self {
            seq: from.number()?,
            last_ns: i64::from_be_bytes(from.array()?),
            until_ns: i64::from_be_bytes(from.array()?),
            blind_until_ns: i64::from_be_bytes(from.array()?),
            ..Self::default()
        };
        for _ in 0..from.number()? {
            let keep_s = i64::from_be_bytes(from.array()?);
            let ascending = header
                .held
                .last_key_value()
                .is_none_or(|(last, _)| *last < keep_s);
            let series = Series::read(&mut from).filter(|_| ascending)?;
            header.held.insert(keep_s, series);
        }
        for _ in 0..from.number()? {
            let id: CellId = from.array()?;
            let ascending = header
                .cells
                .last_key_value()
                .is_none_or(|(last, _)| *last < id);
            let cell = Cell::read(&mut from).filter(|_| ascending)?;
            header.cells.insert(id, cell);
        }
        let held = |series: &Series| series.is(Measure::Held) && !series.is_empty();
        (from.is_at_end() && header.held.values().all(held)).then_some(header)
    }
}
