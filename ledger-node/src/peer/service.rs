//! Answering peers. Every call says whom it means and which ledger; what does not fit is refused before anything is read.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use ledger_core::hash::{LeafIndex, TreeSize};
use ledger_proto::peer::v1 as wire;
use ledger_proto::peer::v1::peer_service_server::PeerService;
use openraft::ReadPolicy;
use openraft::async_runtime::WatchReceiver;
use openraft::raft::VoteResponse;
use openraft::storage::Snapshot;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::appends::Appends;
use super::requests::{bad, leader_vote, sender, transfer_request, vote_request};
use super::validation::check_membership;
use crate::cosign::Cosigner;
use crate::fatal::{Fatal, disk};
use crate::ledger::erasure_state;
use crate::raft::Raft;
use crate::raft::bounds::is_of_term;
use crate::raft::hand_over::{hand_over, successor};
use crate::raft::incoming::{Incoming, is_of_disk};
use crate::raft::peers::Peers;
use crate::raft::snapshot::Snapshots;
use crate::raft::types::{self, Types};
use crate::submit::compile::Compiler;
use crate::submit::forward::Receiving;

/// How long a voter is asked to lead, again and again.
const HAND_OVER: Duration = Duration::from_secs(5);

/// The service.
#[derive(Debug, Clone)]
pub struct Service {
    /// openraft.
    pub raft: Raft,
    /// Who this node is.
    pub peers: Arc<Peers>,
    /// Where snapshots arrive.
    pub snapshots: Arc<Snapshots>,
    /// The copy that is being received.
    pub incoming: Arc<tokio::sync::Mutex<Option<Incoming>>>,
    /// Takes forwarded submissions.
    pub receiving: Receiving,
    /// Cosigns.
    pub cosigner: Arc<Cosigner>,
    /// Compiles ahead.
    pub compiler: Arc<Compiler>,
    /// Stops the node.
    pub fatal: Fatal,
    /// Takes appends.
    pub appends: Appends,
    /// Ends the streams of peers, which never end by themselves.
    pub ended: CancellationToken,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

pub(super) fn fatal(error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("this node is stopping: {error}"))
}

/// What the sender of a snapshot is told; this node stops if the failure is its own disk's. Whoever works on files calls this
/// before anybody else learns of the failure: the sender may have hung up, and nobody be there to learn of it.
fn not_received(switch: &Fatal, error: &std::io::Error) -> Status {
    if is_of_disk(error) {
        switch.stop(disk("a snapshot cannot be received", error));
        return fatal(error);
    }
    Status::aborted(error.to_string())
}

#[tonic::async_trait]
impl PeerService for Service {
    type AppendStream = Answers<wire::AppendResponse>;
    type ForwardStream = Answers<wire::ForwardResponse>;

    async fn append(
        &self,
        request: Request<Streaming<wire::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let from = sender(&self.peers, request.metadata())?;
        let answers = self.appends.answers(from, request.into_inner());
        Ok(Response::new(answers))
    }

    async fn vote(
        &self,
        request: Request<wire::VoteRequest>,
    ) -> Result<Response<wire::VoteResponse>, Status> {
        let from = sender(&self.peers, request.metadata())?;
        let message = request.into_inner();
        let clocks = &self.peers.clocks;
        clocks.hear(from, message.sent_at_us, self.peers.now_us());
        let mut rpc = vote_request(&message, from, self.own_term())?;
        // Any candidate can say so.
        rpc.leadership_transfer =
            rpc.leadership_transfer && self.peers.transfer.explains(&rpc.vote).await;
        let answer = self.raft.vote(rpc).await.map_err(fatal)?;
        Ok(Response::new(self.vote_response(&answer)))
    }

    async fn pre_vote(
        &self,
        request: Request<wire::VoteRequest>,
    ) -> Result<Response<wire::VoteResponse>, Status> {
        let from = sender(&self.peers, request.metadata())?;
        let rpc = vote_request(&request.into_inner(), from, self.own_term())?;
        let answer = self.raft.pre_vote(rpc).await.map_err(fatal)?;
        Ok(Response::new(self.vote_response(&answer)))
    }

    async fn transfer_leader(
        &self,
        request: Request<wire::TransferLeaderRequest>,
    ) -> Result<Response<wire::TransferLeaderResponse>, Status> {
        let from = sender(&self.peers, request.metadata())?;
        let rpc = transfer_request(&request.into_inner(), from)?;
        if self.raft.metrics().borrow_watched().vote == *rpc.from_leader() {
            let transfer = &self.peers.transfer;
            transfer.note(*rpc.from_leader(), *rpc.to_node_id());
        }
        let answer = self.raft.handle_transfer_leader(rpc).await.map_err(fatal)?;
        let refused = answer.err().map(|error| error.to_string());
        Ok(Response::new(wire::TransferLeaderResponse {
            refused: refused.unwrap_or_default(),
        }))
    }

    async fn hand_over(
        &self,
        request: Request<wire::HandOverRequest>,
    ) -> Result<Response<wire::HandOverResponse>, Status> {
        sender(&self.peers, request.metadata())?;
        let (raft, to) = (self.raft.clone(), request.into_inner().to);
        if raft.is_leader() {
            successor(&raft, to).map_err(|error| Status::failed_precondition(error.to_string()))?;
        }
        // Whoever asks sees for itself when another one leads.
        tokio::spawn(async move {
            let _ = tokio::time::timeout(HAND_OVER, hand_over(&raft, to)).await;
        });
        Ok(Response::new(wire::HandOverResponse {}))
    }

    async fn offer_snapshot(
        &self,
        request: Request<wire::OfferSnapshotRequest>,
    ) -> Result<Response<wire::OfferSnapshotResponse>, Status> {
        let from = sender(&self.peers, request.metadata())?;
        let message = request.into_inner();
        let theirs = leader_vote(message.vote, from, self.own_term())?;
        let ours = self.raft.metrics().borrow_watched().vote;
        if ours > theirs {
            return Ok(Response::new(wire::OfferSnapshotResponse {
                higher_vote: Some(types::vote_to_wire(&ours)),
                have: Vec::new(),
            }));
        }
        let manifest = message.manifest.ok_or_else(|| bad("no manifest"))?;
        let mut slot = self.incoming.lock().await;
        let incoming = self.snapshots.receive(&manifest);
        let incoming = incoming.map_err(|error| not_received(&self.fatal, &error))?;
        let have = incoming.have();
        let have = have.map_err(|error| not_received(&self.fatal, &error))?;
        *slot = Some(incoming);
        Ok(Response::new(wire::OfferSnapshotResponse {
            higher_vote: None,
            have,
        }))
    }

    async fn send_snapshot(
        &self,
        request: Request<Streaming<wire::SendSnapshotRequest>>,
    ) -> Result<Response<wire::SendSnapshotResponse>, Status> {
        sender(&self.peers, request.metadata())?;
        let incoming = self.incoming.lock().await.clone();
        let incoming = incoming.ok_or_else(|| Status::aborted("no snapshot was offered"))?;
        let mut parts = request.into_inner();
        while let Some(part) = parts.message().await? {
            if part.snapshot != incoming.name() {
                return Err(Status::aborted("another snapshot was offered meanwhile"));
            }
            let (incoming, switch) = (incoming.clone(), self.fatal.clone());
            tokio::task::spawn_blocking(move || {
                let written = incoming.write(part.file, part.offset, &part.bytes);
                written.map_err(|error| not_received(&switch, &error))
            })
            .await
            .map_err(fatal)??;
        }
        Ok(Response::new(wire::SendSnapshotResponse {}))
    }

    async fn install_snapshot(
        &self,
        request: Request<wire::InstallSnapshotRequest>,
    ) -> Result<Response<wire::InstallSnapshotResponse>, Status> {
        let from = sender(&self.peers, request.metadata())?;
        let message = request.into_inner();
        let vote = leader_vote(message.vote, from, self.own_term())?;
        let mut slot = self.incoming.lock().await;
        let incoming = slot
            .take()
            .filter(|incoming| message.snapshot == incoming.name())
            .ok_or_else(|| Status::aborted("this snapshot is not being received"))?;
        let (snapshots, switch) = (Arc::clone(&self.snapshots), self.fatal.clone());
        let complete = tokio::task::spawn_blocking(move || {
            let complete = snapshots.complete(&incoming);
            complete.map_err(|error| not_received(&switch, &error))
        })
        .await
        .map_err(fatal)??;
        let meta = complete.meta().map_err(bad)?;
        let beyond = |id: &types::LogId| !is_of_term(id, vote.leader_id.term);
        if meta.last_log_id.as_ref().is_some_and(beyond) {
            return Err(bad("a snapshot from a later term than its sender's"));
        }
        check_membership(0, meta.last_membership.membership()).map_err(bad)?;
        self.must_extend_committed(meta.last_log_id).await?;
        let snapshot = Snapshot {
            meta,
            snapshot: complete,
        };
        let answer = self
            .raft
            .install_full_snapshot(vote, snapshot)
            .await
            .map_err(fatal)?;
        Ok(Response::new(wire::InstallSnapshotResponse {
            vote: Some(types::vote_to_wire(&answer.vote)),
        }))
    }

    async fn forward(
        &self,
        request: Request<Streaming<wire::ForwardRequest>>,
    ) -> Result<Response<Self::ForwardStream>, Status> {
        sender(&self.peers, request.metadata())?;
        let requests = request
            .into_inner()
            .take_until(self.ended.clone().cancelled_owned());
        let answers = self.receiving.clone().answers(requests);
        Ok(Response::new(Box::pin(answers)))
    }

    async fn read_index(
        &self,
        request: Request<wire::ReadIndexRequest>,
    ) -> Result<Response<wire::ReadIndexResponse>, Status> {
        sender(&self.peers, request.metadata())?;
        let read = self.raft.get_read_log_id(ReadPolicy::ReadIndex).await;
        let committed = read.ok().map(|(id, _)| types::log_id_to_wire(id.log_id()));
        Ok(Response::new(wire::ReadIndexResponse { committed }))
    }

    async fn cosign(
        &self,
        request: Request<wire::CosignRequest>,
    ) -> Result<Response<wire::CosignResponse>, Status> {
        let asked_by = sender(&self.peers, request.metadata())?;
        let checkpoint = request.into_inner().checkpoint;
        let answer = match self.cosigner.cosign(&checkpoint, asked_by).await {
            Ok(signature) => wire::CosignResponse {
                signature,
                refused: String::new(),
            },
            Err(refused) => wire::CosignResponse {
                signature: String::new(),
                refused,
            },
        };
        Ok(Response::new(answer))
    }

    async fn put_checkpoint(
        &self,
        request: Request<wire::PutCheckpointRequest>,
    ) -> Result<Response<wire::PutCheckpointResponse>, Status> {
        sender(&self.peers, request.metadata())?;
        self.cosigner
            .put(&request.into_inner().checkpoint)
            .map_err(bad)?;
        Ok(Response::new(wire::PutCheckpointResponse {}))
    }

    async fn want_checkpoint(
        &self,
        request: Request<wire::WantCheckpointRequest>,
    ) -> Result<Response<wire::WantCheckpointResponse>, Status> {
        sender(&self.peers, request.metadata())?;
        let message = request.into_inner();
        self.cosigner.want(TreeSize(message.tree_size));
        let steps = self.cosigner.steps(&message.lacking_epochs);
        let newest = self.cosigner.latest().borrow().clone();
        Ok(Response::new(wire::WantCheckpointResponse {
            checkpoint: newest.map_or_else(String::new, |newest| newest.note.to_string()),
            steps: steps.map_err(fatal)?,
        }))
    }

    async fn compile_ahead(
        &self,
        request: Request<wire::CompileAheadRequest>,
    ) -> Result<Response<wire::CompileAheadResponse>, Status> {
        sender(&self.peers, request.metadata())?;
        let message = request.into_inner();
        let submission = message.submission.ok_or_else(|| bad("no submission"))?;
        let compiled = self
            .compiler
            .compile(&submission, TreeSize(message.tree_size))
            .await
            .map_err(fatal)?;
        Ok(Response::new(wire::CompileAheadResponse { compiled }))
    }

    async fn get_erasure_state(
        &self,
        request: Request<wire::GetErasureStateRequest>,
    ) -> Result<Response<wire::GetErasureStateResponse>, Status> {
        sender(&self.peers, request.metadata())?;
        let leaf = LeafIndex(request.into_inner().index);
        let state = erasure_state(&*self.compiler.reads.store, leaf).map_err(fatal)?;
        let state = state.into();
        Ok(Response::new(wire::GetErasureStateResponse { state }))
    }

    async fn get_clock(
        &self,
        request: Request<wire::GetClockRequest>,
    ) -> Result<Response<wire::GetClockResponse>, Status> {
        let from = sender(&self.peers, request.metadata())?;
        let clock_us = self.peers.now_us();
        let sent_at_us = request.into_inner().sent_at_us;
        self.peers.clocks.hear(from, sent_at_us, clock_us);
        Ok(Response::new(wire::GetClockResponse { clock_us }))
    }
}

impl Service {
    /// The term of this node.
    fn own_term(&self) -> u64 {
        self.raft.metrics().borrow_watched().vote.leader_id.term
    }

    /// Refuses a snapshot that ends in another entry than is committed here, or in a later one at an earlier place.
    async fn must_extend_committed(&self, last: Option<types::LogId>) -> Result<(), Status> {
        let committed = self
            .raft
            .with_raft_state(|state| state.local_committed().copied());
        let committed = committed.await.map_err(fatal)?;
        let contradicts = last
            .zip(committed)
            .is_some_and(|(last, committed)| last > committed && last.index() <= committed.index());
        if contradicts {
            return Err(bad("the snapshot contradicts what is committed here"));
        }
        Ok(())
    }

    fn vote_response(&self, answer: &VoteResponse<Types>) -> wire::VoteResponse {
        wire::VoteResponse {
            vote: Some(types::vote_to_wire(&answer.vote)),
            granted: answer.vote_granted,
            last_log_id: answer.last_log_id.as_ref().map(types::log_id_to_wire),
            clock_us: self.peers.now_us(),
        }
    }
}
