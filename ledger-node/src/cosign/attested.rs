//! What the ledger says about this node's state: what it attested itself, and what the others attested at the same size.

use std::collections::BTreeMap;

use ledger_core::hash::Hash;
use ledger_core::machine::{Comparison, compare};
use ledger_core::state::StateError;

use crate::fatal::ADVICE;
use crate::storage::view::StoreState;
use crate::storage::{Read, Table, meta};

/// The size of the tree in the copy that this node began with, while the others have not confirmed what came of it.
///
/// # Errors
/// [`StateError`] if the store cannot be read.
pub fn copied_at(read: &dyn Read) -> Result<Option<u64>, StateError> {
    let size = read.get(Table::Meta, meta::COPIED);
    size.map_err(|error| StateError::unreadable(meta::COPIED, &error))?
        .map(|size| <[u8; 8]>::try_from(size).map(u64::from_be_bytes))
        .transpose()
        .map_err(|_| StateError::damaged(meta::COPIED, "a size does not have 8 bytes"))
}

/// This node's last attestation beside those of the others; none if it has attested nothing about the state that it has now.
///
/// # Errors
/// [`StateError`] if the store cannot be read.
pub(crate) fn comparison(read: &dyn Read, node: u64) -> Result<Option<Comparison>, StateError> {
    let copied_at = copied_at(read)?;
    let comparison = compare(&StoreState(read), node)?;
    // What it attested before it got the copy was about another state.
    Ok(comparison.filter(|found| copied_at.is_none_or(|size| found.size.0 > size)))
}

/// Why this node must not go on, if most of the voters have another state.
#[must_use]
pub(crate) fn outvoted(comparison: &Comparison) -> Option<String> {
    let theirs = comparison.outvoted_by()?;
    let (size, own) = (comparison.size, comparison.digest);
    Some(format!(
        "the state of this node is another one than most voters have: at {size} entries its digest is {own}, theirs {theirs}; {ADVICE}"
    ))
}

/// Why this node does not cosign, if it does not.
///
/// # Errors
/// [`StateError`] if the store cannot be read.
pub fn not_cosigning(read: &dyn Read, node: u64) -> Result<Option<String>, StateError> {
    let Some(copied_at) = copied_at(read)? else {
        return Ok(None);
    };
    let began = format!("this node began with a copy of {copied_at} entries");
    Ok(Some(match comparison(read, node)? {
        None => format!("{began} and has not attested its own state yet"),
        Some(found) => format!(
            "{began} and waits until most of the others confirm its state at {} entries: the same have {}, another {}, none yet {}",
            found.size,
            list(&found.same),
            list(
                &found
                    .different
                    .values()
                    .flatten()
                    .copied()
                    .collect::<Vec<_>>()
            ),
            list(&found.silent),
        ),
    }))
}

/// Who differs, for a log.
pub(crate) fn differing(different: &BTreeMap<Hash, Vec<u64>>) -> String {
    let each = different
        .iter()
        .map(|(digest, nodes)| format!("{} have {digest}", list(nodes)));
    each.collect::<Vec<_>>().join(", ")
}

fn list(nodes: &[u64]) -> String {
    if nodes.is_empty() {
        return "nobody".to_owned();
    }
    let names: Vec<String> = nodes.iter().map(|node| format!("node {node}")).collect();
    names.join(", ")
}
