//! Keys of identities: enrolled with proof, overlapping, retired, never used again.

use ledger_proto::v1::{self, IdentityStatus};

use super::admission::is_active;
use super::authority::{Duty, WHOLE_LEDGER};
use super::context::{Context, Stop, applied};
use super::operator::require_admins_remain;
use crate::id::{Identity, KeyId};
use crate::keys::{PublicKey, possession_message};
use crate::limits::{MAX_KEY_LIFETIME_US, MAX_KEYS_PER_IDENTITY, MAX_TIME_US};
use crate::state::{Key, State, StateError, Txn, last_key_id};

pub(super) fn add_key(
    context: &mut Context<'_, '_>,
    ask: &v1::AddKey,
) -> Result<v1::Governance, Stop> {
    let identity = parse_identity(ask.identity.as_ref())?;
    let namespace = require_key_duty(context, &identity)?;
    let enrolment = ask.key.as_ref().ok_or(v1::Result::InvalidArgument)?;
    enrol(context, &identity, std::slice::from_ref(enrolment))?;
    Ok(applied(&namespace))
}

pub(super) fn retire_key(
    context: &mut Context<'_, '_>,
    ask: &v1::RetireKey,
) -> Result<v1::Governance, Stop> {
    let key_id = KeyId::from_slice(&ask.key_id).map_err(|_| v1::Result::InvalidArgument)?;
    let record: v1::KeyRecord = context
        .txn
        .read(&Key::public_key(key_id))?
        .ok_or(v1::Result::NotFound)?;
    let identity = parse_identity(record.identity.as_ref())?;
    let namespace = require_key_duty(context, &identity)?;
    if record.retired_at_us != 0 {
        return Err(v1::Result::FailedPrecondition.into());
    }
    retire(context.txn, key_id, record, context.now_us);
    if matches!(identity, Identity::Operator(_)) {
        require_admins_remain(context)?;
    }
    Ok(applied(&namespace))
}

/// Whoever may key this identity; returns the namespace it belongs to.
fn require_key_duty(context: &Context<'_, '_>, identity: &Identity) -> Result<String, Stop> {
    let not_found = v1::Result::NotFound;
    let (owner, namespace, status) = match identity {
        Identity::Operator(id) => {
            let operator = context.operator(id)?.ok_or(not_found)?;
            context.require(Duty::ManageOperators, WHOLE_LEDGER)?;
            return active(operator.status()).map(|()| String::new());
        }
        Identity::Agent(id) => {
            let agent = context.agent(id)?.ok_or(not_found)?;
            (agent.owner.clone(), agent.namespace.clone(), agent.status())
        }
        Identity::Gateway(id) => {
            let gateway = context.gateway(id)?.ok_or(not_found)?;
            (
                gateway.owner.clone(),
                gateway.namespace.clone(),
                gateway.status(),
            )
        }
        // A node's key is its identity; the recovery key is the genesis's.
        Identity::Node(_) | Identity::Recovery => return Err(v1::Result::FailedPrecondition.into()),
    };
    context.require_or_owner(Duty::ManageKeys, &namespace, &owner)?;
    active(status).map(|()| namespace)
}

/// Keys of a revoked identity stay as they are.
fn active(status: IdentityStatus) -> Result<(), Stop> {
    match status {
        IdentityStatus::Active | IdentityStatus::Suspended => Ok(()),
        IdentityStatus::Revoked | IdentityStatus::Unspecified => {
            Err(v1::Result::FailedPrecondition.into())
        }
    }
}

pub(super) fn parse_identity(message: Option<&v1::Identity>) -> Result<Identity, Stop> {
    message
        .and_then(|identity| Identity::parse(identity).ok())
        .ok_or_else(|| v1::Result::InvalidArgument.into())
}

/// Enrols keys for an identity. The caller has checked who may.
pub(super) fn enrol(
    context: &mut Context<'_, '_>,
    identity: &Identity,
    enrolments: &[v1::KeyEnrolment],
) -> Result<(), Stop> {
    if count_keys(context.txn, identity, context.now_us)? + enrolments.len() > MAX_KEYS_PER_IDENTITY
    {
        return Err(v1::Result::LimitExceeded.into());
    }
    let must_end = matches!(identity, Identity::Agent(_) | Identity::Gateway(_));
    for enrolment in enrolments {
        let refused = Stop::Rejected(v1::Result::KeyRefused);
        let Some(message) = &enrolment.key else {
            return Err(refused);
        };
        let Ok(key) = PublicKey::parse(message) else {
            return Err(refused);
        };
        let possession = possession_message(&context.ledger.origin, identity);
        let proven = key.verify(&possession, &enrolment.proof_of_possession);
        // A key belongs to one identity, once, for ever.
        let used = context.txn.contains(&Key::public_key(key.key_id()))?;
        if !proven || used || !is_validity(message, must_end) {
            return Err(refused);
        }
        put_key(context.txn, identity, &key, message.clone(), context.leaf.0);
    }
    Ok(())
}

/// Writes a key and its place among the keys of its identity.
pub(super) fn put_key(
    txn: &mut Txn<'_>,
    identity: &Identity,
    key: &PublicKey,
    message: v1::PublicKey,
    leaf: u64,
) {
    let record = v1::KeyRecord {
        identity: Some(identity.to_message()),
        key: Some(message),
        leaf,
        retired_at_us: 0,
    };
    txn.write(Key::public_key(key.key_id()), &record);
    txn.put(Key::key_of(identity, key.key_id()), Vec::new());
}

/// True if the key's validity is possible: not empty, and for agents and gateways bounded.
pub(super) const fn is_validity(key: &v1::PublicKey, must_end: bool) -> bool {
    if key.not_before_us > MAX_TIME_US || key.not_after_us > MAX_TIME_US {
        return false;
    }
    if key.not_after_us == 0 {
        return !must_end;
    }
    match key.not_after_us.checked_sub(key.not_before_us) {
        Some(lifetime) => lifetime > 0 && (!must_end || lifetime <= MAX_KEY_LIFETIME_US),
        None => false,
    }
}

/// Ends all keys of an identity.
pub(super) fn retire_all(
    context: &mut Context<'_, '_>,
    identity: &Identity,
) -> Result<(), StateError> {
    for key_id in key_ids(context.txn, identity)? {
        let record: v1::KeyRecord = context.txn.must_read(&Key::public_key(key_id))?;
        if record.retired_at_us == 0 {
            retire(context.txn, key_id, record, context.now_us);
        }
    }
    Ok(())
}

fn retire(txn: &mut Txn<'_>, key_id: KeyId, mut record: v1::KeyRecord, now_us: u64) {
    record.retired_at_us = now_us;
    txn.write(Key::public_key(key_id), &record);
}

/// How many keys of an identity are neither retired nor past their end: those that count against the limit.
fn count_keys(txn: &Txn<'_>, identity: &Identity, now_us: u64) -> Result<usize, StateError> {
    let mut count = 0;
    for key_id in key_ids(txn, identity)? {
        let record: v1::KeyRecord = txn.must_read(&Key::public_key(key_id))?;
        let ended = record
            .key
            .as_ref()
            .is_some_and(|key| key.not_after_us != 0 && key.not_after_us <= now_us);
        if record.retired_at_us == 0 && !ended {
            count += 1;
        }
    }
    Ok(count)
}

/// True if the identity has a key that may sign at this time.
pub(super) fn has_active_key(
    txn: &Txn<'_>,
    identity: &Identity,
    now_us: u64,
) -> Result<bool, StateError> {
    for key_id in key_ids(txn, identity)? {
        let record: v1::KeyRecord = txn.must_read(&Key::public_key(key_id))?;
        if is_active(&record, now_us) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn key_ids(txn: &Txn<'_>, identity: &Identity) -> Result<Vec<KeyId>, StateError> {
    let prefix = Key::keys_of(identity);
    let pairs = txn.scan(prefix.as_bytes(), None, usize::MAX)?;
    Ok(pairs
        .iter()
        .filter_map(|(key, _)| last_key_id(key))
        .collect())
}
