//! Nodes inside the test's own process, on stores in memory whose disks a test holds still, slows down and breaks.
//!
//! They are whole nodes behind real sockets; only the store is another one. A node that must not go on ends here as its
//! process would.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use countersign_tests::cluster::invariants::holds;
use countersign_tests::cluster::wait::until;
use countersign_tests::cluster::{Cluster, NodeFiles, Options, RECOVERY};
use ledger_core::machine::genesis_digest;
use ledger_node::cli::init::create_state;
use ledger_node::clock::{Clock, SystemClock, SystemEntropy};
use ledger_node::config::{Config, Overrides};
use ledger_node::keyfile::KeyFile;
use ledger_node::node::start::{Given, StartError, run_on};
use ledger_node::storage::marker::{Marker, MarkerError};
use ledger_node::storage::memory::{MemoryStore, Operation, Script};
use ledger_node::storage::store_id::StoreId;
use ledger_node::storage::{Direction, Read, Store, Table};
use ledger_node::{fsck, genesis_file};
use ledger_proto::v1;
use std::ops::Bound;
use tokio_util::sync::CancellationToken;

/// How long tasks have to end after their node.
const CLOSE: Duration = Duration::from_secs(5);

/// What happens to the disk of one node.
#[derive(Default)]
pub(super) struct Disk {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    held: bool,
    waiting: usize,
    slow: Duration,
    broken: Option<(Operation, i32)>,
    syncs: u64,
}

impl Disk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics in here")
    }

    fn script(self: &Arc<Self>) -> Script {
        let disk = Arc::clone(self);
        Arc::new(move |operation| disk.operate(operation))
    }

    fn operate(&self, operation: Operation) -> io::Result<()> {
        let mut state = self.state();
        if operation == Operation::Sync {
            state.waiting += 1;
            let slow = state.slow;
            if !slow.is_zero() {
                state = self.changed.wait_timeout(state, slow).expect("no panics").0;
            }
            while state.held {
                state = self.changed.wait(state).expect("no panics");
            }
            state.waiting -= 1;
            state.syncs += 1;
        }
        match state.broken {
            Some((broken, code)) if broken == operation => Err(io::Error::from_raw_os_error(code)),
            _ => Ok(()),
        }
    }

    /// From now on syncs do not end.
    pub(super) fn hold(&self) {
        self.state().held = true;
    }

    /// Syncs end again.
    pub(super) fn release(&self) {
        self.state().held = false;
        self.changed.notify_all();
    }

    /// Each sync takes so long.
    pub(super) fn slow(&self, slow: Duration) {
        self.state().slow = slow;
    }

    /// From now on these operations fail with this code of the system.
    pub(super) fn fail(&self, operation: Operation, code: i32) {
        self.state().broken = Some((operation, code));
    }

    /// True if somebody waits for a sync that does not end.
    pub(super) fn holds_somebody(&self) -> bool {
        let state = self.state();
        state.held && state.waiting > 0
    }

    /// How many syncs there were.
    pub(super) fn syncs(&self) -> u64 {
        self.state().syncs
    }
}

/// A running node.
pub(super) struct Inside {
    pub(super) store: Arc<MemoryStore>,
    pub(super) disk: Arc<Disk>,
    killed: CancellationToken,
    stop: CancellationToken,
    thread: JoinHandle<Result<(), StartError>>,
}

/// The clock of the system, so many microseconds ahead.
#[derive(Debug, Default)]
pub(super) struct ShiftedClock(AtomicI64);

impl ShiftedClock {
    /// From now on it is this far ahead of the system's, or behind.
    pub(super) fn is_ahead(&self, by_us: i64) {
        self.0.store(by_us, Ordering::SeqCst);
    }
}

impl Clock for ShiftedClock {
    fn now_us(&self) -> u64 {
        SystemClock
            .now_us()
            .saturating_add_signed(self.0.load(Ordering::SeqCst))
    }

    fn instant(&self) -> Instant {
        SystemClock.instant()
    }
}

impl Inside {
    fn start(
        files: &NodeFiles,
        genesis: &v1::Genesis,
        store: MemoryStore,
        clock: Arc<ShiftedClock>,
    ) -> Self {
        let config = Config::load(&files.config(), &Overrides::default()).expect("a configuration");
        let given = Given {
            genesis: genesis.clone(),
            node_key: Arc::new(KeyFile::open(&config.node_key).expect("a key")),
            log_key: KeyFile::open(&config.log_key).expect("a key"),
            clock,
            entropy: Arc::new(SystemEntropy),
            accept_copy: false,
            accept_data: false,
        };
        let (stop, killed) = (CancellationToken::new(), CancellationToken::new());
        let (store, disk) = (Arc::new(store), Arc::new(Disk::default()));
        store.set_script(disk.script());
        let thread = std::thread::spawn({
            let (store, stop, killed) = (
                Arc::clone(&store) as Arc<dyn Store>,
                stop.clone(),
                killed.clone(),
            );
            move || {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(2)
                    .enable_all()
                    .build()
                    .expect("threads");
                // Threads of the node before, which lost power, may still be on their way out.
                let marker = runtime.block_on(until("the marker is free", RECOVERY, async || {
                    match Marker::open(&config.data_dir) {
                        Err(MarkerError::Locked) => None,
                        opened => Some(Arc::new(opened.expect("a marker"))),
                    }
                }));
                let running = run_on(config, given, marker, store, stop);
                let ended = runtime.block_on(killed.run_until_cancelled(running));
                runtime.shutdown_timeout(CLOSE);
                ended.unwrap_or(Ok(()))
            }
        });
        Self {
            store,
            disk,
            killed,
            stop,
            thread,
        }
    }

    fn end(self) -> Result<(), StartError> {
        self.thread.join().expect("a node does not panic")
    }

    /// True if a node that lost power now would still have an entry of its log with these bytes.
    pub(super) fn is_durable(&self, bytes: &[u8]) -> bool {
        log_holds(&self.store.power_cut(), bytes)
    }

    /// True if the node has written an entry of its log with these bytes.
    pub(super) fn is_written(&self, bytes: &[u8]) -> bool {
        log_holds(&self.store.killed(), bytes)
    }
}

fn log_holds(store: &dyn Read, bytes: &[u8]) -> bool {
    let all = (Bound::Unbounded, Bound::Unbounded);
    let log = store
        .range(Table::Log, all, Direction::Descending, usize::MAX)
        .expect("memory can be read");
    log.iter().any(|(_, entry)| holds(entry, bytes))
}

/// A cluster whose nodes are all in here.
pub(super) struct World {
    pub(super) cluster: Cluster,
    pub(super) nodes: BTreeMap<u64, Inside>,
    genesis: v1::Genesis,
    clocks: BTreeMap<u64, Arc<ShiftedClock>>,
}

impl World {
    /// Three nodes that serve.
    pub(super) async fn start() -> Self {
        Self::start_with("").await
    }

    /// The same with more tables in their configuration.
    pub(super) async fn start_with(settings: &str) -> Self {
        let options = Options {
            settings: settings.to_owned(),
            ..Options::default()
        };
        let cluster = Cluster::prepare(options).await;
        let text = std::fs::read_to_string(cluster.genesis()).expect("a genesis");
        let genesis = genesis_file::from_toml(&text).expect("a genesis");
        let mut world = Self {
            cluster,
            nodes: BTreeMap::new(),
            genesis,
            clocks: BTreeMap::new(),
        };
        for id in 1..=3 {
            let store = MemoryStore::new();
            let store_id = StoreId::from_bytes([u8::try_from(id).expect("small"); 16]);
            create_state(&store, &world.genesis, id, store_id, id == 1).expect("a state");
            let data = world.cluster.file(id).data();
            std::fs::create_dir_all(&data).expect("a folder");
            let digest = genesis_digest(&world.genesis);
            drop(Marker::create(&data, id, digest, store_id).expect("a marker"));
            world.run(id, store);
        }
        world.cluster.leader().await;
        world
    }

    /// Runs a node on a store.
    pub(super) fn run(&mut self, node: u64, store: MemoryStore) {
        let clock = Arc::clone(self.clocks.entry(node).or_default());
        let inside = Inside::start(self.cluster.file(node), &self.genesis, store, clock);
        self.nodes.insert(node, inside);
        self.cluster.runs_inside(node, true);
    }

    /// The clock of a node.
    pub(super) fn clock(&self, node: u64) -> &ShiftedClock {
        self.clocks.get(&node).expect("a node that has run")
    }

    /// A node that runs.
    pub(super) fn node(&self, node: u64) -> &Inside {
        self.nodes.get(&node).expect("a node that runs")
    }

    /// True if a node has ended, however.
    pub(super) fn has_ended(&self, node: u64) -> bool {
        self.node(node).thread.is_finished()
    }

    /// Waits until a node has stopped by itself. Gives what its disk has kept, and why it stopped.
    pub(super) async fn must_stop(&mut self, node: u64) -> (MemoryStore, String) {
        match self.must_end(node).await {
            (store, StartError::Fatal(message)) => (store, message),
            (_, other) => panic!("node {node} should have stopped: {other:?}"),
        }
    }

    /// Waits until a node has ended by itself, or did not start. Gives what its disk has kept, and why.
    pub(super) async fn must_end(&mut self, node: u64) -> (MemoryStore, StartError) {
        let inside = self.nodes.remove(&node).expect("a node that runs");
        let what = format!("node {node} stops by itself");
        until(&what, RECOVERY, async || {
            inside.thread.is_finished().then_some(())
        })
        .await;
        self.cluster.runs_inside(node, false);
        let store = inside.store.power_cut();
        (store, inside.end().expect_err("nobody asked it to stop"))
    }

    /// Stops a node as its service manager would. Gives its disk.
    pub(super) async fn stop(&mut self, node: u64) -> MemoryStore {
        let inside = self.nodes.remove(&node).expect("a node that runs");
        inside.stop.cancel();
        until(&format!("node {node} stops"), RECOVERY, async || {
            inside.thread.is_finished().then_some(())
        })
        .await;
        self.cluster.runs_inside(node, false);
        let store = inside.store.power_cut();
        inside.end().expect("stops as asked");
        store
    }

    /// All nodes lose power at once. Gives what their disks have kept.
    pub(super) fn lose_power(&mut self) -> BTreeMap<u64, MemoryStore> {
        let nodes = std::mem::take(&mut self.nodes);
        for inside in nodes.values() {
            // Nothing is synced any more, so that nothing more can be answered.
            inside.disk.hold();
        }
        for inside in nodes.values() {
            inside.killed.cancel();
        }
        let lost = nodes.into_iter().map(|(node, inside)| {
            let (store, disk) = (Arc::clone(&inside.store), Arc::clone(&inside.disk));
            inside.end().expect("a node that was killed says nothing");
            self.cluster.runs_inside(node, false);
            let kept = store.power_cut();
            disk.release();
            (node, kept)
        });
        lost.collect()
    }

    /// All judges look at everything, then all nodes stop, and each store is checked.
    pub(super) async fn must_be_sound(mut self) {
        self.cluster.must_keep_promises().await;
        for (node, inside) in self.nodes {
            inside.stop.cancel();
            let store = Arc::clone(&inside.store);
            inside.end().expect("stops as asked");
            let marker = Marker::peek(&self.cluster.file(node).data()).expect("a marker");
            let report = fsck::run(&*store, Some(&marker), &mut |_, _| {});
            assert_eq!(report.findings, Vec::new(), "node {node}");
        }
    }
}
