//! Operators: who holds which role, and the rule that enough admins remain.

use std::collections::BTreeSet;

use ledger_proto::v1::{self, IdentityStatus, Role};

use super::authority::{Duty, WHOLE_LEDGER, has_role};
use super::context::{Context, Stop, applied};
use super::registry::require_keys;
use super::{keyring, validate};
use crate::id::Identity;
use crate::state::{Family, Key, StateError};

/// Most operators that a recovery can name.
const MAX_REPLACED_ADMINS: usize = 16;

pub(super) fn register_operator(
    context: &mut Context<'_, '_>,
    ask: &v1::RegisterOperator,
) -> Result<v1::Governance, Stop> {
    check(ask)?;
    context.require(Duty::ManageOperators, WHOLE_LEDGER)?;
    if context.operator(&ask.id)?.is_some() {
        return Err(v1::Result::AlreadyExists.into());
    }
    keyring::enrol(context, &Identity::Operator(ask.id.clone()), &ask.keys)?;
    put(context, ask);
    Ok(applied(""))
}

pub(super) fn update_operator(
    context: &mut Context<'_, '_>,
    ask: &v1::UpdateOperator,
) -> Result<v1::Governance, Stop> {
    validate::label(&ask.name)?;
    validate::names(&ask.groups)?;
    validate::roles(&ask.roles)?;
    context.require(Duty::ManageOperators, WHOLE_LEDGER)?;
    let mut record = context.operator(&ask.id)?.ok_or(v1::Result::NotFound)?;
    if record.status() == IdentityStatus::Revoked {
        return Err(v1::Result::FailedPrecondition.into());
    }
    record.name.clone_from(&ask.name);
    record.groups.clone_from(&ask.groups);
    record.roles.clone_from(&ask.roles);
    record.leaf = context.leaf.0;
    context.txn.write(Key::operator(&ask.id), &record);
    require_admins_remain(context)?;
    Ok(applied(""))
}

/// By the recovery key: these operators become the only admins of the whole ledger. Operators who exist already get the
/// roles and keys that are named here and lose all others, because whoever took over the ledger may have stolen their keys;
/// every other admin of the whole ledger loses that role.
pub(super) fn replace_admins(
    context: &mut Context<'_, '_>,
    ask: &v1::ReplaceAdmins,
) -> Result<v1::Governance, Stop> {
    if context.command.author != Identity::Recovery {
        return Err(v1::Result::NotPermitted.into());
    }
    let ids: BTreeSet<&str> = ask.admins.iter().map(|admin| admin.id.as_str()).collect();
    validate::valid(
        (1..=MAX_REPLACED_ADMINS).contains(&ask.admins.len()) && ids.len() == ask.admins.len(),
    )?;
    for (id, mut record) in operators(context)? {
        let before = record.roles.len();
        record
            .roles
            .retain(|grant| !(grant.role() == Role::Admin && grant.namespace == WHOLE_LEDGER));
        if record.roles.len() != before {
            record.leaf = context.leaf.0;
            context.txn.write(Key::operator(&id), &record);
        }
    }
    for admin in &ask.admins {
        check(admin)?;
        validate::valid(
            admin
                .roles
                .iter()
                .any(|grant| grant.role() == Role::Admin && grant.namespace == WHOLE_LEDGER),
        )?;
        let existing = context.operator(&admin.id)?;
        if existing.is_some_and(|record| record.status() == IdentityStatus::Revoked) {
            return Err(v1::Result::FailedPrecondition.into());
        }
        let identity = Identity::Operator(admin.id.clone());
        keyring::retire_all(context, &identity)?;
        keyring::enrol(context, &identity, &admin.keys)?;
        put(context, admin);
    }
    require_admins_remain(context)?;
    Ok(applied(""))
}

pub(super) fn check(ask: &v1::RegisterOperator) -> Result<(), Stop> {
    validate::id(&ask.id)?;
    validate::label(&ask.name)?;
    validate::names(&ask.groups)?;
    validate::roles(&ask.roles)?;
    require_keys(&ask.keys)
}

fn put(context: &mut Context<'_, '_>, ask: &v1::RegisterOperator) {
    let record = v1::OperatorRecord {
        name: ask.name.clone(),
        groups: ask.groups.clone(),
        roles: ask.roles.clone(),
        status: IdentityStatus::Active.into(),
        leaf: context.leaf.0,
    };
    context.txn.write(Key::operator(&ask.id), &record);
}

/// Rejects what would leave fewer admins of the whole ledger, active and with an active key, than admin commands need. Call
/// it after the change is written; a rejection drops the change.
pub(super) fn require_admins_remain(context: &Context<'_, '_>) -> Result<(), Stop> {
    let mut admins: u32 = 0;
    for (id, record) in operators(context)? {
        if record.status() == IdentityStatus::Active
            && has_role(&record, Role::Admin, WHOLE_LEDGER)
            && keyring::has_active_key(context.txn, &Identity::Operator(id), context.now_us)?
        {
            admins += 1;
        }
    }
    if admins >= context.ledger.admin_threshold {
        Ok(())
    } else {
        Err(v1::Result::LastAdmin.into())
    }
}

fn operators(context: &Context<'_, '_>) -> Result<Vec<(String, v1::OperatorRecord)>, StateError> {
    context.txn.records_by_text(&Key::family(Family::Operator))
}
