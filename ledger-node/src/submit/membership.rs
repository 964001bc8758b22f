//! Which changes of the nodes are taken at what time.
//!
//! A node that began with a copy of another's store cosigns once most of the others of a trust policy, to which cosigned steps lead
//! from the genesis, have signed the state that it computed. A node that is removed signs no more. So whoever removes nodes while a
//! step is open, or while a node that stays waits for the others' word, could leave a newcomer that nobody can vouch for, and with
//! it a ledger that nobody can cosign. The machine takes such a change, because replicas cannot know what another one keeps; so it is
//! looked at before it gets into the log.
//!
//! A change whose policy nobody can meet would freeze the membership: what comes after it waits for it. So a node that joins must
//! answer before the change is taken, and nodes that joined with changes that no checkpoint carries can be removed again.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as _;
use std::time::{Duration, Instant};

use ledger_core::hash::LeafIndex;
use ledger_core::id::Identity;
use ledger_core::ledger;
use ledger_core::limits::MAX_NODES;
use ledger_core::note::tlog_policy::TlogPolicy;
use ledger_core::state::{Key, StateError, read};
use ledger_proto::peer::v1 as wire;
use ledger_proto::v1::{self, ErrorReason, entry};
use tonic::Status;

use crate::failure::{Answer, Failure, argument};
use crate::raft::peers::Peers;
use crate::storage::view::{StoreState, nodes};
use crate::storage::{Read, Table, meta};
use crate::transport::{End, explain};

/// How long whoever waits for cosignatures may wait until it asks again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a node that joins has to answer.
const DIAL: Duration = Duration::from_secs(2);
/// How long a node that joins has to learn the changes of the members since its genesis.
const LEARNS: Duration = Duration::from_secs(3);
/// Between two dials meanwhile.
const DIAL_AGAIN: Duration = Duration::from_millis(100);
/// Why a node that joins refuses this one.
const STILL_UNKNOWN: &str = "it does not know this node's key, and the changes of the members that can be proven here do not lead from its genesis to this node";
/// The namespace of a role that holds everywhere.
const WHOLE_LEDGER: &str = "*";

/// Looks at a change before it is proposed.
///
/// # Errors
/// `NOT_READY` while others must first say something, `ARGUMENT_INVALID` for a change that is to be made in two.
pub fn may_change(store: &dyn Read, ask: &v1::UpdateMembership) -> Answer<()> {
    let state = StoreState(store);
    let members = members(&state)?;
    let before: BTreeSet<u64> = members.keys().copied().collect();
    let after: BTreeSet<u64> = ask.nodes.iter().map(|card| card.node_id).collect();
    let stay: BTreeSet<u64> = before.intersection(&after).copied().collect();
    if stay == before {
        return Ok(());
    }
    if after != stay && stay.len() * 2 <= before.len() {
        return Err(argument(
            "more than half of the nodes must stay when others join: add the new ones, wait until they cosign, then remove the old ones",
        ));
    }
    let steps = Steps::read(store)?;
    if let Some(epoch) = steps.open.first() {
        let unvouched: BTreeSet<u64> = members
            .iter()
            .filter(|(_, card)| !steps.has_handed_trust_to(card))
            .map(|(id, _)| *id)
            .collect();
        let takes_back = before.difference(&stay).all(|id| unvouched.contains(id));
        return if takes_back && after == stay {
            Ok(())
        } else {
            Err(not_yet(&still_open(*epoch, &unvouched)))
        };
    }
    let first = first_members(&state)?;
    for id in &stay {
        let word: Option<v1::AttestationRecord> = read(&state, &Key::attestation(*id))?;
        // Those of the genesis began with nothing, and may have been down since.
        if word.map_or_else(|| !first.contains(id), |word| word.copied) {
            return Err(not_yet(&format!(
                "node {id} waits until the others confirm the state that it got as a copy, and whoever is removed can confirm nothing; send the same command again when `cluster status` says that it cosigns"
            )));
        }
    }
    Ok(())
}

/// Why nobody can leave while a change is open.
fn still_open(epoch: u64, unvouched: &BTreeSet<u64>) -> String {
    let begun = format!(
        "an earlier change of the nodes (trust epoch {epoch}) is not cosigned yet, and `cluster status` says whom it waits for: start those nodes, and send the same command again"
    );
    match unvouched.first() {
        Some(node) => format!("{begun}; or take it back with `cluster remove {node}`"),
        None => begun,
    }
}

/// The changes of the trust policy, as far as checkpoints carry them on this node.
struct Steps {
    /// Epochs that no checkpoint carries.
    open: BTreeSet<u64>,
    /// The keys of the cosigners of all policies that one carries, the first included.
    cosigners: BTreeSet<Vec<u8>>,
}

impl Steps {
    fn read(store: &dyn Read) -> Result<Self, StateError> {
        let state = StoreState(store);
        let ledger: v1::LedgerRecord = read(&state, &Key::ledger())?.unwrap_or_default();
        let (mut open, mut cosigners) = (BTreeSet::new(), BTreeSet::new());
        for epoch in 0..=ledger.trust_epoch {
            let key = meta::trust_step_key(epoch);
            let step = store.get(Table::Meta, &key);
            let step = step.map_err(|error| StateError::unreadable(&key, &error))?;
            if epoch > 0 && step.is_none() {
                open.insert(epoch);
                continue;
            }
            let key = Key::trust(epoch);
            let record: v1::TrustRecord = read(&state, &key)?.unwrap_or_default();
            let policy = TlogPolicy::parse(record.trust_policy.as_bytes())
                .map_err(|error| StateError::damaged(&key, error.to_string()))?;
            let keys = policy.witnesses().iter().map(|witness| &witness.key);
            cosigners.extend(keys.map(|key| key.public_key().as_bytes().to_vec()));
        }
        Ok(Self { open, cosigners })
    }

    /// True if a policy that a checkpoint carries asks for this node's cosignature.
    fn has_handed_trust_to(&self, card: &v1::NodeCard) -> bool {
        self.cosigners.contains(&card.public_key)
    }
}

/// Dials the nodes that a change adds, so that none joins whose card leads nowhere or to another key. Whoever may not change the nodes has nobody
/// dialled: the ledger refuses the command anyway.
///
/// # Errors
/// `NOT_READY`: a node does not answer where its card says, or something else does.
pub async fn newcomers_must_answer(
    store: &dyn Read,
    peers: &Peers,
    author: &Identity,
    ask: &v1::UpdateMembership,
) -> Answer<()> {
    let state = StoreState(store);
    if !is_admin(&state, author)? || ask.nodes.len() > MAX_NODES {
        return Ok(());
    }
    let mut newcomers = Vec::new();
    for card in &ask.nodes {
        if card.node_id != peers.node_id && read_node(&state, card.node_id)?.is_none() {
            newcomers.push(card);
        }
    }
    let dialled = newcomers.into_iter().map(|card| must_answer(peers, card));
    let dialled = futures_util::future::join_all(dialled).await;
    dialled.into_iter().collect()
}

/// Dials one node. One that does not know this node's key yet, because it knows nobody but the nodes of the genesis, gets the changes since
/// pushed to it meanwhile, and has some time to believe them.
async fn must_answer(peers: &Peers, card: &v1::NodeCard) -> Answer<()> {
    let (id, first) = (card.node_id, Instant::now());
    loop {
        let began = Instant::now();
        let Err(why) = ask_clock(peers, card).await else {
            return Ok(());
        };
        let is_unknown = peers.transport.refusals().has_refused_since(id, began);
        if is_unknown && first.elapsed() < LEARNS {
            tokio::time::sleep(DIAL_AGAIN).await;
            continue;
        }
        let why = if is_unknown {
            let address = &card.peer_address;
            format!("{address}: {STILL_UNKNOWN}")
        } else {
            why
        };
        return Err(not_yet(&format!(
            "node {id} cannot join: {why}; start it there with `ledger-node start`, or correct the address in its card, and send the same command again"
        )));
    }
}

async fn ask_clock(peers: &Peers, card: &v1::NodeCard) -> Result<(), String> {
    let (id, address) = (card.node_id, &card.peer_address);
    let mut client = peers
        .newcomer(card)
        .map_err(|error| format!("`{address}` is no address: {error}"))?;
    let mut request = peers.request(id, wire::GetClockRequest::default());
    request.set_timeout(DIAL);
    let answer = tokio::time::timeout(DIAL, client.get_clock(request)).await;
    let status = match answer {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(status)) => status,
        Err(_) => return Err(format!("nobody answers at {address} within {DIAL:?}")),
    };
    // What the node itself says comes without an error below it.
    Err(match beneath(&status) {
        Some(error) => format!("{address}: {}", explain(error, End::Server)),
        None => format!("what answers at {address} refuses: {}", status.message()),
    })
}

/// Why a connection could not be made, if that is what failed.
fn beneath(status: &Status) -> Option<&std::io::Error> {
    let mut source = status.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref() {
            return Some(error);
        }
        source = error.source();
    }
    None
}

fn is_admin(state: &StoreState<'_>, author: &Identity) -> Result<bool, StateError> {
    let Identity::Operator(id) = author else {
        return Ok(false);
    };
    let record: v1::OperatorRecord = read(state, &Key::operator(id))?.unwrap_or_default();
    let active = record.status() == v1::IdentityStatus::Active;
    let is_admin =
        |grant: &v1::RoleGrant| grant.role() == v1::Role::Admin && grant.namespace == WHOLE_LEDGER;
    Ok(active && record.roles.iter().any(is_admin))
}

/// The cards of the nodes that are members now.
fn members(state: &StoreState<'_>) -> Result<BTreeMap<u64, v1::NodeCard>, StateError> {
    let members = nodes(state)?.into_iter().filter(|node| node.member);
    let cards = members.filter_map(|node| node.card);
    Ok(cards.map(|card| (card.node_id, card)).collect())
}

fn read_node(state: &StoreState<'_>, id: u64) -> Result<Option<v1::NodeRecord>, StateError> {
    read(state, &Key::node(id))
}

fn not_yet(what: &str) -> Failure {
    Failure::new(ErrorReason::NotReady, what).after(AGAIN)
}

/// The nodes that the genesis names.
fn first_members(state: &StoreState<'_>) -> Result<BTreeSet<u64>, StateError> {
    let first = ledger::entry(state, LeafIndex(0))?.and_then(|first| first.body);
    Ok(match first {
        Some(entry::Body::Genesis(genesis)) => {
            genesis.nodes.iter().map(|card| card.node_id).collect()
        }
        _ => BTreeSet::new(),
    })
}
