//! Whether a node decides and vouches now, and if not, why.

use std::collections::BTreeSet;
use std::time::Duration;

use ledger_core::state::{Key, read};
use ledger_proto::v1::{self, ErrorReason};
use openraft::async_runtime::WatchReceiver as _;

use super::Ledger;
use crate::failure::Failure;
use crate::raft::adjustment::adjusted_at;
use crate::raft::clocks::Comparison;
use crate::raft::peer_memory::OTHER_STORE;
use crate::raft::standing::Leading;
use crate::storage::view::{StoreState, nodes};

impl Ledger {
    /// True if this node has applied its own removal.
    fn is_removed(&self) -> bool {
        let record: Result<Option<v1::NodeRecord>, _> =
            read(&StoreState(&*self.0.store), &Key::node(self.node_id()));
        // What cannot be read stops the node elsewhere.
        record.is_ok_and(|record| record.is_some_and(|record| !record.member))
    }

    pub(super) fn not_ready(&self) -> Option<String> {
        let stated = self.0.not_ready.borrow().clone();
        let leaderless = || {
            let nobody = self.0.standing.borrow().leading == Leading::Nobody;
            nobody.then(|| {
                if self.is_removed() {
                    "this node was removed from the ledger, where ids are never used again; stop it"
                        .to_owned()
                } else {
                    self.unheard()
                }
            })
        };
        let asking = || self.0.reads.peers.participation.asking();
        stated
            .or_else(asking)
            .or_else(|| self.clock_is_off())
            .or_else(|| self.doubt())
            .or_else(leaderless)
    }

    /// That Raft's voters are not the ledger's members yet, if this node leads: until they are, decisions need a quorum of both.
    pub(super) fn voters_lag(&self) -> Option<String> {
        if self.0.standing.borrow().leading != Leading::This {
            return None;
        }
        // What cannot be read stops the node elsewhere.
        let records = nodes(&StoreState(&*self.0.store)).ok()?;
        let members = records.into_iter().filter(|record| record.member);
        let members = members.filter_map(|record| Some(record.card?.node_id));
        let members: BTreeSet<u64> = members.collect();
        let metrics = self.0.reads.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let is_joint = membership.get_joint_config().len() > 1;
        (is_joint || voters != members).then(|| {
            format!(
                "the membership changes from the voters {voters:?} to {members:?}; keep the nodes of both running"
            )
        })
    }

    /// Why this node does not take this command now, if it does not.
    pub(super) fn takes_nothing(&self, submission: &v1::Submission) -> Option<String> {
        let stated = self.0.not_ready.borrow().clone();
        let asking = || self.0.reads.peers.participation.asking();
        // What adjusts the ledger's time is for the leader to judge.
        let adjusts = || adjusted_at(submission).is_some();
        stated
            .or_else(asking)
            .or_else(|| self.clock_is_off().filter(|_| !adjusts()))
            .or_else(|| self.doubt())
    }

    /// What it may be if no leader is heard.
    fn unheard(&self) -> String {
        let refused_by = self.0.reads.peers.memory.refused_by();
        if refused_by.is_empty() {
            "this node hears of no leader with a quorum; if the others serve, it was removed, or they and this node refuse each other: see their logs and this one's".to_owned()
        } else {
            format!("nodes {refused_by:?} have met this node with another store: {OTHER_STORE}")
        }
    }

    /// A node with a wrong clock would refuse good commands as stale.
    pub(super) fn clock_is_off(&self) -> Option<String> {
        let parts = &self.0;
        let stated = parts.clock_is_off.borrow().clone();
        let has_jumped = || {
            let broken = parts.pace.is_broken(self.clock_us(), parts.clock.instant());
            broken.then(|| {
                "this node's clock has jumped and was not compared with the others' since; send the same command to another node".to_owned()
            })
        };
        stated.or_else(has_jumped)
    }

    /// Why this node vouches for nothing by itself, if it does not.
    pub(super) fn doubt(&self) -> Option<String> {
        let void = self.0.suspicion.current()?;
        Some(format!(
            "{void}: one of the two is damaged, and this node decides nothing until a quorum has cosigned its tree; send the same command to another node"
        ))
    }

    /// What a caller is told whose time does not fit this node's clock. The caller is to blame only if a quorum's clocks support this
    /// node's: one that has just started may not have heard of them yet.
    pub(crate) fn or_clock_is_off(&self, failure: Failure) -> Failure {
        let off = self.clock_is_off().or_else(|| self.clock_is_unsupported());
        off.map_or(failure, not_ready)
    }

    /// Why this node's clock proves nothing against another, if a quorum's clocks do not support it now.
    fn clock_is_unsupported(&self) -> Option<String> {
        let reads = &self.0.reads;
        let metrics = reads.raft.metrics();
        let metrics = metrics.borrow_watched();
        let voters: Vec<u64> = metrics.membership_config.voter_ids().collect();
        let ledger_us = self.tip().borrow().clock_us();
        let found = reads
            .peers
            .clocks
            .compare(metrics.id, &voters, self.clock_us(), ledger_us);
        (found != Comparison::Sound).then(|| {
            "the times of the request and of this node's clock do not fit, and this node does not know yet what a quorum's clocks show; send the same command to another node".to_owned()
        })
    }
}

pub(super) fn not_ready(why: String) -> Failure {
    Failure::new(ErrorReason::NotReady, why).after(Duration::from_secs(1))
}
