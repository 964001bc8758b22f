//! Receiving a copy of the leader's store, from its offer to its installation: one at a time, and from the leader that offered it.

use std::collections::BTreeSet;
use std::sync::Arc;

use ledger_proto::peer::v1 as wire;
use openraft::async_runtime::WatchReceiver;
use openraft::storage::Snapshot;
use tonic::{Request, Status, Streaming};

use super::requests::{bad, caller, leader_vote};
use super::service::{Service, fatal};
use super::validation::check_membership;
use crate::fatal::{Fatal, disk};
use crate::raft::bounds::is_of_term;
use crate::raft::incoming::{Incoming, is_of_disk};
use crate::raft::types::{self, Vote};

/// The copy that is being received, one at a time, and the vote of the leader that offered it: nobody else adds to it.
#[derive(Debug, Clone)]
pub struct Offered {
    vote: Vote,
    incoming: Incoming,
}

/// What the sender of a snapshot is told; this node stops if the failure is its own disk's. Whoever works on files calls this
/// before anybody else learns of the failure: the sender may have hung up, and nobody be there to learn of it.
fn not_received(switch: &Fatal, error: &std::io::Error) -> Status {
    if is_of_disk(error) {
        switch.stop(disk("a snapshot cannot be received", error));
        return fatal(error);
    }
    Status::aborted(error.to_string())
}

impl Service {
    /// Takes an offer, and says what is here of it already.
    pub(super) async fn take_offer(
        &self,
        request: Request<wire::OfferSnapshotRequest>,
    ) -> Result<wire::OfferSnapshotResponse, Status> {
        let from = caller(&request)?;
        let message = request.into_inner();
        let theirs = leader_vote(message.vote, from, self.own_term())?;
        let ours = self.raft.metrics().borrow_watched().vote;
        if ours > theirs {
            return Ok(wire::OfferSnapshotResponse {
                higher_vote: Some(types::vote_to_wire(&ours)),
                have: Vec::new(),
            });
        }
        if theirs != ours {
            let voters = self.voters_in_force();
            let elected = self
                .peers
                .check_election(&theirs, &message.election, &voters);
            elected.map_err(bad)?;
        }
        let manifest = message.manifest.ok_or_else(|| bad("no manifest"))?;
        let mut slot = self.incoming.lock().await;
        let incoming = self.snapshots.receive(&manifest);
        let incoming = incoming.map_err(|error| not_received(&self.fatal, &error))?;
        let have = incoming.have();
        let have = have.map_err(|error| not_received(&self.fatal, &error))?;
        *slot = Some(Offered {
            vote: theirs,
            incoming,
        });
        Ok(wire::OfferSnapshotResponse {
            higher_vote: None,
            have,
        })
    }

    /// The sets of voters of this node's log.
    fn voters_in_force(&self) -> Vec<BTreeSet<u64>> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics
            .membership_config
            .membership()
            .get_joint_config()
            .clone()
    }

    /// Takes parts of what its caller has offered.
    pub(super) async fn take_parts(
        &self,
        request: Request<Streaming<wire::SendSnapshotRequest>>,
    ) -> Result<wire::SendSnapshotResponse, Status> {
        let from = caller(&request)?;
        let offered = self.incoming.lock().await.clone();
        let Offered { vote, incoming } = offered
            .filter(|offered| offered.vote.leader_id.voted_for == from)
            .ok_or_else(|| Status::aborted("the caller has offered no snapshot"))?;
        let mut parts = request.into_inner();
        while let Some(part) = parts.message().await? {
            if self.raft.metrics().borrow_watched().vote > vote {
                return Err(Status::aborted("there is a newer leader or candidate"));
            }
            if part.snapshot != incoming.name() {
                return Err(Status::aborted("another snapshot was offered meanwhile"));
            }
            let (incoming, switch) = (incoming.clone(), self.fatal.clone());
            tokio::task::spawn_blocking(move || {
                let written = incoming.write(part.file, part.offset, &part.bytes);
                written.map_err(|error| not_received(&switch, &error))
            })
            .await
            .map_err(fatal)??;
        }
        Ok(wire::SendSnapshotResponse {})
    }

    /// Checks what has come, and makes it this node's state.
    pub(super) async fn install_offered(
        &self,
        request: Request<wire::InstallSnapshotRequest>,
    ) -> Result<wire::InstallSnapshotResponse, Status> {
        let from = caller(&request)?;
        let message = request.into_inner();
        let vote = leader_vote(message.vote, from, self.own_term())?;
        let mut slot = self.incoming.lock().await;
        let is_it = |offered: &mut Offered| {
            offered.vote == vote && message.snapshot == offered.incoming.name()
        };
        let Offered { incoming, .. } = slot
            .take_if(is_it)
            .ok_or_else(|| Status::aborted("this snapshot is not being received"))?;
        let (snapshots, switch) = (Arc::clone(&self.snapshots), self.fatal.clone());
        let complete = tokio::task::spawn_blocking(move || {
            let complete = snapshots.complete(&incoming);
            complete.map_err(|error| not_received(&switch, &error))
        })
        .await
        .map_err(fatal)??;
        let meta = complete.meta().map_err(bad)?;
        let beyond = |id: &types::LogId| !is_of_term(id, vote.leader_id.term);
        if meta.last_log_id.as_ref().is_some_and(beyond) {
            return Err(bad("a snapshot from a later term than its sender's"));
        }
        check_membership(0, meta.last_membership.membership()).map_err(bad)?;
        self.must_extend_committed(meta.last_log_id).await?;
        let snapshot = Snapshot {
            meta,
            snapshot: complete,
        };
        let answer = self
            .raft
            .install_full_snapshot(vote, snapshot)
            .await
            .map_err(fatal)?;
        Ok(wire::InstallSnapshotResponse {
            vote: Some(types::vote_to_wire(&answer.vote)),
        })
    }

    /// Refuses a snapshot that ends in another entry than is committed here, or in a later one at an earlier place.
    async fn must_extend_committed(&self, last: Option<types::LogId>) -> Result<(), Status> {
        let committed = self
            .raft
            .with_raft_state(|state| state.local_committed().copied());
        let committed = committed.await.map_err(fatal)?;
        let contradicts = last
            .zip(committed)
            .is_some_and(|(last, committed)| last > committed && last.index() <= committed.index());
        if contradicts {
            return Err(bad("the snapshot contradicts what is committed here"));
        }
        Ok(())
    }
}
