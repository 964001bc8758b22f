//! One end of the peer protocol in a test's hands. It holds a key, any key, and says with it what it likes.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ledger_core::machine::genesis_digest;
use ledger_core::signature::vote_message;
use ledger_core::signer::Signer as _;
use ledger_node::clock::SystemClock;
use ledger_node::fatal::Fatal;
use ledger_node::genesis_file;
use ledger_node::keyfile::KeyFile;
use ledger_node::peer::store_header::StoreHeader;
use ledger_node::raft::participation::Stage;
use ledger_node::raft::peer_memory::PeerMemory;
pub use ledger_node::raft::peers::{PeerClient, Peers, Purpose, keys};
use ledger_node::storage::marker::Marker;
use ledger_node::storage::memory::MemoryStore;
use ledger_node::storage::store_id::StoreId;
pub use ledger_node::transport::{
    Accepted, Footing, KeyDirectory, Listed, PeerTransport, Role, SharedSigner,
};
use ledger_proto::peer::v1 as wire;
use ledger_proto::peer::v1::peer_service_server::{PeerService, PeerServiceServer};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Request;
use tonic::transport::Server;

use super::Cluster;

/// How long a handshake may take here.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest message between peers, as nodes have it.
const MAX_MESSAGE: usize = 16 << 20;

/// One end of the peer protocol: it speaks as a node, with a key that may be that node's.
#[derive(Debug)]
pub struct PeerSpeaker {
    /// What it says in the metadata, and how it connects.
    pub peers: Peers,
    addresses: BTreeMap<u64, SocketAddr>,
}

impl PeerSpeaker {
    /// Speaks as a node of the cluster, with that node's key.
    ///
    /// # Panics
    /// If the node has no key.
    #[must_use]
    pub fn of(cluster: &Cluster, node: u64) -> Self {
        let key = KeyFile::open(&cluster.file(node).key()).expect("the node's key");
        Self::with_key(cluster, node, Arc::new(key))
    }

    /// Speaks as a node of the cluster, with any key.
    ///
    /// # Panics
    /// If the cluster has no genesis.
    #[must_use]
    pub fn with_key(cluster: &Cluster, node: u64, key: SharedSigner) -> Self {
        let nodes: BTreeMap<u64, Listed> = cluster
            .all_files()
            .map(|files| {
                let key = files.card_message().public_key;
                let key = key.try_into().expect("a card has a key");
                let role = Role::Voter;
                (files.id, Listed { key, role })
            })
            .collect();
        let directory = Arc::new(KeyDirectory::of(Footing::Joined, &nodes));
        let transport = PeerTransport::new(key, directory).expect("settings that TLS takes");
        let addresses = cluster.all_files().map(|files| (files.id, files.peer));
        Self {
            peers: Peers::new(
                node,
                genesis(&cluster.genesis()),
                HashMap::new(),
                Arc::new(SystemClock),
                Arc::new(transport),
                Arc::new(memory_of(cluster, node)),
                Stage::Full,
            ),
            addresses: addresses.collect(),
        }
    }

    /// A client of a node, on a connection of its own with the node's own port: no proxy is between.
    ///
    /// # Panics
    /// If there is no such node.
    #[must_use]
    pub fn client(&self, to: u64) -> PeerClient {
        let address = self.addresses.get(&to).expect("a node of the cluster");
        let address = address.to_string();
        let client = self.peers.client(to, &address, Purpose::Other);
        client.expect("an address")
    }

    /// A request with the metadata that a node asks for.
    pub fn request<T>(&self, to: u64, message: T) -> Request<T> {
        self.peers.request(to, message)
    }

    /// Serves as this node on a port, for the nodes of the cluster, until the handle is aborted.
    pub fn serve<S: PeerService>(&self, listener: TcpListener, service: S) -> AbortHandle {
        let transport = Arc::clone(&self.peers.transport);
        let incoming = TcpListenerStream::new(listener)
            .then(move |stream| {
                let transport = Arc::clone(&transport);
                async move {
                    let shaken = tokio::time::timeout(PATIENCE, transport.accept(stream.ok()?));
                    shaken.await.ok()?.ok()?.node()
                }
            })
            .filter_map(|stream| stream.map(std::io::Result::Ok));
        let service = PeerServiceServer::new(service)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        let header = StoreHeader::new(&self.peers.memory.own());
        let server = Server::builder().layer(header).add_service(service);
        tokio::spawn(server.serve_with_incoming(incoming)).abort_handle()
    }
}

/// The votes of all nodes of the cluster for one of them in a term, each signed: what a node can show that was elected.
///
/// # Panics
/// If the cluster has no keys.
#[must_use]
pub fn election(cluster: &Cluster, vote: &wire::Vote) -> Vec<wire::VoteGrant> {
    let genesis = genesis(&cluster.genesis());
    let grants = cluster.all_files().map(|files| {
        let key = KeyFile::open(&files.key()).expect("the node's key");
        let message = vote_message(&genesis, files.id, vote.term, vote.node_id);
        wire::VoteGrant {
            node_id: files.id,
            signature: key.sign(&message).to_vec(),
        }
    });
    grants.collect()
}

/// The memory of a node that has met nobody. It has the store that the node has, if the node has one.
fn memory_of(cluster: &Cluster, node: u64) -> PeerMemory {
    let marker = Marker::peek(&cluster.file(node).data());
    let unmade = StoreId::from_bytes([u8::try_from(node).expect("few nodes"); 16]);
    let own = marker.map_or(unmade, |marker| marker.store_id);
    let memory = PeerMemory::open(Arc::new(MemoryStore::new()), own, Fatal::default());
    memory.expect("memory can be read")
}

fn genesis(path: &Path) -> ledger_core::hash::Hash {
    let text = std::fs::read_to_string(path).expect("a genesis");
    genesis_digest(&genesis_file::from_toml(&text).expect("a genesis"))
}
