//! The execution boundary: ask before an action runs, record what was executed.

use std::sync::Arc;
use std::time::Instant;

use ledger_core::compartment::commitment_digest;
use ledger_core::id::SessionId;
use ledger_proto::v1::{self, CompartmentKind, ExecutionStatus, command::Body};
use prost::Message as _;

use crate::client::{Client, Submitted};
use crate::decision::{Decision, Permit};
use crate::error::Error;
use crate::paths;
use crate::redemption::Redemption;
use crate::signing::{Ask, Content, SALT_LEN, Signed};
use crate::transport::Answer;

/// Most questions that are signed together.
const MAX_SIGNED: usize = 64;

/// May this agent do this, in this session?
#[derive(Debug, Clone)]
pub struct Question {
    /// The agent that acts.
    pub agent: String,
    /// Its session.
    pub session: SessionId,
    /// The action: `server/tool`, or `tool`.
    pub action: String,
    /// The tool's arguments, a JSON object, exactly as they will be given to the tool.
    pub input: String,
    /// What the action is about, if it is not the tool itself. Facts count only when a gateway that may assert them signs.
    pub resource: Option<v1::ResourceFacts>,
    /// The model's name for the call.
    pub tool_call_id: String,
    /// The request id; random if none is given.
    pub request_id: Option<[u8; 16]>,
}

impl Question {
    /// A question without resource and call id.
    pub fn new(
        agent: impl Into<String>,
        session: SessionId,
        action: impl Into<String>,
        input: impl Into<String>,
    ) -> Self {
        Self {
            agent: agent.into(),
            session,
            action: action.into(),
            input: input.into(),
            resource: None,
            tool_call_id: String::new(),
            request_id: None,
        }
    }

    /// The command that asks it.
    #[must_use]
    pub fn ask(self) -> Ask {
        let (server, name) = match self.action.rsplit_once('/') {
            Some((server, name)) => (server.to_owned(), name.to_owned()),
            None => (String::new(), self.action),
        };
        let body = Body::Authorize(v1::Authorize {
            agent: self.agent,
            session_id: self.session.to_vec(),
            tool: Some(v1::Tool {
                server,
                name,
                definition_digest: Vec::new(),
            }),
            tool_call_id: self.tool_call_id,
            ..v1::Authorize::default()
        });
        let mut contents = vec![Content::new(CompartmentKind::Input, self.input)];
        if let Some(resource) = self.resource {
            contents.push(Content::new(
                CompartmentKind::Resource,
                resource.encode_to_vec(),
            ));
        }
        Ask {
            body,
            contents,
            request_id: self.request_id,
        }
    }
}

/// What was really executed.
#[derive(Debug, Clone)]
pub struct Execution {
    /// The leaf of the decision.
    pub decision: u64,
    /// How it ended.
    pub status: ExecutionStatus,
    /// The salt of the question's input; without it the ledger cannot tell whether the input was changed.
    pub input_salt: Option<[u8; SALT_LEN]>,
    /// The arguments that were executed; none if they are not known.
    pub input: Option<Vec<u8>>,
    /// True to keep the executed arguments beside the outcome, because they differ from those that were authorized.
    pub keep_input: bool,
    /// The output, kept beside the outcome.
    pub output: Option<Vec<u8>>,
    /// The digest of a result that is kept elsewhere.
    pub result_digest: Option<v1::ResultDigest>,
    /// The leaf of the redemption that the execution began with; none if there was none.
    pub redemption: Option<u64>,
    /// As the recorder saw it, microseconds since 1970; 0 if not known.
    pub started_at_us: u64,
    /// As the recorder saw it, microseconds since 1970; 0 if not known.
    pub finished_at_us: u64,
}

impl Execution {
    /// Exactly what a permit permitted was executed, and ended so.
    #[must_use]
    pub fn of(permit: &Permit, status: ExecutionStatus, input: impl Into<Vec<u8>>) -> Self {
        let decision = permit.decision();
        Self {
            decision: decision.proven.index,
            status,
            input_salt: decision.input_salt,
            input: Some(input.into()),
            keep_input: false,
            output: None,
            result_digest: None,
            redemption: None,
            started_at_us: 0,
            finished_at_us: 0,
        }
    }

    /// The same for an execution that began with a redemption of the permit.
    #[must_use]
    pub const fn redeemed_by(mut self, redemption: &Redemption) -> Self {
        self.redemption = Some(redemption.proven.index);
        self
    }

    /// The command that records it.
    #[must_use]
    pub fn ask(self) -> Ask {
        let stated = self.input_salt.zip(self.input.as_ref());
        let digest =
            stated.map(|(salt, input)| commitment_digest(&salt, input).as_bytes().to_vec());
        let mut contents = Vec::new();
        if let Some(output) = self.output {
            contents.push(Content::new(CompartmentKind::Output, output));
        }
        if let Some(input) = self.input.filter(|_| self.keep_input) {
            contents.push(Content {
                kind: CompartmentKind::ExecutedInput,
                bytes: input,
                salt: self.input_salt,
            });
        }
        Ask {
            body: Body::Record(v1::Record {
                decision_index: self.decision,
                status: self.status.into(),
                started_at_us: self.started_at_us,
                finished_at_us: self.finished_at_us,
                result_digest: self.result_digest,
                executed_input_digest: digest.unwrap_or_default(),
                redemption_index: self.redemption,
            }),
            contents,
            request_id: None,
        }
    }
}

/// What the ledger says about an outcome.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The entry.
    pub submitted: Submitted,
    /// What departs from the decision; empty if nothing does.
    pub drift: Vec<v1::Drift>,
    /// What else is worth knowing.
    pub notices: Vec<v1::Notice>,
}

impl Client {
    /// Asks whether an action may run. The answer is in the ledger before it is here.
    ///
    /// # Errors
    /// [`Error`]: there is no answer, so the action must not run. DENY and ESCALATE are answers.
    pub async fn authorize(&self, question: Question) -> Result<Decision, Error> {
        let signed = self.sign_one(question.ask())?;
        self.ask(&signed).await
    }

    /// Asks many independent questions, signed together. Each has its own answer or error, in their order. They are sent in
    /// parts; after a part without an answer the rest is not sent.
    pub async fn authorize_batch(&self, questions: Vec<Question>) -> Vec<Result<Decision, Error>> {
        let mut decisions = Vec::with_capacity(questions.len());
        let mut rest = questions.into_iter().map(Question::ask);
        while rest.len() > 0 {
            let asks: Vec<Ask> = rest.by_ref().take(MAX_SIGNED).collect();
            if !self.ask_part(asks, &mut decisions).await {
                let not_sent = "it was not sent, because a question before it got no answer";
                let not_sent =
                    Error::Unavailable(format!("{not_sent}; nothing happened, try again"));
                decisions.extend(rest.map(|_| Err(not_sent.clone())));
                break;
            }
        }
        decisions
    }

    /// Asks a part of a batch. False if it was not answered.
    async fn ask_part(&self, asks: Vec<Ask>, decisions: &mut Vec<Result<Decision, Error>>) -> bool {
        let many = asks.len();
        let signed = match self.sign(asks) {
            Ok(signed) => signed,
            Err(error) => {
                decisions.extend(std::iter::repeat_n(Err(error), many));
                return false;
            }
        };
        let sent = Instant::now();
        signed.iter().for_each(|one| one.sending.note());
        match self.send_part(&signed).await {
            Ok(Answer { answer, by }) => {
                for (one, item) in signed.iter().zip(answer.items) {
                    let item = self.item(one, item, &answer.checkpoint, &by, sent).await;
                    decisions.push(item);
                }
                true
            }
            Err(error) => {
                let about = |one: &Signed| Err(error.clone().about(one.request_id_hex()));
                decisions.extend(signed.iter().map(about));
                false
            }
        }
    }

    async fn send_part(
        &self,
        signed: &[Signed],
    ) -> Result<Answer<v1::AuthorizeBatchResponse>, Error> {
        let message = v1::AuthorizeBatchRequest {
            submissions: signed.iter().map(|one| one.submission.clone()).collect(),
            receipt_level: self.level(),
        };
        let first = signed.first();
        let first = first.ok_or_else(|| Error::Internal("a batch of nothing".to_owned()))?;
        let answer: Answer<v1::AuthorizeBatchResponse> =
            self.change(paths::AUTHORIZE_BATCH, first, message).await?;
        if answer.answer.items.len() == signed.len() {
            return Ok(answer);
        }
        let what = "the batch has another number of answers than questions";
        Err(Error::contradiction(what).of(&answer.by))
    }

    async fn item(
        &self,
        signed: &Signed,
        item: v1::AuthorizeBatchItem,
        checkpoint: &str,
        by: &Arc<str>,
        sent: Instant,
    ) -> Result<Decision, Error> {
        use v1::authorize_batch_item::Result as Item;
        match item.result {
            Some(Item::Response(mut response)) => {
                if let Some(receipt) = &mut response.receipt {
                    checkpoint.clone_into(&mut receipt.checkpoint);
                }
                let answer = Answer {
                    answer: response,
                    by: Arc::clone(by),
                };
                self.decide(signed, answer, sent).await
            }
            Some(Item::Error(error)) if error.outcome() == v1::CallOutcome::Undetermined => {
                Err(Error::Undetermined {
                    request_id: signed.request_id_hex(),
                    message: error.message,
                })
            }
            // The answer exists and was too large for the batch.
            Some(Item::Error(error)) if error.outcome() == v1::CallOutcome::Recorded => {
                self.ask(signed).await
            }
            Some(Item::Error(error)) if error.retry() == v1::Retry::SameId => {
                Err(Error::Unavailable(error.message))
            }
            Some(Item::Error(error)) => Err(Error::Invalid(error.message)),
            None => Err(Error::contradiction("an item without an answer").of(by)),
        }
    }

    /// Records what became of a permitted action.
    ///
    /// # Errors
    /// [`Error`]. Drift is no error.
    pub async fn record(&self, execution: Execution) -> Result<Recorded, Error> {
        let submitted = self.submit(execution.ask()).await?;
        let Some(v1::entry::Body::Outcome(outcome)) = &submitted.proven.entry.body else {
            return Err(Error::contradiction("the entry holds no outcome"));
        };
        Ok(Recorded {
            drift: outcome.drift().collect(),
            notices: outcome.notices().collect(),
            submitted,
        })
    }
}
