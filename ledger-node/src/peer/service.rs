//! Answering peers. A call gets here when [`super::authorization`] has found that its caller may make it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use ledger_core::hash::{LeafIndex, TreeSize};
use ledger_proto::peer::v1 as wire;
use ledger_proto::peer::v1::peer_service_server::PeerService;
use ledger_proto::v1;
use openraft::ReadPolicy;
use openraft::async_runtime::WatchReceiver;
use openraft::raft::VoteResponse;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::appends::Appends;
use super::receive_snapshot::Offered;
use super::recovery_state::recovery_state;
use super::requests::{bad, caller, transfer_request, vote_request};
use crate::cosign::Cosigner;
use crate::failure::{Answer, Failure};
use crate::fatal::Fatal;
use crate::front::ledger::trust_steps;
use crate::front::transfer::verify;
use crate::ledger::{Ledger, erasure_state};
use crate::raft::Raft;
use crate::raft::peers::Peers;
use crate::raft::snapshot::Snapshots;
use crate::raft::types::{self, Types};
use crate::seldom::Seldom;
use crate::submit::compile::Compiler;
use crate::submit::forward::Receiving;

/// Between two words on hand-overs that are refused.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// Says now and then which hand-overs are refused.
pub(crate) const fn refused_hand_overs() -> Seldom {
    Seldom::new(SAY_AGAIN)
}

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
    pub incoming: Arc<tokio::sync::Mutex<Option<Offered>>>,
    /// Takes forwarded submissions.
    pub receiving: Receiving,
    /// Cosigns.
    pub cosigner: Arc<Cosigner>,
    /// Has the steps of the trust policy.
    pub ledger: Ledger,
    /// Says which hand-overs are refused.
    pub refused_hand_overs: Arc<Seldom>,
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

#[tonic::async_trait]
impl PeerService for Service {
    type AppendStream = Answers<wire::AppendResponse>;
    type ForwardStream = Answers<wire::ForwardResponse>;

    async fn append(
        &self,
        request: Request<Streaming<wire::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let from = caller(&request)?;
        self.may_follow().await?;
        let answers = self.appends.answers(from, request.into_inner());
        Ok(Response::new(answers))
    }

    async fn vote(
        &self,
        request: Request<wire::VoteRequest>,
    ) -> Result<Response<wire::VoteResponse>, Status> {
        let from = caller(&request)?;
        self.may_vote().await?;
        let message = request.into_inner();
        let clocks = &self.peers.clocks;
        clocks.hear(from, message.sent_at_us, self.peers.now_us());
        let mut rpc = vote_request(&message, from, self.own_term())?;
        // Any candidate can say so.
        rpc.leadership_transfer =
            rpc.leadership_transfer && self.peers.transfer.explains(&rpc.vote).await;
        let vote = rpc.vote;
        let answer = self.raft.vote(rpc).await.map_err(fatal)?;
        let mut response = self.vote_response(&answer);
        if answer.vote_granted {
            // What is granted is durable by now.
            response.signature = self.peers.sign_vote(&vote);
        }
        Ok(Response::new(response))
    }

    async fn pre_vote(
        &self,
        request: Request<wire::VoteRequest>,
    ) -> Result<Response<wire::VoteResponse>, Status> {
        let from = caller(&request)?;
        self.may_vote().await?;
        let rpc = vote_request(&request.into_inner(), from, self.own_term())?;
        let answer = self.raft.pre_vote(rpc).await.map_err(fatal)?;
        Ok(Response::new(self.vote_response(&answer)))
    }

    async fn transfer_leader(
        &self,
        request: Request<wire::TransferLeaderRequest>,
    ) -> Result<Response<wire::TransferLeaderResponse>, Status> {
        let from = caller(&request)?;
        self.may_vote().await?;
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
        let from = caller(&request)?;
        // The caller sees for itself when another node leads.
        let refused = if self.raft.is_leader() {
            self.hand_over_for(from, request.into_inner()).await.err()
        } else {
            None
        };
        let error = refused.as_ref().map(Failure::to_call_error);
        Ok(Response::new(wire::HandOverResponse { error }))
    }

    async fn offer_snapshot(
        &self,
        request: Request<wire::OfferSnapshotRequest>,
    ) -> Result<Response<wire::OfferSnapshotResponse>, Status> {
        self.may_follow().await?;
        self.take_offer(request).await.map(Response::new)
    }

    async fn send_snapshot(
        &self,
        request: Request<Streaming<wire::SendSnapshotRequest>>,
    ) -> Result<Response<wire::SendSnapshotResponse>, Status> {
        self.may_follow().await?;
        self.take_parts(request).await.map(Response::new)
    }

    async fn install_snapshot(
        &self,
        request: Request<wire::InstallSnapshotRequest>,
    ) -> Result<Response<wire::InstallSnapshotResponse>, Status> {
        self.may_follow().await?;
        self.install_offered(request).await.map(Response::new)
    }

    async fn forward(
        &self,
        request: Request<Streaming<wire::ForwardRequest>>,
    ) -> Result<Response<Self::ForwardStream>, Status> {
        let requests = request
            .into_inner()
            .take_until(self.ended.clone().cancelled_owned());
        let answers = self.receiving.clone().answers(requests);
        Ok(Response::new(Box::pin(answers)))
    }

    async fn read_index(
        &self,
        _: Request<wire::ReadIndexRequest>,
    ) -> Result<Response<wire::ReadIndexResponse>, Status> {
        self.may_follow().await?;
        let read = self.raft.get_read_log_id(ReadPolicy::ReadIndex).await;
        let committed = read.ok().map(|(id, _)| types::log_id_to_wire(id.log_id()));
        Ok(Response::new(wire::ReadIndexResponse { committed }))
    }

    async fn cosign(
        &self,
        request: Request<wire::CosignRequest>,
    ) -> Result<Response<wire::CosignResponse>, Status> {
        let asked_by = caller(&request)?;
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
        self.cosigner
            .put(&request.into_inner().checkpoint)
            .map_err(bad)?;
        Ok(Response::new(wire::PutCheckpointResponse {}))
    }

    async fn want_checkpoint(
        &self,
        request: Request<wire::WantCheckpointRequest>,
    ) -> Result<Response<wire::WantCheckpointResponse>, Status> {
        let message = request.into_inner();
        self.cosigner.want(TreeSize(message.tree_size));
        let steps = self.cosigner.steps(&message.lacking_epochs);
        let newest = self.cosigner.latest().borrow().clone();
        Ok(Response::new(wire::WantCheckpointResponse {
            checkpoint: newest.map_or_else(String::new, |newest| newest.note.to_string()),
            steps: steps.map_err(fatal)?,
        }))
    }

    async fn get_trust_steps(
        &self,
        request: Request<wire::GetTrustStepsRequest>,
    ) -> Result<Response<wire::GetTrustStepsResponse>, Status> {
        let ask = v1::ListTrustStepsRequest {
            after_epoch: request.into_inner().after_epoch,
            // As many as one answer may have.
            page_size: 0,
            page_token: String::new(),
        };
        let steps = tokio::task::block_in_place(|| trust_steps(&self.ledger, &ask));
        let trust_steps = steps.map_err(Status::from)?.trust_steps;
        Ok(Response::new(wire::GetTrustStepsResponse { trust_steps }))
    }

    async fn compile_ahead(
        &self,
        request: Request<wire::CompileAheadRequest>,
    ) -> Result<Response<wire::CompileAheadResponse>, Status> {
        let message = request.into_inner();
        let submission = message.submission.ok_or_else(|| bad("no submission"))?;
        let compiled = self
            .compiler
            .compile_for_peer(&submission, TreeSize(message.tree_size))
            .await
            .map_err(fatal)?
            .map_err(bad)?;
        Ok(Response::new(wire::CompileAheadResponse { compiled }))
    }

    async fn get_erasure_state(
        &self,
        request: Request<wire::GetErasureStateRequest>,
    ) -> Result<Response<wire::GetErasureStateResponse>, Status> {
        let leaf = LeafIndex(request.into_inner().index);
        let state = erasure_state(&*self.compiler.reads.store, leaf).map_err(fatal)?;
        let state = state.into();
        Ok(Response::new(wire::GetErasureStateResponse { state }))
    }

    async fn get_clock(
        &self,
        request: Request<wire::GetClockRequest>,
    ) -> Result<Response<wire::GetClockResponse>, Status> {
        let from = caller(&request)?;
        let clock_us = self.peers.now_us();
        let sent_at_us = request.into_inner().sent_at_us;
        self.peers.clocks.hear(from, sent_at_us, clock_us);
        Ok(Response::new(wire::GetClockResponse { clock_us }))
    }

    async fn get_recovery_state(
        &self,
        request: Request<wire::GetRecoveryStateRequest>,
    ) -> Result<Response<wire::GetRecoveryStateResponse>, Status> {
        let from = caller(&request)?;
        let state = recovery_state(
            &*self.compiler.reads.store,
            &self.peers,
            &self.cosigner,
            from,
        );
        // What cannot be read stops the node elsewhere.
        Ok(Response::new(state.map_err(fatal)?))
    }
}

impl Service {
    /// Refuses what would be answered before it is known what was promised.
    async fn may_follow(&self) -> Result<(), Status> {
        let may = self.peers.participation.may_follow().await;
        may.map_err(Status::unavailable)
    }

    /// Refuses what would take this node's vote before it may give one.
    async fn may_vote(&self) -> Result<(), Status> {
        let may = self.peers.participation.may_vote().await;
        may.map_err(Status::unavailable)
    }

    /// Hands leadership over as an admin asks, whose signed request a node shows.
    async fn hand_over_for(&self, from: u64, shown: wire::HandOverRequest) -> Answer<()> {
        let begun = match verify(&self.ledger, &shown).await {
            Ok(asked) => self.ledger.begin_transfer(&asked, from),
            Err(refused) => Err(refused),
        };
        begun.inspect_err(|refused| {
            if self.refused_hand_overs.may_say() {
                tracing::warn!(from, %refused, "a node asks for a hand-over, which is refused");
            }
        })
    }

    /// The term of this node.
    pub(super) fn own_term(&self) -> u64 {
        self.raft.metrics().borrow_watched().vote.leader_id.term
    }

    fn vote_response(&self, answer: &VoteResponse<Types>) -> wire::VoteResponse {
        wire::VoteResponse {
            vote: Some(types::vote_to_wire(&answer.vote)),
            granted: answer.vote_granted,
            last_log_id: answer.last_log_id.as_ref().map(types::log_id_to_wire),
            clock_us: self.peers.now_us(),
            signature: Vec::new(),
        }
    }
}
