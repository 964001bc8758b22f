//! openraft's side of talking to peers: votes, appends, leadership transfer and snapshots over the cached connections.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use ledger_proto::peer::v1 as wire;
use openraft::OptionalSend;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
    RaftNetworkFactory,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};

use super::answers::{
    Sent, append_result, has_kept, has_refused_election, near, network_error, rpc_error,
    unreachable,
};
use super::machine::RaftSnapshot;
use super::peers::{PeerClient, Peers, Purpose};
use super::snapshot_dir::SnapshotDir;
use super::types::{self, Peer, Types, Vote};
use crate::fatal::{Fatal, Guard};
use crate::worker::{self, Worker};

/// Least time that a short call may take; openraft's own limit can be less.
const MIN_TTL: Duration = Duration::from_millis(400);

/// How long an answer to a candidate that there is a later term waits for those of the others.
const LATER_TERM_WAITS: Duration = Duration::from_millis(150);

type StreamOf<'s, T> = Pin<Box<dyn Stream<Item = T> + Send + 's>>;
/// Results of appends, one by one.
type AppendResults<'s> = StreamOf<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>;
type FutureOf<'s, T> = Pin<Box<dyn Future<Output = T> + Send + 's>>;

/// Makes openraft's clients.
#[derive(Debug, Clone)]
pub struct Network {
    /// The peers.
    pub peers: Arc<Peers>,
    /// Stops the node.
    pub fatal: Fatal,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, node: &Peer) -> Connection {
        self.connection(target, node, Purpose::Log)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Peer) -> Connection {
        self.connection(target, node, Purpose::Heartbeat)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &Peer) -> Connection {
        self.connection(target, node, Purpose::Snapshot)
    }
}

impl Network {
    fn connection(&self, to: u64, peer: &Peer, purpose: Purpose) -> Connection {
        Connection {
            peers: Arc::clone(&self.peers),
            to,
            address: peer.address.clone(),
            purpose,
            _guard: self.fatal.guard(Worker::RaftConnection),
        }
    }
}

/// One of openraft's clients.
#[derive(Debug)]
pub struct Connection {
    pub(super) peers: Arc<Peers>,
    pub(super) to: u64,
    address: String,
    purpose: Purpose,
    /// openraft's tasks hold connections, and do not say that they have panicked.
    _guard: Guard,
}

impl Connection {
    pub(super) fn client(&self) -> Result<PeerClient, RPCError<Types>> {
        worker::strike(Worker::RaftConnection);
        self.peers
            .client(self.to, &self.address, self.purpose)
            .map_err(|error| RPCError::Unreachable(Unreachable::new(&error)))
    }

    async fn ask_for_vote(
        &self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
        rehearsal: bool,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let sent_at_us = self.peers.now_us();
        let message = wire::VoteRequest {
            vote: Some(types::vote_to_wire(&rpc.vote)),
            last_log_id: rpc.last_log_id.as_ref().map(types::log_id_to_wire),
            leadership_transfer: rpc.leadership_transfer,
            sent_at_us,
        };
        let mut client = self.client()?;
        let mut request = self.peers.request(self.to, message);
        request.set_timeout(option.hard_ttl().max(MIN_TTL));
        let answer = if rehearsal {
            client.pre_vote(request).await
        } else {
            client.vote(request).await
        };
        let answer = answer.map_err(|status| rpc_error(&status))?.into_inner();
        let clocks = &self.peers.clocks;
        clocks.record(self.to, sent_at_us, answer.clock_us, self.peers.now_us());
        let vote = answer
            .vote
            .ok_or_else(|| network_error("an answer without a vote"))?;
        if vote.term > rpc.vote.leader_id.term {
            // It would end the election at once, and one peer's word must not come before the votes of the others.
            tokio::time::sleep(LATER_TERM_WAITS).await;
        }
        let mut vote_granted = answer.granted;
        if answer.granted && !rehearsal {
            self.peers.memory.note_granted(self.to, &rpc.vote);
            // Nobody would follow a leader for a vote that it cannot show.
            vote_granted = self.peers.keep_vote(self.to, &rpc.vote, &answer.signature);
        }
        Ok(VoteResponse {
            vote: near(&vote, rpc.vote.leader_id.term).map_err(|status| rpc_error(&status))?,
            vote_granted,
            last_log_id: answer.last_log_id.as_ref().map(types::log_id),
        })
    }
}

impl NetBackoff<Types> for Connection {
    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(Duration::from_millis(200))))
    }
}

impl NetVote<Types> for Connection {
    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_for_vote(rpc, option, false).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_for_vote(rpc, option, true).await
    }
}

impl NetTransferLeader<Types> for Connection {
    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        self.peers
            .transfer
            .note(*req.from_leader(), *req.to_node_id());
        let message = wire::TransferLeaderRequest {
            from: Some(types::vote_to_wire(req.from_leader())),
            to: *req.to_node_id(),
            last_log_id: req.last_log_id().map(types::log_id_to_wire),
        };
        let mut request = self.peers.request(self.to, message);
        request.set_timeout(option.hard_ttl().max(MIN_TTL));
        let answer = self.client()?.transfer_leader(request).await;
        let refused = answer
            .map_err(|status| rpc_error(&status))?
            .into_inner()
            .refused;
        if refused.is_empty() {
            Ok(Ok(()))
        } else {
            Err(network_error(refused))
        }
    }
}

/// The appends that are not answered yet.
type Unanswered = Arc<Mutex<VecDeque<Sent>>>;

impl NetStreamAppend<Types> for Connection {
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> FutureOf<'s, Result<AppendResults<'s>, RPCError<Types>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            let mut input = input;
            // openraft backs off inside the stream of its requests, so a peer that is down must not be dialled before the first of
            // them is there.
            let Some(first) = input.next().await else {
                let nothing: AppendResults<'s> = Box::pin(futures_util::stream::empty());
                return Ok(nothing);
            };
            let term = first.vote.leader_id.term;
            let unanswered: Unanswered = Arc::default();
            let sending = Arc::clone(&unanswered);
            let clock = Arc::clone(&self.peers);
            // Once a stream: whoever follows a leader already does not look again.
            let mut election = self.peers.election(&first.vote);
            let requests = futures_util::stream::iter([first])
                .chain(input)
                .map(move |request| {
                    let mut sent = sending.lock().unwrap_or_else(PoisonError::into_inner);
                    sent.push_back(Sent::now(&request));
                    wire::AppendRequest {
                        election: std::mem::take(&mut election),
                        ..append_to_wire(&request, clock.now_us(), clock.has_quorum())
                    }
                });
            let patience = option.hard_ttl().max(MIN_TTL);
            let request = self.peers.request(self.to, requests);
            let opened = tokio::time::timeout(patience, async {
                self.client()?
                    .append(request)
                    .await
                    .map_err(|status| rpc_error(&status))
            });
            let answers = opened
                .await
                .map_err(|_| unreachable("the peer does not take the log stream in time"))??
                .into_inner();
            let peers = (Arc::clone(&self.peers), self.to, self.address.clone());
            let state = (answers, unanswered, peers, false);
            let results = futures_util::stream::unfold(state, move |state| async move {
                let (mut answers, unanswered, (peers, to, address), ended) = state;
                if ended {
                    return None;
                }
                let result = match next_in_time(&mut answers, &unanswered, patience).await? {
                    Ok((sent, answer)) => {
                        let clocks = &peers.clocks;
                        clocks.record(to, answer.sent_at_us, answer.clock_us, peers.now_us());
                        if has_refused_election(&answer) {
                            peers.offer_trust_steps(to, &address);
                        }
                        let result = append_result(&peers, to, term, &sent, answer);
                        has_kept(&peers, to, term, &result).and(result)
                    }
                    Err(error) => Err(error),
                };
                let ended = !matches!(result, Ok(Ok(_)));
                let peers = (peers, to, address);
                Some((result, (answers, unanswered, peers, ended)))
            });
            let results: AppendResults<'s> = Box::pin(results);
            Ok(results)
        })
    }
}

/// The next answer. An idle stream is normal; one that owes an answer for too long is broken, and says so nowhere else.
async fn next_in_time(
    answers: &mut tonic::Streaming<wire::AppendResponse>,
    unanswered: &Unanswered,
    patience: Duration,
) -> Option<Result<(Sent, wire::AppendResponse), RPCError<Types>>> {
    loop {
        if let Ok(next) = tokio::time::timeout(patience / 2, answers.next()).await {
            let mut sent = unanswered.lock().unwrap_or_else(PoisonError::into_inner);
            let sent = sent.pop_front();
            return next.map(|answer| {
                let answer = answer.map_err(|status| rpc_error(&status))?;
                let sent = sent.ok_or_else(|| network_error("an answer to nothing"))?;
                Ok((sent, answer))
            });
        }
        let oldest = {
            let sent = unanswered.lock().unwrap_or_else(PoisonError::into_inner);
            sent.front().copied()
        };
        if oldest.is_some_and(|sent| sent.at.elapsed() > patience) {
            return Some(Err(unreachable(
                "the peer owes an answer on the log stream",
            )));
        }
    }
}

fn append_to_wire(
    request: &AppendEntriesRequest<Types>,
    sent_at_us: u64,
    has_quorum: bool,
) -> wire::AppendRequest {
    wire::AppendRequest {
        vote: Some(types::vote_to_wire(&request.vote)),
        previous: request.prev_log_id.as_ref().map(types::log_id_to_wire),
        entries: request.entries.iter().map(types::entry_to_wire).collect(),
        committed: request.leader_commit.as_ref().map(types::log_id_to_wire),
        sent_at_us,
        has_quorum,
        election: Vec::new(),
    }
}

impl NetSnapshot<Types> for Connection {
    type SnapshotData = Arc<SnapshotDir>;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: RaftSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(&vote, &snapshot.snapshot) => sent,
        }
    }
}
