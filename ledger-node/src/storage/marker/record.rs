//! What a marker says, and which record may follow another.

use ledger_core::hash::{Hash, TreeSize};

use crate::storage::instance::InstanceFile;
use crate::storage::store_id::StoreId;

/// A vote: never given to somebody else in the same term, unless a quorum did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkedVote {
    /// The term.
    pub term: u64,
    /// For whom.
    pub node: u64,
    /// True once a quorum gave the same vote.
    pub committed: bool,
}

impl MarkedVote {
    /// True if a node that gave the old vote may give this one: in a later term, or in the same term to the same node, or, as a
    /// candidate that lost, to the leader whom a quorum chose.
    fn may_follow(self, old: Self) -> bool {
        if self.term != old.term {
            self.term > old.term
        } else if self.node == old.node {
            self.committed >= old.committed
        } else {
            self.committed && !old.committed
        }
    }
}

/// True if the new vote takes nothing of the old one back.
pub(super) fn keeps_vote(old: Option<MarkedVote>, new: Option<MarkedVote>) -> bool {
    old.is_none_or(|old| new.is_some_and(|new| new.may_follow(old)))
}

/// The place of an entry in Raft's log. The greater one is the later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MarkedLogId {
    /// The term.
    pub term: u64,
    /// The index.
    pub index: u64,
}

/// A tree that this node has cosigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkedTree {
    /// Its size.
    pub size: TreeSize,
    /// Its root.
    pub root: Hash,
}

/// What a node has promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkerRecord {
    /// Who this is.
    pub node_id: u64,
    /// Which ledger this is.
    pub genesis_digest: Hash,
    /// Whose promises these are: those of the node with this store.
    pub store_id: StoreId,
    /// The file in the data directory that marks the last run, and what tells it from copies; none before the node has taken part
    /// for the first time.
    pub instance: Option<InstanceFile>,
    /// The greatest vote.
    pub vote: Option<MarkedVote>,
    /// The last log id that was committed and durable here.
    pub committed: Option<MarkedLogId>,
    /// The largest tree cosigned.
    pub cosigned: Option<MarkedTree>,
}

/// Says what of the old record the new one takes back, if anything.
pub(super) fn grows(old: &MarkerRecord, new: &MarkerRecord) -> Result<(), &'static str> {
    if (new.node_id, new.genesis_digest, new.store_id)
        != (old.node_id, old.genesis_digest, old.store_id)
    {
        return Err("it would be of another node, ledger or store");
    }
    if old.instance.is_some() && new.instance.is_none() {
        return Err("a node that has taken part would be a new one");
    }
    if !keeps_vote(old.vote, new.vote) {
        return Err("a vote would be taken back");
    }
    if new.committed < old.committed {
        return Err("a committed log id would be taken back");
    }
    let cosigned = match (old.cosigned, new.cosigned) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(old), Some(new)) => new.size > old.size || new == old,
    };
    if cosigned {
        Ok(())
    } else {
        Err("a cosignature would be taken back, or a second root be cosigned at one size")
    }
}
