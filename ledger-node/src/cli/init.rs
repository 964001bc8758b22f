//! `ledger-node init`: makes the data directory, once. It is never a way to repair one.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use ledger_core::machine;
use ledger_core::note::tlog_policy::TlogPolicy;
use ledger_core::signer::Signer;
use ledger_core::state::Txn;
use ledger_proto::v1;

use super::{Exit, Failure, about, read_text, trust, write_new};
use crate::clock::{Entropy as _, SystemEntropy};
use crate::config::{Config, Overrides};
use crate::genesis_file;
use crate::index;
use crate::keyfile::KeyFile;
use crate::storage::marker::{MARKER_FILE, Marker};
use crate::storage::rocks::RocksStore;
use crate::storage::store_id::StoreId;
use crate::storage::view::StoreState;
use crate::storage::{Batch, Store, Table, meta};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The node's configuration.
    #[arg(long, env = "COUNTERSIGN_NODE_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// The ledger's genesis.
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    /// This node begins the cluster. Exactly one node of the genesis does, and never again.
    #[arg(long)]
    first: bool,
    /// The ledger's trust policy of now, for a node that joins after nodes of the genesis have left: it names the members.
    #[arg(long, value_name = "FILE", conflicts_with = "first")]
    trust: Option<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let config = Config::load(&arguments.config, &arguments.overrides)?;
    let text = read_text(&arguments.genesis)?;
    let genesis =
        genesis_file::from_toml(&text).map_err(|what| about(&arguments.genesis, &what))?;
    check_keys(&config, &genesis, arguments.first)?;
    let trust = arguments.trust.as_deref();
    let trust = trust.map(|path| trust::read(path, &genesis)).transpose()?;
    make_marker_dir(&config)?;
    make_empty_dir(&config.data_dir)?;
    let failed = |what: String| {
        let dir = config.data_dir.display();
        Failure::new(
            Exit::Fatal,
            format!("{dir} cannot be made: {what}; remove it and run init again"),
        )
    };
    let store = RocksStore::create(&config.data_dir).map_err(|error| failed(error.to_string()))?;
    let store_id = SystemEntropy
        .id()
        .map_err(|error| failed(error.to_string()))?;
    let store_id = StoreId::from_bytes(store_id);
    create_state(&store, &genesis, config.node_id, store_id, arguments.first).map_err(failed)?;
    write_new(&config.genesis_path(), &text)?;
    if let Some(trust) = trust {
        trust::keep(&config, &trust)?;
    }
    // The marker comes last: a directory without one is not a node's, and does not start.
    let digest = machine::genesis_digest(&genesis);
    Marker::create(&config.marker_dir, config.node_id, digest, store_id)
        .map_err(|error| failed(error.to_string()))?;
    Ok(Exit::Done)
}

/// Writes the genesis, and who this node is, into an empty store; durable when this returns.
///
/// # Errors
/// The genesis is not valid, or the store cannot be written.
pub fn create_state(
    store: &dyn Store,
    genesis: &v1::Genesis,
    node_id: u64,
    store_id: StoreId,
    first: bool,
) -> Result<(), String> {
    let state = StoreState(store);
    let mut txn = Txn::new(&state);
    let first_entry = machine::genesis(&mut txn, genesis).map_err(|error| error.to_string())?;
    let mut batch = Batch::new();
    index::changes(&txn, &first_entry.entry, &mut batch).map_err(|error| error.to_string())?;
    for (key, value) in txn.into_writes() {
        match value {
            Some(value) => batch.put(Table::State, key, value),
            None => batch.delete(Table::State, key),
        }
    }
    let digest = machine::genesis_digest(genesis);
    batch.put(
        Table::Meta,
        meta::FORMAT,
        meta::FORMAT_VERSION.to_be_bytes(),
    );
    batch.put(Table::Meta, meta::NODE, node_id.to_be_bytes());
    batch.put(Table::Meta, meta::GENESIS, *digest.as_bytes());
    batch.put(Table::Meta, meta::STORE, *store_id.as_bytes());
    if first {
        batch.put(Table::Meta, meta::BOOTSTRAP, Vec::new());
    }
    store.write(&batch).map_err(|error| error.to_string())?;
    store.sync().map_err(|error| error.to_string())
}

/// Says whether the node's files belong to this ledger.
///
/// # Errors
/// A key is of something else, or another node should begin.
pub fn check_keys(config: &Config, genesis: &v1::Genesis, first: bool) -> Result<(), Failure> {
    let node = KeyFile::open(&config.node_key)?;
    let log = KeyFile::open(&config.log_key)?;
    let is_log = TlogPolicy::parse(genesis.trust_policy.as_bytes()).is_ok_and(|policy| {
        let mut logs = policy.logs().iter();
        logs.any(|known| known.key.public_key() == log.public())
    });
    if !is_log {
        return Err(about(
            &config.log_key,
            "not the log key of this genesis; use the one that `ledger-node genesis` wrote",
        ));
    }
    let id = config.node_id;
    match genesis.nodes.iter().find(|card| card.node_id == id) {
        Some(card) if card.public_key != node.public_key() => Err(about(
            &config.node_key,
            &format!("not the key of node {id} in this genesis"),
        )),
        None if first => Err(Failure::configuration(format!(
            "node {id} is not in this genesis, so that it cannot begin the cluster; leave out --first to join"
        ))),
        Some(_) | None => Ok(()),
    }
}

/// Makes the folder of a marker that is kept apart. Other nodes' markers are kept in other folders.
fn make_marker_dir(config: &Config) -> Result<(), Failure> {
    let dir = &config.marker_dir;
    if *dir == config.data_dir {
        return Ok(());
    }
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir);
    made.map_err(|error| about(dir, &format!("cannot be made: {error}")))?;
    if dir.join(MARKER_FILE).exists() {
        return Err(about(
            dir,
            "holds a marker already: a node that has run must not be made again under its id; if its data are lost, let it join under a new node id with a new key and a marker folder of its own",
        ));
    }
    Ok(())
}

fn make_empty_dir(dir: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| about(dir, &format!("cannot be made: {error}"));
    // What people asked and answered is in here: nobody else's to read.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(failed)?;
    if std::fs::read_dir(dir).map_err(failed)?.next().is_some() {
        return Err(about(
            dir,
            "not empty; init never repairs or overwrites, choose another directory",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::genesis_file::tests::genesis;
    use crate::storage::Read as _;
    use crate::storage::memory::MemoryStore;

    #[test]
    fn the_state_is_that_of_the_genesis() {
        let genesis = genesis();
        let id = StoreId::from_bytes([7; 16]);
        for first in [true, false] {
            let store = MemoryStore::new();
            create_state(&store, &genesis, 2, id, first).unwrap();
            let state = StoreState(&store);
            let tip = machine::tip(&state).unwrap();
            assert_eq!(tip.size.0, 1);
            let get = |key: &[u8]| store.get(Table::Meta, key).unwrap();
            assert_eq!(get(meta::NODE), Some(2_u64.to_be_bytes().to_vec()));
            assert_eq!(get(meta::FORMAT), Some(vec![0, 0, 0, 1]));
            assert_eq!(get(meta::STORE), Some(vec![7; 16]));
            let digest = machine::genesis_digest(&genesis);
            assert_eq!(get(meta::GENESIS), Some(digest.as_bytes().to_vec()));
            assert_eq!(get(meta::BOOTSTRAP).is_some(), first);
            let twice = create_state(&store, &genesis, 2, id, first).unwrap_err();
            assert!(twice.contains("already"), "{twice}");
        }
    }

    #[test]
    fn a_directory_with_anything_in_it_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        make_empty_dir(&dir.path().join("new/deep")).unwrap();
        let failure = make_empty_dir(dir.path()).unwrap_err();
        assert_eq!(failure.exit, Exit::Configuration);
    }
}
