//! Which transfer of leadership this node knows of from the leader itself. A candidate may say that the leader has asked for its
//! election, so that the leader's lease does not stand against it; any node could say so, and no leader would last.

use std::time::Duration;

use tokio::sync::watch;

use super::types::Vote;

/// How long a candidate's request waits for the leader's word, which is on its way on another connection.
const PATIENCE: Duration = Duration::from_millis(200);

/// The transfer of leadership heard of last.
#[derive(Debug)]
pub struct KnownTransfer(watch::Sender<Option<(Vote, u64)>>);

impl Default for KnownTransfer {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl KnownTransfer {
    /// The leader with this vote, which may be this node, hands over to a node.
    pub fn note(&self, from: Vote, to: u64) {
        self.0.send_replace(Some((from, to)));
    }

    /// True if the leader of the term before has asked for this candidate's election.
    pub async fn explains(&self, candidate: &Vote) -> bool {
        let mut known = self.0.subscribe();
        let is_it = |known: &Option<(Vote, u64)>| {
            known.is_some_and(|(from, to)| {
                from.leader_id.term.checked_add(1) == Some(candidate.leader_id.term)
                    && to == candidate.leader_id.voted_for
            })
        };
        tokio::time::timeout(PATIENCE, known.wait_for(is_it))
            .await
            .is_ok_and(|heard| heard.is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_candidate_that_the_leader_named_is_explained() {
        let known = KnownTransfer::default();
        assert!(!known.explains(&Vote::new(8, 3)).await, "nothing was heard");
        known.note(Vote::new_committed(7, 1), 3);
        assert!(known.explains(&Vote::new(8, 3)).await);
        for other in [Vote::new(8, 2), Vote::new(9, 3), Vote::new(7, 3)] {
            assert!(!known.explains(&other).await, "{other}");
        }
        let heard = async {
            tokio::task::yield_now().await;
            known.note(Vote::new_committed(9, 3), 2);
        };
        let candidate = Vote::new(10, 2);
        let (explained, ()) = tokio::join!(known.explains(&candidate), heard);
        assert!(explained, "the leader's word came a little later");
    }
}
