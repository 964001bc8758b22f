//! A node under fuzzing: all of a replica, with real Raft and the real peer port, on a store in memory and a clock that stands still.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use ledger_core::id::Identity;
use ledger_core::machine::genesis_digest;
use ledger_core::signer::Signer as _;
use ledger_node::clock::{Clock, Entropy, SystemEntropy};
use ledger_node::config::{Config, Overrides};
use ledger_node::fatal::Fatal;
use ledger_node::keyfile::KeyFile;
use ledger_node::node::start::{Given, StartError, run_on};
use ledger_node::raft::participation::Stage;
use ledger_node::raft::peer_memory::PeerMemory;
use ledger_node::raft::peers::{PeerClient, Peers, Purpose};
use ledger_node::storage::marker::{MARKER_FILE, Marker};
use ledger_node::storage::memory::MemoryStore;
use ledger_node::storage::store_id::StoreId;
use ledger_node::transport::{Footing, KeyDirectory, Listed, PeerTransport, Role};
use ledger_proto::peer::v1 as wire;
use ledger_proto::v1;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};

use super::promises;
use crate::cluster::ports::Ports;
use crate::kit::key;

/// The node under fuzzing.
pub(super) const NODE: u64 = 1;
/// The other members, whose keys the fuzzer has.
pub(super) const MEMBERS: [u64; 2] = [2, 3];
/// How long the node has for one answer. What takes longer is a node that hangs.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at what is waited for.
const LOOK: Duration = Duration::from_micros(500);
/// How long what a node has begun may take to end.
const END: Duration = Duration::from_secs(2);

/// The clock of the node: it stands still, so that an input gives the same in each run.
#[derive(Debug)]
pub(super) struct StillClock(pub(super) u64);

impl Clock for StillClock {
    fn now_us(&self) -> u64 {
        self.0
    }

    fn instant(&self) -> std::time::Instant {
        std::time::Instant::now()
    }
}

/// The seed of a key, as a source of randomness that gives nothing else.
#[derive(Debug)]
struct SeedEntropy([u8; 32]);

impl Entropy for SeedEntropy {
    fn fill(&self, buffer: &mut [u8]) -> std::io::Result<()> {
        buffer.copy_from_slice(&self.0);
        Ok(())
    }
}

/// What every run of the node shares: its ports and its genesis.
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) genesis: v1::Genesis,
    pub(super) now_us: u64,
    config: Config,
    _ports: Ports,
}

/// The memory of the machine, where it has a file system for that: the node syncs its marker at each vote.
fn folder() -> TempDir {
    let builder = |dir: PathBuf| {
        tempfile::Builder::new()
            .prefix("countersign-fuzz-")
            .tempdir_in(dir)
    };
    builder("/dev/shm".into())
        .or_else(|_| builder(std::env::temp_dir()))
        .expect("a folder")
}

impl Setting {
    pub(super) fn new(genesis: v1::Genesis, now_us: u64) -> Self {
        let (folder, mut ports) = (folder(), Ports::take());
        let mut text = format!(
            "node_id = {NODE}\ndata_dir = \"data\"\nnode_key = \"node.key\"\nlog_key = \"log.key\"\n\
             client_listen = \"127.0.0.1:{}\"\npeer_listen = \"127.0.0.1:{}\"\n\n\
             [raft]\nelection_timeout_min_ms = 60000\nelection_timeout_max_ms = 120000\nheartbeat_ms = 10000\n\n\
             [peer_addresses]\n",
            ports.give(),
            ports.give()
        );
        for other in [2, 3, 4] {
            text.push_str(&format!("{other} = \"127.0.0.1:{}\"\n", ports.give()));
        }
        let path = folder.path().join("node.toml");
        std::fs::write(&path, text).expect("a file");
        let config = Config::load(&path, &Overrides::default()).expect("a configuration");
        Self {
            genesis,
            now_us,
            config,
            _ports: ports,
        }
    }

    /// The configuration of a run whose files are in a folder.
    fn config(&self, folder: &Path) -> Config {
        let mut config = self.config.clone();
        config.data_dir = folder.to_owned();
        config.marker_dir = folder.to_owned();
        config
    }

    fn given(&self, folder: &Path) -> Given {
        let made = |name, of: SigningKey| {
            let seed = SeedEntropy(of.to_bytes());
            KeyFile::create(&folder.join(name), None, &seed).expect("a key file")
        };
        Given {
            genesis: self.genesis.clone(),
            node_key: Arc::new(made("node.key", node_key(NODE))),
            log_key: made("log.key", key("log")),
            clock: Arc::new(StillClock(self.now_us)),
            entropy: Arc::new(SystemEntropy),
            accept_copy: false,
            // Its data directory is made anew for each run.
            accept_data: true,
        }
    }
}

/// The key of a node.
pub(super) fn node_key(node: u64) -> SigningKey {
    key(&Identity::Node(node).to_string())
}

/// A node that runs, and those who speak to it.
pub(super) struct FuzzedNode {
    pub(super) store: Arc<MemoryStore>,
    pub(super) marker: Arc<Marker>,
    /// What its clock shows.
    pub(super) now_us: u64,
    speakers: BTreeMap<u64, Peers>,
    address: String,
    client_address: String,
    running: JoinHandle<Result<(), StartError>>,
    runtime: Runtime,
    data: TempDir,
}

impl FuzzedNode {
    /// Starts it, and returns once it takes part.
    pub(super) fn start(setting: &Setting, store: MemoryStore, marker: &[u8]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name(super::panics::THREAD)
            .enable_all()
            .build()
            .expect("a runtime");
        let data = folder();
        std::fs::write(data.path().join(MARKER_FILE), marker).expect("a file");
        let config = setting.config(data.path());
        let address = config.peer_listen.to_string();
        let client_address = config.client_listen.to_string();
        let marker = Arc::new(Marker::open(data.path()).expect("a marker"));
        let store = Arc::new(store);
        let kept = (Arc::clone(&marker), Arc::clone(&store) as _);
        let (given, stop) = (setting.given(data.path()), CancellationToken::new());
        let running = runtime.spawn(async {
            // A fuzzer's program ends when a connection does, unless somebody listens for that.
            let _hears = signal(SignalKind::pipe());
            run_on(config, given, kept.0, kept.1, stop).await
        });
        let speakers = MEMBERS.map(|id| (id, speaker(setting, id, node_key(id))));
        let mut node = Self {
            store,
            marker,
            now_us: setting.now_us,
            speakers: speakers.into(),
            address,
            client_address,
            running,
            runtime,
            data,
        };
        // Nobody knows this key.
        let stranger = speaker(setting, MEMBERS[0], key("a stranger"));
        node.speakers.insert(0, stranger);
        node.must_start();
        node
    }

    fn must_start(&self) {
        self.until("it has started", || async { self.rehearse().await.is_ok() });
    }

    /// Asks for what changes nothing. Raft answers it after all that was asked before.
    async fn rehearse(&self) -> Result<(), Status> {
        let vote = wire::Vote {
            term: 1,
            node_id: MEMBERS[0],
            committed: false,
        };
        let message = wire::VoteRequest {
            vote: Some(vote),
            ..wire::VoteRequest::default()
        };
        let request = self.request(MEMBERS[0], message);
        self.client(MEMBERS[0]).pre_vote(request).await.map(drop)
    }

    /// Returns once the node has done what it has begun: what is committed is applied.
    ///
    /// # Panics
    /// If Raft does not answer, or is not applied in time.
    pub(super) fn settle(&self) {
        let answered = self.answer("pre_vote", self.rehearse());
        answered.expect("a rehearsal is answered");
        self.until("what is committed is applied", || async {
            promises::committed(&*self.store) <= promises::applied(&*self.store).map(index)
        });
    }

    /// Waits until something is so.
    pub(super) fn until<F: Future<Output = bool>>(&self, what: &str, holds: impl Fn() -> F) {
        let waiting = async {
            let mut looks = tokio::time::interval(LOOK);
            while !holds().await {
                assert!(!self.running.is_finished(), "the node ended before {what}");
                looks.tick().await;
            }
        };
        let waited = self.block_on(async { tokio::time::timeout(PATIENCE, waiting).await });
        assert!(waited.is_ok(), "waited {PATIENCE:?} until {what}");
    }

    /// A client with the key of a member, or of a stranger as 0.
    pub(super) fn client(&self, as_node: u64) -> PeerClient {
        let _entered = self.runtime.enter();
        let peers = &self.speakers[&as_node];
        let client = peers.client(NODE, &self.address, Purpose::Other);
        client.expect("an address")
    }

    /// A request with the metadata of a member's calls.
    pub(super) fn request<T>(&self, as_node: u64, message: T) -> Request<T> {
        self.speakers[&as_node].request(NODE, message)
    }

    /// What the node answers.
    ///
    /// # Panics
    /// If it answers nothing in time.
    pub(super) fn answer<T>(
        &self,
        to: &str,
        answer: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let answer = self.block_on(async { tokio::time::timeout(PATIENCE, answer).await });
        let answer = answer.ok();
        answer.unwrap_or_else(|| panic!("no answer to {to} in {PATIENCE:?}"))
    }

    /// What the node answers to a stream of appends: each answer, and the error that ended the stream if one did.
    ///
    /// # Errors
    /// It does not take the call.
    pub(super) fn append(
        &self,
        as_node: u64,
        messages: Vec<wire::AppendRequest>,
    ) -> Result<Vec<Result<wire::AppendResponse, Status>>, Status> {
        let request = self.request(as_node, tokio_stream::iter(messages));
        let mut client = self.client(as_node);
        self.answer("appends", async {
            let mut answers = client.append(request).await?.into_inner();
            let mut all = Vec::new();
            loop {
                match answers.message().await {
                    Ok(Some(answer)) => all.push(Ok(answer)),
                    Ok(None) => return Ok(all),
                    Err(status) => {
                        all.push(Err(status));
                        return Ok(all);
                    }
                }
            }
        })
    }

    /// The bytes of the marker as they are on disk.
    pub(super) fn marker_file(&self) -> Vec<u8> {
        std::fs::read(self.data.path().join(MARKER_FILE)).expect("a marker")
    }

    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// What a client sees that has no rights.
    pub(super) fn is_served(&self) -> bool {
        let address = self.client_address.clone();
        self.block_on(async { tokio::net::TcpStream::connect(address).await.is_ok() })
    }

    /// # Panics
    /// If the node has stopped.
    pub(super) fn must_run(&mut self) {
        super::panics::must_be_none();
        if self.running.is_finished() {
            let ended = self.runtime.block_on(&mut self.running);
            panic!("the node has stopped: {ended:?}");
        }
    }

    /// Ends it. What it has begun is not waited for: the store is gone with it.
    pub(super) fn end(self) {
        self.running.abort();
        self.runtime.shutdown_timeout(END);
        drop(self.data);
    }
}

const fn index(id: wire::LogId) -> u64 {
    id.index
}

fn speaker(setting: &Setting, id: u64, key: SigningKey) -> Peers {
    let listed = Listed {
        key: node_key(NODE).public_key(),
        role: Role::Voter,
    };
    let directory = KeyDirectory::of(Footing::Joined, &BTreeMap::from([(NODE, listed)]));
    let transport = PeerTransport::new(Arc::new(key), Arc::new(directory));
    let own = StoreId::from_bytes([u8::try_from(id).expect("few nodes"); 16]);
    let memory = PeerMemory::open(Arc::new(MemoryStore::new()), own, Fatal::default());
    Peers::new(
        id,
        genesis_digest(&setting.genesis),
        HashMap::new(),
        Arc::new(StillClock(setting.now_us)),
        Arc::new(transport.expect("settings that TLS takes")),
        Arc::new(memory.expect("memory can be read")),
        Stage::Full,
    )
}
