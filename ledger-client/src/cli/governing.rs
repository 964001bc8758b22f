//! What commands that change the ledger share: a reason, a result, and how both are shown.

use std::io::Write;

use clap::Args;
use serde_json::{Map, Value, json};

use super::connection::Connection;
use super::{Exit, Failure, print_json};
use crate::answer::Proven;
use crate::client::{Client, Submitted};

/// Who changes the ledger, where, and why.
#[derive(Debug, Clone, Args)]
pub(super) struct Governing {
    /// Why, in words. Kept beside the entry; can be erased.
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
    #[command(flatten)]
    pub(super) connection: Connection,
}

impl Governing {
    pub(super) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// Shows that a command took effect, with what else is worth knowing.
pub(super) fn print_applied(
    submitted: &Submitted,
    more: &[(&str, Value)],
    json: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let proven = &submitted.proven;
    if json {
        let mut object = Map::new();
        object.insert("index".to_owned(), json!(proven.index));
        object.insert("result".to_owned(), json!("APPLIED"));
        object.insert("level".to_owned(), json!(proven.level.name()));
        object.insert(
            "request_id".to_owned(),
            json!(hex::encode(submitted.request_id.to_vec())),
        );
        for (name, value) in more {
            object.insert((*name).to_owned(), value.clone());
        }
        print_json(out, &object)?;
    } else {
        for (name, value) in more {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            writeln!(out, "{name}: {value}")?;
        }
        writeln!(out, "entry {}: APPLIED", proven.index)?;
    }
    Ok(submitted_exit(submitted))
}

/// How a command ends that made an entry: done only if the entry is proven as the caller asked.
pub(super) fn submitted_exit(submitted: &Submitted) -> Exit {
    level_exit(submitted.proven.index, submitted.is_provisional())
}

/// How a command ends that shows an entry: done only if the entry is proven as the caller asked.
pub(super) fn shown_exit(client: &Client, proven: &Proven) -> Exit {
    level_exit(proven.index, proven.level < client.wanted_level())
}

fn level_exit(index: u64, is_provisional: bool) -> Exit {
    if !is_provisional {
        return Exit::Done;
    }
    let _ = writeln!(
        std::io::stderr(),
        "ledger-client: one node vouches for entry {index}, and a quorum was asked for; see `ledger-client entry show {index}` before you rely on it"
    );
    Exit::Denied
}
