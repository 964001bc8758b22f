//! Connections to peers, cached: one for the log, one for votes and heartbeats, one for snapshots, one for the rest, so that a
//! snapshot on its way cannot hold up a heartbeat. Each is made to one node, and only to whoever holds that node's key.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ledger_core::hash::Hash;
use ledger_core::machine::CLUSTER_VERSION;
use ledger_proto::peer::v1::peer_service_client::PeerServiceClient;
use ledger_proto::v1;
use tonic::Request;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};

use super::checked_channel::CheckedChannel;
use super::clocks::Clocks;
use super::elections::Elections;
use super::hand_over::AskedSuccessors;
use super::higher_votes::HigherVotes;
use super::honoured::HonouredTransfers;
use super::participation::{Participation, Stage};
use super::peer_memory::PeerMemory;
use super::proposers::Proposers;
use super::refusals::Refusals;
use super::transfer::KnownTransfer;
use crate::clock::Clock;
use crate::limits::MAX_PEER_MESSAGE;
use crate::storage::store_id::StoreId;
use crate::transport::{Connector, PeerTransport};

/// How long a connection, its handshake included, may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// Metadata keys of every peer call.
pub mod keys {
    /// The digest of the genesis.
    pub const GENESIS: &str = "countersign-genesis-bin";
    /// The sender.
    pub const FROM: &str = "countersign-from";
    /// Whom the sender means.
    pub const TO: &str = "countersign-to";
    /// The version of the wire.
    pub const VERSION: &str = "countersign-cluster-version";
    /// The store of whoever speaks, in requests and in answers.
    pub const STORE: &str = "countersign-store-id-bin";
    /// The store with which the speaker has met the other side, in requests and in answers.
    pub const KNOWN_STORE: &str = "countersign-known-store-id-bin";
}

/// The store id under a key; none if it is missing or is no such id.
#[must_use]
pub fn store_id(metadata: &MetadataMap, key: &'static str) -> Option<StoreId> {
    let bytes = metadata.get_bin(key)?.to_bytes().ok()?;
    StoreId::from_slice(&bytes)
}

/// Sets the store id under a key.
pub fn set_store_id(metadata: &mut MetadataMap, key: &'static str, id: &StoreId) {
    metadata.insert_bin(key, MetadataValue::from_bytes(id.as_bytes()));
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The log.
    Log,
    /// Votes and heartbeats.
    Heartbeat,
    /// Snapshots.
    Snapshot,
    /// Forwarded submissions, cosignatures, reads.
    Other,
}

/// A client of a peer.
pub type PeerClient = PeerServiceClient<CheckedChannel>;

/// Connections to peers.
pub struct Peers {
    /// This node.
    pub node_id: u64,
    /// The digest of the genesis.
    pub genesis: Hash,
    /// Where to dial instead of what the ledger says.
    pub overrides: HashMap<u64, String>,
    /// What peers' clocks say.
    pub clocks: Clocks,
    /// What is remembered of peers.
    pub memory: Arc<PeerMemory>,
    /// How far this node may take part.
    pub participation: Participation,
    /// The votes of elections, signed.
    pub elections: Elections,
    /// Who says that there is a later term, while this node leads.
    pub higher_votes: HigherVotes,
    /// Who has proposed which batch.
    pub proposers: Arc<Proposers>,
    /// What peers have refused while this node led.
    pub refusals: Refusals,
    /// Which transfer of leadership the leader has asked for.
    pub transfer: KnownTransfer,
    /// Which transfers of leadership admins had from this node.
    pub honoured: HonouredTransfers,
    /// Whom this node has asked to lead.
    pub(crate) asked_successors: AskedSuccessors,
    /// This node's clock.
    pub clock: Arc<dyn Clock>,
    /// How connections are made and accepted.
    pub transport: Arc<PeerTransport>,
    channels: Mutex<HashMap<(u64, String, Purpose), Channel>>,
    /// When a leader with a quorum has written to this node last.
    led_at: Mutex<Option<Instant>>,
    /// This node leads, and hears of a quorum.
    has_quorum: AtomicBool,
    /// The term that this node leads without hearing of a quorum any more; 0 if there is none.
    lost_term: AtomicU64,
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peers")
            .field("node_id", &self.node_id)
            .finish_non_exhaustive()
    }
}

impl Peers {
    /// No connections yet.
    #[must_use]
    pub fn new(
        node_id: u64,
        genesis: Hash,
        overrides: HashMap<u64, String>,
        clock: Arc<dyn Clock>,
        transport: Arc<PeerTransport>,
        memory: Arc<PeerMemory>,
        stage: Stage,
    ) -> Self {
        Self {
            node_id,
            genesis,
            overrides,
            clocks: Clocks::default(),
            memory,
            participation: Participation::new(stage),
            elections: Elections::default(),
            higher_votes: HigherVotes::default(),
            proposers: Arc::default(),
            refusals: Refusals::default(),
            transfer: KnownTransfer::default(),
            honoured: HonouredTransfers::new(clock.now_us()),
            asked_successors: AskedSuccessors::default(),
            clock,
            transport,
            channels: Mutex::default(),
            led_at: Mutex::default(),
            has_quorum: AtomicBool::new(false),
            lost_term: AtomicU64::new(0),
        }
    }

    /// Says which term this node leads, if it does, and whether it hears of a quorum, for those who follow it.
    pub fn set_leading(&self, leading: Option<(u64, bool)>) {
        let has_quorum = leading.is_some_and(|(_, has_quorum)| has_quorum);
        let lost = leading.filter(|(_, has_quorum)| !has_quorum);
        self.has_quorum.store(has_quorum, Ordering::Relaxed);
        let lost = lost.map_or(0, |(term, _)| term);
        self.lost_term.store(lost, Ordering::Relaxed);
    }

    /// True if this node leads a term and has heard of no quorum for too long. In its first moments a leader has heard of none yet.
    pub(super) fn has_lost_quorum(&self, term: u64) -> bool {
        self.lost_term.load(Ordering::Relaxed) == term
    }

    /// True if this node leads and hears of a quorum.
    #[must_use]
    pub fn has_quorum(&self) -> bool {
        self.has_quorum.load(Ordering::Relaxed)
    }

    /// A leader with a quorum has written to this node.
    pub fn note_leader(&self) {
        let mut led_at = self.led_at.lock().unwrap_or_else(PoisonError::into_inner);
        *led_at = Some(Instant::now());
    }

    /// For how long no leader with a quorum has written to this node; None if none has since the start.
    #[must_use]
    pub fn leader_silence(&self) -> Option<Duration> {
        let led_at = self.led_at.lock().unwrap_or_else(PoisonError::into_inner);
        led_at.map(|at| at.elapsed())
    }

    /// A client of a peer, on a connection that may be in use already.
    ///
    /// # Errors
    /// The address is not one.
    pub fn client(&self, to: u64, address: &str, purpose: Purpose) -> io::Result<PeerClient> {
        let address = self.overrides.get(&to).map_or(address, String::as_str);
        let key = (to, address.to_owned(), purpose);
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let channel = match channels.get(&key) {
            Some(channel) => channel.clone(),
            None => {
                let directory = self.transport.directory();
                channels.retain(|(node_id, ..), _| directory.by_id(*node_id).is_some());
                let connector = Connector {
                    transport: Arc::clone(&self.transport),
                    node_id: to,
                    unlisted_key: None,
                    address: address.to_owned(),
                    patience: CONNECT_TIMEOUT,
                };
                let channel = Endpoint::from_shared(format!("http://{address}"))
                    .map_err(io::Error::other)?
                    .http2_keep_alive_interval(Duration::from_secs(5))
                    .keep_alive_timeout(Duration::from_secs(5))
                    .initial_stream_window_size(8 << 20)
                    .initial_connection_window_size(16 << 20)
                    .connect_with_connector_lazy(connector);
                channels.insert(key, channel.clone());
                channel
            }
        };
        let (memory, transport) = (Arc::clone(&self.memory), Arc::clone(&self.transport));
        let channel = CheckedChannel::new(channel, memory, transport, to);
        Ok(PeerServiceClient::new(channel)
            .max_decoding_message_size(MAX_PEER_MESSAGE)
            .max_encoding_message_size(MAX_PEER_MESSAGE))
    }

    /// Has trust steps pushed to a peer that does not know the voters who have elected this node.
    pub(super) fn offer_trust_steps(&self, to: u64, address: &str) {
        let address = self.overrides.get(&to).map_or(address, String::as_str);
        self.transport.offer_trust_steps(to, address);
    }

    /// A client of a node that the ledger does not have yet, on a connection of its own to where its card says, and only to
    /// whoever holds the card's key. Nothing is remembered of its store: that is for when it has joined.
    ///
    /// # Errors
    /// The address or the key is none.
    pub fn newcomer(&self, card: &v1::NodeCard) -> io::Result<PeerServiceClient<Channel>> {
        let address = self.overrides.get(&card.node_id);
        let address = address.unwrap_or(&card.peer_address);
        let key = card.public_key.as_slice().try_into();
        let connector = Connector {
            transport: Arc::clone(&self.transport),
            node_id: card.node_id,
            unlisted_key: Some(key.map_err(io::Error::other)?),
            address: address.clone(),
            patience: CONNECT_TIMEOUT,
        };
        let channel = Endpoint::from_shared(format!("http://{address}"))
            .map_err(io::Error::other)?
            .connect_with_connector_lazy(connector);
        Ok(PeerServiceClient::new(channel))
    }

    /// A request with the metadata that the peer asks for.
    pub fn request<T>(&self, to: u64, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let metadata: &mut MetadataMap = request.metadata_mut();
        metadata.insert_bin(
            keys::GENESIS,
            MetadataValue::from_bytes(self.genesis.as_bytes()),
        );
        metadata.insert(keys::FROM, MetadataValue::from(self.node_id));
        metadata.insert(keys::TO, MetadataValue::from(to));
        metadata.insert(keys::VERSION, MetadataValue::from(CLUSTER_VERSION));
        set_store_id(metadata, keys::STORE, &self.memory.own());
        if let Some(known) = self.memory.store_of(to) {
            set_store_id(metadata, keys::KNOWN_STORE, &known);
        }
        request
    }

    /// This node's clock in microseconds since 1970.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.clock.now_us()
    }
}
