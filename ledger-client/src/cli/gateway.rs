//! `ledger-client gateway`: policy enforcement points that act for agents.

use std::io::Write;
use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use ledger_core::id::Identity;
use ledger_proto::v1::{self, command::Body};
use serde_json::json;

use super::connection::{Connection, Speaker, block_on};
use super::governing::{Governing, print_applied};
use super::key::Enrolment;
use super::show::{print_table, status_name};
use super::{Exit, Failure, print_json};
use crate::paths;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Register a gateway with its first key.
    Register {
        /// The key's enrolment, as `ledger-client key new` printed it; it says which gateway.
        enrolment: PathBuf,
        /// The namespace it belongs to, for good.
        #[arg(long)]
        namespace: String,
        /// The operator who answers for it.
        #[arg(long)]
        owner: String,
        /// An agent that it acts for; can be repeated.
        #[arg(long = "agent", value_name = "ID")]
        agents: Vec<String>,
        /// A registry group whose agents it acts for; can be repeated.
        #[arg(long = "group", value_name = "NAME")]
        groups: Vec<String>,
        /// What it may do; can be repeated.
        #[arg(long = "may", value_enum, required = true)]
        may: Vec<Permission>,
        #[command(flatten)]
        by: Governing,
    },
    /// Stop a gateway until it is resumed.
    Suspend {
        /// The gateway's id.
        id: String,
        #[command(flatten)]
        by: Governing,
    },
    /// Let a suspended gateway act again.
    Resume {
        /// The gateway's id.
        id: String,
        #[command(flatten)]
        by: Governing,
    },
    /// Stop a gateway for good; its keys end with it.
    Revoke {
        /// The gateway's id.
        id: String,
        #[command(flatten)]
        by: Governing,
    },
    /// List gateways.
    List {
        #[command(flatten)]
        connection: Connection,
    },
}

/// What a gateway may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Permission {
    /// Ask for its agents.
    Authorize,
    /// Record what was executed.
    Record,
    /// Open sessions for its agents.
    OpenSession,
    /// Vouch for the subject of a session.
    AssertSubject,
    /// Vouch for facts about resources.
    AssertResource,
}

impl Permission {
    const fn message(self) -> v1::GatewayPermission {
        match self {
            Self::Authorize => v1::GatewayPermission::Authorize,
            Self::Record => v1::GatewayPermission::Record,
            Self::OpenSession => v1::GatewayPermission::OpenSession,
            Self::AssertSubject => v1::GatewayPermission::AssertSubject,
            Self::AssertResource => v1::GatewayPermission::AssertResource,
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
        Command::List { connection } => block_on(list(connection, json, out)),
    }
}

async fn register(command: &Command, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let Command::Register {
        enrolment,
        namespace,
        owner,
        agents,
        groups,
        may,
        by,
    } = command
    else {
        return Ok(Exit::Done);
    };
    let client = by.connection.open(Speaker::Operator).await?;
    let enrolment = Enrolment::read(enrolment, client.origin())?;
    let Identity::Gateway(id) = enrolment.identity()? else {
        return Err(Failure::new(
            Exit::Usage,
            format!(
                "the enrolment is of {}, not of a gateway",
                enrolment.identity
            ),
        ));
    };
    let mut may = may.clone();
    may.sort();
    may.dedup();
    let acts_for = agents
        .iter()
        .map(|agent| v1::acts_for::Target::Agent(agent.clone()))
        .chain(
            groups
                .iter()
                .map(|group| v1::acts_for::Target::Group(group.clone())),
        )
        .map(|target| v1::ActsFor {
            target: Some(target),
        });
    let body = Body::RegisterGateway(v1::RegisterGateway {
        id: id.clone(),
        namespace: namespace.clone(),
        owner: owner.clone(),
        acts_for: acts_for.collect(),
        may: may.into_iter().map(|one| one.message().into()).collect(),
        keys: vec![enrolment.message()?],
    });
    let done = client.govern(body, by.reason()).await?;
    print_applied(&done, &[("gateway", json!(id))], json, out)
}

async fn set(
    id: &str,
    status: v1::IdentityStatus,
    by: &Governing,
    json: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let client = by.connection.open(Speaker::Operator).await?;
    let identity = Identity::Gateway(id.to_owned());
    let done = client.set_status(&identity, status, by.reason()).await?;
    print_applied(&done, &[("status", json!(status_name(status)))], json, out)
}

async fn list(connection: &Connection, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let client = connection.open(Speaker::Any).await?;
    let message = v1::ListGatewaysRequest {
        page_size: 1_000,
        ..v1::ListGatewaysRequest::default()
    };
    let answer: v1::ListGatewaysResponse = client.read(paths::LIST_GATEWAYS, message).await?;
    let all: Vec<_> = answer
        .gateways
        .iter()
        .map(|gateway| {
            let record = gateway.record.clone().unwrap_or_default();
            json!({
                "id": gateway.id,
                "namespace": record.namespace,
                "owner": record.owner,
                "status": status_name(record.status()),
                "index": record.leaf,
            })
        })
        .collect();
    if json {
        print_json(out, &json!({ "gateways": all }))?;
    } else {
        print_table(out, &all)?;
    }
    Ok(Exit::Done)
}
