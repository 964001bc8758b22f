//! Whom this node speaks with: the directory of keys follows the ledger and Raft.
//!
//! A node is listed while the ledger, as far as this node has applied it, has it as a member, and on while Raft has it among its
//! replicas: a node that leaves still has to acknowledge and to cosign its own leaving. Until it has a log, a node has the state of
//! its genesis, and lists the nodes of that.
//!
//! An operator can give a node the trust policy of now, which names the members. A node without a log then lists those instead of the
//! nodes of the genesis, some of which may have left; another one lists those of them, too, of which its ledger knows nothing. The
//! same goes for a policy to which cosigned steps lead ([`super::trust_follower`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ledger_core::machine::Tip;
use ledger_core::note::tlog_policy::TlogPolicy;
use ledger_core::signer::PUBLIC_KEY_LEN;
use ledger_core::state::{Key, StateError, read};
use ledger_proto::v1;
use openraft::async_runtime::WatchReceiver;
use tokio::sync::watch;

use super::start::Node;
use super::vouched::node_id;
use crate::config::Config;
use crate::fatal::{Fatal, disk};
use crate::raft::Raft;
use crate::raft::elections::Elections;
use crate::raft::peers::Peers;
use crate::raft::types::{LogId, Members};
use crate::storage::view::{StoreState, nodes};
use crate::storage::{Read, Store};
use crate::transport::{Footing, KeyDirectory, Listed, Role};

/// Nodes that a trust policy names which this node believes, and their keys.
pub(super) type Named = BTreeMap<u64, [u8; PUBLIC_KEY_LEN]>;

/// The nodes that the trust policy names which an operator has given this node; none if no operator has.
///
/// # Errors
/// What is wrong with the file.
pub(super) fn named(config: &Config, origin: &str) -> Result<Named, String> {
    let path = config.trust_path();
    let failed = |error: String| format!("{}: {error}", path.display());
    let text = match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Named::new()),
        read => read.map_err(|error| failed(error.to_string()))?,
    };
    let policy = TlogPolicy::parse(&text).map_err(|error| failed(error.to_string()))?;
    Ok(nodes_of(&policy, origin))
}

/// The nodes that a trust policy names.
pub(super) fn nodes_of(policy: &TlogPolicy, origin: &str) -> Named {
    let nodes = policy.witnesses().iter().filter_map(|witness| {
        let id = node_id(origin, witness.key.name())?;
        Some((id, *witness.key.public_key().as_bytes()))
    });
    nodes.collect()
}

/// The nodes that are listed, all but this one itself.
///
/// # Errors
/// [`StateError`] if the store cannot be read, or holds no key where one must be.
pub(super) fn listed(
    store: &dyn Read,
    own_id: u64,
    replicas: &Members,
    named: &Named,
) -> Result<(Footing, BTreeMap<u64, Listed>), StateError> {
    let replicas = replicas.membership();
    let footing = if replicas.nodes().next().is_some() {
        Footing::Joined
    } else {
        Footing::New
    };
    let voters: BTreeSet<u64> = replicas.voter_ids().collect();
    let named = named.iter().filter(|(id, _)| **id != own_id);
    let role = Role::Named;
    let mut listed: BTreeMap<u64, Listed> = named
        .map(|(id, key)| (*id, Listed { key: *key, role }))
        .collect();
    if footing == Footing::New && !listed.is_empty() {
        return Ok((footing, listed));
    }
    for record in nodes(&StoreState(store))? {
        let is_member = record.member;
        let Some(card) = record.card else { continue };
        let id = card.node_id;
        let is_replica = replicas.get_node(&id).is_some();
        let role = match (is_member, is_replica) {
            _ if id == own_id => continue,
            (false, false) => {
                // It has left, whatever an older policy says.
                listed.remove(&id);
                continue;
            }
            (false, true) => Role::Leaving,
            // Those of the genesis begin the log together.
            (true, _) if footing == Footing::New || voters.contains(&id) => Role::Voter,
            (true, _) => Role::Learner,
        };
        let key = <[u8; PUBLIC_KEY_LEN]>::try_from(card.public_key.as_slice());
        let key = key.map_err(|error| StateError::damaged(Key::node(id), error.to_string()))?;
        listed.insert(id, Listed { key, role });
    }
    Ok((footing, listed))
}

/// Tells those who count votes which members the ledger has, and which nodes a policy names that knows of more than the ledger does.
///
/// # Errors
/// [`StateError`] if the store cannot be read.
pub(super) fn tell_voters(
    store: &dyn Read,
    named: &Named,
    elections: &Elections,
) -> Result<(), StateError> {
    let state = StoreState(store);
    let ledger: v1::LedgerRecord = read(&state, &Key::ledger())?.unwrap_or_default();
    let (mut known, mut members) = (BTreeSet::new(), BTreeSet::new());
    for record in nodes(&state)? {
        let Some(card) = record.card else { continue };
        known.insert(card.node_id);
        if record.member {
            members.insert(card.node_id);
        }
    }
    let mut named: BTreeSet<u64> = named.keys().copied().collect();
    if named.is_subset(&known) {
        named.clear();
    }
    elections.set_members(ledger.trust_epoch, members, named);
    Ok(())
}

/// Keeps the directory as the ledger and Raft have it.
pub(super) struct DirectoryKeeper {
    store: Arc<dyn Store>,
    own_id: u64,
    named: watch::Receiver<Named>,
    raft: Raft,
    tip: watch::Receiver<Tip>,
    directory: Arc<KeyDirectory>,
    peers: Arc<Peers>,
    fatal: Fatal,
}

/// What the directory follows from: the epoch of the trust policy, which each change of the members raises, the log entry of Raft's
/// membership, and those whom a policy names.
type Basis = (u64, Option<LogId>, Named);

impl DirectoryKeeper {
    pub(super) fn new(
        node: &Node,
        own_id: u64,
        named: watch::Receiver<Named>,
        fatal: Fatal,
    ) -> Self {
        Self {
            store: Arc::clone(&node.store),
            own_id,
            named,
            raft: node.raft.clone(),
            tip: node.tip.clone(),
            directory: Arc::clone(node.peers.transport.directory()),
            peers: Arc::clone(&node.peers),
            fatal,
        }
    }

    /// Keeps the directory until the node ends.
    pub(super) async fn run(mut self) {
        let mut metrics = self.raft.metrics();
        let mut known: Option<Basis> = None;
        loop {
            let _ = self.tip.borrow_and_update();
            let named = self.named.borrow_and_update().clone();
            let replicas = Members::clone(&metrics.borrow_watched().membership_config);
            if let Err(error) = self.follow(&mut known, &replicas, &named) {
                let what = "the nodes of the ledger cannot be read";
                self.fatal.stop(disk(what, &error.into()));
                return;
            }
            let changed = tokio::select! {
                changed = self.tip.changed() => changed.is_ok(),
                changed = metrics.changed() => changed.is_ok(),
                changed = self.named.changed() => changed.is_ok(),
            };
            // Whoever has ended has said so.
            if !changed {
                return;
            }
        }
    }

    fn follow(
        &self,
        known: &mut Option<Basis>,
        replicas: &Members,
        named: &Named,
    ) -> Result<(), StateError> {
        let ledger: v1::LedgerRecord =
            read(&StoreState(&*self.store), &Key::ledger())?.unwrap_or_default();
        let basis = (ledger.trust_epoch, *replicas.log_id(), named.clone());
        if known.as_ref() == Some(&basis) {
            return Ok(());
        }
        let (footing, listed) = listed(&*self.store, self.own_id, replicas, named)?;
        tracing::debug!(ids = ?listed.keys(), ?footing, "the nodes that this one speaks with");
        self.directory.replace(footing, &listed);
        tell_voters(&*self.store, named, &self.peers.elections)?;
        *known = Some(basis);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use openraft::Membership;

    use super::*;
    use crate::cli::init::create_state;
    use crate::genesis_file::tests::genesis;
    use crate::raft::types::{Peer, Term};
    use crate::storage::memory::MemoryStore;
    use crate::storage::store_id::StoreId;
    use crate::storage::{Batch, Table};

    /// The replicas of a log whose voters are these.
    fn replicas(voters: &[u64], others: &[u64]) -> Members {
        let nodes = voters.iter().chain(others);
        let nodes: BTreeMap<u64, Peer> = nodes.map(|id| (*id, Peer::default())).collect();
        let voters = voters.iter().copied().collect();
        let id = LogId::new(Term { term: 1 }, 1);
        Members::new(Some(id), Membership::new(vec![voters], nodes).unwrap())
    }

    /// A store with the genesis of nodes 1, 2 and 3, of which these have left.
    fn store(left: &[u64]) -> MemoryStore {
        use prost::Message as _;
        let store = MemoryStore::new();
        create_state(&store, &genesis(), 1, StoreId::from_bytes([1; 16]), false).unwrap();
        let mut batch = Batch::new();
        for record in nodes(&StoreState(&store)).unwrap() {
            let id = record.card.as_ref().unwrap().node_id;
            let member = !left.contains(&id);
            let record = v1::NodeRecord { member, ..record };
            let key = Key::node(id).into_bytes();
            batch.put(Table::State, key, record.encode_to_vec());
        }
        store.write(&batch).unwrap();
        store
    }

    fn roles(left: &[u64], replicas: &Members, named: &[u64]) -> (Footing, Vec<(u64, Role)>) {
        let named: Named = named.iter().map(|id| (*id, [7; 32])).collect();
        let (footing, listed) = listed(&store(left), 1, replicas, &named).unwrap();
        let roles = listed.into_iter().map(|(id, listed)| (id, listed.role));
        (footing, roles.collect())
    }

    #[test]
    fn those_are_listed_who_are_members_or_still_replicas() {
        let [voter, learner] = [Role::Voter, Role::Learner];
        let [leaving, named] = [Role::Leaving, Role::Named];
        let nothing = Members::default();
        assert_eq!(
            roles(&[], &nothing, &[]),
            (Footing::New, vec![(2, voter), (3, voter)])
        );
        assert_eq!(
            roles(&[], &nothing, &[1, 2, 4]),
            (Footing::New, vec![(2, named), (4, named)]),
            "the policy is newer than the genesis, and this node is no peer of its own"
        );
        let joined = |left: &[u64], replicas: &Members, named: &[u64]| {
            let (footing, roles) = roles(left, replicas, named);
            assert_eq!(footing, Footing::Joined);
            roles
        };
        let all = replicas(&[1, 2, 3], &[]);
        assert_eq!(joined(&[], &all, &[]), [(2, voter), (3, voter)]);
        let learns = replicas(&[1, 2], &[3]);
        assert_eq!(joined(&[], &learns, &[]), [(2, voter), (3, learner)]);
        assert_eq!(joined(&[3], &all, &[]), [(2, voter), (3, leaving)]);
        let gone = replicas(&[1, 2], &[]);
        assert_eq!(joined(&[3], &gone, &[]), [(2, voter)]);
        assert_eq!(
            joined(&[3], &gone, &[3, 4]),
            [(2, voter), (4, named)],
            "a policy does not bring back who has left"
        );
    }
}
