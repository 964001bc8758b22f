//! Erasing compartments: the content goes, leaf, proof, state digest and root stay as they were.

use std::collections::BTreeSet;

use ledger_proto::v1::{self, CompartmentKind, SessionEndKind, entry::Body, governance::Detail};

use super::authority::{Duty, WHOLE_LEDGER};
use super::context::{Context, Stop, applied};
use super::validate;
use crate::hash::LeafIndex;
use crate::limits::{MAX_ERASE, MAX_WINDOW_US};
use crate::state::Key;
use crate::{entry, ledger};

pub(super) fn erase(
    context: &mut Context<'_, '_>,
    ask: &v1::Erase,
) -> Result<v1::Governance, Stop> {
    let order: Vec<(u64, i32)> = ask
        .compartments
        .iter()
        .map(|named| (named.index, named.kind))
        .collect();
    validate::valid((1..=MAX_ERASE).contains(&order.len()) && validate::is_ascending(&order))?;
    let mut permitted: BTreeSet<String> = BTreeSet::new();
    let mut erasure = v1::Erasure::default();
    for named in &ask.compartments {
        validate::valid(named.kind() != CompartmentKind::Unspecified)?;
        let leaf = LeafIndex(named.index);
        let found = ledger::entry(context.txn, leaf)?.ok_or(v1::Result::NotFound)?;
        let namespace = entry::namespace(&found);
        let namespace = if namespace.is_empty() {
            WHOLE_LEDGER
        } else {
            namespace
        };
        if !permitted.contains(namespace) {
            context.require(Duty::Erase, namespace)?;
            permitted.insert(namespace.to_owned());
        }
        require_not_needed(context, &found, named.kind())?;
        let key = Key::compartment(leaf, named.kind());
        if context.txn.contains(&key)? {
            context.txn.delete(key);
            erasure.erased += 1;
            let until_us = values_until(context, leaf, &found)?;
            erasure.values_until_us = erasure.values_until_us.max(until_us);
        }
    }
    let mut names = permitted.into_iter();
    let namespace = names
        .next()
        .filter(|name| name != WHOLE_LEDGER && names.next().is_none())
        .unwrap_or_default();
    Ok(v1::Governance {
        detail: Some(Detail::Erasure(erasure)),
        ..applied(&namespace)
    })
}

/// The CONTEXT of a session is what its decisions rest on: it can be erased once the session has ended.
fn require_not_needed(
    context: &Context<'_, '_>,
    found: &v1::Entry,
    kind: CompartmentKind,
) -> Result<(), Stop> {
    if kind != CompartmentKind::Context {
        return Ok(());
    }
    let session = match entry::session(found) {
        Some(id) => context.session(id)?,
        None => None,
    };
    let open = session.is_some_and(|session| session.end_kind() == SessionEndKind::Unspecified);
    if open {
        Err(v1::Result::FailedPrecondition.into())
    } else {
        Ok(())
    }
}

/// Until when values of the entry can live on inside the windows of rules, whichever bundles were tracked when they went in:
/// the longest window that any rule can have. The first outcome of a decision takes the decision's arguments into the history
/// once more, at its own time. What is neither asked for nor recorded is in no history.
fn values_until(
    context: &Context<'_, '_>,
    leaf: LeafIndex,
    found: &v1::Entry,
) -> Result<u64, Stop> {
    if !matches!(&found.body, Some(Body::Decision(_) | Body::Outcome(_))) {
        return Ok(0);
    }
    let outcome = match context.txn.read::<v1::LeafRecord>(&Key::outcome_of(leaf))? {
        Some(record) => ledger::entry(context.txn, LeafIndex(record.leaf))?,
        None => None,
    };
    let last_us = outcome.map_or(found.time_us, |outcome| outcome.time_us);
    Ok(last_us.saturating_add(MAX_WINDOW_US))
}
