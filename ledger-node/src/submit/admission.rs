//! Admission: what a command must pass before it may wait for its turn in the log.
//!
//! Here everything is looked at that the machine will look at again, so that the log holds little that makes no entry.

use std::sync::Arc;
use std::time::Instant;

use ledger_core::command::are_committed_to;
use ledger_core::evidence::utc;
use ledger_core::id::{Identity, RequestId};
use ledger_core::limits::MAX_SUBMISSION_LEN;
use ledger_core::machine::{Precheck, Refusal, find_request, precheck};
use ledger_core::state::StateError;
use ledger_proto::v1::{self, ErrorReason, command::Body};
use prost::Message;

use super::membership::{may_change, newcomers_must_answer};
use crate::apply::prepare::{CallKey, Preparer, call_key};
use crate::apply::receipts::Submitted;
use crate::clock::Clock;
use crate::failure::{Answer, Failure};
use crate::raft::adjustment::{adjusted_at, is_timely};
use crate::raft::standing::Leading;
use crate::reads::Reads;
use crate::storage::Store;
use crate::storage::view::StoreState;

/// Looks at commands.
#[derive(Debug)]
pub struct Admission {
    /// The store.
    pub store: Arc<dyn Store>,
    /// This node's clock.
    pub clock: Arc<dyn Clock>,
    /// Takes over the signature checks.
    pub preparer: Arc<Preparer>,
    /// Reads that are as fresh as the cluster.
    pub reads: Arc<Reads>,
}

/// What admission says of a command that it does not refuse.
#[derive(Debug)]
pub enum Admitted {
    /// Nothing speaks against it.
    New(Candidate),
    /// Its entry is in the ledger.
    Known,
}

/// A command that may wait for its turn.
#[derive(Debug)]
pub struct Candidate {
    /// Which call its entry answers.
    pub key: CallKey,
    /// In whose line it waits.
    pub author: Identity,
    /// Names its entry, together with the author.
    pub request_id: RequestId,
}

impl Admission {
    /// Form, signatures, request id, freshness.
    ///
    /// # Errors
    /// Why it is refused; nothing happened.
    pub async fn admit(&self, submission: &v1::Submission, deadline: Instant) -> Answer<Admitted> {
        if submission.encoded_len() > MAX_SUBMISSION_LEN {
            return Err(Refusal::Undecodable.into());
        }
        let mut found = self.look(submission)?;
        let is_uncertain = matches!(
            found,
            Precheck::Refused(
                Refusal::UnknownKey | Refusal::KeyNotActive | Refusal::RequestIdReused
            )
        );
        if is_uncertain {
            // This replica may lag: what it does not know may be in the log.
            self.reads.fully_consistent(deadline).await?;
            found = self.look(submission)?;
        }
        match found {
            Precheck::Admissible { command, checks } => {
                if !are_committed_to(&command, &submission.compartments) {
                    return Err(not_committed_to());
                }
                let command = *command;
                let now_us = self.clock.now_us();
                let leads = || self.reads.standing.borrow().leading == Leading::This;
                if matches!(command.body, Body::AdjustTime(_)) {
                    if !is_timely(command.issued_at_us, now_us) {
                        return Err(not_timely(command.issued_at_us, now_us));
                    }
                    if leads() {
                        return Err(not_ahead(now_us));
                    }
                }
                if let Body::UpdateMembership(ask) = &command.body {
                    may_change(&*self.store, ask)?;
                    // A new node knows the nodes of the genesis; whom the leader cannot reach it could not lead.
                    if leads() {
                        let (store, peers) = (&*self.store, &*self.reads.peers);
                        newcomers_must_answer(store, peers, &command.author, ask).await?;
                    }
                }
                let key = call_key(submission);
                self.preparer.remember(key, checks);
                Ok(Admitted::New(Candidate {
                    key,
                    author: command.author,
                    request_id: command.request_id,
                }))
            }
            Precheck::Known { .. } => Ok(Admitted::Known),
            Precheck::Refused(Refusal::Stale) if adjusted_at(submission).is_some() => {
                Err(not_of_this_end())
            }
            Precheck::Refused(refusal) => Err(refusal.into()),
        }
    }

    /// The answer to a command whose entry is in the ledger.
    ///
    /// # Errors
    /// There is no quorum until the deadline, the command's keys have ended, or this node is damaged.
    pub async fn replayed(
        &self,
        submission: &v1::Submission,
        deadline: Instant,
    ) -> Answer<Submitted> {
        // What holds now must be what holds in the cluster.
        self.reads.fully_consistent(deadline).await?;
        match self.look(submission)? {
            Precheck::Known { index, now } => {
                let answer = self.reads.submitted(index, Some(now));
                answer.map_err(Failure::once_brought)
            }
            Precheck::Refused(refusal) => Err(refusal.into()),
            Precheck::Admissible { .. } => {
                let what = "an entry that was on this node is gone; ask another node";
                Err(Failure::new(ErrorReason::DataDamaged, what).once_brought())
            }
        }
    }

    /// The answer to a command that was applied here after it was admitted; None if it was not.
    ///
    /// # Errors
    /// This node is damaged.
    pub fn applied(
        &self,
        candidate: &Candidate,
        submission: &v1::Submission,
    ) -> Answer<Option<Submitted>> {
        let state = StoreState(&*self.store);
        // Nearly always there is nothing, and one read of one key says so; signatures were checked already.
        if find_request(&state, &candidate.author, candidate.request_id)?.is_none() {
            return Ok(None);
        }
        match self.look(submission)? {
            Precheck::Known { index, now } => {
                let answer = self.reads.submitted(index, Some(now));
                answer.map(Some).map_err(Failure::once_brought)
            }
            // The id names another command, or the keys have ended since: the log says which.
            Precheck::Admissible { .. } | Precheck::Refused(_) => Ok(None),
        }
    }

    /// True if this node's own clock does not find the command stale.
    pub fn finds_fresh(&self, submission: &v1::Submission) -> bool {
        let found = self.look(submission);
        !matches!(found, Ok(Precheck::Refused(Refusal::Stale)))
    }

    fn look(&self, submission: &v1::Submission) -> Result<Precheck, StateError> {
        tokio::task::block_in_place(|| {
            precheck(&StoreState(&*self.store), self.clock.now_us(), submission)
        })
    }
}

/// No clock is to blame.
fn not_of_this_end() -> Failure {
    let what = "the adjustment of the ledger's time names another end of the ledger than it has on this node, or fewer admins have signed it than the genesis asks for; sign again with all of them";
    Failure::new(ErrorReason::ArgumentInvalid, what)
}

/// The author's clock would become the ledger's.
fn not_timely(made_at_us: u64, now_us: u64) -> Failure {
    let (made_at, now) = (utc(made_at_us), utc(now_us));
    let what = format!(
        "the adjustment of the ledger's time was made at {made_at}, and this node's clock shows {now}: one of the two clocks is off, or it was signed too long ago; see to the clock and sign again"
    );
    Failure::new(ErrorReason::ArgumentInvalid, what)
}

/// A command that adjusts is proposed only by a leader that finds the ledger ahead.
fn not_ahead(now_us: u64) -> Failure {
    let now = utc(now_us);
    let what = format!(
        "the ledger's time is not ahead: a quorum's clocks go with it, and this node's shows {now}; see to the clock of the machine where the command was signed"
    );
    Failure::new(ErrorReason::ArgumentInvalid, what)
}

/// It would travel to every replica and lie in every log, and nobody would ever look at it.
fn not_committed_to() -> Failure {
    Failure::new(
        ErrorReason::ArgumentInvalid,
        "`compartments` holds content that the command does not commit to, or two of one kind; send what was signed for",
    )
}
