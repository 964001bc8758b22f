//! Active, suspended, revoked: how an identity's standing changes, and who may change it.

use ledger_proto::v1::{self, IdentityStatus};

use super::authority::{Duty, WHOLE_LEDGER};
use super::context::{Context, Stop, applied};
use super::keyring::{parse_identity, retire_all};
use super::operator::require_admins_remain;
use crate::id::Identity;
use crate::state::Key;

pub(super) fn set_status(
    context: &mut Context<'_, '_>,
    ask: &v1::SetStatus,
) -> Result<v1::Governance, Stop> {
    let identity = parse_identity(ask.identity.as_ref())?;
    let to = ask.status();
    let namespace = match &identity {
        Identity::Operator(id) => {
            let mut record = context.operator(id)?.ok_or(v1::Result::NotFound)?;
            require_change(record.status(), to)?;
            context.require(Duty::ManageOperators, WHOLE_LEDGER)?;
            record.status = to.into();
            record.leaf = context.leaf.0;
            context.txn.write(Key::operator(id), &record);
            String::new()
        }
        Identity::Agent(id) => {
            let mut record = context.agent(id)?.ok_or(v1::Result::NotFound)?;
            require_change(record.status(), to)?;
            require_duty(
                context,
                (record.status(), to),
                &record.namespace,
                &record.owner,
                record.suspended_by.as_ref(),
            )?;
            record.status = to.into();
            record.suspended_by = suspended_by(context, to);
            record.leaf = context.leaf.0;
            context.txn.write(Key::agent(id), &record);
            record.namespace
        }
        Identity::Gateway(id) => {
            let mut record = context.gateway(id)?.ok_or(v1::Result::NotFound)?;
            require_change(record.status(), to)?;
            require_duty(
                context,
                (record.status(), to),
                &record.namespace,
                &record.owner,
                record.suspended_by.as_ref(),
            )?;
            record.status = to.into();
            record.suspended_by = suspended_by(context, to);
            record.leaf = context.leaf.0;
            context.txn.write(Key::gateway(id), &record);
            record.namespace
        }
        Identity::Node(_) | Identity::Recovery => return Err(v1::Result::InvalidArgument.into()),
    };
    if to == IdentityStatus::Revoked {
        retire_all(context, &identity)?;
    }
    if matches!(identity, Identity::Operator(_)) {
        require_admins_remain(context)?;
    }
    Ok(applied(&namespace))
}

/// Active and suspended change into each other; both can be revoked; revoked is the end. A suspension can be taken over, so
/// that an owner who suspends first cannot keep a responder from doing it for good.
fn require_change(from: IdentityStatus, to: IdentityStatus) -> Result<(), Stop> {
    match (from, to) {
        (IdentityStatus::Active, IdentityStatus::Suspended | IdentityStatus::Revoked)
        | (
            IdentityStatus::Suspended,
            IdentityStatus::Active | IdentityStatus::Suspended | IdentityStatus::Revoked,
        ) => Ok(()),
        (_, IdentityStatus::Unspecified) => Err(v1::Result::InvalidArgument.into()),
        _ => Err(v1::Result::FailedPrecondition.into()),
    }
}

/// A responder or the owner suspends; only a responder takes a suspension over; whoever suspended as owner resumes; an admin
/// does all of it.
fn require_duty(
    context: &Context<'_, '_>,
    (from, to): (IdentityStatus, IdentityStatus),
    namespace: &str,
    owner: &str,
    suspended_by: Option<&v1::Identity>,
) -> Result<(), Stop> {
    match to {
        IdentityStatus::Suspended if from == IdentityStatus::Suspended => {
            context.require(Duty::Suspend, namespace)
        }
        IdentityStatus::Suspended => context.require_or_owner(Duty::Suspend, namespace, owner),
        IdentityStatus::Active => {
            let own_suspension = suspended_by == Some(&context.command.author.to_message());
            if own_suspension && context.is_owner(owner)? {
                return Ok(());
            }
            context.require(Duty::Resume, namespace)
        }
        IdentityStatus::Revoked => context.require(Duty::Revoke, namespace),
        IdentityStatus::Unspecified => Err(v1::Result::InvalidArgument.into()),
    }
}

fn suspended_by(context: &Context<'_, '_>, to: IdentityStatus) -> Option<v1::Identity> {
    (to == IdentityStatus::Suspended).then(|| context.command.author.to_message())
}
