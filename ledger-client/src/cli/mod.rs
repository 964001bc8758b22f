//! The command line `ledger-client`: data on standard output, everything else on standard error, exit codes that scripts can
//! rely on.

mod connection;
mod policy;
mod verify;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde::Serialize;

use crate::error::Error;

/// What the process says when it ends. Numbers are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// Done, allowed, or verified.
    Done = 0,
    /// Something failed that is nobody's fault but ours or the machine's.
    Internal = 1,
    /// Called wrongly.
    Usage = 2,
    /// Denied, or not (yet) proven; a check or test failed.
    Denied = 3,
    /// An approval is required.
    Escalated = 4,
    /// Nobody could answer. Nothing happened.
    Unavailable = 6,
    /// It is not known whether anything happened; send the same request id again.
    Undetermined = 7,
    /// The caller may not do this.
    NotPermitted = 8,
    /// A signature is invalid.
    Signature = 10,
    /// An inclusion proof is invalid.
    Inclusion = 11,
    /// A quorum of cosignatures is missing.
    Quorum = 12,
    /// The ledger is not the one that was seen before.
    Inconsistent = 13,
    /// Evidence is incomplete or damaged.
    Evidence = 14,
    /// A decision comes out otherwise when it is evaluated again.
    Replay = 15,
    /// A file that configures the command is bad.
    Configuration = 64,
}

/// A failure: the exit code, and one sentence that says what is wrong and what to do.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match &error {
            Error::Configuration(_) => Exit::Configuration,
            Error::Invalid(_) | Error::NotFound(_) => Exit::Usage,
            Error::NotPermitted(_) => Exit::NotPermitted,
            Error::Unavailable(_) => Exit::Unavailable,
            Error::Undetermined { .. } => Exit::Undetermined,
            Error::Unproven(error) => verify::exit_of(error),
            Error::Contradiction(_) => Exit::Evidence,
            Error::Inconsistent(_) => Exit::Inconsistent,
            Error::NotAllowed(_) => Exit::Denied,
            Error::Internal(_) => Exit::Internal,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(
            Exit::Internal,
            format!("the output cannot be written: {error}"),
        )
    }
}

/// Countersign: a provable authorization ledger for AI agents.
#[derive(Debug, Parser)]
#[command(name = "ledger-client", version)]
struct Arguments {
    /// Print JSON for machines.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write, check, test and pack rule bundles.
    Policy {
        #[command(subcommand)]
        command: policy::Command,
    },
    /// Check evidence offline and explain what it proves.
    Verify(verify::Arguments),
}

/// Runs the command line of this process.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let mut out = io::stdout().lock();
    let result = match &arguments.command {
        Command::Policy { command } => policy::run(command, arguments.json, &mut out),
        Command::Verify(verify) => verify::run(verify, arguments.json, &mut out),
    };
    let exit = match result.and_then(|exit| Ok(out.flush().map(|()| exit)?)) {
        Ok(exit) => exit,
        Err(failure) => {
            // Nowhere to say it if standard error is closed too.
            let _ = writeln!(io::stderr(), "ledger-client: {}", failure.message);
            failure.exit
        }
    };
    ExitCode::from(exit as u8)
}

/// Reads a file of at most `limit` bytes.
fn read_file(path: &Path, limit: usize, exit: Exit) -> Result<Vec<u8>, Failure> {
    use std::io::Read;
    let unreadable = |error: io::Error| {
        Failure::new(exit, format!("{} cannot be read: {error}", path.display()))
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(bound)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() > limit {
        return Err(Failure::new(
            exit,
            format!("{} is longer than {limit} bytes", path.display()),
        ));
    }
    Ok(bytes)
}

/// Writes a file so that it is there as a whole or not at all.
fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        Failure::new(
            Exit::Internal,
            format!("{} cannot be written: {error}", path.display()),
        )
    };
    let mut beside: PathBuf = path.to_owned();
    beside.as_mut_os_string().push(".partial");
    let written = std::fs::write(&beside, bytes).and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|error| {
        // What is half-written is no use to anybody; if it cannot be removed either, the message below still holds.
        let _ = std::fs::remove_file(&beside);
        failed(error)
    })
}

fn print_json(out: &mut dyn Write, value: &impl Serialize) -> Result<(), Failure> {
    serde_json::to_writer_pretty(&mut *out, value).map_err(io::Error::from)?;
    writeln!(out)?;
    Ok(())
}
