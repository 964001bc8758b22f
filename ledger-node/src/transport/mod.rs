//! The connections between nodes: mutual TLS 1.3 in which each end shows the key that the ledger has registered for its node.
//!
//! There are no certificates and no authority. Each end shows its Ed25519 key as a raw public key (RFC 7250), proves with a
//! signature over the handshake that it holds it, and the other end looks the key up in its [`KeyDirectory`]. A connection is
//! therefore always with one node, named by its id, and ends when the directory does not list that key any more. Nothing of a
//! session outlives its connection: there is no resumption, and no early data.

mod directory;
mod key;
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
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::ServerName;
use rustls::server::NoServerSessionStorage;
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::{TlsAcceptor, TlsConnector};

pub use directory::{Entry, Footing, KeyDirectory, Listed, Role};
pub use key::{SharedSigner, Spki};
pub use stream::{PeerStream, RemoteNode};
pub use trouble::{End, Troubles, explain};
use verifier::{ClientVerifier, ServerVerifier};

/// The one protocol that is spoken inside of TLS.
const ALPN: &[u8] = b"h2";
/// The name that a client of TLS must give. Nobody sees or checks it: the server is known by its key.
const NAMELESS: &str = "node.invalid";

/// A connection that this node has accepted.
pub type Accepted = PeerStream<tokio_rustls::server::TlsStream<TcpStream>>;
/// A connection that this node has made.
pub type Connected = PeerStream<tokio_rustls::client::TlsStream<TcpStream>>;

/// Both ends of TLS, with this node's key and the keys of the others.
pub struct PeerTransport {
    directory: Arc<KeyDirectory>,
    provider: Arc<CryptoProvider>,
    own_key: Arc<CertifiedKey>,
    troubles: Arc<Troubles>,
    /// Somebody came whose key is not listed.
    stranger: Notify,
    acceptor: TlsAcceptor,
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
        let provider = Arc::new(ring::default_provider());
        let own_key = Arc::new(key::certified(signer));
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(io::Error::other)?
            .with_client_cert_verifier(Arc::new(ClientVerifier::new(
                Arc::clone(&directory),
                &provider,
            )))
            .with_cert_resolver(Arc::new(
                rustls::server::AlwaysResolvesServerRawPublicKeys::new(Arc::clone(&own_key)),
            ));
        server.alpn_protocols = vec![ALPN.to_vec()];
        // A node that was removed must not come back on a ticket.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Self {
            directory,
            provider,
            own_key,
            troubles: Arc::default(),
            stranger: Notify::new(),
            acceptor: TlsAcceptor::from(Arc::new(server)),
        })
    }

    /// Tell of handshakes that failed.
    #[must_use]
    pub fn troubles(&self) -> &Troubles {
        &self.troubles
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

    /// Has the members of now asked for, as after a stranger was refused.
    pub fn ask_for_members(&self) {
        self.stranger.notify_one();
    }

    /// Shakes hands with whoever has connected. The caller limits the time.
    ///
    /// # Errors
    /// It speaks no TLS 1.3, shows no key, or one that the directory does not list. [`explain`] says it in plain words.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<Accepted> {
        let stream = self.acceptor.accept(stream).await.inspect_err(|error| {
            if trouble::is_stranger(error) {
                self.stranger.notify_one();
            }
        })?;
        let session = stream.get_ref().1;
        if session.alpn_protocol() != Some(ALPN) {
            return Err(trouble::no_http2());
        }
        let entry = session
            .peer_certificates()
            .and_then(|keys| self.directory.by_key(keys.first()?))
            .ok_or_else(trouble::unlisted)?;
        Ok(PeerStream::new(stream, entry, None))
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
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(ServerVerifier::new(
                entry.key.clone(),
                &self.provider,
            )))
            .with_client_cert_resolver(Arc::new(
                rustls::client::AlwaysResolvesClientRawPublicKeys::new(Arc::clone(&self.own_key)),
            ));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.enable_sni = false;
        config.resumption = Resumption::disabled();
        let name = ServerName::try_from(NAMELESS).map_err(io::Error::other)?;
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await?;
        if stream.get_ref().1.alpn_protocol() != Some(ALPN) {
            return Err(trouble::no_http2());
        }
        let troubles = Some(Arc::clone(&self.troubles));
        Ok(PeerStream::new(stream, entry, troubles))
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
