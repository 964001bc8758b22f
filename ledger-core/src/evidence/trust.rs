//! From the trust policy that the verifier pinned to the one that is in force: change by change.
//!
//! Each change is an entry. It counts if a checkpoint that covers it meets the policy before it and the policy that it sets,
//! so that those who were trusted before hand trust on to those who come after.

use ledger_proto::v1::{self, command::Body, entry::Body as Answer, governance::Detail};

use super::proven::prove;
use super::verify::EvidenceError;
use crate::note::tlog_policy::TlogPolicy;
use crate::note::verify::verify_checkpoint;

/// Most changes of the trust policy in one piece of evidence.
const MAX_STEPS: usize = 1_024;

/// Where the steps lead.
#[derive(Debug)]
pub(super) struct Followed {
    /// The policy in force at their end.
    pub(super) policy: TlogPolicy,
    /// Its epoch; unknown if there were no steps.
    pub(super) epoch: Option<u64>,
    /// The leaf of the last change: the policy counts for ledgers that hold it.
    pub(super) last_index: Option<u64>,
}

/// Follows the steps from the pinned policy.
pub(super) fn follow(
    origin: &str,
    pinned: &TlogPolicy,
    steps: &[v1::TrustStep],
) -> Result<Followed, EvidenceError> {
    let mut policy = pinned.clone();
    let mut epoch: Option<u64> = None;
    let mut last_index: Option<u64> = None;
    if steps.len() > MAX_STEPS {
        return Err(EvidenceError::Order);
    }
    for step in steps {
        let proven = step.entry.as_ref().ok_or(EvidenceError::Order)?;
        let before = verify_checkpoint(step.checkpoint.as_bytes(), &policy)?;
        if before.checkpoint().origin() != origin {
            return Err(EvidenceError::Origin);
        }
        let change = prove(proven, &before)?;
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
        let replaced = blake3::hash(policy.to_string().as_bytes());
        if detail.previous_policy_digest != replaced.as_bytes() {
            return Err(contradiction(
                "a trust step that replaces another policy than the one before it",
            ));
        }
        let follows = epoch.is_none_or(|epoch| epoch.checked_add(1) == Some(detail.epoch))
            && last_index.is_none_or(|last| last < change.index);
        if !follows {
            return Err(contradiction("a trust step is missing before this one"));
        }
        policy = TlogPolicy::parse(ask.trust_policy.as_bytes())
            .map_err(|_| contradiction("a trust policy that does not parse"))?;
        verify_checkpoint(step.checkpoint.as_bytes(), &policy)?;
        epoch = Some(detail.epoch);
        last_index = Some(change.index);
    }
    Ok(Followed {
        policy,
        epoch,
        last_index,
    })
}
