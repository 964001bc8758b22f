//! The machine's state, and the index over the ledger, as they lie in the store.

use std::sync::Arc;

use ledger_core::state::{Family, Key, Pair, State, StateError};
use ledger_proto::v1;
use prost::Message;

use super::{Direction, Read, Table, scan};

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
        let direction = Direction::Ascending;
        scan(self.0, Table::State, prefix, after, direction, limit)
            .map_err(|error| StateError::unreadable(prefix, &error))
    }
}

/// All nodes that the ledger knows, past ones included, ascending by id.
///
/// # Errors
/// [`StateError`] if the state cannot be read.
pub fn nodes(state: &dyn State) -> Result<Vec<v1::NodeRecord>, StateError> {
    let prefix = Key::family(Family::Node);
    let pairs = state.scan(prefix.as_bytes(), None, usize::MAX)?;
    let records = pairs.into_iter().map(|(key, value)| {
        v1::NodeRecord::decode(value.as_slice())
            .map_err(|error| StateError::damaged(key, error.to_string()))
    });
    records.collect()
}

/// One frozen moment of the ledger: state, entries, and the index over them.
#[derive(Clone)]
pub struct View(Arc<dyn Read>);

impl View {
    /// A view on what a reader sees.
    #[must_use]
    pub fn new(read: Arc<dyn Read>) -> Self {
        Self(read)
    }

    /// Pairs of the index under a prefix, beyond `after` in the direction of reading.
    ///
    /// # Errors
    /// [`StateError`] if the store cannot be read.
    pub fn index(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Pair>, StateError> {
        scan(&*self.0, Table::Index, prefix, after, direction, limit)
            .map_err(|error| StateError::unreadable(prefix, &error))
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("View")
    }
}

impl State for View {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        StoreState(&*self.0).get(key)
    }

    fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Pair>, StateError> {
        StoreState(&*self.0).scan(prefix, after, limit)
    }
}
