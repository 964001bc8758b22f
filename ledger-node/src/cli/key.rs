//! `ledger-node key`: every key is made where it will be used; only its card travels.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use ledger_core::card::NodeFile;
use ledger_core::id::Identity;
use ledger_core::keys::PublicKey;
use serde::Serialize;

use super::{Exit, Failure, unwritable, write_new};
use crate::clock::SystemEntropy;
use crate::genesis_file::{OperatorFile, write_card};
use crate::keyfile::KeyFile;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make the key of a node, and its card.
    New(New),
    /// Make the key of an operator, and the card that enrols it in the genesis.
    Admin(Admin),
    /// Print the public key of a key file.
    Show {
        /// The key file.
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(super) struct New {
    /// Where to write the key.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The node's id, never used before in this ledger.
    #[arg(long, value_name = "N")]
    node_id: u64,
    /// The ledger's name, a URL without a schema.
    #[arg(long)]
    origin: String,
    /// Where other nodes will reach it.
    #[arg(long, value_name = "HOST:PORT")]
    peer: String,
    /// Where clients will reach it.
    #[arg(long, value_name = "HOST:PORT")]
    client: String,
    /// Write the card to this file instead of standard output.
    #[arg(long, value_name = "FILE")]
    card: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Admin {
    /// Where to write the key.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The operator's id.
    #[arg(long)]
    id: String,
    /// A name for people.
    #[arg(long, default_value = "")]
    name: String,
    /// The ledger's name, a URL without a schema.
    #[arg(long)]
    origin: String,
    /// Write the card to this file instead of standard output.
    #[arg(long, value_name = "FILE")]
    card: Option<PathBuf>,
}

pub(super) fn run(command: &Command, out: &mut dyn Write) -> Result<Exit, Failure> {
    match command {
        Command::New(new) => {
            // What the card needs is checked with a key that anybody knows, before a key is made that nobody would use.
            let try_out = PublicKey::from_bytes(&ed25519_basepoint());
            let card = |key: &PublicKey| {
                NodeFile::new(&new.origin, new.node_id, key, &new.peer, &new.client)
                    .map_err(Failure::configuration)
            };
            if let Ok(key) = try_out {
                card(&key)?;
            }
            let key =
                KeyFile::create(&new.out, Some(&Identity::Node(new.node_id)), &SystemEntropy)?;
            let card = card(key.public())?.proven(&new.origin, &key);
            give(&card, new.card.as_ref(), out)
        }
        Command::Admin(admin) => {
            ledger_core::id::check_text(&admin.id, ledger_core::limits::MAX_ID_LEN)
                .map_err(|error| Failure::configuration(error.to_string()))?;
            let key = KeyFile::create(
                &admin.out,
                Some(&Identity::Operator(admin.id.clone())),
                &SystemEntropy,
            )?;
            let card = OperatorFile::new(&admin.origin, &admin.id, &admin.name, &key);
            give(&card, admin.card.as_ref(), out)
        }
        Command::Show { file } => {
            let key = KeyFile::open(file)?;
            let public = hex::encode(key.public().as_bytes());
            let id = key.public().key_id();
            writeln!(out, "public_key = \"{public}\"\nkey_id = \"{id}\"").map_err(unwritable)?;
            Ok(Exit::Done)
        }
    }
}

/// The compressed base point of the curve (RFC 8032, section 5.1): y = 4/5.
const fn ed25519_basepoint() -> [u8; 32] {
    let mut bytes = [0x66; 32];
    bytes[0] = 0x58;
    bytes
}

fn give(
    card: &impl Serialize,
    file: Option<&PathBuf>,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let text = write_card(card).map_err(Failure::configuration)?;
    match file {
        Some(file) => write_new(file, &text)?,
        None => out.write_all(text.as_bytes()).map_err(unwritable)?,
    }
    Ok(Exit::Done)
}
