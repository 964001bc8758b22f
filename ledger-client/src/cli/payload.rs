//! `ledger-client payload`: the content beside an entry, which can be erased while the entry stays.

use std::io::Write;

use clap::{Subcommand, ValueEnum};
use ledger_proto::v1::{self, CompartmentKind, command::Body};
use serde_json::{Value, json};

use super::connection::{Connection, Speaker, block_on};
use super::entry::get;
use super::governing::{Governing, print_applied, shown_exit};
use super::show::{print_table, printable};
use super::{Exit, Failure, print_json};
use crate::error::Error;
use crate::paths;
use crate::transport::Answer;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show what is kept beside an entry.
    Show {
        /// The entry.
        index: u64,
        #[command(flatten)]
        connection: Connection,
    },
    /// Erase content for good. The entry, its proofs and the root stay as they are.
    Erase {
        /// The entry.
        index: u64,
        /// What to erase; can be repeated. Default: all that is kept beside the entry.
        #[arg(long = "kind", value_enum)]
        kinds: Vec<Kind>,
        #[command(flatten)]
        by: Governing,
    },
    /// Say how far each node has come with an erasure.
    Status {
        /// The entry that erased, as `erase` printed it.
        index: u64,
        #[command(flatten)]
        connection: Connection,
    },
}

/// What is kept beside an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Kind {
    /// The tool's arguments.
    Input,
    /// Facts about the resource.
    Resource,
    /// Purpose, subject, grants and claims of a session.
    Context,
    /// The tool's output.
    Output,
    /// The arguments that were executed.
    ExecutedInput,
    /// The reason of a command.
    Reason,
}

impl Kind {
    const fn message(self) -> CompartmentKind {
        match self {
            Self::Input => CompartmentKind::Input,
            Self::Resource => CompartmentKind::Resource,
            Self::Context => CompartmentKind::Context,
            Self::Output => CompartmentKind::Output,
            Self::ExecutedInput => CompartmentKind::ExecutedInput,
            Self::Reason => CompartmentKind::Reason,
        }
    }
}

pub(super) fn run(command: &Command, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    match command {
        Command::Show { index, connection } => block_on(show(*index, connection, json, out)),
        Command::Erase { index, kinds, by } => block_on(erase(*index, kinds, by, json, out)),
        Command::Status { index, connection } => block_on(status(*index, connection, json, out)),
    }
}

fn name(kind: CompartmentKind) -> &'static str {
    let name = kind.as_str_name();
    name.strip_prefix("COMPARTMENT_KIND_").unwrap_or(name)
}

async fn show(
    index: u64,
    connection: &Connection,
    json: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let client = connection.open(Speaker::Any).await?;
    let (proven, Answer { answer, by }) = get(&client, index, true).await?;
    let erased: Vec<&str> = answer.erased().map(name).collect();
    let commitments = proven.command().unwrap_or_default().commitments;
    let mut kept = Vec::new();
    for compartment in &answer.compartments {
        let committed = commitments
            .iter()
            .find(|commitment| commitment.kind() == compartment.kind());
        // What a node shows is worth nothing unless the author has committed to it.
        if !committed
            .is_some_and(|commitment| ledger_core::compartment::matches(commitment, compartment))
        {
            let what = format!(
                "the {} of entry {index} is not what its author committed to",
                name(compartment.kind())
            );
            return Err(Error::contradiction(what).of(&by).into());
        }
        kept.push(as_json(compartment));
    }
    if json {
        print_json(
            out,
            &json!({ "index": index, "kept": kept, "erased": erased }),
        )?;
        return Ok(shown_exit(&client, &proven));
    }
    for compartment in &answer.compartments {
        let text = String::from_utf8_lossy(&compartment.content);
        writeln!(out, "{}: {}", name(compartment.kind()), printable(&text))?;
    }
    for kind in erased {
        writeln!(out, "{kind}: erased")?;
    }
    Ok(shown_exit(&client, &proven))
}

fn as_json(compartment: &v1::Compartment) -> Value {
    let text = std::str::from_utf8(&compartment.content).ok();
    json!({
        "kind": name(compartment.kind()),
        "bytes": compartment.content.len(),
        "text": text,
        "hex": if text.is_none() { Some(hex::encode(&compartment.content)) } else { None },
        "salt": hex::encode(&compartment.salt),
    })
}

async fn erase(
    index: u64,
    kinds: &[Kind],
    by: &Governing,
    json: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let client = by.connection.open(Speaker::Operator).await?;
    let mut kinds: Vec<i32> = kinds.iter().map(|kind| kind.message().into()).collect();
    if kinds.is_empty() {
        kinds = get(&client, index, false).await?.0.entry.stored;
    }
    kinds.sort_unstable();
    kinds.dedup();
    if kinds.is_empty() {
        let what = format!("nothing is kept beside entry {index}");
        return Err(Failure::new(Exit::Usage, what));
    }
    let compartments = kinds
        .into_iter()
        .map(|kind| v1::CompartmentRef { index, kind });
    let body = Body::Erase(v1::Erase {
        compartments: compartments.collect(),
    });
    let done = client.govern(body, by.reason()).await?;
    let erased = match &done.proven.entry.body {
        Some(v1::entry::Body::Governance(governance)) => match &governance.detail {
            Some(v1::governance::Detail::Erasure(erasure)) => erasure.erased,
            Some(_) | None => 0,
        },
        Some(_) | None => 0,
    };
    print_applied(&done, &[("erased", json!(erased))], json, out)
}

async fn status(
    index: u64,
    connection: &Connection,
    json: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let client = connection.open(Speaker::Any).await?;
    let message = v1::GetErasureRequest { index };
    let answer: v1::GetErasureResponse = client.read(paths::GET_ERASURE, message).await?;
    let nodes = answer.nodes.iter().map(|node| {
        let state = node.state().as_str_name();
        let state = state.strip_prefix("ERASURE_STATE_").unwrap_or(state);
        json!({ "node": node.node_id, "state": if state == "UNSPECIFIED" { "UNKNOWN" } else { state } })
    });
    let nodes: Vec<Value> = nodes.collect();
    let erasure = answer.erasure.unwrap_or_default();
    if json {
        let value = json!({
            "erased": erasure.erased,
            "values_until_us": erasure.values_until_us,
            "nodes": nodes,
        });
        print_json(out, &value)?;
    } else {
        print_table(out, &nodes)?;
        let until = i64::try_from(erasure.values_until_us)
            .ok()
            .filter(|until| *until > 0)
            .and_then(|until| jiff::Timestamp::from_microsecond(until).ok());
        if let Some(until) = until {
            writeln!(
                out,
                "values can live on in the windows of rules until {until}"
            )?;
        }
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_and_a_message() {
        for kind in Kind::value_variants() {
            assert_ne!(kind.message(), CompartmentKind::Unspecified);
            assert!(!name(kind.message()).is_empty());
        }
        assert_eq!(name(CompartmentKind::ExecutedInput), "EXECUTED_INPUT");
    }
}
