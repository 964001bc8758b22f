//! What a lying node has picked up: enough of the truth to lie well.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ledger_core::hash::{Hash, TreeSize};
use ledger_core::note::checkpoint::Checkpoint;
use ledger_core::note::signed_note::Note;
use ledger_proto::peer::v1 as wire;
use ledger_proto::v1;
use prost::Message as _;

/// Most things of a kind that are remembered.
const REMEMBERED: usize = 64;

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
    /// The last entry of the log.
    pub(super) last: Option<wire::LogId>,
    /// What is committed.
    pub(super) committed: Option<wire::LogId>,
    /// The newest entries, the newest last.
    pub(super) entries: VecDeque<wire::LogEntry>,
    /// The newest checkpoints, the newest last.
    pub(super) notes: VecDeque<String>,
    /// The largest checkpoint.
    pub(super) tip: Option<(TreeSize, Hash)>,
}

/// Knowledge that all parts of a lying node share.
#[derive(Debug, Clone, Default)]
pub(super) struct Shared(Arc<Mutex<Knowledge>>);

impl Shared {
    /// The knowledge.
    pub(super) fn lock(&self) -> MutexGuard<'_, Knowledge> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Knowledge {
    /// Learns from what a leader appends. Gives the end of the log that it asks for.
    pub(super) fn hear_append(&mut self, request: &wire::AppendRequest) -> Option<wire::LogId> {
        if let Some(vote) = &request.vote {
            self.hear_vote(vote);
        }
        let newest = request.entries.last().and_then(|entry| entry.log_id);
        let end = newest.or(request.previous);
        let order = |id: Option<wire::LogId>| id.map(|id| (id.term, id.index));
        if order(end) > order(self.last) {
            self.last = end;
        }
        if order(request.committed) > order(self.committed) {
            self.committed = request.committed;
        }
        for entry in &request.entries {
            remember(&mut self.entries, entry.clone());
        }
        end
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
        let order = |id: Option<wire::LogId>| id.map(|id| (id.term, id.index));
        (later || again) && order(request.last_log_id) >= order(self.last)
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
        remember(&mut self.notes, note.to_owned());
    }

    /// A submission that was in the log.
    pub(super) fn submission(&self, number: u64) -> Option<v1::Submission> {
        let batches = self
            .entries
            .iter()
            .filter_map(|entry| match &entry.payload {
                Some(wire::log_entry::Payload::Batch(bytes)) => {
                    v1::Batch::decode(bytes.clone()).ok()
                }
                _ => None,
            });
        let all: Vec<_> = batches.flat_map(|batch| batch.submissions).collect();
        let which = usize::try_from(number).ok()? % all.len().max(1);
        all.into_iter().nth(which)
    }
}

fn remember<T>(list: &mut VecDeque<T>, item: T) {
    list.push_back(item);
    if list.len() > REMEMBERED {
        list.pop_front();
    }
}
