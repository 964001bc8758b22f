//! Submissions on their way to the leader: one stream per leader, many submissions on it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt};
use ledger_proto::peer::v1 as wire;
use ledger_proto::v1::{self, ErrorReason};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::admission::{Admission, Admitted, Candidate};
use super::pace::Pace;
use super::queue::Queue;
use crate::failure::{Answer, Failure};
use crate::raft::adjustment::adjusted_at;
use crate::raft::peers::{Peers, Purpose};
use crate::raft::standing::{Leading, Standing};

/// Most submissions on the way to the leader that it has not taken yet.
const MAX_UNANSWERED: usize = 1_024;
/// Most forwarded submissions of one stream that are looked at at a time.
const TAKEN_AT_A_TIME: usize = 16;
/// How long the leader may take to know what its quorum knows, before it says that it does not lead.
const PATIENCE: Duration = Duration::from_secs(2);

/// The leader's end. It takes from another node what it would take from a client, and nothing else: a node can be wrong, and
/// what cannot be proposed would stand in everybody's way.
#[derive(Debug, Clone)]
pub struct Receiving {
    /// Where submissions wait.
    pub queue: Arc<Queue>,
    /// Whether this node leads.
    pub standing: watch::Receiver<Standing>,
    /// What every command passes first.
    pub admission: Arc<Admission>,
    /// Whether this node's clock runs evenly.
    pub pace: Arc<Pace>,
}

impl Receiving {
    /// Answers each request of a stream, in any order.
    pub fn answers<E>(
        self,
        requests: impl Stream<Item = Result<wire::ForwardRequest, E>>,
    ) -> impl Stream<Item = Result<wire::ForwardResponse, E>> {
        requests
            .map(move |request| {
                let receiving = self.clone();
                // In tasks of their own: checking signatures takes a thread for a while.
                let taken = request
                    .map(|request| tokio::spawn(async move { receiving.take(request).await }));
                async move {
                    // A task that panicked has said so; the sender brings the command again.
                    Ok(taken?.await.unwrap_or_default())
                }
            })
            .buffer_unordered(TAKEN_AT_A_TIME)
    }

    /// Queues a forwarded submission, or says why not.
    async fn take(&self, request: wire::ForwardRequest) -> wire::ForwardResponse {
        let mut response = wire::ForwardResponse {
            correlation_id: request.correlation_id,
            ..wire::ForwardResponse::default()
        };
        match self.queue(request.submission).await {
            Ok(taken) => response.not_leader = !taken,
            // A leader without a quorum leads nobody; the sender finds out who does.
            Err(failure) if failure.reason == ErrorReason::NoQuorum => response.not_leader = true,
            Err(failure) => response.error = Some(failure.to_call_error()),
        }
        response
    }

    /// False if this node does not lead.
    async fn queue(&self, submission: Option<v1::Submission>) -> Answer<bool> {
        let submission = submission
            .ok_or_else(|| Failure::new(ErrorReason::CommandMalformed, "no submission"))?;
        if !self.leads(&submission) {
            return Ok(false);
        }
        let deadline = Instant::now() + PATIENCE;
        match self.admission.admit(&submission, deadline).await? {
            // The sender finds the entry in what it applies itself.
            Admitted::Known => Ok(true),
            // It may have lost leadership meanwhile.
            Admitted::New(_) if !self.leads(&submission) => Ok(false),
            Admitted::New(candidate) => {
                enqueue(&self.queue, &candidate, submission)?;
                Ok(true)
            }
        }
    }

    /// True if this node leads and may propose this, and its clock can tell a command that is fresh from one that is not.
    fn leads(&self, submission: &v1::Submission) -> bool {
        let clock = &self.admission.clock;
        let leading = self.standing.borrow().leading.clone();
        let may_propose = match leading {
            Leading::This => true,
            Leading::ThisAdjusting => adjusted_at(submission).is_some(),
            Leading::Other { .. } | Leading::Nobody => false,
        };
        may_propose && !self.pace.is_broken(clock.now_us(), clock.instant())
    }
}

/// Puts a submission into the leader's queue under its author.
///
/// # Errors
/// The queue is full.
pub fn enqueue(
    queue: &Queue,
    candidate: &Candidate,
    submission: v1::Submission,
) -> Result<(), Failure> {
    let author = candidate.author.to_string();
    Ok(queue.push(&author, candidate.key, submission)?)
}

/// What the leader said.
#[derive(Debug)]
pub enum Forwarded {
    /// It is in the leader's queue.
    Queued,
    /// It is not, for this reason.
    Refused(v1::CallError),
    /// It is not: that node does not lead.
    NotLeader,
    /// The stream broke: nobody knows.
    Lost,
}

type Waiting = (v1::Submission, oneshot::Sender<Forwarded>);

/// The other end.
#[derive(Debug)]
pub struct Forwarder {
    peers: Arc<Peers>,
    streams: Mutex<HashMap<(u64, String), mpsc::Sender<Waiting>>>,
}

impl Forwarder {
    /// No streams yet.
    #[must_use]
    pub fn new(peers: Arc<Peers>) -> Self {
        Self {
            peers,
            streams: Mutex::default(),
        }
    }

    /// Hands a submission to a leader.
    pub async fn forward(
        &self,
        leader: u64,
        address: &str,
        submission: v1::Submission,
    ) -> Forwarded {
        let (done, answer) = oneshot::channel();
        let sent = self.stream(leader, address).try_send((submission, done));
        match sent {
            Ok(()) => answer.await.unwrap_or(Forwarded::Lost),
            Err(TrySendError::Full(_)) => Forwarded::Refused(too_many().to_call_error()),
            Err(TrySendError::Closed(_)) => Forwarded::Lost,
        }
    }

    fn stream(&self, leader: u64, address: &str) -> mpsc::Sender<Waiting> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.retain(|_, stream| !stream.is_closed());
        let key = (leader, address.to_owned());
        if let Some(stream) = streams.get(&key) {
            return stream.clone();
        }
        let (stream, waiting) = mpsc::channel(MAX_UNANSWERED);
        tokio::spawn(run(
            Arc::clone(&self.peers),
            leader,
            address.to_owned(),
            waiting,
        ));
        streams.insert(key, stream.clone());
        stream
    }
}

/// Callers who could do nothing but wait are told at once, as by a full queue.
fn too_many() -> Failure {
    let what = format!(
        "{MAX_UNANSWERED} commands wait on this node for their way to the leader; send the same command again in a moment"
    );
    Failure::new(ErrorReason::QueueFull, what).after(Duration::from_millis(100))
}

/// Serves one stream until it breaks. Whoever waits on it then hears that nobody knows.
async fn run(
    peers: Arc<Peers>,
    leader: u64,
    address: String,
    mut waiting: mpsc::Receiver<Waiting>,
) {
    let (requests, outgoing) = mpsc::channel(MAX_UNANSWERED);
    let Ok(mut client) = peers.client(leader, &address, Purpose::Other) else {
        return;
    };
    let request = peers.request(leader, ReceiverStream::new(outgoing));
    let mut answers = match client.forward(request).await {
        Ok(answers) => answers.into_inner(),
        Err(status) => {
            tracing::debug!(%status, leader, "cannot forward");
            return;
        }
    };
    let mut unanswered: HashMap<u64, oneshot::Sender<Forwarded>> = HashMap::new();
    let mut next_id = 0_u64;
    loop {
        tokio::select! {
            next = waiting.recv(), if unanswered.len() < MAX_UNANSWERED => {
                let Some((submission, done)) = next else { return };
                // Its caller has given up, or goes to another leader.
                if done.is_closed() {
                    continue;
                }
                next_id += 1;
                unanswered.insert(next_id, done);
                let request = wire::ForwardRequest {
                    correlation_id: next_id,
                    submission: Some(submission),
                };
                if requests.send(request).await.is_err() {
                    return;
                }
            }
            answer = answers.message() => {
                let Ok(Some(answer)) = answer else { return };
                let Some(done) = unanswered.remove(&answer.correlation_id) else { continue };
                let forwarded = match answer.error {
                    _ if answer.not_leader => Forwarded::NotLeader,
                    Some(error) => Forwarded::Refused(error),
                    None => Forwarded::Queued,
                };
                // The caller may have given up.
                let _ = done.send(forwarded);
            }
        }
    }
}
