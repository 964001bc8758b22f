//! Decisions and outcomes: `AuthorizationService`.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::join_all;
use ledger_core::explanation::without_values;
use ledger_core::hash::TreeSize;
use ledger_core::id::Identity;
use ledger_core::limits::MIN_STACK_LEN;
use ledger_core::state::{Key, read};
use ledger_proto::v1::{
    self, ErrorReason, ReceiptLevel, Role, authorization_service_server::AuthorizationService,
    authorize_batch_item, authorize_stream_response, command::Body,
};
use prost::Message;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Streaming};

use super::gate::{self, Gate, Opened, as_of, deadline};
use super::paging::MAX_PAGE_BYTES;
use super::proving::prove;
use crate::apply::receipts::Submitted;
use crate::failure::{Answer, Failure, Pieces, Reply, argument};

/// Most questions of a batch.
const MAX_BATCH: usize = 1_000;
/// Most questions of a stream that wait for their answer.
const MAX_UNANSWERED: u32 = 1_024;
/// Stack of the thread that evaluates a simulation: what the machine needs, twice, because it must be free.
const SIMULATION_STACK: usize = 2 * MIN_STACK_LEN;

/// The service.
#[derive(Debug, Clone)]
pub struct Authorization(pub Gate);

fn is_authorize(body: &Body) -> bool {
    matches!(body, Body::Authorize(_))
}

fn answered(submitted: &Submitted) -> v1::AuthorizeResponse {
    v1::AuthorizeResponse {
        receipt: gate::receipt(submitted),
        replayed: submitted.replayed.is_some(),
        now: submitted.replayed.map(gate::liveness),
    }
}

#[tonic::async_trait]
impl AuthorizationService for Authorization {
    async fn authorize(
        &self,
        request: Request<v1::AuthorizeRequest>,
    ) -> Reply<v1::AuthorizeResponse> {
        let deadline = deadline(request.metadata());
        Ok(Response::new(
            self.ask(request.into_inner(), deadline).await?,
        ))
    }

    async fn authorize_batch(
        &self,
        request: Request<v1::AuthorizeBatchRequest>,
    ) -> Reply<v1::AuthorizeBatchResponse> {
        let deadline = deadline(request.metadata());
        let request = request.into_inner();
        Ok(Response::new(self.batch(request, deadline).await?))
    }

    type AuthorizeStreamStream = Pieces<v1::AuthorizeStreamResponse>;

    async fn authorize_stream(
        &self,
        request: Request<Streaming<v1::AuthorizeStreamRequest>>,
    ) -> Reply<Self::AuthorizeStreamStream> {
        let (answers, receiver) = mpsc::channel(MAX_UNANSWERED as usize);
        tokio::spawn(self.clone().converse(request.into_inner(), answers));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn record(&self, request: Request<v1::RecordRequest>) -> Reply<v1::RecordResponse> {
        let deadline = deadline(request.metadata());
        let request = request.into_inner();
        let level = gate::level(request.receipt_level)?;
        let fits = |body: &Body| matches!(body, Body::Record(_));
        let submitted = self.0.submit(request.submission, level, deadline, fits);
        let submitted = submitted.await?;
        Ok(Response::new(v1::RecordResponse {
            receipt: gate::receipt(&submitted),
            replayed: submitted.replayed.is_some(),
        }))
    }

    async fn redeem(&self, request: Request<v1::RedeemRequest>) -> Reply<v1::RedeemResponse> {
        let deadline = deadline(request.metadata());
        let request = request.into_inner();
        let level = gate::level(request.receipt_level)?;
        let fits = |body: &Body| matches!(body, Body::Redeem(_));
        let submitted = self.0.submit(request.submission, level, deadline, fits);
        let submitted = submitted.await?;
        Ok(Response::new(v1::RedeemResponse {
            receipt: gate::receipt(&submitted),
            replayed: submitted.replayed.is_some(),
        }))
    }

    async fn simulate(&self, request: Request<v1::SimulateRequest>) -> Reply<v1::SimulateResponse> {
        let consistency = request.get_ref().consistency;
        let ledger = self.0.ledger.clone();
        let simulate = move |opened: Opened<v1::SimulateRequest>| {
            let evaluate = || simulate(&ledger, &opened);
            std::thread::scope(|scope| {
                let thread = std::thread::Builder::new().stack_size(SIMULATION_STACK);
                let thread = thread.spawn_scoped(scope, evaluate);
                thread.ok().and_then(|thread| thread.join().ok())
            })
            .ok_or_else(|| Failure::new(ErrorReason::Internal, "the simulation did not end"))?
        };
        let answer = self.0.read(request, consistency, simulate).await?;
        Ok(Response::new(answer))
    }
}

impl Authorization {
    async fn ask(
        &self,
        request: v1::AuthorizeRequest,
        deadline: Instant,
    ) -> Answer<v1::AuthorizeResponse> {
        let level = gate::level(request.receipt_level)?;
        let submitted = self
            .0
            .submit(request.submission, level, deadline, is_authorize);
        Ok(answered(&submitted.await?))
    }

    async fn batch(
        &self,
        request: v1::AuthorizeBatchRequest,
        deadline: Instant,
    ) -> Answer<v1::AuthorizeBatchResponse> {
        let level = gate::level(request.receipt_level)?;
        if !(1..=MAX_BATCH).contains(&request.submissions.len()) {
            return Err(argument(format!("a batch has 1 to {MAX_BATCH} commands")));
        }
        // One checkpoint for all is asked for once all are in the ledger, so none of them waits for cosigning.
        let each = request.submissions.into_iter().map(|submission| {
            self.0.submit(
                Some(submission),
                ReceiptLevel::Committed,
                deadline,
                is_authorize,
            )
        });
        let submitted = join_all(each).await;
        let leaves: Vec<u64> = submitted
            .iter()
            .flatten()
            .map(|submitted| submitted.index.0)
            .collect();
        let Some(last) = leaves.iter().max() else {
            return Ok(filled(&submitted, Vec::new(), String::new(), level));
        };
        let proving = self.prove_all(TreeSize(last.saturating_add(1)), leaves, level, deadline);
        // Some of them are in the ledger.
        let (proven, note, level) = proving.await.map_err(Failure::once_brought)?;
        Ok(filled(&submitted, proven, note, level))
    }

    /// Entries, proven to one checkpoint of at least that size and of that level, if it comes in time.
    async fn prove_all(
        &self,
        size: TreeSize,
        leaves: Vec<u64>,
        level: ReceiptLevel,
        deadline: Instant,
    ) -> Answer<(Vec<v1::ProvenEntry>, String, ReceiptLevel)> {
        let proving = self.0.checkpoint(size, level, deadline).await?;
        let origin = self.0.ledger.origin().to_owned();
        let (note, level) = (proving.note.to_string(), proving.level);
        let work = move || prove(&proving.view, &origin, proving.size, &leaves);
        let proven = self.0.work(deadline, work).await?;
        Ok((proven, note, level))
    }

    /// Reads questions while fewer than the limit wait, and answers each when its answer is there. Ends with the questions, or
    /// when this node stops.
    async fn converse(
        self,
        mut questions: Streaming<v1::AuthorizeStreamRequest>,
        answers: mpsc::Sender<Result<v1::AuthorizeStreamResponse, tonic::Status>>,
    ) {
        let places = Arc::new(Semaphore::new(MAX_UNANSWERED as usize));
        let ledger = self.0.ledger.clone();
        let mut stopping = pin!(ledger.stopping());
        loop {
            let next = async {
                let place = Arc::clone(&places).acquire_owned().await.ok()?;
                // A broken stream has nobody to tell; what was asked goes on and can be asked for again.
                Some((place, questions.message().await.ok()??))
            };
            let (place, question) = tokio::select! {
                () = answers.closed() => return,
                failure = &mut stopping => {
                    // What was asked is answered first.
                    let _all = places.acquire_many(MAX_UNANSWERED).await;
                    let _ = answers.send(Err(failure.into())).await;
                    return;
                }
                next = next => match next {
                    Some(next) => next,
                    None => return,
                },
            };
            let (service, answers) = (self.clone(), answers.clone());
            // Each question has the time of a call that states no deadline: the stream's own is for the whole.
            let deadline = deadline(&tonic::metadata::MetadataMap::new());
            tokio::spawn(async move {
                let correlation_id = question.correlation_id;
                let asked = service.ask(question.request.unwrap_or_default(), deadline);
                let result = match asked.await {
                    Ok(response) => authorize_stream_response::Result::Response(response),
                    Err(failure) => {
                        authorize_stream_response::Result::Error(failure.to_call_error())
                    }
                };
                let answer = v1::AuthorizeStreamResponse {
                    correlation_id,
                    result: Some(result),
                };
                // The place is free only when the answer has been taken.
                let _ = answers.send(Ok(answer)).await;
                drop(place);
            });
        }
    }
}

/// The answers of a batch in the order of the questions, as many as fit into one message.
fn filled(
    submitted: &[Answer<Submitted>],
    proven: Vec<v1::ProvenEntry>,
    checkpoint: String,
    level: ReceiptLevel,
) -> v1::AuthorizeBatchResponse {
    let mut proven = proven.into_iter();
    let mut bytes = 0;
    let items = submitted
        .iter()
        .map(|submitted| {
            let answer = submitted.as_ref().map_err(Failure::to_call_error);
            let answer = answer.map(|submitted| v1::AuthorizeResponse {
                receipt: Some(v1::Receipt {
                    entry: proven.next(),
                    checkpoint: String::new(),
                    level: level.into(),
                }),
                replayed: submitted.replayed.is_some(),
                now: submitted.replayed.map(gate::liveness),
            });
            let len = answer.as_ref().map_or(0, Message::encoded_len);
            let result = match answer {
                Ok(_) if bytes + len > MAX_PAGE_BYTES => {
                    authorize_batch_item::Result::Error(too_large())
                }
                Ok(answer) => {
                    bytes += len;
                    authorize_batch_item::Result::Response(answer)
                }
                Err(error) => authorize_batch_item::Result::Error(error),
            };
            v1::AuthorizeBatchItem {
                result: Some(result),
            }
        })
        .collect();
    v1::AuthorizeBatchResponse { items, checkpoint }
}

fn too_large() -> v1::CallError {
    Failure::new(
        ErrorReason::AnswerTooLarge,
        "the answers of this batch do not fit into one message; ask again for this one",
    )
    .to_call_error()
}

fn simulate(
    ledger: &crate::ledger::Ledger,
    opened: &Opened<v1::SimulateRequest>,
) -> Answer<v1::SimulateResponse> {
    let request = &opened.request;
    let submission = request.submission.clone().unwrap_or_default();
    let signed = submission.signed.clone().unwrap_or_default();
    let command = ledger_core::command::Command::parse(&signed)?;
    let Body::Authorize(ask) = &command.body else {
        return Err(Failure::new(
            ErrorReason::CommandMismatch,
            "only an Authorize can be simulated",
        ));
    };
    let agent: Option<v1::AgentRecord> = read(&opened.view, &Key::agent(&ask.agent))?;
    let namespace = agent.unwrap_or_default().namespace;
    opened
        .reader
        .require(&[Role::Policy, Role::Auditor], &namespace)?;
    let (machine, now_us) = (ledger.machine(), ledger.clock_us());
    let (decision, explanation) = if request.explain {
        machine.explain(&opened.view, now_us, &submission)??
    } else {
        (machine.simulate(&opened.view, now_us, &submission)??, None)
    };
    // What agents' sessions contain is not for everybody who may read rules.
    let of_agent = Identity::Agent(ask.agent.clone());
    let reads_content = opened.reader.holds(&[Role::Auditor], &namespace)
        || opened.reader.owns(&opened.view, &of_agent)?;
    Ok(v1::SimulateResponse {
        decision: Some(decision),
        as_of: as_of(&opened.view)?,
        explanation: explanation.map(|told| {
            if reads_content {
                told
            } else {
                without_values(told)
            }
        }),
    })
}
