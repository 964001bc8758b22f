//! Appends on their way to openraft: each is checked against what this node knows, and the first that does not pass ends the stream
//! with an answer that says why.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use ledger_core::machine::Tip;
use ledger_proto::peer::v1 as wire;
use openraft::EntryPayload;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::member_changes::{LedgerNodes, check_change};
use super::validation::{
    LedgerView, RaftView, Received, Refusal, check_batches, check_names, read_append, refuse,
};
use crate::apply::boundaries::Boundaries;
use crate::apply::suspicion::Suspicion;
use crate::raft::Raft;
use crate::raft::peers::Peers;
use crate::raft::proposers::PriorTree;
use crate::raft::types::{self, Types};
use crate::seldom::Seldom;
use crate::storage::Store;
use crate::storage::view::StoreState;

/// Between two words on appends that are refused: their leader sends them again and again.
const SAY_AGAIN: Duration = Duration::from_secs(60);
/// Longest reason that a leader is told, in characters: at most four times as many bytes.
const MAX_REASON_LEN: usize = 256;

/// How long an append waits until this node has applied what was committed before a change of the membership: a leader waits a little
/// longer, and then sends again.
const APPLY_PATIENCE: Duration = Duration::from_millis(300);

type Answers = Pin<Box<dyn Stream<Item = Result<wire::AppendResponse, Status>> + Send>>;

/// The way of appends to openraft. Clones are the same way.
#[derive(Debug, Clone)]
pub struct Appends {
    /// openraft.
    pub raft: Raft,
    /// Who this node is, and its clock.
    pub peers: Arc<Peers>,
    /// The end of the ledger here.
    pub tip: watch::Receiver<Tip>,
    /// The ledger's records of its nodes.
    pub store: Arc<dyn Store>,
    /// The trees that this node had.
    pub boundaries: Arc<Boundaries>,
    /// Whether this node doubts its tree.
    pub suspicion: Arc<Suspicion>,
    /// When appends of a leader were last said to be refused.
    pub refused: Arc<Seldom>,
    /// Ends the streams of peers, which never end by themselves.
    pub ended: CancellationToken,
}

/// For [`Appends::refused`].
#[must_use]
pub fn refusals() -> Arc<Seldom> {
    Arc::new(Seldom::new(SAY_AGAIN))
}

/// What one stream shares between its requests and its answers.
#[derive(Debug, Default)]
struct Shared {
    /// What openraft has not answered yet.
    unanswered: VecDeque<Unanswered>,
    /// What ended the stream, and when that request was sent.
    end: Option<(End, u64)>,
}

/// A request, or a part of one, that openraft has not answered yet.
#[derive(Debug, Clone, Copy, Default)]
struct Unanswered {
    /// When the request was sent, by the leader's clock.
    sent_at_us: u64,
    /// More of the request follows, and the leader is answered after that.
    continues: bool,
}

/// Why a stream ends.
#[derive(Debug)]
enum End {
    /// The leader sends what it must not send.
    Refused(Refusal),
    /// This node cannot judge yet what the leader sends.
    TooEarly(&'static str),
}

/// A request for openraft, or the part of one that begins with a change of the membership.
#[derive(Debug)]
struct Part {
    request: AppendEntriesRequest<Types>,
    continues: bool,
}

/// One stream of a leader.
struct Incoming {
    way: Appends,
    from: u64,
    messages: Streaming<wire::AppendRequest>,
    shared: Arc<Mutex<Shared>>,
    /// The latest time of a batch that came on this stream.
    latest_us: u64,
    /// The rest of the newest request, and when that was sent.
    parts: VecDeque<Part>,
    sent_at_us: u64,
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Appends {
    /// Answers a stream of appends.
    pub(super) fn answers(&self, from: u64, messages: Streaming<wire::AppendRequest>) -> Answers {
        let shared: Arc<Mutex<Shared>> = Arc::default();
        let incoming = Incoming {
            way: self.clone(),
            from,
            messages,
            shared: Arc::clone(&shared),
            latest_us: 0,
            parts: VecDeque::new(),
            sent_at_us: 0,
        };
        let requests = futures_util::stream::unfold(incoming, |mut incoming| async move {
            let request = incoming.next().await?;
            Some((request, incoming))
        })
        .take_until(self.ended.clone().cancelled_owned());
        let (peers, results) = (Arc::clone(&self.peers), Arc::clone(&shared));
        let answers = self.raft.stream_append(requests).filter_map(move |result| {
            let of = lock(&results).unanswered.pop_front().unwrap_or_default();
            let answer = result.map_err(super::service::fatal);
            let answer = answer.map(|result| to_answer(result, of, peers.now_us()));
            std::future::ready(answer.transpose())
        });
        let peers = Arc::clone(&self.peers);
        let last = futures_util::stream::once(async move {
            let (end, sent_at_us) = lock(&shared).end.take()?;
            Some(match end {
                End::Refused(refusal) => Ok(wire::AppendResponse {
                    result: Some(wire::append_response::Result::Refused(to_wire(refusal))),
                    sent_at_us,
                    clock_us: peers.now_us(),
                }),
                End::TooEarly(why) => Err(Status::unavailable(why)),
            })
        });
        Box::pin(answers.chain(last.filter_map(std::future::ready)))
    }
}

/// What openraft says to a request, for the leader; none if it has said yes to a part of it.
fn to_answer(
    result: StreamAppendResult<Types>,
    of: Unanswered,
    clock_us: u64,
) -> Option<wire::AppendResponse> {
    use wire::append_response::Result as Answer;
    let result = match result {
        Ok(_) if of.continues => return None,
        Ok(last) => Answer::Matched(wire::Matched {
            last: last.as_ref().map(types::log_id_to_wire),
        }),
        Err(StreamAppendError::Conflict(id)) => Answer::Conflict(types::log_id_to_wire(&id)),
        Err(StreamAppendError::HigherVote(vote)) => Answer::HigherVote(types::vote_to_wire(&vote)),
    };
    Some(wire::AppendResponse {
        result: Some(result),
        sent_at_us: of.sent_at_us,
        clock_us,
    })
}

fn changes_members(entry: &types::Entry) -> bool {
    matches!(entry.payload, EntryPayload::Membership(_))
}

/// Cuts a request before each change of the membership: it can be judged once openraft has what is before it.
fn cut(request: AppendEntriesRequest<Types>) -> VecDeque<Part> {
    let after = |previous: Option<types::LogId>| AppendEntriesRequest {
        vote: request.vote,
        prev_log_id: previous,
        entries: Vec::new(),
        leader_commit: request.leader_commit,
    };
    let mut parts = VecDeque::new();
    let mut part: AppendEntriesRequest<Types> = after(request.prev_log_id);
    for entry in request.entries {
        if changes_members(&entry)
            && let Some(last) = part.entries.last()
        {
            let next = after(Some(last.log_id));
            parts.push_back(Part {
                request: std::mem::replace(&mut part, next),
                continues: true,
            });
        }
        part.entries.push(entry);
    }
    parts.push_back(Part {
        request: part,
        continues: false,
    });
    parts
}

fn to_wire(refusal: Refusal) -> wire::RefusedAppend {
    let reason = refusal.reason.chars().take(MAX_REASON_LEN).collect();
    wire::RefusedAppend {
        check: refusal.check.into(),
        log_index: refusal.log_index,
        reason,
    }
}

impl Incoming {
    /// The next request that passes; none once one has not, or the stream has ended.
    async fn next(&mut self) -> Option<AppendEntriesRequest<Types>> {
        let passed = self.next_part().await?;
        match passed {
            Ok(part) => {
                lock(&self.shared).unanswered.push_back(Unanswered {
                    sent_at_us: self.sent_at_us,
                    continues: part.continues,
                });
                Some(part.request)
            }
            Err(end) => {
                if let End::Refused(refusal) = &end
                    && self.way.refused.may_say()
                {
                    tracing::error!(
                        node_id = self.from,
                        log_index = refusal.log_index,
                        check = refusal.check.as_str_name(),
                        reason = %refusal,
                        "what a leader sends for the log is refused, and nothing of it is kept; if this goes on, run fsck on that node and look at both clocks"
                    );
                }
                lock(&self.shared).end = Some((end, self.sent_at_us));
                None
            }
        }
    }

    /// The next part of a request; none if the stream or openraft has ended.
    async fn next_part(&mut self) -> Option<Result<Part, End>> {
        if self.parts.is_empty() {
            let message = self.messages.message().await.ok()??;
            self.sent_at_us = message.sent_at_us;
            let peers = &self.way.peers;
            peers
                .clocks
                .hear(self.from, message.sent_at_us, peers.now_us());
            match self.pass(message).await? {
                Ok(received) => self.parts = cut(received.request),
                Err(refusal) => return Some(Err(End::Refused(refusal))),
            }
        }
        let part = self.parts.pop_front()?;
        Some(match self.check_members(&part.request).await? {
            Ok(()) => Ok(part),
            Err(end) => Err(end),
        })
    }

    /// Checks the change of the membership with which a part begins, if it does; none if openraft has ended.
    async fn check_members(&self, part: &AppendEntriesRequest<Types>) -> Option<Result<(), End>> {
        let Some(first) = part.entries.first() else {
            return Some(Ok(()));
        };
        let EntryPayload::Membership(change) = &first.payload else {
            return Some(Ok(()));
        };
        let id = first.log_id;
        // A leader has applied what its ledger says before it changes the membership.
        let committed = part.leader_commit.map(|id| id.index());
        if let Some(upto) = committed.min(id.index().checked_sub(1)) {
            let applied = self.way.raft.wait(Some(APPLY_PATIENCE));
            let applied = applied.applied_index_at_least(Some(upto), "what was before it");
            if applied.await.is_err() {
                let why = "this node has not applied yet what comes before a change of the membership; send it again";
                return Some(Err(End::TooEarly(why)));
            }
        }
        let before = self.way.raft.with_raft_state(move |state| {
            let committed = state.local_committed().map(|id| id.index());
            if Some(id.index()) <= committed || state.log_ids.get(id.index()) == Some(id) {
                // It is here, and was checked when it came.
                return None;
            }
            let known = &state.membership_state;
            let is_before = |at: &Option<types::LogId>| at.is_none_or(|at| at.index() < id.index());
            let newest = Some(known.effective()).filter(|newest| is_before(newest.log_id()));
            let newest = newest.unwrap_or_else(|| known.committed());
            Some(newest.membership().clone())
        });
        let Some(before) = before.await.ok()? else {
            return Some(Ok(()));
        };
        let latest_us = self.way.tip.borrow().time_us;
        let known = tokio::task::block_in_place(|| {
            LedgerNodes::read(&StoreState(&*self.way.store), latest_us)
        });
        let Ok(known) = known else {
            return Some(Err(End::TooEarly("this node cannot read its ledger")));
        };
        Some(check_change(id.index(), change, &before, &known).map_err(End::Refused))
    }

    /// Checks one append; none if openraft has ended.
    async fn pass(
        &mut self,
        mut message: wire::AppendRequest,
    ) -> Option<Result<Received, Refusal>> {
        let shown = std::mem::take(&mut message.election);
        let mut received = match read_append(message) {
            Ok(received) => received,
            Err(refusal) => return Some(Err(refusal)),
        };
        let from = self.from;
        // openraft's own state, after all requests before this one.
        let looked = self.way.raft.with_raft_state(move |state| {
            let log_id_at = |index: u64| state.log_ids.get(index);
            let newest = state.membership_state.effective();
            let known = RaftView {
                vote: *state.vote_ref(),
                committed: state.local_committed().copied(),
                membership: *newest.log_id(),
                log_id_at: &log_id_at,
            };
            let passed = check_names(&received.request, from, &known);
            let is_new = received.request.vote.partial_cmp(&known.vote);
            let is_new = is_new.is_none_or(Ordering::is_gt);
            let voters = is_new.then(|| newest.membership().get_joint_config().clone());
            passed.map(|leader_commit| {
                received.request.leader_commit = leader_commit;
                (received, known.committed, known.vote, voters)
            })
        });
        let (received, committed, vote, voters) = match looked.await.ok()? {
            Ok(passed) => passed,
            Err(refusal) => return Some(Err(refusal)),
        };
        if let Some(voters) = voters {
            let theirs = &received.request.vote;
            let elected = self.way.peers.check_election(theirs, &shown, &voters);
            if let Err(why) = elected {
                return Some(Err(refuse(wire::AppendCheck::Vote, 0, why)));
            }
        }
        let term = received.request.vote.leader_id.term;
        if self.way.suspicion.forbids(from, term) {
            let reason = "this node has found a batch of this leader to be wrong, and follows it no more in this term";
            return Some(Err(Refusal {
                check: wire::AppendCheck::PriorTree,
                log_index: 0,
                reason: reason.to_owned(),
            }));
        }
        let tip = *self.way.tip.borrow();
        let known = LedgerView {
            now_us: self.way.peers.now_us(),
            latest_us: self.latest_us.max(tip.time_us),
            time_offset_us: tip.time_offset_us,
            committed,
            boundaries: &self.way.boundaries,
        };
        match check_batches(&received, &known) {
            Ok(latest_us) => self.latest_us = latest_us,
            Err(refusal) => return Some(Err(refusal)),
        }
        for batch in &received.batches {
            let (size, root) = (batch.prior_size, batch.prior_root);
            let on = PriorTree { size, root };
            self.way.peers.proposers.note_sent(from, term, batch.id, on);
        }
        // A leader of the past may not know that it is one.
        if received.has_quorum && received.request.vote >= vote {
            self.way.peers.note_leader();
        }
        Some(Ok(received))
    }
}

#[cfg(test)]
mod tests;
