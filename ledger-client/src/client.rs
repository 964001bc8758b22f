//! The client: signs, sends until there is an answer, and believes nothing that is not proven.

use std::sync::Arc;
use std::time::Instant;

use ledger_core::id::{Identity, RequestId};
use ledger_proto::v1;
use prost::Message;
use tonic::Request;

use crate::answer::{Level, Proven};
use crate::decision::Decision;
use crate::error::Error;
use crate::paths;
use crate::settings::Settings;
use crate::signing::{Ask, Author, Signed, sign, signed_read, unsigned};
use crate::transport::{Answer, Endpoints};
use crate::trust::Trust;
use crate::upgrade::{Upgrades, Upgrading};

/// A client of one ledger, for one author. Cheap to clone; clones share connections and memory.
#[derive(Debug, Clone)]
pub struct Client(pub(crate) Arc<Inner>, pub(crate) Arc<Speakers>);

/// What all clients of a ledger share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) settings: Settings,
    pub(crate) endpoints: Endpoints,
    pub(crate) trust: Trust,
    pub(crate) upgrading: Upgrading,
}

/// Who signs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Speakers {
    author: Option<Author>,
    cosigners: Vec<Author>,
}

/// An answered command.
#[derive(Debug, Clone)]
pub struct Submitted {
    /// The entry.
    pub proven: Proven,
    /// The request id.
    pub request_id: RequestId,
    /// True if the entry is of an earlier call with the same bytes.
    pub replayed: bool,
    /// What the caller asked for a receipt to be worth.
    wanted: Level,
}

impl Submitted {
    /// True if the caller asked for a quorum's word, and has that of one node.
    #[must_use]
    pub fn is_provisional(&self) -> bool {
        self.proven.level < self.wanted
    }
}

/// The answer to a read of what never changes once it is there.
#[derive(Debug)]
pub(crate) struct Settled<A> {
    /// The answer.
    pub(crate) answer: Answer<A>,
    /// Why no quorum was asked, if a single node answered of its own knowledge, which may be behind.
    pub(crate) alone_because: Option<Error>,
}

impl<A> From<Answer<A>> for Settled<A> {
    /// The answer of a quorum.
    fn from(answer: Answer<A>) -> Self {
        Self {
            answer,
            alone_because: None,
        }
    }
}

impl Client {
    /// A client; nothing is dialled yet. Without an author it can make open reads only.
    ///
    /// # Errors
    /// [`Error::Configuration`]
    pub fn new(settings: Settings, trust: Trust, author: Option<Author>) -> Result<Self, Error> {
        let inner = Inner {
            endpoints: Endpoints::new(&settings.endpoints)?,
            settings,
            trust,
            upgrading: Upgrading::default(),
        };
        let speakers = Speakers {
            author,
            cosigners: Vec::new(),
        };
        Ok(Self(Arc::new(inner), Arc::new(speakers)))
    }

    /// The same client with others who sign every command beside the author.
    #[must_use]
    pub fn with_cosigners(self, cosigners: Vec<Author>) -> Self {
        let author = self.1.author.clone();
        let speakers = Speakers { author, cosigners };
        Self(self.0, Arc::new(speakers))
    }

    /// A client for another author who signs alone. Connections, memory and what is being vouched for are shared.
    #[must_use]
    pub fn speaking_as(&self, author: Author) -> Self {
        let speakers = Speakers {
            author: Some(author),
            cosigners: Vec::new(),
        };
        Self(Arc::clone(&self.0), Arc::new(speakers))
    }

    /// The ledger's name.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.0.trust.origin()
    }

    /// Whom this client believes, and what it has seen.
    #[must_use]
    pub fn trust(&self) -> &Trust {
        &self.0.trust
    }

    /// Who speaks.
    ///
    /// # Errors
    /// [`Error::Configuration`] if nobody does.
    pub fn author(&self) -> Result<&Author, Error> {
        self.1.author.as_ref().ok_or_else(|| {
            Error::Configuration(
                "no key is given; set COUNTERSIGN_KEY (agent, gateway) or COUNTERSIGN_OPERATOR to a key file"
                    .to_owned(),
            )
        })
    }

    /// How far provisional receipts have been vouched for.
    #[must_use]
    pub fn upgrades(&self) -> tokio::sync::watch::Receiver<Upgrades> {
        self.0.upgrading.watch()
    }

    /// Signs commands together; sending them is another step, so that a caller can keep them over a crash.
    ///
    /// # Errors
    /// [`Error::Invalid`] for more than 64, [`Error::Internal`] without randomness.
    pub fn sign(&self, asks: Vec<Ask>) -> Result<Vec<Signed>, Error> {
        sign(self.origin(), self.author()?, &self.1.cosigners, asks)
    }

    /// Signs one command.
    ///
    /// # Errors
    /// As [`Client::sign`].
    pub fn sign_one(&self, ask: impl Into<Ask>) -> Result<Signed, Error> {
        let mut signed = self.sign(vec![ask.into()])?;
        signed
            .pop()
            .ok_or_else(|| Error::Internal("nothing was signed".to_owned()))
    }

    /// A command that nobody has signed, as Simulate takes it.
    ///
    /// # Errors
    /// [`Error::Internal`] without randomness.
    pub fn unsigned(&self, author: &Identity, ask: Ask) -> Result<v1::Submission, Error> {
        unsigned(author, ask)
    }

    /// Signs and sends a command other than Authorize.
    ///
    /// # Errors
    /// [`Error`]. What became of the command is in the entry; this does not look at it.
    pub async fn submit(&self, ask: impl Into<Ask>) -> Result<Submitted, Error> {
        let signed = self.sign_one(ask)?;
        self.send(&signed).await
    }

    /// Sends a signed command other than Authorize; may be repeated for ever.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn send(&self, signed: &Signed) -> Result<Submitted, Error> {
        let path = paths::of_command(signed.command())?;
        // RecordRequest and RecordResponse are these messages under other names.
        let message = v1::SubmitRequest {
            submission: Some(signed.submission.clone()),
            receipt_level: self.level(),
        };
        let Answer { answer, by }: Answer<v1::SubmitResponse> =
            self.change(path, signed, message).await?;
        let proven = self.prove_answer(answer.receipt, signed, &by).await?;
        Ok(Submitted {
            proven,
            request_id: RequestId::from_bytes(signed.request_id),
            replayed: answer.replayed,
            wanted: self.0.settings.level,
        })
    }

    /// Sends a signed Authorize; may be repeated for ever.
    ///
    /// # Errors
    /// [`Error`]. DENY and ESCALATE are decisions.
    pub async fn ask(&self, signed: &Signed) -> Result<Decision, Error> {
        let message = v1::AuthorizeRequest {
            submission: Some(signed.submission.clone()),
            receipt_level: self.level(),
        };
        let sent = Instant::now();
        signed.sending.note();
        let answer = self.change(paths::AUTHORIZE, signed, message).await?;
        self.decide(signed, answer, sent).await
    }

    pub(crate) async fn decide(
        &self,
        signed: &Signed,
        Answer { answer, by }: Answer<v1::AuthorizeResponse>,
        sent: Instant,
    ) -> Result<Decision, Error> {
        let proven = self.prove_answer(answer.receipt, signed, &by).await?;
        let said = (answer.replayed, answer.now);
        Decision::new(proven, signed, said, sent, &self.0.settings).map_err(|error| error.of(&by))
    }

    /// Checks the receipt that an endpoint gave for a command.
    async fn prove_answer(
        &self,
        receipt: Option<v1::Receipt>,
        signed: &Signed,
        by: &Arc<str>,
    ) -> Result<Proven, Error> {
        let proven = self.prove(receipt).await.and_then(|proven| {
            proven.answers(signed.command())?;
            Ok(proven)
        });
        let failed = match proven {
            Ok(proven) => return Ok(proven),
            Err(error) => error.of(by),
        };
        // There is an answer, and what it takes to check it did not come.
        let Error::Unavailable(message) = failed else {
            return Err(failed);
        };
        let request_id = signed.request_id_hex();
        Err(Error::Undetermined {
            request_id,
            message,
        })
    }

    /// Makes a call that changes the ledger.
    pub(crate) async fn change<Q, A>(
        &self,
        path: &'static str,
        signed: &Signed,
        message: Q,
    ) -> Result<Answer<A>, Error>
    where
        Q: Message + Clone + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let id = signed.request_id_hex();
        let request = || Ok(Request::new(message.clone()));
        let endpoints = &self.0.endpoints;
        endpoints
            .call(path, request, Some(&id), self.deadline())
            .await
    }

    /// Makes a read that anybody may make.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn open_read<Q, A>(&self, path: &'static str, message: Q) -> Result<A, Error>
    where
        Q: Message + Clone + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let answer = self.open_read_by(path, message, self.deadline()).await;
        answer.map(|answer| answer.answer)
    }

    pub(crate) async fn open_read_by<Q, A>(
        &self,
        path: &'static str,
        message: Q,
        deadline: Instant,
    ) -> Result<Answer<A>, Error>
    where
        Q: Message + Clone + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let request = || Ok(Request::new(message.clone()));
        self.0.endpoints.call(path, request, None, deadline).await
    }

    /// Makes a read as the author.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn read<Q, A>(&self, path: &'static str, message: Q) -> Result<A, Error>
    where
        Q: Message + Clone + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let answer = self.read_from(path, message, self.deadline()).await;
        answer.map(|answer| answer.answer)
    }

    /// Makes a read as the author whose answer is going to be checked.
    pub(crate) async fn read_from<Q, A>(
        &self,
        path: &'static str,
        message: Q,
        deadline: Instant,
    ) -> Result<Answer<A>, Error>
    where
        Q: Message + Clone + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let author = self.author()?;
        let request = || signed_read(self.origin(), author, path, message.clone());
        self.0.endpoints.call(path, request, None, deadline).await
    }

    /// Makes a read as the author whose answer comes in parts.
    ///
    /// # Errors
    /// [`Error`]
    pub(crate) async fn read_stream<Q, A>(
        &self,
        path: &'static str,
        message: Q,
        deadline: Instant,
    ) -> Result<Answer<tonic::Streaming<A>>, Error>
    where
        Q: Message + Clone + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let author = self.author()?;
        let request = || signed_read(self.origin(), author, path, message.clone());
        self.0.endpoints.stream(path, request, deadline).await
    }

    /// Makes a read of what never changes once it is there: of a quorum, and where none answers in half of the time, of what a
    /// single node has. What that has not got may be there all the same, so that only a good answer of it counts.
    ///
    /// # Errors
    /// Those of the read of a quorum.
    pub(crate) async fn read_settled<A>(
        &self,
        read: impl AsyncFn(Option<v1::Consistency>, Instant) -> Result<Answer<A>, Error>,
    ) -> Result<Settled<A>, Error> {
        let deadline = self.deadline();
        let half = Instant::now() + self.0.settings.timeout / 2;
        let unavailable = match read(None, half).await {
            Err(error @ Error::Unavailable(_)) => error,
            answer => {
                return answer.map(Settled::from);
            }
        };
        let any = v1::Consistency {
            requirement: Some(v1::consistency::Requirement::MinimizeLatency(true)),
        };
        match read(Some(any), deadline).await {
            Ok(answer) => Ok(Settled {
                answer,
                alone_because: Some(unavailable),
            }),
            Err(_) => Err(unavailable),
        }
    }

    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.0.settings.timeout
    }

    pub(crate) fn wanted_level(&self) -> Level {
        self.0.settings.level
    }

    pub(crate) fn level(&self) -> i32 {
        let level = match self.wanted_level() {
            Level::Committed => v1::ReceiptLevel::Committed,
            Level::Cosigned => v1::ReceiptLevel::Cosigned,
        };
        level.into()
    }
}
