//! Who has proposed which batch. A log entry names only its term, and whoever leads later can put entries under an earlier term into
//! the log. So a node is named only for what it has said itself: in its own stream, in the term in which it leads, or here.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ledger_core::hash::{Hash, TreeSize};

use super::types::LogId;

/// How many claims are remembered, of this node and of others each: more than can be on their way. They take less than 1 MiB.
const MAX_CLAIMS: usize = 4_096;

/// A proposer's claim: the tree on which a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PriorTree {
    /// The size.
    pub size: TreeSize,
    /// The root.
    pub root: Hash,
}

/// Claims that nodes have made themselves since this node started.
#[derive(Debug, Default)]
pub struct Proposers(Mutex<Claims>);

#[derive(Debug, Default)]
struct Claims {
    /// Of leaders, for an entry of the log.
    sent: VecDeque<(LogId, PriorTree, u64)>,
    /// Of this node.
    own: VecDeque<PriorTree>,
}

fn remember<T>(claims: &mut VecDeque<T>, claim: T) {
    while claims.len() >= MAX_CLAIMS {
        claims.pop_front();
    }
    claims.push_back(claim);
}

impl Proposers {
    /// The leader of a term has sent a batch. One of an earlier term it brings as it has found it, or as it likes.
    pub fn note_sent(&self, by: u64, term: u64, id: LogId, on: PriorTree) {
        if id.committed_leader_id().term == term {
            remember(&mut self.lock().sent, (id, on, by));
        }
    }

    /// This node proposes a batch.
    pub fn note_own(&self, on: PriorTree) {
        let mut claims = self.lock();
        if claims.own.back() != Some(&on) {
            remember(&mut claims.own, on);
        }
    }

    /// The node that has said of this entry of the log that it is on this tree.
    #[must_use]
    pub fn of(&self, id: &LogId, on: &PriorTree) -> Option<u64> {
        let claims = self.lock();
        let mut sent = claims.sent.iter();
        let claim = sent.find(|(sent, tree, _)| sent == id && tree == on);
        claim.map(|(_, _, by)| *by)
    }

    /// True if this node has proposed a batch on this tree.
    #[must_use]
    pub fn is_own(&self, on: &PriorTree) -> bool {
        self.lock().own.contains(on)
    }

    fn lock(&self) -> MutexGuard<'_, Claims> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::types::Term;

    fn id(term: u64, index: u64) -> LogId {
        LogId::new(Term { term }, index)
    }

    fn on(size: u64, root: u8) -> PriorTree {
        PriorTree {
            size: TreeSize(size),
            root: Hash::from_bytes([root; 32]),
        }
    }

    #[test]
    fn a_leader_is_named_only_for_the_batch_that_it_has_sent() {
        let proposers = Proposers::default();
        proposers.note_sent(2, 4, id(4, 101), on(10, 1));
        assert_eq!(proposers.of(&id(4, 101), &on(10, 1)), Some(2));
        for (forged, tree) in [
            (id(4, 101), on(10, 9)),
            (id(4, 101), on(11, 1)),
            (id(4, 102), on(10, 1)),
            (id(5, 101), on(10, 1)),
        ] {
            assert_eq!(proposers.of(&forged, &tree), None, "{forged} {tree:?}");
        }
        assert!(!proposers.is_own(&on(10, 1)));
    }

    #[test]
    fn a_later_leader_names_nobody_for_what_it_puts_under_an_earlier_term() {
        let proposers = Proposers::default();
        // Node 3 leads in term 5, and says that this is of the leader before it.
        proposers.note_sent(3, 5, id(4, 101), on(10, 9));
        proposers.note_sent(3, 5, id(5, 102), on(10, 9));
        assert_eq!(proposers.of(&id(4, 101), &on(10, 9)), None);
        assert_eq!(proposers.of(&id(5, 102), &on(10, 9)), Some(3));
    }

    #[test]
    fn this_node_knows_the_trees_that_it_has_proposed_on() {
        let proposers = Proposers::default();
        proposers.note_own(on(10, 1));
        assert!(proposers.is_own(&on(10, 1)));
        assert!(!proposers.is_own(&on(10, 9)));
        assert_eq!(proposers.of(&id(4, 101), &on(10, 1)), None);
    }

    #[test]
    fn the_newest_claims_are_remembered_and_no_more() {
        let proposers = Proposers::default();
        let most = u64::try_from(MAX_CLAIMS).unwrap();
        for index in 0..=most {
            proposers.note_sent(2, 4, id(4, index), on(index, 1));
            proposers.note_own(on(index, 1));
            proposers.note_own(on(index, 1));
        }
        assert_eq!(proposers.of(&id(4, 0), &on(0, 1)), None);
        assert_eq!(proposers.of(&id(4, 1), &on(1, 1)), Some(2));
        assert_eq!(proposers.of(&id(4, most), &on(most, 1)), Some(2));
        assert!(!proposers.is_own(&on(0, 1)));
        assert!(proposers.is_own(&on(1, 1)));
    }
}
