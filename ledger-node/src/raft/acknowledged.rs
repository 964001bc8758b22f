//! What each peer has acknowledged to this node while it leads. Raft counts on it for ever; a peer that was given an empty disk under
//! its old id has forgotten it, and would vote and acknowledge as if it never had been.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::seldom::Seldom;

/// Between two words on the same peer.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// A peer, as far as this node knows it.
#[derive(Debug)]
struct Known {
    /// In which term this node led when it was told.
    term: u64,
    /// The greatest index of the log that the peer has made durable.
    index: u64,
    told: Seldom,
}

/// What peers have acknowledged.
#[derive(Debug, Default)]
pub struct Acknowledged(Mutex<HashMap<u64, Known>>);

impl Acknowledged {
    /// A peer says that its log is durable up to an index.
    pub(super) fn note(&self, peer: u64, term: u64, index: u64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get_mut(&peer) {
            Some(known) if known.term == term => known.index = known.index.max(index),
            // A later leader can have taken back what was acknowledged to an earlier one and was never committed.
            Some(_) | None => {
                let told = Seldom::new(TELL_AGAIN);
                known.insert(peer, Known { term, index, told });
            }
        }
    }

    /// A peer says that it does not hold the entry at an index. True if it had acknowledged that entry, or a later one.
    pub(super) fn is_lost(&self, peer: u64, term: u64, index: u64) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = known.get(&peer) else {
            return false;
        };
        if known.term != term || known.index < index {
            return false;
        }
        if known.told.may_say() {
            tracing::error!(
                node_id = peer,
                acknowledged = known.index,
                missing = index,
                "a node has lost log entries that it had acknowledged; was its disk replaced, or put back from a copy? Stop it, remove it with `ledger-client cluster remove`, and let it join under a new node id with a new key"
            );
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_acknowledged_in_the_same_term_can_be_lost() {
        let acknowledged = Acknowledged::default();
        assert!(!acknowledged.is_lost(2, 1, 0));
        acknowledged.note(2, 1, 7);
        acknowledged.note(2, 1, 5);
        assert!(!acknowledged.is_lost(2, 1, 8), "a peer that is behind");
        assert!(acknowledged.is_lost(2, 1, 7));
        assert!(acknowledged.is_lost(2, 1, 3));
        assert!(!acknowledged.is_lost(3, 1, 3), "another peer");
        assert!(!acknowledged.is_lost(2, 2, 3), "another term");
        acknowledged.note(2, 2, 4);
        assert!(!acknowledged.is_lost(2, 2, 5));
        assert!(acknowledged.is_lost(2, 2, 4));
    }
}
