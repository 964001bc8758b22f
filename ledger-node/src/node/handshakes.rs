//! Connections of other nodes: each shows a key that is listed before a byte of HTTP/2 is read, and each call on it is authorized
//! before its message is. Connections that only push trust steps never get that far.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{Either, Ready, ready};
use futures_util::{Stream, StreamExt};
use http::{Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use super::connections::{Counted, Share, accepted};
use super::trust_push::PushReceiver;
use crate::peer::authorization::authorize;
use crate::raft::peers::Peers;
use crate::transport::{Accepted, Arrival, PeerTransport};

/// What is known of a connection of another node.
#[derive(Debug, Clone)]
pub(super) struct PeerConnection {
    node_id: u64,
    share: Share,
}

/// The handshakes of a port.
#[derive(Clone)]
pub(super) struct Handshakes {
    /// Whom to believe.
    pub(super) transport: Arc<PeerTransport>,
    /// Gets the connections of those who only push trust steps.
    pub(super) push_receiver: PushReceiver,
    /// How long a handshake may take.
    pub(super) patience: Duration,
}

impl Handshakes {
    /// The connection of a listed node; none if it is another's, or has served to push trust steps.
    async fn shake(&self, stream: TcpStream) -> Option<Accepted> {
        let from = stream.peer_addr().ok();
        let troubles = self.transport.troubles();
        let shaken = tokio::time::timeout(self.patience, self.transport.accept(stream)).await;
        let shaken = shaken.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        match shaken.inspect_err(|error| troubles.accepted(from, error)) {
            Ok(Arrival::Node(stream)) => Some(*stream),
            Ok(Arrival::TrustSteps(stream)) => {
                if let Err(error) = self.push_receiver.serve(*stream).await {
                    tracing::debug!(?from, %error, "a connection with trust steps ended early");
                }
                None
            }
            Err(_) => None,
        }
    }
}

/// The connections of a port on which a listed node has shown its key in time, at most so many at a time, each with so many calls
/// that may go on asking; their first words come within the same time. Those that are still shaking hands count among the
/// connections, and all of them may be such: one that waits for its first byte must not keep the next one waiting.
pub(super) fn authenticated(
    listener: TcpListener,
    handshakes: Handshakes,
    most: usize,
    streams: usize,
) -> impl Stream<Item = std::io::Result<Counted<Accepted, PeerConnection>>> {
    let patience = handshakes.patience;
    accepted(listener, most)
        .map(move |(stream, place)| {
            let handshakes = handshakes.clone();
            async move {
                let stream = handshakes.shake(stream).await?;
                let info = PeerConnection {
                    node_id: stream.node_id(),
                    share: Share::new(streams),
                };
                Some(Ok(Counted::new(stream, info, patience, place)))
            }
        })
        .buffer_unordered(most)
        .filter_map(std::future::ready)
}

/// Lets calls through to services whose callers may make them, and says with each who has made it and on which connection.
#[derive(Debug, Clone)]
pub(super) struct Authorized(pub(super) Arc<Peers>);

impl<S> Layer<S> for Authorized {
    type Service = AuthorizedService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AuthorizedService {
            inner,
            peers: Arc::clone(&self.0),
        }
    }
}

/// Services that only those call who may.
#[derive(Debug, Clone)]
pub(super) struct AuthorizedService<S> {
    inner: S,
    peers: Arc<Peers>,
}

impl<S> AuthorizedService<S> {
    fn authorize(&self, request: &mut Request<Body>) -> Result<(), Status> {
        let connection = request.extensions().get::<PeerConnection>().cloned();
        let (share, caller) = connection
            .and_then(|connection| {
                let directory = self.peers.transport.directory();
                Some((connection.share, directory.by_id(connection.node_id)?))
            })
            .ok_or_else(|| Status::unauthenticated("the caller is no member of this ledger"))?;
        let (path, headers) = (request.uri().path(), request.headers());
        let caller = authorize(&self.peers, &caller, path, headers)?;
        let extensions = request.extensions_mut();
        extensions.insert(caller);
        extensions.insert(share);
        Ok(())
    }
}

impl<S> Service<Request<Body>> for AuthorizedService<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Self::Response, Self::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match self.authorize(&mut request) {
            Ok(()) => Either::Left(self.inner.call(request)),
            Err(refused) => Either::Right(ready(Ok(refused.into_http()))),
        }
    }
}
