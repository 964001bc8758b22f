//! Answers that there is a later term, while this node leads. One peer's word is no reason to stop leading: a peer that lies would
//! depose each leader in its first millisecond, and nothing would ever be decided. A leader that there is says so itself, and shows
//! that it was elected ([`super::elections`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// After so long a single peer is believed: it may have voted in a later term, and follows nobody in this one.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two elections for the word of the same peer.
const AGAIN: Duration = Duration::from_secs(60);

/// Who has answered so, and when.
#[derive(Debug, Default)]
pub struct HigherVotes(Mutex<Heard>);

#[derive(Debug, Default)]
struct Heard {
    /// The term that this node leads.
    term: u64,
    /// When each peer has first said that there is a later one.
    since: BTreeMap<u64, Instant>,
    /// When each peer was believed last.
    believed: BTreeMap<u64, Instant>,
}

impl HigherVotes {
    /// True if this node steps back from a term because of a peer's answer: it hears of no quorum any more, without those who say so
    /// there is none of the members, or this one has said so for long.
    pub(super) fn believes(
        &self,
        peer: u64,
        term: u64,
        members: &BTreeSet<u64>,
        is_in_touch: bool,
    ) -> bool {
        let now = Instant::now();
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.term != term {
            heard.term = term;
            heard.since.clear();
        }
        let first = *heard.since.entry(peer).or_insert(now);
        let others = members.iter().filter(|id| !heard.since.contains_key(id));
        if !is_in_touch || others.count() <= members.len() / 2 {
            return true;
        }
        let lately = heard.believed.get(&peer);
        let is_patient = now.duration_since(first) >= PATIENCE;
        if !is_patient || lately.is_some_and(|at| now.duration_since(*at) < AGAIN) {
            return false;
        }
        heard.believed.insert(peer, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(count: u64) -> BTreeSet<u64> {
        (1..=count).collect()
    }

    #[test]
    fn a_leader_steps_back_when_it_has_no_quorum_without_those_who_say_so() {
        let heard = HigherVotes::default();
        let five = members(5);
        assert!(!heard.believes(4, 7, &five, true));
        assert!(!heard.believes(4, 7, &five, true), "the same one again");
        assert!(!heard.believes(5, 7, &five, true), "two of five");
        assert!(!heard.believes(9, 7, &five, true), "no member");
        assert!(heard.believes(3, 7, &five, true), "three of five");
        assert!(!heard.believes(3, 8, &five, true), "another term");
        assert!(heard.believes(3, 8, &five, false), "it hears of no quorum");
        assert!(
            heard.believes(2, 9, &members(2), true),
            "nothing without it"
        );
    }

    #[test]
    fn one_peer_is_believed_after_a_while_and_not_soon_again() {
        let heard = HigherVotes::default();
        let three = members(3);
        let waits = |heard: &HigherVotes, by: Duration| {
            let mut heard = heard.0.lock().unwrap();
            let heard = &mut *heard;
            for at in heard.since.values_mut().chain(heard.believed.values_mut()) {
                *at = at.checked_sub(by).unwrap();
            }
        };
        assert!(!heard.believes(2, 7, &three, true));
        waits(&heard, PATIENCE);
        assert!(heard.believes(2, 7, &three, true));
        assert!(!heard.believes(2, 8, &three, true));
        waits(&heard, PATIENCE);
        assert!(
            !heard.believes(2, 8, &three, true),
            "it was believed lately"
        );
        waits(&heard, AGAIN);
        assert!(heard.believes(2, 8, &three, true));
    }
}
