//! What must hold of the node whatever it hears: it goes on, and takes nothing back.

use std::collections::BTreeMap;

use ledger_core::evidence::StateTiles;
use ledger_core::hash::{Hash, TreeHash, TreeSize};
use ledger_core::machine::{self, Tip};
use ledger_core::note::checkpoint::Checkpoint;
use ledger_core::note::signed_note::Note;
use ledger_core::tree::proof::Prover;
use ledger_node::raft::log::{decode_entry, last_log_id, read_meta};
use ledger_node::raft::types;
use ledger_node::storage::marker::MarkerRecord;
use ledger_node::storage::view::StoreState;
use ledger_node::storage::{Read, Table, meta};
use ledger_proto::peer::v1 as wire;

use super::node::FuzzedNode;

/// The end of the ledger in a store.
pub(super) fn tip(store: &dyn Read) -> Tip {
    machine::tip(&StoreState(store)).expect("a sound ledger")
}

/// The root that the store computes for the first entries of its ledger.
pub(super) fn root_at(store: &dyn Read, size: TreeSize) -> Hash {
    let state = StoreState(store);
    let tiles = StateTiles(&state);
    let root = Prover::new(&tiles, TreeHash::Sha256, size).root();
    root.expect("a sound tree")
}

/// The vote in a store.
pub(super) fn vote(store: &dyn Read) -> wire::Vote {
    let vote = read_meta(store, meta::VOTE).expect("a sound store");
    vote.unwrap_or_default()
}

pub(super) fn applied_record(store: &dyn Read) -> wire::AppliedRecord {
    let record = read_meta(store, meta::APPLIED).expect("a sound store");
    record.unwrap_or_default()
}

/// The last log entry that was applied.
pub(super) fn applied(store: &dyn Read) -> Option<wire::LogId> {
    applied_record(store).last_log_id
}

/// Up to where the log is committed.
pub(super) fn committed(store: &dyn Read) -> Option<u64> {
    let id: Option<wire::LogId> = read_meta(store, meta::COMMITTED).expect("a sound store");
    id.map(|id| id.index)
}

/// The end of the log.
pub(super) fn last(store: &dyn Read) -> Option<wire::LogId> {
    let last = last_log_id(store).expect("a sound log");
    let last = last.map(|id| types::log_id_to_wire(&id));
    last.or_else(|| applied(store))
}

/// The name of a log entry that is there.
pub(super) fn log_id_at(store: &dyn Read, index: u64) -> Option<wire::LogId> {
    let bytes = store.get(Table::Log, &meta::log_key(index));
    let entry = decode_entry(&bytes.expect("a sound store")?).expect("a sound log");
    Some(types::log_id_to_wire(&entry.log_id))
}

/// What the node has promised so far.
#[derive(Debug)]
pub(super) struct Promises {
    vote: wire::Vote,
    applied: wire::LogId,
    tip: Tip,
    marker: MarkerRecord,
    /// For whom it has voted, by term.
    granted: BTreeMap<u64, u64>,
}

impl Promises {
    pub(super) fn of(node: &FuzzedNode) -> Self {
        let store = &*node.store;
        Self {
            // Read before the tree, which it must not be ahead of.
            marker: node.marker.read(),
            vote: vote(store),
            applied: applied(store).unwrap_or_default(),
            tip: tip(store),
            granted: BTreeMap::new(),
        }
    }

    /// Compares what is promised now with what was. A copy of a leader's store may have taken the place of what nobody had cosigned.
    ///
    /// # Panics
    /// If something was taken back.
    pub(super) fn must_hold(&mut self, node: &FuzzedNode, is_copy: bool) {
        let store = &*node.store;
        let now = Self::of(node);
        let (before, after) = (types::vote(&self.vote), types::vote(&now.vote));
        assert!(after >= before, "the vote went from {before} to {after}");
        let (before, after) = (id(&self.applied), id(&now.applied));
        assert!(after >= before, "{after:?} is applied after {before:?}");
        if !is_copy {
            let (before, after) = (self.tip, now.tip);
            assert!(after.size >= before.size, "{after:?} after {before:?}");
            assert!(after.time_us >= before.time_us, "time went back");
            assert_eq!(
                root_at(store, before.size),
                before.root,
                "the tree has changed"
            );
        }
        let (before, after) = (self.marker, now.marker);
        let vote = |marker: MarkerRecord| marker.vote.map(|vote| (vote.term, vote.committed));
        assert!(vote(after) >= vote(before), "the marker's vote went back");
        assert!(after.committed >= before.committed, "the marker went back");
        let size = |marker: MarkerRecord| marker.cosigned.map(|tree| tree.size);
        assert!(size(after) >= size(before), "a cosignature was forgotten");
        if let Some(tree) = after.cosigned {
            assert!(tree.size <= now.tip.size, "it cosigned what it has not");
            assert_eq!(
                root_at(store, tree.size),
                tree.root,
                "it cosigned what it has not computed"
            );
        }
        let granted = std::mem::take(&mut self.granted);
        *self = Self { granted, ..now };
    }

    /// A vote that was granted is durable, and the only one of its term.
    ///
    /// # Panics
    /// If it is not.
    pub(super) fn must_have_granted(&mut self, node: &FuzzedNode, vote: &wire::Vote) {
        let kept = self::vote(&*node.store);
        assert!(
            (kept.term, kept.node_id) == (vote.term, vote.node_id),
            "it granted {vote:?} and kept {kept:?}"
        );
        let to = self.granted.entry(vote.term).or_insert(vote.node_id);
        assert_eq!(*to, vote.node_id, "two votes in term {}", vote.term);
    }

    /// A cosignature is of the node's own tree.
    ///
    /// # Panics
    /// If it is not.
    pub(super) fn must_own(&self, node: &FuzzedNode, note: &str) {
        let note = Note::parse(note.as_bytes()).expect("it was a note to the node");
        let tree = Checkpoint::parse(note.text()).expect("it was a checkpoint to the node");
        let cosigned = node.marker.read().cosigned;
        assert!(
            cosigned.is_some_and(|last| last.size == tree.size()),
            "a cosignature of {} that is not marked",
            tree.size()
        );
        assert_eq!(root_at(&*node.store, tree.size()), tree.root());
    }

    /// What is acknowledged to a leader is in the log.
    ///
    /// # Panics
    /// If it is not.
    pub(super) fn must_have(&self, node: &FuzzedNode, acknowledged: &wire::LogId) {
        let here = log_id_at(&*node.store, acknowledged.index);
        assert!(
            here.is_none_or(|here| here == *acknowledged),
            "{acknowledged:?} is acknowledged, and {here:?} is there"
        );
        let end = last(&*node.store);
        assert!(
            here.is_some() || end.is_some_and(|end| end.index >= acknowledged.index),
            "{acknowledged:?} is acknowledged, and the log ends at {end:?}"
        );
    }
}

fn id(id: &wire::LogId) -> types::LogId {
    types::log_id(id)
}
