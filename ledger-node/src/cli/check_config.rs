//! `ledger-node check-config`: what `start` would refuse, before it is needed.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::{Exit, Failure, unwritable};
use crate::config::{Config, Overrides};
use crate::keyfile::KeyFile;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The node's configuration.
    #[arg(long, env = "COUNTERSIGN_NODE_CONFIG", value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    overrides: Overrides,
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<Exit, Failure> {
    let config = Config::load(&arguments.config, &arguments.overrides)?;
    KeyFile::open(&config.node_key)?;
    KeyFile::open(&config.log_key)?;
    writeln!(out, "{config:#?}").map_err(unwritable)?;
    Ok(Exit::Done)
}
