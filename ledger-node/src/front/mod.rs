//! The public gRPC services.

pub mod authorization;
pub mod cluster;
mod entries;
mod evidence;
mod follow;
pub mod gate;
pub mod identity;
pub mod ledger;
pub mod listing;
pub mod paging;
pub mod policy;
pub mod proving;
pub mod read_auth;
pub mod rights;
mod sending;
pub mod session;
#[cfg(test)]
pub(crate) mod test_world;
pub(crate) mod transfer;
mod workers;

use ledger_core::limits::MAX_SUBMISSION_LEN;
use ledger_proto::v1;
use tonic::service::{Routes, RoutesBuilder};
use tonic_health::pb::health_server::{Health, HealthServer};

use crate::ledger::Ledger;

/// Longest message either way: 3 MiB, and 64 KiB for what frames the content that the limits count.
pub const MAX_MESSAGE_LEN: usize = 3 * 1024 * 1024 + 64 * 1024;

/// Longest message to a service that takes one submission at a time, or a question: the longest submission, and 64 KiB for what
/// frames it. The longest question holds a page token with a checkpoint of at most 512 KiB in base64, 683 KiB.
const MAX_SUBMIT_LEN: usize = MAX_SUBMISSION_LEN + 64 * 1024;
/// Longest message to the services of gRPC itself, which take names.
const MAX_NAME_LEN: usize = 4 * 1024;

/// The descriptors do not decode, which only a broken build causes.
pub type ReflectionError = tonic_reflection::server::Error;

/// Every public service on one ledger, with reflection and the health service of the node.
///
/// # Errors
/// [`ReflectionError`]
pub fn router<H: Health>(
    ledger: Ledger,
    health: HealthServer<H>,
) -> Result<Routes, ReflectionError> {
    let gate = gate::Gate::new(ledger);
    // Services are named one by one: the descriptors hold that of the replicas too, which has another port.
    let mut reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(ledger_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name(tonic_health::pb::health_server::SERVICE_NAME)
        .with_service_name(tonic_reflection::pb::v1::server_reflection_server::SERVICE_NAME);
    let mut routes = RoutesBuilder::default();
    routes.add_service(health.max_decoding_message_size(MAX_NAME_LEN));
    macro_rules! add {
        ($($module:ident $server:ident $service:expr, $longest:expr;)+) => {
            $(
            reflection = reflection.with_service_name(v1::$module::SERVICE_NAME);
            routes.add_service(
                v1::$module::$server::new($service)
                    .max_decoding_message_size($longest)
                    .max_encoding_message_size(MAX_MESSAGE_LEN),
            );
            )+
        };
    }
    add! {
        authorization_service_server AuthorizationServiceServer authorization::Authorization(gate.clone()), MAX_MESSAGE_LEN;
        identity_service_server IdentityServiceServer identity::Identities(gate.clone()), MAX_SUBMIT_LEN;
        session_service_server SessionServiceServer session::Sessions(gate.clone()), MAX_SUBMIT_LEN;
        policy_service_server PolicyServiceServer policy::Policy(gate.clone()), MAX_SUBMIT_LEN;
        ledger_service_server LedgerServiceServer ledger::Log(gate.clone()), MAX_SUBMIT_LEN;
        cluster_service_server ClusterServiceServer cluster::Cluster(gate), MAX_SUBMIT_LEN;
    }
    let reflection = reflection.build_v1()?;
    routes.add_service(reflection.max_decoding_message_size(MAX_NAME_LEN));
    Ok(routes.routes())
}
