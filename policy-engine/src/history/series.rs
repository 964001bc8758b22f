//! What happened within a window, in order of time, with its count and sum.
//!
//! The oldest and the newest entries are at hand; what lies between is in chunks, one record each. Adding and expiring touch
//! only the ends, so both cost the same whether ten or ten thousand entries lie between.

use crate::history::bytes::{Reader, Writer};
use crate::history::records::{Owner, Records, RecordsMut, chunk_key, value_key};

/// Entries of a chunk, and of either end.
const CHUNK: usize = 16;

/// What the entries of a series carry besides their times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    /// Nothing.
    Count,
    /// A number: 8 bytes.
    Sum,
    /// The digest of a value: 16 bytes.
    Distinct,
    /// The sequence number of an event and how many bytes it takes: 16 bytes.
    Held,
}

impl Measure {
    const fn width(self) -> usize {
        match self {
            Self::Count => 8,
            Self::Sum => 16,
            Self::Distinct | Self::Held => 24,
        }
    }

    /// What an entry adds to the sum.
    fn number(self, value: &[u8]) -> i128 {
        let last = value
            .last_chunk::<8>()
            .map_or(0, |last| i64::from_be_bytes(*last));
        match self {
            Self::Sum | Self::Held => i128::from(last),
            Self::Count | Self::Distinct => 0,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Series {
    measure: Measure,
    count: u64,
    sum: i128,
    /// Different values, if they are counted.
    distinct: u64,
    /// The chunks between the ends.
    first_chunk: u64,
    next_chunk: u64,
    /// The oldest entries; empty only if there are no chunks.
    head: Vec<u8>,
    /// The newest.
    tail: Vec<u8>,
}

/// Sum and count of a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) count: u64,
    pub(crate) sum: i128,
}

impl Series {
    pub(crate) const fn new(measure: Measure) -> Self {
        Self {
            measure,
            count: 0,
            sum: 0,
            distinct: 0,
            first_chunk: 0,
            next_chunk: 0,
            head: Vec::new(),
            tail: Vec::new(),
        }
    }

    pub(crate) fn is(&self, measure: Measure) -> bool {
        self.measure == measure
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Count and sum of all entries.
    pub(crate) const fn all(&self) -> Totals {
        Totals {
            count: self.count,
            sum: self.sum,
        }
    }

    pub(crate) const fn distinct(&self) -> u64 {
        self.distinct
    }

    /// The time of the oldest entry.
    pub(crate) fn oldest_ns(&self) -> Option<i64> {
        let end = if self.head.is_empty() {
            &self.tail
        } else {
            &self.head
        };
        time_of(end)
    }

    /// Adds an entry, the newest.
    pub(crate) fn push<R: RecordsMut>(
        &mut self,
        records: &mut R,
        owner: &Owner,
        time_ns: i64,
        value: &[u8],
    ) -> Result<(), R::Error> {
        if self.tail.len() >= CHUNK * self.measure.width() {
            let full = std::mem::take(&mut self.tail);
            if self.head.is_empty() {
                self.head = full;
            } else {
                records.put(chunk_key(owner, self.next_chunk), Some(full));
                self.next_chunk += 1;
            }
        }
        self.tail.extend_from_slice(&time_ns.to_be_bytes());
        self.tail.extend_from_slice(value);
        self.count += 1;
        self.sum = self.sum.saturating_add(self.measure.number(value));
        if self.measure == Measure::Distinct {
            let key = value_key(owner, value);
            let times = times(records, &key)?;
            self.distinct += u64::from(times == 0);
            records.put(key, Some((times + 1).to_be_bytes().to_vec()));
        }
        Ok(())
    }

    /// Removes the entries before a time, handing out the value of each.
    pub(crate) fn expire<R: RecordsMut>(
        &mut self,
        records: &mut R,
        owner: &Owner,
        before_ns: i64,
        mut gone: impl FnMut(&mut R, &[u8]),
    ) -> Result<(), R::Error> {
        while self.oldest_ns().is_some_and(|oldest| oldest < before_ns) {
            if self.head.is_empty() {
                self.head = std::mem::take(&mut self.tail);
            }
            let mut expired = 0;
            for entry in self.head.chunks_exact(self.measure.width()) {
                if time_of(entry).is_none_or(|time| time >= before_ns) {
                    break;
                }
                expired += entry.len();
                self.count = self.count.saturating_sub(1);
                let value = entry.get(8..).unwrap_or_default();
                self.sum = self.sum.saturating_sub(self.measure.number(value));
                if self.measure == Measure::Distinct {
                    let key = value_key(owner, value);
                    let left = times(records, &key)?.saturating_sub(1);
                    self.distinct = self.distinct.saturating_sub(u64::from(left == 0));
                    records.put(key, (left > 0).then(|| left.to_be_bytes().to_vec()));
                }
                gone(records, value);
            }
            self.head.drain(..expired);
            if self.head.is_empty() && self.first_chunk < self.next_chunk {
                let key = chunk_key(owner, self.first_chunk);
                self.head = chunk(records, owner, self.first_chunk, self.measure)?;
                records.put(key, None);
                self.first_chunk += 1;
            }
        }
        Ok(())
    }

    /// Count and sum of the entries from a time on, and those of the entries before, handed out one by one.
    pub(crate) fn since<R: Records + ?Sized>(
        &self,
        records: &R,
        owner: &Owner,
        from_ns: i64,
        mut before: impl FnMut(&[u8]),
    ) -> Result<Totals, R::Error> {
        let mut totals = self.all();
        let mut skip = |entries: &[u8]| {
            for entry in entries.chunks_exact(self.measure.width()) {
                if time_of(entry).is_none_or(|time| time >= from_ns) {
                    return false;
                }
                let value = entry.get(8..).unwrap_or_default();
                totals.count = totals.count.saturating_sub(1);
                totals.sum = totals.sum.saturating_sub(self.measure.number(value));
                before(value);
            }
            true
        };
        let mut more = skip(&self.head);
        let mut at = self.first_chunk;
        while more && at < self.next_chunk {
            more = skip(&chunk(records, owner, at, self.measure)?);
            at += 1;
        }
        if more {
            skip(&self.tail);
        }
        Ok(totals)
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.byte(match self.measure {
            Measure::Count => 1,
            Measure::Sum => 2,
            Measure::Distinct => 3,
            Measure::Held => 4,
        });
        out.number(self.count);
        if matches!(self.measure, Measure::Sum | Measure::Held) {
            out.raw(&self.sum.to_be_bytes());
        }
        if self.measure == Measure::Distinct {
            out.number(self.distinct);
        }
        out.number(self.first_chunk);
        out.number(self.next_chunk);
        out.bytes(&self.head);
        out.bytes(&self.tail);
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Option<Self> {
        let measure = match from.byte()? {
            1 => Measure::Count,
            2 => Measure::Sum,
            3 => Measure::Distinct,
            4 => Measure::Held,
            _ => return None,
        };
        let count = from.number()?;
        let sum = match measure {
            Measure::Sum | Measure::Held => i128::from_be_bytes(from.array()?),
            Measure::Count | Measure::Distinct => 0,
        };
        let distinct = if measure == Measure::Distinct {
            from.number()?
        } else {
            0
        };
        let series = Self {
            measure,
            count,
            sum,
            distinct,
            first_chunk: from.number()?,
            next_chunk: from.number()?,
            head: from.bytes()?.to_vec(),
            tail: from.bytes()?.to_vec(),
        };
        series.is_sound().then_some(series)
    }

    fn is_sound(&self) -> bool {
        let width = self.measure.width();
        let ends = [&self.head, &self.tail];
        let whole = ends
            .iter()
            .all(|end| end.len() % width == 0 && end.len() <= CHUNK * width);
        let ordered = ends
            .iter()
            .all(|end| end.chunks_exact(width).map(time_of).is_sorted());
        let chunks = self.next_chunk.checked_sub(self.first_chunk);
        let at_hand = (self.head.len() + self.tail.len()) / width;
        whole
            && ordered
            && chunks.is_some_and(|chunks| {
                (chunks == 0 || !self.head.is_empty())
                    && chunks
                        .checked_mul(CHUNK as u64)
                        .and_then(|between| between.checked_add(at_hand as u64))
                        == Some(self.count)
            })
    }
}

fn chunk<R: Records + ?Sized>(
    records: &R,
    owner: &Owner,
    number: u64,
    measure: Measure,
) -> Result<Vec<u8>, R::Error> {
    let key = chunk_key(owner, number);
    let chunk = records.get(&key)?;
    let chunk = chunk.filter(|chunk| chunk.len() == CHUNK * measure.width());
    chunk.ok_or_else(|| records.damaged(&key))
}

/// How often a value occurs.
pub(crate) fn times<R: Records + ?Sized>(records: &R, key: &[u8]) -> Result<u64, R::Error> {
    match records.get(key)? {
        None => Ok(0),
        Some(bytes) => <[u8; 8]>::try_from(bytes.as_slice())
            .map(u64::from_be_bytes)
            .map_err(|_| records.damaged(key)),
    }
}

fn time_of(entry: &[u8]) -> Option<i64> {
    entry.first_chunk().map(|time| i64::from_be_bytes(*time))
}

/// True if a record can be the middle of a series.
pub(super) fn is_chunk(bytes: &[u8]) -> bool {
    [8, 16, 24].iter().any(|width| bytes.len() == CHUNK * width)
}
