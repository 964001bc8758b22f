//! State in memory: what tests, simulations and an auditor's replay run on.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::{Pair, State, StateError, Writes};

/// An ordered map of bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryState {
    pairs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl MemoryState {
    /// An empty state: no genesis yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Commits writes.
    pub fn commit(&mut self, writes: Writes) {
        for (key, value) in writes {
            match value {
                Some(value) => self.pairs.insert(key, value),
                None => self.pairs.remove(&key),
            };
        }
    }

    /// All pairs, ascending: what a snapshot of this state holds.
    pub fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.pairs
            .iter()
            .map(|(key, value)| (key.as_slice(), value.as_slice()))
    }
}

impl FromIterator<Pair> for MemoryState {
    fn from_iter<T: IntoIterator<Item = Pair>>(pairs: T) -> Self {
        Self {
            pairs: pairs.into_iter().collect(),
        }
    }
}

impl State for MemoryState {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.pairs.get(key).cloned())
    }

    fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Pair>, StateError> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        Ok(self
            .pairs
            .range::<[u8], _>((start, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(limit)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }
}
