//! The connections between nodes: mutual TLS 1.3 in which each end shows the key that the ledger has registered for its node.
//!
//! There are no certificates and no authority. Each end shows its Ed25519 key as a raw public key (RFC 7250), proves with a
//! signature over the handshake that it holds it, and the other end looks the key up in its [`KeyDirectory`]. A connection is
//! therefore always with one node, named by its id, and ends when the directory does not list that key any more. Nothing of a
//! session outlives its connection: there is no resumption, and no early data.
//!
//! The client of a connection for pushed trust steps shows no key, because nothing is believed of it: what it pushes proves itself. Which
//! protocol is spoken is settled in the first message of the handshake ([`Arrival`]), and neither can be left for the other.

mod directory;
mod key;
mod plain;
mod refusals;
mod settings;
mod stream;
#[cfg(test)]
mod tests;
mod trouble;
mod verifier;

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use ledger_core::signer::PUBLIC_KEY_LEN;
use rustls::ServerConfig;
use rustls::pki_types::ServerName;
use rustls::server::Acceptor;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::{LazyConfigAcceptor, TlsConnector};

pub use directory::{Entry, Footing, KeyDirectory, Listed, Role};
pub use key::{SharedSigner, Spki};
pub use refusals::{Refusals, RefusedDial};
use settings::{CALLS, Settings, TRUST_STEPS};
use stream::Dial;
pub use stream::{PeerStream, RemoteNode};
pub use trouble::{End, Troubles, explain};

/// The name that a client of TLS must give. Nobody sees or checks it: the server is known by its key.
const NAMELESS: &str = "node.invalid";

/// A connection that this node has accepted.
pub type Accepted = PeerStream<tokio_rustls::server::TlsStream<TcpStream>>;
/// A connection that this node has made.
pub type Connected = PeerStream<tokio_rustls::client::TlsStream<TcpStream>>;

/// A connection on which trust steps are pushed to this node, by an unknown end.
pub type PushedTo = tokio_rustls::server::TlsStream<TcpStream>;
/// A connection on which this node pushes trust steps.
pub type PushingTo = tokio_rustls::client::TlsStream<TcpStream>;

/// A connection that this node has accepted, by what is spoken on it.
#[derive(Debug)]
pub enum Arrival {
    /// The calls of a node that is listed.
    Node(Box<Accepted>),
    /// The trust steps of an end that shows no key.
    TrustSteps(Box<PushedTo>),
}

impl Arrival {
    /// The connection, if it is one for calls.
    #[must_use]
    pub fn node(self) -> Option<Accepted> {
        match self {
            Self::Node(accepted) => Some(*accepted),
            Self::TrustSteps(_) => None,
        }
    }
}

/// Both ends of TLS, with this node's key and the keys of the others.
pub struct PeerTransport {
    directory: Arc<KeyDirectory>,
    settings: Settings,
    troubles: Arc<Troubles>,
    refusals: Arc<Refusals>,
    /// Somebody came whose key is not listed.
    stranger: Notify,
    for_calls: Arc<ServerConfig>,
    for_trust_steps: Arc<ServerConfig>,
}

impl std::fmt::Debug for PeerTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerTransport")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

impl PeerTransport {
    /// The transport of the node that holds this key.
    ///
    /// # Errors
    /// The library refuses the settings, which it does not.
    pub fn new(signer: SharedSigner, directory: Arc<KeyDirectory>) -> io::Result<Self> {
        let settings = Settings::new(key::certified(signer));
        Ok(Self {
            for_calls: Arc::new(settings.server_for_calls(&directory)?),
            for_trust_steps: Arc::new(settings.server_for_trust_steps()?),
            directory,
            settings,
            troubles: Arc::default(),
            refusals: Arc::default(),
            stranger: Notify::new(),
        })
    }

    /// Tell of handshakes that failed.
    #[must_use]
    pub fn troubles(&self) -> &Troubles {
        &self.troubles
    }

    /// The nodes that have refused this node's key.
    #[must_use]
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// The nodes that this one speaks with.
    #[must_use]
    pub const fn directory(&self) -> &Arc<KeyDirectory> {
        &self.directory
    }

    /// Returns once somebody was refused whose key is not listed, also if it was before the call.
    pub async fn stranger_refused(&self) {
        self.stranger.notified().await;
    }

    /// Has trust steps pushed to a node that does not know the voters who have elected this one.
    pub fn offer_trust_steps(&self, node_id: u64, address: &str) {
        if let Some(entry) = self.directory.by_id(node_id) {
            self.refusals.note_election(RefusedDial {
                node_id,
                key: entry.key,
                address: address.to_owned(),
            });
        }
    }

    /// Has the members of now asked for, as after a stranger was refused.
    pub fn ask_for_members(&self) {
        self.stranger.notify_one();
    }

    /// Shakes hands with whoever has connected. The caller limits the time.
    ///
    /// # Errors
    /// It speaks no TLS 1.3, or means to make calls and shows no key, or one that the directory does not list. [`explain`] says it in
    /// plain words.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<Arrival> {
        if plain::is_http2(&stream).await? {
            plain::refuse(stream).await;
            return Err(trouble::no_tls());
        }
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let offered = hello.client_hello().alpn();
        let offered: Option<Vec<&[u8]>> = offered.map(Iterator::collect);
        if offered.as_deref() == Some(&[TRUST_STEPS]) {
            let shaking = hello.into_stream(Arc::clone(&self.for_trust_steps));
            return Ok(Arrival::TrustSteps(Box::new(shaking.await?)));
        }
        let shaking = hello.into_stream(Arc::clone(&self.for_calls));
        let stream = match shaking.into_fallible().await {
            Ok(stream) => stream,
            Err((error, stream)) => {
                if trouble::is_stranger(&error) {
                    self.stranger.notify_one();
                }
                plain::linger(stream).await;
                return Err(error);
            }
        };
        let session = stream.get_ref().1;
        if session.alpn_protocol() != Some(CALLS) {
            return Err(trouble::no_http2());
        }
        let entry = session
            .peer_certificates()
            .and_then(|keys| self.directory.by_key(keys.first()?))
            .ok_or_else(trouble::unlisted)?;
        Ok(Arrival::Node(Box::new(PeerStream::new(
            stream, entry, None,
        ))))
    }

    /// Connects to a node. The caller limits the time.
    ///
    /// # Errors
    /// The directory does not list the node, nobody listens at the address, or it has another key.
    pub async fn connect(&self, node_id: u64, address: &str) -> io::Result<Connected> {
        let entry = self
            .directory
            .by_id(node_id)
            .ok_or_else(|| trouble::unknown_node(node_id))?;
        self.connect_to(entry, address).await
    }

    /// Connects to whoever must show the key of this entry.
    async fn connect_to(&self, entry: Entry, address: &str) -> io::Result<Connected> {
        let config = self.settings.client_for_calls(entry.key.clone())?;
        let stream = self.dial(config, address).await?;
        if stream.get_ref().1.alpn_protocol() != Some(CALLS) {
            return Err(trouble::no_http2());
        }
        let dial = Dial {
            address: address.to_owned(),
            key: entry.key.clone(),
            troubles: Arc::clone(&self.troubles),
            refusals: Arc::clone(&self.refusals),
        };
        Ok(PeerStream::new(stream, entry, Some(dial)))
    }

    /// Connects to a node that has refused this node's key, to push trust steps to it. This node shows no key. The caller limits the
    /// time.
    ///
    /// # Errors
    /// Nobody listens at the address, or it has another key, or takes no trust steps.
    pub async fn connect_to_push(&self, refused: &RefusedDial) -> io::Result<PushingTo> {
        let config = self.settings.client_for_trust_steps(refused.key.clone())?;
        let stream = self.dial(config, &refused.address).await?;
        if stream.get_ref().1.alpn_protocol() != Some(TRUST_STEPS) {
            return Err(trouble::no_trust_steps());
        }
        Ok(stream)
    }

    async fn dial(&self, config: rustls::ClientConfig, address: &str) -> io::Result<PushingTo> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(NAMELESS).map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, stream).await
    }
}

/// A way to one node for tonic, which calls it each time that it needs a connection.
#[derive(Debug, Clone)]
pub struct Connector {
    /// How connections are made.
    pub transport: Arc<PeerTransport>,
    /// Whose key the other end must show.
    pub node_id: u64,
    /// The key that it must show instead of the one that is listed: that of a node which is to join.
    pub unlisted_key: Option<[u8; PUBLIC_KEY_LEN]>,
    /// host:port.
    pub address: String,
    /// How long a connection, its handshake included, may take to be made.
    pub patience: Duration,
}

impl tower::Service<http::Uri> for Connector {
    type Response = TokioIo<Connected>;
    type Error = io::Error;
    type Future = futures_util::future::BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let to = self.clone();
        Box::pin(async move {
            let connected = async {
                match &to.unlisted_key {
                    Some(key) => {
                        let entry = Entry::of_newcomer(to.node_id, key);
                        to.transport.connect_to(entry, &to.address).await
                    }
                    None => to.transport.connect(to.node_id, &to.address).await,
                }
            };
            let connected = tokio::time::timeout(to.patience, connected)
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))
                .and_then(std::convert::identity);
            connected
                .map(TokioIo::new)
                .inspect_err(|error| to.transport.troubles.dialled(to.node_id, error))
        })
    }
}
