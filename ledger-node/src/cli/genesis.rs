//! `ledger-node genesis`: a ledger begins with public files; no machine ever holds all keys.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use ledger_core::id::Identity;
use ledger_core::machine::genesis_digest;
use ledger_core::quorum::{NodeQuorum, Quorum, witnesses_of};

use super::{Exit, Failure, about, read_text, unwritable, write_new};
use crate::clock::{Clock as _, SystemClock, SystemEntropy};
use crate::genesis_file::{EnrolmentFile, Ingredients, make, read_card, to_toml};
use crate::keyfile::KeyFile;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The ledger's name, a URL without a schema; ends in `/blake3` iff the tree hash is blake3.
    #[arg(long)]
    origin: String,
    /// The hash of the ledger's tree.
    #[arg(long, default_value = "sha256", value_parser = ["sha256", "blake3"])]
    tree_hash: String,
    /// The card of a node; once for each.
    #[arg(long = "card", value_name = "FILE", required = true)]
    cards: Vec<PathBuf>,
    /// The card of an admin; once for each.
    #[arg(long = "admin", value_name = "FILE", required = true)]
    admins: Vec<PathBuf>,
    /// How many admins must sign what admins do.
    #[arg(long, value_name = "K", default_value_t = 1)]
    admin_threshold: u32,
    /// How many nodes must cosign a checkpoint; without it, more than half. More than that shares more nodes between any two
    /// quorums, and nothing is proven while too many are down.
    #[arg(long, value_name = "N")]
    quorum: Option<usize>,
    /// A witness outside whose cosignature is asked for too: its name in the trust policy, its vkey, and its URL; once for each.
    #[arg(long = "witness", value_names = ["NAME", "VKEY", "URL"], num_args = 3)]
    witnesses: Vec<String>,
    /// How many witnesses must cosign; without it, more than half of them.
    #[arg(long, value_name = "K", requires = "witnesses")]
    witness_quorum: Option<usize>,
    /// The key file of an offline key that can replace the admins and nothing else.
    #[arg(long, value_name = "FILE")]
    recovery: Option<PathBuf>,
    /// Where to write the genesis.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Where to write the log's key, which every node needs.
    #[arg(long, value_name = "FILE")]
    log_key: PathBuf,
    /// Where to write the trust policy, which everybody needs who verifies.
    #[arg(long, value_name = "FILE")]
    trust_policy: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<Exit, Failure> {
    let mut nodes = Vec::with_capacity(arguments.cards.len());
    for path in &arguments.cards {
        nodes.push(read_card(&read_text(path)?).map_err(|what| about(path, &what))?);
    }
    let mut admins = Vec::with_capacity(arguments.admins.len());
    for path in &arguments.admins {
        admins.push(read_card(&read_text(path)?).map_err(|what| about(path, &what))?);
    }
    let recovery = match &arguments.recovery {
        Some(path) => Some(EnrolmentFile::new(
            &arguments.origin,
            &Identity::Recovery,
            &KeyFile::open(path)?,
        )),
        None => None,
    };
    let quorum = quorum(arguments).map_err(Failure::configuration)?;
    let log = KeyFile::create(&arguments.log_key, None, &SystemEntropy)?;
    let made = make(Ingredients {
        origin: arguments.origin.clone(),
        tree_hash: arguments.tree_hash.clone(),
        created_at_us: SystemClock.now_us(),
        nodes,
        admins,
        admin_threshold: arguments.admin_threshold,
        recovery,
        log: *log.public(),
        quorum,
    })
    .and_then(|genesis| Ok((to_toml(&genesis)?, genesis)))
    .map_err(Failure::configuration)
    .and_then(|(text, genesis)| {
        if let Some(path) = &arguments.trust_policy {
            write_new(path, &genesis.trust_policy)?;
        }
        write_new(&arguments.out, &text)?;
        Ok(genesis_digest(&genesis))
    });
    match made {
        Ok(digest) => {
            writeln!(out, "{digest}").map_err(unwritable)?;
            Ok(Exit::Done)
        }
        Err(failure) => {
            // Without its genesis the key is of no use, and would be in the way of the next attempt.
            let _ = std::fs::remove_file(&arguments.log_key);
            Err(failure)
        }
    }
}

/// Whose cosignatures make a checkpoint believable.
fn quorum(arguments: &Arguments) -> Result<Quorum, String> {
    Ok(Quorum {
        nodes: arguments
            .quorum
            .map_or(NodeQuorum::Majority, NodeQuorum::Count),
        witnesses: witnesses_of(&arguments.witnesses)?,
        witness_count: arguments.witness_quorum,
    })
}
