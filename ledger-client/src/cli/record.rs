//! `ledger-client record`: says what was executed, and shows where it drifted from what was authorized.

use std::io::Write;

use clap::{Args, ValueEnum};
use ledger_core::limits::{MAX_INPUT_LEN, MAX_OUTPUT_LEN};
use ledger_proto::v1::ExecutionStatus;
use serde_json::json;

use super::argument::text;
use super::connection::{Connection, Speaker, block_on};
use super::governing::submitted_exit;
use super::{Exit, Failure, permits, print_json};
use crate::action::{Execution, Recorded};

#[derive(Debug, Args)]
pub(super) struct Record {
    /// The entry of the decision.
    decision: u64,
    /// How the execution ended.
    #[arg(long, value_enum)]
    status: Status,
    /// The arguments that were executed, a JSON object; `@FILE` reads a file, `-` standard input. Compared with those that were
    /// authorized.
    #[arg(long, value_name = "JSON")]
    input: Option<String>,
    /// The tool's output, kept beside the outcome; `@FILE` reads a file, `-` standard input.
    #[arg(long, value_name = "TEXT")]
    output: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

/// How an execution ended.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Status {
    /// It did what was asked.
    Succeeded,
    /// It failed without effects.
    Failed,
    /// Some effects happened, not all.
    Partial,
    /// It was never begun.
    NotExecuted,
    /// Nobody can tell.
    Unknown,
}

impl Status {
    const fn message(self) -> ExecutionStatus {
        match self {
            Self::Succeeded => ExecutionStatus::Succeeded,
            Self::Failed => ExecutionStatus::Failed,
            Self::Partial => ExecutionStatus::Partial,
            Self::NotExecuted => ExecutionStatus::NotExecuted,
            Self::Unknown => ExecutionStatus::Unknown,
        }
    }
}

pub(super) fn record(arguments: &Record, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    // Standard input can take for ever, so it is read before anybody is asked.
    let input = arguments.input.as_deref();
    let input = input.map(|input| text(input, MAX_INPUT_LEN)).transpose()?;
    let output = arguments.output.as_deref();
    let output = output
        .map(|output| text(output, MAX_OUTPUT_LEN))
        .transpose()?;
    block_on(async {
        let connection = &arguments.connection;
        let client = connection.open(Speaker::Key).await?;
        let path = permits::path(connection, &client, arguments.decision)?;
        let salt = permits::salt(&path)?;
        if input.is_some() && salt.is_none() {
            let what = format!(
                "the decision at entry {} was not asked for from here: its salt is not in {}, so the ledger could not compare the input; record without --input, or where it was asked",
                arguments.decision,
                path.display()
            );
            return Err(Failure::new(Exit::Configuration, what));
        }
        let execution = Execution {
            decision: arguments.decision,
            status: arguments.status.message(),
            input_salt: salt,
            input,
            keep_input: false,
            output,
            result_digest: None,
            redemption: permits::redemption(&path)?,
            started_at_us: 0,
            finished_at_us: 0,
        };
        let recorded = client.record(execution).await?;
        show_recorded(&recorded, json, out)
    })
}

fn show_recorded(recorded: &Recorded, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let short = |name: &'static str, prefix: &str| name.strip_prefix(prefix).unwrap_or(name);
    let drift = recorded
        .drift
        .iter()
        .map(|one| short(one.as_str_name(), "DRIFT_"));
    let drift: Vec<&str> = drift.collect();
    let notices = recorded
        .notices
        .iter()
        .map(|one| short(one.as_str_name(), "NOTICE_"));
    let notices: Vec<&str> = notices.collect();
    let proven = &recorded.submitted.proven;
    if json {
        let value = json!({
            "index": proven.index,
            "level": proven.level.name(),
            "drift": drift,
            "notices": notices,
        });
        print_json(out, &value)?;
    } else {
        writeln!(
            out,
            "recorded as entry {}, {}",
            proven.index,
            proven.level.name()
        )?;
        for one in drift {
            writeln!(out, "drift: {one}")?;
        }
        for one in notices {
            writeln!(out, "notice: {one}")?;
        }
    }
    Ok(submitted_exit(&recorded.submitted))
}
