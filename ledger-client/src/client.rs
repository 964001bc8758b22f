//! The client: signs, sends until there is an answer, and believes nothing that is not proven.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ledger_core::hash::Hash;
use ledger_core::id::{Identity, RequestId};
use ledger_core::note::checkpoint::Checkpoint;
use ledger_core::tree::verify::verify_consistency;
use ledger_proto::v1;
use prost::Message;
use tonic::Request;

use crate::answer::{Level, Proven};
use crate::decision::Decision;
use crate::error::Error;
use crate::paths;
use crate::signing::{Ask, Author, Signed, sign, signed_read, unsigned};
use crate::transport::Endpoints;
use crate::trust::Trust;
use crate::upgrade::{Upgrades, Upgrading};

/// How long a ledger that looks shorter than before may take to show that it is not.
const CATCH_UP: Duration = Duration::from_secs(3);
/// Steps of the trust policy asked for at a time.
const STEPS: u32 = 100;

/// How a client asks.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The nodes, such as `http://127.0.0.1:7401`; one is enough, all are better.
    pub endpoints: Vec<String>,
    /// How long a call may take, elections and retries included.
    pub timeout: Duration,
    /// What receipts should be worth when they come.
    pub level: Level,
    /// Types of critical conditions that the caller fulfils. A decision under any other is not a yes.
    pub known_conditions: BTreeSet<String>,
}

impl Settings {
    /// Ten seconds, committed receipts, no conditions known.
    #[must_use]
    pub fn new(endpoints: Vec<String>) -> Self {
        Self {
            endpoints,
            timeout: Duration::from_secs(10),
            level: Level::Committed,
            known_conditions: BTreeSet::new(),
        }
    }
}

/// A client of one ledger, for one author. Cheap to clone; clones share connections and memory.
#[derive(Debug, Clone)]
pub struct Client(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) settings: Settings,
    pub(crate) endpoints: Endpoints,
    pub(crate) trust: Trust,
    author: Option<Author>,
    cosigners: Vec<Author>,
    upgrading: Upgrading,
}

impl Inner {
    pub(crate) const fn upgrading(&self) -> &Upgrading {
        &self.upgrading
    }
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
}

impl Client {
    /// A client; nothing is dialled yet. Without an author it can make open reads only.
    ///
    /// # Errors
    /// [`Error::Configuration`]
    pub fn new(settings: Settings, trust: Trust, author: Option<Author>) -> Result<Self, Error> {
        Ok(Self(Arc::new(Inner {
            endpoints: Endpoints::new(&settings.endpoints)?,
            settings,
            trust,
            author,
            cosigners: Vec::new(),
            upgrading: Upgrading::default(),
        })))
    }

    /// The same client with others who sign every command beside the author.
    ///
    /// # Errors
    /// [`Error::Configuration`] if the client is shared already.
    pub fn with_cosigners(self, cosigners: Vec<Author>) -> Result<Self, Error> {
        let mut inner = Arc::try_unwrap(self.0).map_err(|_| {
            Error::Configuration("cosigners are set before a client is shared".to_owned())
        })?;
        inner.cosigners = cosigners;
        Ok(Self(Arc::new(inner)))
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
        self.0.author.as_ref().ok_or_else(|| {
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
        sign(self.origin(), self.author()?, &self.0.cosigners, asks)
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
        let answer: v1::SubmitResponse = self.change(path, signed, message).await?;
        let proven = self.prove(answer.receipt).await?;
        proven.answers(signed.command())?;
        Ok(Submitted {
            proven,
            request_id: RequestId::from_bytes(signed.request_id),
            replayed: answer.replayed,
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
        let answer: v1::AuthorizeResponse = self.change(paths::AUTHORIZE, signed, message).await?;
        self.decide(signed, answer, sent).await
    }

    pub(crate) async fn decide(
        &self,
        signed: &Signed,
        answer: v1::AuthorizeResponse,
        sent: Instant,
    ) -> Result<Decision, Error> {
        let proven = self.prove(answer.receipt).await?;
        proven.answers(signed.command())?;
        let request_id = RequestId::from_bytes(signed.request_id);
        let known = &self.0.settings.known_conditions;
        let said = (answer.replayed, answer.now);
        let mut decision = Decision::new(proven, request_id, said, sent, known)?;
        decision.input_salt = signed.salt(v1::CompartmentKind::Input);
        Ok(decision)
    }

    /// Makes a call that changes the ledger.
    pub(crate) async fn change<Q, A>(
        &self,
        path: &'static str,
        signed: &Signed,
        message: Q,
    ) -> Result<A, Error>
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
        self.open_read_by(path, message, self.deadline()).await
    }

    pub(crate) async fn open_read_by<Q, A>(
        &self,
        path: &'static str,
        message: Q,
        deadline: Instant,
    ) -> Result<A, Error>
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
        let author = self.author()?;
        let request = || signed_read(self.origin(), author, path, message.clone());
        self.0
            .endpoints
            .call(path, request, None, self.deadline())
            .await
    }

    /// Makes a read as the author whose answer comes in parts.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn read_stream<Q, A>(
        &self,
        path: &'static str,
        message: Q,
    ) -> Result<tonic::Streaming<A>, Error>
    where
        Q: Message + Clone + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let author = self.author()?;
        let request = || signed_read(self.origin(), author, path, message.clone());
        self.0.endpoints.stream(path, request).await
    }

    /// Checks a receipt: its entry, its proof, and who vouches for it. A provisional one is vouched for in the background.
    ///
    /// # Errors
    /// [`Error::Unproven`], [`Error::Inconsistent`]
    pub async fn prove(&self, receipt: Option<v1::Receipt>) -> Result<Proven, Error> {
        let receipt = receipt.ok_or_else(|| Error::Contradiction("there is no receipt".into()))?;
        let mut proven = Proven::verify(&receipt, &self.0.trust.policy())?;
        let promised = receipt.level() == v1::ReceiptLevel::Cosigned;
        if promised && proven.level == Level::Committed {
            // The trust policy may have changed since it was pinned.
            self.follow_trust().await?;
            proven = Proven::verify(&receipt, &self.0.trust.policy())?;
        }
        match proven.level {
            Level::Cosigned => self.observe(&proven.checkpoint).await?,
            Level::Committed => {
                self.contradicts_seen(&proven.checkpoint)?;
                self.0.upgrading.add(self, &proven.checkpoint);
            }
        }
        Ok(proven)
    }

    /// The newest checkpoint that meets the trust policy and covers a tree of at least this size, as text and parsed.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn checkpoint(&self, min_size: u64) -> Result<(String, Checkpoint), Error> {
        self.checkpoint_by(min_size, self.deadline()).await
    }

    pub(crate) async fn checkpoint_by(
        &self,
        min_size: u64,
        deadline: Instant,
    ) -> Result<(String, Checkpoint), Error> {
        let message = v1::GetCheckpointRequest {
            min_tree_size: min_size,
            receipt_level: v1::ReceiptLevel::Cosigned.into(),
        };
        let answer: v1::GetCheckpointResponse = self
            .open_read_by(paths::GET_CHECKPOINT, message, deadline)
            .await?;
        let note = answer.checkpoint;
        let checkpoint = match self.0.trust.verify(&note) {
            Ok(checkpoint) => checkpoint,
            Err(Error::Unproven(error)) if Error::lacks_quorum(&error) => {
                self.follow_trust().await?;
                self.0.trust.verify(&note)?
            }
            Err(error) => return Err(error),
        };
        if checkpoint.size().0 < min_size {
            return Err(Error::Contradiction(format!(
                "a checkpoint of size {} was given where {min_size} was asked for",
                checkpoint.size()
            )));
        }
        Ok((note, checkpoint))
    }

    /// Compares the cluster with what this client has seen before. A ledger that was cut short, rewritten or put back from an
    /// old copy is found out here.
    ///
    /// # Errors
    /// [`Error::Inconsistent`], or why the question could not be answered.
    pub async fn check(&self) -> Result<(), Error> {
        let Some(seen) = self.0.trust.seen() else {
            return Ok(());
        };
        let (_, newest) = self.checkpoint(0).await?;
        if newest.size() >= seen.size() {
            return self.observe(&newest).await;
        }
        let deadline = Instant::now() + CATCH_UP.min(self.0.settings.timeout);
        match self.checkpoint_by(seen.size().0, deadline).await {
            Ok((_, later)) => self.observe(&later).await,
            Err(_) => Err(Error::Inconsistent(format!(
                "the cluster vouches for {} entries, and this client has seen {} of them with a quorum's signatures: \
                 the ledger was put back from an old copy, or the nodes that answer lag far behind; \
                 find out which before you go on",
                newest.size(),
                seen.size()
            ))),
        }
    }

    /// Demands that a cosigned checkpoint is consistent with the one seen before, and remembers the larger one.
    pub(crate) async fn observe(&self, checkpoint: &Checkpoint) -> Result<(), Error> {
        if let Some(seen) = self.0.trust.seen() {
            let (old, new) = if seen.size() <= checkpoint.size() {
                (&seen, checkpoint)
            } else {
                (checkpoint, &seen)
            };
            self.must_extend(old, new, self.deadline()).await?;
        }
        self.0.trust.remember(checkpoint)
    }

    /// Demands that one tree is the beginning of another.
    pub(crate) async fn must_extend(
        &self,
        old: &Checkpoint,
        new: &Checkpoint,
        deadline: Instant,
    ) -> Result<(), Error> {
        let forked = |why: &str| {
            Error::Inconsistent(format!(
                "the ledger of {} entries with root {} does not contain the ledger of {} entries with root {} that was seen before ({why}): \
                 it was rewritten or forked; keep this client's memory and both roots as evidence",
                new.size(),
                new.root(),
                old.size(),
                old.root()
            ))
        };
        if old.size() == new.size() {
            return if old.root() == new.root() {
                Ok(())
            } else {
                Err(forked("two roots for one size"))
            };
        }
        let message = v1::GetConsistencyProofRequest {
            old_tree_size: old.size().0,
            new_tree_size: new.size().0,
        };
        let answer: v1::GetConsistencyProofResponse = self
            .open_read_by(paths::GET_CONSISTENCY_PROOF, message, deadline)
            .await?;
        let path: Option<Vec<Hash>> = answer
            .path
            .iter()
            .map(|hash| Hash::from_slice(hash))
            .collect();
        let path = path.ok_or_else(|| forked("its proof holds something that is no hash"))?;
        verify_consistency(
            new.tree_hash(),
            old.size(),
            &old.root(),
            new.size(),
            &new.root(),
            &path,
        )
        .map_err(|error| forked(&error.to_string()))
    }

    /// Two roots for one size are a fork, whoever signed them.
    fn contradicts_seen(&self, checkpoint: &Checkpoint) -> Result<(), Error> {
        let seen = self.0.trust.seen();
        match seen.filter(|seen| seen.size() == checkpoint.size()) {
            Some(seen) if seen.root() != checkpoint.root() => Err(Error::Inconsistent(format!(
                "a node vouches for the root {} at {} entries, and this client has seen the root {}: the ledger is forked",
                checkpoint.root(),
                checkpoint.size(),
                seen.root()
            ))),
            Some(_) | None => Ok(()),
        }
    }

    /// Fetches and checks the changes of the trust policy since the pinned one.
    async fn follow_trust(&self) -> Result<(), Error> {
        let mut steps = Vec::new();
        let mut page_token = String::new();
        loop {
            let message = v1::ListTrustStepsRequest {
                after_epoch: 0,
                page_size: STEPS,
                page_token: page_token.clone(),
            };
            let answer: v1::ListTrustStepsResponse =
                self.open_read(paths::LIST_TRUST_STEPS, message).await?;
            steps.extend(answer.trust_steps);
            if answer.next_page_token.is_empty() {
                break;
            }
            page_token = answer.next_page_token;
        }
        self.0.trust.follow(&steps)
    }

    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.0.settings.timeout
    }

    pub(crate) fn level(&self) -> i32 {
        let level = match self.0.settings.level {
            Level::Committed => v1::ReceiptLevel::Committed,
            Level::Cosigned => v1::ReceiptLevel::Cosigned,
        };
        level.into()
    }
}
