//! `ledger-client cluster`: the nodes, how each of them is, which there are, and which leads.
//!
//! A change of the nodes is a command in the ledger like any other, signed here, so that no node has to be trusted with it. It
//! carries the whole new trust policy, which asks for as much as the one before: most nodes or more, and the same witnesses outside.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use ledger_core::card::NodeFile;
use ledger_core::quorum::{NodeQuorum, Quorum, witnesses_of};
use ledger_proto::v1::{self, command::Body};
use serde_json::{Value, json};

use super::connection::{Connection, Speaker, block_on, configuration};
use super::governing::{Governing, print_applied};
use super::show::print_table;
use super::{Exit, Failure, adjust_time, print_json};
use crate::client::Client;
use crate::error::Error;
use crate::{files, paths};

/// Longest card in bytes.
const MAX_CARD_LEN: usize = 64 * 1024;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Ask each endpoint how its node is. Exits with 6 if one of them does not answer, and with 8 if one refuses the key.
    Status {
        #[command(flatten)]
        connection: Connection,
    },
    /// Add a node by its card. Its id and key must be new to the ledger, and it must run: `ledger-node init` without --first (and with
    /// --trust, if nodes of the genesis have left), then `ledger-node start`.
    Add {
        /// The card, as `ledger-node key new` wrote it.
        card: PathBuf,
        #[command(flatten)]
        by: Governing,
    },
    /// Remove a node. Its id and key are never used again.
    Remove {
        /// The node's id.
        node_id: u64,
        #[command(flatten)]
        by: Governing,
    },
    /// Print the trust policy in force, as the pinned one leads to it: `ledger-node init --trust` takes it.
    Policy {
        #[command(flatten)]
        connection: Connection,
    },
    /// Ask for other cosignatures: so many nodes, or other witnesses outside. Whoever was asked before must vouch for the change.
    Quorum {
        /// How many nodes must cosign a checkpoint; without it, as many as before.
        #[arg(long, value_name = "N")]
        nodes: Option<usize>,
        /// A witness outside, instead of those before: its name in the trust policy, its vkey, and its URL; once for each.
        #[arg(long = "witness", value_names = ["NAME", "VKEY", "URL"], num_args = 3)]
        witnesses: Vec<String>,
        /// How many witnesses must cosign; without it, more than half of them.
        #[arg(long, value_name = "K", requires = "witnesses")]
        witness_quorum: Option<usize>,
        /// Ask no witnesses any more.
        #[arg(long, conflicts_with = "witnesses")]
        without_witnesses: bool,
        #[command(flatten)]
        by: Box<Governing>,
    },
    /// Say that this machine's clock is right, and the ledger's time ahead of it: the way on after clocks were wrong. As many admins sign
    /// as for other changes of the ledger. What has ended stays ended: see "The ledger's time is ahead" in docs/operations.md first.
    AdjustTime {
        #[command(flatten)]
        by: Governing,
    },
    /// Let another node lead, such as before work on the machine of the one that leads.
    Transfer {
        /// Which voter; without it, the one that is the furthest.
        #[arg(long, value_name = "NODE")]
        to: Option<u64>,
        #[command(flatten)]
        connection: Connection,
    },
}

pub(super) fn run(command: &Command, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    match command {
        Command::Status { connection } => block_on(status(connection, json, out)),
        Command::Add { card, by } => block_on(async {
            let card = read_card(card)?;
            let client = by.connection.open(Speaker::Operator).await?;
            let mut nodes = members(&client).await?;
            with(&mut nodes, card)?;
            let quorum = quorum_in_force(&client).await?;
            let exit = change(&client, &nodes, &quorum, by, json, out).await?;
            // What to do next is for people, not for scripts.
            let _ = writeln!(
                std::io::stderr(),
                "the new node votes once it has caught up and the change is cosigned; `ledger-client cluster status` says what that waits for, and `ledger-client cluster remove` takes the change back"
            );
            Ok(exit)
        }),
        Command::Remove { node_id, by } => block_on(async {
            let client = by.connection.open(Speaker::Operator).await?;
            let mut nodes = members(&client).await?;
            without(&mut nodes, *node_id)?;
            let quorum = quorum_in_force(&client).await?;
            let exit = change(&client, &nodes, &quorum, by, json, out).await?;
            let _ = writeln!(
                std::io::stderr(),
                "next: stop node {node_id} once the others go on without it; its key and data are of no further use"
            );
            Ok(exit)
        }),
        Command::Policy { connection } => block_on(policy(connection, json, out)),
        Command::Quorum {
            nodes: count,
            witnesses,
            witness_quorum,
            without_witnesses,
            by,
        } => block_on(async {
            let client = by.connection.open(Speaker::Operator).await?;
            let nodes = members(&client).await?;
            let mut quorum = quorum_in_force(&client).await?;
            if let Some(count) = count {
                quorum.nodes = NodeQuorum::Count(*count);
            }
            if *without_witnesses || !witnesses.is_empty() {
                quorum.witnesses = witnesses_of(witnesses).map_err(|what| configuration(&what))?;
                quorum.witness_count = *witness_quorum;
            }
            change(&client, &nodes, &quorum, by, json, out).await
        }),
        Command::AdjustTime { by } => block_on(adjust_time::run(by, json, out)),
        Command::Transfer { to, connection } => block_on(async {
            let client = connection.open(Speaker::Operator).await?;
            let message = v1::TransferLeadershipRequest { to: *to };
            let moved = client.read(paths::TRANSFER_LEADERSHIP, message).await;
            let v1::TransferLeadershipResponse { leader_id } = moved?;
            if json {
                print_json(out, &json!({ "leader": leader_id }))?;
            } else {
                writeln!(out, "node {leader_id} leads")?;
            }
            Ok(Exit::Done)
        }),
    }
}

async fn policy(connection: &Connection, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let client = connection.open(Speaker::Operator).await?;
    client.follow_trust().await?;
    let policy = client.trust().policy().to_string();
    if json {
        print_json(out, &json!({ "policy": policy }))?;
    } else {
        write!(out, "{policy}")?;
    }
    Ok(Exit::Done)
}

async fn status(connection: &Connection, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let mut nodes = Vec::new();
    let mut exit = Exit::Done;
    let (mut silent, mut refused) = (0, 0);
    let mut witnesses: Vec<Value> = Vec::new();
    for (url, client) in connection.each(Speaker::Operator)? {
        let message = v1::GetNodeStatusRequest {};
        let answer: Result<v1::GetNodeStatusResponse, Error> =
            client.read(paths::GET_NODE_STATUS, message).await;
        let node = match answer {
            Ok(answer) => {
                witnesses.extend(answer.witnesses.iter().map(witness_as_json));
                as_json(&url, &answer)
            }
            Err(error) => {
                let state = if matches!(error, Error::NotPermitted(_)) {
                    refused += 1;
                    "refuses"
                } else {
                    silent += 1;
                    "unreachable"
                };
                json!({
                    "endpoint": url, "node": null, "state": state, "leader": null,
                    "entries": null, "cosigned": null, "why": error.to_string(),
                })
            }
        };
        nodes.push(node);
    }
    if json {
        print_json(out, &json!({ "nodes": nodes, "witnesses": witnesses }))?;
    } else {
        print_table(out, &nodes)?;
        if !witnesses.is_empty() {
            writeln!(out)?;
            print_table(out, &witnesses)?;
        }
    }
    // The table is on standard output in any case; this is what it means.
    if refused > 0 {
        exit = Exit::NotPermitted;
        let _ = writeln!(
            std::io::stderr(),
            "ledger-client: {refused} of {} nodes run and refuse this operator's key; see that it is the right one and neither ended nor suspended, and that this machine's clock is right",
            nodes.len()
        );
    }
    if silent > 0 {
        exit = Exit::Unavailable;
        let _ = writeln!(
            std::io::stderr(),
            "ledger-client: {silent} of {} endpoints do not answer; actions are decided while more than half of the nodes work together",
            nodes.len()
        );
    }
    Ok(exit)
}

fn as_json(url: &str, status: &v1::GetNodeStatusResponse) -> Value {
    let why = if status.ready {
        let adjusted = adjust_time::in_words(status.time_offset_us);
        let reasons = [&status.not_cosigning_reason, &status.waiting_for, &adjusted];
        let given = reasons.into_iter().filter(|reason| !reason.is_empty());
        given.map(String::as_str).collect::<Vec<_>>().join("; ")
    } else {
        status.not_ready_reason.clone()
    };
    json!({
        "endpoint": url,
        "node": status.node_id,
        "state": if status.ready { "serves" } else { "not ready" },
        "leader": status.leader_id,
        "entries": status.tree_size,
        "cosigned": status.quorum_cosigned_tree_size,
        "why": why,
    })
}

/// A witness outside, as the leader has found it.
fn witness_as_json(status: &v1::WitnessStatus) -> Value {
    let state = match (
        status.not_cosigning_reason.is_empty(),
        status.cosigned_tree_size,
    ) {
        (false, _) => "does not cosign",
        (true, 0) => "not asked yet",
        (true, _) => "cosigns",
    };
    json!({
        "witness": status.name,
        "url": status.url,
        "state": state,
        "cosigned": status.cosigned_tree_size,
        "why": status.not_cosigning_reason,
    })
}

fn read_card(path: &Path) -> Result<NodeFile, Failure> {
    let bad = |what: String| configuration(&format!("{}: {what}", path.display()));
    let bytes = files::read(path, MAX_CARD_LEN)?;
    let text = String::from_utf8(bytes).map_err(|error| bad(error.to_string()))?;
    toml::from_str(&text).map_err(|error| {
        bad(format!(
            "is not a node's card: {}; `ledger-node key new` writes one",
            error.message()
        ))
    })
}

/// The cards of the nodes as the ledger has them now, ascending by id.
async fn members(client: &Client) -> Result<Vec<NodeFile>, Failure> {
    let message = v1::GetClusterRequest { consistency: None };
    let answer: v1::GetClusterResponse = client.read(paths::GET_CLUSTER, message).await?;
    let cards = answer.members.into_iter();
    let cards = cards
        .filter_map(|member| member.record?.card)
        .map(|card| NodeFile::of_message(&card).map_err(|what| Error::contradiction(what).into()));
    cards.collect()
}

/// Adds a node, in the order of ids.
fn with(nodes: &mut Vec<NodeFile>, card: NodeFile) -> Result<(), Failure> {
    match nodes.binary_search_by_key(&card.node_id, |node| node.node_id) {
        Ok(_) => Err(Failure::new(
            Exit::Usage,
            format!(
                "node {} is a member already; a new node needs an id that was never used",
                card.node_id
            ),
        )),
        Err(place) => {
            nodes.insert(place, card);
            Ok(())
        }
    }
}

/// Takes a node out.
fn without(nodes: &mut Vec<NodeFile>, node_id: u64) -> Result<(), Failure> {
    let before = nodes.len();
    nodes.retain(|node| node.node_id != node_id);
    let why = if nodes.len() == before {
        format!("node {node_id} is not a member of this ledger")
    } else if nodes.is_empty() {
        format!("node {node_id} is the last one; a ledger without nodes cannot go on")
    } else {
        return Ok(());
    };
    Err(Failure::new(Exit::Usage, why))
}

/// What the trust policy in force asks for: what its quorum has handed on, and not one node's word.
async fn quorum_in_force(client: &Client) -> Result<Quorum, Failure> {
    let in_force = client.trust_in_force().await?;
    Quorum::of_policy(&in_force).map_err(|what| configuration(&what))
}

async fn change(
    client: &Client,
    nodes: &[NodeFile],
    quorum: &Quorum,
    by: &Governing,
    json: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let pinned = client.trust().pinned();
    let Some(log) = pinned.logs().first() else {
        return Err(configuration("the trust policy names no log"));
    };
    let trust_policy = quorum
        .policy(client.origin(), log.key.public_key(), nodes)
        .map_err(|what| configuration(&what))?;
    let cards = nodes.iter().map(NodeFile::to_message);
    let cards: Result<Vec<_>, String> = cards.collect();
    let body = Body::UpdateMembership(v1::UpdateMembership {
        nodes: cards.map_err(|what| configuration(&what))?,
        trust_policy,
    });
    let done = client.govern(body, by.reason()).await?;
    let ids: Vec<u64> = nodes.iter().map(|node| node.node_id).collect();
    print_applied(&done, &[("nodes", json!(ids))], json, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(node_id: u64) -> NodeFile {
        NodeFile {
            node_id,
            vkey: String::new(),
            peer_address: String::new(),
            client_address: String::new(),
            engine_versions: Vec::new(),
            cluster_versions: Vec::new(),
            proof_of_possession: String::new(),
        }
    }

    #[test]
    fn nodes_stay_in_the_order_of_their_ids() {
        let mut nodes = vec![node(1), node(3)];
        with(&mut nodes, node(2)).unwrap();
        let ids: Vec<u64> = nodes.iter().map(|node| node.node_id).collect();
        assert_eq!(ids, [1, 2, 3]);
        let twice = with(&mut nodes, node(2)).unwrap_err();
        assert!(twice.message.contains("node 2 is a member already"));
    }

    #[test]
    fn the_last_node_and_strangers_are_not_removed() {
        let mut nodes = vec![node(1), node(2)];
        assert_eq!(without(&mut nodes, 4).unwrap_err().exit, Exit::Usage);
        without(&mut nodes, 1).unwrap();
        let last = without(&mut nodes, 2).unwrap_err();
        assert!(last.message.contains("last"));
    }
}
