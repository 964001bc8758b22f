//! Whether a store is older than what its node has promised.

use ledger_core::hash::{Hash, TreeSize};
use thiserror::Error;

use super::REJOIN;
use super::record::{MarkedLogId, MarkedVote, MarkerRecord, keeps_vote};

/// What a start finds in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovered {
    /// The vote.
    pub vote: Option<MarkedVote>,
    /// The last log id: of the log, of what was purged from it, or of what was applied, whichever is the greatest.
    pub last_log: Option<MarkedLogId>,
    /// The tree as it was applied: what was applied is durable before it is cosigned.
    pub tree: RecoveredTree,
}

/// The tree that a start finds in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveredTree {
    /// Its size.
    pub size: TreeSize,
    /// The root that it had at the size cosigned last, if it is that large.
    pub root_at_cosigned: Option<Hash>,
}

/// The store is older than what this node has promised, or is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Behind {
    /// A vote is forgotten.
    #[error("this node has voted in term {0}, and its store does not know; {REJOIN}")]
    Vote(u64),
    /// Committed entries are missing.
    #[error(
        "this node has held the committed log up to index {0}, and its store does not; {REJOIN}"
    )]
    Log(u64),
    /// Cosigned entries are missing.
    #[error(
        "this node has cosigned a tree of {cosigned} entries, and its store has {found}; {REJOIN}"
    )]
    Tree {
        /// The size cosigned.
        cosigned: TreeSize,
        /// The size found.
        found: TreeSize,
    },
    /// The entries are other ones.
    #[error(
        "the root of the tree of {0} entries is not the one that this node has cosigned; {REJOIN}"
    )]
    Root(TreeSize),
}

/// Compares a store with the marker.
///
/// # Errors
/// [`Behind`], whose message says what to do. The node must not start.
pub fn behind(marker: &MarkerRecord, recovered: &Recovered) -> Result<(), Behind> {
    if let Some(vote) = marker.vote
        && !keeps_vote(Some(vote), recovered.vote)
    {
        return Err(Behind::Vote(vote.term));
    }
    if let Some(committed) = marker.committed
        && recovered.last_log < Some(committed)
    {
        return Err(Behind::Log(committed.index));
    }
    let (Some(cosigned), tree) = (marker.cosigned, recovered.tree) else {
        return Ok(());
    };
    if tree.size < cosigned.size {
        return Err(Behind::Tree {
            cosigned: cosigned.size,
            found: tree.size,
        });
    }
    if tree.root_at_cosigned == Some(cosigned.root) {
        Ok(())
    } else {
        Err(Behind::Root(cosigned.size))
    }
}
