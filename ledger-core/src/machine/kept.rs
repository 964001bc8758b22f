//! What is kept beside entries, and how it can be missing.

use ledger_proto::v1::{self, CompartmentKind};

use super::authorize::action_id;
use super::context::Context;
use super::recorded::is_gone;
use crate::canonical;
use crate::command::{Command, Compartments};
use crate::compartment;
use crate::entry;
use crate::hash::{Hash, LeafIndex};
use crate::id::SessionId;
use crate::limits::MAX_RESOURCE_LEN;
use crate::state::{Key, StateError, Txn};

/// Something that is kept beside an entry.
#[derive(Debug)]
pub(super) enum Kept<T> {
    /// It is there.
    Here(T),
    /// It was erased by an entry before this one, or never kept.
    Never,
    /// It was there at this place of the ledger, and is gone now: only whoever applies recorded commands again meets it.
    Gone,
}

/// A stored compartment. Compartments are outside the state's digest, so it is compared with what its entry commits to.
pub(super) fn compartment(
    context: &Context<'_, '_>,
    leaf: LeafIndex,
    kind: CompartmentKind,
    committed: Option<&v1::Commitment>,
) -> Result<Kept<v1::Compartment>, StateError> {
    let key = Key::compartment(leaf, kind);
    let Some(commitment) = committed else {
        return Ok(Kept::Never);
    };
    let stored: Option<v1::Compartment> = context.txn.read(&key)?;
    match stored {
        None => Ok(Kept::Never),
        Some(stored) if is_gone(&stored) => Ok(Kept::Gone),
        Some(stored) => {
            compartment::require_match(&key, commitment, &stored)?;
            Ok(Kept::Here(stored))
        }
    }
}

/// The resource of a decision as the decision had it.
pub(super) fn resource_id(
    context: &Context<'_, '_>,
    leaf: LeafIndex,
    request: &v1::Authorize,
    committed: Option<&v1::Commitment>,
) -> Result<Kept<String>, StateError> {
    let limit = usize::try_from(MAX_RESOURCE_LEN).unwrap_or(usize::MAX);
    let facts = match compartment(context, leaf, CompartmentKind::Resource, committed)? {
        Kept::Here(stored) => canonical::decode::<v1::ResourceFacts>(&stored.content, limit).ok(),
        Kept::Gone => return Ok(Kept::Gone),
        Kept::Never if committed.is_some() => return Ok(Kept::Never),
        Kept::Never => None,
    };
    let id = facts.map(|facts| facts.id).filter(|id| !id.is_empty());
    let of_action = || request.tool.as_ref().map(action_id).unwrap_or_default();
    Ok(Kept::Here(id.unwrap_or_else(of_action)))
}

/// What every new entry brings with it, whatever it says: the request id's permanent record, the session's new head, and
/// the compartments that matched.
pub(super) fn settle(
    txn: &mut Txn<'_>,
    entry: &v1::Entry,
    leaf: LeafIndex,
    leaf_hash: Hash,
    command: &Command,
    stored: Compartments,
) -> Result<(), StateError> {
    let record = v1::RequestRecord {
        leaf: leaf.0,
        command_digest: command.digest.as_bytes().to_vec(),
    };
    txn.write(Key::request(&command.author, command.request_id), &record);
    for kind in stored.kept() {
        // What was kept and is gone keeps its place, empty, until the entry that erases it.
        let compartment = stored.present.get(&kind).cloned().unwrap_or_default();
        txn.write(Key::compartment(leaf, kind), &compartment);
    }
    if let Some(link) = entry::chain(entry).filter(|link| !link.late) {
        let key = SessionId::from_slice(&link.session_id)
            .map(Key::session)
            .map_err(|error| StateError::damaged(Key::entry(leaf), error.to_string()))?;
        let mut session: v1::SessionRecord = txn.must_read(&key)?;
        session.count = link.number;
        session.head = leaf_hash.as_bytes().to_vec();
        txn.write(key, &session);
    }
    Ok(())
}
