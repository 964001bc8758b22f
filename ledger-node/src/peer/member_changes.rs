//! What a change of Raft's membership must pass. The ledger says who the nodes are and Raft follows, one step at a time, so that each
//! step can be judged by the membership before it in the log and by the ledger's own records.
//!
//! A leader changes the voters only to what its own ledger says, and its ledger is at most as far as what it says is committed. So a
//! node compares once it has applied as much ([`super::appends`]). A record may then be newer than what the leader saw, and never older.

use std::collections::{BTreeMap, BTreeSet};

use ledger_core::hash::LeafIndex;
use ledger_core::ledger::entry;
use ledger_core::state::StateError;
use ledger_proto::peer::v1::AppendCheck as Check;
use openraft::Membership;

use super::validation::{Refusal, refuse};
use crate::raft::types::Peer;
use crate::storage::view::{StoreState, nodes};

/// How long after a node was removed a leader may still bring it into the membership, by the ledger's time, in microseconds: while
/// the removal was on its way through the log, the leader could not know of it.
const REMOVAL_US: u64 = 10_000_000;

/// A node as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LedgerNode {
    address: String,
    is_member: bool,
    /// It is a member, or has left so lately that a leader may not know it.
    may_join: bool,
}

/// The nodes that the ledger has and had.
#[derive(Debug, Default)]
pub(super) struct LedgerNodes(BTreeMap<u64, LedgerNode>);

impl LedgerNodes {
    /// Reads them. `latest_us` is the time of the ledger.
    ///
    /// # Errors
    /// [`StateError`] if the store cannot be read.
    pub(super) fn read(state: &StoreState<'_>, latest_us: u64) -> Result<Self, StateError> {
        let mut known = BTreeMap::new();
        for record in nodes(state)? {
            let Some(card) = record.card else { continue };
            let left_at = if record.member {
                None
            } else {
                entry(state, LeafIndex(record.leaf))?.map(|entry| entry.time_us)
            };
            let is_late = |left_at: u64| left_at.saturating_add(REMOVAL_US) >= latest_us;
            let node = LedgerNode {
                address: card.peer_address,
                is_member: record.member,
                may_join: record.member || left_at.is_some_and(is_late),
            };
            known.insert(card.node_id, node);
        }
        Ok(Self(known))
    }

    fn is_member(&self, id: u64) -> bool {
        self.0.get(&id).is_some_and(|node| node.is_member)
    }

    fn may_join(&self, id: u64) -> bool {
        self.0.get(&id).is_some_and(|node| node.may_join)
    }

    fn may_join_at(&self, id: u64, peer: &Peer) -> bool {
        let node = self.0.get(&id);
        node.is_some_and(|node| node.may_join && node.address == peer.address)
    }

    fn members(&self) -> BTreeSet<u64> {
        let members = self.0.iter().filter(|(_, node)| node.is_member);
        members.map(|(id, _)| *id).collect()
    }
}

/// Checks a membership that comes after another one in the log.
pub(super) fn check_change(
    index: u64,
    change: &Membership<u64, Peer>,
    before: &Membership<u64, Peer>,
    known: &LedgerNodes,
) -> Result<(), Refusal> {
    let refused = |what: String| Err(refuse(Check::Membership, index, what));
    for (id, peer) in change.nodes() {
        if before.get_node(id) != Some(peer) && !known.may_join_at(*id, peer) {
            return refused(format!(
                "a membership with node {id} at {peer}, which the ledger does not have there"
            ));
        }
    }
    for (id, _) in before.nodes() {
        if change.get_node(id).is_none() && known.is_member(*id) {
            return refused(format!(
                "a membership without node {id}, a member of the ledger"
            ));
        }
    }
    let (sets, in_force) = (change.get_joint_config(), before.get_joint_config());
    let Some(last) = in_force.last() else {
        // The log begins with the nodes of the genesis.
        return match sets.as_slice() {
            [only] if *only == known.members() => Ok(()),
            _ => refused("a log that does not begin with the nodes of the genesis".to_owned()),
        };
    };
    let new: Vec<&BTreeSet<u64>> = sets.iter().filter(|set| !in_force.contains(set)).collect();
    if new.len() == sets.len() || new.len() > 1 {
        return refused(
            "a membership that shares no voters' set with the one before it".to_owned(),
        );
    }
    for set in new {
        if let Some(id) = set
            .iter()
            .find(|id| !last.contains(id) && !known.may_join(**id))
        {
            return refused(format!(
                "a vote for node {id}, which is no member of the ledger"
            ));
        }
        if let Some(id) = last
            .iter()
            .find(|id| !set.contains(id) && known.is_member(**id))
        {
            return refused(format!(
                "no vote any more for node {id}, a member of the ledger"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes 1 to 4 are members, 5 has just left, 6 left long ago, and nobody has ever heard of 7.
    fn ledger() -> LedgerNodes {
        let node = |id: u64| {
            let address = at(id).address;
            let (is_member, may_join) = (id <= 4, id <= 5);
            let node = LedgerNode {
                address,
                is_member,
                may_join,
            };
            (id, node)
        };
        LedgerNodes((1..=6).map(node).collect())
    }

    fn at(id: u64) -> Peer {
        Peer {
            address: format!("node-{id}:1"),
        }
    }

    fn membership(sets: &[&[u64]], learners: &[u64]) -> Membership<u64, Peer> {
        let ids = sets.iter().copied().flatten().chain(learners);
        let nodes: BTreeMap<u64, Peer> = ids.map(|id| (*id, at(*id))).collect();
        let sets = sets.iter().map(|set| set.iter().copied().collect());
        Membership::new(sets.collect(), nodes).unwrap()
    }

    fn passes(change: &Membership<u64, Peer>, before: &Membership<u64, Peer>) -> bool {
        check_change(9, change, before, &ledger()).is_ok()
    }

    #[test]
    fn what_an_honest_leader_does_passes() {
        let m = membership;
        for (before, change) in [
            // The first of all.
            (Membership::default(), m(&[&[1, 2, 3, 4]], &[])),
            // A new node learns, votes, and is a voter.
            (m(&[&[1, 2, 3]], &[]), m(&[&[1, 2, 3]], &[4])),
            (m(&[&[1, 2, 3]], &[4]), m(&[&[1, 2, 3], &[1, 2, 3, 4]], &[])),
            (
                m(&[&[1, 2, 3], &[1, 2, 3, 4]], &[]),
                m(&[&[1, 2, 3, 4]], &[]),
            ),
            // Some of those who join are not ready.
            (m(&[&[1, 2]], &[3, 4]), m(&[&[1, 2], &[1, 2, 3]], &[4])),
            // A node leaves, and others vote in its place.
            (
                m(&[&[1, 2, 6]], &[3, 4]),
                m(&[&[1, 2, 6], &[1, 2, 3, 4]], &[]),
            ),
            (
                m(&[&[1, 2, 6], &[1, 2, 3, 4]], &[]),
                m(&[&[1, 2, 3, 4]], &[]),
            ),
            // One that never voted leaves, and one whose leaving the leader may not know is still let in.
            (m(&[&[1, 2, 3, 4]], &[6]), m(&[&[1, 2, 3, 4]], &[])),
            (m(&[&[1, 2, 3, 4]], &[]), m(&[&[1, 2, 3, 4]], &[5])),
            (
                m(&[&[1, 2, 3, 4]], &[5]),
                m(&[&[1, 2, 3, 4], &[1, 2, 3, 4, 5]], &[]),
            ),
            // A new leader goes on from the middle of a change, to where that led and to where the ledger is by now.
            (
                m(&[&[1, 2, 3], &[1, 2, 3, 4]], &[]),
                m(&[&[1, 2, 3, 4]], &[]),
            ),
            (
                m(&[&[1, 2, 6], &[1, 2, 3]], &[4]),
                m(&[&[1, 2, 3], &[1, 2, 3, 4]], &[]),
            ),
            (m(&[&[1, 2, 3], &[1, 2, 3, 6]], &[]), m(&[&[1, 2, 3]], &[])),
        ] {
            assert!(passes(&change, &before), "{before} then {change}");
        }
    }

    #[test]
    fn what_the_ledger_does_not_have_is_refused() {
        let m = membership;
        let four: &[&[u64]] = &[&[1, 2, 3, 4]];
        let nothing = Membership::default();
        for (before, change) in [
            // A log of other nodes.
            (nothing.clone(), m(&[&[1]], &[2, 3, 4])),
            (nothing, m(&[&[1, 2, 3, 4], &[1]], &[])),
            // Strangers, and nodes that left.
            (m(four, &[]), m(four, &[7])),
            (m(four, &[]), m(four, &[6])),
            (m(four, &[6]), m(&[&[1, 2, 3, 4], &[1, 2, 3, 4, 6]], &[])),
            // The liar alone, or without one that would say no.
            (m(four, &[]), m(&[&[1]], &[2, 3, 4])),
            (m(four, &[]), m(&[&[1, 2, 3, 4], &[1]], &[])),
            (m(four, &[]), m(&[&[1, 2, 3, 4], &[1, 2, 3]], &[4])),
            // A member's log is not taken away from it.
            (m(&[&[1, 2, 3]], &[4]), m(&[&[1, 2, 3]], &[])),
            // Steps that are too large.
            (m(&[&[1, 2, 3]], &[4]), m(&[&[1, 2, 3, 4]], &[])),
            (m(&[&[1, 2]], &[3, 4]), m(&[&[1, 2, 3], &[1, 2, 3, 4]], &[])),
        ] {
            assert!(!passes(&change, &before), "{before} then {change}");
        }
        let mut nodes: BTreeMap<u64, Peer> = (1..=4).map(|id| (id, at(id))).collect();
        nodes.insert(2, at(7));
        let voters = vec![(1..=4).collect()];
        let moved = Membership::new(voters, nodes).unwrap();
        assert!(
            !passes(&moved, &m(four, &[])),
            "where the ledger does not have it"
        );
    }
}
