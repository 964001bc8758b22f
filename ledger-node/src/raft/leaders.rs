//! Who has led in which term, as far as this node has heard: a log entry names only its term.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// How many terms are remembered: more than can have entries on their way.
const MAX_TERMS: usize = 64;

/// Leaders by term.
#[derive(Debug, Default)]
pub struct Leaders(Mutex<BTreeMap<u64, u64>>);

impl Leaders {
    /// A node leads in a term. What is known stays: there is one leader in a term.
    pub fn note(&self, term: u64, node: u64) {
        let mut by_term = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        by_term.entry(term).or_insert(node);
        while by_term.len() > MAX_TERMS {
            by_term.pop_first();
        }
    }

    /// Who led in a term.
    #[must_use]
    pub fn of(&self, term: u64) -> Option<u64> {
        let by_term = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        by_term.get(&term).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_leader_of_a_term_is_remembered_for_some_terms() {
        let leaders = Leaders::default();
        for term in 1..=100 {
            leaders.note(term, term % 3);
            leaders.note(term, 9);
        }
        assert_eq!(leaders.of(100), Some(1));
        assert_eq!(leaders.of(1), None);
    }
}
