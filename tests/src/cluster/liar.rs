//! An endpoint that lies: a gRPC proxy before a real node, which passes calls on and changes what it is told to in the answers.
//!
//! It knows no message. Each part of each answer goes through one function that sees the call's path and the part's bytes.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prost::Message;
use prost::bytes::{Buf as _, BufMut as _};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::{BoxFuture, BoxStream, Context, Poll, Service, StdError};
use tonic::server::StreamingService;
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Extensions, Request, Response, Status, Streaming};

use super::SOON;

/// What is made of the bytes of one part of an answer.
type Lie = Box<dyn FnMut(Vec<u8>) -> Vec<u8> + Send>;

/// An answer that is made of the bytes of a question, unless the node is to answer.
type Forgery = Box<dyn FnMut(&[u8]) -> Option<Vec<u8>> + Send>;

/// What is done to calls, by their paths.
#[derive(Default)]
struct Lies {
    asked: BTreeMap<&'static str, Lie>,
    forged: BTreeMap<&'static str, Forgery>,
    changed: BTreeMap<&'static str, Lie>,
    invented: BTreeMap<&'static str, Vec<u8>>,
    refused: BTreeMap<&'static str, Status>,
    stalled: Option<&'static str>,
    silent: Option<&'static str>,
}

/// An endpoint that says what a node says, and whatever else it is told to.
pub struct Liar {
    address: SocketAddr,
    lies: Arc<Mutex<Lies>>,
    /// Counts calls that are left without an answer.
    unanswered: watch::Sender<u64>,
    serving: AbortHandle,
}

impl fmt::Debug for Liar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Liar").field(&self.address).finish()
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Liar {
    /// Stands before a node, and is honest so far.
    ///
    /// # Panics
    /// If there is no port left.
    pub async fn before(node: SocketAddr) -> Self {
        Self::at((Ipv4Addr::LOCALHOST, 0).into(), node).await
    }

    /// The same at an address, such as that of another node whose place it takes.
    ///
    /// # Panics
    /// If somebody listens there.
    pub async fn at(address: SocketAddr, node: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await;
        let listener = listener.expect("the address is free");
        let address = listener.local_addr().expect("it listens");
        let node = Endpoint::from_shared(format!("http://{node}")).expect("an address");
        let lies = Arc::default();
        let unanswered = watch::Sender::new(0);
        let front = Front {
            node: node.connect_lazy(),
            lies: Arc::clone(&lies),
            unanswered: unanswered.clone(),
        };
        let router = Routes::default().into_axum_router().fallback_service(front);
        let server = Server::builder().add_routes(Routes::from(router));
        let serving = tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Self {
            address,
            lies,
            unanswered,
            serving: serving.abort_handle(),
        }
    }

    /// As `--endpoints` takes it.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    fn lies(&self) -> MutexGuard<'_, Lies> {
        locked(&self.lies)
    }

    /// From now on it says what the node says.
    pub fn is_honest(&self) {
        *self.lies() = Lies::default();
    }

    /// From now on this call gets no answer.
    pub fn is_silent(&self, path: &'static str) {
        self.lies().silent = Some(path);
    }

    /// Returns once somebody waits for an answer that does not come.
    ///
    /// # Panics
    /// If nobody does in time.
    pub async fn is_asked(&self) {
        let mut unanswered = self.unanswered.subscribe();
        let asked = tokio::time::timeout(SOON, unanswered.wait_for(|calls| *calls > 0)).await;
        let _ = asked.expect("somebody asks").expect("it lives");
    }

    /// From now on the bytes of this call's answers are changed.
    pub fn garbles(
        &self,
        path: &'static str,
        lie: impl FnMut(Vec<u8>) -> Vec<u8> + Send + 'static,
    ) {
        self.lies().changed.insert(path, Box::new(lie));
    }

    /// From now on the bytes of this call's questions are changed on their way to the node.
    pub fn garbles_questions(
        &self,
        path: &'static str,
        lie: impl FnMut(Vec<u8>) -> Vec<u8> + Send + 'static,
    ) {
        self.lies().asked.insert(path, Box::new(lie));
    }

    /// From now on answers to this call are made of the first part of each question; without an answer the node is asked.
    pub fn forges(
        &self,
        path: &'static str,
        forgery: impl FnMut(&[u8]) -> Option<Vec<u8>> + Send + 'static,
    ) {
        self.lies().forged.insert(path, Box::new(forgery));
    }

    /// From now on this is the answer to this call, and the node does not hear of it.
    pub fn invents(&self, path: &'static str, answer: &impl Message) {
        self.lies().invented.insert(path, answer.encode_to_vec());
    }

    /// From now on this call's answer in parts begins, and no part comes.
    pub fn stalls(&self, path: &'static str) {
        self.lies().stalled = Some(path);
    }

    /// From now on this call is refused, and the node does not hear of it.
    pub fn refuses(&self, path: &'static str, status: Status) {
        self.lies().refused.insert(path, status);
    }

    /// From now on this call's answers are changed.
    pub fn changes<A: Message + Default>(
        &self,
        path: &'static str,
        mut lie: impl FnMut(&mut A) + Send + 'static,
    ) {
        self.garbles(path, move |said| {
            let mut answer = A::decode(said.as_slice()).expect("the node's answer");
            lie(&mut answer);
            answer.encode_to_vec()
        });
    }

    /// From now on the first answer to this call is given to everybody who makes it.
    pub fn repeats(&self, path: &'static str) {
        let mut first = None;
        self.garbles(path, move |said| first.get_or_insert(said).clone());
    }
}

/// Takes every call.
#[derive(Clone)]
struct Front {
    node: Channel,
    lies: Arc<Mutex<Lies>>,
    unanswered: watch::Sender<u64>,
}

fn locked(lies: &Mutex<Lies>) -> MutexGuard<'_, Lies> {
    lies.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<B> Service<http::Request<B>> for Front
where
    B: tonic::codegen::Body + Send + 'static,
    B::Error: Into<StdError> + Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let call = Call {
            front: self.clone(),
            path: request.uri().path().to_owned(),
        };
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Bytes);
            Ok(grpc.streaming(call, request).await)
        })
    }
}

/// One call: on the wire, an answer in one part is an answer in parts.
struct Call {
    front: Front,
    path: String,
}

impl StreamingService<Vec<u8>> for Call {
    type Response = Vec<u8>;
    type ResponseStream = BoxStream<Vec<u8>>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<Streaming<Vec<u8>>>) -> Self::Future {
        let front = self.front.clone();
        let path = self.path.clone();
        Box::pin(async move {
            let Front {
                node,
                lies,
                unanswered,
            } = front;
            if locked(&lies).silent == Some(path.as_str()) {
                unanswered.send_modify(|calls| *calls += 1);
                std::future::pending::<()>().await;
            }
            if locked(&lies).stalled == Some(path.as_str()) {
                let nothing: Self::ResponseStream = Box::pin(tokio_stream::pending());
                return Ok(Response::new(nothing));
            }
            let refused = locked(&lies).refused.get(path.as_str()).cloned();
            if let Some(status) = refused {
                return Err(status);
            }
            let invented = locked(&lies).invented.get(path.as_str()).cloned();
            if let Some(answer) = invented {
                let answer: Self::ResponseStream = Box::pin(tokio_stream::once(Ok(answer)));
                return Ok(Response::new(answer));
            }
            let (metadata, _, asked) = request.into_parts();
            let mut asked = asked.map_while(Result::ok);
            let first = asked.next().await;
            let forged = first.as_ref().and_then(|first| {
                let mut lies = locked(&lies);
                lies.forged.get_mut(path.as_str())?(first)
            });
            if let Some(answer) = forged {
                let answer: Self::ResponseStream = Box::pin(tokio_stream::once(Ok(answer)));
                return Ok(Response::new(answer));
            }
            let (asking, of) = (Arc::clone(&lies), path.clone());
            let asked = tokio_stream::iter(first).chain(asked).map(move |bytes| {
                match locked(&asking).asked.get_mut(of.as_str()) {
                    Some(lie) => lie(bytes),
                    None => bytes,
                }
            });
            let asked = Request::from_parts(metadata, Extensions::default(), asked);
            let mut grpc = tonic::client::Grpc::new(node);
            let ready = grpc.ready().await;
            ready.map_err(|error| Status::unavailable(error.to_string()))?;
            let to = path.parse().expect("it was a path");
            let answer = grpc.streaming(asked, to, Bytes).await?;
            Ok(answer.map(|said| -> Self::ResponseStream {
                Box::pin(said.map(move |part| {
                    let mut lies = locked(&lies);
                    part.map(|bytes| match lies.changed.get_mut(path.as_str()) {
                        Some(lie) => lie(bytes),
                        None => bytes,
                    })
                }))
            }))
        })
    }
}

/// Messages as they are on the wire.
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, wire: &mut EncodeBuf<'_>) -> Result<(), Status> {
        wire.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, wire: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let len = wire.remaining();
        Ok(Some(wire.copy_to_bytes(len).into()))
    }
}
