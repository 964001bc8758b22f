//! Replicas, the trust policy that names them, and the versions they run.

use std::collections::{BTreeMap, BTreeSet};

use ledger_proto::v1::{self, governance::Detail};

use super::authority::{Duty, WHOLE_LEDGER};
use super::context::{Context, Stop, applied};
use super::{keyring, validate};
use crate::id::{Identity, check_text};
use crate::keys::{PublicKey, possession_message};
use crate::limits::{MAX_NAME_LEN, MAX_NODES, MAX_VALUE_LEN};
use crate::note::tlog_policy::{PolicyWitness, TlogPolicy};
use crate::note::vkey::{KeyType, VerifierKey};
use crate::state::{Family, Key, StateError, Txn};

/// Most versions that a node can declare.
const MAX_VERSIONS: usize = 16;

pub(super) fn update(
    context: &mut Context<'_, '_>,
    ask: &v1::UpdateMembership,
) -> Result<v1::Governance, Stop> {
    context.require(Duty::ManageMembership, WHOLE_LEDGER)?;
    let policy = check_nodes(&context.ledger.origin, &ask.nodes, &ask.trust_policy)
        .ok_or(v1::Result::InvalidArgument)?;
    if unproven_node(&context.ledger.origin, &ask.nodes).is_some() {
        return Err(v1::Result::KeyRefused.into());
    }
    let epoch = context.ledger.trust_epoch;
    let before: v1::TrustRecord = context.txn.must_read(&Key::trust(epoch))?;
    let same_log = TlogPolicy::parse(before.trust_policy.as_bytes())
        .is_ok_and(|before| log_key(&before) == log_key(&policy));
    if !same_log {
        return Err(v1::Result::FailedPrecondition.into());
    }
    let known = nodes(context.txn)?;
    for card in &ask.nodes {
        match known.get(&card.node_id) {
            // A node id is never used again, and its key is its identity.
            Some(record) if !record.member || !same_identity(record, card) => {
                return Err(v1::Result::FailedPrecondition.into());
            }
            Some(_) => {}
            None => require_can_run(context, card)?,
        }
    }
    for (id, mut record) in known {
        let stays = ask.nodes.iter().any(|card| card.node_id == id);
        if record.member && !stays {
            record.member = false;
            record.leaf = context.leaf.0;
            context.txn.write(Key::node(id), &record);
            context.txn.delete(Key::attestation(id));
            keyring::retire_all(context, &Identity::Node(id))?;
        }
    }
    for card in &ask.nodes {
        let mut card = card.clone();
        let own: Option<v1::NodeRecord> = context.txn.read(&Key::node(card.node_id))?;
        if let Some(own) = own.and_then(|record| record.card) {
            // What a member can run is the member's own to declare.
            card.engine_versions = own.engine_versions;
            card.cluster_versions = own.cluster_versions;
        }
        put_node(context.txn, &card, context.leaf.0)?;
    }
    let previous_policy_digest = blake3::hash(before.trust_policy.as_bytes())
        .as_bytes()
        .to_vec();
    let epoch = epoch + 1;
    context.txn.write(
        Key::trust(epoch),
        &v1::TrustRecord {
            leaf: context.leaf.0,
            trust_policy: ask.trust_policy.clone(),
        },
    );
    let mut ledger = context.ledger.clone();
    ledger.trust_epoch = epoch;
    context.txn.write(Key::ledger(), &ledger);
    Ok(v1::Governance {
        detail: Some(Detail::TrustEpoch(v1::TrustEpoch {
            epoch,
            previous_policy_digest,
        })),
        ..applied("")
    })
}

/// Checks a set of replicas and the trust policy that goes with it: every replica is a witness of the policy under a name
/// and key of its own, the policy's log is this ledger, and any two quorums have a replica in common.
pub(super) fn check_nodes(
    origin: &str,
    nodes: &[v1::NodeCard],
    trust_policy: &str,
) -> Option<TlogPolicy> {
    let policy = TlogPolicy::parse(trust_policy.as_bytes()).ok()?;
    let ids: Vec<u64> = nodes.iter().map(|card| card.node_id).collect();
    let names: BTreeSet<&str> = nodes.iter().map(|card| card.name.as_str()).collect();
    let keys: BTreeSet<&[u8]> = nodes
        .iter()
        .map(|card| card.public_key.as_slice())
        .collect();
    let valid = (1..=MAX_NODES).contains(&nodes.len())
        && validate::is_ascending(&ids)
        // One key for two replicas would be two cosignatures by one of them.
        && names.len() == nodes.len()
        && keys.len() == nodes.len()
        && policy.to_string() == trust_policy
        // A policy that is met without any cosignature would make one stolen log key enough.
        && !policy.is_met_by(|_| false)
        && quorums_overlap(&policy, nodes)
        && log_key(&policy).is_some_and(|key| key.name() == origin)
        && nodes
            .iter()
            .all(|card| is_card(card) && is_witness(&policy, card));
    valid.then_some(policy)
}

/// True if no two sets of nodes that have none in common both meet the policy, whatever witnesses outside have cosigned: else two
/// trees could be cosigned in good faith.
fn quorums_overlap(policy: &TlogPolicy, nodes: &[v1::NodeCard]) -> bool {
    let place = |witness: &PolicyWitness| {
        let key = witness.key.public_key();
        let is_its = |card: &v1::NodeCard| card.public_key == key.as_bytes();
        nodes.iter().position(is_its)
    };
    let places: BTreeMap<&str, Option<usize>> = policy
        .witnesses()
        .iter()
        .map(|witness| (witness.name.as_str(), place(witness)))
        .collect();
    let is_met = |set: u64| {
        policy.is_met_by(|witness| match places.get(witness.name.as_str()) {
            Some(Some(place)) => set & (1 << place) != 0,
            Some(None) | None => true,
        })
    };
    // At most 2^MAX_NODES sets.
    let all = (1_u64 << nodes.len()) - 1;
    (0..=all).all(|set| !(is_met(set) && is_met(all & !set)))
}

/// The first node whose card does not prove, with a signature by its key, that the node asks for this place in this ledger.
pub(super) fn unproven_node(origin: &str, nodes: &[v1::NodeCard]) -> Option<u64> {
    let proven = |card: &v1::NodeCard| {
        let message = possession_message(origin, &Identity::Node(card.node_id));
        PublicKey::from_bytes(&card.public_key)
            .is_ok_and(|key| key.verify(&message, &card.proof_of_possession))
    };
    nodes
        .iter()
        .find(|card| !proven(card))
        .map(|card| card.node_id)
}

fn is_card(card: &v1::NodeCard) -> bool {
    let versions = |list: &[u32]| {
        !list.is_empty() && list.len() <= MAX_VERSIONS && validate::is_ascending(list)
    };
    card.node_id != 0
        && check_text(&card.name, MAX_NAME_LEN).is_ok()
        && PublicKey::from_bytes(&card.public_key).is_ok()
        && check_text(&card.peer_address, MAX_VALUE_LEN).is_ok()
        && check_text(&card.client_address, MAX_VALUE_LEN).is_ok()
        && versions(&card.engine_versions)
        && versions(&card.cluster_versions)
}

fn is_witness(policy: &TlogPolicy, card: &v1::NodeCard) -> bool {
    let Ok(public_key) = PublicKey::from_bytes(&card.public_key) else {
        return false;
    };
    let Ok(key) = VerifierKey::new(&card.name, KeyType::CosignatureV1, public_key) else {
        return false;
    };
    policy.witnesses().iter().any(|witness| witness.key == key)
}

fn log_key(policy: &TlogPolicy) -> Option<&VerifierKey> {
    match policy.logs() {
        [log] => Some(&log.key),
        _ => None,
    }
}

fn same_identity(record: &v1::NodeRecord, card: &v1::NodeCard) -> bool {
    record
        .card
        .as_ref()
        .is_some_and(|known| known.name == card.name && known.public_key == card.public_key)
}

/// A replica joins only if it can run what the others run.
fn require_can_run(context: &Context<'_, '_>, card: &v1::NodeCard) -> Result<(), Stop> {
    let runs = card
        .engine_versions
        .contains(&context.ledger.engine_version)
        && card
            .cluster_versions
            .contains(&context.ledger.cluster_version);
    let unused_key = match PublicKey::from_bytes(&card.public_key) {
        Ok(key) => !context.txn.contains(&Key::public_key(key.key_id()))?,
        Err(_) => false,
    };
    if !unused_key {
        return Err(v1::Result::KeyRefused.into());
    }
    if runs {
        Ok(())
    } else {
        Err(v1::Result::NotSupported.into())
    }
}

/// Writes a member's record and, if it is new, its key.
pub(super) fn put_node(
    txn: &mut Txn<'_>,
    card: &v1::NodeCard,
    leaf: u64,
) -> Result<(), StateError> {
    let key = Key::node(card.node_id);
    let public = PublicKey::from_bytes(&card.public_key)
        .map_err(|error| StateError::damaged(&key, error.to_string()))?;
    if !txn.contains(&Key::public_key(public.key_id()))? {
        let message = v1::PublicKey {
            algorithm: v1::KeyAlgorithm::Ed25519.into(),
            bytes: card.public_key.clone(),
            not_before_us: 0,
            not_after_us: 0,
        };
        keyring::put_key(txn, &Identity::Node(card.node_id), &public, message, leaf);
    }
    txn.write(
        key,
        &v1::NodeRecord {
            card: Some(card.clone()),
            member: true,
            leaf,
        },
    );
    Ok(())
}

pub(super) fn nodes(txn: &Txn<'_>) -> Result<BTreeMap<u64, v1::NodeRecord>, StateError> {
    let prefix = Key::family(Family::Node);
    let mut nodes = BTreeMap::new();
    for (rest, record) in txn.records(&prefix)? {
        let id = <[u8; 8]>::try_from(rest)
            .map_err(|_| StateError::damaged(&prefix, "a node id does not have 8 bytes"))?;
        nodes.insert(u64::from_be_bytes(id), record);
    }
    Ok(nodes)
}

pub(super) fn declare_support(
    context: &mut Context<'_, '_>,
    ask: &v1::DeclareSupport,
) -> Result<v1::Governance, Stop> {
    let Identity::Node(id) = context.command.author else {
        return Err(v1::Result::NotPermitted.into());
    };
    let mut record: v1::NodeRecord = context
        .txn
        .read(&Key::node(id))?
        .ok_or(v1::Result::NotFound)?;
    let mut card = record.card.ok_or(v1::Result::NotFound)?;
    card.engine_versions.clone_from(&ask.engine_versions);
    card.cluster_versions.clone_from(&ask.cluster_versions);
    validate::valid(is_card(&card))?;
    record.card = Some(card);
    record.leaf = context.leaf.0;
    context.txn.write(Key::node(id), &record);
    Ok(applied(""))
}

pub(super) fn activate_engine(
    context: &mut Context<'_, '_>,
    ask: &v1::ActivateEngine,
) -> Result<v1::Governance, Stop> {
    context.require(Duty::ManageVersions, WHOLE_LEDGER)?;
    validate::valid(ask.version > context.ledger.engine_version)?;
    require_all_run(context, |card| card.engine_versions.contains(&ask.version))?;
    let mut ledger = context.ledger.clone();
    ledger.engine_version = ask.version;
    context.txn.write(Key::ledger(), &ledger);
    Ok(applied(""))
}

pub(super) fn activate_cluster(
    context: &mut Context<'_, '_>,
    ask: &v1::ActivateCluster,
) -> Result<v1::Governance, Stop> {
    context.require(Duty::ManageVersions, WHOLE_LEDGER)?;
    validate::valid(ask.version > context.ledger.cluster_version)?;
    require_all_run(context, |card| card.cluster_versions.contains(&ask.version))?;
    let mut ledger = context.ledger.clone();
    ledger.cluster_version = ask.version;
    context.txn.write(Key::ledger(), &ledger);
    Ok(applied(""))
}

fn require_all_run(
    context: &Context<'_, '_>,
    runs: impl Fn(&v1::NodeCard) -> bool,
) -> Result<(), Stop> {
    let all = nodes(context.txn)?
        .values()
        .filter(|record| record.member)
        .all(|record| record.card.as_ref().is_some_and(&runs));
    if all {
        Ok(())
    } else {
        Err(v1::Result::NotSupported.into())
    }
}
