//! The newest entries of the log in memory, bounded by bytes: replication and apply read each of them again within milliseconds.

use std::collections::VecDeque;

use super::types::{self, Entry};

/// The newest entries without gaps, the last one included, if there is any.
#[derive(Default)]
pub(super) struct Tail {
    entries: VecDeque<Entry>,
    len: usize,
}

impl Tail {
    /// Adds an entry, and forgets the oldest ones if there are more than `max_len` bytes.
    pub(super) fn push(&mut self, entry: Entry, max_len: usize) {
        if let Some(last) = self.entries.back()
            && last.log_id.index() + 1 != entry.log_id.index()
        {
            *self = Self::default();
        }
        self.len += types::entry_len(&entry);
        self.entries.push_back(entry);
        while self.len > max_len && self.entries.len() > 1 {
            self.pop_front();
        }
    }

    /// Forgets entries up to this index.
    pub(super) fn purge(&mut self, upto: u64) {
        while self
            .entries
            .front()
            .is_some_and(|entry| entry.log_id.index() <= upto)
        {
            self.pop_front();
        }
    }

    /// Bytes of the entries, about.
    #[cfg(test)]
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    fn pop_front(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.len -= types::entry_len(&entry);
        }
    }

    /// Forgets entries after this index.
    pub(super) fn truncate_after(&mut self, last: Option<u64>) {
        while let Some(entry) = self.entries.back()
            && last.is_none_or(|last| entry.log_id.index() > last)
        {
            self.len -= types::entry_len(entry);
            self.entries.pop_back();
        }
    }

    /// Entries from `start` to before `end`, as many as fit; none if the first is not here.
    pub(super) fn read(&self, start: u64, end: u64, max_len: usize) -> Option<Vec<Entry>> {
        let first = self.entries.front()?.log_id.index();
        let skip = usize::try_from(start.checked_sub(first)?).ok()?;
        if skip >= self.entries.len() {
            return None;
        }
        let mut len = 0_usize;
        let entries = self
            .entries
            .iter()
            .skip(skip)
            .take_while(|entry| {
                let fits = len == 0 || len + types::entry_len(entry) <= max_len;
                len += types::entry_len(entry);
                fits && entry.log_id.index() < end
            })
            .cloned()
            .collect();
        Some(entries)
    }
}
