//! `ledger-node health`: the standard gRPC health check, for scripts and service managers.

use std::time::Duration;

use clap::Args;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::{Exit, Failure};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The node, such as `http://127.0.0.1:7401`.
    #[arg(long, value_name = "URL")]
    endpoint: String,
    /// Ask about one service, such as `countersign.v1.AuthorizationService`, instead of the node.
    #[arg(long, default_value = "")]
    service: String,
    /// How long to wait for the answer, in milliseconds.
    #[arg(long, default_value_t = 1_000)]
    timeout_ms: u64,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Fatal, error.to_string()))?;
    runtime.block_on(check(arguments))
}

async fn check(arguments: &Arguments) -> Result<Exit, Failure> {
    let url = if arguments.endpoint.contains("://") {
        arguments.endpoint.clone()
    } else {
        format!("http://{}", arguments.endpoint)
    };
    let timeout = Duration::from_millis(arguments.timeout_ms);
    let unavailable = |what: &str| Failure::new(Exit::Unavailable, format!("{url}: {what}"));
    let channel = Endpoint::from_shared(url.clone())
        .map_err(|error| Failure::configuration(format!("`{url}` is not a URL: {error}")))?
        .connect_timeout(timeout)
        .timeout(timeout)
        .connect()
        .await
        .map_err(|_| unavailable("nobody answers"))?;
    let request = HealthCheckRequest {
        service: arguments.service.clone(),
    };
    let answer = HealthClient::new(channel)
        .check(request)
        .await
        .map_err(|status| unavailable(status.message()))?;
    if answer.into_inner().status() == ServingStatus::Serving {
        Ok(Exit::Done)
    } else {
        Err(unavailable("does not serve now"))
    }
}
