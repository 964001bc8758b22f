//! Appends on their way to openraft: each is checked against what this node knows, and the first that does not pass ends the stream
//! with an answer that says why.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use ledger_core::machine::Tip;
use ledger_proto::peer::v1 as wire;
use openraft::raft::{AppendEntriesRequest, StreamAppendError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::validation::{
    LedgerView, RaftView, Received, Refusal, check_batches, check_names, read_append,
};
use crate::apply::boundaries::Boundaries;
use crate::apply::suspicion::Suspicion;
use crate::raft::Raft;
use crate::raft::peers::Peers;
use crate::raft::types::{self, Types};
use crate::seldom::Seldom;

/// Between two words on appends that are refused: their leader sends them again and again.
const SAY_AGAIN: Duration = Duration::from_secs(60);
/// Longest reason that a leader is told, in characters: at most four times as many bytes.
const MAX_REASON_LEN: usize = 256;

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
    /// When each unanswered request was sent, by the leader's clock.
    sent_us: VecDeque<u64>,
    /// What ended the stream, and when that request was sent.
    refusal: Option<(Refusal, u64)>,
}

/// One stream of a leader.
struct Incoming {
    way: Appends,
    from: u64,
    messages: Streaming<wire::AppendRequest>,
    shared: Arc<Mutex<Shared>>,
    /// The latest time of a batch that came on this stream.
    latest_us: u64,
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
        };
        let requests = futures_util::stream::unfold(incoming, |mut incoming| async move {
            let request = incoming.next().await?;
            Some((request, incoming))
        })
        .take_until(self.ended.clone().cancelled_owned());
        let (peers, results) = (Arc::clone(&self.peers), Arc::clone(&shared));
        let answers = self.raft.stream_append(requests).map(move |result| {
            let result = result.map_err(super::service::fatal)?;
            let sent_at_us = lock(&results).sent_us.pop_front().unwrap_or_default();
            Ok(wire::AppendResponse {
                result: Some(match result {
                    Ok(last) => wire::append_response::Result::Matched(wire::Matched {
                        last: last.as_ref().map(types::log_id_to_wire),
                    }),
                    Err(StreamAppendError::Conflict(id)) => {
                        wire::append_response::Result::Conflict(types::log_id_to_wire(&id))
                    }
                    Err(StreamAppendError::HigherVote(vote)) => {
                        wire::append_response::Result::HigherVote(types::vote_to_wire(&vote))
                    }
                }),
                sent_at_us,
                clock_us: peers.now_us(),
            })
        });
        let peers = Arc::clone(&self.peers);
        let last = futures_util::stream::once(async move {
            let (refusal, sent_at_us) = lock(&shared).refusal.take()?;
            Some(Ok(wire::AppendResponse {
                result: Some(wire::append_response::Result::Refused(to_wire(refusal))),
                sent_at_us,
                clock_us: peers.now_us(),
            }))
        });
        Box::pin(answers.chain(last.filter_map(std::future::ready)))
    }
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
        let message = self.messages.message().await.ok()??;
        let sent_at_us = message.sent_at_us;
        let peers = &self.way.peers;
        peers.clocks.hear(self.from, sent_at_us, peers.now_us());
        match self.pass(message).await? {
            Ok(received) => {
                lock(&self.shared).sent_us.push_back(sent_at_us);
                Some(received.request)
            }
            Err(refusal) => {
                if self.way.refused.may_say() {
                    tracing::error!(
                        node_id = self.from,
                        log_index = refusal.log_index,
                        check = refusal.check.as_str_name(),
                        reason = %refusal,
                        "what a leader sends for the log is refused, and nothing of it is kept; if this goes on, run fsck on that node and look at both clocks"
                    );
                }
                lock(&self.shared).refusal = Some((refusal, sent_at_us));
                None
            }
        }
    }

    /// Checks one append; none if openraft has ended.
    async fn pass(&mut self, message: wire::AppendRequest) -> Option<Result<Received, Refusal>> {
        let received = match read_append(message) {
            Ok(received) => received,
            Err(refusal) => return Some(Err(refusal)),
        };
        let from = self.from;
        // openraft's own state, after all requests before this one.
        let looked = self.way.raft.with_raft_state(move |state| {
            let log_id_at = |index: u64| state.log_ids.get(index);
            let known = RaftView {
                vote: *state.vote_ref(),
                committed: state.local_committed().copied(),
                membership: *state.membership_state.effective().log_id(),
                log_id_at: &log_id_at,
            };
            let passed = check_names(&received.request, from, &known);
            passed.map(|()| (received, known.committed, known.vote))
        });
        let (received, committed, vote) = match looked.await.ok()? {
            Ok(passed) => passed,
            Err(refusal) => return Some(Err(refusal)),
        };
        let term = received.request.vote.leader_id.term;
        self.way.peers.leaders.note(term, from);
        if self.way.suspicion.forbids(from, term) {
            let reason = "this node has found a batch of this leader to be wrong, and follows it no more in this term";
            return Some(Err(Refusal {
                check: wire::AppendCheck::PriorTree,
                log_index: 0,
                reason: reason.to_owned(),
            }));
        }
        let known = LedgerView {
            now_us: self.way.peers.now_us(),
            latest_us: self.latest_us.max(self.way.tip.borrow().time_us),
            committed,
            boundaries: &self.way.boundaries,
        };
        match check_batches(&received, &known) {
            Ok(latest_us) => self.latest_us = latest_us,
            Err(refusal) => return Some(Err(refusal)),
        }
        // A leader of the past may not know that it is one.
        if received.has_quorum && received.request.vote >= vote {
            self.way.peers.note_leader();
        }
        Some(Ok(received))
    }
}
