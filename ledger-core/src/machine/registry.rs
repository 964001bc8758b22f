//! Namespaces, and the agents and gateways in them.

use ledger_proto::v1::{self, IdentityStatus};

use super::authority::{Duty, WHOLE_LEDGER};
use super::context::{Context, Stop, applied};
use super::{keyring, validate};
use crate::id::Identity;
use crate::limits::MAX_SIGNATURES;
use crate::state::Key;

pub(super) fn create_namespace(
    context: &mut Context<'_, '_>,
    ask: &v1::CreateNamespace,
) -> Result<v1::Governance, Stop> {
    validate::namespace(&ask.name)?;
    validate::names(&ask.owners)?;
    context.require(Duty::ManageNamespaces, WHOLE_LEDGER)?;
    require_operators(context, &ask.owners)?;
    if context.namespace(&ask.name)?.is_some() {
        return Err(v1::Result::AlreadyExists.into());
    }
    let record = v1::NamespaceRecord {
        owners: ask.owners.clone(),
        leaf: context.leaf.0,
        single_use: ask.single_use,
        ..v1::NamespaceRecord::default()
    };
    context.txn.write(Key::namespace(&ask.name), &record);
    Ok(applied(&ask.name))
}

pub(super) fn update_namespace(
    context: &mut Context<'_, '_>,
    ask: &v1::UpdateNamespace,
) -> Result<v1::Governance, Stop> {
    validate::names(&ask.owners)?;
    context.require(Duty::ManageNamespaces, WHOLE_LEDGER)?;
    require_operators(context, &ask.owners)?;
    let mut record = context.namespace(&ask.name)?.ok_or(v1::Result::NotFound)?;
    record.owners.clone_from(&ask.owners);
    record.single_use = ask.single_use;
    record.leaf = context.leaf.0;
    context.txn.write(Key::namespace(&ask.name), &record);
    Ok(applied(&ask.name))
}

pub(super) fn register_agent(
    context: &mut Context<'_, '_>,
    ask: &v1::RegisterAgent,
) -> Result<v1::Governance, Stop> {
    validate::id(&ask.id)?;
    validate::names(&ask.groups)?;
    validate::attributes(&ask.attributes)?;
    validate::assurance(ask.minimum_assurance)?;
    validate::session_issuers(ask.session_issuers)?;
    require_keys(&ask.keys)?;
    let namespace = context
        .namespace(&ask.namespace)?
        .ok_or(v1::Result::NotFound)?;
    // An owner of the namespace registers agents for itself; groups and attributes are facts that rules trust, so only an
    // admin gives them.
    let plain = ask.groups.is_empty() && ask.attributes.is_empty();
    let own = context.is_owner(&ask.owner)? && namespace.owners.contains(&ask.owner);
    if !(own && plain) {
        context.require(Duty::RegisterAgent, &ask.namespace)?;
    }
    require_operators(context, std::slice::from_ref(&ask.owner))?;
    if context.agent(&ask.id)?.is_some() {
        return Err(v1::Result::AlreadyExists.into());
    }
    keyring::enrol(context, &Identity::Agent(ask.id.clone()), &ask.keys)?;
    let record = v1::AgentRecord {
        namespace: ask.namespace.clone(),
        owner: ask.owner.clone(),
        groups: ask.groups.clone(),
        attributes: ask.attributes.clone(),
        minimum_assurance: ask.minimum_assurance,
        status: IdentityStatus::Active.into(),
        suspended_by: None,
        leaf: context.leaf.0,
        session_issuers: ask.session_issuers,
    };
    context.txn.write(Key::agent(&ask.id), &record);
    Ok(applied(&ask.namespace))
}

pub(super) fn update_agent(
    context: &mut Context<'_, '_>,
    ask: &v1::UpdateAgent,
) -> Result<v1::Governance, Stop> {
    validate::names(&ask.groups)?;
    validate::attributes(&ask.attributes)?;
    validate::assurance(ask.minimum_assurance)?;
    validate::session_issuers(ask.session_issuers)?;
    let mut record = context.agent(&ask.id)?.ok_or(v1::Result::NotFound)?;
    context.require(Duty::ChangeAgent, &record.namespace)?;
    require_operators(context, std::slice::from_ref(&ask.owner))?;
    require_not_revoked(record.status())?;
    record.owner.clone_from(&ask.owner);
    record.groups.clone_from(&ask.groups);
    record.attributes.clone_from(&ask.attributes);
    record.minimum_assurance = ask.minimum_assurance;
    record.session_issuers = ask.session_issuers;
    record.leaf = context.leaf.0;
    context.txn.write(Key::agent(&ask.id), &record);
    Ok(applied(&record.namespace))
}

pub(super) fn register_gateway(
    context: &mut Context<'_, '_>,
    ask: &v1::RegisterGateway,
) -> Result<v1::Governance, Stop> {
    validate::id(&ask.id)?;
    validate::acts_for(&ask.acts_for)?;
    validate::permissions(&ask.may)?;
    require_keys(&ask.keys)?;
    // A gateway of "*" acts for agents of every namespace; only an admin of the whole ledger can register one.
    if ask.namespace != WHOLE_LEDGER && context.namespace(&ask.namespace)?.is_none() {
        return Err(v1::Result::NotFound.into());
    }
    context.require(Duty::ManageGateways, &ask.namespace)?;
    require_operators(context, std::slice::from_ref(&ask.owner))?;
    if context.gateway(&ask.id)?.is_some() {
        return Err(v1::Result::AlreadyExists.into());
    }
    keyring::enrol(context, &Identity::Gateway(ask.id.clone()), &ask.keys)?;
    let record = v1::GatewayRecord {
        namespace: ask.namespace.clone(),
        owner: ask.owner.clone(),
        acts_for: ask.acts_for.clone(),
        may: ask.may.clone(),
        status: IdentityStatus::Active.into(),
        suspended_by: None,
        leaf: context.leaf.0,
    };
    context.txn.write(Key::gateway(&ask.id), &record);
    Ok(applied(&ask.namespace))
}

pub(super) fn update_gateway(
    context: &mut Context<'_, '_>,
    ask: &v1::UpdateGateway,
) -> Result<v1::Governance, Stop> {
    validate::acts_for(&ask.acts_for)?;
    validate::permissions(&ask.may)?;
    let mut record = context.gateway(&ask.id)?.ok_or(v1::Result::NotFound)?;
    context.require(Duty::ManageGateways, &record.namespace)?;
    require_operators(context, std::slice::from_ref(&ask.owner))?;
    require_not_revoked(record.status())?;
    record.owner.clone_from(&ask.owner);
    record.acts_for.clone_from(&ask.acts_for);
    record.may.clone_from(&ask.may);
    record.leaf = context.leaf.0;
    context.txn.write(Key::gateway(&ask.id), &record);
    Ok(applied(&record.namespace))
}

/// Owners must be operators, and not revoked: somebody has to answer for what they own.
fn require_operators(context: &Context<'_, '_>, ids: &[String]) -> Result<(), Stop> {
    for id in ids {
        let operator = context.operator(id)?.ok_or(v1::Result::NotFound)?;
        require_not_revoked(operator.status())?;
    }
    Ok(())
}

fn require_not_revoked(status: IdentityStatus) -> Result<(), Stop> {
    match status {
        IdentityStatus::Active | IdentityStatus::Suspended => Ok(()),
        IdentityStatus::Revoked | IdentityStatus::Unspecified => {
            Err(v1::Result::FailedPrecondition.into())
        }
    }
}

/// A registration brings 1 to 4 keys.
pub(super) fn require_keys(keys: &[v1::KeyEnrolment]) -> Result<(), Stop> {
    validate::valid(!keys.is_empty() && keys.len() <= MAX_SIGNATURES)
}
