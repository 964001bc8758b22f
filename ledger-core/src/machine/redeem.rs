//! Redemption of a permit: an entry that says yes once, at its own place in the ledger, or says what has changed since the
//! decision.
//!
//! A decision is true for ever, and what it rests on is not. Whoever is about to act redeems the permit: the first redemption
//! that finds everything as it was is the only one, whoever else holds the same answer.

use ledger_proto::v1::{
    self, Assurance, ExecutionStatus, GatewayPermission, IdentityStatus,
    RedemptionReason as Reason, StateDrift, Verdict,
};

use super::admission::is_active;
use super::authorize::{action_id, key_leaves, link};
use super::context::{Context, Stop};
use super::delegation::gateway_may;
use super::halt::{self, Attempt};
use super::session::Standing;
use super::subject::{Subject, find};
use crate::hash::LeafIndex;
use crate::id::{Identity, KeyId};
use crate::state::{Key, StateError, Txn};

/// Bytes of the commitment of what will run.
const DIGEST_LEN: usize = 32;

pub(super) fn redeem(
    context: &mut Context<'_, '_>,
    ask: &v1::Redeem,
) -> Result<v1::Redemption, Stop> {
    let mut redemption = v1::Redemption {
        presenter: Some(context.presenter().to_message()),
        keys: key_leaves(context.signers),
        ..v1::Redemption::default()
    };
    let leaf = LeafIndex(ask.decision_index);
    let (reason, permit) = match find(context, leaf)? {
        _ if ask.input_digest.len() != DIGEST_LEN => (Reason::InvalidRequest, None),
        None => (Reason::DecisionUnknown, None),
        Some(permit) => {
            redemption.namespace.clone_from(&permit.decision.namespace);
            match assurance(context, &permit)? {
                None => (Reason::PresenterNotPermitted, None),
                Some(assurance) => {
                    redemption.assurance = assurance.into();
                    let reason = judge(context, ask, &permit, &mut redemption)?;
                    (reason, Some(permit))
                }
            }
        }
    };
    redemption.reason = reason.into();
    // Whoever may not redeem does not get to write into the session's chain.
    redemption.chain = permit
        .as_ref()
        .and_then(|permit| permit.session.as_ref())
        .map(|(id, session, standing)| link(*id, session, *standing));
    if reason == Reason::Redeemed {
        redemption.permit_expires_at_us =
            permit.map_or(0, |permit| permit.decision.permit_expires_at_us);
        let record = v1::LeafRecord {
            leaf: context.leaf.0,
        };
        context.txn.write(Key::redemption_of(leaf), &record);
    }
    Ok(redemption)
}

/// The leaf that redeemed a decision, if one did.
pub(super) fn redemption_of(txn: &Txn<'_>, decision: LeafIndex) -> Result<Option<u64>, StateError> {
    let record: Option<v1::LeafRecord> = txn.read(&Key::redemption_of(decision))?;
    Ok(record.map(|record| record.leaf))
}

/// True if something was executed without the redemption that its decision demands, or names one that did not redeem it.
pub(super) fn lacks_redemption(
    txn: &Txn<'_>,
    ask: &v1::Record,
    decision: Option<&v1::Decision>,
) -> Result<bool, StateError> {
    let allowed = decision.filter(|decision| decision.verdict() == Verdict::Allow);
    let Some(decision) = allowed.filter(|_| ask.status() != ExecutionStatus::NotExecuted) else {
        return Ok(false);
    };
    if ask.redemption_index.is_none() {
        return Ok(decision.single_use);
    }
    let redeemed_by = redemption_of(txn, LeafIndex(ask.decision_index))?;
    Ok(redeemed_by != ask.redemption_index)
}

/// Who stands behind the redemption; none if not all who signed may speak for the agent: the agent itself, and gateways that may
/// authorize for it.
fn assurance(context: &Context<'_, '_>, permit: &Subject) -> Result<Option<Assurance>, StateError> {
    let Some(agent) = &permit.agent else {
        return Ok(None);
    };
    let own = Identity::Agent(permit.request.agent.clone());
    if !matches!(context.command.author, Identity::Gateway(_)) && context.command.author != own {
        return Ok(None);
    }
    let mut by_gateway = false;
    for signer in context.signers {
        if let Identity::Gateway(id) = &signer.identity {
            let permission = GatewayPermission::Authorize;
            let may = context.gateway(id)?.is_some_and(|gateway| {
                gateway_may(&gateway, permission, &permit.request.agent, agent)
            });
            if !may {
                return Ok(None);
            }
            by_gateway = true;
        }
    }
    Ok(Some(match (context.signed_by(&own), by_gateway) {
        (true, true) => Assurance::BothSigned,
        (true, false) => Assurance::AgentSigned,
        (false, _) => Assurance::GatewayAsserted,
    }))
}

/// Whether the permit is redeemed by this command; what speaks against it goes into the redemption.
fn judge(
    context: &Context<'_, '_>,
    ask: &v1::Redeem,
    permit: &Subject,
    redemption: &mut v1::Redemption,
) -> Result<Reason, StateError> {
    let minimum = permit
        .agent
        .as_ref()
        .map_or(Assurance::Unspecified, v1::AgentRecord::minimum_assurance);
    if redemption.assurance() < minimum {
        return Ok(Reason::AssuranceTooLow);
    }
    if permit.decision.verdict() != Verdict::Allow {
        return Ok(Reason::NotAllowed);
    }
    let redeemed_by = redemption_of(context.txn, LeafIndex(ask.decision_index))?;
    if redeemed_by.is_some() {
        redemption.redeemed_by = redeemed_by;
        return Ok(Reason::AlreadyRedeemed);
    }
    let drift = state_drift(context, ask, permit)?;
    if drift.is_empty() {
        return Ok(Reason::Redeemed);
    }
    redemption.state_drift = drift.into_iter().map(i32::from).collect();
    Ok(Reason::StateDrift)
}

/// What does not hold any more of what the decision rests on, ascending.
fn state_drift(
    context: &Context<'_, '_>,
    ask: &v1::Redeem,
    permit: &Subject,
) -> Result<Vec<StateDrift>, StateError> {
    let mut drift = Vec::new();
    let decision = &permit.decision;
    let rests_on = decision.rests_on.clone().unwrap_or_default();
    if context.now_us >= permit.permit_ends_at_us(context.ledger) {
        drift.push(StateDrift::PermitExpired);
    }
    let action = permit.request.tool.as_ref().map(action_id);
    let attempt = Attempt {
        agent_id: &permit.request.agent,
        agent: permit.agent.as_ref(),
        action: action.as_deref(),
    };
    if halt::stops(context.txn, context.now_us, attempt)? {
        drift.push(StateDrift::Halted);
    }
    match permit
        .agent
        .as_ref()
        .map(|agent| (agent.status(), agent.leaf))
    {
        Some((IdentityStatus::Active, leaf)) if rests_on.agent == Some(leaf) => {}
        Some((IdentityStatus::Suspended, _)) => drift.push(StateDrift::AgentSuspended),
        Some((IdentityStatus::Revoked, _)) => drift.push(StateDrift::AgentRevoked),
        Some((IdentityStatus::Active | IdentityStatus::Unspecified, _)) | None => {
            drift.push(StateDrift::AgentChanged);
        }
    }
    let presenter = decision.presenter.as_ref();
    if let Some(Ok(Identity::Gateway(id))) = presenter.map(Identity::parse) {
        let gateway = context.gateway(&id)?;
        let same = gateway.is_some_and(|gateway| rests_on.gateway == Some(gateway.leaf));
        if !same {
            drift.push(StateDrift::PresenterChanged);
        }
    }
    match permit.session.as_ref().map(|(_, _, standing)| *standing) {
        Some(Standing::Open) => {}
        Some(Standing::Expired) => drift.push(StateDrift::SessionExpired),
        Some(Standing::Closed) | None => drift.push(StateDrift::SessionClosed),
    }
    let namespace = context.namespace(&decision.namespace)?;
    let activation = namespace.map(|namespace| namespace.activation_leaf);
    if activation != rests_on.activation {
        drift.push(StateDrift::PolicyChanged);
    }
    let authorized = permit.input.as_ref().map(|input| input.digest.as_slice());
    if ask.input_digest != authorized.unwrap_or_default() {
        drift.push(StateDrift::InputChanged);
    }
    if !are_active(context, &permit.signing_keys)? {
        drift.push(StateDrift::KeyNotActive);
    }
    Ok(drift)
}

/// True if each of these keys may sign now. They are those that the leaves in `rests_on` enrolled: a key is enrolled once, for ever.
fn are_active(context: &Context<'_, '_>, keys: &[KeyId]) -> Result<bool, StateError> {
    for key in keys {
        let record: v1::KeyRecord = context.txn.must_read(&Key::public_key(*key))?;
        if !is_active(&record, context.now_us) {
            return Ok(false);
        }
    }
    Ok(true)
}
