//! Applying recorded entries again, which is how a ledger is audited.
//!
//! Content may have been erased since, or not be shown to whoever audits. What followed from it cannot be found again: it is
//! taken from the entry, and everything else is still computed, to be compared. On a replica no content is ever gone that way,
//! so that there nothing can be taken from anywhere.

use ledger_proto::v1::{self, DecisionReason, entry::Body};

use policy_engine::{Explanation, Request};

use super::context::Context;
use super::tip::tip;
use super::{Applied, Machine, SignatureChecks};
use crate::hash::LeafIndex;
use crate::state::{Key, StateError, Txn};

/// What became of a recorded command.
#[derive(Debug, Clone, PartialEq)]
pub struct Reapplied {
    /// As if it had been applied for the first time.
    pub applied: Applied,
    /// True if something that rests on content was taken from the recorded entry instead of being found again.
    pub adopted: bool,
    /// What the rules were asked, if they were.
    pub asked: Option<Box<Request>>,
}

/// What applying a command finds besides its entry; replicas need nothing of it.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// True once something was taken from the recorded entry.
    pub(super) adopted: bool,
    /// What the rules were asked, kept only if the command is applied again.
    pub(super) asked: Option<Box<Request>>,
    /// Why the rules decided as they did, kept only if somebody wants to know.
    pub(super) explanation: Option<Box<Explanation>>,
}

impl Machine {
    /// Applies the command of an entry again, on the state before it, with the compartments that are still there. If the entry
    /// is true, the same entry comes out.
    ///
    /// # Errors
    /// As [`Machine::apply`].
    pub fn reapply(
        &self,
        txn: &mut Txn<'_>,
        entry: &v1::Entry,
        compartments: Vec<v1::Compartment>,
        checks: &SignatureChecks,
    ) -> Result<Reapplied, StateError> {
        let submission = v1::Submission {
            signed: entry.signed.clone(),
            compartments,
        };
        let clock_us = tip(txn)?.batch_clock_us(entry);
        let (applied, found) = self.run(txn, clock_us, &submission, checks, Some(entry))?;
        let Found { adopted, asked, .. } = found;
        Ok(Reapplied {
            applied,
            adopted,
            asked,
        })
    }
}

impl Context<'_, '_> {
    /// What rules once said about arguments that are gone: verdict, reason, rules, conditions, permit and escalation, of a
    /// decision that rules or schema made. Any other comes out as a denial, which the entry then differs from.
    pub(super) fn adopt_decision(&mut self) -> Result<v1::Decision, StateError> {
        let Some(Body::Decision(recorded)) = self.recorded else {
            return Err(gone(self.leaf));
        };
        self.found.adopted = true;
        let by_rules = matches!(
            recorded.reason(),
            DecisionReason::AllowedByPolicy
                | DecisionReason::NoMatchingPermit
                | DecisionReason::ForbiddenByPolicy
                | DecisionReason::ApprovalRequired
                | DecisionReason::SchemaMismatch
                | DecisionReason::UnknownAction
                | DecisionReason::HistoryLimit
                | DecisionReason::EvaluationError
        );
        if !by_rules {
            return Ok(v1::Decision::default());
        }
        Ok(v1::Decision {
            verdict: recorded.verdict,
            reason: recorded.reason,
            rules: recorded.rules.clone(),
            conditions: recorded.conditions.clone(),
            permit_expires_at_us: recorded.permit_expires_at_us,
            escalation: recorded.escalation.clone(),
            single_use: recorded.single_use,
            ..v1::Decision::default()
        })
    }

    /// True if the recorded decision was made before rules were asked: the facts about its resource, which are gone, were
    /// malformed.
    pub(super) fn recorded_before_rules(&self) -> bool {
        matches!(self.recorded, Some(Body::Decision(recorded))
            if recorded.reason() == DecisionReason::SchemaMismatch && recorded.bundle_digest.is_empty())
    }

    /// The outcome whose content is gone.
    pub(super) fn adopt_outcome(&mut self) -> Result<v1::Outcome, StateError> {
        let Some(Body::Outcome(recorded)) = self.recorded else {
            return Err(gone(self.leaf));
        };
        self.found.adopted = true;
        Ok(recorded.clone())
    }

    /// The opening of a session whose context, or whose parent's, is gone.
    pub(super) fn adopt_opening(&mut self) -> Result<v1::SessionOpening, StateError> {
        let Some(Body::SessionOpening(recorded)) = self.recorded else {
            return Err(gone(self.leaf));
        };
        self.found.adopted = true;
        Ok(recorded.clone())
    }
}

/// True if a stored compartment only keeps the place of content that is gone.
pub(super) fn is_gone(stored: &v1::Compartment) -> bool {
    *stored == v1::Compartment::default()
}

fn gone(leaf: LeafIndex) -> StateError {
    StateError::damaged(
        Key::entry(leaf),
        "the content of a compartment is needed and gone; run fsck",
    )
}
