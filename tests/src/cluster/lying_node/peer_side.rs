//! How a lying node answers its peers.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use ledger_proto::peer::v1 as wire;
use ledger_proto::peer::v1::append_response::Result as Appended;
use ledger_proto::peer::v1::peer_service_server::PeerService;
use ledger_proto::v1;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::forge::Forge;
use super::knowledge::Shared;
use super::script::PeerAnswers;
use crate::cluster::client::now_us;
use crate::stream::Dice;

/// How far a wrong clock is off, in microseconds.
const OFF_US: u64 = 3_600_000_000;
/// How many answers one question gets from whoever does not stop to answer.
const ENDLESS: usize = 1_000;

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

    fn get(&self) -> (PeerAnswers, u64) {
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
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl PeerSide {
    /// Waits for ever if nobody is to be answered.
    async fn answers(&self) -> (PeerAnswers, u64) {
        let (answers, number) = self.manner.get();
        if answers == PeerAnswers::Silence {
            std::future::pending::<()>().await;
        }
        (answers, number)
    }

    fn clock_us(&self) -> u64 {
        match self.manner.get() {
            (PeerAnswers::WrongClock, number) if number % 2 == 0 => now_us() + OFF_US,
            (PeerAnswers::WrongClock, _) => now_us() - OFF_US,
            _ => now_us(),
        }
    }

    /// A vote for itself in a term that is later.
    fn later_vote(&self) -> wire::Vote {
        let (answers, number) = self.manner.get();
        let term = self.knowledge.lock().vote.term;
        let term = match answers {
            PeerAnswers::HugeTerm => super::attacks::huge_term(term, number),
            _ => term.saturating_add(1 + number % 3),
        };
        wire::Vote {
            term,
            node_id: self.node_id,
            committed: false,
        }
    }

    fn to_append(&self, request: &wire::AppendRequest) -> Vec<wire::AppendResponse> {
        let end = self.knowledge.lock().hear_append(request);
        let (answers, number) = self.manner.get();
        let matched = Appended::Matched(wire::Matched { last: end });
        let result = match answers {
            PeerAnswers::Conflict => Appended::Conflict(request.previous.unwrap_or_default()),
            PeerAnswers::LaterTerm | PeerAnswers::HugeTerm => {
                Appended::HigherVote(self.later_vote())
            }
            PeerAnswers::Refusal => Appended::Refused(wire::RefusedAppend {
                check: i32::try_from(1 + number % 7).unwrap_or_default(),
                log_index: end.map_or(0, |end| end.index),
                reason: "the tree is another one".to_owned(),
            }),
            PeerAnswers::MoreThanSent => {
                let beyond = end.map(|end| wire::LogId {
                    term: end.term.saturating_add(number % 2),
                    index: end.index.saturating_add(1 + number % 1_000),
                });
                Appended::Matched(wire::Matched { last: beyond })
            }
            _ => matched,
        };
        let answer = wire::AppendResponse {
            result: Some(result),
            sent_at_us: request.sent_at_us,
            clock_us: self.clock_us(),
        };
        let times = if answers == PeerAnswers::Endlessly {
            ENDLESS
        } else {
            1
        };
        vec![answer; times]
    }

    async fn to_vote(&self, request: &wire::VoteRequest, is_rehearsal: bool) -> wire::VoteResponse {
        let (answers, _) = self.answers().await;
        let candidate = request.vote.unwrap_or_default();
        let granted = match answers {
            PeerAnswers::EveryVote => true,
            PeerAnswers::Conflict | PeerAnswers::HugeTerm => false,
            _ => self.knowledge.lock().would_vote(request),
        };
        if granted && !is_rehearsal {
            self.knowledge.lock().voted = candidate;
        }
        let signature = if granted && !is_rehearsal {
            self.forge.vote_grant(&candidate).signature
        } else {
            Vec::new()
        };
        let vote = match answers {
            PeerAnswers::Conflict | PeerAnswers::HugeTerm => self.later_vote(),
            _ if granted => candidate,
            _ => self.knowledge.lock().voted,
        };
        wire::VoteResponse {
            vote: Some(vote),
            granted,
            last_log_id: self.knowledge.lock().last,
            clock_us: self.clock_us(),
            signature,
        }
    }

    async fn forges(&self) -> Option<Dice> {
        let (answers, number) = self.answers().await;
        (answers == PeerAnswers::ForgedNotes).then(|| Dice::new(number))
    }
}

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
            async move {
                this.answers().await;
                tokio_stream::iter(this.to_append(&request).into_iter().map(Ok))
            }
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
        _: Request<wire::TransferLeaderRequest>,
    ) -> Result<Response<wire::TransferLeaderResponse>, Status> {
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
        // A leader that takes all and proposes nothing.
        let answers = requests.map(move |request| {
            Ok(wire::ForwardResponse {
                correlation_id: request.correlation_id,
                error: None,
                not_leader: answers != PeerAnswers::MoreThanSent,
            })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn read_index(
        &self,
        _: Request<wire::ReadIndexRequest>,
    ) -> Result<Response<wire::ReadIndexResponse>, Status> {
        let (answers, number) = self.answers().await;
        let committed = self.knowledge.lock().committed;
        let committed = match answers {
            PeerAnswers::MoreThanSent => Some(wire::LogId {
                term: number,
                index: number,
            }),
            PeerAnswers::Conflict => None,
            _ => committed,
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
