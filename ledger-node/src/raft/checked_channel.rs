//! A connection on which a peer says with each answer which store it has. An answer of another disk under the same node id counts
//! for nothing, whatever was asked. A call that the peer's refusal of this node's key ended has reached nobody, and says so.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Error};
use tower::Service;

use super::peer_memory::PeerMemory;
use super::peers::{keys, store_id};
use crate::transport::PeerTransport;

/// How long a connection may take to end after it was refused.
const JUST_BEFORE: Duration = Duration::from_secs(1);

/// A channel to one peer that refuses the answers of any other store than the one that was met first.
#[derive(Debug, Clone)]
pub struct CheckedChannel {
    channel: Channel,
    memory: Arc<PeerMemory>,
    transport: Arc<PeerTransport>,
    peer: u64,
}

impl CheckedChannel {
    /// The channel to a peer, checked against what is remembered of it.
    pub(super) const fn new(
        channel: Channel,
        memory: Arc<PeerMemory>,
        transport: Arc<PeerTransport>,
        peer: u64,
    ) -> Self {
        Self {
            channel,
            memory,
            transport,
            peer,
        }
    }
}

impl Service<Request<Body>> for CheckedChannel {
    type Response = Response<Body>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let began = Instant::now();
        let answer = self.channel.call(request);
        let (memory, peer) = (Arc::clone(&self.memory), self.peer);
        let transport = Arc::clone(&self.transport);
        Box::pin(async move {
            match answer.await {
                Ok(answer) => Ok(checked(&memory, peer, answer)),
                // HTTP/2 has lost why by now, and would have the caller believe that nobody knows what became of the call.
                Err(_) if is_refused(&transport, peer, began) => {
                    let why = format!(
                        "node {peer} does not know this node's key: as far as it knows, this node is no member"
                    );
                    Ok(Status::unavailable(why).into_http())
                }
                Err(error) => Err(error),
            }
        })
    }
}

/// True if the peer has refused this node's key during a call or just before it: a call that comes between the refusal and the end of its
/// connection is not sent.
fn is_refused(transport: &PeerTransport, peer: u64, began: Instant) -> bool {
    let since = began.checked_sub(JUST_BEFORE).unwrap_or(began);
    transport.refusals().has_refused_since(peer, since)
}

fn checked(memory: &PeerMemory, peer: u64, mut answer: Response<Body>) -> Response<Body> {
    let headers = std::mem::take(answer.headers_mut());
    let is_refusal = headers.contains_key("grpc-status");
    let metadata = MetadataMap::from_headers(headers);
    let comes = store_id(&metadata, keys::STORE);
    if store_id(&metadata, keys::KNOWN_STORE).is_some_and(|known| known != memory.own()) {
        memory.note_refused(peer);
    }
    *answer.headers_mut() = metadata.into_headers();
    // A refusal may come from before the service, such as one for lack of room.
    if is_refusal && comes.is_none() {
        return answer;
    }
    match memory.meet(peer, comes) {
        Ok(()) => answer,
        Err(refusal) => Status::failed_precondition(refusal.to_string()).into_http(),
    }
}
