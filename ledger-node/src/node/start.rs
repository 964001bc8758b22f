//! Starting a node: what is on disk is checked before anything listens, and nothing is answered before it may be.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ledger_core::hash::TreeHash;
use ledger_core::machine::{Machine, Tip, genesis_digest};
use ledger_core::note::vkey::{KeyType, VerifierKey};
use ledger_core::signer::Signer;
use ledger_proto::peer::v1::peer_service_server::PeerServiceServer;
use ledger_proto::v1;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::attester::{self, Attester};
use super::check::{Own, check_store, marked_vote, open_marker, open_store, unreadable};
use super::eraser::Eraser;
use super::keeper::Keeper;
use super::members::{self, DirectoryKeeper};
use super::own_commands::OwnCommands;
use super::patrol::Patrol;
use super::recovery::{self, NotRecovered, Recovery};
use super::reports::Reports;
use super::serve;
use super::timekeeper::Timekeeper;
use super::trust_follower::{Following, TrustFollower};
use super::trust_push::PushSender;
use crate::apply::applier;
use crate::apply::applier::{AppliedState, Applier};
use crate::apply::boundaries::Boundaries;
use crate::apply::points::Points;
use crate::apply::prepare::Preparer;
use crate::apply::receipts::Notary;
use crate::apply::suspicion::Suspicion;
use crate::apply::waiters::Waiters;
use crate::clock::{Clock, Entropy};
use crate::config::Config;
use crate::cosign::{self, Cosigner, check_copied};
use crate::fatal::{Fatal, disk};
use crate::keyfile::KeyFile;
use crate::ledger::{Ledger, Parts};
use crate::limits::MAX_PEER_MESSAGE;
use crate::peer::appends::{Appends, refusals};
use crate::peer::service::{Service, refused_hand_overs};
use crate::raft::flusher::Flusher;
use crate::raft::hand_over::hand_over;
use crate::raft::log::{Log, OnVote, log_len};
use crate::raft::machine::StateMachine;
use crate::raft::network::Network;
use crate::raft::participation::Stage;
use crate::raft::peer_memory::PeerMemory;
use crate::raft::peers::Peers;
use crate::raft::snapshot::Snapshots;
use crate::raft::standing::{Mandate, Standing};
use crate::raft::types::Peer;
use crate::raft::{Raft, Timings, raft_config};
use crate::reads::Reads;
use crate::storage::marker::Marker;
use crate::storage::rocks::{Closed, Memory};
use crate::storage::view::StoreState;
use crate::storage::{Batch, Store, Table, meta};
use crate::submit::admission::Admission;
use crate::submit::compile::Compiler;
use crate::submit::forward::{Forwarder, Receiving};
use crate::submit::pace::Pace;
use crate::submit::proposer::Proposer;
use crate::submit::queue::Queue;
use crate::submit::{Room, Submitter};
use crate::transport::{KeyDirectory, PeerTransport, SharedSigner};
use crate::worker::Worker;

/// How long a node that stops has to hand leadership over.
const HAND_OVER: Duration = Duration::from_secs(5);
/// How long calls in progress have after that, and those of peers after them. What has not ended by then is cut off.
const CALLS_END: Duration = Duration::from_secs(2);

/// A leader that has been silent for so many of the longest election timeouts is lost: elections take less.
const LOST_AFTER: u32 = 3;
/// Bytes of log that are counted at a start, at most: counting reads them.
const MAX_COUNTED: u64 = 256 << 20;

/// Why a node does not run, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration does not fit what is on disk. Nothing was touched.
    #[error("{0}")]
    Configuration(String),
    /// The data must not be used.
    #[error("{0}")]
    Data(String),
    /// Going on could break a promise.
    #[error("{0}")]
    Fatal(String),
}

impl From<NotRecovered> for StartError {
    fn from(error: NotRecovered) -> Self {
        match error {
            NotRecovered::Data(why) => Self::Data(why),
            NotRecovered::Fatal(why) => Self::Fatal(why),
            NotRecovered::Disk(what, error) => Self::Fatal(disk(what, &error)),
        }
    }
}

fn fatal(error: impl std::fmt::Display) -> StartError {
    StartError::Fatal(error.to_string())
}

/// What a node is given besides its configuration.
#[derive(Debug)]
pub struct Given {
    /// The ledger's beginning.
    pub genesis: v1::Genesis,
    /// This node's key.
    pub node_key: Arc<KeyFile>,
    /// The log's key.
    pub log_key: KeyFile,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// An operator's word that the state is to be believed that this node got as a copy, although too few are left to confirm it.
    pub accept_copy: bool,
    /// An operator's word that this is the newest disk that the node ever had, although too few others are left to confirm it.
    pub accept_data: bool,
}

/// Runs a node until `stop` is cancelled and it has drained, or until it must not go on. `open` is set once there
/// is a store, which must be closed before the process ends.
///
/// # Errors
/// [`StartError`]
pub async fn run(
    config: Config,
    given: Given,
    stop: CancellationToken,
    open: &mut Option<Closed>,
) -> Result<(), StartError> {
    let marker = Arc::new(open_marker(&config.marker_dir)?);
    let memory = Memory {
        block_cache: config.limits.block_cache_bytes,
        write_buffers: config.limits.write_buffer_bytes,
    };
    let own = Own::new(config.node_id, &given.genesis);
    let (store, closed) = open_store(&config.data_dir, memory, &marker.read(), &own)?;
    *open = Some(closed);
    run_on(config, given, marker, Arc::new(store), stop).await
}

/// Runs a node on a store that is open: the part of [`run`] that does not know what the store is made of.
///
/// # Errors
/// [`StartError`]
pub async fn run_on(
    config: Config,
    given: Given,
    marker: Arc<Marker>,
    store: Arc<dyn Store>,
    stop: CancellationToken,
) -> Result<(), StartError> {
    let own = Own::new(config.node_id, &given.genesis);
    check_store(&*store, &marker.read(), &own)?;

    if given.accept_copy {
        accept_copy(&*store).map_err(unreadable)?;
    }
    let fatal_switch = Fatal::default();
    // The others are asked while the rest is put together.
    let (peers, mut recovery) = recover(&config, &given, &store, &marker, &fatal_switch)?;
    let kept = (Arc::clone(&store), marker);
    let node = build(&config, given, kept, peers, &fatal_switch).await?;
    let listeners = serve::bind(config.peer_listen, config.client_listen)
        .await
        .map_err(StartError::Configuration)?;
    let (following, push_receiver) = TrustFollower::of(&node);
    let (ended, peers_ended) = (CancellationToken::new(), CancellationToken::new());
    let _end = (ended.clone().drop_guard(), peers_ended.clone().drop_guard());
    let servers = serve::start(
        listeners,
        serve::PeerEndpoint {
            service: node.peer_service(fatal_switch.clone(), peers_ended.clone()),
            peers: Arc::clone(&node.peers),
            push_receiver,
        },
        node.ledger.clone(),
        &config.limits,
        &fatal_switch,
        ended.clone(),
        peers_ended.clone(),
    )
    .map_err(fatal)?;
    node.spawn_health(servers.health, &fatal_switch, &ended);
    if !recovery.run(&node.raft, &stop).await? {
        return store.sync().map_err(fatal);
    }
    begin_cluster(&*store, &node.raft, &node.genesis).await?;
    node.spawn_tasks(&config, following, &fatal_switch, &ended);
    recovery.go_on(node.raft.clone(), ended.clone());
    tracing::info!(
        node_id = config.node_id,
        client = %config.client_listen,
        peer = %config.peer_listen,
        origin = node.ledger.origin(),
        "started"
    );

    tokio::select! {
        message = fatal_switch.stopped() => return Err(StartError::Fatal(message)),
        () = stop.cancelled() => {}
    }
    drain(&node, &ended).await;
    // Calls in progress wait for what peers send, so peers are served until calls have ended.
    must_end(servers.clients, "clients").await;
    peers_ended.cancel();
    must_end(servers.peers, "peers").await;
    let _ = node.raft.shutdown().await;
    store.sync().map_err(fatal)?;
    tracing::info!("stopped");
    Ok(())
}

/// From now on this node vouches for its state.
fn accept_copy(store: &dyn Store) -> io::Result<()> {
    if store.get(Table::Meta, meta::COPIED)?.is_none() {
        return Ok(());
    }
    tracing::warn!("the state that this node got as a copy is believed on an operator's word");
    let mut batch = Batch::new();
    batch.delete(Table::Meta, meta::COPIED);
    store.write(&batch)?;
    store.sync()
}

/// Waits until a server's calls have ended, or until it is too late for them.
async fn must_end(server: JoinHandle<()>, of: &str) {
    if tokio::time::timeout(CALLS_END, server).await.is_err() {
        tracing::warn!("calls of {of} have not ended in time and are cut off");
    }
}

/// The parts of a node that runs.
pub(super) struct Node {
    pub(super) genesis: v1::Genesis,
    pub(super) store: Arc<dyn Store>,
    pub(super) raft: Raft,
    pub(super) ledger: Ledger,
    pub(super) log: Log,
    pub(super) flusher: Flusher,
    pub(super) marker: Arc<Marker>,
    pub(super) queue: Arc<Queue>,
    pub(super) peers: Arc<Peers>,
    pub(super) named: members::Named,
    pub(super) snapshots: Arc<Snapshots>,
    pub(super) points: Arc<Points>,
    pub(super) boundaries: Arc<Boundaries>,
    pub(super) suspicion: Arc<Suspicion>,
    pub(super) cosigner: Arc<Cosigner>,
    pub(super) compiler: Arc<Compiler>,
    pub(super) standing: watch::Receiver<Standing>,
    pub(super) standing_sender: watch::Sender<Standing>,
    pub(super) mandate: watch::Sender<Mandate>,
    /// Why this node's clock is not to be used, if it is not.
    pub(super) clock_is_off: watch::Sender<Option<String>>,
    pub(super) not_ready: watch::Sender<Option<String>>,
    pub(super) membership_waits: watch::Sender<Option<String>>,
    pub(super) tip: watch::Receiver<Tip>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) pace: Arc<Pace>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) node_key: Arc<KeyFile>,
}

#[expect(
    clippy::too_many_lines,
    reason = "one list of parts, each made of those before it"
)]
async fn build(
    config: &Config,
    given: Given,
    (store, marker): (Arc<dyn Store>, Arc<Marker>),
    (peers, named): Others,
    fatal_switch: &Fatal,
) -> Result<Node, StartError> {
    let Given {
        genesis,
        node_key,
        log_key,
        clock,
        entropy,
        accept_copy: _,
        accept_data: _,
    } = given;
    let origin = genesis.origin.clone();
    let flusher = Flusher::start(Arc::clone(&store), fatal_switch.clone()).map_err(fatal)?;
    let machine = Arc::new(Machine::new());
    machine.warm(&StoreState(&*store)).map_err(unreadable)?;
    let preparer = Preparer::start(
        Arc::clone(&store),
        &origin,
        Arc::clone(&machine),
        fatal_switch,
    )
    .map_err(fatal)?;
    let notary = Arc::new(Notary::new(Arc::clone(&store), &origin, Arc::new(log_key)));
    let waiters = Arc::new(Waiters::default());
    let points = Arc::new(Points::default());
    let boundaries = Arc::<Boundaries>::default();
    let suspicion = Arc::<Suspicion>::default();
    let applier = Applier::start(applier::Parts {
        store: Arc::clone(&store),
        machine: Arc::clone(&machine),
        preparer: Arc::clone(&preparer),
        waiters: Arc::clone(&waiters),
        answers: Arc::clone(&notary).start(fatal_switch).map_err(fatal)?,
        points: Arc::clone(&points),
        boundaries: Arc::clone(&boundaries),
        suspicion: Arc::clone(&suspicion),
        proposers: Arc::clone(&peers.proposers),
        fatal: fatal_switch.clone(),
    })
    .map_err(unreadable)?;
    let snapshots = config.data_dir.join("snapshots");
    let snapshots = Arc::new(
        Snapshots::open(
            &snapshots,
            Arc::clone(&store),
            Arc::clone(&marker),
            check_copied,
        )
        .map_err(unreadable)?,
    );
    let at_most = config.snapshot.log_bytes.min(MAX_COUNTED);
    let unsaved = snapshots
        .end()
        .and_then(|end| log_len(&*store, end, at_most))
        .map_err(unreadable)?;
    let log = Log::new(
        Arc::clone(&store),
        flusher.clone(),
        Some(Arc::clone(&preparer)),
        follow_votes(&marker, &peers),
        config.limits.log_tail_bytes,
        unsaved,
    );
    let raft = Raft::build(
        config.node_id,
        raft_config(&origin, timings(config)).map_err(fatal)?,
        Network {
            peers: Arc::clone(&peers),
            fatal: fatal_switch.clone(),
        },
        log.clone(),
        StateMachine::new(
            applier.clone(),
            Arc::clone(&snapshots),
            fatal_switch.clone(),
        ),
    )
    .await
    // Whoever failed under openraft has said why in plain words.
    .map_err(|error| {
        StartError::Fatal(fatal_switch.message().unwrap_or_else(|| error.to_string()))
    })?;
    let (standing_sender, standing) = watch::channel(Standing::unknown());
    let queue = Arc::new(Queue::new(
        config.limits.queue_commands,
        config.limits.queue_bytes,
    ));
    let cosigner = Arc::new(
        Cosigner::new(cosign::Parts {
            store: Arc::clone(&store),
            notary: Arc::clone(&notary),
            signer: Arc::clone(&node_key) as Arc<dyn Signer + Send + Sync>,
            name: cosigning_key(&origin, config.node_id, &node_key)?
                .name()
                .to_owned(),
            marker: Arc::clone(&marker),
            flusher: flusher.clone(),
            tip: applier.tip(),
            standing: standing.clone(),
            peers: Arc::clone(&peers),
            suspicion: Arc::clone(&suspicion),
            clock: Arc::clone(&clock),
            fatal: fatal_switch.clone(),
        })
        .map_err(unreadable)?,
    );
    let reads = Arc::new(Reads {
        store: Arc::clone(&store),
        notary,
        raft: raft.clone(),
        applier: applier.clone(),
        peers: Arc::clone(&peers),
        standing: standing.clone(),
    });
    let compiler = Arc::new(Compiler::new(Arc::clone(&machine), Arc::clone(&reads)));
    let admission = Arc::new(Admission {
        store: Arc::clone(&store),
        clock: Arc::clone(&clock),
        preparer,
        reads: Arc::clone(&reads),
    });
    let (not_ready, not_ready_receiver) = watch::channel(None);
    let mandate = watch::Sender::new(Mandate::Full);
    let (clock_is_off, clock_is_off_receiver) = watch::channel(None);
    let (membership_waits, membership_waits_receiver) = watch::channel(None);
    let pace = Arc::<Pace>::default();
    let ledger = Ledger(Arc::new(Parts {
        origin,
        node_id: config.node_id,
        store: Arc::clone(&store),
        machine,
        submitter: Submitter {
            admission,
            waiters,
            queue: Arc::clone(&queue),
            forwarder: Forwarder::new(Arc::clone(&peers)),
            standing: standing.clone(),
            compiler: Arc::clone(&compiler),
            room: Room::default(),
        },
        reads,
        cosigner: Arc::clone(&cosigner),
        standing: standing.clone(),
        clock: Arc::clone(&clock),
        not_ready: not_ready_receiver,
        clock_is_off: clock_is_off_receiver,
        membership_waits: membership_waits_receiver,
        pace: Arc::clone(&pace),
        suspicion: Arc::clone(&suspicion),
    }));
    Ok(Node {
        genesis,
        store,
        raft,
        ledger,
        log,
        flusher,
        marker,
        queue,
        peers,
        named,
        snapshots,
        points,
        boundaries,
        suspicion,
        cosigner,
        compiler,
        standing,
        standing_sender,
        mandate,
        clock_is_off,
        pace,
        not_ready,
        membership_waits,
        tip: applier.tip(),
        clock,
        entropy,
        node_key,
    })
}

/// A vote counts once the marker knows it too. A vote for itself begins a node's candidacy.
fn follow_votes(marker: &Arc<Marker>, peers: &Arc<Peers>) -> OnVote {
    let (marker, peers) = (Arc::clone(marker), Arc::clone(peers));
    Arc::new(move |vote| {
        let candidate = &vote.leader_id;
        if candidate.voted_for == peers.node_id {
            let now_us = peers.now_us();
            peers.honoured.note_candidacy(candidate.term, now_us);
        }
        let vote = marked_vote(vote);
        marker
            .update(|record| record.vote = Some(vote))
            .map_err(io::Error::from)
    })
}

fn timings(config: &Config) -> Timings {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Timings {
        election_min_ms: millis(*config.raft.election_timeout.start()),
        election_max_ms: millis(*config.raft.election_timeout.end()),
        heartbeat_ms: millis(config.raft.heartbeat),
        log_keep_entries: config.snapshot.log_keep_entries,
    }
}

/// With which others check this node's cosignatures.
fn cosigning_key(origin: &str, node_id: u64, key: &KeyFile) -> Result<VerifierKey, StartError> {
    let name = format!("{origin}/node-{node_id}");
    VerifierKey::new(&name, KeyType::CosignatureV1, *key.public())
        .map_err(|error| StartError::Configuration(error.to_string()))
}

/// The others, as this node knows them.
fn peers(
    config: &Config,
    given: &Given,
    store: &Arc<dyn Store>,
    marker: &Marker,
    fatal_switch: &Fatal,
) -> Result<Others, StartError> {
    let replicas = AppliedState::read(&**store).map_err(unreadable)?.members;
    let named = members::named(config, &given.genesis.origin).map_err(StartError::Configuration)?;
    let listed = members::listed(&**store, config.node_id, &replicas, &named);
    let (footing, listed) = listed.map_err(unreadable)?;
    let transport = PeerTransport::new(
        Arc::clone(&given.node_key) as SharedSigner,
        Arc::new(KeyDirectory::of(footing, &listed)),
    )
    .map_err(fatal)?;
    let own = marker.read().store_id;
    let memory = PeerMemory::open(Arc::clone(store), own, fatal_switch.clone());
    let peers = Peers::new(
        config.node_id,
        genesis_digest(&given.genesis),
        config.peer_addresses.clone().into_iter().collect(),
        Arc::clone(&given.clock),
        Arc::new(transport),
        Arc::new(memory.map_err(unreadable)?),
        Stage::Asking("this node starts".to_owned()),
    );
    let signer = Arc::clone(&given.node_key) as SharedSigner;
    peers.elections.sign_with(signer);
    members::tell_voters(&**store, &named, &peers.elections).map_err(unreadable)?;
    Ok((Arc::new(peers), named))
}

/// The others, and those of them whom a node knows from a trust policy alone.
type Others = (Arc<Peers>, members::Named);

/// Begins to ask the others what this node has promised them.
fn recover(
    config: &Config,
    given: &Given,
    store: &Arc<dyn Store>,
    marker: &Arc<Marker>,
    fatal_switch: &Fatal,
) -> Result<(Others, Recovery), StartError> {
    let (peers, named) = peers(config, given, store, marker, fatal_switch)?;
    let genesis = &given.genesis;
    let tree_hash = TreeHash::parse(&genesis.tree_hash)
        .map_err(|error| StartError::Configuration(error.to_string()))?;
    let recovery = Recovery::begin(recovery::Parts {
        store: Arc::clone(store),
        marker: Arc::clone(marker),
        peers: Arc::clone(&peers),
        data_dir: config.data_dir.clone(),
        first_nodes: first_nodes(genesis),
        tree_hash,
        own_key: cosigning_key(&genesis.origin, config.node_id, &given.node_key)?,
        entropy: Arc::clone(&given.entropy),
        fatal: fatal_switch.clone(),
        accepted: given.accept_data,
    });
    Ok(((peers, named), recovery?))
}

/// The nodes of the genesis, and where they are.
fn first_nodes(genesis: &v1::Genesis) -> BTreeMap<u64, Peer> {
    let address = |card: &v1::NodeCard| Peer {
        address: card.peer_address.clone(),
    };
    let cards = genesis.nodes.iter();
    cards.map(|card| (card.node_id, address(card))).collect()
}

/// The one node that was told to begins the cluster, once.
async fn begin_cluster(
    store: &dyn Store,
    raft: &Raft,
    genesis: &v1::Genesis,
) -> Result<(), StartError> {
    if store
        .get(Table::Meta, meta::BOOTSTRAP)
        .map_err(unreadable)?
        .is_none()
    {
        return Ok(());
    }
    if !raft.is_initialized().await.map_err(fatal)? {
        raft.initialize(first_nodes(genesis)).await.map_err(fatal)?;
    }
    let mut batch = Batch::new();
    batch.delete(Table::Meta, meta::BOOTSTRAP);
    store.write(&batch).map_err(fatal)
}

impl Node {
    fn peer_service(&self, fatal: Fatal, ended: CancellationToken) -> PeerServiceServer<Service> {
        PeerServiceServer::new(Service {
            raft: self.raft.clone(),
            peers: Arc::clone(&self.peers),
            snapshots: Arc::clone(&self.snapshots),
            incoming: Arc::default(),
            appends: Appends {
                raft: self.raft.clone(),
                peers: Arc::clone(&self.peers),
                tip: self.tip.clone(),
                store: Arc::clone(&self.store),
                boundaries: Arc::clone(&self.boundaries),
                suspicion: Arc::clone(&self.suspicion),
                refused: refusals(),
                ended: ended.clone(),
            },
            receiving: Receiving {
                queue: Arc::clone(&self.queue),
                standing: self.standing.clone(),
                admission: Arc::clone(&self.ledger.0.submitter.admission),
                pace: Arc::clone(&self.pace),
            },
            cosigner: Arc::clone(&self.cosigner),
            ledger: self.ledger.clone(),
            refused_hand_overs: Arc::new(refused_hand_overs()),
            compiler: Arc::clone(&self.compiler),
            fatal,
            ended,
        })
        .max_decoding_message_size(MAX_PEER_MESSAGE)
        .max_encoding_message_size(MAX_PEER_MESSAGE)
    }

    /// What brings this node's own commands into the ledger.
    pub(super) fn own_commands(&self) -> OwnCommands {
        OwnCommands {
            ledger: self.ledger.clone(),
            clock: Arc::clone(&self.clock),
            entropy: Arc::clone(&self.entropy),
            node_key: Arc::clone(&self.node_key),
        }
    }

    /// Says how the node is, from its first moment on.
    fn spawn_health(&self, health: serve::Health, fatal_switch: &Fatal, ended: &CancellationToken) {
        // It ends by itself once the node does, and says so to those who watch first.
        let health = health.follow(
            self.standing.clone(),
            self.not_ready.subscribe(),
            self.mandate.subscribe(),
            Arc::clone(&self.suspicion),
            ended.clone(),
        );
        let worker = Worker::Health;
        tokio::spawn(fatal_switch.supervised(worker, ended.clone(), health));
    }

    fn spawn_tasks(
        &self,
        config: &Config,
        following: Following,
        fatal_switch: &Fatal,
        ended: &CancellationToken,
    ) {
        let until = |worker: Worker, task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
            let running = ended.clone();
            let task = async move {
                let _ = running.run_until_cancelled(task).await;
            };
            tokio::spawn(fatal_switch.supervised(worker, ended.clone(), task));
        };
        let reports = Reports {
            raft: self.raft.clone(),
            peers: Arc::clone(&self.peers),
            mandate: self.mandate.subscribe(),
            lost_after: *config.raft.election_timeout.end() * LOST_AFTER,
        };
        until(
            Worker::Reports,
            Box::pin(reports.follow(self.standing_sender.clone(), fatal_switch.clone())),
        );
        let proposer = Proposer {
            raft: self.raft.clone(),
            proposers: Arc::clone(&self.peers.proposers),
            queue: Arc::clone(&self.queue),
            standing: self.standing.clone(),
            tip: self.tip.clone(),
            clock: Arc::clone(&self.clock),
            pace: Arc::clone(&self.pace),
            fatal: fatal_switch.clone(),
        };
        until(Worker::Proposer, Box::pin(proposer.run()));
        until(Worker::Cosigner, Box::pin(Arc::clone(&self.cosigner).run()));
        let eraser = Eraser {
            store: Arc::clone(&self.store),
            raft: self.raft.clone(),
            snapshots: Arc::clone(&self.snapshots),
            fatal: fatal_switch.clone(),
        };
        until(Worker::Eraser, Box::pin(eraser.run()));
        let patrol = Patrol {
            store: Arc::clone(&self.store),
            fatal: fatal_switch.clone(),
        };
        until(Worker::Patrol, Box::pin(patrol.run()));
        let attester = Attester::new(attester::Parts {
            store: Arc::clone(&self.store),
            points: Arc::clone(&self.points),
            genesis: self.genesis.clone(),
            own: self.own_commands(),
            fatal: fatal_switch.clone(),
            ended: ended.clone(),
        });
        until(Worker::Attester, Box::pin(attester.run()));
        until(Worker::Timekeeper, Box::pin(Timekeeper::new(self).run()));
        let Following {
            follower,
            pushed,
            named,
        } = following;
        until(Worker::TrustFollower, Box::pin(follower.run(pushed)));
        let sender = PushSender::new(self.ledger.clone(), Arc::clone(&self.peers));
        until(Worker::PushSender, Box::pin(sender.run()));
        let directory = DirectoryKeeper::new(self, config.node_id, named, fatal_switch.clone());
        until(Worker::Directory, Box::pin(directory.run()));
        let keeper = Keeper::new(self, config.snapshot.log_bytes, fatal_switch.clone());
        until(Worker::Keeper, Box::pin(keeper.run()));
    }
}

/// Takes no new commands, hands leadership over, and lets calls end.
async fn drain(node: &Node, ended: &CancellationToken) {
    node.not_ready.send_replace(Some(
        "this node is shutting down; send the same command to another node".to_owned(),
    ));
    let handed_over = tokio::time::timeout(HAND_OVER, hand_over(&node.raft, &node.peers, None));
    match handed_over.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "leadership was not handed over"),
        Err(_) => tracing::warn!("leadership could not be handed over in time"),
    }
    node.mandate.send_replace(Mandate::None);
    node.peers.memory.save();
    ended.cancel();
}
