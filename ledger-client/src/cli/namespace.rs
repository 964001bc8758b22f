//! `ledger-client namespace`: teams, each with its agents and its active bundle.

use std::io::Write;

use clap::Subcommand;
use ledger_proto::v1::{self, command::Body};
use serde_json::json;

use super::connection::{Connection, Speaker, block_on};
use super::governing::{Governing, print_applied};
use super::show::print_table;
use super::{Exit, Failure, print_json};
use crate::paths;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create a namespace.
    Create {
        /// Its name: a-z, 0-9, `-`, `_`, `.`, `/`.
        name: String,
        /// An operator who may register agents in it; can be repeated.
        #[arg(long = "owner", value_name = "ID")]
        owners: Vec<String>,
        /// Demand that each permit of its agents is redeemed before it is used.
        #[arg(long)]
        single_use: bool,
        #[command(flatten)]
        by: Governing,
    },
    /// List namespaces.
    List {
        #[command(flatten)]
        connection: Connection,
    },
}

pub(super) fn run(command: &Command, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    match command {
        Command::Create {
            name,
            owners,
            single_use,
            by,
        } => block_on(async {
            let client = by.connection.open(Speaker::Operator).await?;
            let mut owners = owners.clone();
            owners.sort();
            owners.dedup();
            let body = Body::CreateNamespace(v1::CreateNamespace {
                name: name.clone(),
                owners,
                single_use: *single_use,
            });
            let done = client.govern(body, by.reason()).await?;
            print_applied(&done, &[("namespace", json!(name))], json, out)
        }),
        Command::List { connection } => block_on(async {
            let client = connection.open(Speaker::Any).await?;
            let message = v1::ListNamespacesRequest {
                page_size: 1_000,
                ..v1::ListNamespacesRequest::default()
            };
            let answer: v1::ListNamespacesResponse =
                client.read(paths::LIST_NAMESPACES, message).await?;
            let all: Vec<_> = answer
                .namespaces
                .iter()
                .map(|namespace| {
                    let record = namespace.record.clone().unwrap_or_default();
                    json!({ "name": namespace.name, "owners": record.owners })
                })
                .collect();
            if json {
                print_json(out, &json!({ "namespaces": all }))?;
            } else {
                print_table(out, &all)?;
            }
            Ok(Exit::Done)
        }),
    }
}
