//! What is kept beside earlier entries, and how it can be missing.

use ledger_proto::v1::{self, CompartmentKind};

use super::authorize::action_id;
use super::context::Context;
use super::recorded::is_gone;
use crate::canonical;
use crate::compartment;
use crate::hash::LeafIndex;
use crate::limits::MAX_RESOURCE_LEN;
use crate::state::{Key, StateError};

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
