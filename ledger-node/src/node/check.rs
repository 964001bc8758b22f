//! What is looked at before a node starts: that its data is its own, and not older than what it has promised.

use std::io;
use std::path::Path;

use ledger_core::evidence::StateTiles;
use ledger_core::hash::{Hash, LeafIndex, TreeHash, TreeSize};
use ledger_core::machine::{CLUSTER_VERSION, ENGINE_VERSIONS, genesis_digest, tip};
use ledger_core::state::Key;
use ledger_core::tree::proof::Prover;
use ledger_proto::peer::v1 as wire;
use ledger_proto::v1;

use super::start::StartError;
use crate::apply::applier::AppliedState;
use crate::cosign::attested::{comparison, outvoted};
use crate::fatal::{self, disk};
use crate::raft::log::{last_log_id, log_len, read_meta};
use crate::raft::types::{self, LogId, Vote};
use crate::storage::marker::{
    MarkedLogId, MarkedVote, Marker, MarkerError, MarkerRecord, Recovered, RecoveredTree, behind,
};
use crate::storage::rocks::{Closed, Memory, RocksStore, Unusable};
use crate::storage::view::StoreState;
use crate::storage::{Read, Table, meta};

/// The newest entries that are compared with the tree at a start, at most: what a disk can have lost was written last.
const RECENT: u64 = 65_536;

/// Who this node is.
#[derive(Debug)]
pub(super) struct Own {
    node_id: u64,
    digest: Hash,
    tree_hash: String,
}

impl Own {
    pub(super) fn new(node_id: u64, genesis: &v1::Genesis) -> Self {
        Self {
            node_id,
            digest: genesis_digest(genesis),
            tree_hash: genesis.tree_hash.clone(),
        }
    }
}

/// Opens the marker of a data directory.
pub(super) fn open_marker(data_dir: &Path) -> Result<Marker, StartError> {
    Marker::open(data_dir).map_err(|error| match error {
        // Not a word about what it says: the disk may be well again.
        MarkerError::Io(error) => StartError::Fatal(disk("the marker cannot be used", &error)),
        // Nothing is wrong with the data.
        MarkerError::Exists | MarkerError::Locked | MarkerError::Version(_) => {
            StartError::Configuration(error.to_string())
        }
        MarkerError::Missing(_)
        | MarkerError::Damaged
        | MarkerError::Back(_)
        | MarkerError::Failed => data(error),
    })
}

/// Opens the store. If its write-ahead log is damaged, what was written before the damage is enough if nothing is missing in it
/// that this node has promised: a loss of power can leave the end of the log in shreds, and what was never synced may go.
///
/// The marker hears of synced entries once a second, and of votes and cosigned trees at once. So damage to entries that were
/// synced within the last second before the end, and not cosigned, is not told from shreds.
pub(super) fn open_store(
    data_dir: &Path,
    memory: Memory,
    marker: &MarkerRecord,
    own: &Own,
) -> Result<(RocksStore, Closed), StartError> {
    let refused = match RocksStore::open(data_dir, memory) {
        Ok(opened) => return Ok(opened),
        Err(error) => error,
    };
    if refused.kind() != io::ErrorKind::InvalidData {
        return Err(StartError::Fatal(disk(
            "the store cannot be opened",
            &refused,
        )));
    }
    tracing::warn!(error = %refused, "the store is damaged; what was written before the damage is compared with the marker");
    let covers = |store: &dyn Read| check_store(store, marker, own);
    let opened = RocksStore::open_until_damage(data_dir, memory, &covers);
    let why = match opened {
        Ok(opened) => {
            tracing::warn!(
                "what was written before the damage covers all that this node has promised, and is the store from now on"
            );
            return Ok(opened);
        }
        Err(Unusable::NotCovered(StartError::Data(why))) => {
            format!("what was written before the damage is not enough: {why}")
        }
        // Not a word about what the data hold.
        Err(Unusable::NotCovered(
            other @ (StartError::Configuration(_) | StartError::Fatal(_)),
        )) => {
            return Err(other);
        }
        Err(Unusable::Unreadable(error)) if error.kind() == io::ErrorKind::InvalidData => {
            format!("what was written before the damage cannot be used either: {error}")
        }
        Err(Unusable::Unreadable(error)) => {
            return Err(StartError::Fatal(disk(
                "the store is damaged, and what was written before the damage cannot be copied",
                &error,
            )));
        }
    };
    Err(damaged(format!("{refused}; {why}")))
}

/// Compares what is on disk with who this node is and what it has promised.
///
/// # Errors
/// [`StartError`]: `Configuration` if the data is another node's or another build's, `Data` if it is older than the marker.
pub(super) fn check_store(
    store: &dyn Read,
    marker: &MarkerRecord,
    own: &Own,
) -> Result<(), StartError> {
    let node_id = own.node_id;
    let read = |key: &[u8]| store.get(Table::Meta, key).map_err(unreadable);
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
    if genesis.as_deref() != Some(own.digest.as_bytes()) || marker.genesis_digest != own.digest {
        return Err(StartError::Configuration(
            "the data directory belongs to another ledger than the genesis file".to_owned(),
        ));
    }
    if read(meta::STORE)?.as_deref() != Some(marker.store_id.as_bytes()) {
        return Err(StartError::Configuration(
            "the marker is of another store than the one in the data directory; put the two together that were together".to_owned(),
        ));
    }
    require_runnable(store)?;
    let comparison = comparison(store, node_id).map_err(unreadable)?;
    if let Some(why) = comparison.as_ref().and_then(outvoted) {
        return Err(StartError::Data(why));
    }
    let vote: Option<wire::Vote> = read_meta(store, meta::VOTE).map_err(unreadable)?;
    let applied = AppliedState::read(store).map_err(unreadable)?.last;
    let last = last_log_id(store).map_err(unreadable)?.max(applied);
    let recovered = Recovered {
        vote: vote.map(|vote| marked_vote(&types::vote(&vote))),
        last_log: last.map(|id| marked_id(&id)),
        tree: recovered_tree(store, marker, &own.tree_hash)?,
    };
    behind(marker, &recovered).map_err(data)?;
    // What is marked as committed was synced with all before it.
    let synced = marker.committed.map_or(0, |id| id.index);
    log_len(store, synced, u64::MAX)
        .map(drop)
        .map_err(unreadable)
}

/// A build that does not run what the ledger runs would part from the other replicas with its first entry.
fn require_runnable(store: &dyn Read) -> Result<(), StartError> {
    let ledger: Option<v1::LedgerRecord> =
        ledger_core::state::read(&StoreState(store), &Key::ledger()).map_err(unreadable)?;
    let Some(ledger) = ledger else {
        return Ok(());
    };
    if ENGINE_VERSIONS.contains(&ledger.engine_version) && ledger.cluster_version == CLUSTER_VERSION
    {
        return Ok(());
    }
    Err(StartError::Configuration(format!(
        "the ledger is at engine version {} and cluster version {}, and this build runs engine versions {ENGINE_VERSIONS:?} and cluster version {CLUSTER_VERSION}; start a build that supports what the ledger is at",
        ledger.engine_version, ledger.cluster_version
    )))
}

/// The tree as it was applied. What was applied is durable before it is cosigned, so that no entry has to be applied again
/// before the two are compared.
fn recovered_tree(
    store: &dyn Read,
    marker: &MarkerRecord,
    tree_hash: &str,
) -> Result<RecoveredTree, StartError> {
    let state = StoreState(store);
    let size = tip(&state).map_err(unreadable)?.size;
    let hash =
        TreeHash::parse(tree_hash).map_err(|error| StartError::Configuration(error.to_string()))?;
    let root_at = |size: TreeSize| Prover::new(&StateTiles(&state), hash, size).root();
    let root_at_cosigned = marker
        .cosigned
        .filter(|cosigned| cosigned.size <= size)
        .map(|cosigned| root_at(cosigned.size))
        .transpose()
        .map_err(unreadable)?;
    let vouched = marker.cosigned.map_or(0, |cosigned| cosigned.size.0);
    check_entries(
        store,
        hash,
        vouched.max(size.0.saturating_sub(RECENT))..size.0,
    )?;
    Ok(RecoveredTree {
        size,
        root_at_cosigned,
    })
}

/// Entries that were applied and are not known to have been durable: each is what the tree was made of. A write that the disk
/// lost from between two others would otherwise go unnoticed until somebody reads it.
fn check_entries(
    store: &dyn Read,
    hash: TreeHash,
    leaves: std::ops::Range<u64>,
) -> Result<(), StartError> {
    for leaf in leaves {
        let get = |key: &Key| store.get(Table::State, key.as_bytes()).map_err(unreadable);
        let entry = get(&Key::entry(LeafIndex(leaf)))?.map(|bytes| hash.leaf(&bytes));
        let kept = get(&Key::tile_hash(0, leaf))?;
        if entry.is_none()
            || entry.as_ref().map(|hash| hash.as_bytes().as_slice()) != kept.as_deref()
        {
            return Err(damaged(format!("entry {leaf} is not what was appended")));
        }
    }
    Ok(())
}

/// A vote as the marker keeps it.
pub(super) fn marked_vote(vote: &Vote) -> MarkedVote {
    MarkedVote {
        term: vote.leader_id.term,
        node: vote.leader_id.voted_for,
        committed: vote.committed,
    }
}

/// A log id as the marker keeps it.
pub(super) fn marked_id(id: &LogId) -> MarkedLogId {
    MarkedLogId {
        term: id.committed_leader_id().term,
        index: id.index(),
    }
}

fn data(error: impl std::fmt::Display) -> StartError {
    StartError::Data(error.to_string())
}

/// What a disk did not give out may still be there; what it gave out wrongly is damaged; and what another build wrote is neither.
pub(super) fn unreadable(error: impl Into<io::Error>) -> StartError {
    let error = error.into();
    if error.kind() == io::ErrorKind::InvalidData {
        damaged(error)
    } else if error.kind() == io::ErrorKind::Unsupported {
        StartError::Configuration(error.to_string())
    } else {
        StartError::Fatal(disk("the store cannot be read", &error))
    }
}

fn damaged(error: impl std::fmt::Display) -> StartError {
    let what = format!("the check of the store failed: {error}");
    StartError::Data(fatal::damaged(&what))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prost::Message;

    use super::*;
    use crate::cli::init::create_state;
    use crate::genesis_file::tests::genesis;
    use crate::storage::memory::{MemoryStore, Operation};
    use crate::storage::store_id::StoreId;
    use crate::storage::{Batch, Store};

    const STORE: StoreId = StoreId::from_bytes([1; 16]);

    #[test]
    fn a_build_that_does_not_run_the_ledgers_version_does_not_start() {
        let store = MemoryStore::new();
        create_state(&store, &genesis(), 1, STORE, false).unwrap();
        require_runnable(&store).unwrap();
        let read = ledger_core::state::read(&StoreState(&store), &Key::ledger());
        let ledger: v1::LedgerRecord = read.unwrap().unwrap();
        let newer = v1::LedgerRecord {
            engine_version: 99,
            ..ledger
        };
        let mut batch = Batch::new();
        batch.put(
            Table::State,
            Key::ledger().as_bytes(),
            newer.encode_to_vec(),
        );
        store.write(&batch).unwrap();
        let refused = require_runnable(&store).unwrap_err().to_string();
        assert!(refused.contains("engine version 99"), "{refused}");
        assert!(refused.contains("start a build that supports"), "{refused}");
    }

    #[test]
    fn what_the_disk_withholds_at_a_start_is_not_called_damaged() {
        let store = MemoryStore::new();
        create_state(&store, &genesis(), 1, STORE, false).unwrap();
        let own = Own::new(1, &genesis());
        let dir = tempfile::tempdir().unwrap();
        let marker = Marker::create(dir.path(), 1, genesis_digest(&genesis()), STORE).unwrap();
        check_store(&store, &marker.read(), &own).unwrap();
        for table in [Table::Meta, Table::State] {
            store.set_script(Arc::new(move |operation| {
                if operation == Operation::Get(table) {
                    return Err(io::Error::from_raw_os_error(5));
                }
                Ok(())
            }));
            match check_store(&store, &marker.read(), &own) {
                Err(StartError::Fatal(why)) => assert!(why.contains("Check the disk"), "{why}"),
                other => panic!("{table:?}: {other:?}"),
            }
        }
        store.set_script(Arc::new(|_| Ok(())));
        let mut damage = Batch::new();
        damage.put(Table::State, Key::ledger().as_bytes(), b"\xff");
        store.write(&damage).unwrap();
        match check_store(&store, &marker.read(), &own) {
            Err(StartError::Data(why)) => assert!(why.contains("ledger-node fsck"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
}
