//! The command line `ledger-client`: data on standard output, everything else on standard error, exit codes that scripts can
//! rely on.

mod adjust_time;
mod agent;
mod argument;
mod asked;
mod audit;
mod authorize;
mod cluster;
mod connection;
mod context;
mod entry;
mod entry_json;
mod explanation;
mod follow;
mod gateway;
mod governing;
mod halt;
mod key;
mod listing;
mod namespace;
mod operator;
mod payload;
mod permits;
mod policy;
mod prove;
mod record;
mod redeem;
mod replay;
mod requests;
mod session;
mod show;
mod verify;
mod witness;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use serde::Serialize;

use crate::error::Error;
use crate::printable::{printable, printable_lines};

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
    /// Stopped by the user (128 + SIGINT, as shells have it).
    Interrupted = 130,
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
            Error::Unproven { error, .. } => verify::exit_of(error),
            Error::Contradiction { .. } => Exit::Evidence,
            Error::Inconsistent(_) => Exit::Inconsistent,
            Error::NotAllowed(_) => Exit::Denied,
            Error::Internal(_) => Exit::Internal,
        };
        // The bytes are gone with this process; only `authorize` keeps them.
        let message = if let Error::Undetermined {
            request_id,
            message,
        } = error
        {
            format!(
                "{message}; whether anything happened is not known (request {request_id}): see `ledger-client entry list --descending`, and run the command again if it is not there"
            )
        } else {
            error.to_string()
        };
        // A file of the caller's can be wrong in several lines; what others say has one.
        if exit == Exit::Configuration {
            Self::new(exit, message)
        } else {
            Self::new(exit, printable(&message))
        }
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
    /// Ask whether an action may run. Exits with 0 only if it may: 3 for DENY, 4 for ESCALATE.
    Authorize(Box<authorize::Authorize>),
    /// Make use of a permit, once: exits with 0 only for the first, and only if what was permitted still may run.
    Redeem(redeem::Redeem),
    /// Record what was executed.
    Record(record::Record),
    /// Ask for recorded actions of real agents, one by one, as if they happened now.
    Replay(Box<replay::Replay>),
    /// Ask what would be answered; records nothing.
    Simulate(Box<authorize::Simulate>),
    /// Keep settings for a ledger under a name.
    Context {
        #[command(subcommand)]
        command: context::Command,
    },
    /// Make, register and retire keys.
    Key {
        #[command(subcommand)]
        command: key::Command,
    },
    /// Manage operators.
    Operator {
        #[command(subcommand)]
        command: operator::Command,
    },
    /// Manage namespaces.
    Namespace {
        #[command(subcommand)]
        command: namespace::Command,
    },
    /// Manage agents.
    Agent {
        #[command(subcommand)]
        command: agent::Command,
    },
    /// Manage gateways.
    Gateway {
        #[command(subcommand)]
        command: gateway::Command,
    },
    /// Open, close and list sessions.
    Session {
        #[command(subcommand)]
        command: session::Command,
    },
    /// Stop everything, or a part, at once.
    Halt {
        #[command(subcommand)]
        command: halt::Command,
    },
    /// Look after the nodes.
    Cluster {
        #[command(subcommand)]
        command: cluster::Command,
    },
    /// Show what is in the ledger.
    Entry {
        #[command(subcommand)]
        command: entry::Command,
    },
    /// Show entries as they come.
    Follow(Box<follow::Follow>),
    /// Show and erase what is kept beside entries.
    Payload {
        #[command(subcommand)]
        command: payload::Command,
    },
    /// Write evidence about a decision or a session, checked before it is written.
    Prove(prove::Prove),
    /// Print the newest checkpoint that a quorum vouches for, after comparing it with the one seen before.
    Checkpoint(prove::Checkpoint),
    /// Read the whole ledger, make every entry again, and compare the root with what a quorum vouches for.
    Audit(audit::Audit),
    /// Check evidence offline and explain what it proves.
    Verify(verify::Arguments),
    /// Run a witness outside, for ledgers whose trust policy asks for one.
    Witness {
        #[command(subcommand)]
        command: witness::Command,
    },
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// Runs the command line of this process.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let mut out = io::stdout().lock();
    let result = dispatch(&arguments, &mut out);
    let exit = match result.and_then(|exit| Ok(out.flush().map(|()| exit)?)) {
        Ok(exit) => exit,
        Err(failure) => {
            // Nowhere to say it if standard error is closed too.
            let message = printable_lines(&failure.message);
            let _ = writeln!(io::stderr(), "ledger-client: {message}");
            failure.exit
        }
    };
    ExitCode::from(exit as u8)
}

fn dispatch(arguments: &Arguments, out: &mut dyn Write) -> Result<Exit, Failure> {
    let json = arguments.json;
    match &arguments.command {
        Command::Policy { command } => policy::run(command, json, out),
        Command::Authorize(ask) => authorize::authorize(ask, json, out),
        Command::Redeem(redeem) => redeem::redeem(redeem, json, out),
        Command::Record(record) => record::record(record, json, out),
        Command::Replay(replay) => replay::replay(replay, json, out),
        Command::Simulate(ask) => authorize::simulate(ask, json, out),
        Command::Context { command } => context::run(command, json, out),
        Command::Key { command } => key::run(command, json, out),
        Command::Operator { command } => operator::run(command, json, out),
        Command::Namespace { command } => namespace::run(command, json, out),
        Command::Agent { command } => agent::run(command, json, out),
        Command::Gateway { command } => gateway::run(command, json, out),
        Command::Session { command } => session::run(command, json, out),
        Command::Halt { command } => halt::run(command, json, out),
        Command::Cluster { command } => cluster::run(command, json, out),
        Command::Entry { command } => entry::run(command, json, out),
        Command::Follow(follow) => follow::follow(follow, json, out),
        Command::Payload { command } => payload::run(command, json, out),
        Command::Prove(what) => prove::prove(what, json, out),
        Command::Checkpoint(what) => prove::checkpoint(what, json, out),
        Command::Audit(audit) => audit::audit(audit, json, out),
        Command::Verify(verify) => verify::run(verify, json, out),
        Command::Witness { command } => witness::run(command, json, out),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            let name = "ledger-client";
            clap_complete::generate(*shell, &mut Arguments::command(), name, &mut script);
            // The generator for bash looks for subcommands under one name and describes them under another (clap#6421).
            let script = String::from_utf8_lossy(&script);
            let script = script.replace("ledger__subcmd__client", "ledger__client");
            out.write_all(script.as_bytes())?;
            Ok(Exit::Done)
        }
    }
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

fn print_json(out: &mut dyn Write, value: &impl Serialize) -> Result<(), Failure> {
    serde_json::to_writer_pretty(&mut *out, value).map_err(io::Error::from)?;
    writeln!(out)?;
    Ok(())
}
