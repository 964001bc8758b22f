//! The entries of evidence, each proven to the checkpoint before anything in it is believed.

use std::collections::BTreeMap;

use ledger_proto::v1;

use super::verify::EvidenceError;
use crate::entry;
use crate::hash::{Hash, LeafIndex};
use crate::note::checkpoint::Checkpoint;
use crate::note::verify::VerifiedCheckpoint;
use crate::tree::verify::verify_inclusion;

/// An entry that is in the ledger.
#[derive(Debug, Clone)]
pub(super) struct Proven {
    pub(super) index: u64,
    pub(super) entry: v1::Entry,
    /// The command; none in the genesis.
    pub(super) command: Option<v1::Command>,
    pub(super) leaf_hash: Hash,
}

/// Checks one entry against a checkpoint that a quorum vouches for.
pub(super) fn prove(
    proven: &v1::ProvenEntry,
    checkpoint: &VerifiedCheckpoint,
) -> Result<Proven, EvidenceError> {
    include(proven, checkpoint.checkpoint())
}

/// Checks that an entry is in the tree of a checkpoint, whoever vouches for that one.
pub(super) fn include(
    proven: &v1::ProvenEntry,
    checkpoint: &Checkpoint,
) -> Result<Proven, EvidenceError> {
    let index = proven.index;
    let hash = checkpoint.tree_hash();
    let leaf_hash = hash.leaf(&proven.entry);
    let path: Option<Vec<Hash>> = proven
        .path
        .iter()
        .map(|hash| Hash::from_slice(hash))
        .collect();
    let path = path.ok_or(EvidenceError::PathShape { index })?;
    let (size, root) = (checkpoint.size(), checkpoint.root());
    verify_inclusion(hash, &leaf_hash, LeafIndex(index), size, &path, &root)
        .map_err(|source| EvidenceError::Inclusion { index, source })?;
    let entry =
        entry::decode(&proven.entry).map_err(|source| EvidenceError::Entry { index, source })?;
    let command =
        entry::command(&entry).map_err(|source| EvidenceError::Entry { index, source })?;
    if entry.index != index {
        return Err(EvidenceError::Contradiction {
            index,
            what: "the entry says that it is at another index",
        });
    }
    Ok(Proven {
        index,
        entry,
        command,
        leaf_hash,
    })
}

/// All entries of evidence by index.
#[derive(Debug)]
pub(super) struct ProvenEntries(BTreeMap<u64, Proven>);

impl ProvenEntries {
    pub(super) fn prove(
        entries: &[v1::ProvenEntry],
        checkpoint: &VerifiedCheckpoint,
    ) -> Result<Self, EvidenceError> {
        let mut proven = BTreeMap::new();
        for entry in entries {
            if proven
                .last_key_value()
                .is_some_and(|(last, _)| *last >= entry.index)
            {
                return Err(EvidenceError::Order);
            }
            proven.insert(entry.index, prove(entry, checkpoint)?);
        }
        Ok(Self(proven))
    }

    /// The entry at an index, which the evidence must hold.
    pub(super) fn get(&self, index: u64, what: &'static str) -> Result<&Proven, EvidenceError> {
        self.0
            .get(&index)
            .ok_or(EvidenceError::Missing { index, what })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Proven> {
        self.0.values()
    }
}
