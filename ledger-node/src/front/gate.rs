//! What every call passes: its deadline, its signature, the freshness it asks for, and a place among the workers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ledger_core::hash::TreeSize;
use ledger_core::machine::{self, Liveness};
use ledger_proto::v1::{self, ErrorReason, ReceiptLevel, command::Body, consistency::Requirement};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response};

use super::follow::Follows;
use super::read_auth::{ReadRequest, ReadSignature};
use super::rights::Reader;
use super::sending::Room;
use super::workers::Workers;
use crate::apply::receipts::Submitted;
use crate::failure::{Answer, Failure, Reply, argument};
use crate::ledger::Ledger;
use crate::limits::{FOLLOW_WORKERS, OPEN_READ_WORKERS, READ_WORKERS};
use crate::storage::view::View;

/// Time of a call that states no deadline.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time of a call.
const MAX_TIMEOUT: Duration = Duration::from_secs(60);
/// Most of a call's time that is kept back, so that the answer about a deadline comes before the deadline.
const MAX_RESERVE: Duration = Duration::from_millis(250);
/// How long somebody whom this node does not know may have it wait for a fresher state: long enough for a key that was
/// registered a moment ago to arrive, which takes one heartbeat, and too short to keep calls open for nothing.
const STRANGERS_WAIT: Duration = Duration::from_secs(2);

/// The way into the ledger. Clones are the same gate.
#[derive(Debug, Clone)]
pub struct Gate {
    /// The ledger behind it.
    pub ledger: Ledger,
    /// Who follows.
    pub(super) follows: Follows,
    /// Room for evidence.
    pub(super) evidence: Room,
    workers: Workers,
    open_workers: Workers,
    follow_workers: Workers,
}

/// A read whose signature holds, on a state that is as fresh as asked for.
#[derive(Debug)]
pub struct Opened<R> {
    /// What is asked.
    pub request: R,
    /// By whom.
    pub reader: Reader,
    /// On which state.
    pub view: View,
    /// Until when.
    pub deadline: Instant,
}

impl Gate {
    /// A gate to this ledger.
    #[must_use]
    pub fn new(ledger: Ledger) -> Self {
        Self {
            ledger,
            follows: Follows::default(),
            evidence: Room::default(),
            workers: Workers::new(READ_WORKERS),
            open_workers: Workers::new(OPEN_READ_WORKERS),
            follow_workers: Workers::new(FOLLOW_WORKERS),
        }
    }

    /// Submits a command whose body is of the kind that the rpc takes.
    ///
    /// # Errors
    /// `COMMAND_MALFORMED`, `COMMAND_MISMATCH`, and what the ledger says.
    pub async fn submit(
        &self,
        submission: Option<v1::Submission>,
        level: ReceiptLevel,
        deadline: Instant,
        fits: fn(&Body) -> bool,
    ) -> Answer<Submitted> {
        let submission = submission.ok_or_else(|| malformed("the submission is missing"))?;
        check_body(&submission, fits)?;
        self.ledger.submit(submission, level, deadline).await
    }

    /// Answers an rpc whose request is a submission and nothing else.
    ///
    /// # Errors
    /// Those of [`Gate::submit`].
    pub async fn govern(
        &self,
        request: Request<v1::SubmitRequest>,
        fits: fn(&Body) -> bool,
    ) -> Reply<v1::SubmitResponse> {
        let deadline = deadline(request.metadata());
        let request = request.into_inner();
        let level = level(request.receipt_level)?;
        let submitted = self
            .submit(request.submission, level, deadline, fits)
            .await?;
        Ok(Response::new(v1::SubmitResponse {
            receipt: receipt(&submitted),
            replayed: submitted.replayed.is_some(),
        }))
    }

    /// Lets a signed read in.
    ///
    /// # Errors
    /// The failures of a read's signature, and of the freshness asked for.
    pub async fn open<R: ReadRequest>(
        &self,
        request: Request<R>,
        consistency: Option<v1::Consistency>,
    ) -> Answer<Opened<R>> {
        let deadline = deadline(request.metadata());
        let signature = ReadSignature::parse(request.metadata())?;
        signature
            .check_time(self.ledger.clock_us())
            .map_err(|failure| self.ledger.or_clock_is_off(failure))?;
        let asked = Arc::new((signature, request.into_inner()));
        let requirement = consistency.and_then(|consistency| consistency.requirement);
        let waits = !matches!(requirement, Some(Requirement::MinimizeLatency(_)));
        // Freshness may be a minute away, and whoever is nobody must not be waited for.
        let known = if waits {
            let view = self.ledger.view();
            self.identify(&asked, view, deadline).await.is_ok()
        } else {
            true
        };
        let until = if known {
            deadline
        } else {
            deadline.min(Instant::now() + STRANGERS_WAIT)
        };
        let view = self.fresh(requirement, until).await?;
        // A key can be registered or retired meanwhile: what counts is the state that the answer comes from.
        let (reader, view) = self.identify(&asked, view, deadline).await?;
        let (_, request) = Arc::unwrap_or_clone(asked);
        Ok(Opened {
            request,
            reader,
            view,
            deadline,
        })
    }

    /// Who asks, in this state.
    async fn identify<R: ReadRequest>(
        &self,
        asked: &Arc<(ReadSignature, R)>,
        view: View,
        deadline: Instant,
    ) -> Answer<(Reader, View)> {
        let (origin, now_us) = (self.ledger.origin().to_owned(), self.ledger.now_us());
        let asked = Arc::clone(asked);
        self.work(deadline, move || {
            let (signature, request) = asked.as_ref();
            let reader = Reader::identify(&view, &origin, now_us, signature, request)?;
            Ok((reader, view))
        })
        .await
    }

    /// Lets a signed read in and answers it on a worker.
    ///
    /// # Errors
    /// Those of [`Gate::open`], and those of the answer.
    pub async fn read<R: ReadRequest, T: Send + 'static>(
        &self,
        request: Request<R>,
        consistency: Option<v1::Consistency>,
        answer: impl FnOnce(Opened<R>) -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        let opened = self.open(request, consistency).await?;
        self.work(opened.deadline, move || answer(opened)).await
    }

    /// The state, at least as fresh as asked for.
    async fn fresh(&self, requirement: Option<Requirement>, deadline: Instant) -> Answer<View> {
        let stated = |set: bool| {
            if set {
                Ok(())
            } else {
                Err(argument("a requirement of `consistency` must be true"))
            }
        };
        match requirement {
            None => self.ledger.fully_consistent(deadline).await?,
            Some(Requirement::FullyConsistent(set)) => {
                stated(set)?;
                self.ledger.fully_consistent(deadline).await?;
            }
            Some(Requirement::AtLeastAsFresh(size)) => {
                self.ledger.at_least(TreeSize(size), deadline).await?;
            }
            Some(Requirement::MinimizeLatency(set)) => stated(set)?,
        }
        Ok(self.ledger.view())
    }

    /// Runs what reads the store on a thread that may block.
    ///
    /// # Errors
    /// `QUEUE_FULL` if no worker becomes free, `INTERNAL` if the work does not end, and those of the work.
    pub async fn work<T: Send + 'static>(
        &self,
        deadline: Instant,
        work: impl FnOnce() -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        self.workers.run(deadline, work).await
    }

    /// The same for reads that are open to strangers.
    ///
    /// # Errors
    /// Those of [`Gate::work`].
    pub async fn work_open<T: Send + 'static>(
        &self,
        deadline: Instant,
        work: impl FnOnce() -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        self.open_workers.run(deadline, work).await
    }

    /// The same for those who follow.
    ///
    /// # Errors
    /// Those of [`Gate::work`].
    pub(super) async fn work_following<T: Send + 'static>(
        &self,
        deadline: Instant,
        work: impl FnOnce() -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        self.follow_workers.run(deadline, work).await
    }

    /// A checkpoint of at least that size, and a view that covers it. If COSIGNED does not come in time, one that is only
    /// COMMITTED.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn checkpoint(
        &self,
        min_size: TreeSize,
        level: ReceiptLevel,
        deadline: Instant,
    ) -> Answer<Proving> {
        let left = deadline.saturating_duration_since(Instant::now());
        let cosigned = match level {
            ReceiptLevel::Cosigned => {
                // A fifth of the time stays for the answer without cosignatures.
                let until = deadline.checked_sub(left / 5).unwrap_or(deadline);
                self.ledger.checkpoint(min_size, level, until).await.ok()
            }
            ReceiptLevel::Unspecified | ReceiptLevel::Committed => None,
        };
        let level = match cosigned {
            Some(_) => ReceiptLevel::Cosigned,
            None => ReceiptLevel::Committed,
        };
        let (note, size) = match cosigned {
            Some(cosigned) => cosigned,
            None => self.ledger.checkpoint(min_size, level, deadline).await?,
        };
        self.ledger.at_least(size, deadline).await?;
        Ok(Proving {
            view: self.ledger.view(),
            note,
            size,
            level,
        })
    }
}

/// A checkpoint, and a view that covers it.
#[derive(Debug, Clone)]
pub struct Proving {
    /// The state.
    pub view: View,
    /// The signed note.
    pub note: Arc<str>,
    /// The size that the note states.
    pub size: TreeSize,
    /// What the note is worth.
    pub level: ReceiptLevel,
}

/// Refuses a command of another kind than the rpc takes. Everything else about it is checked where it is submitted.
fn check_body(submission: &v1::Submission, fits: fn(&Body) -> bool) -> Answer<()> {
    let signed = submission.signed.as_ref();
    let signed = signed.ok_or_else(|| malformed("the signed command is missing"))?;
    let command = ledger_core::command::Command::parse(signed)?;
    if fits(&command.body) {
        Ok(())
    } else {
        Err(Failure::new(
            ErrorReason::CommandMismatch,
            "this rpc takes another kind of command; call the one that bears the command's name",
        ))
    }
}

/// When the answer must be there: the time that the caller gives, less a reserve.
#[must_use]
pub fn deadline(metadata: &MetadataMap) -> Instant {
    let stated = metadata
        .get("grpc-timeout")
        .and_then(|value| parse_timeout(value.to_str().ok()?));
    let timeout = stated.unwrap_or(DEFAULT_TIMEOUT).min(MAX_TIMEOUT);
    let reserve = MAX_RESERVE.min(timeout / 10);
    Instant::now() + timeout.saturating_sub(reserve)
}

/// A `grpc-timeout`: at most 8 digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let all_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    if !(1..=8).contains(&digits.len()) || !all_digits {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3_600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// What a level means where UNSPECIFIED is COMMITTED.
///
/// # Errors
/// `ARGUMENT_INVALID` for a number that is no level.
pub fn level(number: i32) -> Answer<ReceiptLevel> {
    match ReceiptLevel::try_from(number) {
        Ok(ReceiptLevel::Unspecified) => Ok(ReceiptLevel::Committed),
        Ok(level) => Ok(level),
        Err(_) => Err(argument("`receipt_level` is not a level")),
    }
}

/// The state that a view shows.
///
/// # Errors
/// Damaged state.
pub fn as_of(view: &View) -> Answer<Option<v1::AsOf>> {
    let tip = machine::tip(view)?;
    Ok(Some(v1::AsOf {
        tree_size: tip.size.0,
        time_us: tip.time_us,
    }))
}

/// What holds now, as messages have it.
#[must_use]
pub const fn liveness(now: Liveness) -> v1::Liveness {
    v1::Liveness {
        time_us: now.time_us,
        permit_lives: now.permit_lives,
        agent_active: now.agent_active,
        session_open: now.session_open,
        halted: now.halted,
        redeemed: now.redeemed,
    }
}

/// The receipt of a command.
#[must_use]
pub fn receipt(submitted: &Submitted) -> Option<v1::Receipt> {
    Some(v1::Receipt {
        entry: Some(submitted.entry.clone()),
        checkpoint: submitted.checkpoint.to_string(),
        level: submitted.level.into(),
    })
}

fn malformed(message: &str) -> Failure {
    Failure::new(ErrorReason::CommandMalformed, message)
}
