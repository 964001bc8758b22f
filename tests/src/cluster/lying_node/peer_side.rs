//! How a lying node answers its peers.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use ledger_proto::peer::v1 as wire;
use ledger_proto::peer::v1::peer_service_server::PeerService;
use ledger_proto::v1;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::forge::Forge;
use super::knowledge::Shared;
use super::script::PeerAnswers;

/// Most commands that wait for a leader that lies.
const MAX_QUEUE: usize = 256;

/// How peers are answered, as it is set at the moment, and the number from which details follow.
#[derive(Debug, Clone)]
pub(super) struct Manner(Arc<Mutex<(PeerAnswers, u64)>>);

impl Default for Manner {
    fn default() -> Self {
        Self(Arc::new(Mutex::new((PeerAnswers::AsIfHonest, 0))))
    }
}

impl Manner {
    pub(super) fn set(&self, answers: PeerAnswers, number: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (answers, number);
    }

    pub(super) fn get(&self) -> (PeerAnswers, u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The service.
#[derive(Debug, Clone)]
pub(super) struct PeerSide {
    pub(super) node_id: u64,
    pub(super) manner: Manner,
    pub(super) knowledge: Shared,
    pub(super) forge: Arc<Forge>,
    /// The other nodes that lie.
    pub(super) fellows: Vec<u64>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl PeerService for PeerSide {
    type AppendStream = Answers<wire::AppendResponse>;
    type ForwardStream = Answers<wire::ForwardResponse>;

    async fn append(
        &self,
        request: Request<Streaming<wire::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let this = self.clone();
        let requests = request.into_inner().map_while(Result::ok);
        let answers = requests.then(move |request| {
            let this = this.clone();
            async move { tokio_stream::iter(this.to_append(&request).await.into_iter().map(Ok)) }
        });
        let answers = futures_util::StreamExt::flatten(answers);
        Ok(Response::new(Box::pin(answers)))
    }

    async fn vote(
        &self,
        request: Request<wire::VoteRequest>,
    ) -> Result<Response<wire::VoteResponse>, Status> {
        Ok(Response::new(self.to_vote(request.get_ref(), false).await))
    }

    async fn pre_vote(
        &self,
        request: Request<wire::VoteRequest>,
    ) -> Result<Response<wire::VoteResponse>, Status> {
        Ok(Response::new(self.to_vote(request.get_ref(), true).await))
    }

    async fn transfer_leader(
        &self,
        request: Request<wire::TransferLeaderRequest>,
    ) -> Result<Response<wire::TransferLeaderResponse>, Status> {
        let message = request.into_inner();
        if message.to == self.node_id
            && let Some(from) = message.from
        {
            self.knowledge.transfer.send_replace(from);
        }
        self.answers().await;
        Ok(Response::new(wire::TransferLeaderResponse::default()))
    }

    async fn hand_over(
        &self,
        _: Request<wire::HandOverRequest>,
    ) -> Result<Response<wire::HandOverResponse>, Status> {
        self.answers().await;
        Ok(Response::new(wire::HandOverResponse::default()))
    }

    async fn offer_snapshot(
        &self,
        request: Request<wire::OfferSnapshotRequest>,
    ) -> Result<Response<wire::OfferSnapshotResponse>, Status> {
        let (answers, number) = self.answers().await;
        let files = request.get_ref().manifest.as_ref();
        let files = files.map_or(0, |manifest| manifest.files.len());
        let have = match answers {
            PeerAnswers::MoreThanSent => vec![number; files + 1],
            _ => vec![0; files],
        };
        Ok(Response::new(wire::OfferSnapshotResponse {
            higher_vote: (answers == PeerAnswers::HugeTerm).then(|| self.later_vote()),
            have,
        }))
    }

    async fn send_snapshot(
        &self,
        request: Request<Streaming<wire::SendSnapshotRequest>>,
    ) -> Result<Response<wire::SendSnapshotResponse>, Status> {
        self.answers().await;
        let mut parts = request.into_inner();
        while parts.message().await?.is_some() {}
        Ok(Response::new(wire::SendSnapshotResponse {}))
    }

    async fn install_snapshot(
        &self,
        request: Request<wire::InstallSnapshotRequest>,
    ) -> Result<Response<wire::InstallSnapshotResponse>, Status> {
        self.answers().await;
        Ok(Response::new(wire::InstallSnapshotResponse {
            vote: request.into_inner().vote,
        }))
    }

    async fn forward(
        &self,
        request: Request<Streaming<wire::ForwardRequest>>,
    ) -> Result<Response<Self::ForwardStream>, Status> {
        let (answers, _) = self.answers().await;
        let requests = request.into_inner().map_while(Result::ok);
        let knowledge = self.knowledge.clone();
        let answers = requests.map(move |request| {
            let mut knowledge = knowledge.lock();
            if knowledge.leads && knowledge.queue.len() < MAX_QUEUE {
                knowledge.queue.extend(request.submission);
            }
            Ok(wire::ForwardResponse {
                correlation_id: request.correlation_id,
                error: None,
                // Or a leader that takes all and proposes nothing.
                not_leader: !knowledge.leads && answers != PeerAnswers::MoreThanSent,
            })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn read_index(
        &self,
        _: Request<wire::ReadIndexRequest>,
    ) -> Result<Response<wire::ReadIndexResponse>, Status> {
        let (answers, number) = self.answers().await;
        let knowledge = self.knowledge.lock();
        let committed = match answers {
            // As a leader it may tell what was committed long ago.
            _ if knowledge.leads && knowledge.tells_old => knowledge
                .log
                .id_at(number % (1 + knowledge.committed.map_or(0, |id| id.index))),
            PeerAnswers::MoreThanSent => Some(wire::LogId {
                term: number,
                index: number,
            }),
            PeerAnswers::Conflict => None,
            _ => knowledge.committed,
        };
        Ok(Response::new(wire::ReadIndexResponse { committed }))
    }

    async fn cosign(
        &self,
        request: Request<wire::CosignRequest>,
    ) -> Result<Response<wire::CosignResponse>, Status> {
        let note = request.into_inner().checkpoint;
        self.knowledge.lock().hear_note(&note);
        let signature = match self.forges().await {
            Some(mut dice) => self.forge.cosignature_of_another_tree(&mut dice, &note),
            None => self.forge.cosignature(&note),
        };
        Ok(Response::new(wire::CosignResponse {
            signature: signature.unwrap_or_default(),
            refused: String::new(),
        }))
    }

    async fn put_checkpoint(
        &self,
        request: Request<wire::PutCheckpointRequest>,
    ) -> Result<Response<wire::PutCheckpointResponse>, Status> {
        let note = request.into_inner().checkpoint;
        self.knowledge.lock().hear_note(&note);
        self.answers().await;
        Ok(Response::new(wire::PutCheckpointResponse {}))
    }

    async fn want_checkpoint(
        &self,
        request: Request<wire::WantCheckpointRequest>,
    ) -> Result<Response<wire::WantCheckpointResponse>, Status> {
        let newest = self.knowledge.lock().notes.back().cloned();
        let Some(mut dice) = self.forges().await else {
            return Ok(Response::new(wire::WantCheckpointResponse {
                checkpoint: newest.unwrap_or_default(),
                steps: Vec::new(),
            }));
        };
        let tip = self.knowledge.lock().tip;
        let checkpoint = self.forge.checkpoint(&mut dice, tip);
        let lacking = &request.get_ref().lacking_epochs;
        let steps = lacking.iter().map(|epoch| wire::CarriedStep {
            epoch: *epoch,
            first_epoch: *epoch,
            checkpoint: checkpoint.clone(),
        });
        Ok(Response::new(wire::WantCheckpointResponse {
            steps: steps.collect(),
            checkpoint,
        }))
    }

    async fn compile_ahead(
        &self,
        _: Request<wire::CompileAheadRequest>,
    ) -> Result<Response<wire::CompileAheadResponse>, Status> {
        self.answers().await;
        Ok(Response::new(wire::CompileAheadResponse { compiled: true }))
    }

    async fn get_trust_steps(
        &self,
        _: Request<wire::GetTrustStepsRequest>,
    ) -> Result<Response<wire::GetTrustStepsResponse>, Status> {
        let forged = self.forges().await.map(|mut dice| {
            let tip = self.knowledge.lock().tip;
            self.forge.trust_step(&mut dice, tip)
        });
        Ok(Response::new(wire::GetTrustStepsResponse {
            trust_steps: forged.into_iter().collect(),
        }))
    }

    async fn get_recovery_state(
        &self,
        _: Request<wire::GetRecoveryStateRequest>,
    ) -> Result<Response<wire::GetRecoveryStateResponse>, Status> {
        let (answers, _) = self.answers().await;
        let forgets = answers == PeerAnswers::Conflict;
        let knowledge = self.knowledge.lock();
        Ok(Response::new(wire::GetRecoveryStateResponse {
            remembers: true,
            takes_part: true,
            vote: Some(knowledge.vote),
            last_log_id: knowledge.last.filter(|_| !forgets),
            ..Default::default()
        }))
    }

    async fn get_clock(
        &self,
        _: Request<wire::GetClockRequest>,
    ) -> Result<Response<wire::GetClockResponse>, Status> {
        self.answers().await;
        let clock_us = self.clock_us();
        Ok(Response::new(wire::GetClockResponse { clock_us }))
    }

    async fn get_erasure_state(
        &self,
        _: Request<wire::GetErasureStateRequest>,
    ) -> Result<Response<wire::GetErasureStateResponse>, Status> {
        self.answers().await;
        Ok(Response::new(wire::GetErasureStateResponse {
            state: v1::ErasureState::Physical.into(),
        }))
    }
}
