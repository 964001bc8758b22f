//! Halts: the switch that stops actions at once, before any rule is asked.

use ledger_proto::v1::{self, halt_scope::Target};

use super::authority::{Duty, WHOLE_LEDGER};
use super::context::{Context, Stop, applied};
use super::session::pattern_holds;
use super::validate;
use crate::hash::LeafIndex;
use crate::id::check_text;
use crate::limits::{MAX_HALTS, MAX_NAME_LEN, MAX_TIME_US};
use crate::state::{Family, Key, StateError, Txn};

pub(super) fn set_halt(
    context: &mut Context<'_, '_>,
    ask: &v1::SetHalt,
) -> Result<v1::Governance, Stop> {
    validate::valid(check_text(&ask.id, MAX_NAME_LEN).is_ok() && ask.expires_at_us <= MAX_TIME_US)?;
    let scope = ask.scope.as_ref().ok_or(v1::Result::InvalidArgument)?;
    let namespace = namespace_of(context, scope)?;
    context.require(Duty::SetHalt, &namespace)?;
    let expires_at_us = ends_at(ask.expires_at_us, context.ledger.time_offset_us);
    validate::valid(expires_at_us == 0 || expires_at_us > context.now_us)?;

    let halts = halts(context.txn)?;
    // Halts that have expired make room when a new one is set.
    let mut in_force = 0;
    for (id, halt) in &halts {
        if is_over(halt, context.now_us) {
            context.txn.delete(Key::halt(id));
        } else if *id == ask.id {
            return Err(v1::Result::AlreadyExists.into());
        } else {
            in_force += 1;
        }
    }
    if in_force >= MAX_HALTS {
        return Err(v1::Result::LimitExceeded.into());
    }
    let record = v1::HaltRecord {
        scope: Some(scope.clone()),
        expires_at_us,
        leaf: context.leaf.0,
    };
    context.txn.write(Key::halt(&ask.id), &record);
    Ok(applied(&namespace))
}

/// When a halt ends in the ledger's time, of which its author, who has a clock, need not know how far it is ahead of clocks. 0 is never.
#[must_use]
pub const fn ends_at(expires_at_us: u64, time_offset_us: u64) -> u64 {
    if expires_at_us == 0 {
        return 0;
    }
    expires_at_us.saturating_add(time_offset_us)
}

/// Has halts end later by as much as the ledger's time is put ahead of clocks: they end when their authors' clocks say. Those that had
/// ended by clocks stay ended.
pub(super) fn put_off(context: &mut Context<'_, '_>, by_us: u64) -> Result<(), StateError> {
    for (id, mut halt) in halts(context.txn)? {
        halt.expires_at_us = ends_at(halt.expires_at_us, by_us);
        context.txn.write(Key::halt(&id), &halt);
    }
    Ok(())
}

pub(super) fn clear_halt(
    context: &mut Context<'_, '_>,
    ask: &v1::ClearHalt,
) -> Result<v1::Governance, Stop> {
    let record: v1::HaltRecord = context
        .txn
        .read(&Key::halt(&ask.id))?
        .ok_or(v1::Result::NotFound)?;
    let scope = record.scope.ok_or(v1::Result::NotFound)?;
    let namespace = namespace_of(context, &scope)?;
    context.require(Duty::ClearHalt, &namespace)?;
    context.txn.delete(Key::halt(&ask.id));
    Ok(applied(&namespace))
}

/// The namespace in which somebody must hold the duty. Groups and actions occur in every namespace.
fn namespace_of(context: &Context<'_, '_>, scope: &v1::HaltScope) -> Result<String, Stop> {
    match &scope.target {
        Some(Target::Namespace(name)) => {
            context.namespace(name)?.ok_or(v1::Result::NotFound)?;
            Ok(name.clone())
        }
        Some(Target::Agent(id)) => Ok(context.agent(id)?.ok_or(v1::Result::NotFound)?.namespace),
        Some(Target::Group(group)) => {
            validate::id(group)?;
            Ok(WHOLE_LEDGER.to_owned())
        }
        Some(Target::Action(pattern)) => {
            validate::valid(validate::is_pattern(pattern))?;
            Ok(WHOLE_LEDGER.to_owned())
        }
        Some(Target::Everything(everything)) => {
            validate::valid(*everything)?;
            Ok(WHOLE_LEDGER.to_owned())
        }
        None => Err(v1::Result::InvalidArgument.into()),
    }
}

/// What somebody wants to do, as far as halts look at it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt<'a> {
    pub(super) agent_id: &'a str,
    /// None if the agent is unknown.
    pub(super) agent: Option<&'a v1::AgentRecord>,
    /// None for opening a session.
    pub(super) action: Option<&'a str>,
}

/// True if a halt in force stops the attempt.
pub(super) fn stops(txn: &Txn<'_>, now_us: u64, attempt: Attempt<'_>) -> Result<bool, StateError> {
    stops_since(txn, now_us, attempt, LeafIndex(0))
}

/// True if a halt in force that was set after this leaf stops the attempt.
pub(super) fn stops_since(
    txn: &Txn<'_>,
    now_us: u64,
    attempt: Attempt<'_>,
    leaf: LeafIndex,
) -> Result<bool, StateError> {
    Ok(halts(txn)?
        .iter()
        .any(|(_, halt)| halt.leaf > leaf.0 && !is_over(halt, now_us) && covers(halt, attempt)))
}

fn covers(halt: &v1::HaltRecord, attempt: Attempt<'_>) -> bool {
    match halt.scope.as_ref().and_then(|scope| scope.target.as_ref()) {
        Some(Target::Everything(_)) | None => true,
        Some(Target::Namespace(name)) => {
            attempt.agent.is_some_and(|agent| agent.namespace == *name)
        }
        Some(Target::Agent(id)) => attempt.agent_id == id,
        Some(Target::Group(group)) => attempt
            .agent
            .is_some_and(|agent| agent.groups.contains(group)),
        Some(Target::Action(pattern)) => attempt
            .action
            .is_some_and(|action| pattern_holds(pattern, action)),
    }
}

const fn is_over(halt: &v1::HaltRecord, now_us: u64) -> bool {
    halt.expires_at_us != 0 && halt.expires_at_us <= now_us
}

fn halts(txn: &Txn<'_>) -> Result<Vec<(String, v1::HaltRecord)>, StateError> {
    txn.records_by_text(&Key::family(Family::Halt))
}
