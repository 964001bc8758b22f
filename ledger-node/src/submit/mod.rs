//! The write path: admission, the way to the leader, and waiting for the entry.
//!
//! A caller waits on its own node, whoever leads. While it waits the command is brought to the leader, and again to each new
//! one: a request id names at most one entry, so bringing it twice does nothing twice.

pub mod compile;
pub mod forward;
pub mod pace;
pub mod proposer;
pub mod queue;
pub mod standing;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ledger_core::limits::MAX_SUBMISSION_LEN;
use ledger_core::machine::{Precheck, Refusal, precheck};
use ledger_proto::v1::{self, ErrorReason};
use prost::Message;
use tokio::sync::watch;

use self::compile::Compiler;
use self::forward::{Forwarded, Forwarder, enqueue};
use self::queue::Queue;
use self::standing::{Leading, Standing};
use crate::apply::prepare::{CallKey, Preparer, call_key};
use crate::apply::waiters::Waiters;
use crate::clock::Clock;
use crate::front::failure::{Answer, Failure};
use crate::node::ledger::Submitted;
use crate::node::reads::Reads;
use crate::node::view::StoreState;
use crate::storage::Store;

/// How long a caller waits for its entry before it brings the command to the leader again.
const BRING_AGAIN: Duration = Duration::from_secs(1);
/// How long it waits after the way to the leader broke.
const PAUSE: Duration = Duration::from_millis(50);

/// The write path of a node.
#[derive(Debug)]
pub struct Submitter {
    /// The store.
    pub store: Arc<dyn Store>,
    /// This node's clock.
    pub clock: Arc<dyn Clock>,
    /// Takes over the signature checks of admission.
    pub preparer: Arc<Preparer>,
    /// Those who wait.
    pub waiters: Arc<Waiters<Answer<Submitted>>>,
    /// The queue of this node, if it leads.
    pub queue: Arc<Queue>,
    /// The way to another leader.
    pub forwarder: Forwarder,
    /// Who leads.
    pub standing: watch::Receiver<Standing>,
    /// Has bundles compiled before they are needed.
    pub compiler: Arc<Compiler>,
    /// Reads that are as fresh as the cluster.
    pub reads: Arc<Reads>,
}

/// Whether the command may have reached a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Brought {
    Nowhere,
    Perhaps,
}

impl Submitter {
    /// Brings a command into the ledger and waits for its entry.
    ///
    /// # Errors
    /// [`Failure`], which says whether anything happened.
    pub async fn submit(&self, submission: v1::Submission, deadline: Instant) -> Answer<Submitted> {
        if submission.encoded_len() > MAX_SUBMISSION_LEN {
            return Err(Refusal::Undecodable.into());
        }
        let key = call_key(&submission);
        // Before looking whether the entry is there: it may come in between.
        let waiting = Registered {
            waiters: &self.waiters,
            key,
            answer: Some(self.waiters.register(key)),
        };
        if let Some(answer) = self.admit(&submission, key, deadline).await? {
            return Ok(answer);
        }
        self.compiler
            .compile_on_quorum(&submission, deadline)
            .await?;
        self.bring(&submission, waiting, deadline).await
    }

    /// Form, signatures, request id, freshness. A command that is in the ledger is answered here.
    async fn admit(
        &self,
        submission: &v1::Submission,
        key: CallKey,
        deadline: Instant,
    ) -> Answer<Option<Submitted>> {
        let look = || {
            tokio::task::block_in_place(|| {
                precheck(&StoreState(&*self.store), self.clock.now_us(), submission)
            })
        };
        let mut found = look()?;
        let certain = match &found {
            Precheck::Admissible { .. } => true,
            Precheck::Refused(refusal) => !matches!(
                refusal,
                Refusal::UnknownKey | Refusal::KeyNotActive | Refusal::RequestIdReused
            ),
            // What holds now must be what holds in the cluster.
            Precheck::Known { .. } => false,
        };
        if !certain {
            // This replica may lag: what it does not know may be in the log.
            self.reads.fully_consistent(deadline).await?;
            found = look()?;
        }
        match found {
            Precheck::Admissible { checks, .. } => {
                self.preparer.remember(key, checks);
                Ok(None)
            }
            Precheck::Known { index, now } => self.reads.submitted(index, Some(now)).map(Some),
            Precheck::Refused(refusal) => Err(refusal.into()),
        }
    }

    async fn bring(
        &self,
        submission: &v1::Submission,
        mut waiting: Registered<'_>,
        deadline: Instant,
    ) -> Answer<Submitted> {
        let mut standing = self.standing.clone();
        let mut brought = Brought::Nowhere;
        let end = tokio::time::sleep_until(deadline.into());
        tokio::pin!(end);
        loop {
            let now = standing.borrow_and_update().clone();
            let again = tokio::select! {
                answer = waiting.answer() => return answer,
                () = &mut end => return self.last_look(submission, brought),
                again = self.bring_once(submission, &now, &mut brought) => again?,
            };
            tokio::select! {
                answer = waiting.answer() => return answer,
                () = &mut end => return self.last_look(submission, brought),
                changed = standing.changed() => {
                    if changed.is_err() {
                        return self.last_look(submission, brought);
                    }
                }
                () = tokio::time::sleep(again) => {}
            }
        }
    }

    /// Brings the command to the leader, if there is one. Returns when to do it again.
    async fn bring_once(
        &self,
        submission: &v1::Submission,
        standing: &Standing,
        brought: &mut Brought,
    ) -> Answer<Duration> {
        match &standing.leading {
            Leading::This => match enqueue(&self.queue, submission.clone()) {
                Ok(()) => {
                    *brought = Brought::Perhaps;
                    Ok(BRING_AGAIN)
                }
                Err(full) if *brought == Brought::Nowhere => Err(full),
                Err(_) => Ok(BRING_AGAIN),
            },
            Leading::Other { node_id, address } => {
                let before = *brought;
                *brought = Brought::Perhaps;
                let forwarded = self
                    .forwarder
                    .forward(*node_id, address, submission.clone())
                    .await;
                match forwarded {
                    Forwarded::Queued => Ok(BRING_AGAIN),
                    Forwarded::Lost => Ok(PAUSE),
                    Forwarded::NotLeader => {
                        *brought = before;
                        Ok(PAUSE)
                    }
                    Forwarded::Refused(error) if before == Brought::Nowhere => {
                        let wait = Duration::from_millis(error.retry_after_ms);
                        Err(Failure::new(error.reason(), error.message).after(wait))
                    }
                    Forwarded::Refused(_) => Ok(BRING_AGAIN),
                }
            }
            Leading::Nobody => Ok(BRING_AGAIN),
        }
    }

    /// At the deadline: the entry may be there although nobody said so.
    fn last_look(&self, submission: &v1::Submission, brought: Brought) -> Answer<Submitted> {
        let found = precheck(&StoreState(&*self.store), self.clock.now_us(), submission);
        if let Ok(Precheck::Known { index, now }) = found {
            return self.reads.submitted(index, Some(now));
        }
        Err(match brought {
            Brought::Nowhere => Failure::new(
                ErrorReason::NoQuorum,
                "this node knows of no leader: too few nodes are up or can be reached; nothing was done, send the same command again",
            )
            .after(Duration::from_secs(1)),
            Brought::Perhaps => Failure::new(
                ErrorReason::Undetermined,
                "the deadline came before the answer: the command may or may not be in the ledger; send the same bytes again to find out",
            ),
        })
    }
}

/// A place among those who wait, given up on drop.
struct Registered<'w> {
    waiters: &'w Waiters<Answer<Submitted>>,
    key: CallKey,
    answer: Option<tokio::sync::oneshot::Receiver<Answer<Submitted>>>,
}

impl Registered<'_> {
    async fn answer(&mut self) -> Answer<Submitted> {
        let stopped = || {
            Failure::new(
                ErrorReason::Undetermined,
                "this node is stopping; send the same bytes to another node to find out",
            )
        };
        match &mut self.answer {
            Some(answer) => answer.await.map_err(|_| stopped())?,
            None => Err(stopped()),
        }
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.answer = None;
        self.waiters.forget(&self.key);
    }
}
