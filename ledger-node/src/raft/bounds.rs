//! Bounds of the numbers that peers say. openraft takes a peer's word for terms and log indexes, keeps them for good, and counts on
//! from them: a number near the end of 64 bits would leave no room to count.

use super::types::{LogId, Vote};

/// Most elections that can have gone by since this node last heard of one. Elections of a cluster that finds no leader are at
/// least the shortest election timeout apart, half a second: a million of them take six days without a decision. Whoever sends
/// such terms without end needs 2^42 messages, each answered after a sync of the disk, before [`MAX_TERM`] is reached: at a
/// thousand a second, 139 years.
pub const MAX_TERM_JUMP: u64 = 1 << 20;
/// No term is greater, so that all of them can be counted on from.
pub const MAX_TERM: u64 = 1 << 62;
/// No log index is greater: a million entries a second for 285 years.
pub const MAX_LOG_INDEX: u64 = 1 << 53;

/// The greatest term that a peer may name. `own` is this node's; one that has never heard of an election has no measure but the end.
#[must_use]
pub const fn greatest_term(own: u64) -> u64 {
    if own == 0 {
        return MAX_TERM;
    }
    let greatest = own.saturating_add(MAX_TERM_JUMP);
    if greatest < MAX_TERM {
        greatest
    } else {
        MAX_TERM
    }
}

/// True if elections can have led from this node's term to the vote's.
#[must_use]
pub const fn is_near(vote: &Vote, own: u64) -> bool {
    vote.leader_id.term <= greatest_term(own)
}

/// True if the log entry can exist in a term.
#[must_use]
pub fn is_of_term(id: &LogId, term: u64) -> bool {
    id.index() <= MAX_LOG_INDEX && id.committed_leader_id().term <= term
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::types::Term;

    #[test]
    fn a_term_can_be_counted_on_from_however_it_was_reached() {
        let vote = |term: u64| Vote::new(term, 2);
        for own in [1, 7, MAX_TERM - 1, MAX_TERM, u64::MAX] {
            let greatest = greatest_term(own);
            assert!(greatest <= MAX_TERM);
            assert!(is_near(&vote(greatest), own));
            assert!(!is_near(&vote(greatest + 1), own));
            assert!(!is_near(&vote(u64::MAX), own));
        }
        assert!(is_near(&vote(1 << 40), 0), "a node that begins");
        assert!(!is_near(&vote(1 << 40), 1));
        assert!(!is_near(&vote(u64::MAX), 0));
    }

    #[test]
    fn a_log_entry_is_of_a_term_up_to_the_vote_and_can_be_followed() {
        let id = |term: u64, index: u64| LogId::new(Term { term }, index);
        assert!(is_of_term(&id(3, MAX_LOG_INDEX), 3));
        assert!(!is_of_term(&id(3, MAX_LOG_INDEX + 1), 3));
        assert!(!is_of_term(&id(4, 0), 3));
    }
}
