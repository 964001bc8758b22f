//! The full gRPC paths of the calls that a client makes.

use ledger_proto::v1::{self, command::Body};
use prost::Message as _;

use crate::error::Error;

macro_rules! paths {
    ($($name:ident $service:literal $method:literal;)+) => {
        $(
            #[doc = concat!("`", $service, ".", $method, "`")]
            pub const $name: &str = concat!("/countersign.v1.", $service, "/", $method);
        )+
        /// All of them.
        pub const ALL: &[&str] = &[$($name),+];
    };
}

paths! {
    AUTHORIZE "AuthorizationService" "Authorize";
    AUTHORIZE_BATCH "AuthorizationService" "AuthorizeBatch";
    REDEEM "AuthorizationService" "Redeem";
    RECORD "AuthorizationService" "Record";
    SIMULATE "AuthorizationService" "Simulate";
    CREATE_NAMESPACE "IdentityService" "CreateNamespace";
    UPDATE_NAMESPACE "IdentityService" "UpdateNamespace";
    LIST_NAMESPACES "IdentityService" "ListNamespaces";
    REGISTER_AGENT "IdentityService" "RegisterAgent";
    UPDATE_AGENT "IdentityService" "UpdateAgent";
    GET_AGENT "IdentityService" "GetAgent";
    LIST_AGENTS "IdentityService" "ListAgents";
    REGISTER_GATEWAY "IdentityService" "RegisterGateway";
    UPDATE_GATEWAY "IdentityService" "UpdateGateway";
    GET_GATEWAY "IdentityService" "GetGateway";
    LIST_GATEWAYS "IdentityService" "ListGateways";
    REGISTER_OPERATOR "IdentityService" "RegisterOperator";
    UPDATE_OPERATOR "IdentityService" "UpdateOperator";
    REPLACE_ADMINS "IdentityService" "ReplaceAdmins";
    GET_OPERATOR "IdentityService" "GetOperator";
    LIST_OPERATORS "IdentityService" "ListOperators";
    SET_STATUS "IdentityService" "SetStatus";
    ADD_KEY "IdentityService" "AddKey";
    RETIRE_KEY "IdentityService" "RetireKey";
    LIST_KEYS "IdentityService" "ListKeys";
    OPEN_SESSION "SessionService" "OpenSession";
    CLOSE_SESSION "SessionService" "CloseSession";
    GET_SESSION "SessionService" "GetSession";
    LIST_SESSIONS "SessionService" "ListSessions";
    PUBLISH_BUNDLE "PolicyService" "PublishBundle";
    ACTIVATE_BUNDLE "PolicyService" "ActivateBundle";
    GET_BUNDLE "PolicyService" "GetBundle";
    LIST_BUNDLES "PolicyService" "ListBundles";
    SET_HALT "PolicyService" "SetHalt";
    CLEAR_HALT "PolicyService" "ClearHalt";
    LIST_HALTS "PolicyService" "ListHalts";
    GET_ENTRY "LedgerService" "GetEntry";
    LIST_ENTRIES "LedgerService" "ListEntries";
    FOLLOW "LedgerService" "Follow";
    GET_CONSISTENCY_PROOF "LedgerService" "GetConsistencyProof";
    GET_CHECKPOINT "LedgerService" "GetCheckpoint";
    LIST_CHECKPOINTS "LedgerService" "ListCheckpoints";
    LIST_TRUST_STEPS "LedgerService" "ListTrustSteps";
    GET_EVIDENCE "LedgerService" "GetEvidence";
    ERASE "LedgerService" "Erase";
    GET_ERASURE "LedgerService" "GetErasure";
    UPDATE_MEMBERSHIP "ClusterService" "UpdateMembership";
    ACTIVATE_ENGINE "ClusterService" "ActivateEngine";
    ACTIVATE_CLUSTER "ClusterService" "ActivateCluster";
    ADJUST_TIME "ClusterService" "AdjustTime";
    GET_CLUSTER "ClusterService" "GetCluster";
    GET_NODE_STATUS "ClusterService" "GetNodeStatus";
    TRANSFER_LEADERSHIP "ClusterService" "TransferLeadership";
}

/// The call that takes a command with this body.
///
/// # Errors
/// [`Error::Invalid`] for Authorize, which has a call of its own, and for what only nodes may say.
pub(crate) fn of_command(command: &[u8]) -> Result<&'static str, Error> {
    let decoded =
        v1::Command::decode(command).map_err(|error| Error::Invalid(error.to_string()))?;
    let path = match decoded.body {
        Some(Body::Record(_)) => RECORD,
        Some(Body::Redeem(_)) => REDEEM,
        Some(Body::OpenSession(_)) => OPEN_SESSION,
        Some(Body::CloseSession(_)) => CLOSE_SESSION,
        Some(Body::RegisterAgent(_)) => REGISTER_AGENT,
        Some(Body::UpdateAgent(_)) => UPDATE_AGENT,
        Some(Body::RegisterGateway(_)) => REGISTER_GATEWAY,
        Some(Body::UpdateGateway(_)) => UPDATE_GATEWAY,
        Some(Body::SetStatus(_)) => SET_STATUS,
        Some(Body::AddKey(_)) => ADD_KEY,
        Some(Body::RetireKey(_)) => RETIRE_KEY,
        Some(Body::RegisterOperator(_)) => REGISTER_OPERATOR,
        Some(Body::UpdateOperator(_)) => UPDATE_OPERATOR,
        Some(Body::CreateNamespace(_)) => CREATE_NAMESPACE,
        Some(Body::UpdateNamespace(_)) => UPDATE_NAMESPACE,
        Some(Body::SetHalt(_)) => SET_HALT,
        Some(Body::ClearHalt(_)) => CLEAR_HALT,
        Some(Body::PublishBundle(_)) => PUBLISH_BUNDLE,
        Some(Body::ActivateBundle(_)) => ACTIVATE_BUNDLE,
        Some(Body::Erase(_)) => ERASE,
        Some(Body::UpdateMembership(_)) => UPDATE_MEMBERSHIP,
        Some(Body::ActivateEngine(_)) => ACTIVATE_ENGINE,
        Some(Body::ActivateCluster(_)) => ACTIVATE_CLUSTER,
        Some(Body::AdjustTime(_)) => ADJUST_TIME,
        Some(Body::ReplaceAdmins(_)) => REPLACE_ADMINS,
        Some(Body::Authorize(_)) => {
            return Err(Error::Invalid(
                "an Authorize is a question, and is asked".to_owned(),
            ));
        }
        Some(Body::Seal(_) | Body::DeclareSupport(_) | Body::AttestState(_)) | None => {
            return Err(Error::Invalid("only nodes say that".to_owned()));
        }
    };
    Ok(path)
}
