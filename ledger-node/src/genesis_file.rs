//! What people pass around before there is a ledger: cards of nodes and admins, and the genesis made of them.
//!
//! All are TOML, public, and meant to be read before they are used. A genesis file says the same as the genesis message, no
//! more and no less, and states its digest, so that an edited file is not taken for the one that others have.

use ledger_core::card::{NodeFile, unhex};
use ledger_core::hash::Hash;
use ledger_core::id::Identity;
use ledger_core::keys::{PublicKey, possession_message};
use ledger_core::machine::{self, CLUSTER_VERSION, ENGINE_VERSION};
use ledger_core::quorum::Quorum;
use ledger_core::signer::Signer;
use ledger_core::state::{MemoryState, Txn};
use ledger_proto::v1;
use serde::{Deserialize, Serialize};

/// Longest card or genesis file in bytes. A genesis fits into an entry of 60,000; hex and names double that.
pub const MAX_FILE_LEN: usize = 256 * 1024;

/// What an admin of the genesis may do: everything but to approve requests.
const ADMIN_ROLES: [&str; 5] = ["admin", "policy", "responder", "auditor", "privacy"];

/// A key and the proof that its holder has it, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolmentFile {
    /// 32 bytes.
    pub public_key: String,
    /// Microseconds since 1970.
    #[serde(default)]
    pub not_before_us: u64,
    /// Microseconds since 1970; 0 for no end.
    #[serde(default)]
    pub not_after_us: u64,
    /// 64 bytes.
    pub proof_of_possession: String,
}

/// An operator before there is a ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorFile {
    /// The operator's id.
    pub id: String,
    /// A name for people.
    #[serde(default)]
    pub name: String,
    /// Approver groups, ascending.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Roles as `role:namespace`, or `role:*`. In the card of an admin they say nothing: the genesis gives the roles.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Keys.
    pub keys: Vec<EnrolmentFile>,
}

impl EnrolmentFile {
    /// A key without an end, with the proof that its holder has it.
    #[must_use]
    pub fn new(origin: &str, identity: &Identity, signer: &dyn Signer) -> Self {
        Self {
            public_key: hex::encode(signer.public_key()),
            not_before_us: 0,
            not_after_us: 0,
            proof_of_possession: hex::encode(signer.sign(&possession_message(origin, identity))),
        }
    }

    fn to_message(&self) -> Result<v1::KeyEnrolment, String> {
        let bytes = unhex(&self.public_key)?;
        let key = public_key_message(bytes, self.not_before_us, self.not_after_us);
        Ok(v1::KeyEnrolment {
            key: Some(key),
            proof_of_possession: unhex(&self.proof_of_possession)?,
        })
    }

    fn of_message(enrolment: &v1::KeyEnrolment) -> Self {
        let key = enrolment.key.clone().unwrap_or_default();
        Self {
            public_key: hex::encode(&key.bytes),
            not_before_us: key.not_before_us,
            not_after_us: key.not_after_us,
            proof_of_possession: hex::encode(&enrolment.proof_of_possession),
        }
    }
}

impl OperatorFile {
    /// The card of an operator with one key.
    #[must_use]
    pub fn new(origin: &str, id: &str, name: &str, signer: &dyn Signer) -> Self {
        let identity = Identity::Operator(id.to_owned());
        Self {
            id: id.to_owned(),
            name: name.to_owned(),
            groups: Vec::new(),
            roles: Vec::new(),
            keys: vec![EnrolmentFile::new(origin, &identity, signer)],
        }
    }

    fn to_message(&self) -> Result<v1::RegisterOperator, String> {
        let roles = self.roles.iter().map(|role| parse_role(role));
        let keys = self.keys.iter().map(EnrolmentFile::to_message);
        Ok(v1::RegisterOperator {
            id: self.id.clone(),
            name: self.name.clone(),
            groups: self.groups.clone(),
            roles: roles.collect::<Result<_, String>>()?,
            keys: keys.collect::<Result<_, String>>()?,
        })
    }

    fn of_message(operator: &v1::RegisterOperator) -> Self {
        let keys = operator.keys.iter().map(EnrolmentFile::of_message);
        Self {
            id: operator.id.clone(),
            name: operator.name.clone(),
            groups: operator.groups.clone(),
            roles: operator.roles.iter().map(role_text).collect(),
            keys: keys.collect(),
        }
    }
}

/// A genesis as a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GenesisFile {
    digest: String,
    origin: String,
    tree_hash: String,
    created_at_us: u64,
    admin_threshold: u32,
    engine_version: u32,
    cluster_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recovery_key: Option<EnrolmentFile>,
    trust_policy: String,
    #[serde(rename = "node")]
    nodes: Vec<NodeFile>,
    #[serde(rename = "operator")]
    operators: Vec<OperatorFile>,
}

/// What a genesis is made of.
#[derive(Debug)]
pub struct Ingredients {
    /// The ledger's name.
    pub origin: String,
    /// `sha256` or `blake3`.
    pub tree_hash: String,
    /// Now.
    pub created_at_us: u64,
    /// The nodes' cards.
    pub nodes: Vec<NodeFile>,
    /// The admins' cards.
    pub admins: Vec<OperatorFile>,
    /// How many admins must sign what admins do.
    pub admin_threshold: u32,
    /// The recovery key.
    pub recovery: Option<EnrolmentFile>,
    /// The log's public key.
    pub log: PublicKey,
    /// Whose cosignatures make a checkpoint believable.
    pub quorum: Quorum,
}

/// Makes a genesis, and tries it.
///
/// # Errors
/// What is wrong with its parts.
pub fn make(mut from: Ingredients) -> Result<v1::Genesis, String> {
    from.nodes.sort_by_key(|node| node.node_id);
    let nodes: Vec<v1::NodeCard> = from
        .nodes
        .iter()
        .map(NodeFile::to_message)
        .collect::<Result<_, _>>()?;
    for card in &nodes {
        let expected = format!("{}/node-{}", from.origin, card.node_id);
        if card.name != expected {
            return Err(format!(
                "the card of node {} is of `{}`, not of `{expected}`; make its key with --origin {}",
                card.node_id, card.name, from.origin
            ));
        }
    }
    for admin in &mut from.admins {
        admin.roles = ADMIN_ROLES.map(|role| format!("{role}:*")).to_vec();
    }
    let operators = from.admins.iter().map(OperatorFile::to_message);
    let genesis = v1::Genesis {
        trust_policy: from.quorum.policy(&from.origin, &from.log, &from.nodes)?,
        origin: from.origin,
        tree_hash: from.tree_hash,
        created_at_us: from.created_at_us,
        operators: operators.collect::<Result<_, _>>()?,
        admin_threshold: from.admin_threshold,
        recovery_key: from
            .recovery
            .as_ref()
            .map(EnrolmentFile::to_message)
            .transpose()?,
        nodes,
        engine_version: ENGINE_VERSION,
        cluster_version: CLUSTER_VERSION,
    };
    try_out(&genesis)?;
    Ok(genesis)
}

/// Says whether a ledger can begin like this.
fn try_out(genesis: &v1::Genesis) -> Result<(), String> {
    let state = MemoryState::new();
    machine::genesis(&mut Txn::new(&state), genesis)
        .map(drop)
        .map_err(|error| error.to_string())
}

/// The file of a genesis.
///
/// # Errors
/// The genesis is not valid.
pub fn to_toml(genesis: &v1::Genesis) -> Result<String, String> {
    let nodes = genesis.nodes.iter().map(NodeFile::of_message);
    let operators = genesis.operators.iter().map(OperatorFile::of_message);
    let file = GenesisFile {
        digest: machine::genesis_digest(genesis).to_string(),
        origin: genesis.origin.clone(),
        tree_hash: genesis.tree_hash.clone(),
        created_at_us: genesis.created_at_us,
        admin_threshold: genesis.admin_threshold,
        engine_version: genesis.engine_version,
        cluster_version: genesis.cluster_version,
        recovery_key: genesis.recovery_key.as_ref().map(EnrolmentFile::of_message),
        trust_policy: genesis.trust_policy.clone(),
        nodes: nodes.collect::<Result<_, _>>()?,
        operators: operators.collect(),
    };
    let text = toml::to_string(&file).map_err(|error| error.to_string())?;
    let same = from_toml(&text)? == *genesis;
    if same {
        Ok(text)
    } else {
        Err("this genesis says more than its file can".to_owned())
    }
}

/// Reads a genesis file, and tries the genesis.
///
/// # Errors
/// What is wrong with it.
pub fn from_toml(text: &str) -> Result<v1::Genesis, String> {
    let file: GenesisFile = toml::from_str(text).map_err(|error| one_line(&error))?;
    let nodes = file.nodes.iter().map(NodeFile::to_message);
    let operators = file.operators.iter().map(OperatorFile::to_message);
    let genesis = v1::Genesis {
        origin: file.origin,
        tree_hash: file.tree_hash,
        created_at_us: file.created_at_us,
        operators: operators.collect::<Result<_, _>>()?,
        admin_threshold: file.admin_threshold,
        recovery_key: file
            .recovery_key
            .as_ref()
            .map(EnrolmentFile::to_message)
            .transpose()?,
        nodes: nodes.collect::<Result<_, _>>()?,
        trust_policy: file.trust_policy,
        engine_version: file.engine_version,
        cluster_version: file.cluster_version,
    };
    let digest: Hash = machine::genesis_digest(&genesis);
    if digest.to_string() != file.digest {
        return Err(format!(
            "the file says that its digest is {}, and it is {digest}; get the file again from whoever made it",
            file.digest
        ));
    }
    try_out(&genesis)?;
    Ok(genesis)
}

/// Reads a card.
///
/// # Errors
/// What is wrong with it.
pub fn read_card<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, String> {
    toml::from_str(text).map_err(|error| one_line(&error))
}

/// Writes a card.
///
/// # Errors
/// A card of this kind cannot be written, which no card causes.
pub fn write_card<T: Serialize>(card: &T) -> Result<String, String> {
    toml::to_string(card).map_err(|error| error.to_string())
}

fn one_line(error: &toml::de::Error) -> String {
    error
        .message()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

fn public_key_message(bytes: Vec<u8>, not_before_us: u64, not_after_us: u64) -> v1::PublicKey {
    v1::PublicKey {
        algorithm: v1::KeyAlgorithm::Ed25519.into(),
        bytes,
        not_before_us,
        not_after_us,
    }
}

fn parse_role(text: &str) -> Result<v1::RoleGrant, String> {
    let wrong = || format!("`{text}` is not ROLE:NAMESPACE, such as `admin:*`");
    let (role, namespace) = text.split_once(':').ok_or_else(wrong)?;
    let name = format!("ROLE_{}", role.to_uppercase());
    let role = v1::Role::from_str_name(&name).ok_or_else(wrong)?;
    Ok(v1::RoleGrant {
        role: role.into(),
        namespace: namespace.to_owned(),
    })
}

fn role_text(grant: &v1::RoleGrant) -> String {
    let name = grant.role().as_str_name();
    let role = name.strip_prefix("ROLE_").unwrap_or(name).to_lowercase();
    format!("{role}:{}", grant.namespace)
}

#[cfg(test)]
pub(crate) mod tests {
    use ed25519_dalek::SigningKey;
    use prost::Message as _;

    use super::*;

    pub(crate) fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn public(seed: u8) -> PublicKey {
        PublicKey::from_bytes(&key(seed).public_key()).unwrap()
    }

    fn ingredients(origin: &str, tree_hash: &str) -> Ingredients {
        let card = |id: u64, seed| {
            NodeFile::new(origin, id, &public(seed), "127.0.0.1:1", "[::1]:2")
                .unwrap()
                .proven(origin, &key(seed))
        };
        Ingredients {
            origin: origin.to_owned(),
            tree_hash: tree_hash.to_owned(),
            created_at_us: 1_795_392_000_000_000,
            nodes: vec![card(3, 3), card(1, 1), card(2, 2)],
            admins: vec![OperatorFile::new(origin, "root", "Root \"r\"", &key(9))],
            admin_threshold: 1,
            recovery: Some(EnrolmentFile::new(origin, &Identity::Recovery, &key(8))),
            log: public(7),
            quorum: Quorum::default(),
        }
    }

    /// A genesis of three nodes, whose keys have the seeds 1, 2 and 3; the log's has 7.
    pub(crate) fn genesis() -> v1::Genesis {
        make(ingredients("ledger.test/prod", "sha256")).unwrap()
    }

    #[test]
    fn the_file_says_the_same_as_the_message() {
        for (origin, tree_hash) in [
            ("ledger.test/p", "sha256"),
            ("ledger.test/blake3", "blake3"),
        ] {
            let genesis = make(ingredients(origin, tree_hash)).unwrap();
            let text = to_toml(&genesis).unwrap();
            let read = from_toml(&text).unwrap();
            assert_eq!(read.encode_to_vec(), genesis.encode_to_vec());
            assert!(text.contains(&machine::genesis_digest(&genesis).to_string()));
        }
    }

    #[test]
    fn an_edited_file_is_refused() {
        let text = to_toml(&genesis()).unwrap();
        for (from, to) in [
            ("127.0.0.1:1", "127.0.0.1:9"),
            ("admin_threshold = 1", "admin_threshold = 2"),
            ("Root", "Toor"),
            ("group nodes 2", "group nodes any"),
        ] {
            let edited = text.replacen(from, to, 1);
            assert_ne!(edited, text, "{from}");
            let error = from_toml(&edited).unwrap_err();
            assert!(error.contains("digest"), "{from}: {error}");
        }
        let error = from_toml(&format!("nodes = 1\n{text}")).unwrap_err();
        assert!(error.contains("nodes"), "{error}");
    }

    #[test]
    fn a_genesis_that_cannot_be_is_refused() {
        let mut wrong_hash = ingredients("ledger.test/p", "blake3");
        assert!(make(wrong_hash).unwrap_err().contains("origin"));
        wrong_hash = ingredients("ledger.test/p", "sha256");
        wrong_hash.admins[0].keys[0].proof_of_possession = "00".repeat(64);
        assert!(make(wrong_hash).unwrap_err().contains("root"));
        let mut twice = ingredients("ledger.test/p", "sha256");
        twice.nodes[0] = twice.nodes[1].clone();
        make(twice).unwrap_err();
        let mut other = ingredients("ledger.test/p", "sha256");
        other.nodes = ingredients("ledger.test/q", "sha256").nodes;
        assert!(make(other).unwrap_err().contains("--origin ledger.test/p"));
    }

    #[test]
    fn cards_round_trip_and_refuse_unknown_keys() {
        let parts = ingredients("ledger.test/p", "sha256");
        let text = write_card(&parts.nodes[0]).unwrap();
        assert_eq!(read_card::<NodeFile>(&text).unwrap(), parts.nodes[0]);
        let message = parts.nodes[0].to_message().unwrap();
        assert_eq!(NodeFile::of_message(&message).unwrap(), parts.nodes[0]);
        let text = write_card(&parts.admins[0]).unwrap();
        assert_eq!(read_card::<OperatorFile>(&text).unwrap(), parts.admins[0]);
        assert!(
            read_card::<OperatorFile>(&format!("x = 1\n{text}"))
                .unwrap_err()
                .contains('x')
        );
        for bad in ["", "host", "host:", ":1", "host:0", "h st:1", "host:99999"] {
            NodeFile::new("o", 1, &public(1), bad, "h:1").unwrap_err();
        }
    }
}
