//! Cards of nodes as people pass them around.

use ledger_proto::v1;
use serde::{Deserialize, Serialize};

use crate::id::Identity;
use crate::keys::{PublicKey, possession_message};
use crate::machine::{CLUSTER_VERSION, ENGINE_VERSIONS};
use crate::note::vkey::{KeyType, VerifierKey};
use crate::signer::Signer;

/// The public face of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeFile {
    /// The node's id.
    pub node_id: u64,
    /// Its cosigner key in C2SP form: name, id, type and public key.
    pub vkey: String,
    /// Where other nodes reach it.
    pub peer_address: String,
    /// Where clients reach it.
    pub client_address: String,
    /// Engine versions it can run, ascending.
    pub engine_versions: Vec<u32>,
    /// Cluster versions it can run, ascending.
    pub cluster_versions: Vec<u32>,
    /// 64 bytes in hexadecimal: the key's signature over origin and node id.
    pub proof_of_possession: String,
}

impl NodeFile {
    /// The same card with the proof that its holder has the key.
    #[must_use]
    pub fn proven(mut self, origin: &str, signer: &dyn Signer) -> Self {
        let message = possession_message(origin, &Identity::Node(self.node_id));
        self.proof_of_possession = hex::encode(signer.sign(&message));
        self
    }

    /// The card of a node of this build, without its proof.
    ///
    /// # Errors
    /// What is wrong with the arguments.
    pub fn new(
        origin: &str,
        node_id: u64,
        key: &PublicKey,
        peer: &str,
        client: &str,
    ) -> Result<Self, String> {
        if node_id == 0 {
            return Err("node ids begin with 1".to_owned());
        }
        check_host_port(peer)?;
        check_host_port(client)?;
        let name = format!("{origin}/node-{node_id}");
        let vkey = VerifierKey::new(&name, KeyType::CosignatureV1, *key)
            .map_err(|error| format!("the origin `{origin}` cannot name keys: {error}"))?;
        Ok(Self {
            node_id,
            vkey: vkey.to_string(),
            peer_address: peer.to_owned(),
            client_address: client.to_owned(),
            engine_versions: ENGINE_VERSIONS.to_vec(),
            cluster_versions: vec![CLUSTER_VERSION],
            proof_of_possession: String::new(),
        })
    }

    /// The card as the ledger has it.
    ///
    /// # Errors
    /// What is wrong with the card.
    pub fn to_message(&self) -> Result<v1::NodeCard, String> {
        let key = self.key()?;
        Ok(v1::NodeCard {
            node_id: self.node_id,
            name: key.name().to_owned(),
            public_key: key.public_key().as_bytes().to_vec(),
            peer_address: self.peer_address.clone(),
            client_address: self.client_address.clone(),
            engine_versions: self.engine_versions.clone(),
            cluster_versions: self.cluster_versions.clone(),
            proof_of_possession: unhex(&self.proof_of_possession)?,
        })
    }

    /// The file of a card.
    ///
    /// # Errors
    /// The card's key or name is not valid.
    pub fn of_message(card: &v1::NodeCard) -> Result<Self, String> {
        let failed = |error: &dyn std::fmt::Display| format!("node {}: {error}", card.node_id);
        let key = PublicKey::from_bytes(&card.public_key).map_err(|error| failed(&error))?;
        let vkey = VerifierKey::new(&card.name, KeyType::CosignatureV1, key)
            .map_err(|error| failed(&error))?;
        Ok(Self {
            node_id: card.node_id,
            vkey: vkey.to_string(),
            peer_address: card.peer_address.clone(),
            client_address: card.client_address.clone(),
            engine_versions: card.engine_versions.clone(),
            cluster_versions: card.cluster_versions.clone(),
            proof_of_possession: hex::encode(&card.proof_of_possession),
        })
    }

    fn key(&self) -> Result<VerifierKey, String> {
        let key = VerifierKey::parse(&self.vkey)
            .map_err(|error| format!("the vkey of node {}: {error}", self.node_id))?;
        if key.key_type() == KeyType::CosignatureV1 {
            Ok(key)
        } else {
            let id = self.node_id;
            Err(format!(
                "the vkey of node {id} is not a cosigner's; run `ledger-node key new` again"
            ))
        }
    }
}

/// Checks that this is `host:port`, without looking the host up.
///
/// # Errors
/// What is wrong with it.
pub fn check_host_port(value: &str) -> Result<(), String> {
    let wrong = || format!("`{value}` is not HOST:PORT");
    let (host, port) = value.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let is_v6 = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
    let in_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_';
    let is_name = !host.is_empty() && host.chars().all(in_name);
    if port != 0 && (is_v6 || is_name) {
        Ok(())
    } else {
        Err(wrong())
    }
}

/// Bytes from hexadecimal digits.
///
/// # Errors
/// They are none.
pub fn unhex(text: &str) -> Result<Vec<u8>, String> {
    hex::decode(text).map_err(|error| format!("`{text}` is not hexadecimal: {error}"))
}
