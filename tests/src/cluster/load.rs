//! Load: many writers that ask without pause, never give up, and write down what they saw.

use std::sync::Arc;
use std::time::Duration;

use ledger_core::id::Identity;
use ledger_proto::v1;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::Request;

use super::Cluster;
use super::client::{Failed, Line, Signing, request_id};
use super::history::{Answer, Call, Recorder};
use super::people::Actor;
use super::wait::until;
use crate::kit::{Ask, authorize_body};

/// The call of a question.
const AUTHORIZE: &str = "/countersign.v1.AuthorizationService/Authorize";
/// How long one attempt may take before the next node is asked.
const ATTEMPT: Duration = Duration::from_secs(5);
/// How long a writer goes on with its last question when the load ends.
const LAST: Duration = Duration::from_secs(60);
/// How long a writer whom no node could answer leaves them alone: without it, writers would keep the machine busy that
/// elects the next leader.
const PACE: Duration = Duration::from_millis(20);
/// Every so many questions one is a payment, of which the rules allow three.
const PAYMENTS: u64 = 16;
/// Every so many questions one is sent again after its answer.
const REPEATS: u64 = 8;
/// What inputs hold that no leaf may hold.
pub const SECRET: &str = "private-matter";

/// Running load.
#[derive(Debug)]
pub struct Load {
    end: watch::Sender<bool>,
    writers: JoinSet<()>,
    recorder: Recorder,
}

impl Load {
    /// Starts one writer for each actor, over connections of its own.
    #[must_use]
    pub fn start(cluster: &Cluster, actors: &[Actor]) -> Self {
        Self::begin(cluster, actors, true)
    }

    /// The same, but nothing is remembered: for runs whose history would not fit into memory.
    #[must_use]
    pub fn unrecorded(cluster: &Cluster, actors: &[Actor]) -> Self {
        Self::begin(cluster, actors, false)
    }

    fn begin(cluster: &Cluster, actors: &[Actor], recorded: bool) -> Self {
        let (end, ended) = watch::channel(false);
        let mut writers = JoinSet::new();
        for (number, actor) in (0_u64..).zip(actors) {
            let writer = Writer {
                number,
                actor: actor.clone(),
                lines: cluster.open_lines(),
                signing: Arc::clone(&cluster.signing),
                recorder: cluster.recorder.clone(),
                ended: ended.clone(),
                recorded,
            };
            writers.spawn(writer.run());
        }
        Self {
            end,
            writers,
            recorder: cluster.recorder.clone(),
        }
    }

    /// How many calls were answered so far.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.recorder.answered()
    }

    /// Waits until so many more calls are answered.
    ///
    /// # Panics
    /// If they are not in time.
    pub async fn flows(&self, calls: usize, at_most: Duration) {
        let target = self.recorder.answered() + calls;
        let what = format!("{calls} more calls are answered");
        until(&what, at_most, async || {
            (self.recorder.answered() >= target).then_some(())
        })
        .await;
    }

    /// Lets the writers finish their last question, and waits for them.
    ///
    /// # Panics
    /// If a writer panicked.
    pub async fn finish(mut self) {
        self.end.send_replace(true);
        while let Some(writer) = self.writers.join_next().await {
            writer.expect("a writer does not panic");
        }
    }
}

impl Cluster {
    /// New connections to all nodes, also to those that do not run yet.
    #[must_use]
    pub fn open_lines(&self) -> Vec<Line> {
        let nodes = self.files.iter();
        nodes
            .map(|(id, node)| Line::new(*id, &node.client.to_string()))
            .collect()
    }

    /// Asks running nodes in turn until one answers a new question, and says how long that took.
    ///
    /// # Panics
    /// If none answers in time.
    pub async fn time_to_answer(&self, actor: &Actor) -> Duration {
        let start = std::time::Instant::now();
        let _ = self.answer(actor).await;
        start.elapsed()
    }

    /// The leaf of a new decision.
    ///
    /// # Panics
    /// If no running node answers in time.
    pub async fn decide(&self, actor: &Actor) -> u64 {
        self.answer(actor).await.index().0
    }

    /// The first answer of a running node to a new question.
    async fn answer(&self, actor: &Actor) -> Answer {
        let submission = self.signing.command(question(actor, 0));
        let nodes = self.nodes();
        let lines = nodes.iter().map(|node| self.line(*node));
        let mut lines = lines.cycle();
        until("a question is answered", super::RECOVERY, async || {
            let line = lines.next().expect("a node runs");
            ask(line, &submission).await.ok()
        })
        .await
    }
}

/// Asks one node once.
///
/// # Errors
/// [`Failed`]
pub async fn ask(line: &Line, submission: &v1::Submission) -> Result<Answer, Failed> {
    ask_within(line, submission, ATTEMPT).await
}

/// Asks one node once, with another deadline.
///
/// # Errors
/// [`Failed`]
pub async fn ask_within(
    line: &Line,
    submission: &v1::Submission,
    deadline: Duration,
) -> Result<Answer, Failed> {
    let request = Request::new(v1::AuthorizeRequest {
        submission: Some(submission.clone()),
        receipt_level: v1::ReceiptLevel::Committed.into(),
    });
    let answer: v1::AuthorizeResponse = line.call(AUTHORIZE, request, deadline).await?;
    Ok(Answer {
        node: line.node,
        receipt: answer.receipt.expect("an answer has a receipt"),
        replayed: answer.replayed,
    })
}

/// The question of an actor with a number: mostly free reading, now and then a payment, of which the rules allow three.
#[must_use]
pub fn question(actor: &Actor, number: u64) -> Ask {
    let (tool, input) = if number % PAYMENTS == PAYMENTS - 1 {
        (
            "bank/pay",
            format!(r#"{{"to":"{SECRET}-{number}","amount":1}}"#),
        )
    } else {
        ("bank/read", format!(r#"{{"doc":"{SECRET}-{number}"}}"#))
    };
    let body = authorize_body(&actor.agent, actor.session, tool);
    Ask::new(Identity::Agent(actor.agent.clone()), body)
        .with(v1::CompartmentKind::Input, input.as_bytes())
}

/// One of the many.
struct Writer {
    number: u64,
    actor: Actor,
    lines: Vec<Line>,
    signing: Arc<Signing>,
    recorder: Recorder,
    ended: watch::Receiver<bool>,
    recorded: bool,
}

impl Writer {
    async fn run(self) {
        for number in 0.. {
            if *self.ended.borrow() {
                return;
            }
            let question = question(&self.actor, number);
            if !self.recorded {
                let submission = self.signing.forget(question);
                self.until_answered(&submission).await;
                continue;
            }
            let submission = self.signing.command(question);
            let mut call = self.until_answered(&submission).await;
            if call.answer.is_some() && number % REPEATS == self.number % REPEATS {
                self.again(&submission, &mut call, number).await;
            }
            self.recorder.write(|history| history.calls.push(call));
        }
    }

    /// Sends the same bytes to one node after the other until one answers, or until the load has ended long ago.
    async fn until_answered(&self, submission: &v1::Submission) -> Call {
        let start = self.recorder.now();
        let mut call = Call {
            request_id: request_id(submission),
            start,
            last_start: start,
            end: start,
            failures: 0,
            answer: None,
            again: Vec::new(),
        };
        let mut given_up = None;
        // Each writer has its own favourite, so that all nodes have work.
        let first = usize::try_from(self.number).expect("few writers") % self.lines.len();
        for line in self.lines.iter().cycle().skip(first) {
            call.last_start = self.recorder.now();
            let result = ask(line, submission).await;
            call.end = self.recorder.now();
            match result {
                Ok(answer) => {
                    call.answer = Some(answer);
                    return call;
                }
                Err(failed) => assert!(
                    failed.can_repeat(),
                    "node {} refused a good request: {failed:?}",
                    line.node
                ),
            }
            call.failures += 1;
            if *self.ended.borrow() {
                let since = *given_up.get_or_insert(call.end);
                if Duration::from_nanos(call.end - since) > LAST {
                    return call;
                }
            }
            let _ = tokio::time::timeout(PACE, std::future::pending::<()>()).await;
        }
        call
    }

    /// Sends bytes again that were answered; a node that fails now is no matter.
    async fn again(&self, submission: &v1::Submission, call: &mut Call, number: u64) {
        let which = usize::try_from(number).expect("few questions") % self.lines.len();
        if let Some(line) = self.lines.get(which)
            && let Ok(answer) = ask(line, submission).await
        {
            call.again.push(answer);
        }
    }
}
