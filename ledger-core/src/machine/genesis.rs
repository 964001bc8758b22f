//! Leaf 0: the ledger's name, its tree hash, its first operators and replicas, and how they are trusted.

use ledger_proto::v1::{self, IdentityStatus, Role, entry::Body};
use prost::Message;
use thiserror::Error;

use super::authority::{WHOLE_LEDGER, has_role};
use super::membership::{check_nodes, put_node, unproven_node};
use super::operator::check as check_operator;
use super::{Appended, CLUSTER_VERSION, ENGINE_VERSION, keyring};
use crate::hash::{Hash, TreeHash};
use crate::id::{Identity, check_text};
use crate::keys::{PublicKey, possession_message};
use crate::ledger::Head;
use crate::limits::{MAX_ENTRY_LEN, MAX_NAME_LEN, MAX_SIGNATURES, MAX_TIME_US};
use crate::state::{Key, StateError, Txn};

/// What precedes the canonical bytes of the genesis in its digest.
const GENESIS_DOMAIN: &[u8] = b"countersign-genesis-v1\0";

/// Why a ledger cannot begin like this.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GenesisError {
    /// The state holds a ledger already.
    #[error("this state already holds a ledger; start it instead")]
    Exists,
    /// The origin is not a schema-less URL, or does not fit the tree hash.
    #[error(
        "the origin must be a schema-less URL of printable characters, ending in `/blake3` iff the tree hash is blake3"
    )]
    Origin,
    /// A version this build cannot run.
    #[error(
        "this build runs engine version {ENGINE_VERSION} and cluster version {CLUSTER_VERSION}"
    )]
    Version,
    /// The time is missing or out of range.
    #[error("the genesis needs the time at which it was made")]
    Time,
    /// Nodes and trust policy do not fit together.
    #[error(
        "the trust policy must be canonical, name this ledger's one log key, have every node as a witness, and ask for more than half of the nodes"
    )]
    Membership,
    /// A node's card does not prove that the node holds its key.
    #[error(
        "the card of node {0} does not prove that the node holds its key; have the node print it again, for this origin"
    )]
    NodeKey(u64),
    /// An operator is not valid, or a key is not proven to be held.
    #[error("operator `{0}` is not valid: check id, roles, keys and their proofs of possession")]
    Operator(String),
    /// Too few admins, or a threshold that cannot be met.
    #[error(
        "the admin threshold must be 1 to {MAX_SIGNATURES}, and at least that many operators must be admins of `*` with a key that is valid now"
    )]
    Admins,
    /// The recovery key is weak, malformed, used twice, or not proven to be held.
    #[error("the recovery key is not acceptable, is used twice, or is not proven to be held")]
    RecoveryKey,
    /// Longer than an entry can be.
    #[error(
        "the genesis is longer than {MAX_ENTRY_LEN} bytes; register further operators once the ledger runs"
    )]
    TooLong,
    /// The state cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
}

/// `BLAKE3("countersign-genesis-v1\0" || canonical bytes)`: the ledger's identity among peers.
#[must_use]
pub fn genesis_digest(genesis: &v1::Genesis) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(GENESIS_DOMAIN)
        .update(&genesis.encode_to_vec());
    Hash::from_bytes(*hasher.finalize().as_bytes())
}

/// Begins a ledger: writes leaf 0 and everything it says into an empty state.
///
/// # Errors
/// [`GenesisError`]; nothing is to be committed then.
pub fn genesis(txn: &mut Txn<'_>, genesis: &v1::Genesis) -> Result<Appended, GenesisError> {
    if txn.contains(&Key::ledger())? {
        return Err(GenesisError::Exists);
    }
    let tree_hash = check(genesis)?;
    for operator in &genesis.operators {
        put_operator(txn, &genesis.origin, operator)?;
    }
    let mut admins = 0;
    for operator in genesis
        .operators
        .iter()
        .filter(|operator| is_admin(operator))
    {
        let identity = Identity::Operator(operator.id.clone());
        admins += usize::from(keyring::has_active_key(
            txn,
            &identity,
            genesis.created_at_us,
        )?);
    }
    let threshold = usize::try_from(genesis.admin_threshold).unwrap_or(usize::MAX);
    if !(1..=MAX_SIGNATURES).contains(&threshold) || admins < threshold {
        return Err(GenesisError::Admins);
    }
    for card in &genesis.nodes {
        put_new_node(txn, card)?;
    }
    if let Some(recovery) = &genesis.recovery_key {
        put_first_key(txn, &genesis.origin, &Identity::Recovery, recovery)?
            .ok_or(GenesisError::RecoveryKey)?;
    }
    let record = v1::LedgerRecord {
        origin: genesis.origin.clone(),
        tree_hash: tree_hash.name().to_owned(),
        genesis_digest: genesis_digest(genesis).as_bytes().to_vec(),
        admin_threshold: genesis.admin_threshold,
        engine_version: genesis.engine_version,
        cluster_version: genesis.cluster_version,
        trust_epoch: 0,
        time_offset_us: 0,
        adjusted_at_us: 0,
    };
    txn.write(Key::ledger(), &record);
    txn.write(
        Key::trust(0),
        &v1::TrustRecord {
            leaf: 0,
            trust_policy: genesis.trust_policy.clone(),
        },
    );
    append(txn, tree_hash, genesis)
}

fn check(genesis: &v1::Genesis) -> Result<TreeHash, GenesisError> {
    let tree_hash = TreeHash::parse(&genesis.tree_hash).map_err(|_| GenesisError::Origin)?;
    let origin_valid = check_text(&genesis.origin, MAX_NAME_LEN).is_ok()
        && !genesis.origin.contains("://")
        && !genesis.origin.contains('+')
        && !genesis.origin.contains(char::is_whitespace);
    if !origin_valid || TreeHash::of_origin(&genesis.origin) != tree_hash {
        return Err(GenesisError::Origin);
    }
    if genesis.engine_version != ENGINE_VERSION || genesis.cluster_version != CLUSTER_VERSION {
        return Err(GenesisError::Version);
    }
    if genesis.created_at_us == 0 || genesis.created_at_us >= MAX_TIME_US {
        return Err(GenesisError::Time);
    }
    check_nodes(&genesis.origin, &genesis.nodes, &genesis.trust_policy)
        .ok_or(GenesisError::Membership)?;
    match unproven_node(&genesis.origin, &genesis.nodes) {
        Some(node) => Err(GenesisError::NodeKey(node)),
        None => Ok(tree_hash),
    }
}

fn put_operator(
    txn: &mut Txn<'_>,
    origin: &str,
    operator: &v1::RegisterOperator,
) -> Result<(), GenesisError> {
    let invalid = || GenesisError::Operator(operator.id.clone());
    check_operator(operator).map_err(|_| invalid())?;
    if txn.contains(&Key::operator(&operator.id))? {
        return Err(invalid());
    }
    let identity = Identity::Operator(operator.id.clone());
    for enrolment in &operator.keys {
        put_first_key(txn, origin, &identity, enrolment)?.ok_or_else(invalid)?;
    }
    let record = v1::OperatorRecord {
        name: operator.name.clone(),
        groups: operator.groups.clone(),
        roles: operator.roles.clone(),
        status: IdentityStatus::Active.into(),
        leaf: 0,
    };
    txn.write(Key::operator(&operator.id), &record);
    Ok(())
}

/// Enrols a key in leaf 0; none if it is not acceptable, not proven to be held, or in use.
fn put_first_key(
    txn: &mut Txn<'_>,
    origin: &str,
    identity: &Identity,
    enrolment: &v1::KeyEnrolment,
) -> Result<Option<()>, StateError> {
    let Some(message) = &enrolment.key else {
        return Ok(None);
    };
    let Ok(key) = PublicKey::parse(message) else {
        return Ok(None);
    };
    let proven = key.verify(
        &possession_message(origin, identity),
        &enrolment.proof_of_possession,
    );
    if !proven
        || !keyring::is_validity(message, false)
        || txn.contains(&Key::public_key(key.key_id()))?
    {
        return Ok(None);
    }
    keyring::put_key(txn, identity, &key, message.clone(), 0);
    Ok(Some(()))
}

fn is_admin(operator: &v1::RegisterOperator) -> bool {
    let record = v1::OperatorRecord {
        roles: operator.roles.clone(),
        ..v1::OperatorRecord::default()
    };
    has_role(&record, Role::Admin, WHOLE_LEDGER)
}

fn put_new_node(txn: &mut Txn<'_>, card: &v1::NodeCard) -> Result<(), GenesisError> {
    let runs = card.engine_versions.contains(&ENGINE_VERSION)
        && card.cluster_versions.contains(&CLUSTER_VERSION);
    let key = PublicKey::from_bytes(&card.public_key).map_err(|_| GenesisError::Membership)?;
    if !runs || txn.contains(&Key::public_key(key.key_id()))? {
        return Err(GenesisError::Membership);
    }
    Ok(put_node(txn, card, 0)?)
}

fn append(
    txn: &mut Txn<'_>,
    tree_hash: TreeHash,
    genesis: &v1::Genesis,
) -> Result<Appended, GenesisError> {
    let mut head = Head::empty(tree_hash);
    let index = head.size().next_index();
    let entry = v1::Entry {
        index: index.0,
        time_us: genesis.created_at_us,
        engine_version: genesis.engine_version,
        signed: None,
        stored: Vec::new(),
        body: Some(Body::Genesis(genesis.clone())),
    };
    if entry.encoded_len() > MAX_ENTRY_LEN {
        return Err(GenesisError::TooLong);
    }
    let (bytes, leaf_hash) = head.append(txn, &entry)?;
    Ok(Appended {
        index,
        entry,
        bytes,
        leaf_hash,
    })
}
