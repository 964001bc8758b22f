//! What a command asked for, in two words: its name and what it is about.

use ledger_core::id::Identity;
use ledger_proto::v1::{self, command::Body};
use serde_json::{Value, json};

/// The name of a command, as its rpc has it, and what it names: an identity, a session, a bundle, the entry of a decision.
pub(super) fn asked(body: &Body) -> (&'static str, Value) {
    match body {
        Body::Authorize(ask) => ("Authorize", json!(ask.agent)),
        Body::Record(ask) => ("Record", json!(format!("entry {}", ask.decision_index))),
        Body::Redeem(ask) => ("Redeem", json!(format!("entry {}", ask.decision_index))),
        Body::OpenSession(ask) => ("OpenSession", json!(ask.agent)),
        Body::CloseSession(ask) => ("CloseSession", json!(hex::encode(&ask.session_id))),
        Body::Seal(ask) => ("Seal", json!(hex::encode(&ask.session_id))),
        Body::RegisterAgent(ask) => ("RegisterAgent", json!(format!("agent:{}", ask.id))),
        Body::UpdateAgent(ask) => ("UpdateAgent", json!(format!("agent:{}", ask.id))),
        Body::RegisterGateway(ask) => ("RegisterGateway", json!(format!("gateway:{}", ask.id))),
        Body::UpdateGateway(ask) => ("UpdateGateway", json!(format!("gateway:{}", ask.id))),
        Body::SetStatus(ask) => (status(ask), identity(ask.identity.as_ref())),
        Body::AddKey(ask) => ("AddKey", identity(ask.identity.as_ref())),
        Body::RetireKey(ask) => ("RetireKey", json!(hex::encode(&ask.key_id))),
        Body::RegisterOperator(ask) => ("RegisterOperator", json!(format!("operator:{}", ask.id))),
        Body::UpdateOperator(ask) => ("UpdateOperator", json!(format!("operator:{}", ask.id))),
        Body::CreateNamespace(ask) => ("CreateNamespace", json!(ask.name)),
        Body::UpdateNamespace(ask) => ("UpdateNamespace", json!(ask.name)),
        Body::SetHalt(ask) => ("SetHalt", json!(ask.id)),
        Body::ClearHalt(ask) => ("ClearHalt", json!(ask.id)),
        Body::PublishBundle(ask) => ("PublishBundle", bundle(&ask.namespace, &ask.digest)),
        Body::ActivateBundle(ask) => ("ActivateBundle", bundle(&ask.namespace, &ask.digest)),
        Body::Erase(ask) => {
            let mut leaves: Vec<u64> = ask.compartments.iter().map(|one| one.index).collect();
            leaves.dedup();
            ("Erase", json!(format!("entries {leaves:?}")))
        }
        Body::UpdateMembership(ask) => {
            let nodes: Vec<u64> = ask.nodes.iter().map(|card| card.node_id).collect();
            ("UpdateMembership", json!(format!("nodes {nodes:?}")))
        }
        Body::ActivateEngine(ask) => ("ActivateEngine", json!(ask.version.to_string())),
        Body::ActivateCluster(ask) => ("ActivateCluster", json!(ask.version.to_string())),
        Body::DeclareSupport(_) => ("DeclareSupport", Value::Null),
        Body::AttestState(ask) => ("AttestState", json!(format!("size {}", ask.tree_size))),
        Body::AdjustTime(ask) => ("AdjustTime", json!(format!("size {}", ask.tree_size))),
        Body::ReplaceAdmins(_) => ("ReplaceAdmins", Value::Null),
    }
}

/// People suspend, resume and revoke.
fn status(ask: &v1::SetStatus) -> &'static str {
    match ask.status() {
        v1::IdentityStatus::Active => "Resume",
        v1::IdentityStatus::Suspended => "Suspend",
        v1::IdentityStatus::Revoked => "Revoke",
        v1::IdentityStatus::Unspecified => "SetStatus",
    }
}

fn identity(identity: Option<&v1::Identity>) -> Value {
    let identity = identity.and_then(|identity| Identity::parse(identity).ok());
    json!(identity.map(|identity| identity.to_text()))
}

/// The beginning of a digest is enough to tell bundles apart.
fn bundle(namespace: &str, digest: &[u8]) -> Value {
    let digest = hex::encode(digest);
    json!(format!(
        "{namespace} {}",
        digest.get(..8).unwrap_or_default()
    ))
}
