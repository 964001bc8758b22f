//! The write path: admission, the way to the leader, and waiting for the entry.
//!
//! A caller waits on its own node, whoever leads. While it waits the command is brought to the leader, and again to each new
//! one: a request id names at most one entry, so bringing it twice does nothing twice.

pub mod admission;
pub mod compile;
pub mod forward;
pub mod membership;
pub mod pace;
pub mod proposer;
pub mod queue;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ledger_core::command::Command;
use ledger_core::id::Identity;
use ledger_proto::v1::{self, ErrorReason};
use prost::Message;
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use self::admission::{Admission, Admitted, Candidate};
use self::compile::Compiler;
use self::forward::{Forwarded, Forwarder, enqueue};
use self::queue::{Queue, QueueFull};
use crate::apply::receipts::Submitted;
use crate::apply::waiters::{Place, Waiters};
use crate::failure::{Answer, Failure};
use crate::limits::MAX_WAITING;
use crate::raft::adjustment::adjusted_at;
use crate::raft::standing::{Leading, Standing};

/// How long a caller waits for its entry before it brings the command to the leader again.
const BRING_AGAIN: Duration = Duration::from_secs(1);
/// How long it waits after the way to the leader broke.
const PAUSE: Duration = Duration::from_millis(50);

/// The write path of a node.
#[derive(Debug)]
pub struct Submitter {
    /// What every command passes first.
    pub admission: Arc<Admission>,
    /// Those who wait.
    pub waiters: Arc<Waiters>,
    /// The queue of this node, if it leads.
    pub queue: Arc<Queue>,
    /// The way to another leader.
    pub forwarder: Forwarder,
    /// Who leads.
    pub standing: watch::Receiver<Standing>,
    /// Has bundles compiled before they are needed.
    pub compiler: Arc<Compiler>,
    /// Room for the commands of callers that wait here.
    pub room: Room,
}

/// Room for the commands of callers that wait on one node. Clones are the same room.
#[derive(Debug, Clone)]
pub struct Room(Arc<Semaphore>);

/// What room is counted in.
const UNIT: usize = 1 << 10;

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_WAITING / UNIT)))
    }
}

/// True if a node says that the command is its own; whether it is, admission sees.
fn is_of_node(submission: &v1::Submission) -> bool {
    let signed = submission.signed.as_ref();
    let command = signed.and_then(|signed| Command::parse(signed).ok());
    command.is_some_and(|command| matches!(command.author, Identity::Node(_)))
}

impl Room {
    /// Room for a command, until what is returned is dropped.
    fn take(&self, submission: &v1::Submission) -> Result<SemaphorePermit<'_>, QueueFull> {
        let units = submission.encoded_len().div_ceil(UNIT).max(1);
        let units = u32::try_from(units).map_err(|_| QueueFull::Waiting)?;
        self.0
            .try_acquire_many(units)
            .map_err(|_| QueueFull::Waiting)
    }
}

/// Whether the command may have reached a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Brought {
    Nowhere,
    Perhaps,
}

impl Brought {
    /// The failure of a call whose command has come so far.
    fn of(self, failure: Failure) -> Failure {
        match self {
            Self::Nowhere => failure,
            Self::Perhaps => failure.once_brought(),
        }
    }
}

impl Submitter {
    /// Brings a command into the ledger and waits for its entry.
    ///
    /// # Errors
    /// [`Failure`], which says whether anything happened.
    pub async fn submit(&self, submission: v1::Submission, deadline: Instant) -> Answer<Submitted> {
        let _room = match self.room.take(&submission) {
            Ok(place) => Some(place),
            // What a node brings itself is short and seldom, and keeps the cluster going.
            Err(_) if is_of_node(&submission) => None,
            Err(full) => return Err(full.into()),
        };
        let candidate = match self.admission.admit(&submission, deadline).await? {
            Admitted::New(candidate) => candidate,
            Admitted::Known => return self.admission.replayed(&submission, deadline).await,
        };
        self.compiler
            .compile_on_quorum(&submission, deadline)
            .await?;
        // Only now: whoever is refused takes no place from others.
        let place = self.waiters.register(candidate.key)?;
        self.bring(&submission, &candidate, place, deadline).await
    }

    async fn bring(
        &self,
        submission: &v1::Submission,
        candidate: &Candidate,
        mut place: Place<'_>,
        deadline: Instant,
    ) -> Answer<Submitted> {
        let mut standing = self.standing.clone();
        let mut brought = Brought::Nowhere;
        let end = tokio::time::sleep_until(deadline.into());
        tokio::pin!(end);
        loop {
            let now = standing.borrow_and_update().clone();
            // An entry that came before the place was taken is answered here, one that comes after it at the place. A snapshot
            // brings entries that no place hears of, so each round begins with a look.
            match self.admission.applied(candidate, submission) {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => {}
                Err(failure) => return Err(brought.of(failure)),
            }
            let round = async {
                let brought = &mut brought;
                let again = self.bring_once(candidate, submission, &now, brought);
                tokio::time::sleep(again.await?).await;
                Ok::<_, Failure>(())
            };
            tokio::select! {
                answer = place.answer() => return answer,
                () = &mut end => return self.last_look(candidate, submission, brought),
                // Also while the leader has not said whether it took the command: one that stands still never will.
                changed = standing.changed() => {
                    if changed.is_err() {
                        return self.last_look(candidate, submission, brought);
                    }
                }
                over = round => over?,
            }
        }
    }

    /// Brings the command to the leader, if there is one. Returns when to do it again.
    async fn bring_once(
        &self,
        candidate: &Candidate,
        submission: &v1::Submission,
        standing: &Standing,
        brought: &mut Brought,
    ) -> Answer<Duration> {
        let adjusts = || adjusted_at(submission).is_some();
        match &standing.leading {
            Leading::ThisAdjusting if !adjusts() => Ok(BRING_AGAIN),
            Leading::This | Leading::ThisAdjusting => {
                match enqueue(&self.queue, candidate, submission.clone()) {
                    Ok(()) => {
                        *brought = Brought::Perhaps;
                        Ok(BRING_AGAIN)
                    }
                    Err(full) if *brought == Brought::Nowhere => Err(full),
                    Err(_) => Ok(BRING_AGAIN),
                }
            }
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
                    // One clock against another: this node's has found the command fresh. If the leader's is off, another one will
                    // lead soon; if this node's is, it says so by itself.
                    Forwarded::Refused(error)
                        if error.reason() == ErrorReason::RequestStale
                            && self.admission.finds_fresh(submission) =>
                    {
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
    fn last_look(
        &self,
        candidate: &Candidate,
        submission: &v1::Submission,
        brought: Brought,
    ) -> Answer<Submitted> {
        if let Ok(Some(answer)) = self.admission.applied(candidate, submission) {
            return Ok(answer);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_on_a_node_is_bounded_and_room_comes_back() {
        let room = Room::default();
        let long = v1::Submission {
            compartments: vec![v1::Compartment {
                content: vec![7; 256 << 10],
                ..v1::Compartment::default()
            }],
            ..v1::Submission::default()
        };
        let mut held = Vec::new();
        let full = loop {
            match room.take(&long) {
                Ok(place) => held.push(place),
                Err(full) => break full,
            }
        };
        assert_eq!(full, QueueFull::Waiting);
        assert!((90..=96).contains(&held.len()), "{}", held.len());
        held.pop();
        assert!(room.take(&long).is_ok());
    }
}
