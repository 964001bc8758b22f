//! Elections that prove themselves. Each vote that a node gives is signed with its key, for one candidate in one term of one ledger.
//! A leader shows the signatures with the first append of each stream, and whoever has not followed it yet counts them: without a
//! quorum of them, that it leads is its own word.
//!
//! Counting takes nothing but keys and the voters that this node knows: those of its own log, the members of its ledger, and those to
//! which cosigned changes of the trust policy lead. So a node that was down during the election follows as soon as it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use ledger_core::keys::PublicKey;
use ledger_core::limits::MAX_NODES;
use ledger_core::signature::vote_message;
use ledger_proto::peer::v1 as wire;

use super::peers::Peers;
use super::types::Vote;
use crate::transport::SharedSigner;

/// Most signatures of one election: the voters on both sides of a change.
const MAX_GRANTS: usize = 2 * MAX_NODES;

/// The votes that this node was given in one term, and the voters that it knows beside those of its log.
#[derive(Default)]
pub struct Elections {
    signer: OnceLock<SharedSigner>,
    given: Mutex<Given>,
    known: Mutex<KnownVoters>,
}

/// The signatures that this node was given, by voter.
#[derive(Debug, Default)]
struct Given {
    term: u64,
    signatures: BTreeMap<u64, Vec<u8>>,
}

/// Sets of nodes of which one may be the voters that elected a leader.
#[derive(Debug, Default)]
struct KnownVoters {
    /// The epoch of the trust policy, as far as this node has applied its ledger.
    epoch: u64,
    /// The members of the ledger in that epoch.
    members: BTreeSet<u64>,
    /// The nodes of a trust policy that knows more of them than the ledger does.
    named: BTreeSet<u64>,
    /// The members in later epochs, proven by cosigned changes of the trust policy.
    later: BTreeMap<u64, BTreeSet<u64>>,
}

impl fmt::Debug for Elections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Elections").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Elections {
    /// Signs this node's votes with its key from now on. Without one its votes are worth nothing to a candidate.
    pub fn sign_with(&self, signer: SharedSigner) {
        // There is one key.
        let _ = self.signer.set(signer);
    }

    /// The members of the ledger in an epoch of its trust policy, and the nodes of a policy that knows more of them.
    pub fn set_members(&self, epoch: u64, members: BTreeSet<u64>, named: BTreeSet<u64>) {
        let mut known = lock(&self.known);
        known.later.retain(|later, _| *later > epoch);
        known.epoch = epoch;
        known.members = members;
        known.named = named;
    }

    /// The members of the ledger, as far as this node has applied it.
    #[must_use]
    pub fn members(&self) -> BTreeSet<u64> {
        lock(&self.known).members.clone()
    }

    /// The members in an epoch that this node has not applied yet, proven by a cosigned change of the trust policy.
    pub fn set_later_members(&self, epoch: u64, members: BTreeSet<u64>) {
        let mut known = lock(&self.known);
        if epoch > known.epoch {
            known.later.insert(epoch, members);
        }
    }
}

impl KnownVoters {
    /// True if most of the nodes of one set that may be the voters are among these.
    fn have_elected(&self, in_force: &[BTreeSet<u64>], granted: &BTreeSet<u64>) -> bool {
        let own = [&self.members, &self.named];
        let mut sets = in_force.iter().chain(own).chain(self.later.values());
        sets.any(|set| set.intersection(granted).count() > set.len() / 2)
    }
}

impl Peers {
    /// The signature of a vote that this node has given, durably; empty without a key.
    #[must_use]
    pub fn sign_vote(&self, vote: &Vote) -> Vec<u8> {
        let message = self.vote_message(self.node_id, vote);
        let signer = self.elections.signer.get();
        signer.map_or_else(Vec::new, |signer| signer.sign(&message).to_vec())
    }

    fn vote_message(&self, voter: u64, vote: &Vote) -> Vec<u8> {
        let candidate = vote.leader_id;
        vote_message(&self.genesis, voter, candidate.term, candidate.voted_for)
    }

    fn public_key_of(&self, node: u64) -> Option<PublicKey> {
        let bytes = if node == self.node_id {
            self.elections.signer.get()?.public_key()
        } else {
            self.transport.directory().by_id(node)?.key.bytes()?
        };
        PublicKey::from_bytes(&bytes).ok()
    }

    fn has_signed(&self, voter: u64, vote: &Vote, signature: &[u8]) -> bool {
        let message = self.vote_message(voter, vote);
        let key = self.public_key_of(voter);
        key.is_some_and(|key| key.verify(&message, signature))
    }

    /// Keeps the vote that a node gave to this one, if the node has signed it.
    pub(super) fn keep_vote(&self, voter: u64, vote: &Vote, signature: &[u8]) -> bool {
        if !self.has_signed(voter, vote, signature) {
            return false;
        }
        let mut given = lock(&self.elections.given);
        let kept = given.of(vote.leader_id.term);
        let kept = kept.map(|signatures| signatures.insert(voter, signature.to_vec()));
        kept.is_some()
    }

    /// The votes that have made this node the leader of a term: its own, and those that it was given. Of a term before the newest in
    /// which it was a candidate it has none left: a task of an earlier leadership may still ask.
    pub(super) fn election(&self, vote: &Vote) -> Vec<wire::VoteGrant> {
        let mut given = lock(&self.elections.given);
        let Some(signatures) = given.of(vote.leader_id.term) else {
            return Vec::new();
        };
        let own = signatures.entry(self.node_id);
        own.or_insert_with(|| self.sign_vote(vote));
        let all = signatures.iter().map(|(node_id, signature)| {
            let (node_id, signature) = (*node_id, signature.clone());
            wire::VoteGrant { node_id, signature }
        });
        all.collect()
    }

    /// Checks that a quorum has elected a leader, by the votes that it shows. `in_force` are the voters of this node's log.
    ///
    /// A node that is to join knows no voters: its log is empty, and it is no member of its own state. It takes the word of the node
    /// that sends it the log.
    ///
    /// # Errors
    /// They are no quorum of voters that this node knows.
    pub fn check_election(
        &self,
        vote: &Vote,
        shown: &[wire::VoteGrant],
        in_force: &[BTreeSet<u64>],
    ) -> Result<(), String> {
        if in_force.is_empty() && !lock(&self.elections.known).members.contains(&self.node_id) {
            return Ok(());
        }
        let (leader, term) = (vote.leader_id.voted_for, vote.leader_id.term);
        if shown.len() > MAX_GRANTS {
            return Err(format!(
                "node {leader} shows more votes for term {term} than a ledger can have voters"
            ));
        }
        let good = shown
            .iter()
            .filter(|grant| self.has_signed(grant.node_id, vote, &grant.signature));
        let granted: BTreeSet<u64> = good.map(|grant| grant.node_id).collect();
        if lock(&self.elections.known).have_elected(in_force, &granted) {
            return Ok(());
        }
        // Those who voted may be nodes that joined while this one was away.
        self.transport.ask_for_members();
        Err(format!(
            "node {leader} does not show that a quorum elected it in term {term}: of the nodes that this one knows, {granted:?} have signed a vote for it"
        ))
    }
}

impl Given {
    /// The votes of a term; those of earlier ones are forgotten. None if a later one has begun.
    fn of(&mut self, term: u64) -> Option<&mut BTreeMap<u64, Vec<u8>>> {
        if term > self.term {
            self.term = term;
            self.signatures.clear();
        }
        (term == self.term).then_some(&mut self.signatures)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use ed25519_dalek::SigningKey;
    use ledger_core::hash::Hash;

    use super::*;
    use crate::clock::SystemClock;
    use crate::fatal::Fatal;
    use crate::raft::participation::Stage;
    use crate::raft::peer_memory::PeerMemory;
    use crate::storage::memory::MemoryStore;
    use crate::storage::store_id::StoreId;
    use crate::transport::{Footing, KeyDirectory, Listed, PeerTransport, Role};

    fn key(node: u8) -> SigningKey {
        SigningKey::from_bytes(&[node; 32])
    }

    /// A node that lists nodes 1 to 5.
    pub(in crate::raft) fn node(id: u8, genesis: u8) -> Peers {
        let others = (1..=5).filter(|other| *other != id);
        let listed = others.map(|other| {
            let key = key(other).verifying_key().to_bytes();
            let role = Role::Voter;
            (u64::from(other), Listed { key, role })
        });
        let directory = KeyDirectory::of(Footing::Joined, &listed.collect());
        let own = Arc::new(key(id));
        let transport = PeerTransport::new(own.clone(), Arc::new(directory)).unwrap();
        let (store, fatal) = (Arc::new(MemoryStore::new()), Fatal::default());
        let memory = PeerMemory::open(store, StoreId::from_bytes([id; 16]), fatal).unwrap();
        let peers = Peers::new(
            id.into(),
            Hash::from_bytes([genesis; 32]),
            HashMap::new(),
            Arc::new(SystemClock),
            Arc::new(transport),
            Arc::new(memory),
            Stage::Full,
        );
        peers.elections.sign_with(own);
        peers
    }

    fn set(ids: &[u64]) -> BTreeSet<u64> {
        ids.iter().copied().collect()
    }

    /// The votes of these nodes for node 1 in term 7.
    fn votes(of: &[u8]) -> Vec<wire::VoteGrant> {
        let vote = Vote::new(7, 1);
        let grant = |id: &u8| wire::VoteGrant {
            node_id: u64::from(*id),
            signature: node(*id, 9).sign_vote(&vote),
        };
        of.iter().map(grant).collect()
    }

    fn is_believed(peers: &Peers, shown: &[wire::VoteGrant], in_force: &[&[u64]]) -> bool {
        let vote = Vote::new_committed(7, 1);
        let sets: Vec<BTreeSet<u64>> = in_force.iter().map(|ids| set(ids)).collect();
        peers.check_election(&vote, shown, &sets).is_ok()
    }

    #[test]
    fn a_leader_is_believed_that_shows_the_votes_of_a_quorum() {
        let follower = node(3, 9);
        let five: &[&[u64]] = &[&[1, 2, 3, 4, 5]];
        assert!(is_believed(&follower, &votes(&[1, 2, 4]), five));
        assert!(is_believed(&follower, &votes(&[1, 2, 3]), five), "its own");
        for too_few in [&[][..], &[1], &[1, 2], &[1, 2, 2, 1]] {
            assert!(
                !is_believed(&follower, &votes(too_few), five),
                "{too_few:?}"
            );
        }
        let changing: &[&[u64]] = &[&[1, 2], &[3, 4, 5]];
        assert!(is_believed(&follower, &votes(&[1, 2]), changing));
        assert!(!is_believed(&follower, &votes(&[1, 3]), changing));
        let many = vec![votes(&[1]).remove(0); MAX_GRANTS + 1];
        assert!(!is_believed(&follower, &many, five));
    }

    #[test]
    fn a_vote_counts_for_one_candidate_in_one_term_of_one_ledger() {
        let follower = node(3, 9);
        let three: &[&[u64]] = &[&[1, 2, 3]];
        for (genesis, term, candidate) in [(8, 7, 1), (9, 6, 1), (9, 7, 2)] {
            let mut shown = votes(&[1]);
            shown.push(wire::VoteGrant {
                node_id: 2,
                signature: node(2, genesis).sign_vote(&Vote::new(term, candidate)),
            });
            assert!(!is_believed(&follower, &shown, three), "{genesis} {term}");
        }
        let mut shown = votes(&[1, 2]);
        assert!(is_believed(&follower, &shown, three));
        shown[1].node_id = 3;
        assert!(
            !is_believed(&follower, &shown, three),
            "another's signature"
        );
        shown[1].node_id = 6;
        assert!(!is_believed(&follower, &shown, &[&[1, 6]]), "not listed");
    }

    #[test]
    fn a_node_that_was_away_believes_the_voters_that_it_has_learned_of() {
        let follower = node(3, 9);
        follower
            .elections
            .set_members(1, set(&[1, 2, 3, 4, 5]), set(&[]));
        let before: &[&[u64]] = &[&[1, 2, 3, 4, 5]];
        let shown = votes(&[1, 2]);
        assert!(!is_believed(&follower, &shown, before));
        follower.elections.set_later_members(2, set(&[1, 2, 3]));
        assert!(is_believed(&follower, &shown, before));
        follower
            .elections
            .set_members(3, set(&[1, 2, 3, 4, 5]), set(&[]));
        assert!(!is_believed(&follower, &shown, before), "of an older epoch");
        follower.elections.set_later_members(2, set(&[1, 2, 3]));
        assert!(!is_believed(&follower, &shown, before), "of an older epoch");
    }

    #[test]
    fn a_node_that_is_to_join_takes_the_log_from_whom_it_lists() {
        let newcomer = node(5, 9);
        newcomer.elections.set_members(0, set(&[1, 2, 3]), set(&[]));
        assert!(is_believed(&newcomer, &[], &[]));
        assert!(!is_believed(&newcomer, &[], &[&[1, 2, 3]]), "it has a log");
        let first = node(3, 9);
        first.elections.set_members(0, set(&[1, 2, 3]), set(&[]));
        assert!(!is_believed(&first, &[], &[]), "it is of the genesis");
        assert!(is_believed(&first, &votes(&[1, 2]), &[]));
    }

    #[test]
    fn a_candidate_keeps_the_votes_that_are_signed() {
        let candidate = node(1, 9);
        let vote = Vote::new(7, 1);
        let [second, third] = [2, 3].map(|id| node(id, 9).sign_vote(&vote));
        assert!(!candidate.keep_vote(2, &vote, &third));
        assert!(!candidate.keep_vote(2, &vote, &[]));
        assert!(candidate.keep_vote(2, &vote, &second));
        let shown = candidate.election(&Vote::new_committed(7, 1));
        assert_eq!(shown, votes(&[1, 2]));
        assert!(is_believed(&node(3, 9), &shown, &[&[1, 2, 3]]));
        let next = candidate.election(&Vote::new_committed(8, 1));
        assert_eq!(next.len(), 1, "votes of an earlier term are worth nothing");
    }

    #[test]
    fn what_comes_late_from_an_earlier_term_takes_no_votes_away() {
        let candidate = node(1, 9);
        let (earlier, vote) = (Vote::new(6, 1), Vote::new(7, 1));
        let [late, second] = [&earlier, &vote].map(|vote| node(2, 9).sign_vote(vote));
        assert!(candidate.keep_vote(2, &vote, &second));
        assert!(!candidate.keep_vote(2, &earlier, &late), "it came late");
        let shown = candidate.election(&Vote::new_committed(6, 1));
        assert_eq!(shown, [], "an earlier leadership is over");
        let shown = candidate.election(&Vote::new_committed(7, 1));
        assert_eq!(shown, votes(&[1, 2]));
    }
}
