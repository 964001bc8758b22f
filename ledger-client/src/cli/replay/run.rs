//! Sessions in parallel, the actions of each in their order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use indicatif::ProgressBar;
use ledger_core::id::SessionId;
use ledger_proto::v1::{self, CompartmentKind, ExecutionStatus, Verdict, command::Body};
use prost::Message as _;
use tokio::task::JoinSet;

use super::super::Failure;
use super::trace::{Action, Openings, Session, Trace};
use crate::action::{Execution, Question};
use crate::answer::Level;
use crate::client::{Client, Submitted};
use crate::decision::Decision;
use crate::error::Error;
use crate::govern::must_have_applied;
use crate::signing::{Ask, Content, Signed};

/// How often the same request is sent before a cluster that gives no answer is given up; each takes up to `--timeout`.
const ATTEMPTS: usize = 6;

/// What is asked, by whom.
pub(super) struct Work {
    /// The operator, who opens and closes sessions.
    pub(super) operator: Client,
    /// By agent id.
    pub(super) agents: BTreeMap<String, Client>,
    /// What is asked.
    pub(super) trace: Trace,
    /// What sessions are opened with.
    pub(super) openings: Openings,
    /// Counts actions.
    pub(super) bar: ProgressBar,
}

/// What came of one action.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// The action's place in the file, from 0.
    pub(super) place: usize,
    /// The entry.
    pub(super) index: u64,
    /// The verdict's name.
    pub(super) verdict: &'static str,
    /// The reason's name.
    pub(super) reason: &'static str,
    /// The rules that determined it.
    pub(super) rules: Vec<String>,
    /// What its receipt was worth when it came.
    pub(super) level: Level,
    /// The size of the tree that it was proven to be in.
    pub(super) tree_size: u64,
    /// True if an outcome was recorded.
    pub(super) recorded: bool,
}

/// Asks for everything, so many sessions at a time. The rows are in the order of the file.
pub(super) async fn all(work: &Arc<Work>, parallel: usize) -> Result<Vec<Row>, Failure> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..parallel {
        let (work, next) = (Arc::clone(work), Arc::clone(&next));
        workers.spawn(async move {
            let mut rows = Vec::new();
            while let Some(session) = work
                .trace
                .sessions
                .get(next.fetch_add(1, Ordering::Relaxed))
            {
                rows.extend(one(&work, session).await?);
            }
            Ok::<_, Error>(rows)
        });
    }
    let mut rows = Vec::with_capacity(work.trace.actions.len());
    while let Some(ended) = workers.join_next().await {
        let ended = ended.map_err(|error| Error::Internal(error.to_string()))?;
        rows.extend(ended?);
    }
    rows.sort_by_key(|row| row.place);
    Ok(rows)
}

/// One session, from its opening to its end.
async fn one(work: &Work, session: &Session) -> Result<Vec<Row>, Error> {
    let agent = session.agent_id();
    let client = work
        .agents
        .get(&agent)
        .ok_or_else(|| Error::Internal(format!("the agent `{agent}` was not prepared")))?;
    let id = open(work, session, agent.clone()).await?;
    let mut rows = Vec::with_capacity(session.actions.len());
    for place in &session.actions {
        let Some(action) = work.trace.actions.get(*place) else {
            continue;
        };
        let mut question =
            Question::new(agent.clone(), id, action.tool.clone(), action.args.clone());
        question.tool_call_id.clone_from(&action.call_id);
        let decision = ask(client, &client.sign_one(question.ask())?).await?;
        let recorded = decision.verdict() == Verdict::Allow;
        let row = Row {
            place: *place,
            index: decision.proven.index,
            verdict: decision.verdict_name(),
            reason: decision.reason_name(),
            rules: decision.rules().to_vec(),
            level: decision.proven.level,
            tree_size: decision.proven.checkpoint.size().0,
            recorded,
        };
        if recorded {
            record(client, decision, action).await?;
        }
        rows.push(row);
        work.bar.inc(1);
    }
    let body = Body::CloseSession(v1::CloseSession {
        session_id: id.to_vec(),
    });
    applied(&work.operator, body.into()).await?;
    Ok(rows)
}

async fn open(work: &Work, session: &Session, agent: String) -> Result<SessionId, Error> {
    let opening = work.openings.of(session);
    let mut ask = Ask::from(Body::OpenSession(v1::OpenSession {
        agent,
        scope: opening.scope,
        label: session.name.clone(),
        ..v1::OpenSession::default()
    }));
    if let Some(context) = opening.context {
        ask = ask.with(Content::new(
            CompartmentKind::Context,
            context.encode_to_vec(),
        ));
    }
    let opened = applied(&work.operator, ask).await?;
    SessionId::from_slice(&opened.request_id.to_vec())
        .map_err(|error| Error::Internal(error.to_string()))
}

/// Records how an allowed action ended. One that may not begin any more was not executed.
async fn record(client: &Client, decision: Decision, action: &Action) -> Result<(), Error> {
    let (index, salt) = (decision.proven.index, decision.input_salt);
    let input = action.args.clone().into_bytes();
    let execution = match decision.require() {
        Ok(permit) => Execution {
            result_digest: action.result.clone(),
            ..Execution::of(&permit, action.status, input)
        },
        Err(_) => Execution {
            decision: index,
            status: ExecutionStatus::NotExecuted,
            input_salt: salt,
            input: Some(input),
            keep_input: false,
            output: None,
            result_digest: None,
            redemption: None,
            started_at_us: 0,
            finished_at_us: 0,
        },
    };
    let signed = client.sign_one(execution.ask())?;
    send(client, &signed).await.map(|_| ())
}

async fn applied(client: &Client, ask: Ask) -> Result<Submitted, Error> {
    let signed = client.sign_one(ask)?;
    must_have_applied(send(client, &signed).await?)
}

async fn ask(client: &Client, signed: &Signed) -> Result<Decision, Error> {
    let mut answer = client.ask(signed).await;
    for _ in 1..ATTEMPTS {
        match answer {
            Err(Error::Unavailable(_) | Error::Undetermined { .. }) => {
                answer = client.ask(signed).await;
            }
            other => return other,
        }
    }
    answer
}

async fn send(client: &Client, signed: &Signed) -> Result<Submitted, Error> {
    let mut answer = client.send(signed).await;
    for _ in 1..ATTEMPTS {
        match answer {
            Err(Error::Unavailable(_) | Error::Undetermined { .. }) => {
                answer = client.send(signed).await;
            }
            other => return other,
        }
    }
    answer
}
