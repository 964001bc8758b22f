//! A caller of the gRPC interface: signs commands and reads, sends them to one node, and says plainly what came back.
//!
//! It is not the client library: it trusts nothing, hides nothing, and never tries again by itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ledger_core::id::Identity;
use ledger_core::signer::Signer as _;
use ledger_proto::peer::v1 as wire;
use ledger_proto::v1::{self, command::Body};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt as _;

use crate::kit::{Ask, key, public_key, sign};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest answer that is read.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// A call that gave no answer.
#[derive(Debug, Clone)]
pub struct Failed {
    /// The gRPC code.
    pub code: Code,
    /// The reason by its name; empty if the failure is not the node's, such as a broken connection.
    pub reason: String,
    /// What the call did, as the node says it; empty if it says nothing.
    pub outcome: String,
    /// What can be done, as the node says it; empty if it says nothing.
    pub retry: String,
    /// The sentence for people.
    pub message: String,
}

impl Failed {
    /// What a status says.
    #[must_use]
    pub fn of(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        let field = |name: &str| {
            info.and_then(|info| info.metadata.get(name).cloned())
                .unwrap_or_default()
        };
        Self {
            code: status.code(),
            reason: info.map(|info| info.reason.clone()).unwrap_or_default(),
            outcome: field("outcome"),
            retry: field("retry"),
            message: status.message().to_owned(),
        }
    }

    /// True if the same bytes may be sent again: the node says so, or it could not say anything.
    #[must_use]
    pub fn can_repeat(&self) -> bool {
        self.retry == "same_id" || self.reason.is_empty()
    }
}

/// The way to one node's client port.
#[derive(Debug, Clone)]
pub struct Line {
    /// Which node.
    pub node: u64,
    channel: Channel,
}

impl Line {
    /// A line that connects when it is first used, and again whenever it broke.
    ///
    /// # Panics
    /// If the address is none.
    #[must_use]
    pub fn new(node: u64, address: &str) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        let channel = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(5))
            .keep_alive_timeout(Duration::from_secs(5))
            .connect_lazy();
        Self { node, channel }
    }

    /// Makes one call.
    ///
    /// # Errors
    /// [`Failed`], also if there is no answer by the deadline.
    pub async fn call<Q, A>(
        &self,
        path: &'static str,
        request: Request<Q>,
        deadline: Duration,
    ) -> Result<A, Failed>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut request = request;
        request.set_timeout(deadline);
        let call = async {
            let mut grpc = tonic::client::Grpc::new(self.channel.clone())
                .max_decoding_message_size(MAX_ANSWER);
            grpc.ready()
                .await
                .map_err(|error| Status::unavailable(error.to_string()))?;
            let path = http::uri::PathAndQuery::from_static(path);
            grpc.unary(request, path, ProstCodec::<Q, A>::default())
                .await
        };
        // The node has to answer by the deadline; one that does not is given up a little later, so that what it says in
        // time is never lost.
        let patience = deadline + Duration::from_secs(2);
        match tokio::time::timeout(patience, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(Failed::of(&status)),
            Err(_) => Err(Failed::of(&Status::deadline_exceeded(
                "the node said nothing, not even that it cannot answer",
            ))),
        }
    }
}

impl Line {
    /// Opens a call that is answered piece by piece.
    ///
    /// # Errors
    /// [`Failed`], if it is not opened.
    pub async fn listen<Q, A>(
        &self,
        path: &'static str,
        request: Request<Q>,
    ) -> Result<Streaming<A>, Failed>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut grpc = self.grpc().await?;
        let path = http::uri::PathAndQuery::from_static(path);
        let opened = grpc.server_streaming(request, path, ProstCodec::<Q, A>::default());
        let opened = opened.await.map_err(|status| Failed::of(&status))?;
        Ok(opened.into_inner())
    }

    /// Opens a call in which both sides speak piece by piece.
    ///
    /// # Errors
    /// [`Failed`], if it is not opened.
    pub async fn converse<Q, A>(
        &self,
        path: &'static str,
        said: mpsc::Receiver<Q>,
    ) -> Result<Streaming<A>, Failed>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut grpc = self.grpc().await?;
        let path = http::uri::PathAndQuery::from_static(path);
        let said = Request::new(ReceiverStream::new(said));
        let opened = grpc.streaming(said, path, ProstCodec::<Q, A>::default());
        let opened = opened.await.map_err(|status| Failed::of(&status))?;
        Ok(opened.into_inner())
    }

    async fn grpc(&self) -> Result<tonic::client::Grpc<Channel>, Failed> {
        let mut grpc =
            tonic::client::Grpc::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER);
        let ready = grpc.ready().await;
        ready.map_err(|error| Failed::of(&Status::unavailable(error.to_string())))?;
        Ok(grpc)
    }
}

/// Signs what anybody says to a ledger, and remembers the commands.
#[derive(Debug)]
pub struct Signing {
    /// The ledger's name.
    pub origin: String,
    /// The first half of request ids: no two runs share it.
    run: [u8; 8],
    next: AtomicU64,
    /// Everything that was signed, by request id, for replaying the ledger; only what was not sent in bulk.
    sent: Mutex<BTreeMap<Vec<u8>, v1::Submission>>,
}

impl Signing {
    /// For the ledger of this origin.
    ///
    /// # Panics
    /// If the system has no randomness.
    #[must_use]
    pub fn new(origin: &str) -> Arc<Self> {
        let mut run = [0; 8];
        getrandom::fill(&mut run).expect("randomness");
        Arc::new(Self {
            origin: origin.to_owned(),
            run,
            next: AtomicU64::new(1),
            sent: Mutex::default(),
        })
    }

    /// Signs a command with a new request id, issued now.
    pub fn command(&self, ask: Ask) -> v1::Submission {
        let submission = self.forget(ask);
        let id = request_id(&submission);
        let mut sent = self.sent.lock().expect("no test panics while it signs");
        sent.insert(id, submission.clone());
        submission
    }

    /// The same, for load so heavy that it cannot be remembered.
    pub fn forget(&self, ask: Ask) -> v1::Submission {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut id = self.run.to_vec();
        id.extend_from_slice(&number.to_be_bytes());
        sign(&self.origin, ask, id, now_us())
    }

    /// Remembers a command that somebody else signed, for replaying the ledger.
    ///
    /// # Panics
    /// If a test panicked while it signed.
    pub fn remember(&self, submission: &v1::Submission) {
        let mut sent = self.sent.lock().expect("no test panics while it signs");
        sent.insert(request_id(submission), submission.clone());
    }

    /// Every command that was signed so far, by request id.
    ///
    /// # Panics
    /// If a test panicked while it signed.
    pub fn sent(&self) -> BTreeMap<Vec<u8>, v1::Submission> {
        self.sent
            .lock()
            .expect("no test panics while it signs")
            .clone()
    }

    /// Signs a read.
    ///
    /// # Panics
    /// If the system has no randomness.
    pub fn read<Q: Message>(&self, reader: &Identity, path: &str, message: Q) -> Request<Q> {
        self.read_at(now_us(), reader, path, message)
    }

    /// The same at another time, microseconds since 1970.
    ///
    /// # Panics
    /// If the system has no randomness.
    pub fn read_at<Q: Message>(
        &self,
        now: u64,
        reader: &Identity,
        path: &str,
        message: Q,
    ) -> Request<Q> {
        let key = key(&reader.to_string());
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).expect("randomness");
        let mut signed = b"countersign-read-v1\0".to_vec();
        for text in [self.origin.as_str(), path] {
            let len = u16::try_from(text.len()).expect("short");
            signed.extend_from_slice(&len.to_be_bytes());
            signed.extend_from_slice(text.as_bytes());
        }
        signed.extend_from_slice(&now.to_be_bytes());
        signed.extend_from_slice(&nonce);
        signed.extend_from_slice(blake3::hash(&message.encode_to_vec()).as_bytes());
        let key_id = public_key(&key).key_id();

        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        let binary = MetadataValue::from_bytes;
        metadata.insert_bin("countersign-key-id-bin", binary(key_id.as_bytes()));
        metadata.insert_bin("countersign-nonce-bin", binary(&nonce));
        metadata.insert_bin("countersign-signature-bin", binary(&key.sign(&signed)));
        let time = now.to_string().parse().expect("digits are metadata");
        metadata.insert("countersign-time-us", time);
        request
    }
}

/// What a node shows the leader of a request to move leadership that an admin has signed.
///
/// # Panics
/// If the request carries no signature.
#[must_use]
pub fn shown_to_leader(asked: &Request<v1::TransferLeadershipRequest>) -> wire::HandOverRequest {
    let metadata = asked.metadata();
    let binary = |key: &str| {
        let value = metadata.get_bin(key).expect("a signed request");
        value.to_bytes().expect("bytes").to_vec()
    };
    let time = metadata.get("countersign-time-us").expect("a time");
    wire::HandOverRequest {
        request: asked.get_ref().encode_to_vec(),
        signature: Some(wire::ReadSignature {
            key_id: binary("countersign-key-id-bin"),
            time_us: time.to_str().expect("text").parse().expect("digits"),
            nonce: binary("countersign-nonce-bin"),
            signature: binary("countersign-signature-bin"),
        }),
    }
}

/// Now, in microseconds since 1970.
///
/// # Panics
/// If the clock is before 1970.
#[must_use]
pub fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let micros = now.expect("the clock is after 1970").as_micros();
    u64::try_from(micros).expect("before the year 586524")
}

/// The request id of a submission.
///
/// # Panics
/// If it holds no command.
#[must_use]
pub fn request_id(submission: &v1::Submission) -> Vec<u8> {
    let signed = submission.signed.as_ref().expect("signed");
    let command = v1::Command::decode(signed.command.as_slice()).expect("a command");
    command.request_id
}

/// The call that takes a command.
///
/// # Panics
/// If tests do not send such a command.
#[must_use]
pub fn path_of(body: &Body) -> &'static str {
    match body {
        Body::CreateNamespace(_) => "/countersign.v1.IdentityService/CreateNamespace",
        Body::RegisterOperator(_) => "/countersign.v1.IdentityService/RegisterOperator",
        Body::RegisterAgent(_) => "/countersign.v1.IdentityService/RegisterAgent",
        Body::SetStatus(_) => "/countersign.v1.IdentityService/SetStatus",
        Body::OpenSession(_) => "/countersign.v1.SessionService/OpenSession",
        Body::CloseSession(_) => "/countersign.v1.SessionService/CloseSession",
        Body::PublishBundle(_) => "/countersign.v1.PolicyService/PublishBundle",
        Body::ActivateBundle(_) => "/countersign.v1.PolicyService/ActivateBundle",
        Body::SetHalt(_) => "/countersign.v1.PolicyService/SetHalt",
        Body::ClearHalt(_) => "/countersign.v1.PolicyService/ClearHalt",
        // Its answer begins like that of any other command.
        Body::Authorize(_) => "/countersign.v1.AuthorizationService/Authorize",
        Body::Record(_) => "/countersign.v1.AuthorizationService/Record",
        Body::Erase(_) => "/countersign.v1.LedgerService/Erase",
        Body::UpdateNamespace(_) => "/countersign.v1.IdentityService/UpdateNamespace",
        Body::UpdateMembership(_) => "/countersign.v1.ClusterService/UpdateMembership",
        other => panic!("no test sends {other:?}"),
    }
}
