//! `ledger-client operator`: people and pipelines with roles.

use std::io::Write;
use std::path::PathBuf;

use clap::Subcommand;
use ledger_core::id::Identity;
use ledger_proto::v1::{self, Role, command::Body};
use serde_json::json;

use super::connection::{Connection, Speaker, block_on};
use super::governing::{Governing, print_applied};
use super::key::Enrolment;
use super::show::{print_table, status_name};
use super::{Exit, Failure, print_json};
use crate::paths;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Register an operator with the first key.
    Register {
        /// The key's enrolment, as `ledger-client key new` printed it; it says which operator.
        enrolment: PathBuf,
        /// A name for people.
        #[arg(long, default_value = "", hide_default_value = true)]
        name: String,
        /// A role: admin, policy, responder, approver, auditor or privacy, for one namespace or for all (`auditor@*`); can be
        /// repeated.
        #[arg(long = "role", value_name = "ROLE@NAMESPACE")]
        roles: Vec<String>,
        /// An approver group; can be repeated.
        #[arg(long = "group", value_name = "NAME")]
        groups: Vec<String>,
        #[command(flatten)]
        by: Governing,
    },
    /// Stop an operator until it is resumed.
    Suspend {
        /// The operator's id.
        id: String,
        #[command(flatten)]
        by: Governing,
    },
    /// Let a suspended operator act again.
    Resume {
        /// The operator's id.
        id: String,
        #[command(flatten)]
        by: Governing,
    },
    /// Stop an operator for good; its keys end with it.
    Revoke {
        /// The operator's id.
        id: String,
        #[command(flatten)]
        by: Governing,
    },
    /// List operators.
    List {
        #[command(flatten)]
        connection: Connection,
    },
}

pub(super) fn run(command: &Command, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    use v1::IdentityStatus::{Active, Revoked, Suspended};
    match command {
        Command::Register {
            enrolment,
            name,
            roles,
            groups,
            by,
        } => block_on(async {
            let client = by.connection.open(Speaker::Operator).await?;
            let enrolment = Enrolment::read(enrolment, client.origin())?;
            let Identity::Operator(id) = enrolment.identity()? else {
                let what = format!(
                    "the enrolment is of {}, not of an operator",
                    enrolment.identity
                );
                return Err(Failure::new(Exit::Usage, what));
            };
            let mut groups = groups.clone();
            groups.sort();
            groups.dedup();
            let body = Body::RegisterOperator(v1::RegisterOperator {
                id: id.clone(),
                name: name.clone(),
                groups,
                roles: grants(roles)?,
                keys: vec![enrolment.message()?],
            });
            let done = client.govern(body, by.reason()).await?;
            print_applied(&done, &[("operator", json!(id))], json, out)
        }),
        Command::Suspend { id, by } => block_on(set(id, Suspended, by, json, out)),
        Command::Resume { id, by } => block_on(set(id, Active, by, json, out)),
        Command::Revoke { id, by } => block_on(set(id, Revoked, by, json, out)),
        Command::List { connection } => block_on(list(connection, json, out)),
    }
}

fn grants(roles: &[String]) -> Result<Vec<v1::RoleGrant>, Failure> {
    let mut grants = Vec::with_capacity(roles.len());
    for text in roles {
        let (role, namespace) = text.split_once('@').unwrap_or((text, "*"));
        let role = match role {
            "admin" => Role::Admin,
            "policy" => Role::Policy,
            "responder" => Role::Responder,
            "approver" => Role::Approver,
            "auditor" => Role::Auditor,
            "privacy" => Role::Privacy,
            _ => {
                let what = format!(
                    "`{text}` is no role; write admin, policy, responder, approver, auditor or privacy, and @NAMESPACE for one namespace"
                );
                return Err(Failure::new(Exit::Usage, what));
            }
        };
        grants.push(v1::RoleGrant {
            role: role.into(),
            namespace: namespace.to_owned(),
        });
    }
    grants.sort_by(|a, b| (a.role, &a.namespace).cmp(&(b.role, &b.namespace)));
    grants.dedup();
    Ok(grants)
}

async fn set(
    id: &str,
    status: v1::IdentityStatus,
    by: &Governing,
    json: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let client = by.connection.open(Speaker::Operator).await?;
    let identity = Identity::Operator(id.to_owned());
    let done = client.set_status(&identity, status, by.reason()).await?;
    print_applied(&done, &[("status", json!(status_name(status)))], json, out)
}

async fn list(connection: &Connection, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let client = connection.open(Speaker::Any).await?;
    let message = v1::ListOperatorsRequest {
        page_size: 1_000,
        ..v1::ListOperatorsRequest::default()
    };
    let answer: v1::ListOperatorsResponse = client.read(paths::LIST_OPERATORS, message).await?;
    let all: Vec<_> = answer
        .operators
        .iter()
        .map(|operator| {
            let record = operator.record.clone().unwrap_or_default();
            let roles = record.roles.iter().map(|grant| {
                let role = grant.role().as_str_name();
                let role = role.strip_prefix("ROLE_").unwrap_or(role).to_lowercase();
                format!("{role}@{}", grant.namespace)
            });
            json!({
                "id": operator.id,
                "name": record.name,
                "status": status_name(record.status()),
                "roles": roles.collect::<Vec<_>>(),
                "groups": record.groups,
            })
        })
        .collect();
    if json {
        print_json(out, &json!({ "operators": all }))?;
    } else {
        print_table(out, &all)?;
    }
    Ok(Exit::Done)
}
