//! Moving leadership at an admin's wish, from whichever node was asked.

use std::time::{Duration, Instant};

use ledger_proto::peer::v1 as wire;
use ledger_proto::v1::ErrorReason;
use tonic::Code;

use crate::failure::{Answer, Failure, argument};
use crate::ledger::Ledger;
use crate::raft::hand_over::hand_over;
use crate::raft::peers::Purpose;
use crate::raft::standing::Leading;

/// How long the leader may take to say that it has begun.
const TRY: Duration = Duration::from_secs(2);

impl Ledger {
    /// Has the leader hand over to this voter, or to the one whose log is the longest, and waits until this node sees another
    /// leader, which it returns. There is nothing to do if that voter leads already.
    ///
    /// # Errors
    /// There is no such voter, no leader, or nobody has taken over until the deadline.
    pub async fn transfer_leadership(&self, to: Option<u64>, deadline: Instant) -> Answer<u64> {
        let voters = self.voters();
        if let Some(to) = to.filter(|to| !voters.contains(to)) {
            return Err(argument(format!(
                "node {to} is not a voter; leadership can go to one of {voters:?}"
            )));
        }
        let (before, address) = match self.0.standing.borrow().leading.clone() {
            Leading::This | Leading::ThisAdjusting => (self.node_id(), None),
            Leading::Other { node_id, address } => (node_id, Some(address)),
            Leading::Nobody => {
                let nobody = Failure::new(
                    ErrorReason::NoQuorum,
                    "this node hears of no leader with a quorum",
                );
                return Err(nobody.after(Duration::from_secs(1)));
            }
        };
        if to == Some(before) {
            return Ok(before);
        }
        if voters.iter().all(|voter| *voter == before) {
            return Err(argument(format!("node {before} is the only voter")));
        }
        let moved = async {
            match &address {
                None => hand_over(&self.0.reads.raft, to)
                    .await
                    .map_err(|error| cannot(error.to_string()))?,
                Some(address) => self.ask_leader(before, address, to).await?,
            }
            Ok(self.another_leader(before).await)
        };
        match tokio::time::timeout_at(deadline.into(), moved).await {
            Ok(Ok(Some(leader))) => Ok(leader),
            Ok(Err(failure)) => Err(failure),
            Ok(Ok(None)) | Err(_) => Err(Failure::new(
                ErrorReason::Undetermined,
                "this node does not see another leader yet; look at the state of the cluster",
            )),
        }
    }

    async fn ask_leader(&self, leader: u64, address: &str, to: Option<u64>) -> Answer<()> {
        let peers = &self.0.reads.peers;
        let unreachable = |what: String| {
            cannot(format!(
                "the leader, node {leader}, cannot be asked: {what}"
            ))
        };
        let client = peers.client(leader, address, Purpose::Other);
        let mut client = client.map_err(|error| unreachable(error.to_string()))?;
        let mut request = peers.request(leader, wire::HandOverRequest { to });
        request.set_timeout(TRY);
        let asked = client.hand_over(request).await;
        asked.map(drop).map_err(|status| {
            if status.code() == Code::FailedPrecondition {
                cannot(status.message())
            } else {
                unreachable(status.message().to_owned())
            }
        })
    }

    /// Waits until this node sees another leader; none if the node ends.
    async fn another_leader(&self, before: u64) -> Option<u64> {
        let mut standing = self.0.standing.clone();
        loop {
            let leader = self.leader();
            if leader.is_some_and(|leader| leader != before) {
                return leader;
            }
            standing.changed().await.ok()?;
        }
    }
}

/// Nothing has happened, and a later try may go better.
fn cannot(what: impl Into<String>) -> Failure {
    Failure::new(ErrorReason::NoQuorum, what).after(Duration::from_secs(1))
}
