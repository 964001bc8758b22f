//! Which peers have refused what this node sent them as their leader, and why. One peer's word says nothing about who of the two is
//! wrong; a quorum's does.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ledger_proto::peer::v1::{AppendCheck, RefusedAppend};

use crate::seldom::Seldom;

/// How long a refusal counts: a leader sends again five times a second.
const LASTS: Duration = Duration::from_secs(5);
/// Between two words on the same peer.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// What a peer refused last.
#[derive(Debug)]
struct Refused {
    /// In which term this node led then.
    term: u64,
    check: AppendCheck,
    log_index: u64,
    at: Instant,
    told: Seldom,
}

/// What peers have refused, by peer.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<BTreeMap<u64, Refused>>);

impl Refusals {
    /// A peer has refused an append.
    pub(super) fn note(&self, peer: u64, term: u64, refused: &RefusedAppend) {
        let mut by_peer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (check, log_index) = (refused.check(), refused.log_index);
        let told = by_peer
            .remove(&peer)
            .filter(|before| before.check == check)
            .map_or_else(|| Seldom::new(TELL_AGAIN), |before| before.told);
        if told.may_say() {
            tracing::error!(
                node_id = peer,
                log_index,
                check = check.as_str_name(),
                reason = refused.reason,
                "a node refuses what this leader sends for the log"
            );
        }
        let at = Instant::now();
        let refused = Refused {
            term,
            check,
            log_index,
            at,
            told,
        };
        by_peer.insert(peer, refused);
    }

    /// A peer has taken the log up to an index.
    pub(super) fn taken(&self, peer: u64, index: u64) {
        let mut by_peer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(refused) = by_peer.remove(&peer)
            && refused.log_index > index
        {
            by_peer.insert(peer, refused);
        }
    }

    /// The voters that have another tree than this leader of this term, if they are a quorum: then this node's is the damaged one.
    #[must_use]
    pub fn quorum_with_another_tree(&self, term: u64, voters: &[u64]) -> Option<Vec<u64>> {
        let by_peer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let with_another: Vec<u64> = voters
            .iter()
            .copied()
            .filter(|voter| {
                by_peer.get(voter).is_some_and(|refused| {
                    refused.term == term
                        && refused.check == AppendCheck::PriorTree
                        && refused.at.elapsed() < LASTS
                })
            })
            .collect();
        (with_another.len() > voters.len() / 2).then_some(with_another)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(check: AppendCheck, log_index: u64) -> RefusedAppend {
        RefusedAppend {
            check: check.into(),
            log_index,
            reason: String::new(),
        }
    }

    #[test]
    fn only_a_quorum_of_voters_that_say_the_same_in_this_term_counts() {
        let refusals = Refusals::default();
        let tree =
            |refusals: &Refusals, voters: &[u64]| refusals.quorum_with_another_tree(7, voters);
        refusals.note(2, 7, &refused(AppendCheck::PriorTree, 5));
        assert_eq!(tree(&refusals, &[1, 2, 3]), None, "one of three");
        refusals.note(3, 7, &refused(AppendCheck::Time, 5));
        assert_eq!(tree(&refusals, &[1, 2, 3]), None, "for another reason");
        refusals.note(3, 6, &refused(AppendCheck::PriorTree, 5));
        assert_eq!(tree(&refusals, &[1, 2, 3]), None, "in another term");
        refusals.note(3, 7, &refused(AppendCheck::PriorTree, 5));
        assert_eq!(tree(&refusals, &[1, 2, 3]), Some(vec![2, 3]));
        assert_eq!(tree(&refusals, &[1, 2, 3, 4, 5]), None, "two of five");
        assert_eq!(tree(&refusals, &[1, 3]), None, "one is no voter");
        refusals.taken(3, 4);
        assert_eq!(
            tree(&refusals, &[1, 2, 3]),
            Some(vec![2, 3]),
            "only what was before"
        );
        refusals.taken(3, 5);
        assert_eq!(tree(&refusals, &[1, 2, 3]), None, "taken after all");
    }
}
