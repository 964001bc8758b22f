//! `ledger-client session`: bounded runs of one agent.

use std::io::Write;

use clap::{Args, Subcommand};
use ledger_core::id::SessionId;
use ledger_proto::v1::{self, command::Body};
use serde_json::{Value, json};

use super::connection::{Connection, Speaker, block_on};
use super::governing::{Governing, print_applied, submitted_exit};
use super::listing::{PAGE, whole_list};
use super::show::{print_table, string_sets};
use super::{Exit, Failure, print_json};
use crate::paths;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Open a session and print its id.
    Open(Box<Open>),
    /// End a session.
    Close {
        /// The session's id, in hexadecimal digits.
        id: String,
        /// End it as the agent or gateway of `--key`, and not as the operator.
        #[arg(long)]
        by_key: bool,
        #[command(flatten)]
        by: Governing,
    },
    /// List sessions, the latest first.
    List {
        /// Of this agent.
        #[arg(long, default_value = "", hide_default_value = true)]
        agent: String,
        /// Only those that have not ended.
        #[arg(long)]
        open: bool,
        #[command(flatten)]
        connection: Connection,
    },
}

#[derive(Debug, Args)]
pub(super) struct Open {
    /// The agent that will act.
    #[arg(long)]
    agent: String,
    /// An action it may ask for, exactly or as a prefix that ends in `*`; can be repeated. `*` is everything.
    #[arg(long = "scope", value_name = "ACTION", required = true)]
    scope: Vec<String>,
    /// How long it lasts at most, in seconds.
    #[arg(long, default_value_t = 3_600, value_name = "S")]
    ttl: u32,
    /// What it is for.
    #[arg(long, value_name = "TEXT")]
    purpose: Option<String>,
    /// On whose behalf, as ISSUER and SUBJECT.
    #[arg(long, num_args = 2, value_names = ["ISS", "SUB"])]
    subject: Option<Vec<String>>,
    /// A permission of this task; a repeated name adds a value. Only from an issuer other than the agent.
    #[arg(long = "grant", value_name = "NAME=VALUE")]
    grants: Vec<String>,
    /// What the agent itself says; a repeated name adds a value.
    #[arg(long = "claim", value_name = "NAME=VALUE")]
    claims: Vec<String>,
    /// A name for people.
    #[arg(long, default_value = "", hide_default_value = true)]
    label: String,
    /// The session that it belongs to, in hexadecimal digits. It may only narrow what that one has.
    #[arg(long, value_name = "ID")]
    parent: Option<String>,
    /// Open it as the agent or gateway of `--key`, and not as the operator.
    #[arg(long)]
    by_key: bool,
    #[command(flatten)]
    connection: Connection,
}

/// A session id as people write it.
pub(super) fn parse_session(text: &str) -> Result<SessionId, Failure> {
    let bytes = hex::decode(text).unwrap_or_default();
    SessionId::from_slice(&bytes).map_err(|_| {
        Failure::new(
            Exit::Usage,
            format!("`{text}` is no session id; it has 32 hexadecimal digits, as `ledger-client session open` printed them"),
        )
    })
}

pub(super) fn run(command: &Command, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    match command {
        Command::Open(open) => block_on(open_session(open, json, out)),
        Command::Close { id, by_key, by } => block_on(async {
            let id = parse_session(id)?;
            let client = by.connection.open(speaker(*by_key)).await?;
            let body = Body::CloseSession(v1::CloseSession {
                session_id: id.to_vec(),
            });
            let done = client.govern(body, by.reason()).await?;
            print_applied(&done, &[], json, out)
        }),
        Command::List {
            agent,
            open,
            connection,
        } => block_on(list(agent, *open, connection, json, out)),
    }
}

const fn speaker(by_key: bool) -> Speaker {
    if by_key {
        Speaker::Key
    } else {
        Speaker::Operator
    }
}

async fn open_session(open: &Open, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let client = open.connection.open(speaker(open.by_key)).await?;
    let mut scope = open.scope.clone();
    scope.sort();
    scope.dedup();
    let parent = match &open.parent {
        Some(parent) => parse_session(parent)?.to_vec(),
        None => Vec::new(),
    };
    let opening = v1::OpenSession {
        agent: open.agent.clone(),
        parent,
        scope,
        ttl_s: open.ttl,
        runtime: None,
        label: open.label.clone(),
    };
    let subject = open.subject.as_deref().and_then(|pair| match pair {
        [iss, sub] => Some(v1::Subject {
            iss: iss.clone(),
            sub: sub.clone(),
        }),
        _ => None,
    });
    let context = v1::SessionContext {
        purpose: open.purpose.clone().unwrap_or_default(),
        subject,
        grants: string_sets(&open.grants)?,
        claims: string_sets(&open.claims)?,
        ..v1::SessionContext::default()
    };
    let context = (context != v1::SessionContext::default()).then_some(context);
    let (id, done) = client.open_session(opening, context).await?;
    let id = hex::encode(id.to_vec());
    if json {
        print_applied(&done, &[("session", json!(id))], json, out)
    } else {
        // Alone on the line, for `$(…)`.
        writeln!(out, "{id}")?;
        Ok(submitted_exit(&done))
    }
}

async fn list(
    agent: &str,
    open_only: bool,
    connection: &Connection,
    json: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let client = connection.open(Speaker::Any).await?;
    let ask = |page_token| v1::ListSessionsRequest {
        agent: agent.to_owned(),
        open_only,
        page_size: PAGE,
        page_token,
        ..v1::ListSessionsRequest::default()
    };
    let page = |answer: v1::ListSessionsResponse| (answer.sessions, answer.next_page_token);
    let id = |session: &v1::Session| session.id.clone();
    let sessions = whole_list(&client, paths::LIST_SESSIONS, ask, page, id).await?;
    let sessions: Vec<Value> = sessions.iter().map(as_json).collect();
    if json {
        print_json(out, &json!({ "sessions": sessions }))?;
    } else {
        print_table(out, &sessions)?;
    }
    Ok(Exit::Done)
}

fn as_json(session: &v1::Session) -> Value {
    let record = session.record.clone().unwrap_or_default();
    let state = match record.end_kind() {
        v1::SessionEndKind::Unspecified => "OPEN",
        v1::SessionEndKind::Closed => "CLOSED",
        v1::SessionEndKind::Revoked => "REVOKED",
        v1::SessionEndKind::Expired => "EXPIRED",
    };
    json!({
        "id": hex::encode(&session.id),
        "agent": record.agent,
        "state": state,
        "scope": record.scope,
        "entries": record.count,
        "index": record.leaf,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_id_is_read_or_explained() {
        let id = "000102030405060708090a0b0c0d0e0f";
        assert_eq!(hex::encode(parse_session(id).unwrap().to_vec()), id);
        for bad in ["", "00", "zz", &format!("{id}00")] {
            let failure = parse_session(bad).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(failure.message.contains("32 hexadecimal digits"));
        }
    }
}
