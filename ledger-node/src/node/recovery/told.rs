//! Memberships that other nodes tell of. Each of them adds voters to those that are asked, and takes nothing away: neither one that
//! this node knows, nor one that another node has told of.

use std::collections::{BTreeMap, BTreeSet};

use ledger_proto::peer::v1 as wire;

use crate::peer::validation::check_membership;
use crate::raft::bounds::is_of_term;
use crate::raft::types::{self, Members, Peer};

/// Reads a membership that an answer tells of. None if its voters are none, more than a ledger can have, or cannot be reached, or if it is
/// of a later term than the vote of the node that tells of it.
pub(super) fn read_members(message: &wire::GetRecoveryStateResponse) -> Option<Members> {
    let members = types::members(&message.membership_log_id, &message.membership).ok()?;
    let Some(id) = members.log_id() else {
        // It does not know any yet.
        return Some(Members::default());
    };
    let term = message.vote.as_ref().map_or(0, |vote| vote.term);
    let is_sound = check_membership(id.index(), members.membership()).is_ok();
    (is_sound && is_of_term(id, term)).then_some(members)
}

/// The memberships told of, the last word of each node that was asked.
#[derive(Debug, Default)]
pub(super) struct ToldMembers(BTreeMap<u64, Members>);

impl ToldMembers {
    /// One node's word. It counts if it is newer than the membership that this node knows itself.
    pub(super) fn hear(&mut self, from: u64, members: Members, own: &Members) {
        if members.log_id() > own.log_id() {
            self.0.insert(from, members);
        }
    }

    /// Adds the sets of voters that are told of, each once.
    pub(super) fn add_sets(&self, sets: &mut Vec<BTreeSet<u64>>) {
        for members in self.0.values() {
            for set in members.membership().get_joint_config() {
                if !sets.contains(set) {
                    sets.push(set.clone());
                }
            }
        }
    }

    /// Adds where the nodes are that are told of. What is known of a node stays.
    pub(super) fn add_nodes(&self, nodes: &mut BTreeMap<u64, Peer>) {
        for members in self.0.values() {
            for (id, peer) in members.membership().nodes() {
                nodes.entry(*id).or_insert_with(|| peer.clone());
            }
        }
    }
}

/// The voters to ask, and where: of those that were told of, only nodes whose key this node has. It could not reach others, and who tells
/// of them may make them up.
pub(super) fn to_ask(
    own: &BTreeSet<u64>,
    sets: Vec<BTreeSet<u64>>,
    nodes: &BTreeMap<u64, Peer>,
    is_listed: impl Fn(u64) -> bool,
) -> Vec<(u64, Peer)> {
    let voters: BTreeSet<u64> = sets.into_iter().flatten().collect();
    let asked = voters
        .into_iter()
        .filter(|id| own.contains(id) || is_listed(*id));
    asked
        .filter_map(|id| Some((id, nodes.get(&id)?.clone())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(term: u64, sets: &[&[u64]], vote: Option<u64>) -> wire::GetRecoveryStateResponse {
        let voters = sets.iter().map(|set| wire::VoterSet {
            node_ids: set.to_vec(),
        });
        let all: BTreeSet<u64> = sets.iter().flat_map(|set| set.iter().copied()).collect();
        let peers = all.into_iter().map(|node_id| wire::Peer {
            node_id,
            address: format!("127.0.0.1:{}", node_id % 9_999),
        });
        wire::GetRecoveryStateResponse {
            vote: vote.map(|term| wire::Vote {
                term,
                ..wire::Vote::default()
            }),
            membership_log_id: Some(wire::LogId { term, index: 9 }),
            membership: Some(wire::Membership {
                voters: voters.collect(),
                peers: peers.collect(),
            }),
            ..wire::GetRecoveryStateResponse::default()
        }
    }

    fn members(term: u64, sets: &[&[u64]]) -> Members {
        read_members(&message(term, sets, Some(term))).unwrap()
    }

    #[test]
    fn a_membership_with_more_voters_than_a_ledger_can_have_is_not_read() {
        let sound = message(3, &[&[1, 2], &[2, 3]], Some(3));
        assert!(read_members(&sound).is_some());
        let many: Vec<u64> = (1..=100_000).collect();
        for unsound in [
            message(3, &[&many], Some(3)),
            message(3, &[&[1], &[2], &[3]], Some(3)),
            message(3, &[&[]], Some(3)),
            message(4, &[&[1, 2]], Some(3)),
            message(u64::MAX, &[&[1, 2]], None),
        ] {
            assert!(read_members(&unsound).is_none());
        }
        let none = wire::GetRecoveryStateResponse::default();
        assert_eq!(read_members(&none), Some(Members::default()));
    }

    #[test]
    fn what_one_node_makes_up_hides_nothing_that_another_tells_of() {
        let own = members(2, &[&[1, 2, 3]]);
        let mut told = ToldMembers::default();
        told.hear(2, members(1 << 40, &[&[7, 8, 9]]), &own);
        told.hear(3, members(3, &[&[2, 3, 4]]), &own);
        told.hear(1, members(1, &[&[5, 6]]), &own);
        let mut sets = own.membership().get_joint_config().clone();
        told.add_sets(&mut sets);
        told.add_sets(&mut sets);
        let expected = [&[1, 2, 3], &[7, 8, 9], &[2, 3, 4]].map(|set| BTreeSet::from(*set));
        assert_eq!(sets, expected, "an older one adds nothing");
        told.hear(2, members(4, &[&[2, 3, 4]]), &own);
        let mut now = own.membership().get_joint_config().clone();
        told.add_sets(&mut now);
        assert_eq!(now.len(), 2, "a node's last word counts");
    }

    #[test]
    fn of_the_nodes_told_of_those_are_asked_that_this_node_can_know() {
        let own = members(2, &[&[1, 2, 3]]);
        let mut told = ToldMembers::default();
        let mut made_up = message(3, &[&[2, 3, 4, 8]], Some(3));
        for peer in &mut made_up.membership.as_mut().unwrap().peers {
            peer.address = "127.0.0.1:1".to_owned();
        }
        told.hear(2, read_members(&made_up).unwrap(), &own);
        let mut sets = own.membership().get_joint_config().clone();
        told.add_sets(&mut sets);
        let known = own.membership().nodes();
        let mut nodes: BTreeMap<u64, Peer> = known.map(|(id, peer)| (*id, peer.clone())).collect();
        told.add_nodes(&mut nodes);
        let voters = [1, 2, 3].into();
        let asked = to_ask(&voters, sets, &nodes, |id| id == 4);
        let asked: Vec<(u64, &str)> = asked
            .iter()
            .map(|(id, peer)| (*id, peer.address.as_str()))
            .collect();
        let expected = [
            (1, "127.0.0.1:1"),
            (2, "127.0.0.1:2"),
            (3, "127.0.0.1:3"),
            (4, "127.0.0.1:1"),
        ];
        assert_eq!(asked, expected);
    }
}
