//! `ledger-client agent`: agents with their owners and keys.

use std::io::Write;
use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use ledger_core::id::Identity;
use ledger_proto::v1::{self, command::Body};
use serde_json::{Value, json};

use super::connection::{Connection, Speaker, block_on};
use super::governing::{Governing, print_applied};
use super::key::Enrolment;
use super::listing::{PAGE, whole_list};
use super::show::{attributes, print_table, status_name};
use super::{Exit, Failure, print_json};
use crate::paths;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Register an agent with its first key.
    Register {
        /// The key's enrolment, as `ledger-client key new` printed it; it says which agent.
        enrolment: PathBuf,
        /// The namespace it belongs to, for good.
        #[arg(long)]
        namespace: String,
        /// The operator who answers for it.
        #[arg(long)]
        owner: String,
        /// A registry group; can be repeated.
        #[arg(long = "group")]
        groups: Vec<String>,
        /// An attribute that rules can read; can be repeated.
        #[arg(long = "attribute", value_name = "NAME=VALUE")]
        attributes: Vec<String>,
        /// Refuse requests that fewer have signed.
        #[arg(long, value_enum)]
        minimum_assurance: Option<Minimum>,
        /// Who may open its sessions: anybody who may open any, itself included, or others only.
        #[arg(long, value_enum, default_value_t = Issuers::Anybody)]
        session_issuers: Issuers,
        #[command(flatten)]
        by: Governing,
    },
    /// Stop an agent until it is resumed.
    Suspend {
        /// The agent's id.
        id: String,
        #[command(flatten)]
        by: Governing,
    },
    /// Let a suspended agent act again.
    Resume {
        /// The agent's id.
        id: String,
        #[command(flatten)]
        by: Governing,
    },
    /// Stop an agent for good; its keys end with it.
    Revoke {
        /// The agent's id.
        id: String,
        #[command(flatten)]
        by: Governing,
    },
    /// Show an agent.
    Show {
        /// The agent's id.
        id: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// List agents.
    List {
        /// In this namespace.
        #[arg(long, default_value = "", hide_default_value = true)]
        namespace: String,
        /// Of this owner.
        #[arg(long, default_value = "", hide_default_value = true)]
        owner: String,
        #[command(flatten)]
        connection: Connection,
    },
}

/// Who must sign at least.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Minimum {
    /// A gateway that acts for the agent.
    GatewayAsserted,
    /// The agent itself.
    AgentSigned,
    /// Both.
    BothSigned,
}

/// Who may open an agent's sessions.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Issuers {
    /// The agent itself, its owner, an admin, or a gateway that may.
    Anybody,
    /// Its owner, an admin, or a gateway that may, so that it cannot give itself a scope.
    OthersOnly,
}

impl Issuers {
    const fn message(self) -> v1::SessionIssuers {
        match self {
            Self::Anybody => v1::SessionIssuers::Unspecified,
            Self::OthersOnly => v1::SessionIssuers::OthersOnly,
        }
    }
}

impl Minimum {
    const fn message(self) -> v1::Assurance {
        match self {
            Self::GatewayAsserted => v1::Assurance::GatewayAsserted,
            Self::AgentSigned => v1::Assurance::AgentSigned,
            Self::BothSigned => v1::Assurance::BothSigned,
        }
    }
}

pub(super) fn run(command: &Command, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    use v1::IdentityStatus::{Active, Revoked, Suspended};
    match command {
        Command::Register { .. } => block_on(register(command, json, out)),
        Command::Suspend { id, by } => block_on(set(id, Suspended, by, json, out)),
        Command::Resume { id, by } => block_on(set(id, Active, by, json, out)),
        Command::Revoke { id, by } => block_on(set(id, Revoked, by, json, out)),
        Command::Show { id, connection } => block_on(show(id, connection, json, out)),
        Command::List {
            namespace,
            owner,
            connection,
        } => block_on(list(namespace, owner, connection, json, out)),
    }
}

async fn register(command: &Command, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let Command::Register {
        enrolment,
        namespace,
        owner,
        groups,
        attributes: given,
        minimum_assurance,
        session_issuers,
        by,
    } = command
    else {
        return Ok(Exit::Done);
    };
    let client = by.connection.open(Speaker::Operator).await?;
    let enrolment = Enrolment::read(enrolment, client.origin())?;
    let Identity::Agent(id) = enrolment.identity()? else {
        return Err(Failure::new(
            Exit::Usage,
            format!(
                "the enrolment is of {}, not of an agent",
                enrolment.identity
            ),
        ));
    };
    let mut groups = groups.clone();
    groups.sort();
    groups.dedup();
    let assurance = minimum_assurance.map_or(v1::Assurance::Unspecified, Minimum::message);
    let body = Body::RegisterAgent(v1::RegisterAgent {
        id: id.clone(),
        namespace: namespace.clone(),
        owner: owner.clone(),
        groups,
        attributes: attributes(given)?,
        minimum_assurance: assurance.into(),
        keys: vec![enrolment.message()?],
        session_issuers: session_issuers.message().into(),
    });
    let done = client.govern(body, by.reason()).await?;
    print_applied(&done, &[("agent", json!(id))], json, out)
}

async fn set(
    id: &str,
    status: v1::IdentityStatus,
    by: &Governing,
    json: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let client = by.connection.open(Speaker::Operator).await?;
    let identity = Identity::Agent(id.to_owned());
    let done = client.set_status(&identity, status, by.reason()).await?;
    print_applied(&done, &[("status", json!(status_name(status)))], json, out)
}

async fn show(
    id: &str,
    connection: &Connection,
    json: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let client = connection.open(Speaker::Any).await?;
    let message = v1::GetAgentRequest {
        id: id.to_owned(),
        consistency: None,
    };
    let answer: v1::GetAgentResponse = client.read(paths::GET_AGENT, message).await?;
    let agent = answer.agent.unwrap_or_default();
    let value = as_json(&agent);
    if json {
        print_json(out, &value)?;
    } else {
        print_table(out, &[value])?;
    }
    Ok(Exit::Done)
}

async fn list(
    namespace: &str,
    owner: &str,
    connection: &Connection,
    json: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let client = connection.open(Speaker::Any).await?;
    let ask = |page_token| v1::ListAgentsRequest {
        namespace: namespace.to_owned(),
        owner: owner.to_owned(),
        page_size: PAGE,
        page_token,
        ..v1::ListAgentsRequest::default()
    };
    let page = |answer: v1::ListAgentsResponse| (answer.agents, answer.next_page_token);
    let id = |agent: &v1::Agent| agent.id.clone();
    let agents = whole_list(&client, paths::LIST_AGENTS, ask, page, id).await?;
    let agents: Vec<Value> = agents.iter().map(as_json).collect();
    if json {
        print_json(out, &json!({ "agents": agents }))?;
    } else {
        print_table(out, &agents)?;
    }
    Ok(Exit::Done)
}

fn as_json(agent: &v1::Agent) -> Value {
    let record = agent.record.clone().unwrap_or_default();
    json!({
        "id": agent.id,
        "namespace": record.namespace,
        "owner": record.owner,
        "status": status_name(record.status()),
        "groups": record.groups,
        "session_issuers": match record.session_issuers() {
            v1::SessionIssuers::Unspecified => "ANYBODY",
            v1::SessionIssuers::OthersOnly => "OTHERS_ONLY",
        },
        "index": record.leaf,
    })
}
