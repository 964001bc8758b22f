//! The machine's state as it lies in the store.

use std::ops::Bound;

use ledger_core::state::{Pair, State, StateError};

use crate::storage::{Direction, Read, Table, prefix_end};

/// The state in a store, or in a view of it.
#[derive(Clone, Copy)]
pub struct StoreState<'r>(pub &'r dyn Read);

impl std::fmt::Debug for StoreState<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoreState")
    }
}

impl State for StoreState<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.0
            .get(Table::State, key)
            .map_err(|error| StateError::unreadable(key, &error))
    }

    fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Pair>, StateError> {
        scan(
            self.0,
            Table::State,
            prefix,
            after,
            Direction::Ascending,
            limit,
        )
    }
}

/// Pairs of a table under a prefix, beyond `after` in the direction of reading.
///
/// # Errors
/// [`StateError`] if the store cannot be read.
pub fn scan(
    read: &dyn Read,
    table: Table,
    prefix: &[u8],
    after: Option<&[u8]>,
    direction: Direction,
    limit: usize,
) -> Result<Vec<Pair>, StateError> {
    let end = prefix_end(prefix);
    let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    let start = Bound::Included(prefix);
    let range = match (direction, after) {
        (Direction::Ascending, Some(after)) if after >= prefix => (Bound::Excluded(after), end),
        (Direction::Descending, Some(after)) => (start, Bound::Excluded(after)),
        (Direction::Ascending | Direction::Descending, _) => (start, end),
    };
    read.range(table, range, direction, limit)
        .map_err(|error| StateError::unreadable(prefix, &error))
}
