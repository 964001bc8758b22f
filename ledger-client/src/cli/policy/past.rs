//! Past actions for the tools of authors: from a file of recorded actions, or from the ledger itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Args;
use ledger_core::audit::Sound;
use ledger_core::hash::TreeHash;
use ledger_core::id::Identity;
use ledger_proto::v1::{self, CompartmentKind, ExecutionStatus, command::Body as Ask, entry::Body};
use policy_engine::{
    Agent, Assurance, Issuer, Recorder, Rehearsal, Request, Resource, StringSets, Subject,
};

use super::super::audit::{TimeAudit, every_entry, progress};
use super::super::connection::{Connection, Speaker, block_on};
use super::super::replay::trace::{Action, Opening, Openings, Session, Trace};
use super::super::{Exit, Failure};

/// Between two actions of a file that does not say when they happened.
const STEP_US: u64 = 1_000_000;
/// When the first action of such a file happens: 2026-01-01T00:00:00Z.
const START_US: u64 = 1_767_225_600_000_000;
/// Most past actions that are taken from a ledger.
const MAX_ACTIONS: usize = 1_000_000;
/// Who owns the agents of a file and opens their sessions.
const OWNER: &str = "owner";

/// Where past actions come from.
#[derive(Debug, Args)]
pub(super) struct Source {
    /// A file of recorded actions, as `replay` takes it. Its agents own no attributes, and `ts` says when, if it is there.
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "ledger",
        conflicts_with = "ledger"
    )]
    traces: Option<PathBuf>,
    /// What sessions of the file were opened with, as `replay` takes it.
    #[arg(long, value_name = "FILE", requires = "traces")]
    sessions: Option<PathBuf>,
    /// The decisions of the ledger, every entry checked as `audit` does. Needs the role auditor for `*`.
    #[arg(long)]
    ledger: bool,
    /// Only decisions of this namespace.
    #[arg(long, requires = "ledger")]
    namespace: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

/// What became of an action.
#[derive(Debug)]
pub(super) struct Ended {
    /// The namespace.
    pub(super) namespace: String,
    /// Of the request.
    pub(super) request_id: String,
    /// When.
    pub(super) time_us: u64,
    /// False if the action failed.
    pub(super) succeeded: bool,
    /// Who says so.
    pub(super) recorder: Recorder,
    /// The JSON that it gave, if it is known.
    pub(super) output: Option<Vec<u8>>,
}

impl Ended {
    /// Tells a bundle that rehearses.
    pub(super) fn tell(&self, rehearsal: &mut Rehearsal<'_>) {
        rehearsal.outcome(
            &self.request_id,
            self.time_us,
            self.succeeded,
            &self.recorder,
            self.output.as_deref(),
        );
    }
}

/// Something that happened.
#[derive(Debug)]
pub(super) enum Step {
    /// An action was asked for.
    Asked(Box<Asked>),
    /// It was executed.
    Ended(Ended),
}

/// An action that was asked for.
#[derive(Debug)]
pub(super) struct Asked {
    /// The line of the file, from 1, or the index of the entry.
    pub(super) place: u64,
    /// The namespace, or the suite of the file.
    pub(super) namespace: String,
    /// The request, as rules see it.
    pub(super) request: Request,
}

/// What happened, in order.
#[derive(Debug, Default)]
pub(super) struct Past {
    pub(super) steps: Vec<Step>,
    /// Decisions that cannot be made again: rules were not asked, or what they were asked is erased.
    pub(super) left_out: u64,
    /// Request ids by the index of the decision.
    requests: BTreeMap<u64, (String, String)>,
    only: Option<String>,
    is_too_long: bool,
}

impl Past {
    pub(super) fn read(source: &Source) -> Result<Self, Failure> {
        let past = match &source.traces {
            Some(path) => of_file(path, source.sessions.as_deref())?,
            None => of_ledger(source)?,
        };
        if past.is_too_long {
            let what = format!("there are more than {MAX_ACTIONS} decisions; choose a --namespace");
            return Err(Failure::new(Exit::Configuration, what));
        }
        Ok(past)
    }

    /// The namespaces in which something was asked.
    pub(super) fn namespaces(&self) -> BTreeSet<&str> {
        let names = self.steps.iter().filter_map(|step| match step {
            Step::Asked(asked) => Some(asked.namespace.as_str()),
            Step::Ended(_) => None,
        });
        names.collect()
    }

    fn add(&mut self, entry: &v1::Entry, compartments: &[v1::Compartment], sound: Sound) {
        match &entry.body {
            Some(Body::Decision(decision)) => {
                if self
                    .only
                    .as_ref()
                    .is_some_and(|only| *only != decision.namespace)
                {
                    return;
                }
                let Some(request) = sound.asked.filter(|_| !sound.believed) else {
                    self.left_out += 1;
                    return;
                };
                if self.requests.len() == MAX_ACTIONS {
                    self.is_too_long = true;
                    return;
                }
                let names = (decision.namespace.clone(), request.request_id.clone());
                self.requests.insert(entry.index, names);
                self.steps.push(Step::Asked(Box::new(Asked {
                    place: entry.index,
                    namespace: decision.namespace.clone(),
                    request: *request,
                })));
            }
            // What is not observed, such as an outcome with drift, says nothing to rules.
            Some(Body::Outcome(outcome)) if outcome.observed => {
                let command = ledger_core::entry::command(entry).ok().flatten();
                let Some(Ask::Record(record)) = command.and_then(|command| command.body) else {
                    return;
                };
                let Some((namespace, request_id)) = self.requests.get(&record.decision_index)
                else {
                    return;
                };
                let output = compartments
                    .iter()
                    .find(|compartment| compartment.kind() == CompartmentKind::Output);
                self.steps.push(Step::Ended(Ended {
                    namespace: namespace.clone(),
                    request_id: request_id.clone(),
                    time_us: entry.time_us,
                    succeeded: record.status() == ExecutionStatus::Succeeded,
                    recorder: recorder(outcome),
                    output: output.map(|output| output.content.clone()),
                }));
            }
            _ => {}
        }
    }
}

/// Whose word an outcome is.
fn recorder(outcome: &v1::Outcome) -> Recorder {
    let recorder = outcome.recorder.as_ref();
    match recorder.and_then(|recorder| Identity::parse(recorder).ok()) {
        Some(Identity::Gateway(id)) => Recorder::Gateway(id),
        Some(
            Identity::Agent(_) | Identity::Operator(_) | Identity::Node(_) | Identity::Recovery,
        )
        | None => Recorder::Agent,
    }
}

fn of_ledger(source: &Source) -> Result<Past, Failure> {
    let past = Past {
        only: source.namespace.clone(),
        ..Past::default()
    };
    block_on(async {
        let client = source.connection.open(Speaker::Any).await?;
        let add =
            |past: &mut Past, entry: &v1::Entry, compartments: Vec<v1::Compartment>, sound| {
                past.add(entry, &compartments, sound);
            };
        let times = TimeAudit::default();
        let past = every_entry(&client, true, &progress(), times, past, add)
            .await?
            .seen;
        Ok(past)
    })
}

fn of_file(path: &Path, sessions: Option<&Path>) -> Result<Past, Failure> {
    let trace = Trace::read(path)?;
    let openings = match sessions {
        Some(path) => Openings::read(path)?,
        None => Openings::default(),
    };
    let mut sessions: BTreeMap<usize, (&Session, Opening, u64)> = BTreeMap::new();
    for session in &trace.sessions {
        for (seq, place) in (1_u64..).zip(&session.actions) {
            sessions.insert(*place, (session, openings.of(session), seq));
        }
    }
    let mut past = Past::default();
    let mut opened: BTreeMap<String, u64> = BTreeMap::new();
    let mut now_us = START_US;
    for (place, action) in trace.actions.iter().enumerate() {
        let Some((session, opening, seq)) = sessions.remove(&place) else {
            continue;
        };
        let said = action.time.map(|time| time.as_microsecond());
        now_us = said
            .and_then(|time| u64::try_from(time).ok())
            .unwrap_or(now_us)
            .max(now_us.saturating_add(if said.is_some() { 1 } else { STEP_US }));
        let mut request = request(session, action, place, &opening);
        let opened_at = opened.entry(request.session.id.clone()).or_insert(now_us);
        request.session.opened_at_us = *opened_at;
        request.session.seq = seq;
        request.time_us = now_us;
        let ended = Step::Ended(Ended {
            namespace: session.suite.clone(),
            request_id: request.request_id.clone(),
            time_us: now_us,
            succeeded: action.status == ExecutionStatus::Succeeded,
            // As `replay` does it: the agents record for themselves.
            recorder: Recorder::Agent,
            output: None,
        });
        past.steps.push(Step::Asked(Box::new(Asked {
            place: u64::try_from(place).map_or(u64::MAX, |place| place.saturating_add(1)),
            namespace: session.suite.clone(),
            request,
        })));
        past.steps.push(ended);
    }
    Ok(past)
}

/// The request that `replay` would make of a recorded action.
fn request(session: &Session, action: &Action, place: usize, opening: &Opening) -> Request {
    let agent = session.agent_id();
    let names = [session.suite.as_str(), &session.agent, &session.name].join("\0");
    let id = TreeHash::Blake3.leaf(names.as_bytes()).to_string();
    let told = opening.context.clone().unwrap_or_default();
    let grants: StringSets = told
        .grants
        .into_iter()
        .map(|set| (set.name, set.values.into_iter().collect()))
        .collect();
    Request {
        time_us: 0,
        request_id: format!("{place:032x}"),
        agent: Agent {
            id: agent,
            owner: OWNER.to_owned(),
            groups: BTreeSet::new(),
            attributes: BTreeMap::new(),
        },
        session: policy_engine::Session {
            id: id.chars().take(32).collect(),
            purpose: Some(told.purpose).filter(|purpose| !purpose.is_empty()),
            issuer: Issuer::Operator(OWNER.to_owned()),
            delegated: false,
            seq: 0,
            opened_at_us: 0,
            subject: told.subject.map(|subject| Subject {
                iss: subject.iss,
                sub: subject.sub,
                assurance: "ISSUER_ASSERTED".to_owned(),
            }),
            grants,
        },
        presenter: None,
        assurance: Assurance::AgentSigned,
        action: action.tool.clone(),
        resource: Resource {
            id: action.tool.clone(),
            kind: None,
            parents: BTreeSet::new(),
            attributes: BTreeMap::new(),
        },
        input: action.args.clone().into_bytes(),
        claims: StringSets::new(),
        approval: None,
    }
}
