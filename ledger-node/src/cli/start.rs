//! `ledger-node start`: runs the node until it is asked to stop.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::init::check_keys;
use super::{Exit, Failure, trust};
use crate::clock::{SystemClock, SystemEntropy};
use crate::config::{Config, Overrides};
use crate::keyfile::KeyFile;
use crate::node::start::{Given, StartError};
use crate::storage::rocks::Closed;
use crate::{genesis_file, logging, node};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The node's configuration.
    #[arg(long, env = "COUNTERSIGN_NODE_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// Believe the state that this node got as a copy, although too few nodes are left to confirm it: only when those are lost for good.
    #[arg(long)]
    accept_copy: bool,
    /// The ledger's trust policy of now, for a node that was away until all nodes that it knew had left: it names the members.
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
    /// Take part on a data directory that was copied or is new, although too few other nodes can say what this one has promised: only
    /// when those are lost for good, and this is the newest disk that this node ever had.
    #[arg(long)]
    accept_data: bool,
    #[command(flatten)]
    overrides: Overrides,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let config = Config::load(&arguments.config, &arguments.overrides)?;
    logging::begin(&config.log).map_err(Failure::configuration)?;
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Fatal, format!("no threads can be made: {error}")))?;
    let mut open = None;
    let ended = runtime.block_on(async {
        let stop = CancellationToken::new();
        listen_for_signals(&stop)?;
        serve(config, arguments, stop, &mut open).await
    });
    runtime.shutdown_timeout(CLOSE);
    if open.is_some_and(|store| !store.wait(CLOSE)) {
        tracing::warn!("the store is still in use; it will be recovered at the next start");
    }
    ended.map(|()| Exit::Done)
}

/// Asks for as many open files as the system grants. A node holds up to a thousand tables and thousands of connections open, and
/// many systems give a program 1,024 unless it asks.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::warn!(%error, ?limit.current, "no more files can be open than now");
    }
}

/// How long what still runs has to let go of the store.
const CLOSE: Duration = Duration::from_secs(5);

/// Runs a node until `stop` is cancelled and everything is drained, or until it fails.
///
/// # Errors
/// [`Failure`]: `Configuration` before anything was touched, `Data` if the node must rejoin under a new id, else `Fatal`.
async fn serve(
    config: Config,
    arguments: &Arguments,
    stop: CancellationToken,
    open: &mut Option<Closed>,
) -> Result<(), Failure> {
    let path = config.genesis_path();
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Failure::configuration(format!(
            "cannot read {}: {error}. Is this node's disk mounted? A node that has ever run must not be made again under its id: look for its disk, else let it join under a new node id. Only one that has never run needs `ledger-node init`",
            path.display()
        ))
    })?;
    let genesis = genesis_file::from_toml(&text)
        .map_err(|error| Failure::configuration(format!("{}: {error}", path.display())))?;
    check_keys(&config, &genesis, false)?;
    if let Some(path) = &arguments.trust {
        trust::keep(&config, &trust::read(path, &genesis)?)?;
    }
    let given = Given {
        node_key: Arc::new(KeyFile::open(&config.node_key)?),
        log_key: KeyFile::open(&config.log_key)?,
        genesis,
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        accept_copy: arguments.accept_copy,
        accept_data: arguments.accept_data,
    };
    node::start::run(config, given, stop, open)
        .await
        .map_err(|error| match error {
            StartError::Configuration(what) => Failure::configuration(what),
            StartError::Data(what) => Failure::new(Exit::Data, what),
            StartError::Fatal(what) => Failure::new(Exit::Fatal, what),
        })
}

/// The first SIGTERM or SIGINT drains the node, the second ends the process at once.
fn listen_for_signals(stop: &CancellationToken) -> Result<(), Failure> {
    let on = |kind| {
        signal(kind).map_err(|error| {
            Failure::new(Exit::Fatal, format!("signals cannot be received: {error}"))
        })
    };
    let mut terminate = on(SignalKind::terminate())?;
    let mut interrupt = on(SignalKind::interrupt())?;
    let stop = stop.clone();
    tokio::spawn(async move {
        either(&mut terminate, &mut interrupt).await;
        tracing::info!("stopping; a second signal ends the process at once");
        stop.cancel();
        either(&mut terminate, &mut interrupt).await;
        tracing::warn!("ended by a second signal; this node recovers at the next start");
        std::process::exit(i32::from(Exit::Fatal as u8));
    });
    Ok(())
}

async fn either(a: &mut Signal, b: &mut Signal) {
    tokio::select! {
        _ = a.recv() => {}
        _ = b.recv() => {}
    }
}
