//! Reading a table from end to end, in pages.

use std::ops::Bound;

use super::{Check, Go};
use crate::storage::{Direction, KeyRange, Table, prefix_end};

/// How many keys are read at once: so that a page of the longest values has a few MiB.
const fn page_len(table: Table) -> usize {
    match table {
        Table::Log => 4,
        Table::State => 32,
        Table::Meta | Table::Index => 512,
    }
}

/// How many keys of a table lie between two reports of progress.
const REPORT_EVERY: u64 = 4_096;

impl Check<'_> {
    /// Hands on every pair under a prefix, ascending, and returns how many there are. Counts the keys as read; use
    /// [`Check::look`] for keys that are counted elsewhere.
    pub(super) fn walk(
        &mut self,
        table: Table,
        prefix: &[u8],
        mut each: impl FnMut(&mut Self, &[u8], &[u8]) -> Go,
    ) -> Go<u64> {
        self.look(table, prefix, |check, key, value| {
            check.count(table);
            each(check, key, value)
        })
    }

    /// Like [`Check::walk`], without counting the keys as read.
    pub(super) fn look(
        &mut self,
        table: Table,
        prefix: &[u8],
        mut each: impl FnMut(&mut Self, &[u8], &[u8]) -> Go,
    ) -> Go<u64> {
        let end = prefix_end(prefix);
        let until = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut after: Option<Vec<u8>> = None;
        let mut count = 0;
        loop {
            let from = match &after {
                Some(after) => Bound::Excluded(after.as_slice()),
                None => Bound::Included(prefix),
            };
            let page = self.page(table, (from, until))?;
            for (key, value) in &page {
                each(self, key, value)?;
                count += 1;
            }
            match page.into_iter().last() {
                Some((last, _)) => after = Some(last),
                None => return Ok(count),
            }
        }
    }

    fn count(&mut self, table: Table) {
        if let Some(keys) = self.keys.get_mut(table as usize) {
            *keys += 1;
            if *keys % REPORT_EVERY == 0 {
                (self.progress)(table, *keys);
            }
        }
    }

    fn page(&mut self, table: Table, range: KeyRange<'_>) -> Go<Vec<crate::storage::Pair>> {
        let read = self.read;
        let whole = read.range(table, range, Direction::Ascending, page_len(table));
        let Err(error) = whole else {
            return Ok(whole.unwrap_or_default());
        };
        // One by one, to find out which is the last that can be read.
        let (mut from, until) = (range.0.map(<[u8]>::to_vec), range.1);
        loop {
            let bound = from.as_ref().map(Vec::as_slice);
            match read.range(table, (bound, until), Direction::Ascending, 1) {
                Ok(pairs) => match pairs.into_iter().next() {
                    Some((key, _)) => from = Bound::Excluded(key),
                    None => return Ok(Vec::new()),
                },
                Err(_) => break,
            }
        }
        let (Bound::Included(key) | Bound::Excluded(key)) = from else {
            return self.end(table, &[], format!("the table cannot be read: {error}"));
        };
        self.end(
            table,
            &key,
            format!("what comes after this key cannot be read: {error}"),
        )
    }
}
