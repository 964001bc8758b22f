//! `ledger-client halt`: stop authorizations and session openings at once.

use std::io::Write;

use clap::{Args, Subcommand};
use ledger_proto::v1::{self, command::Body, halt_scope::Target};
use serde_json::json;

use super::connection::{Connection, Speaker, block_on};
use super::governing::{Governing, print_applied};
use super::show::print_table;
use super::{Exit, Failure, print_json};
use crate::paths;
use crate::signing::now_us;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Set a halt.
    Set {
        /// A name for it, unique among halts in force.
        id: String,
        #[command(flatten)]
        scope: Scope,
        /// End it by itself after so many seconds.
        #[arg(long, value_name = "S")]
        ttl: Option<u64>,
        #[command(flatten)]
        by: Governing,
    },
    /// Lift a halt.
    Clear {
        /// Its name.
        id: String,
        #[command(flatten)]
        by: Governing,
    },
    /// List halts in force.
    List {
        #[command(flatten)]
        connection: Connection,
    },
}

/// What it stops.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Scope {
    /// Everything.
    #[arg(long)]
    everything: bool,
    /// Every agent of a namespace.
    #[arg(long)]
    namespace: Option<String>,
    /// One agent.
    #[arg(long)]
    agent: Option<String>,
    /// Every agent of a registry group.
    #[arg(long)]
    group: Option<String>,
    /// An action, exactly or as a prefix that ends in `*`.
    #[arg(long)]
    action: Option<String>,
}

impl Scope {
    fn target(&self) -> Target {
        let namespace = self.namespace.clone().map(Target::Namespace);
        let agent = self.agent.clone().map(Target::Agent);
        let group = self.group.clone().map(Target::Group);
        let action = self.action.clone().map(Target::Action);
        let one = namespace.or(agent).or(group).or(action);
        // clap has seen to it that there is exactly one.
        one.unwrap_or(Target::Everything(true))
    }
}

pub(super) fn run(command: &Command, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    match command {
        Command::Set { id, scope, ttl, by } => block_on(async {
            let client = by.connection.open(Speaker::Operator).await?;
            let until = |ttl: u64| now_us().saturating_add(ttl.saturating_mul(1_000_000));
            let body = Body::SetHalt(v1::SetHalt {
                id: id.clone(),
                scope: Some(v1::HaltScope {
                    target: Some(scope.target()),
                }),
                expires_at_us: ttl.map_or(0, until),
            });
            let done = client.govern(body, by.reason()).await?;
            print_applied(&done, &[("halt", json!(id))], json, out)
        }),
        Command::Clear { id, by } => block_on(async {
            let client = by.connection.open(Speaker::Operator).await?;
            let body = Body::ClearHalt(v1::ClearHalt { id: id.clone() });
            let done = client.govern(body, by.reason()).await?;
            print_applied(&done, &[("halt", json!(id))], json, out)
        }),
        Command::List { connection } => block_on(list(connection, json, out)),
    }
}

async fn list(connection: &Connection, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let client = connection.open(Speaker::Any).await?;
    let message = v1::ListHaltsRequest {
        page_size: 1_000,
        ..v1::ListHaltsRequest::default()
    };
    let answer: v1::ListHaltsResponse = client.read(paths::LIST_HALTS, message).await?;
    let halts: Vec<_> = answer
        .halts
        .iter()
        .map(|halt| {
            let record = halt.record.clone().unwrap_or_default();
            let scope = match record.scope.and_then(|scope| scope.target) {
                Some(Target::Everything(_)) | None => "everything".to_owned(),
                Some(Target::Namespace(name)) => format!("namespace {name}"),
                Some(Target::Agent(id)) => format!("agent {id}"),
                Some(Target::Group(name)) => format!("group {name}"),
                Some(Target::Action(id)) => format!("action {id}"),
            };
            json!({
                "id": halt.id,
                "scope": scope,
                "expires_at_us": record.expires_at_us,
                "index": record.leaf,
            })
        })
        .collect();
    if json {
        print_json(out, &json!({ "halts": halts }))?;
    } else {
        print_table(out, &halts)?;
    }
    Ok(Exit::Done)
}
