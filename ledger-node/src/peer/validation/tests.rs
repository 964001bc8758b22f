//! What passes validation and what does not, and a search for what should not have passed.

use std::collections::{BTreeMap, BTreeSet};

use ledger_core::batch::BatchBuilder;
use openraft::EntryPayload;
use proptest::prelude::*;

use super::times::{MAX_AHEAD_US, MAX_BACK_US};
use super::*;
use crate::raft::bounds::MAX_TERM_JUMP;
use crate::raft::types::{Entry, Proposal, Term};

mod ahead;
mod commits;

const SECOND: u64 = 1_000_000;
/// This node's clock.
const NOW: u64 = 1_000 * SECOND;
/// The leader.
const LEADER: u64 = 2;

fn id(term: u64, index: u64) -> LogId {
    LogId::new(Term { term }, index)
}

fn root(byte: u8) -> Hash {
    Hash::from_bytes([byte; 32])
}

fn batch_bytes(time_us: u64, size: u64, prior: Hash) -> Vec<u8> {
    let mut batch = BatchBuilder::new(time_us, size, prior.as_bytes());
    batch.push(v1::Submission::default()).unwrap();
    batch.finish().encode_to_vec()
}

fn batch(term: u64, index: u64, time_us: u64, prior: u8) -> wire::LogEntry {
    let bytes = batch_bytes(time_us, 10, root(prior));
    wire::LogEntry {
        log_id: Some(wire::LogId { term, index }),
        payload: Some(wire::log_entry::Payload::Batch(bytes.into())),
    }
}

fn append(
    term: u64,
    previous: Option<(u64, u64)>,
    entries: Vec<wire::LogEntry>,
) -> wire::AppendRequest {
    wire::AppendRequest {
        vote: Some(wire::Vote {
            term,
            node_id: LEADER,
            committed: true,
        }),
        previous: previous.map(|(term, index)| wire::LogId { term, index }),
        entries,
        ..wire::AppendRequest::default()
    }
}

/// A replica of term 5 whose log is 1: (1,0), 2: (3,1)…(3,4), 3: (5,5)…(5,8), committed up to (5,6).
fn log() -> BTreeMap<u64, LogId> {
    (0..=8)
        .map(|index| {
            let term = if index == 0 {
                1
            } else if index < 5 {
                3
            } else {
                5
            };
            (index, id(term, index))
        })
        .collect()
}

/// What becomes of an append at that replica, whose ledger had the tree with the root 7…7 at 10.
fn passes(message: wire::AppendRequest) -> Result<u64, Refusal> {
    passes_at(message, NOW - SECOND, 0)
}

/// The same where the ledger has come to this time, and is so far ahead of clocks.
fn passes_at(
    message: wire::AppendRequest,
    latest_us: u64,
    time_offset_us: u64,
) -> Result<u64, Refusal> {
    let received = read_append(message)?;
    let log = log();
    let log_id_at = |index: u64| log.get(&index).copied();
    let known = RaftView {
        vote: Vote::new_committed(5, LEADER),
        committed: Some(id(5, 6)),
        membership: Some(id(1, 0)),
        log_id_at: &log_id_at,
    };
    check_names(&received.request, LEADER, &known)?;
    let boundaries = Boundaries::default();
    boundaries.begin_at(TreeSize(10), root(7));
    let known = LedgerView {
        now_us: NOW,
        latest_us,
        time_offset_us,
        committed: known.committed,
        boundaries: &boundaries,
    };
    check_batches(&received, &known)
}

fn refused(message: wire::AppendRequest) -> Check {
    passes(message).expect_err("refused").check
}

#[test]
fn what_a_sound_leader_sends_passes() {
    let good = || batch(5, 9, NOW, 7);
    assert_eq!(passes(append(5, Some((5, 8)), vec![good()])), Ok(NOW));
    assert!(passes(append(5, Some((5, 8)), Vec::new())).is_ok());
    assert!(passes(append(5, None, Vec::new())).is_ok(), "a heartbeat");
    assert!(passes(append(6, Some((5, 8)), vec![batch(6, 9, NOW, 7)])).is_ok());
    // It sends again what is here already, however old it is.
    let again = vec![batch(5, 6, SECOND, 1), batch(5, 7, NOW, 7)];
    assert!(passes(append(5, Some((5, 5)), again)).is_ok());
    // Another log behind what is committed is a matter of Raft.
    assert!(passes(append(7, Some((6, 7)), vec![batch(7, 8, NOW, 7)])).is_ok());
    assert!(passes(append(5, Some((5, 90)), vec![batch(5, 91, NOW, 7)])).is_ok());
    let ahead = NOW + MAX_AHEAD_US;
    assert_eq!(
        passes(append(5, Some((5, 8)), vec![batch(5, 9, ahead, 7)])),
        Ok(ahead)
    );
}

#[test]
fn a_vote_that_is_not_the_senders_or_that_no_election_gave_is_refused() {
    for (term, node_id, committed) in [
        (5, LEADER, false),
        (5, 3, true),
        (5 + MAX_TERM_JUMP + 1, LEADER, true),
        (u64::MAX, LEADER, true),
    ] {
        let mut message = append(5, Some((5, 8)), Vec::new());
        message.vote = Some(wire::Vote {
            term,
            node_id,
            committed,
        });
        assert_eq!(
            refused(message),
            Check::Vote,
            "{term} {node_id} {committed}"
        );
    }
    let mut nameless = append(5, None, Vec::new());
    nameless.vote = None;
    assert_eq!(refused(nameless), Check::Form);
}

#[test]
fn names_that_do_not_follow_or_contradict_what_is_committed_are_refused() {
    let entry = |term: u64, index: u64| batch(term, index, NOW, 7);
    for (previous, entries) in [
        (Some((5, 8)), vec![entry(5, 10)]),
        (Some((5, 8)), vec![entry(4, 9)]),
        (Some((5, 8)), vec![entry(6, 9)]),
        (Some((6, 8)), vec![]),
        (None, vec![entry(5, 1)]),
        // Another entry where one is committed.
        (Some((4, 6)), vec![]),
        (Some((3, 4)), vec![entry(4, 5)]),
        (Some((3, 6)), vec![entry(3, 7)]),
        (Some((5, u64::MAX)), vec![entry(5, 0)]),
        (Some((5, MAX_LOG_INDEX)), vec![entry(5, MAX_LOG_INDEX + 1)]),
    ] {
        let message = append(5, previous, entries);
        assert_eq!(refused(message.clone()), Check::LogId, "{message:?}");
    }
    for committed in [(6, 8), (5, u64::MAX)] {
        let mut message = append(5, Some((5, 8)), Vec::new());
        let (term, index) = committed;
        message.committed = Some(wire::LogId { term, index });
        assert_eq!(refused(message), Check::LogId, "{committed:?}");
    }
}

#[test]
fn a_time_that_this_nodes_clock_has_not_come_to_is_refused() {
    let dated = |time_us: u64| append(5, Some((5, 8)), vec![batch(5, 9, time_us, 7)]);
    assert_eq!(refused(dated(NOW + MAX_AHEAD_US + 1)), Check::Time);
    assert_eq!(refused(dated(NOW + 61 * SECOND)), Check::Time);
    assert_eq!(refused(dated(NOW - SECOND - MAX_BACK_US - 1)), Check::Time);
    assert!(passes(dated(NOW - SECOND - MAX_BACK_US)).is_ok());
    // Also if the leader says that it is committed: nobody else says so.
    let mut committed = dated(NOW + 61 * SECOND);
    committed.committed = Some(wire::LogId { term: 5, index: 9 });
    assert_eq!(refused(committed), Check::Time);
    let back = vec![batch(5, 9, NOW, 7), batch(5, 10, NOW - 11 * SECOND, 7)];
    let found = passes(append(5, Some((5, 8)), back)).unwrap_err();
    assert_eq!((found.check, found.log_index), (Check::Time, 10));
}

#[test]
fn a_proposer_with_another_tree_is_refused_where_the_tree_is_known() {
    let other = |term: u64| append(5, Some((5, 8)), vec![batch(term, 9, NOW, 8)]);
    assert_eq!(refused(other(5)), Check::PriorTree);
    let mut unknown = append(5, Some((5, 8)), Vec::new());
    let bytes = batch_bytes(NOW, 11, root(8));
    let mut entry = batch(5, 9, NOW, 8);
    entry.payload = Some(wire::log_entry::Payload::Batch(bytes.into()));
    unknown.entries = vec![entry];
    assert!(passes(unknown).is_ok(), "this node has no tree of 11 yet");
    // The leader after the one that proposed it can do nothing about it.
    let mut inherited = other(5);
    inherited.vote = Some(wire::Vote {
        term: 6,
        node_id: LEADER,
        committed: true,
    });
    assert!(passes(inherited).is_ok());
}

#[test]
fn batches_out_of_form_or_out_of_bounds_are_refused() {
    let with = |bytes: Vec<u8>| {
        let mut entry = batch(5, 9, NOW, 7);
        entry.payload = Some(wire::log_entry::Payload::Batch(bytes.into()));
        append(5, Some((5, 8)), vec![entry])
    };
    assert_eq!(refused(with(vec![0xff])), Check::Form);
    let mut padded = batch_bytes(NOW, 10, root(7));
    padded.extend_from_slice(&[0x08, 0x01]);
    assert_eq!(refused(with(padded)), Check::Form, "a field twice");
    let empty = BatchBuilder::new(NOW, 10, &[7; 32]).finish();
    assert_eq!(refused(with(empty.encode_to_vec())), Check::Limit);
    let mut rootless = v1::Batch::decode(batch_bytes(NOW, 10, root(7)).as_slice()).unwrap();
    rootless.prior_root = vec![7; 31];
    assert_eq!(refused(with(rootless.encode_to_vec())), Check::Form);
    let timeless = batch_bytes(MAX_TIME_US + 1, 10, root(7));
    assert_eq!(refused(with(timeless)), Check::Limit);
    let many = (9..10 + MAX_ENTRIES as u64).map(|index| batch(5, index, NOW, 7));
    assert_eq!(
        refused(append(5, Some((5, 8)), many.collect())),
        Check::Limit
    );
}

fn membership(index: u64, voters: &[&[u64]]) -> wire::LogEntry {
    let all: BTreeSet<u64> = voters.iter().flat_map(|set| set.iter().copied()).collect();
    let peers = all.into_iter().map(|node_id| wire::Peer {
        node_id,
        address: "127.0.0.1:1".to_owned(),
    });
    let message = wire::Membership {
        voters: voters
            .iter()
            .map(|set| wire::VoterSet {
                node_ids: set.to_vec(),
            })
            .collect(),
        peers: peers.collect(),
    };
    wire::LogEntry {
        log_id: Some(wire::LogId { term: 5, index }),
        payload: Some(wire::log_entry::Payload::Membership(message)),
    }
}

#[test]
fn a_membership_without_voters_or_before_its_time_is_refused() {
    let one = |entry| append(5, Some((5, 8)), vec![entry]);
    assert!(passes(one(membership(9, &[&[1, 2], &[1, 2, 3]]))).is_ok());
    for voters in [
        &[][..],
        &[&[][..]][..],
        &[&[1][..], &[2], &[3]],
        &[&[0, 1][..]],
    ] {
        let found = refused(one(membership(9, voters)));
        assert!(
            [Check::Membership, Check::Form].contains(&found),
            "{voters:?}"
        );
    }
    let twice = || vec![membership(9, &[&[1, 2]]), membership(10, &[&[1, 2, 3]])];
    assert_eq!(refused(append(5, Some((5, 8)), twice())), Check::Membership);
    let mut later = append(5, Some((5, 8)), twice());
    later.committed = Some(wire::LogId { term: 5, index: 9 });
    assert!(passes(later).is_ok(), "the first one is committed");
}

/// A leader of term 6 has taken over between the two changes of the leader of term 5, and has not heard that the first is committed.
#[test]
fn a_second_change_that_a_leader_has_taken_over_says_that_the_first_is_committed() {
    let said = |term: u64, entries| taken(append(term, Some((5, 8)), entries));
    let changes = || vec![membership(9, &[&[1, 2]]), membership(10, &[&[1, 2, 3]])];
    assert_eq!(said(6, changes()), Ok(Some(id(5, 9))));
    assert_eq!(said(5, changes()), Err(Check::Membership));
    let heard = said(6, vec![membership(9, &[&[1, 2]])]).unwrap();
    assert!(heard < Some(id(5, 9)), "one change says nothing: {heard:?}");
    let mut own = changes();
    own[1].log_id = Some(wire::LogId { term: 6, index: 10 });
    assert_eq!(said(6, own), Err(Check::Membership));
}

/// What openraft would take from an append of a leader at that replica, which follows the leader of term 5.
fn taken(message: wire::AppendRequest) -> Result<Option<LogId>, Check> {
    let received = read_append(message).unwrap();
    let log = log();
    let known = RaftView {
        vote: Vote::new_committed(5, LEADER),
        committed: Some(id(5, 6)),
        membership: Some(id(1, 0)),
        log_id_at: &|index| log.get(&index).copied(),
    };
    check_names(&received.request, LEADER, &known).map_err(|refusal| refusal.check)
}

proptest! {
    /// Whatever passes keeps openraft's order: no log id beyond the vote, no gap, no other entry where one is committed, and
    /// nothing that cannot be counted on from.
    #[test]
    fn what_passes_can_be_appended(
        term in prop_oneof![0..8_u64, Just(u64::MAX), any::<u64>()],
        previous in proptest::option::of((prop_oneof![0..8_u64, any::<u64>()], prop_oneof![0..12_u64, any::<u64>()])),
        steps in proptest::collection::vec((0..3_u64, 0..3_u64, 0..4_u8), 0..4),
        committed in proptest::option::of((0..8_u64, prop_oneof![0..12_u64, any::<u64>()])),
    ) {
        let (mut at, mut of) = previous.map_or((0, 1), |(of, index)| (index.wrapping_add(1), of));
        let mut entries = Vec::new();
        for (up, gap, kind) in steps {
            of = of.wrapping_add(up.saturating_sub(1));
            at = at.wrapping_add(gap.saturating_sub(1));
            let mut entry = if kind == 0 { membership(at, &[&[1, 2, 3]]) } else { batch(of, at, NOW, 7) };
            entry.log_id = Some(wire::LogId { term: of, index: at });
            entries.push(entry);
            at = at.wrapping_add(1);
        }
        let mut message = append(term, previous, entries);
        message.committed = committed.map(|(term, index)| wire::LogId { term, index });
        let Ok(received) = read_append(message.clone()) else { return Ok(()); };
        let Ok(taken) = taken(message.clone()) else { return Ok(()); };
        if passes(message).is_err() {
            return Ok(());
        }
        let request = received.request;
        let log = log();
        let mut before: Option<LogId> = None;
        let ids: Vec<LogId> = request.prev_log_id.into_iter().chain(request.entries.iter().map(|entry| entry.log_id)).collect();
        for id in &ids {
            prop_assert!(id.index() < u64::MAX && id.committed_leader_id().term <= term);
            prop_assert!(before.is_none_or(|before| before < *id && before.index() + 1 == id.index()));
            prop_assert!(id.index() > 6 || log.get(&id.index()) == Some(id));
            before = Some(*id);
        }
        prop_assert!(term <= 5 + MAX_TERM_JUMP);
        let is_there = |taken: LogId| ids.contains(&taken) || log.get(&taken.index()) == Some(&taken);
        prop_assert!(taken.is_none_or(is_there), "{taken:?} would be committed");
    }
}

#[test]
fn an_entry_is_read_as_it_was_sent() {
    let received = read_append(append(5, Some((5, 8)), vec![batch(5, 9, NOW, 7)])).unwrap();
    let bytes = batch_bytes(NOW, 10, root(7));
    let payload = EntryPayload::Normal(Proposal(bytes.into()));
    let log_id = id(5, 9);
    assert_eq!(received.request.entries, [Entry { log_id, payload }]);
    assert_eq!(received.batches.len(), 1);
}
