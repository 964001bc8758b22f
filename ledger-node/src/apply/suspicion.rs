//! Doubt about this replica's own tree. A committed batch says which tree its proposer had; where this replica has another, one of
//! the two is wrong, and this one cannot know which. The batch is void here, and until a quorum has cosigned this replica's tree it
//! vouches for nothing by itself.

use std::fmt;

use ledger_core::hash::TreeSize;
use tokio::sync::watch;

/// A committed batch that is void on this replica, because its proposer had another tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VoidBatch {
    /// The log entry that holds it.
    pub log_index: u64,
    /// The term in which it was proposed.
    pub term: u64,
    /// Who has sent it in a term of its own, if this node has heard that itself since it started.
    pub proposer: Option<u64>,
    /// The size up to which the two trees would have to agree.
    pub size: TreeSize,
}

impl fmt::Display for VoidBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.proposer {
            Some(node) => write!(f, "node {node} has proposed a batch"),
            // Whoever leads later can put it there.
            None => write!(f, "there is a batch of term {}", self.term),
        }?;
        write!(
            f,
            " (log entry {}) on another tree of size {} than this node has",
            self.log_index, self.size
        )
    }
}

/// What is known of this replica's tree.
#[derive(Debug, Clone, Copy, Default)]
struct Standing {
    /// A quorum has cosigned this replica's tree of this size.
    cosigned: TreeSize,
    /// The newest void batch, or the one that the doubt is about.
    batch: Option<VoidBatch>,
    /// A quorum has cosigned a larger tree than this replica has, so that it goes on with that leader.
    went_on: bool,
}

impl Standing {
    fn suspected(&self) -> Option<VoidBatch> {
        self.batch.filter(|batch| batch.size > self.cosigned)
    }
}

/// The doubt. It ends when a quorum has cosigned this replica's tree; a quorum that has cosigned another one stops the node.
#[derive(Debug, Default)]
pub struct Suspicion(watch::Sender<Standing>);

impl Suspicion {
    /// A committed batch is void. Returns whether this replica doubts itself because of it.
    pub(super) fn raise(&self, batch: VoidBatch) -> bool {
        self.0.send_modify(|standing| {
            let before = standing.suspected();
            if batch.size > standing.cosigned || before.is_none() {
                let size = before.map_or(batch.size, |before| before.size.max(batch.size));
                standing.batch = Some(VoidBatch { size, ..batch });
                standing.went_on = false;
            }
        });
        self.current().is_some()
    }

    /// A quorum has cosigned this replica's tree of this size.
    pub fn confirm(&self, size: TreeSize) {
        self.0.send_modify(|standing| {
            let suspected = standing.suspected().is_some();
            standing.cosigned = standing.cosigned.max(size);
            if suspected && standing.suspected().is_none() {
                tracing::info!(%size, "a quorum has cosigned this node's tree: the batch was wrong, not this node");
            }
        });
    }

    /// A quorum has cosigned a tree that is larger than this replica's.
    pub fn went_on(&self) {
        self.0.send_if_modified(|standing| {
            let changed = standing.suspected().is_some() && !standing.went_on;
            standing.went_on |= changed;
            changed
        });
    }

    /// Why this replica doubts its tree, if it does.
    #[must_use]
    pub fn current(&self) -> Option<VoidBatch> {
        self.0.borrow().suspected()
    }

    /// True if this replica follows that leader no more in that term, because it has proposed such a batch. If a quorum goes on with
    /// the leader while no quorum has cosigned this replica's tree, this replica follows again, and finds out.
    #[must_use]
    pub fn forbids(&self, leader: u64, term: u64) -> bool {
        let standing = self.0.borrow();
        let is_its = |batch: VoidBatch| batch.proposer == Some(leader) && batch.term == term;
        let is_open = standing.suspected().is_some();
        standing.batch.is_some_and(is_its) && !(is_open && standing.went_on)
    }

    /// Returns when the doubt may have begun or ended since this call.
    pub fn changed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut standing = self.0.subscribe();
        async move {
            if standing.changed().await.is_err() {
                std::future::pending().await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(size: u64) -> VoidBatch {
        VoidBatch {
            log_index: 9,
            term: 4,
            proposer: Some(2),
            size: TreeSize(size),
        }
    }

    #[test]
    fn a_replica_whose_tree_a_quorum_has_cosigned_does_not_doubt_itself() {
        let suspicion = Suspicion::default();
        suspicion.confirm(TreeSize(10));
        assert!(!suspicion.raise(batch(10)));
        assert!(suspicion.forbids(2, 4), "the leader is wrong");
        assert!(suspicion.raise(batch(11)));
        assert!(suspicion.raise(batch(5)), "the doubt before stays");
        suspicion.confirm(TreeSize(10));
        assert_eq!(suspicion.current().map(|it| it.size), Some(TreeSize(11)));
        suspicion.confirm(TreeSize(11));
        assert_eq!(suspicion.current(), None);
        suspicion.went_on();
        assert!(suspicion.forbids(2, 4), "it was wrong");
    }

    #[test]
    fn whoever_proposed_it_leads_no_more_unless_a_quorum_goes_on_with_it() {
        let suspicion = Suspicion::default();
        assert!(suspicion.raise(batch(11)));
        assert!(suspicion.forbids(2, 4));
        assert!(!suspicion.forbids(2, 5), "elected again by a quorum");
        assert!(!suspicion.forbids(3, 4));
        suspicion.went_on();
        assert!(!suspicion.forbids(2, 4));
        assert!(
            suspicion.current().is_some(),
            "its tree is not cosigned yet"
        );
        assert!(suspicion.raise(batch(11)));
        assert!(suspicion.forbids(2, 4), "another one");
    }

    #[test]
    fn it_says_who_has_proposed_what() {
        let said = batch(11).to_string();
        assert_eq!(
            said,
            "node 2 has proposed a batch (log entry 9) on another tree of size 11 than this node has"
        );
        let nameless = VoidBatch {
            proposer: None,
            ..batch(11)
        };
        assert!(
            nameless
                .to_string()
                .starts_with("there is a batch of term 4 (log entry 9)")
        );
    }
}
