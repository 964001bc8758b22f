//! What is looked at before a node starts: that its data is its own, and not older than what it has promised.

use ledger_core::evidence::StateTiles;
use ledger_core::hash::{Hash, TreeHash, TreeSize};
use ledger_core::machine::tip;
use ledger_core::tree::proof::Prover;
use ledger_proto::peer::v1 as wire;

use super::start::StartError;
use super::view::StoreState;
use crate::apply::applier::AppliedState;
use crate::raft::log::{last_log_id, read_meta};
use crate::raft::types::{self, Vote};
use crate::storage::marker::{
    MarkedLogId, MarkedVote, MarkerRecord, Recovered, RecoveredTree, behind,
};
use crate::storage::{Read, Table, meta};

/// Compares what is on disk with who this node is and what it has promised.
///
/// # Errors
/// [`StartError`]: `Configuration` if the data is another node's or another build's, `Data` if it is older than the marker.
pub(super) fn check_store(
    store: &dyn Read,
    marker: &MarkerRecord,
    node_id: u64,
    digest: &Hash,
    tree_hash: &str,
) -> Result<(), StartError> {
    let read = |key: &[u8]| store.get(Table::Meta, key).map_err(data);
    let format = read(meta::FORMAT)?;
    if format.as_deref() != Some(&meta::FORMAT_VERSION.to_be_bytes()) {
        return Err(StartError::Configuration(format!(
            "the data was written in another format than version {}; start the build that wrote it",
            meta::FORMAT_VERSION
        )));
    }
    let node = read(meta::NODE)?;
    if node.as_deref() != Some(&node_id.to_be_bytes()) || marker.node_id != node_id {
        return Err(StartError::Configuration(format!(
            "the data directory belongs to node {}, the configuration is for node {node_id}",
            marker.node_id
        )));
    }
    let genesis = read(meta::GENESIS)?;
    if genesis.as_deref() != Some(digest.as_bytes()) || marker.genesis_digest != *digest {
        return Err(StartError::Configuration(
            "the data directory belongs to another ledger than the genesis file".to_owned(),
        ));
    }
    let vote: Option<wire::Vote> = read_meta(store, meta::VOTE).map_err(data)?;
    let applied = AppliedState::read(store).map_err(data)?.last;
    let last = last_log_id(store).map_err(data)?.max(applied);
    let recovered = Recovered {
        vote: vote.map(|vote| marked_vote(&types::vote(&vote))),
        last_log: last.map(|id| MarkedLogId {
            term: id.committed_leader_id().term,
            index: id.index(),
        }),
        tree: recovered_tree(store, marker, tree_hash)?,
    };
    behind(marker, &recovered).map_err(data)
}

/// The tree as it was applied. What was applied is durable before it is cosigned, so that no entry has to be applied again
/// before the two are compared.
fn recovered_tree(
    store: &dyn Read,
    marker: &MarkerRecord,
    tree_hash: &str,
) -> Result<RecoveredTree, StartError> {
    let state = StoreState(store);
    let size = tip(&state).map_err(data)?.size;
    let hash =
        TreeHash::parse(tree_hash).map_err(|error| StartError::Configuration(error.to_string()))?;
    let root_at = |size: TreeSize| Prover::new(&StateTiles(&state), hash, size).root();
    let root_at_cosigned = marker
        .cosigned
        .filter(|cosigned| cosigned.size <= size)
        .map(|cosigned| root_at(cosigned.size))
        .transpose()
        .map_err(data)?;
    Ok(RecoveredTree {
        size,
        root_at_cosigned,
    })
}

/// A vote as the marker keeps it.
pub(super) fn marked_vote(vote: &Vote) -> MarkedVote {
    MarkedVote {
        term: vote.leader_id.term,
        node: vote.leader_id.voted_for,
        committed: vote.committed,
    }
}

fn data(error: impl std::fmt::Display) -> StartError {
    StartError::Data(error.to_string())
}
