//! From the trust policy that the verifier pinned to the one that is in force: change by change.
//!
//! Each change is an entry. It counts if a checkpoint that covers it meets the policy before it and the policy that it sets,
//! so that those who were trusted before hand trust on to those who come after. Changes that name the same checkpoint are
//! carried together: it meets the policy before the first and the one that the last sets. Those between them may be policies
//! that nobody could ever meet, such as that of a node that was added and never answered. Those trusted before the first vouch
//! for a tree that holds all of the changes, so a policy that is passed over could not have led anywhere else.

use ledger_proto::v1::{self, command::Body, entry::Body as Answer, governance::Detail};

use super::proven::prove;
use super::verify::EvidenceError;
use crate::note::tlog_policy::TlogPolicy;
use crate::note::verify::{VerifiedCheckpoint, verify_checkpoint};

/// Most changes of the trust policy in one piece of evidence.
const MAX_STEPS: usize = 1_024;

/// A trust policy of a ledger, and the epoch that it began there.
#[derive(Debug, Clone)]
pub struct TrustPosition {
    /// The epoch.
    pub epoch: u64,
    /// The policy.
    pub policy: TlogPolicy,
}

impl TrustPosition {
    /// Goes on over the changes that follow, as far as each is vouched for by the policy before it. Those that one checkpoint carries
    /// are taken together or not at all. Policies can repeat, when a node that was added leaves again: so only a change that begins
    /// the next epoch follows. Each position on the way is added to `passed`.
    ///
    /// # Errors
    /// [`EvidenceError`]: a step is missing, or not vouched for. The position is that before it.
    pub fn advance(
        &mut self,
        origin: &str,
        steps: &[v1::TrustStep],
        passed: &mut Vec<Self>,
    ) -> Result<(), EvidenceError> {
        for carried in carried_together(steps)? {
            let mut followed = Followed {
                policy: self.policy.clone(),
                epoch: Some(self.epoch),
                last_index: None,
                passed: Vec::new(),
            };
            followed.carry(origin, carried)?;
            passed.append(&mut followed.passed);
            self.policy = followed.policy;
            self.epoch = followed.epoch.unwrap_or(self.epoch);
        }
        Ok(())
    }
}

/// A trust policy that is followed from the pinned one while its changes come in pages. A page can end between changes that one
/// checkpoint carries.
#[derive(Debug)]
pub struct TrustFollower {
    origin: String,
    followed: Followed,
    /// The checkpoint that carries the last change, and its note; what it leads to is not vouched for yet.
    carrying: Option<(String, VerifiedCheckpoint)>,
    /// How many changes were taken.
    taken: usize,
}

impl TrustFollower {
    /// A follower that begins at the pinned policy.
    #[must_use]
    pub fn new(origin: &str, pinned: &TlogPolicy) -> Self {
        Self {
            origin: origin.to_owned(),
            followed: Followed::from_pinned(pinned),
            carrying: None,
            taken: 0,
        }
    }

    /// Takes the changes of the next page.
    ///
    /// # Errors
    /// [`EvidenceError`]: one of them does not follow from those before, is not vouched for, or is one too many. Nothing of this
    /// follower can be used then.
    pub fn add(&mut self, steps: &[v1::TrustStep]) -> Result<(), EvidenceError> {
        for step in steps {
            if self.taken == MAX_STEPS {
                return Err(EvidenceError::Order);
            }
            self.taken += 1;
            let carrying = match self.carrying.take() {
                Some(carrying) if carrying.0 == step.checkpoint => carrying,
                last => {
                    self.end(last)?;
                    let note = step.checkpoint.clone();
                    let checkpoint = self.followed.open(&self.origin, note.as_bytes())?;
                    (note, checkpoint)
                }
            };
            self.followed.change(step, &carrying.1)?;
            self.carrying = Some(carrying);
        }
        Ok(())
    }

    /// The policy to which all changes lead.
    ///
    /// # Errors
    /// [`EvidenceError`]: it is not met by the checkpoint that carries the last change.
    pub fn finish(mut self) -> Result<TlogPolicy, EvidenceError> {
        let last = self.carrying.take();
        self.end(last)?;
        Ok(self.followed.policy)
    }

    /// Demands that the checkpoint that carries changes meets the policy to which they lead.
    fn end(&self, carrying: Option<(String, VerifiedCheckpoint)>) -> Result<(), EvidenceError> {
        if let Some((note, _)) = carrying {
            verify_checkpoint(note.as_bytes(), &self.followed.policy)?;
        }
        Ok(())
    }
}

/// Where the steps lead.
#[derive(Debug)]
pub(super) struct Followed {
    /// The policy in force at their end.
    pub(super) policy: TlogPolicy,
    /// Its epoch; unknown if there were no steps.
    pub(super) epoch: Option<u64>,
    /// The leaf of the last change: the policy counts for ledgers that hold it.
    pub(super) last_index: Option<u64>,
    /// What each change led to.
    passed: Vec<TrustPosition>,
}

/// Follows the steps from the pinned policy.
pub(super) fn follow(
    origin: &str,
    pinned: &TlogPolicy,
    steps: &[v1::TrustStep],
) -> Result<Followed, EvidenceError> {
    let mut followed = Followed::from_pinned(pinned);
    for carried in carried_together(steps)? {
        followed.carry(origin, carried)?;
    }
    Ok(followed)
}

/// The steps in groups, each of those that one checkpoint carries.
fn carried_together(
    steps: &[v1::TrustStep],
) -> Result<impl Iterator<Item = &[v1::TrustStep]>, EvidenceError> {
    if steps.len() > MAX_STEPS {
        return Err(EvidenceError::Order);
    }
    Ok(steps.chunk_by(|one, next| one.checkpoint == next.checkpoint))
}

impl Followed {
    /// Before any change.
    fn from_pinned(pinned: &TlogPolicy) -> Self {
        Self {
            policy: pinned.clone(),
            epoch: None,
            last_index: None,
            passed: Vec::new(),
        }
    }

    /// The checkpoint that carries the next changes: those who are trusted before them vouch for it.
    fn open(&self, origin: &str, note: &[u8]) -> Result<VerifiedCheckpoint, EvidenceError> {
        let checkpoint = verify_checkpoint(note, &self.policy)?;
        if checkpoint.checkpoint().origin() == origin {
            Ok(checkpoint)
        } else {
            Err(EvidenceError::Origin)
        }
    }

    /// Follows changes that one checkpoint carries.
    fn carry(&mut self, origin: &str, steps: &[v1::TrustStep]) -> Result<(), EvidenceError> {
        let note = steps.first().map(|step| step.checkpoint.as_bytes());
        let note = note.ok_or(EvidenceError::Order)?;
        let checkpoint = self.open(origin, note)?;
        for step in steps {
            self.change(step, &checkpoint)?;
        }
        verify_checkpoint(note, &self.policy)?;
        Ok(())
    }

    /// Takes the policy that one change sets.
    fn change(
        &mut self,
        step: &v1::TrustStep,
        checkpoint: &VerifiedCheckpoint,
    ) -> Result<(), EvidenceError> {
        let proven = step.entry.as_ref().ok_or(EvidenceError::Order)?;
        let change = prove(proven, checkpoint)?;
        let contradiction = |what| EvidenceError::Contradiction {
            index: change.index,
            what,
        };
        let (Some(Answer::Governance(answer)), Some(Body::UpdateMembership(ask))) = (
            &change.entry.body,
            change
                .command
                .as_ref()
                .and_then(|command| command.body.as_ref()),
        ) else {
            return Err(contradiction(
                "a trust step that is not a change of membership",
            ));
        };
        let Some(Detail::TrustEpoch(detail)) = &answer.detail else {
            return Err(contradiction("a change of membership that had no effect"));
        };
        // Without this, whoever holds keys that were trusted once could hand trust back to them.
        let replaced = blake3::hash(self.policy.to_string().as_bytes());
        if detail.previous_policy_digest != replaced.as_bytes() {
            return Err(contradiction(
                "a trust step that replaces another policy than the one before it",
            ));
        }
        let follows = self
            .epoch
            .is_none_or(|epoch| epoch.checked_add(1) == Some(detail.epoch))
            && self.last_index.is_none_or(|last| last < change.index);
        if !follows {
            return Err(contradiction("a trust step is missing before this one"));
        }
        self.policy = TlogPolicy::parse(ask.trust_policy.as_bytes())
            .map_err(|_| contradiction("a trust policy that does not parse"))?;
        self.epoch = Some(detail.epoch);
        self.last_index = Some(change.index);
        self.passed.push(TrustPosition {
            epoch: detail.epoch,
            policy: self.policy.clone(),
        });
        Ok(())
    }
}
