//! What an append must pass before openraft sees it. openraft takes a leader's word for terms, for the names of log entries and for
//! what they hold, and some of what it takes for granted it asserts. Here each of them is checked against what this node knows
//! itself, so that a leader that is damaged, lies or has a wrong clock is refused by name, stops nobody, and leaves nothing in the log.

mod commits;

use std::fmt;

use bytes::Bytes;
use ledger_core::canonical;
use ledger_core::hash::{Hash, TreeSize};
use ledger_core::limits::{
    MAX_BATCH_LEN, MAX_BATCH_SUBMISSIONS, MAX_NODES, MAX_SUBMISSION_LEN, MAX_TIME_US, MAX_VALUE_LEN,
};
use ledger_proto::peer::v1 as wire;
use ledger_proto::peer::v1::AppendCheck as Check;
use ledger_proto::v1;
use openraft::raft::AppendEntriesRequest;
use openraft::{EntryPayload, Membership};
use prost::Message;

use self::commits::said_committed;
use crate::apply::boundaries::Boundaries;
use crate::raft::adjustment::adjusted_at;
use crate::raft::bounds::{MAX_LOG_INDEX, is_near, is_of_term};
use crate::raft::types::{self, LogId, Peer, Types, Vote};
use times::{check_adjustments, check_clock, check_progress};

/// Most entries of one append: what a leader sends is cut at 256.
const MAX_ENTRIES: usize = 1_024;

/// What was not passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The check.
    pub(super) check: Check,
    /// The log entry that did not pass; 0 if it is the request as a whole.
    pub(super) log_index: u64,
    /// One sentence.
    pub(super) reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

pub(super) fn refuse(check: Check, log_index: u64, reason: impl fmt::Display) -> Refusal {
    Refusal {
        check,
        log_index,
        reason: reason.to_string(),
    }
}

/// What a batch says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BatchHead {
    /// The log entry that holds it.
    pub(super) id: LogId,
    /// Its time, microseconds since 1970.
    pub(super) time_us: u64,
    /// The size of the proposer's tree.
    pub(super) prior_size: TreeSize,
    /// Its root.
    pub(super) prior_root: Hash,
    /// When those of its submissions were made that adjust the ledger's time.
    pub(super) adjusted_at_us: Vec<u64>,
    /// True if it holds nothing else.
    pub(super) only_adjusts: bool,
}

/// An append that can be read, and what the leader says beside it.
#[derive(Debug)]
pub(super) struct Received {
    /// For openraft.
    pub(super) request: AppendEntriesRequest<Types>,
    /// The heads of its batches, in order.
    pub(super) batches: Vec<BatchHead>,
    /// The leader has heard of a quorum lately.
    pub(super) has_quorum: bool,
}

/// Reads an append: everything in it has its form and is within its limits.
pub(super) fn read_append(message: wire::AppendRequest) -> Result<Received, Refusal> {
    let form = |what: &str| refuse(Check::Form, 0, what);
    let vote = message
        .vote
        .ok_or_else(|| form("an append without a vote"))?;
    if message.entries.len() > MAX_ENTRIES {
        let what = format!("more than {MAX_ENTRIES} log entries in one append");
        return Err(refuse(Check::Limit, 0, what));
    }
    let mut batches = Vec::new();
    let mut entries = Vec::new();
    for mut entry in message.entries {
        let index = entry.log_id.as_ref().map_or(0, |id| id.index);
        let refused = |error: std::io::Error| refuse(Check::Form, index, error);
        if let Some(wire::log_entry::Payload::Batch(bytes)) = &mut entry.payload {
            // The log's tail keeps entries for long, and a part of the buffer that they came in would keep all of it.
            *bytes = Bytes::copy_from_slice(bytes);
        }
        let entry = types::entry(entry).map_err(refused)?;
        match &entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Normal(proposal) => batches.push(read_batch(entry.log_id, &proposal.0)?),
            EntryPayload::Membership(membership) => check_membership(index, membership)?,
        }
        entries.push(entry);
    }
    Ok(Received {
        request: AppendEntriesRequest {
            vote: types::vote(&vote),
            prev_log_id: message.previous.as_ref().map(types::log_id),
            entries,
            leader_commit: message.committed.as_ref().map(types::log_id),
        },
        batches,
        has_quorum: message.has_quorum,
    })
}

/// Reads the head of a batch that is within its limits. Once committed, a batch that cannot be read would stop every replica, at
/// each start again.
fn read_batch(id: LogId, bytes: &[u8]) -> Result<BatchHead, Refusal> {
    let index = id.index();
    let batch: v1::Batch = canonical::decode(bytes, MAX_BATCH_LEN)
        .map_err(|error| refuse(Check::Form, index, format!("a batch: {error}")))?;
    let limit = |what: String| Err(refuse(Check::Limit, index, what));
    if !(1..=MAX_BATCH_SUBMISSIONS).contains(&batch.submissions.len()) {
        return limit(format!(
            "a batch of {} submissions",
            batch.submissions.len()
        ));
    }
    let longest = batch.submissions.iter().map(Message::encoded_len).max();
    if longest > Some(MAX_SUBMISSION_LEN) {
        return limit(format!(
            "a submission longer than {MAX_SUBMISSION_LEN} bytes"
        ));
    }
    if batch.time_us > MAX_TIME_US {
        return limit(format!("a batch of the time {}", batch.time_us));
    }
    let prior_root = Hash::from_slice(&batch.prior_root)
        .ok_or_else(|| refuse(Check::Form, index, "a batch whose prior root is no hash"))?;
    let adjusted_at_us: Vec<u64> = batch.submissions.iter().filter_map(adjusted_at).collect();
    Ok(BatchHead {
        id,
        time_us: batch.time_us,
        prior_size: TreeSize(batch.prior_size),
        prior_root,
        only_adjusts: adjusted_at_us.len() == batch.submissions.len(),
        adjusted_at_us,
    })
}

/// Checks that a membership names voters, not more than a ledger has nodes on both sides of a change, and where each is reached.
pub(crate) fn check_membership(
    index: u64,
    membership: &Membership<u64, Peer>,
) -> Result<(), Refusal> {
    let sets = membership.get_joint_config();
    let sound = (1..=2).contains(&sets.len())
        && sets.iter().all(|set| (1..=MAX_NODES).contains(&set.len()))
        && membership.nodes().count() <= 2 * MAX_NODES
        && membership.nodes().all(|(id, peer)| {
            *id != 0 && !peer.address.is_empty() && peer.address.len() <= MAX_VALUE_LEN
        });
    if sound {
        return Ok(());
    }
    let what = "a membership without voters, with more than a ledger can have, or with one that cannot be reached";
    Err(refuse(Check::Membership, index, what))
}

/// What this node's Raft knows.
pub(super) struct RaftView<'v> {
    /// Its vote.
    pub(super) vote: Vote,
    /// The end of what is committed here.
    pub(super) committed: Option<LogId>,
    /// The log entry of the newest membership here.
    pub(super) membership: Option<LogId>,
    /// The names of the log's entries.
    pub(super) log_id_at: &'v dyn Fn(u64) -> Option<LogId>,
}

/// Checks the vote and the names of log entries against what this node's Raft knows. Returns the end of what the leader says is
/// committed, in words or by what it sends, as far as openraft may take it.
pub(super) fn check_names(
    request: &AppendEntriesRequest<Types>,
    from: u64,
    known: &RaftView<'_>,
) -> Result<Option<LogId>, Refusal> {
    check_vote(&request.vote, from, known.vote.leader_id.term)?;
    check_order(request)?;
    check_committed(request, known)?;
    let said = said_committed(request, known)?;
    let said = check_memberships(request, known, said)?;
    // A leader that this node does not follow any more has nothing to say.
    Ok(said.filter(|_| request.vote >= known.vote))
}

/// A leader appends with its own vote, which a quorum gave it.
fn check_vote(vote: &Vote, from: u64, own_term: u64) -> Result<(), Refusal> {
    let refused = |what: String| Err(refuse(Check::Vote, 0, what));
    if !vote.committed {
        return refused("an append of a candidate, not of a leader".to_owned());
    }
    if vote.leader_id.voted_for != from {
        let of = vote.leader_id.voted_for;
        return refused(format!("an append in the name of node {of}"));
    }
    if !is_near(vote, own_term) {
        let term = vote.leader_id.term;
        return refused(format!(
            "no elections can have led from this node's term {own_term} to term {term}"
        ));
    }
    Ok(())
}

/// Entries follow the one before them and each other, their terms do not go back, and none is later than the leader's.
fn check_order(request: &AppendEntriesRequest<Types>) -> Result<(), Refusal> {
    let term = request.vote.leader_id.term;
    let mut before = request.prev_log_id;
    for id in request.prev_log_id.iter().chain(&request.leader_commit) {
        if !is_of_term(id, term) {
            let what = format!("the log id {id} cannot be of term {term}");
            return Err(refuse(Check::LogId, id.index(), what));
        }
    }
    for entry in &request.entries {
        let id = entry.log_id;
        let follows = match before {
            Some(before) => {
                Some(id.index()) == before.index().checked_add(1)
                    && id.committed_leader_id() >= before.committed_leader_id()
            }
            None => id.index() == 0,
        };
        if !follows || !is_of_term(&id, term) || id.index() > MAX_LOG_INDEX {
            let what = format!(
                "entries with gaps: the log id {id} does not follow, or is not of a term up to {term}"
            );
            return Err(refuse(Check::LogId, id.index(), what));
        }
        before = Some(id);
    }
    Ok(())
}

/// What is committed here is not taken back, nor followed by entries of earlier terms.
fn check_committed(
    request: &AppendEntriesRequest<Types>,
    known: &RaftView<'_>,
) -> Result<(), Refusal> {
    let Some(committed) = known.committed else {
        return Ok(());
    };
    let ids = request.entries.iter().map(|entry| entry.log_id);
    let held = request
        .prev_log_id
        .into_iter()
        .chain(ids)
        .take_while(|id| id.index() <= committed.index());
    for id in held {
        let own = (known.log_id_at)(id.index());
        // What was purged was committed in an earlier term.
        let fits = own.map_or_else(|| id <= committed, |own| own == id);
        if !fits {
            let what = format!("the log id {id} contradicts what is committed here");
            return Err(refuse(Check::LogId, id.index(), what));
        }
    }
    Ok(())
}

/// A leader changes the membership again only once the change before is committed: a replica can go back by one. A leader that has taken over
/// between two changes has both, and may not have heard yet that the first is committed; nor can it commit anything before others have
/// the second. So a second change of an earlier term says that the one before it is committed, as `leader_commit` would.
fn check_memberships(
    request: &AppendEntriesRequest<Types>,
    known: &RaftView<'_>,
    mut said: Option<LogId>,
) -> Result<Option<LogId>, Refusal> {
    let Some(first) = request.entries.first() else {
        return Ok(said);
    };
    let term = request.vote.leader_id.term;
    let newest = known
        .membership
        .filter(|id| id.index() < first.log_id.index());
    let changes = request.entries.iter().filter_map(|entry| {
        matches!(entry.payload, EntryPayload::Membership(_)).then_some(entry.log_id)
    });
    let mut before = newest;
    for id in changes {
        if before > known.committed.max(said) {
            if id.committed_leader_id().term >= term {
                let what = "a change of the membership before the last one is committed";
                return Err(refuse(Check::Membership, id.index(), what));
            }
            said = before;
        }
        before = Some(id);
    }
    Ok(said)
}

/// What else this node knows.
pub(super) struct LedgerView<'v> {
    /// Its clock, microseconds since 1970.
    pub(super) now_us: u64,
    /// The latest time known of the ledger: the last entry's, or what a batch on its way here leads to.
    pub(super) latest_us: u64,
    /// How far the ledger's time is ahead of clocks here.
    pub(super) time_offset_us: u64,
    /// The end of what is committed here.
    pub(super) committed: Option<LogId>,
    /// The trees that it had.
    pub(super) boundaries: &'v Boundaries,
}

/// Checks the times of batches against this node's clock, and the proposer's tree against this node's. Returns the ledger's latest time.
pub(super) fn check_batches(received: &Received, known: &LedgerView<'_>) -> Result<u64, Refusal> {
    let request = &received.request;
    let mut latest_us = known.latest_us;
    // The names of others are those of entries that are here.
    let new = |batch: &&BatchHead| Some(batch.id.index()) > known.committed.map(|id| id.index());
    for batch in received.batches.iter().filter(new) {
        let index = batch.id.index();
        let entry_us = batch.time_us.saturating_add(known.time_offset_us);
        check_clock(batch, known.now_us)
            .and_then(|()| check_adjustments(batch, latest_us, known))
            .and_then(|()| check_progress(batch, entry_us, latest_us))
            .map_err(|reason| refuse(Check::Time, index, reason))?;
        latest_us = latest_us.max(entry_us);
        // A leader must send what others proposed before it as it finds it, and what is committed must be applied: the applier
        // decides about those.
        let is_own = batch.id.committed_leader_id().term == request.vote.leader_id.term;
        let is_open = Some(index) > request.leader_commit.map(|id| id.index());
        let ours = known.boundaries.root_at(batch.prior_size);
        if is_own && is_open && ours.is_some_and(|ours| ours != batch.prior_root) {
            let what = format!(
                "the proposer has another tree of size {} than this node",
                batch.prior_size
            );
            return Err(refuse(Check::PriorTree, index, what));
        }
    }
    Ok(latest_us)
}

#[cfg(test)]
mod tests;
mod times;
