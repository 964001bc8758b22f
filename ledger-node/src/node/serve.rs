//! The two servers: one for peers, one for everybody else.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ledger_proto::peer::v1::peer_service_server::PeerServiceServer;
use ledger_proto::v1;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, health_reporter};

use super::bodies::{Bounded, Bounds};
use super::connections::{OPENING, limited};
use super::handshakes::{Authorized, Handshakes, authenticated};
use super::trust_push::PushReceiver;
use crate::apply::suspicion::Suspicion;
use crate::config::LimitsConfig;
use crate::fatal::Fatal;
use crate::front;
use crate::ledger::Ledger;
use crate::limits::{
    MAX_ARRIVING, MAX_CONNECTIONS, MAX_PEER_CONNECTIONS, MAX_PEER_MESSAGE, MAX_PEERS_ARRIVING,
};
use crate::peer::service::Service;
use crate::peer::store_header::StoreHeader;
use crate::raft::peers::Peers;
use crate::raft::standing::{Leading, Mandate, Standing};
use crate::worker::Worker;

/// What clients may send before anybody looks at it. A call that has asked nothing yet takes up to 16 KiB: 16,384 of them take
/// 256 MiB, half of what a node may use, and only while somebody means it ill, because a question that has come is not counted
/// any more. A call that goes on asking takes up to 40 KiB while it is silent, and its window when its answers are not read:
/// 168 MiB for 1,024.
const FROM_CLIENTS: Bounds = Bounds {
    calls: 16_384,
    streams: 1_024,
    bytes: MAX_ARRIVING,
    longest: front::MAX_MESSAGE_LEN,
    patience: Duration::from_secs(30),
    asking: &[
        "/countersign.v1.AuthorizationService/AuthorizeStream",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ],
};
/// The same for peers. A ledger has at most nine nodes: each of the eight others may have as many calls open as it may. A message of
/// 16 MiB in a minute is 280 KiB a second.
const FROM_PEERS: Bounds = Bounds {
    calls: 8 * MAX_PEER_CALLS as usize,
    streams: 8 * MAX_PEER_CALLS as usize,
    bytes: MAX_PEERS_ARRIVING,
    longest: MAX_PEER_MESSAGE,
    patience: Duration::from_secs(60),
    asking: &[
        "/countersign.peer.v1.PeerService/Append",
        "/countersign.peer.v1.PeerService/SendSnapshot",
        "/countersign.peer.v1.PeerService/Forward",
    ],
};
/// Most calls that go on asking on one connection of a client: each takes any number of questions.
const MAX_STREAMS: usize = 16;
/// What a client may send on one call before any of it was taken, in bytes: 4 Mbit/s on a line whose answers take a quarter of a
/// second, and far more on a shorter one.
const WINDOW: u32 = 128 << 10;
/// Most calls of one peer at a time, on one connection.
const MAX_PEER_CALLS: u32 = 1_024;
/// A connection that does not answer a ping for so long is closed.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// Longest list of headers in bytes.
const MAX_HEADERS: u32 = 16 << 10;

/// Open ports.
#[derive(Debug)]
pub(super) struct Listeners {
    peer: TcpListener,
    client: TcpListener,
}

/// Opens both ports.
pub(super) async fn bind(peer: SocketAddr, client: SocketAddr) -> Result<Listeners, String> {
    let listen = async |address: SocketAddr, what: &str| {
        TcpListener::bind(address)
            .await
            .map_err(|error| {
                format!("cannot listen on {address} for {what}: {error}; end what listens there, or choose another address")
            })
    };
    Ok(Listeners {
        peer: listen(peer, "peers").await?,
        client: listen(client, "clients").await?,
    })
}

/// Servers that run.
pub(super) struct Servers {
    /// Ends when the calls of clients have.
    pub(super) clients: JoinHandle<()>,
    /// Ends when the calls of peers have.
    pub(super) peers: JoinHandle<()>,
    /// What the health service says.
    pub(super) health: Health,
}

/// The face of this node towards its peers.
pub(super) struct PeerEndpoint {
    /// Answers their calls.
    pub(super) service: PeerServiceServer<Service>,
    /// Their identities, and this node's own.
    pub(super) peers: Arc<Peers>,
    /// Receives trust steps of members whose keys this node does not know.
    pub(super) push_receiver: PushReceiver,
}

/// Starts both servers. They end in good order, that for clients when `ended` is cancelled.
pub(super) fn start(
    listeners: Listeners,
    endpoint: PeerEndpoint,
    ledger: Ledger,
    limits: &LimitsConfig,
    fatal: &Fatal,
    ended: CancellationToken,
    peers_ended: CancellationToken,
) -> Result<Servers, front::ReflectionError> {
    let (reporter, service) = health_reporter();
    let routes = front::router(ledger, service)?;
    let peer_server = Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(16 << 20)
        .max_concurrent_streams(MAX_PEER_CALLS)
        // Calls that have run out of time wait here while this node stands still. Going on, it must not drop the connection.
        .http2_max_pending_accept_reset_streams(Some(MAX_PEER_CALLS as usize))
        .http2_max_header_list_size(MAX_HEADERS)
        .layer(StoreHeader::new(&endpoint.peers.memory.own()))
        .layer(Authorized(Arc::clone(&endpoint.peers)))
        .layer(Bounded::new(FROM_PEERS))
        .add_routes(Routes::new(endpoint.service))
        .serve_with_incoming_shutdown(
            authenticated(
                listeners.peer,
                Handshakes {
                    transport: Arc::clone(&endpoint.peers.transport),
                    push_receiver: endpoint.push_receiver,
                    patience: OPENING,
                },
                MAX_PEER_CONNECTIONS,
                MAX_PEER_CALLS as usize,
            ),
            peers_ended.clone().cancelled_owned(),
        );
    let client_server = Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .initial_stream_window_size(WINDOW)
        .max_concurrent_streams(limits.calls_per_connection)
        .http2_max_header_list_size(MAX_HEADERS)
        .layer(Bounded::new(FROM_CLIENTS))
        .add_routes(routes)
        .serve_with_incoming_shutdown(
            limited(listeners.client, MAX_CONNECTIONS, MAX_STREAMS, OPENING),
            ended.clone().cancelled_owned(),
        );
    Ok(Servers {
        clients: tokio::spawn(fatal.supervised(
            Worker::ClientServer,
            ended,
            running(client_server),
        )),
        peers: tokio::spawn(fatal.supervised(
            Worker::PeerServer,
            peers_ended,
            running(peer_server),
        )),
        health: Health(reporter),
    })
}

async fn running(server: impl Future<Output = Result<(), tonic::transport::Error>>) {
    if let Err(error) = server.await {
        tracing::warn!(%error, "a server ended");
    }
}

/// Services that need a leader; the first one stands for the node.
const LED: [&str; 6] = [
    "",
    v1::authorization_service_server::SERVICE_NAME,
    v1::identity_service_server::SERVICE_NAME,
    v1::session_service_server::SERVICE_NAME,
    v1::policy_service_server::SERVICE_NAME,
    v1::cluster_service_server::SERVICE_NAME,
];
/// The service that needs none.
const PROVING: &str = v1::ledger_service_server::SERVICE_NAME;

/// What the health service says of each service.
pub(super) struct Health(HealthReporter);

impl Health {
    /// Services that need a leader follow the standing and the clock; those that serve what is here do not. When `ended` is cancelled,
    /// whoever watches has been told that the node stops, and the watch ends: it would never end by itself.
    pub(super) async fn follow(
        mut self,
        standing: watch::Receiver<Standing>,
        not_ready: watch::Receiver<Option<String>>,
        mandate: watch::Receiver<Mandate>,
        suspicion: Arc<Suspicion>,
        ended: CancellationToken,
    ) {
        let telling = self.tell(standing, not_ready, mandate, &suspicion);
        let _ = ended.run_until_cancelled(telling).await;
        for name in LED.into_iter().chain([PROVING]) {
            self.0.clear_service_status(name).await;
        }
    }

    async fn tell(
        &self,
        mut standing: watch::Receiver<Standing>,
        mut not_ready: watch::Receiver<Option<String>>,
        mut mandate: watch::Receiver<Mandate>,
        suspicion: &Suspicion,
    ) {
        loop {
            let stopping = not_ready.borrow_and_update().is_some();
            let led = standing.borrow_and_update().leading != Leading::Nobody;
            let says = |serving: bool| {
                if serving {
                    ServingStatus::Serving
                } else {
                    ServingStatus::NotServing
                }
            };
            let is_limited = *mandate.borrow_and_update() != Mandate::Full;
            let changed = suspicion.changed();
            let doubts = suspicion.current().is_some();
            let decides = says(led && !stopping && !is_limited && !doubts);
            for name in LED {
                self.0.set_service_status(name, decides).await;
            }
            // Proofs need nobody else.
            let proves = says(!stopping);
            self.0.set_service_status(PROVING, proves).await;
            tokio::select! {
                () = changed => {}
                changed = standing.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                changed = not_ready.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                changed = mandate.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

// The names above are constants of generated code; this keeps them the names that tonic routes by.
const _: fn() -> &'static str = || <PeerServiceServer<Service> as NamedService>::NAME;

#[cfg(test)]
mod tests {
    use super::*;

    /// The full paths of all calls whose requests are streams, as the descriptors have them.
    fn asking() -> Vec<String> {
        let mut found = Vec::new();
        let folders = ["countersign/v1", "countersign/peer/v1"];
        for folder in folders {
            let path = format!("{}/../proto/proto/{folder}", env!("CARGO_MANIFEST_DIR"));
            for file in std::fs::read_dir(path).unwrap() {
                let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
                let mut service = String::new();
                for line in text.lines().map(str::trim) {
                    if let Some(name) = line.strip_prefix("service ") {
                        let package = folder.replace('/', ".");
                        service = format!("/{package}.{}", name.split(' ').next().unwrap());
                    }
                    let rpc = line
                        .strip_prefix("rpc ")
                        .and_then(|rpc| rpc.split_once('('));
                    if let Some((name, _)) = rpc.filter(|(_, rest)| rest.starts_with("stream ")) {
                        found.push(format!("{service}/{name}"));
                    }
                }
            }
        }
        found.sort();
        found
    }

    #[test]
    fn exactly_the_calls_that_go_on_asking_may_be_silent() {
        let ours = FROM_CLIENTS.asking.iter().chain(FROM_PEERS.asking);
        let mut ours: Vec<&str> = ours
            .copied()
            .filter(|path| !path.starts_with("/grpc."))
            .collect();
        ours.sort_unstable();
        assert_eq!(ours, asking());
    }
}
