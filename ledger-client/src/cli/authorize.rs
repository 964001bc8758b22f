//! `ledger-client authorize` and `simulate`: the execution boundary for scripts and gateways.

use std::io::Write;
use std::sync::OnceLock;

use clap::Args;
use ledger_core::id::Identity;
use ledger_core::limits::MAX_INPUT_LEN;
use ledger_proto::v1::{self, Verdict};
use serde_json::{Value, json};

use super::argument::text;
use super::connection::{Connection, Speaker, block_on, block_on_or};
use super::session::parse_session;
use super::show::printable;
use super::{Exit, Failure, explanation, permits, print_json, requests};
use crate::action::Question;
use crate::client::Client;
use crate::decision::Decision;
use crate::error::Error;
use crate::paths;

/// One question.
#[derive(Debug, Args)]
pub(super) struct Asking {
    /// The agent that acts. Default: the agent of `--key`.
    #[arg(long)]
    agent: Option<String>,
    /// Its session.
    #[arg(long, value_name = "ID")]
    session: String,
    /// What it wants to do: `server/tool`, or `tool`.
    #[arg(long)]
    action: String,
    /// The tool's arguments, a JSON object; `@FILE` reads a file, `-` standard input.
    #[arg(long, value_name = "JSON")]
    input: String,
    /// What the action is about, if it is not the tool itself.
    #[arg(long, value_name = "ID")]
    resource: Option<String>,
    /// The application's type of the resource.
    #[arg(long, value_name = "TYPE", requires = "resource")]
    resource_type: Option<String>,
    /// A fact about the resource; counts when a gateway that may assert it asks; can be repeated.
    #[arg(
        long = "resource-attribute",
        value_name = "NAME=VALUE",
        requires = "resource"
    )]
    resource_attributes: Vec<String>,
    /// The model's name for the call.
    #[arg(long, default_value = "", hide_default_value = true)]
    tool_call_id: String,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Args)]
pub(super) struct Authorize {
    #[command(flatten)]
    asking: Asking,
    /// The request id to use, in hexadecimal digits. A request that was sent from here under it within a day is sent again as it
    /// was, whatever became of it: an id names at most one entry.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// A critical condition that the caller fulfils; can be repeated. A decision under any other is taken for a DENY.
    #[arg(long = "knows", value_name = "CONDITION")]
    known: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Simulate {
    #[command(flatten)]
    asking: Asking,
    /// Also show why: the rules that determine it, the permits that came nearest and the clause that failed, who vouches for
    /// what they read, and what they counted.
    #[arg(long)]
    explain: bool,
}

/// The tool's arguments. They are read before anybody is asked: standard input can take for ever.
fn input(asking: &Asking) -> Result<String, Failure> {
    String::from_utf8(text(&asking.input, MAX_INPUT_LEN)?)
        .map_err(|_| Failure::new(Exit::Usage, "the input is not UTF-8"))
}

fn question(asking: &Asking, input: String, client: &Client) -> Result<Question, Failure> {
    let agent = match &asking.agent {
        Some(agent) => agent.clone(),
        None => match &client.author()?.identity {
            Identity::Agent(id) => id.clone(),
            other @ (Identity::Operator(_)
            | Identity::Gateway(_)
            | Identity::Node(_)
            | Identity::Recovery) => {
                let what = format!("--agent is needed: the key is that of {other}");
                return Err(Failure::new(Exit::Usage, what));
            }
        },
    };
    let session = parse_session(&asking.session)?;
    let mut question = Question::new(agent, session, asking.action.clone(), input);
    question.tool_call_id.clone_from(&asking.tool_call_id);
    if let Some(id) = &asking.resource {
        question.resource = Some(v1::ResourceFacts {
            id: id.clone(),
            r#type: asking.resource_type.clone().unwrap_or_default(),
            parents: Vec::new(),
            attributes: super::show::attributes(&asking.resource_attributes)?,
        });
    }
    Ok(question)
}

pub(super) fn authorize(
    arguments: &Authorize,
    json: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let connection = &arguments.asking.connection;
    let input = input(&arguments.asking)?;
    let sent = OnceLock::new();
    let work = async {
        let client = connection
            .open_knowing(Speaker::Key, &arguments.known)
            .await?;
        let mut question = question(&arguments.asking, input, &client)?;
        if let Some(id) = &arguments.request_id {
            let bytes = hex::decode(id).unwrap_or_default();
            let id: [u8; 16] = bytes
                .try_into()
                .map_err(|_| Failure::new(Exit::Usage, "a request id has 32 hexadecimal digits"))?;
            question.request_id = Some(id);
        }
        let decision = ask(connection, &client, question, &sent).await?;
        permits::keep(connection, &client, &decision)?;
        show(&decision, json, out)
    };
    block_on_or(work, || match sent.get() {
        Some(id) => format!(
            "interrupted; whether anything happened is not known, send request {id} again with `--request-id`"
        ),
        None => "interrupted; nothing was sent".to_owned(),
    })
}

/// Asks. A request with an id that was sent before is sent again as it was. The bytes are kept before they are sent: this
/// process may end at any moment, and only they name the entry that may be there then.
async fn ask(
    connection: &Connection,
    client: &Client,
    question: Question,
    sent: &OnceLock<String>,
) -> Result<Decision, Failure> {
    let id = question.request_id;
    let ask = question.ask();
    let kept = match id {
        Some(id) => requests::find(connection, client, id, &ask)?,
        None => None,
    };
    let is_repeat = kept.is_some();
    let signed = match kept {
        Some(kept) => kept,
        None => {
            let signed = client.sign_one(ask)?;
            requests::keep(connection, client, &signed)?;
            signed
        }
    };
    let _ = sent.set(signed.request_id_hex());
    match client.ask(&signed).await {
        Ok(decision) => {
            // Whoever chose the id may send it again; nobody else knows it, unless it is told to.
            if id.is_none() && !decision.is_provisional() {
                requests::forget(connection, client, &signed)?;
            }
            Ok(decision)
        }
        Err(error @ Error::Undetermined { .. }) => {
            let said = format!("{error} with `--request-id`");
            Err(Failure::new(Exit::Undetermined, said))
        }
        Err(error) => {
            // Nothing happened this time, says a node; of an earlier time that says nothing. Whoever chose the id can find out.
            let nothing = matches!(
                error,
                Error::Invalid(_) | Error::NotPermitted(_) | Error::Unavailable(_)
            );
            if nothing && !is_repeat && id.is_none() {
                requests::forget(connection, client, &signed)?;
            }
            Err(error.into())
        }
    }
}

fn exit_of(decision: &Decision) -> Exit {
    match decision.verdict() {
        Verdict::Allow if decision.permits_now() => Exit::Done,
        Verdict::Escalate => Exit::Escalated,
        Verdict::Allow | Verdict::Deny | Verdict::Unspecified => Exit::Denied,
    }
}

fn show(decision: &Decision, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let refusal = decision.refusal();
    if json {
        let conditions = decision.decision.conditions.iter().map(|condition| {
            json!({
                "type": condition.r#type,
                "value": condition.value,
                "critical": condition.critical,
            })
        });
        let conditions: Vec<Value> = conditions.collect();
        print_json(
            out,
            &json!({
                "permitted": decision.permits_now(),
                "verdict": decision.verdict_name(),
                "reason": decision.reason_name(),
                "rules": decision.rules(),
                "conditions": conditions,
                "index": decision.proven.index,
                "level": decision.proven.level.name(),
                "request_id": hex::encode(decision.request_id.to_vec()),
                "permit_expires_at_us": decision.decision.permit_expires_at_us,
                "replayed": decision.replayed,
                "single_use": decision.is_single_use(),
                "refusal": refusal,
            }),
        )?;
    } else {
        let rules = decision.rules().join(", ");
        let by = if rules.is_empty() {
            String::new()
        } else {
            format!(" by {}", printable(&rules))
        };
        let (verdict, reason) = (decision.verdict_name(), decision.reason_name());
        writeln!(out, "{verdict}: {reason}{by}")?;
        let level = decision.proven.level.name();
        writeln!(out, "entry {}, {level}", decision.proven.index)?;
        if decision.verdict() == Verdict::Allow
            && let Some(why) = refusal
        {
            writeln!(out, "not permitted now: {}", printable(&why))?;
        }
    }
    Ok(exit_of(decision))
}

pub(super) fn simulate(
    arguments: &Simulate,
    json: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let input = input(&arguments.asking)?;
    block_on(async {
        let connection = &arguments.asking.connection;
        let client = connection.open(Speaker::Operator).await?;
        let agent = arguments.asking.agent.clone().ok_or_else(|| {
            Failure::new(Exit::Usage, "--agent is needed: whose request to simulate")
        })?;
        let question = question(&arguments.asking, input, &client)?;
        let submission = client.unsigned(&Identity::Agent(agent), question.ask())?;
        let message = v1::SimulateRequest {
            submission: Some(submission),
            consistency: None,
            explain: arguments.explain,
        };
        let answer: v1::SimulateResponse = client.read(paths::SIMULATE, message).await?;
        let decision = answer.decision.unwrap_or_default();
        let verdict = decision.verdict().as_str_name();
        let verdict = verdict.strip_prefix("VERDICT_").unwrap_or(verdict);
        let reason = decision.reason().as_str_name();
        let reason = reason.strip_prefix("DECISION_REASON_").unwrap_or(reason);
        let rules = decision.rules.clone().unwrap_or_default().ids;
        let told = answer.explanation.as_ref();
        if json {
            let mut value =
                json!({ "verdict": verdict, "reason": reason, "rules": rules, "simulated": true });
            if let Some(fields) = value.as_object_mut().filter(|_| arguments.explain) {
                let told = told.map_or(Value::Null, explanation::as_json);
                fields.insert("explanation".to_owned(), told);
            }
            print_json(out, &value)?;
        } else {
            let by = if rules.is_empty() {
                String::new()
            } else {
                format!(" by {}", rules.join(", "))
            };
            writeln!(out, "would be {verdict}: {reason}{}", printable(&by))?;
            writeln!(out, "nothing was recorded; this permits nothing")?;
            match told {
                Some(told) => explanation::print(told, out)?,
                None if arguments.explain => writeln!(out, "it does not come as far as the rules")?,
                None => {}
            }
        }
        Ok(match decision.verdict() {
            Verdict::Allow => Exit::Done,
            Verdict::Escalate => Exit::Escalated,
            Verdict::Deny | Verdict::Unspecified => Exit::Denied,
        })
    })
}
