//! A caller that asks without pause and notes when each answer came: what it learns tells how long decisions were away, and between
//! which true times each entry was committed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use ledger_proto::v1;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::cluster::Cluster;
use crate::cluster::client::{Line, Signing, now_us, request_id};
use crate::cluster::history::{Answer, Call, Moment, Recorder};
use crate::cluster::load::{ask_within, question};
use crate::cluster::people::{Actor, entry_of};
use crate::cluster::wait::until;

/// How long a node has to answer before it is asked again.
const ATTEMPT: Duration = Duration::from_secs(1);
/// Between two questions, and between two attempts with the same node.
const PACE: Duration = Duration::from_millis(30);

/// An answer, and between which true times its entry was committed.
#[derive(Debug, Clone)]
pub(super) struct Stamp {
    /// The leaf index.
    pub(super) index: u64,
    /// The entry's time.
    pub(super) time_us: u64,
    /// When the question was first sent, by the machine's clock.
    pub(super) sent_us: u64,
    /// When its answer was there.
    pub(super) answered_us: u64,
    /// The session was said to have ended.
    pub(super) is_expired: bool,
}

#[derive(Debug, Default)]
struct Probed {
    stamps: Vec<(Moment, Stamp)>,
    blamed: BTreeSet<String>,
}

/// A running caller.
#[derive(Debug)]
pub(super) struct Probe {
    recorder: Recorder,
    probed: Arc<Mutex<Probed>>,
    end: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Probe {
    /// Starts to ask all nodes of a cluster, whether they run or not, at once.
    pub(super) fn start(cluster: &Cluster, actor: &Actor) -> Self {
        let (end, ended) = watch::channel(false);
        let probed = Arc::<Mutex<Probed>>::default();
        let asking = Asking {
            actor: actor.clone(),
            lines: cluster.open_lines(),
            signing: Arc::clone(&cluster.signing),
            recorder: cluster.recorder.clone(),
            probed: Arc::clone(&probed),
            ended,
        };
        Self {
            recorder: cluster.recorder.clone(),
            probed,
            end,
            task: tokio::spawn(asking.run()),
        }
    }

    /// How long it takes from now to the answer of a question that is sent after now; none if it is not there in time.
    pub(super) async fn answers_within(&self, at_most: Duration) -> Option<Duration> {
        let from = self.recorder.now();
        let found = until("a question is answered", at_most * 2, async || {
            let now = self.recorder.now();
            let answered = self.lock(|probed| {
                let after = probed.stamps.iter().map(|(sent, _)| *sent);
                after.filter(|sent| *sent >= from).count()
            });
            let waited = Duration::from_nanos(now - from);
            match answered {
                0 if waited < at_most => None,
                0 => Some(None),
                _ => Some(Some(waited)),
            }
        });
        found.await
    }

    /// Everything that was answered.
    pub(super) fn stamps(&self) -> Vec<Stamp> {
        self.lock(|probed| {
            let stamps = probed.stamps.iter();
            stamps.map(|(_, stamp)| stamp.clone()).collect()
        })
    }

    /// How far the newest entry is ahead of the machine's clock.
    pub(super) fn ledger_ahead(&self) -> Duration {
        let newest = self.lock(|probed| {
            let times = probed.stamps.iter().map(|(_, stamp)| stamp.time_us);
            times.max().unwrap_or(0)
        });
        Duration::from_micros(newest.saturating_sub(now_us()))
    }

    /// Refusals that say that the caller has to change the request.
    pub(super) fn blamed(&self) -> Vec<String> {
        self.lock(|probed| probed.blamed.iter().cloned().collect())
    }

    /// Ends, and waits for the last question.
    pub(super) async fn finish(self) {
        self.end.send_replace(true);
        self.task.await.expect("the caller does not panic");
    }

    fn lock<T>(&self, look: impl FnOnce(&mut Probed) -> T) -> T {
        look(&mut self.probed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The caller's task.
struct Asking {
    actor: Actor,
    lines: Vec<Line>,
    signing: Arc<Signing>,
    recorder: Recorder,
    probed: Arc<Mutex<Probed>>,
    ended: watch::Receiver<bool>,
}

impl Asking {
    async fn run(self) {
        for number in 0.. {
            if *self.ended.borrow() {
                return;
            }
            let submission = self.signing.command(question(&self.actor, number));
            let (start, sent_us) = (self.recorder.now(), now_us());
            let mut asked: FuturesUnordered<_> = self
                .lines
                .iter()
                .map(|line| self.insist(line, &submission))
                .collect();
            let mut ended = self.ended.clone();
            // The end is waited for here only as long as nothing is answered.
            let answer = tokio::select! {
                answer = asked.next() => answer.flatten(),
                _ = ended.wait_for(|ended| *ended) => None,
            };
            let (end, answered_us) = (self.recorder.now(), now_us());
            if let Some(answer) = &answer {
                let entry = entry_of(&answer.receipt);
                let stamp = Stamp {
                    index: entry.index,
                    time_us: entry.time_us,
                    sent_us,
                    answered_us,
                    is_expired: is_expired(&entry),
                };
                let mut probed = self.probed.lock().unwrap_or_else(PoisonError::into_inner);
                probed.stamps.push((start, stamp));
            }
            let call = Call {
                request_id: request_id(&submission),
                start,
                last_start: start,
                end,
                failures: 0,
                answer,
                again: Vec::new(),
            };
            self.recorder.write(|history| history.calls.push(call));
            pause().await;
        }
    }

    /// Asks one node until it answers.
    async fn insist(&self, line: &Line, submission: &v1::Submission) -> Option<Answer> {
        loop {
            match ask_within(line, submission, ATTEMPT).await {
                Ok(answer) => return Some(answer),
                Err(failed) if failed.can_repeat() => {}
                Err(failed) => {
                    let words = format!(
                        "node {} refused a good request: {} ({})",
                        line.node, failed.message, failed.reason
                    );
                    let mut probed = self.probed.lock().unwrap_or_else(PoisonError::into_inner);
                    probed.blamed.insert(words);
                }
            }
            pause().await;
        }
    }
}

async fn pause() {
    let _ = tokio::time::timeout(PACE, std::future::pending::<()>()).await;
}

/// True for a decision that says that the session is over.
fn is_expired(entry: &v1::Entry) -> bool {
    let Some(v1::entry::Body::Decision(decision)) = &entry.body else {
        return false;
    };
    let over = [
        v1::DecisionReason::SessionExpired,
        v1::DecisionReason::SessionClosed,
        v1::DecisionReason::SessionUnknown,
    ];
    over.contains(&decision.reason())
}
