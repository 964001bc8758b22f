//! Who is there from the beginning: the genesis, its operators, nodes and trust policy.

use ledger_core::hash::TreeHash;
use ledger_core::id::Identity;
use ledger_core::keys::possession_message;
use ledger_core::machine;
use ledger_core::note::vkey::{KeyType, VerifierKey};
use ledger_core::signer::Signer;
use ledger_proto::v1;

use super::{GENESIS_US, ORIGIN, ORIGIN_BLAKE3, enrolment, key, public_key};

/// The message of an operator with one key.
#[must_use]
pub fn operator_message(
    origin: &str,
    id: &str,
    roles: &[(v1::Role, &str)],
) -> v1::RegisterOperator {
    let identity = Identity::Operator(id.to_owned());
    v1::RegisterOperator {
        id: id.to_owned(),
        name: format!("Operator {id}"),
        groups: Vec::new(),
        roles: roles
            .iter()
            .map(|(role, namespace)| v1::RoleGrant {
                role: (*role).into(),
                namespace: (*namespace).to_owned(),
            })
            .collect(),
        keys: vec![enrolment(origin, &identity, &key(&identity.to_string()), 0)],
    }
}

/// The genesis of test ledgers: "root" is admin, policy, responder, auditor and privacy of everything.
#[must_use]
pub fn genesis_message(tree_hash: TreeHash) -> v1::Genesis {
    let origin = match tree_hash {
        TreeHash::Sha256 => ORIGIN,
        TreeHash::Blake3 => ORIGIN_BLAKE3,
    };
    let roles = [
        v1::Role::Admin,
        v1::Role::Policy,
        v1::Role::Responder,
        v1::Role::Auditor,
        v1::Role::Privacy,
    ];
    v1::Genesis {
        origin: origin.to_owned(),
        tree_hash: tree_hash.name().to_owned(),
        created_at_us: GENESIS_US,
        operators: vec![operator_message(
            origin,
            "root",
            &roles.map(|role| (role, "*")),
        )],
        admin_threshold: 1,
        recovery_key: Some(enrolment(
            origin,
            &Identity::Recovery,
            &key(&Identity::Recovery.to_string()),
            0,
        )),
        nodes: [1, 2, 3].map(|node| node_card(origin, node)).to_vec(),
        trust_policy: trust_policy(origin, &[1, 2, 3]),
        engine_version: machine::ENGINE_VERSION,
        cluster_version: machine::CLUSTER_VERSION,
    }
}

/// The cosigner name of a node.
#[must_use]
pub fn node_name(origin: &str, node: u64) -> String {
    format!("{origin}/node-{node}")
}

/// The card of a node.
#[must_use]
pub fn node_card(origin: &str, node: u64) -> v1::NodeCard {
    let identity = Identity::Node(node);
    let key = key(&identity.to_string());
    v1::NodeCard {
        node_id: node,
        name: node_name(origin, node),
        public_key: key.public_key().to_vec(),
        proof_of_possession: key.sign(&possession_message(origin, &identity)).to_vec(),
        peer_address: format!("127.0.0.1:{}", 7000 + node),
        client_address: format!("127.0.0.1:{}", 8000 + node),
        engine_versions: vec![machine::ENGINE_VERSION],
        cluster_versions: vec![machine::CLUSTER_VERSION],
    }
}

/// A trust policy in canonical form: the log, these nodes, and a majority of them.
///
/// # Panics
/// If a name is not a key name.
#[must_use]
pub fn trust_policy(origin: &str, nodes: &[u64]) -> String {
    let log =
        VerifierKey::new(origin, KeyType::Ed25519, public_key(&key("log"))).expect("a log key");
    let mut text = format!("log {log}\n");
    for node in nodes {
        let public = public_key(&key(&Identity::Node(*node).to_string()));
        let cosigner = VerifierKey::new(&node_name(origin, *node), KeyType::CosignatureV1, public)
            .expect("a node key");
        text.push_str(&format!("witness node-{node} {cosigner}\n"));
    }
    let names: Vec<String> = nodes.iter().map(|node| format!("node-{node}")).collect();
    text.push_str(&format!(
        "group nodes {} {}\nquorum nodes\n",
        nodes.len() / 2 + 1,
        names.join(" ")
    ));
    let policy =
        ledger_core::note::tlog_policy::TlogPolicy::parse(text.as_bytes()).expect("a policy");
    policy.to_string()
}
