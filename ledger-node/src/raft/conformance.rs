//! openraft's own suite for whoever stores a log and a state machine, on both engines.
//!
//! No check of it contradicts a decision of ours: all of them pass as they are. What it does not look at, syncs, crashes and
//! broken disks, is looked at in `tests/it/cluster`.

use std::sync::{Arc, mpsc};

use ledger_core::machine::{Machine, genesis_digest};
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

use super::flusher::Flusher;
use super::log::Log;
use super::machine::StateMachine;
use super::snapshot::Snapshots;
use super::types::Types;
use crate::apply::applier::{Applier, Parts};
use crate::apply::prepare::Preparer;
use crate::cli::init::create_state;
use crate::fatal::Fatal;
use crate::genesis_file::tests::genesis;
use crate::storage::Store;
use crate::storage::marker::Marker;
use crate::storage::memory::MemoryStore;
use crate::storage::rocks::RocksStore;
use crate::storage::store_id::StoreId;

const STORE: StoreId = StoreId::from_bytes([1; 16]);

/// Makes the store of a node as `init` leaves it.
struct Fresh {
    on_disk: bool,
}

impl Fresh {
    fn store(&self, dir: &TempDir) -> Arc<dyn Store> {
        if self.on_disk {
            Arc::new(RocksStore::create(dir.path()).unwrap())
        } else {
            Arc::new(MemoryStore::new())
        }
    }
}

impl StoreBuilder<Types, Log, StateMachine, TempDir> for Fresh {
    async fn build(&self) -> Result<(TempDir, Log, StateMachine), StorageError<Types>> {
        let dir = tempfile::tempdir().unwrap();
        let store = self.store(&dir);
        let genesis = genesis();
        create_state(&*store, &genesis, 1, STORE, false).unwrap();
        let fatal = Fatal::default();
        let machine = Arc::new(Machine::new());
        let preparer = Preparer::start(
            Arc::clone(&store),
            &genesis.origin,
            Arc::clone(&machine),
            &fatal,
        )
        .unwrap();
        let applier = Applier::start(Parts {
            store: Arc::clone(&store),
            machine,
            preparer: Arc::clone(&preparer),
            waiters: Arc::default(),
            answers: mpsc::channel().0,
            points: Arc::default(),
            boundaries: Arc::default(),
            suspicion: Arc::default(),
            proposers: Arc::default(),
            fatal: fatal.clone(),
        })
        .unwrap();
        let marker =
            Arc::new(Marker::create(dir.path(), 1, genesis_digest(&genesis), STORE).unwrap());
        let snapshots = dir.path().join("snapshots");
        let snapshots =
            Snapshots::open(&snapshots, Arc::clone(&store), marker, |_| Ok(())).unwrap();
        let snapshots = Arc::new(snapshots);
        let flusher = Flusher::start(Arc::clone(&store), fatal.clone()).unwrap();
        let log = Log::new(
            store,
            flusher,
            Some(preparer),
            Arc::new(|_| Ok(())),
            1 << 20,
            0,
        );
        Ok((dir, log, StateMachine::new(applier, snapshots, fatal)))
    }
}

#[tokio::test]
async fn openraft_is_content_with_the_store_on_disk() {
    Suite::test_all(Fresh { on_disk: true }).await.unwrap();
}

#[tokio::test]
async fn openraft_is_content_with_the_store_in_memory() {
    Suite::test_all(Fresh { on_disk: false }).await.unwrap();
}
