//! The way to the cluster: one channel per endpoint, the next endpoint when one fails, the same bytes until the deadline.
//!
//! Sending again is safe: a request id names at most one entry, and reads change nothing.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use prost::Message;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt as _;

use crate::error::Error;
use crate::printable::printable;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long one endpoint may take at most before another is asked.
const ATTEMPT: Duration = Duration::from_secs(4);
/// The channel ends a call that takes too long. What comes before a call, such as a connection that is slow to be made, is given
/// up so much later.
const GRACE: Duration = Duration::from_millis(500);
/// Between two rounds over all endpoints.
const PAUSE: Duration = Duration::from_millis(100);
/// With less time than this no attempt is made but the first: the call would end by its own clock, and what that says would take the
/// place of what a node has said.
const LEAST: Duration = Duration::from_millis(500);
/// Rounds after which endpoints that nobody listens on are given up.
const DEAD_ROUNDS: usize = 3;
/// What is said of an endpoint that takes a call and says nothing.
const NO_ANSWER: &str = "no answer in time";
/// Why a node refuses a command that by its clock was not made just now.
const REQUEST_STALE: &str = "REQUEST_STALE";
/// Longest answer in bytes.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// The endpoints of a cluster.
#[derive(Debug)]
pub(crate) struct Endpoints {
    all: Vec<(Arc<str>, Channel)>,
    /// The one that answered last.
    preferred: AtomicUsize,
}

/// What was answered, and by whom: whoever finds it wrong can say who is to blame.
#[derive(Debug)]
pub(crate) struct Answer<A> {
    /// What was answered.
    pub(crate) answer: A,
    /// The endpoint that answered.
    pub(crate) by: Arc<str>,
}

/// What a failed attempt means.
#[derive(Debug)]
struct Attempt {
    status: Status,
    /// Nobody was there to hear it.
    unheard: bool,
}

impl Endpoints {
    /// Endpoints such as `http://127.0.0.1:7401`; nothing is dialled yet.
    ///
    /// # Errors
    /// [`Error::Configuration`]
    pub(crate) fn new(urls: &[String]) -> Result<Self, Error> {
        if urls.is_empty() {
            return Err(Error::Configuration(
                "no endpoint is given; set COUNTERSIGN_ENDPOINTS or --endpoints to the nodes' addresses, such as http://127.0.0.1:7401"
                    .to_owned(),
            ));
        }
        let all = urls.iter().map(|url| {
            let with_scheme = if url.contains("://") {
                url.clone()
            } else {
                format!("http://{url}")
            };
            let endpoint = Endpoint::from_shared(with_scheme)
                .map_err(|error| Error::Configuration(format!("the endpoint {url}: {error}")))?;
            let channel = endpoint
                .connect_timeout(CONNECT_TIMEOUT)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(Duration::from_secs(5))
                .keep_alive_timeout(Duration::from_secs(5))
                .connect_lazy();
            Ok((Arc::from(url.as_str()), channel))
        });
        Ok(Self {
            all: all.collect::<Result<_, Error>>()?,
            preferred: AtomicUsize::new(0),
        })
    }

    /// Asks one endpoint after the other until one answers, and says which that was. `request` is made anew for each attempt.
    /// `change` is the request id in hexadecimal digits if the call may change the ledger: then a failure may be undetermined.
    pub(crate) async fn call<Q, A>(
        &self,
        path: &'static str,
        request: impl Fn() -> Result<Request<Q>, Error>,
        change: Option<&str>,
        deadline: Instant,
    ) -> Result<Answer<A>, Error>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut undetermined = false;
        let mut failures = Failures::default();
        let mut round = 0;
        loop {
            let mut stale = None;
            for asked in 0..self.all.len() {
                let at = self.preferred.load(Ordering::Relaxed) % self.all.len();
                let limit = self.share(asked, deadline).min(ATTEMPT);
                let attempt = self.attempt(at, path, request()?, limit).await;
                let failed = match attempt {
                    Ok(answer) => return Ok(self.answer(at, answer)),
                    Err(failed) => failed,
                };
                let info = Info::of(&failed.status);
                undetermined |= !failed.unheard && info.outcome != "nothing";
                let refusal = info.error(&failed.status);
                let (is_stale, is_final) = (info.is_stale(), info.is_final());
                failures.note(at, failed);
                if is_stale {
                    stale = Some(refusal);
                } else if is_final {
                    let attempted = change.filter(|_| undetermined);
                    return Err(failures.verdict(self, attempted, refusal));
                }
                self.preferred.store(at + 1, Ordering::Relaxed);
                if Instant::now() + LEAST >= deadline {
                    break;
                }
            }
            // No other node took it in this round.
            let attempted = change.filter(|_| undetermined);
            if let Some(refusal) = stale {
                return Err(failures.verdict(self, attempted, refusal));
            }
            round += 1;
            let dead = failures.nobody_listens() && round >= DEAD_ROUNDS;
            if dead || Instant::now() + PAUSE + LEAST >= deadline {
                let unavailable = failures.unavailable(self);
                return Err(failures.verdict(self, attempted, unavailable));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Opens a stream of answers at the preferred endpoint, or at the next one that takes the call before the deadline.
    pub(crate) async fn stream<Q, A>(
        &self,
        path: &'static str,
        request: impl Fn() -> Result<Request<Q>, Error>,
        deadline: Instant,
    ) -> Result<Answer<Streaming<A>>, Error>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut failures = Failures::default();
        for asked in 0..self.all.len() * DEAD_ROUNDS {
            let at = self.preferred.load(Ordering::Relaxed) % self.all.len();
            let Some((_, channel)) = self.all.get(at) else {
                break;
            };
            let mut grpc =
                tonic::client::Grpc::new(channel.clone()).max_decoding_message_size(MAX_ANSWER);
            let mut request = request()?;
            // Of the opening only: a stream may go on. What it begins with may take long to make.
            let limit = self.share(asked, deadline);
            request.set_timeout(limit);
            let opened = async {
                grpc.ready().await.map_err(|error| unavailable(&error))?;
                let path = PathAndQuery::from_static(path);
                grpc.server_streaming(request, path, ProstCodec::<Q, A>::default())
                    .await
            };
            let status = match tokio::time::timeout(limit + GRACE, opened).await {
                Ok(Ok(stream)) => return Ok(self.answer(at, stream.into_inner())),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded(NO_ANSWER),
            };
            let info = Info::of(&status);
            if info.is_final() {
                return Err(info.error(&status));
            }
            self.preferred.store(at + 1, Ordering::Relaxed);
            failures.note(at, Attempt::failed(status));
            if Instant::now() + LEAST >= deadline {
                break;
            }
        }
        Err(failures.unavailable(self))
    }

    async fn attempt<Q, A>(
        &self,
        at: usize,
        path: &'static str,
        mut request: Request<Q>,
        limit: Duration,
    ) -> Result<A, Attempt>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        request.set_timeout(limit);
        let Some((_, channel)) = self.all.get(at) else {
            return Err(Attempt {
                status: Status::unavailable("no endpoint"),
                unheard: true,
            });
        };
        let mut grpc =
            tonic::client::Grpc::new(channel.clone()).max_decoding_message_size(MAX_ANSWER);
        let call = async {
            grpc.ready().await.map_err(|error| unavailable(&error))?;
            let path = PathAndQuery::from_static(path);
            grpc.unary(request, path, ProstCodec::<Q, A>::default())
                .await
        };
        let failed = match tokio::time::timeout(limit + GRACE, call).await {
            Ok(Ok(answer)) => return Ok(answer.into_inner()),
            Ok(Err(status)) => status,
            Err(_) => Status::deadline_exceeded(NO_ANSWER),
        };
        Err(Attempt::failed(failed))
    }

    /// How long the next attempt may take: what is left, shared with the endpoints that have not been asked in this round.
    fn share(&self, asked: usize, deadline: Instant) -> Duration {
        let left = deadline.saturating_duration_since(Instant::now());
        let all = self.all.len();
        let unasked = u32::try_from(all - asked % all).unwrap_or(u32::MAX);
        left / unasked
    }

    fn answer<A>(&self, at: usize, answer: A) -> Answer<A> {
        let by = self.all.get(at).map(|(url, _)| Arc::clone(url));
        Answer {
            answer,
            by: by.unwrap_or_default(),
        }
    }
}

/// How each endpoint failed when it was asked last.
#[derive(Default)]
struct Failures(BTreeMap<usize, Attempt>);

impl Failures {
    fn note(&mut self, at: usize, failed: Attempt) {
        self.0.insert(at, failed);
    }

    /// True if no endpoint has heard anything.
    fn nobody_listens(&self) -> bool {
        self.0.values().all(|failed| failed.unheard)
    }

    /// What those who answered said, and who did not.
    fn describe(&self, endpoints: &Endpoints) -> String {
        let (mut said, mut dead) = (Vec::new(), Vec::new());
        for (at, failed) in &self.0 {
            let Some((url, _)) = endpoints.all.get(*at) else {
                continue;
            };
            if failed.unheard {
                dead.push(&**url);
            } else {
                let message = printable(failed.status.message());
                said.push(format!("{url}: {message}"));
            }
        }
        if !dead.is_empty() {
            said.push(format!("nobody listens at {}", dead.join(", ")));
        }
        said.join("; ")
    }

    /// What an error means. Where a node may have taken a command, that another one does not take it says nothing of its entry.
    fn verdict(&self, endpoints: &Endpoints, attempted: Option<&str>, error: Error) -> Error {
        match attempted {
            Some(request_id) => Error::Undetermined {
                request_id: request_id.to_owned(),
                message: self.describe(endpoints),
            },
            None => error,
        }
    }

    fn unavailable(&self, endpoints: &Endpoints) -> Error {
        let what = self.describe(endpoints);
        Error::Unavailable(if self.nobody_listens() {
            format!("{what}; nothing happened, check the addresses and that the nodes run")
        } else {
            format!("{what}; nothing happened, try again")
        })
    }
}

impl Attempt {
    fn failed(status: Status) -> Self {
        Self {
            unheard: is_unheard(&status),
            status,
        }
    }
}

fn unavailable(error: &tonic::transport::Error) -> Status {
    Status::from_error(Box::new(std::io::Error::other(error.to_string())))
}

/// True if the connection was never made.
fn is_unheard(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// What a node says about a failure.
struct Info {
    reason: String,
    outcome: String,
    retry: String,
}

impl Info {
    fn of(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        let field = |name: &str| {
            info.and_then(|info| info.metadata.get(name).cloned())
                .unwrap_or_default()
        };
        Self {
            reason: info.map(|info| info.reason.clone()).unwrap_or_default(),
            outcome: field("outcome"),
            retry: field("retry"),
        }
    }

    /// True if by its own clock the node finds that the command was not made just now. It can be the node's clock that is off.
    fn is_stale(&self) -> bool {
        self.reason == REQUEST_STALE
    }

    /// True if the same bytes fail again, wherever they are sent.
    fn is_final(&self) -> bool {
        !self.reason.is_empty() && self.retry != "same_id"
    }

    fn error(&self, status: &Status) -> Error {
        let message = printable(&format!("{} ({})", status.message(), self.reason));
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => Error::NotPermitted(message),
            Code::NotFound => Error::NotFound(message),
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::InvalidArgument
            | Code::DeadlineExceeded
            | Code::AlreadyExists
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss => Error::Invalid(message),
        }
    }
}

#[cfg(test)]
mod tests;
