//! What the node's own disk says of it: which directory it is, what was promised, and that it takes part from now on.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use ledger_core::evidence::StateTiles;
use ledger_core::hash::{Hash, TreeHash, TreeSize};
use ledger_core::machine::tip;
use ledger_core::note::vkey::VerifierKey;
use ledger_core::tree::proof::Prover;
use ledger_proto::peer::v1 as wire;

use super::judge::{Directory, HeldTree, Own};
use crate::apply::applier::AppliedState;
use crate::clock::Entropy;
use crate::fatal::Fatal;
use crate::node::check::{marked_id, marked_vote};
use crate::raft::log::{last_log_id, read_meta};
use crate::raft::participation::Stage;
use crate::raft::peers::Peers;
use crate::raft::types;
use crate::storage::instance::InstanceFile;
use crate::storage::marker::{MarkedTree, Marker};
use crate::storage::view::StoreState;
use crate::storage::{Store, meta};

/// Why a node does not run on its data.
#[derive(Debug)]
pub(in crate::node) enum NotRecovered {
    /// The data must not be used.
    Data(String),
    /// The node was stopped meanwhile.
    Fatal(String),
    /// Something cannot be read or written.
    Disk(&'static str, io::Error),
}

pub(super) fn unreadable(error: impl Into<io::Error>) -> NotRecovered {
    NotRecovered::Disk("the store cannot be read", error.into())
}

/// What recovery works with.
pub(in crate::node) struct Parts {
    pub(in crate::node) store: Arc<dyn Store>,
    pub(in crate::node) marker: Arc<Marker>,
    pub(in crate::node) peers: Arc<Peers>,
    pub(in crate::node) data_dir: PathBuf,
    /// The nodes of the genesis with their addresses.
    pub(in crate::node) first_nodes: BTreeMap<u64, types::Peer>,
    pub(in crate::node) tree_hash: TreeHash,
    /// With which others check this node's cosignatures.
    pub(in crate::node) own_key: VerifierKey,
    pub(in crate::node) entropy: Arc<dyn Entropy>,
    pub(in crate::node) fatal: Fatal,
    /// An operator vouches for the data.
    pub(in crate::node) accepted: bool,
}

impl Parts {
    /// Whether the data directory is the one that this node wrote last.
    pub(super) fn directory(&self) -> Result<Directory, NotRecovered> {
        match self.marker.read().instance {
            None => Ok(Directory::New),
            Some(instance) => match instance.is_in(&self.data_dir) {
                Ok(true) => Ok(Directory::Continued),
                Ok(false) => Ok(Directory::Copied),
                Err(error) => Err(NotRecovered::Disk(
                    "the data directory cannot be read",
                    error,
                )),
            },
        }
    }

    /// A tree with this node's cosignature, beside what this node has at that size.
    pub(super) fn held(&self, tree: MarkedTree) -> Result<HeldTree, NotRecovered> {
        let state = StoreState(&*self.store);
        let end = tip(&state).map_err(unreadable)?.size;
        let own_root = (tree.size <= end && tree.size > TreeSize(0))
            .then(|| self.root_at(tree.size, end))
            .transpose()?;
        Ok(HeldTree {
            size: tree.size,
            root: tree.root,
            own_root,
        })
    }

    fn root_at(&self, size: TreeSize, end: TreeSize) -> Result<Hash, NotRecovered> {
        let state = StoreState(&*self.store);
        let tiles = StateTiles(&state);
        let size = size.min(end);
        let root = Prover::new(&tiles, self.tree_hash, size).root();
        root.map_err(unreadable)
    }

    /// What this node knows of its own promises now.
    pub(super) fn own(&self) -> Result<Own, NotRecovered> {
        let store = &*self.store;
        // In this order: a log that a later leader cuts short comes with that leader's vote, which is saved first.
        let applied = AppliedState::read(store).map_err(unreadable)?.last;
        let last = last_log_id(store).map_err(unreadable)?.max(applied);
        let vote: Option<wire::Vote> = read_meta(store, meta::VOTE).map_err(unreadable)?;
        Ok(Own {
            node_id: self.peers.node_id,
            vote: vote.map(|vote| marked_vote(&types::vote(&vote))),
            last_log: last.map(|id| marked_id(&id)),
            cosigned: self.marker.read().cosigned,
        })
    }

    /// This node takes part from now on, on this data directory.
    pub(super) fn open(&self) -> Result<(), NotRecovered> {
        let failed = |error| NotRecovered::Disk("the data directory cannot be written", error);
        let dir = &self.data_dir;
        let nonce = self.entropy.id().map_err(failed)?;
        let marker = self.marker.file_identity();
        let marker =
            marker.map_err(|error| NotRecovered::Disk("the marker cannot be read", error))?;
        let instance = InstanceFile::create(dir, nonce, marker).map_err(failed)?;
        let marked = self
            .marker
            .update(|record| record.instance = Some(instance));
        marked.map_err(|error| NotRecovered::Disk("the marker cannot be written", error.into()))?;
        instance.remove_others(dir).map_err(failed)?;
        self.peers.participation.set(Stage::Full);
        Ok(())
    }
}
