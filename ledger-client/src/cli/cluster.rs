//! `ledger-client cluster`: the nodes, and how each of them is.

use std::io::Write;

use clap::Subcommand;
use ledger_proto::v1;
use serde_json::{Value, json};

use super::connection::{Connection, Speaker, block_on};
use super::show::print_table;
use super::{Exit, Failure, print_json};
use crate::paths;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the members of the ledger, and ask each endpoint how it is. Exits with 6 if one of them does not answer.
    Status {
        #[command(flatten)]
        connection: Connection,
    },
}

pub(super) fn run(command: &Command, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    match command {
        Command::Status { connection } => block_on(status(connection, json, out)),
    }
}

async fn status(connection: &Connection, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let mut nodes = Vec::new();
    let mut exit = Exit::Done;
    for (url, client) in connection.each(Speaker::Operator)? {
        let message = v1::GetNodeStatusRequest {};
        let answer = client.read(paths::GET_NODE_STATUS, message).await;
        let node = match answer {
            Ok(answer) => as_json(&url, &answer),
            Err(error) => {
                exit = Exit::Unavailable;
                json!({
                    "endpoint": url, "node": null, "state": "unreachable", "leader": null,
                    "entries": null, "cosigned": null, "why": error.to_string(),
                })
            }
        };
        nodes.push(node);
    }
    if json {
        print_json(out, &json!({ "nodes": nodes }))?;
    } else {
        print_table(out, &nodes)?;
    }
    Ok(exit)
}

fn as_json(url: &str, status: &v1::GetNodeStatusResponse) -> Value {
    json!({
        "endpoint": url,
        "node": status.node_id,
        "state": if status.ready { "serves" } else { "not ready" },
        "leader": status.leader_id,
        "entries": status.tree_size,
        "cosigned": status.quorum_cosigned_tree_size,
        "why": status.not_ready_reason,
    })
}
