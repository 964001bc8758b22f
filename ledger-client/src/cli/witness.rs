//! `ledger-client witness`: a small witness of our own, to be run where none of the ledger's nodes is.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Subcommand;
use serde_json::json;
use tokio::net::TcpListener;

use super::connection::block_on_or;
use super::{Exit, Failure, print_json};
use crate::witness::{Witness, create, serve};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a witness: a new folder with its key and its memory. Prints the vkey that a trust policy names.
    New {
        /// The folder. It is never made anew under an old key: a witness that has forgotten is replaced.
        folder: PathBuf,
        /// The witness's name, such as `witness.example.com/w1`.
        #[arg(long)]
        name: String,
    },
    /// Cosign the trees of ledgers, each only if a quorum of its nodes has, and it contains the one cosigned before.
    Serve {
        /// The witness's folder.
        folder: PathBuf,
        /// The trust policy of a ledger to be witnessed; once for each.
        #[arg(long = "trust", value_name = "FILE", required = true)]
        policies: Vec<PathBuf>,
        /// Nodes of that ledger, separated by commas, which show how its trust policy has changed; once for each `--trust`, in the same
        /// order. Without it, start the witness with the new policy (`ledger-client cluster policy`) after each change of the nodes.
        #[arg(long = "endpoints", value_name = "URLS")]
        endpoints: Vec<String>,
        /// Where to listen. What is said there is public and signed; a proxy can put TLS in front.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7600")]
        listen: SocketAddr,
    },
}

pub(super) fn run(command: &Command, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    match command {
        Command::New { folder, name } => {
            let vkey = create(folder, name)?.to_string();
            if json {
                print_json(out, &json!({ "name": name, "vkey": vkey }))?;
            } else {
                writeln!(out, "{vkey}")?;
            }
            Ok(Exit::Done)
        }
        Command::Serve {
            folder,
            policies,
            endpoints,
            listen,
        } => {
            let endpoints: Vec<Vec<String>> = endpoints
                .iter()
                .map(|urls| urls.split(',').map(str::to_owned).collect())
                .collect();
            let work = async {
                let witness = Arc::new(Witness::open(folder, policies, &endpoints)?);
                let listener = TcpListener::bind(listen).await.map_err(|error| {
                    Failure::new(
                        Exit::Configuration,
                        format!("cannot listen on {listen}: {error}"),
                    )
                })?;
                // For people: it says nothing more until it ends.
                let _ = writeln!(
                    std::io::stderr(),
                    "ledger-client: {} listens on {listen}",
                    witness.vkey().name()
                );
                serve(witness, listener).await?;
                Ok::<_, Failure>(Exit::Done)
            };
            block_on_or(work, || {
                "stopped; what was cosigned is remembered".to_owned()
            })
        }
    }
}
