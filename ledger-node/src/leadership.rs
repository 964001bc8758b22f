//! Moving leadership at an admin's wish, from whichever node was asked. The leader is shown what the admin signed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ledger_core::hash::Hash;
use ledger_core::id::Identity;
use ledger_proto::peer::v1 as wire;
use ledger_proto::v1::ErrorReason;

use crate::failure::{Answer, Failure, argument};
use crate::ledger::Ledger;
use crate::raft::hand_over::{hand_over, successor};
use crate::raft::honoured::NotHonoured;
use crate::raft::peers::Purpose;
use crate::raft::standing::Leading;

/// How long the leader may take to say that it has begun.
const TRY: Duration = Duration::from_secs(3);

/// How long voters are asked to lead, again and again.
const HAND_OVER: Duration = Duration::from_secs(5);

/// A transfer of leadership that an admin asks for. Its signature, and that its author is an admin, have been checked.
#[derive(Debug, Clone)]
pub struct AskedTransfer {
    /// The voter that is to lead; none for the one whose log is the longest.
    pub to: Option<u64>,
    /// The admin.
    pub by: Identity,
    /// The time at which the admin signed, in microseconds since 1970.
    pub signed_at_us: u64,
    /// The digest of what the admin signed, and with which key.
    pub digest: Hash,
    /// The request and its signature, for the leader.
    pub signed: wire::HandOverRequest,
}

impl Ledger {
    /// Has the leader hand over to the voter that an admin asks for, and waits until this node sees another leader, which it
    /// returns. There is nothing to do if that voter leads already.
    ///
    /// # Errors
    /// There is no such voter, no leader, the leader refuses, or nobody has taken over until the deadline.
    pub async fn transfer_leadership(
        &self,
        asked: AskedTransfer,
        deadline: Instant,
    ) -> Answer<u64> {
        let voters = self.voters();
        if let Some(to) = asked.to.filter(|to| !voters.contains(to)) {
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
        if asked.to == Some(before) {
            return Ok(before);
        }
        if voters.iter().all(|voter| *voter == before) {
            return Err(argument(format!("node {before} is the only voter")));
        }
        let moved = async {
            match &address {
                None => self.begin_transfer(&asked, self.node_id())?,
                Some(address) => self.ask_leader(before, address, asked.signed).await?,
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

    /// If this node leads, begins to hand over as an admin asks, who has asked the node `through`. Each request is honoured once.
    ///
    /// # Errors
    /// The request was signed for another leader or has been honoured, or there is no voter to ask.
    pub fn begin_transfer(&self, asked: &AskedTransfer, through: u64) -> Answer<()> {
        let (raft, peers) = (&self.0.reads.raft, &self.0.reads.peers);
        if !raft.is_leader() || asked.to == Some(self.node_id()) {
            return Ok(());
        }
        let now = self.0.clock.instant();
        let honoured = &peers.honoured;
        // What cannot be done is not taken for done.
        honoured
            .check(&asked.digest, asked.signed_at_us, now)
            .map_err(not_honoured)?;
        let next = successor(raft, peers, asked.to).map_err(|error| cannot(error.to_string()))?;
        honoured
            .honour(asked.digest, asked.signed_at_us, now)
            .map_err(not_honoured)?;
        tracing::info!(by = %asked.by, through, to = next, "hands leadership over, as an admin asks");
        let (raft, peers, to) = (raft.clone(), Arc::clone(peers), asked.to);
        tokio::spawn(async move {
            // The caller sees for itself when another node leads.
            let _ = tokio::time::timeout(HAND_OVER, hand_over(&raft, &peers, to)).await;
        });
        Ok(())
    }

    async fn ask_leader(
        &self,
        leader: u64,
        address: &str,
        signed: wire::HandOverRequest,
    ) -> Answer<()> {
        let peers = &self.0.reads.peers;
        let unreachable = |what: String| {
            cannot(format!(
                "the leader, node {leader}, cannot be asked: {what}"
            ))
        };
        let client = peers.client(leader, address, Purpose::Other);
        let mut client = client.map_err(|error| unreachable(error.to_string()))?;
        let mut request = peers.request(leader, signed);
        request.set_timeout(TRY);
        let asked = client.hand_over(request).await;
        let answer = asked.map_err(|status| unreachable(status.message().to_owned()))?;
        match answer.into_inner().error {
            None => Ok(()),
            Some(error) => {
                let wait = Duration::from_millis(error.retry_after_ms);
                Err(Failure::new(error.reason(), error.message).after(wait))
            }
        }
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

fn not_honoured(error: NotHonoured) -> Failure {
    match error {
        NotHonoured::BeforeElection => {
            Failure::new(ErrorReason::ReadTimeOutOfRange, error.to_string())
        }
        NotHonoured::Again => argument(error.to_string()),
        NotHonoured::TooMany => Failure::new(ErrorReason::QueueFull, error.to_string()),
    }
}
