//! Proving entries to one checkpoint.

use ledger_core::evidence::StateTiles;
use ledger_core::hash::{LeafIndex, TreeHash, TreeSize};
use ledger_core::ledger;
use ledger_core::tree::proof::{ProveError, Prover};
use ledger_proto::v1::{self, ErrorReason};

use crate::failure::{Answer, Failure, not_found};
use crate::storage::view::View;

/// Entries of a view, in the order that is asked for, proven to the tree of a size that the view covers. Ascending or
/// descending leaves share most of the work.
///
/// # Errors
/// `NOT_FOUND` for a leaf beyond the ledger, `DATA_DAMAGED`.
pub fn prove(
    view: &View,
    origin: &str,
    size: TreeSize,
    leaves: &[u64],
) -> Answer<Vec<v1::ProvenEntry>> {
    let tiles = StateTiles(view);
    let mut prover = Prover::new(&tiles, TreeHash::of_origin(origin), size);
    let mut proven = Vec::with_capacity(leaves.len());
    for leaf in leaves {
        let entry =
            ledger::entry_bytes(view, LeafIndex(*leaf))?.ok_or_else(|| not_found("entry"))?;
        let path = prover.inclusion(LeafIndex(*leaf)).map_err(unproven)?;
        proven.push(v1::ProvenEntry {
            index: *leaf,
            entry,
            path: path.iter().map(|hash| hash.as_bytes().to_vec()).collect(),
        });
    }
    Ok(proven)
}

/// There is no proof because the tree is smaller, or because tiles are damaged.
#[must_use]
pub fn unproven(error: ProveError) -> Failure {
    match error {
        ProveError::Read(error) => {
            tracing::error!(%error, "a tile is missing");
            Failure::new(
                ErrorReason::DataDamaged,
                "hashes stored on this node are damaged; ask another node",
            )
        }
        ProveError::IndexBeyondSize { .. }
        | ProveError::OlderIsEmpty
        | ProveError::OlderBeyondNewer { .. } => {
            Failure::new(ErrorReason::ArgumentInvalid, error.to_string())
        }
    }
}
