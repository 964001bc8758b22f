//! Whole clusters of real processes: started, loaded, killed, cut apart and judged.
//!
//! Nothing in here knows how nodes work. What they are told goes through their command line and configuration, what they say
//! comes through gRPC, and what happens to them is what happens to processes and cables.

pub mod cli;
pub mod client;
pub mod clock_shim;
pub mod clock_suite;
pub mod documents;
pub mod faults;
mod files;
pub mod history;
pub mod invariants;
pub mod liar;
pub mod load;
pub mod lying_node;
pub mod overlay;
pub mod peer;
pub mod people;
pub(crate) mod ports;
pub mod process;
pub mod proxy;
mod reading;
pub mod rollback_suite;
mod runs;
pub mod scenarios;
mod signs;
pub mod suite;
pub mod sweep;
pub mod wait;
pub mod witness;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ledger_core::hash::TreeHash;
use ledger_core::id::Identity;
use ledger_core::note::tlog_policy::TlogPolicy;
use ledger_proto::v1;

use client::{Line, Signing};
pub use files::{ADMIN, NodeFiles};
use history::Recorder;
use ports::Ports;
use process::Process;
use proxy::Network;
use wait::until;
use witness::WitnessFiles;

use crate::kit::{ORIGIN, ORIGIN_BLAKE3};

/// How long anything may take that a healthy cluster does at once. Machines that run tests are slow and busy.
pub const SOON: Duration = Duration::from_secs(30);
/// How long an election, a restart or a recovery without help may take.
pub const RECOVERY: Duration = Duration::from_secs(60);

/// What a cluster is like.
#[derive(Debug, Clone)]
pub struct Options {
    /// Nodes of the genesis, numbered from 1.
    pub nodes: u64,
    /// Nodes that may be added later, numbered after those.
    pub spare: u64,
    /// Witnesses outside that the trust policy asks for, numbered from 1.
    pub witnesses: u64,
    /// How many nodes must cosign, if not a majority.
    pub quorum: Option<u64>,
    /// The hash of the tree.
    pub tree_hash: TreeHash,
    /// Tables of the configuration beyond what every node needs.
    pub settings: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: 3,
            spare: 0,
            witnesses: 0,
            quorum: None,
            tree_hash: TreeHash::Sha256,
            settings: String::new(),
        }
    }
}

/// A cluster.
#[derive(Debug)]
pub struct Cluster {
    // Processes end before their folder goes.
    running: BTreeMap<u64, Process>,
    /// Nodes that whoever tests runs itself, in its own process.
    inside: BTreeSet<u64>,
    files: BTreeMap<u64, NodeFiles>,
    witnesses: BTreeMap<u64, WitnessFiles>,
    witnessing: BTreeMap<u64, Process>,
    lines: BTreeMap<u64, Line>,
    /// The network between the nodes.
    pub network: Network,
    /// Who signs.
    pub signing: Arc<Signing>,
    /// What callers saw.
    pub recorder: Recorder,
    /// The trust policy of the genesis.
    pub policy: TlogPolicy,
    /// The ledger's name.
    pub origin: String,
    folder: Folder,
    _ports: Ports,
}

/// A temporary folder that stays when a test fails.
#[derive(Debug)]
struct Folder(Option<tempfile::TempDir>);

impl Folder {
    fn path(&self) -> &Path {
        self.0.as_ref().expect("until it is dropped").path()
    }
}

impl Drop for Folder {
    #[expect(
        clippy::print_stderr,
        reason = "whoever reads the failure looks for this folder"
    )]
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(folder) = self.0.take()
        {
            eprintln!(
                "the nodes' folders and logs are kept: {}",
                folder.keep().display()
            );
        }
    }
}

impl Cluster {
    /// Starts a cluster and waits until it serves.
    ///
    /// # Panics
    /// If it does not.
    pub async fn start(options: Options) -> Self {
        let (members, witnesses) = (options.nodes, options.witnesses);
        let mut cluster = Self::prepare(options).await;
        for number in 1..=witnesses {
            cluster.start_witness(number);
        }
        let genesis = cluster.genesis();
        for id in 1..=members {
            cluster.file(id).init(&genesis, id == 1);
            cluster.restart(id);
        }
        cluster.leader().await;
        cluster
    }

    /// Makes what the nodes of a cluster need before they have data and run.
    ///
    /// # Panics
    /// If the program refuses.
    pub async fn prepare(options: Options) -> Self {
        let origin = match options.tree_hash {
            TreeHash::Sha256 => ORIGIN,
            TreeHash::Blake3 => ORIGIN_BLAKE3,
        };
        let folder = tempfile::Builder::new()
            .prefix("countersign-")
            .tempdir()
            .expect("a temporary folder");
        let mut ports = Ports::take();
        let all = options.nodes + options.spare;
        let mut files = BTreeMap::new();
        for id in 1..=all {
            let mut address = || SocketAddr::from((Ipv4Addr::LOCALHOST, ports.give()));
            let node = NodeFiles {
                id,
                folder: folder.path().join(format!("node-{id}")),
                client: address(),
                peer: address(),
            };
            node.make_key(origin);
            files.insert(id, node);
        }
        let members: Vec<&NodeFiles> = files
            .range(..=options.nodes)
            .map(|(_, node)| node)
            .collect();
        let witnesses: BTreeMap<u64, WitnessFiles> = (1..=options.witnesses)
            .map(|number| {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.give()));
                let folder = folder.path().join(format!("witness-{number}"));
                (number, WitnessFiles::make(number, folder, address))
            })
            .collect();
        let outside: Vec<&WitnessFiles> = witnesses.values().collect();
        let policy = files::make_genesis(folder.path(), origin, &members, &outside, options.quorum);
        let mut network = Network::new();
        for (id, node) in &files {
            let mut peers = BTreeMap::new();
            for (other, there) in files.iter().filter(|(other, _)| *other != id) {
                peers.insert(*other, network.connect(*id, *other, there.peer).await);
            }
            node.write_config(&options.settings, &peers);
        }
        let lines = files
            .iter()
            .map(|(id, node)| (*id, Line::new(*id, &node.client.to_string())))
            .collect();
        Self {
            running: BTreeMap::new(),
            inside: BTreeSet::new(),
            files,
            witnesses,
            witnessing: BTreeMap::new(),
            lines,
            network,
            signing: Signing::new(origin),
            recorder: Recorder::default(),
            policy: TlogPolicy::parse(policy.as_bytes()).expect("a trust policy"),
            origin: origin.to_owned(),
            folder: Folder(Some(folder)),
            _ports: ports,
        }
    }

    /// The genesis file.
    #[must_use]
    pub fn genesis(&self) -> PathBuf {
        files::genesis_file(self.folder.path())
    }

    /// A folder for whatever a test wants to keep beside the nodes.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A node's files.
    ///
    /// # Panics
    /// If there is no such node.
    #[must_use]
    pub fn file(&self, node: u64) -> &NodeFiles {
        self.files.get(&node).expect("a node of this cluster")
    }

    /// All nodes that the cluster has files of, spare ones included.
    pub fn all_files(&self) -> impl Iterator<Item = &NodeFiles> {
        self.files.values()
    }

    /// The way to a node.
    ///
    /// # Panics
    /// If there is no such node.
    #[must_use]
    pub fn line(&self, node: u64) -> &Line {
        self.lines.get(&node).expect("a node of this cluster")
    }

    /// A running node's process.
    ///
    /// # Panics
    /// If it does not run.
    pub fn process(&mut self, node: u64) -> &mut Process {
        self.running.get_mut(&node).expect("a running node")
    }

    /// The nodes that run, ascending.
    #[must_use]
    pub fn nodes(&self) -> Vec<u64> {
        let running: BTreeSet<u64> = self.running.keys().chain(&self.inside).copied().collect();
        running.into_iter().collect()
    }

    /// Says whether a node runs in the process of the test.
    pub fn runs_inside(&mut self, node: u64, runs: bool) {
        if runs {
            self.inside.insert(node);
        } else {
            self.inside.remove(&node);
        }
    }

    /// What a node says about itself; nothing if it does not answer.
    pub async fn status(&self, node: u64) -> Option<v1::GetNodeStatusResponse> {
        status(&self.signing, self.line(node)).await
    }

    /// The same of a node that answers, sooner or later.
    ///
    /// # Panics
    /// If it does not.
    pub async fn must_status(&self, node: u64) -> v1::GetNodeStatusResponse {
        until("the node says how it is", SOON, async || {
            self.status(node).await
        })
        .await
    }

    /// Where clients reach a node.
    #[must_use]
    pub fn endpoint(&self, node: u64) -> String {
        format!("http://{}", self.file(node).client)
    }

    /// The leader, once most running nodes agree on one that runs and takes commands.
    ///
    /// # Panics
    /// If they do not.
    pub async fn leader(&self) -> u64 {
        let nodes = self.nodes();
        self.leader_among(&nodes).await
    }

    /// The leader, once all of these nodes agree on one among them that takes commands.
    ///
    /// # Panics
    /// If they do not.
    pub async fn leader_among(&self, nodes: &[u64]) -> u64 {
        until(
            &format!("nodes {nodes:?} agree on a leader"),
            RECOVERY,
            async || {
                let mut named = None;
                let mut ready = false;
                for node in nodes {
                    let status = self.status(*node).await?;
                    let leader = status.leader_id?;
                    if *named.get_or_insert(leader) != leader {
                        return None;
                    }
                    ready |= leader == *node && status.ready;
                }
                named.filter(|_| ready)
            },
        )
        .await
    }

    /// A running node that does not lead.
    ///
    /// # Panics
    /// If there is none.
    pub async fn follower(&self) -> u64 {
        let leader = self.leader().await;
        let mut others = self.nodes().into_iter().filter(|node| *node != leader);
        others.next().expect("a cluster of more than one node")
    }
}

/// What a node says about itself; nothing if it does not answer.
async fn status(signing: &Signing, line: &Line) -> Option<v1::GetNodeStatusResponse> {
    const PATH: &str = "/countersign.v1.ClusterService/GetNodeStatus";
    let request = signing.read(&admin(), PATH, v1::GetNodeStatusRequest {});
    let answer = line.call(PATH, request, Duration::from_secs(2));
    answer.await.ok()
}

/// The admin of test ledgers, who may also read everything.
#[must_use]
pub fn admin() -> Identity {
    Identity::Operator(ADMIN.to_owned())
}
