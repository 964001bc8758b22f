//! The command line `ledger-node`: data on standard output, everything else on standard error, exit codes that service managers
//! and scripts can rely on.

mod check_config;
mod fsck;
mod genesis;
mod health;
pub mod init;
mod key;
pub mod start;
mod trust;

use std::io::{self, Read as _, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::genesis_file::MAX_FILE_LEN;
use crate::keyfile::{KeyFileError, sync_dir_of};

/// What the process says when it ends. Numbers are stable; clap's own is 2, for wrong usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or stopped as asked.
    Done = 0,
    /// A configuration, key, card or genesis is bad: nothing was touched; correct it and try again.
    Configuration = 64,
    /// The data must not be used: starting again does not help, rejoin under a new id. A service manager must not restart.
    Data = 65,
    /// The node or cluster asked does not serve.
    Unavailable = 69,
    /// Anything else, such as a failed disk: the node stopped, and may be started again once that is repaired.
    Fatal = 70,
}

/// A failure: the exit code, and one sentence that says what is wrong and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// The sentence.
    pub message: String,
}

impl Failure {
    /// A failure.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
        }
    }

    fn configuration(message: impl Into<String>) -> Self {
        Self::new(Exit::Configuration, message)
    }
}

impl From<KeyFileError> for Failure {
    fn from(error: KeyFileError) -> Self {
        Self::configuration(error.to_string())
    }
}

impl From<crate::config::ConfigError> for Failure {
    fn from(error: crate::config::ConfigError) -> Self {
        Self::configuration(error.to_string())
    }
}

/// Countersign: a replica of the authorization ledger.
#[derive(Debug, Parser)]
#[command(name = "ledger-node", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make keys and the cards that go with them.
    Key {
        #[command(subcommand)]
        command: key::Command,
    },
    /// Make the beginning of a ledger from the cards of its nodes and admins.
    Genesis(genesis::Arguments),
    /// Make the data directory of a node. `start` never does.
    Init(init::Arguments),
    /// Run the node.
    Start(start::Arguments),
    /// Say whether a configuration is valid, and what it comes to.
    CheckConfig(check_config::Arguments),
    /// Check everything that a stopped node keeps. Changes nothing.
    Fsck(fsck::Arguments),
    /// Say whether a node serves.
    Health(health::Arguments),
}

/// Runs the command line of this process.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let mut out = io::stdout().lock();
    let result = match &arguments.command {
        Command::Key { command } => key::run(command, &mut out),
        Command::Genesis(genesis) => genesis::run(genesis, &mut out),
        Command::Init(init) => init::run(init),
        Command::Start(start) => start::run(start),
        Command::CheckConfig(check) => check_config::run(check, &mut out),
        Command::Fsck(fsck) => fsck::run(fsck, &mut out),
        Command::Health(health) => health::run(health),
    };
    let result = result.and_then(|exit| out.flush().map(|()| exit).map_err(unwritable));
    let exit = match result {
        Ok(exit) => exit,
        Err(failure) => {
            // Nowhere to say it if standard error is closed too.
            let _ = writeln!(io::stderr(), "ledger-node: {}", failure.message);
            failure.exit
        }
    };
    ExitCode::from(exit as u8)
}

fn unwritable(error: io::Error) -> Failure {
    Failure::new(
        Exit::Fatal,
        format!("the output cannot be written: {error}"),
    )
}

/// Reads a small text file.
fn read_text(path: &Path) -> Result<String, Failure> {
    let failed = |error: io::Error| {
        Failure::configuration(format!("{} cannot be read: {error}", path.display()))
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut text = String::new();
    file.take(MAX_FILE_LEN as u64 + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() > MAX_FILE_LEN {
        let path = path.display();
        return Err(Failure::configuration(format!(
            "{path} is longer than {MAX_FILE_LEN} bytes"
        )));
    }
    Ok(text)
}

/// Writes a new file, durably; what exists is not touched.
fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let write = || {
        let mut file = std::fs::File::create_new(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        sync_dir_of(path)
    };
    write().map_err(|error: io::Error| {
        Failure::configuration(format!("{} cannot be written: {error}", path.display()))
    })
}

/// Puts the name of a file before what is wrong with it.
fn about(path: &Path, what: &str) -> Failure {
    Failure::configuration(format!("{}: {what}", path.display()))
}
