//! How requests are cut, and answered.

use std::collections::BTreeMap;

use openraft::Membership;

use super::*;
use crate::raft::types::{Entry, LogId, Peer, Term, Vote};

/// Entries after index 4: a change of the membership for each true.
fn request(changes: &[bool]) -> AppendEntriesRequest<Types> {
    let id = |index: u64| LogId::new(Term { term: 3 }, index);
    let peers = BTreeMap::from([(1, Peer::default())]);
    let membership = Membership::new(vec![[1].into()], peers).unwrap();
    let entries = (5..).zip(changes).map(|(index, changes)| Entry {
        log_id: id(index),
        payload: if *changes {
            EntryPayload::Membership(membership.clone())
        } else {
            EntryPayload::Blank
        },
    });
    AppendEntriesRequest {
        vote: Vote::new_committed(3, 2),
        prev_log_id: Some(id(4)),
        entries: entries.collect(),
        leader_commit: Some(id(9)),
    }
}

#[test]
fn a_request_is_cut_before_each_change_of_the_membership_and_loses_nothing() {
    for (changes, lens) in [
        (&[][..], &[0][..]),
        (&[false, false], &[2]),
        (&[true], &[1]),
        (&[true, false], &[2]),
        (&[false, true, false, true], &[1, 2, 1]),
        (&[true, true], &[1, 1]),
    ] {
        let whole = request(changes);
        let parts = cut(request(changes));
        let found: Vec<usize> = parts
            .iter()
            .map(|part| part.request.entries.len())
            .collect();
        assert_eq!(found, lens, "{changes:?}");
        let mut previous = whole.prev_log_id;
        for part in &parts {
            assert_eq!(part.request.prev_log_id, previous);
            assert_eq!(part.request.leader_commit, whole.leader_commit);
            assert!(!part.request.entries.iter().skip(1).any(changes_members));
            let last = part.request.entries.last();
            previous = last.map_or(previous, |entry| Some(entry.log_id));
        }
        let continues: Vec<bool> = parts.iter().map(|part| part.continues).collect();
        assert_eq!(continues.last(), Some(&false));
        assert_eq!(
            continues.iter().filter(|continues| **continues).count(),
            lens.len() - 1
        );
        let entries = parts.into_iter().flat_map(|part| part.request.entries);
        assert_eq!(entries.collect::<Vec<_>>(), whole.entries);
    }
}

#[test]
fn a_leader_is_answered_once_for_a_request() {
    let of = |continues| Unanswered {
        sent_at_us: 7,
        continues,
    };
    let id = LogId::new(Term { term: 3 }, 5);
    assert!(
        to_answer(Ok(Some(id)), of(true), 9).is_none(),
        "more follows"
    );
    let answer = to_answer(Ok(Some(id)), of(false), 9).unwrap();
    assert_eq!((answer.sent_at_us, answer.clock_us), (7, 9));
    let conflict = Err(StreamAppendError::Conflict(id));
    assert!(
        to_answer(conflict, of(true), 9).is_some(),
        "nothing follows"
    );
}
