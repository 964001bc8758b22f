//! What a lying node knows: the log as a follower has it, who leads, and what it has promised. It keeps its promises about the log, because
//! nothing in a cluster whose quorum is a majority could stop one that does not (decision 0018).

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ledger_core::hash::{Hash, TreeSize};
use ledger_core::note::checkpoint::Checkpoint;
use ledger_core::note::signed_note::Note;
use ledger_proto::peer::v1 as wire;
use ledger_proto::v1;
use prost::Message as _;
use tokio::sync::watch;

/// Most things of a kind that are remembered.
const REMEMBERED: usize = 64;

/// A log entry's name, in the order in which logs are compared.
fn order(id: Option<wire::LogId>) -> Option<(u64, u64)> {
    id.map(|id| (id.term, id.index))
}

/// The log: entries by index, without gaps.
#[derive(Debug, Clone, Default)]
pub(super) struct Log(BTreeMap<u64, wire::LogEntry>);

impl Log {
    pub(super) const fn new(entries: BTreeMap<u64, wire::LogEntry>) -> Self {
        Self(entries)
    }

    /// The name of the last entry.
    pub(super) fn last(&self) -> Option<wire::LogId> {
        self.0.last_key_value().and_then(|(_, entry)| entry.log_id)
    }

    /// The name of the entry at an index.
    pub(super) fn id_at(&self, index: u64) -> Option<wire::LogId> {
        self.0.get(&index).and_then(|entry| entry.log_id)
    }

    /// The entries from an index to another, as far as they are here.
    pub(super) fn range(&self, first: u64, last: u64) -> Vec<wire::LogEntry> {
        if first > last {
            return Vec::new();
        }
        let entries = self.0.range(first..=last);
        entries.map(|(_, entry)| entry.clone()).collect()
    }

    /// True if a leader's entries fit behind this one.
    fn has(&self, previous: Option<wire::LogId>) -> bool {
        let first = self.0.first_key_value().map_or(0, |(index, _)| *index);
        previous.is_none_or(|id| id.index < first || self.id_at(id.index) == Some(id))
    }

    /// Puts an entry in its place; what was there and behind it goes.
    pub(super) fn put(&mut self, entry: wire::LogEntry) {
        let Some(id) = entry.log_id else { return };
        if self.id_at(id.index) != Some(id) {
            self.0.split_off(&id.index);
            self.0.insert(id.index, entry);
        }
    }
}

/// What a good follower says to an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// The log fits up to here.
    Matched(Option<wire::LogId>),
    /// The entry before the first does not fit.
    Conflict(wire::LogId),
    /// There is a later vote.
    Later(wire::Vote),
}

/// What was heard from honest nodes.
#[derive(Debug, Default)]
pub(super) struct Knowledge {
    /// The vote of the leader that wrote last.
    pub(super) vote: wire::Vote,
    /// Its own vote.
    pub(super) voted: wire::Vote,
    /// The last election that it won, and the votes for it, signed.
    pub(super) won: wire::Vote,
    pub(super) election: Vec<wire::VoteGrant>,
    /// The log.
    pub(super) log: Log,
    /// The last entry of the log.
    pub(super) last: Option<wire::LogId>,
    /// The last entry that it has said to have, which it votes and stands by.
    pub(super) promised: Option<wire::LogId>,
    /// What is committed.
    pub(super) committed: Option<wire::LogId>,
    /// The newest checkpoints, the newest last.
    pub(super) notes: VecDeque<String>,
    /// The largest checkpoint.
    pub(super) tip: Option<(TreeSize, Hash)>,
    /// What honest nodes have forwarded to it as their leader.
    pub(super) queue: VecDeque<v1::Submission>,
    /// It leads.
    pub(super) leads: bool,
    /// As a leader it says that what was committed long ago is what is committed.
    pub(super) tells_old: bool,
}

/// Knowledge that all parts of a lying node share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    knowledge: Arc<Mutex<Knowledge>>,
    /// The leader that hands over to this node.
    pub(super) transfer: watch::Sender<wire::Vote>,
}

impl Shared {
    pub(super) fn new(log: Log, vote: wire::Vote, applied: u64) -> Self {
        let knowledge = Knowledge {
            vote,
            voted: vote,
            last: log.last(),
            promised: log.last(),
            committed: log.id_at(applied),
            log,
            ..Knowledge::default()
        };
        Self {
            knowledge: Arc::new(Mutex::new(knowledge)),
            transfer: watch::Sender::default(),
        }
    }

    /// The knowledge.
    pub(super) fn lock(&self) -> MutexGuard<'_, Knowledge> {
        self.knowledge
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Knowledge {
    /// Takes what a leader appends, as a good follower does.
    pub(super) fn hear_append(&mut self, request: &wire::AppendRequest) -> Heard {
        let vote = request.vote.unwrap_or_default();
        if vote.term < self.voted.term {
            return Heard::Later(self.voted);
        }
        self.hear_vote(&vote);
        self.voted = vote;
        if !self.log.has(request.previous) {
            return Heard::Conflict(request.previous.unwrap_or_default());
        }
        for entry in &request.entries {
            self.log.put(entry.clone());
        }
        self.last = self.log.last();
        let newest = request.entries.last().and_then(|entry| entry.log_id);
        let end = newest.or(request.previous);
        if order(request.committed.min_by_index(end)) > order(self.committed) {
            self.committed = request.committed.min_by_index(end);
        }
        self.promises(end);
        Heard::Matched(end)
    }

    /// It has said that it has an entry.
    pub(super) fn promises(&mut self, end: Option<wire::LogId>) {
        if order(end) > order(self.promised) {
            self.promised = end;
        }
    }

    /// True if it has all that it has said to have.
    pub(super) fn may_stand(&self) -> bool {
        order(self.last) >= order(self.promised)
    }

    /// Puts an entry of its own at the end of its log.
    pub(super) fn appends(&mut self, entry: wire::LogEntry) {
        self.log.put(entry);
        self.last = self.log.last();
        self.promises(self.last);
    }

    /// Learns of a vote.
    pub(super) fn hear_vote(&mut self, vote: &wire::Vote) {
        let key = |vote: &wire::Vote| (vote.term, vote.committed, vote.node_id);
        if key(vote) > key(&self.vote) {
            self.vote = *vote;
        }
    }

    /// What a good follower would say to a candidate.
    pub(super) fn would_vote(&self, request: &wire::VoteRequest) -> bool {
        let candidate = request.vote.unwrap_or_default();
        let later = candidate.term > self.voted.term.max(self.vote.term);
        let again = candidate == self.voted;
        (later || again)
            && order(request.last_log_id) >= order(self.promised.max_by_order(self.last))
    }

    /// Learns of a checkpoint that an honest node signed.
    pub(super) fn hear_note(&mut self, note: &str) {
        let parsed = Note::parse(note.as_bytes()).ok();
        let Some(checkpoint) = parsed.and_then(|note| Checkpoint::parse(note.text()).ok()) else {
            return;
        };
        let tip = (checkpoint.size(), checkpoint.root());
        if self.tip.is_none_or(|known| known.0 < tip.0) {
            self.tip = Some(tip);
        }
        self.notes.push_back(note.to_owned());
        if self.notes.len() > REMEMBERED {
            self.notes.pop_front();
        }
    }

    /// A submission that was in the log.
    pub(super) fn submission(&self, number: u64) -> Option<v1::Submission> {
        let last = self.last.map_or(0, |id| id.index);
        let newest = self.log.range(last.saturating_sub(REMEMBERED as u64), last);
        let batches = newest.into_iter().filter_map(|entry| match entry.payload {
            Some(wire::log_entry::Payload::Batch(bytes)) => v1::Batch::decode(bytes).ok(),
            _ => None,
        });
        let all: Vec<_> = batches.flat_map(|batch| batch.submissions).collect();
        let which = usize::try_from(number).ok()? % all.len().max(1);
        all.into_iter().nth(which)
    }
}

/// Comparisons of what may be no entry at all.
trait Ends {
    fn min_by_index(self, other: Self) -> Self;
    fn max_by_order(self, other: Self) -> Self;
}

impl Ends for Option<wire::LogId> {
    fn min_by_index(self, other: Self) -> Self {
        if self.map(|id| id.index) <= other.map(|id| id.index) {
            self
        } else {
            other
        }
    }

    fn max_by_order(self, other: Self) -> Self {
        if order(self) >= order(other) {
            self
        } else {
            other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(term: u64, index: u64) -> wire::LogId {
        wire::LogId { term, index }
    }

    fn append(previous: Option<wire::LogId>, ids: &[(u64, u64)], term: u64) -> wire::AppendRequest {
        let entries = ids.iter().map(|(term, index)| wire::LogEntry {
            log_id: Some(id(*term, *index)),
            payload: Some(wire::log_entry::Payload::Blank(true)),
        });
        wire::AppendRequest {
            vote: Some(wire::Vote {
                term,
                node_id: 1,
                committed: true,
            }),
            previous,
            entries: entries.collect(),
            ..wire::AppendRequest::default()
        }
    }

    #[test]
    fn it_follows_as_a_good_follower_does_and_keeps_its_word() {
        let shared = Shared::new(Log::default(), wire::Vote::default(), 0);
        let mut known = shared.lock();
        let first = append(None, &[(1, 0), (1, 1), (1, 2)], 1);
        assert_eq!(known.hear_append(&first), Heard::Matched(Some(id(1, 2))));
        let gap = append(Some(id(1, 5)), &[(1, 6)], 1);
        assert_eq!(known.hear_append(&gap), Heard::Conflict(id(1, 5)));
        let rewritten = append(Some(id(1, 0)), &[(2, 1)], 2);
        assert_eq!(
            known.hear_append(&rewritten),
            Heard::Matched(Some(id(2, 1)))
        );
        assert_eq!(known.last, Some(id(2, 1)));
        assert!(matches!(known.hear_append(&first), Heard::Later(_)));
        let stands = |term, last| wire::VoteRequest {
            vote: Some(wire::Vote {
                term,
                node_id: 2,
                committed: false,
            }),
            last_log_id: Some(last),
            ..wire::VoteRequest::default()
        };
        assert!(known.would_vote(&stands(3, id(2, 1))));
        assert!(!known.would_vote(&stands(2, id(2, 1))), "it follows there");
        assert!(!known.would_vote(&stands(3, id(1, 2))), "a shorter log");
        known.promises(Some(id(2, 7)));
        assert!(!known.may_stand(), "it has said to have more than it has");
        assert!(!known.would_vote(&stands(3, id(2, 1))));
    }
}
