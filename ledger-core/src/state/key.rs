//! The table of everything the machine keeps.
//!
//! A key is one family byte followed by its parts: numbers big-endian, so that byte order is numeric order; texts that are
//! not last with a length of two bytes before them. Family bytes are stored on disk and are never used again.

use policy_engine::{BundleDigest, HistoryScope};

use crate::hash::LeafIndex;
use crate::id::{Identity, KeyId, RequestId, SessionId};
use crate::keys::{kind_byte, push_str};
use ledger_proto::v1::CompartmentKind;

/// The families, each with its byte. What belongs to the state digest is said by [`Family::is_digested`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Family {
    /// One `LedgerRecord`.
    Ledger = 0x01,
    /// One `HeadRecord`.
    Head = 0x02,
    /// id → `OperatorRecord`
    Operator = 0x10,
    /// id → `AgentRecord`
    Agent = 0x11,
    /// id → `GatewayRecord`
    Gateway = 0x12,
    /// u64 node → `NodeRecord`
    Node = 0x13,
    /// key id → `KeyRecord`
    Key = 0x14,
    /// kind, id, key id → nothing; the keys of an identity
    KeyOfIdentity = 0x15,
    /// name → `NamespaceRecord`
    Namespace = 0x16,
    /// session id → `SessionRecord`
    Session = 0x20,
    /// id → `HaltRecord`
    Halt = 0x21,
    /// namespace, digest → `BundleRecord`
    Bundle = 0x22,
    /// namespace, digest, u32 chunk → `LeafRecord`
    BundleChunk = 0x23,
    /// kind, id, request id → `RequestRecord`; permanent
    Request = 0x24,
    /// u64 decision leaf → `LeafRecord` of its first outcome
    OutcomeOf = 0x25,
    /// u64 epoch → `TrustRecord`
    Trust = 0x26,
    /// u64 node → `AttestationRecord`; of members
    Attestation = 0x27,
    /// u64 decision leaf → `LeafRecord` of the entry that redeemed it
    RedemptionOf = 0x28,
    /// namespace, scope, partition, key of a record → a record of a history partition
    Partition = 0x30,
    /// u64 expiry, then the key of the partition → nothing
    PartitionExpiry = 0x31,
    /// u64 leaf → the canonical bytes of an entry
    Entry = 0x40,
    /// u8 tile level, u64 index → 32 bytes, a hash of the tree
    TileHash = 0x41,
    /// u64 leaf, u8 kind → a `Compartment`; erasable
    Compartment = 0x42,
}

impl Family {
    /// Every family, ascending.
    pub const ALL: [Self; 23] = [
        Self::Ledger,
        Self::Head,
        Self::Operator,
        Self::Agent,
        Self::Gateway,
        Self::Node,
        Self::Key,
        Self::KeyOfIdentity,
        Self::Namespace,
        Self::Session,
        Self::Halt,
        Self::Bundle,
        Self::BundleChunk,
        Self::Request,
        Self::OutcomeOf,
        Self::Trust,
        Self::Attestation,
        Self::RedemptionOf,
        Self::Partition,
        Self::PartitionExpiry,
        Self::Entry,
        Self::TileHash,
        Self::Compartment,
    ];

    /// True if the state digest covers this family. Entries and tiles are covered by the root; compartments are not
    /// covered, because erasing them must change nothing.
    #[must_use]
    pub const fn is_digested(self) -> bool {
        !matches!(self, Self::Entry | Self::TileHash | Self::Compartment)
    }

    const fn byte(self) -> u8 {
        self as u8
    }
}

/// A key of the state.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(Vec<u8>);

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl Key {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, owned.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn new(family: Family) -> Self {
        Self(vec![family.byte()])
    }

    fn text(mut self, text: &str) -> Self {
        push_str(&mut self.0, text);
        self
    }

    fn last_text(mut self, text: &str) -> Self {
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    fn sized(mut self, bytes: &[u8]) -> Self {
        // Identities are checked to be far below 64 KiB.
        let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&len.to_be_bytes());
        self.bytes(bytes)
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// All keys of a family begin with this.
    #[must_use]
    pub fn family(family: Family) -> Self {
        Self::new(family)
    }

    /// The one [`Family::Ledger`] record.
    #[must_use]
    pub fn ledger() -> Self {
        Self::new(Family::Ledger)
    }

    /// The one [`Family::Head`] record.
    #[must_use]
    pub fn head() -> Self {
        Self::new(Family::Head)
    }

    /// [`Family::Operator`]
    #[must_use]
    pub fn operator(id: &str) -> Self {
        Self::new(Family::Operator).last_text(id)
    }

    /// [`Family::Agent`]
    #[must_use]
    pub fn agent(id: &str) -> Self {
        Self::new(Family::Agent).last_text(id)
    }

    /// [`Family::Gateway`]
    #[must_use]
    pub fn gateway(id: &str) -> Self {
        Self::new(Family::Gateway).last_text(id)
    }

    /// [`Family::Node`]
    #[must_use]
    pub fn node(id: u64) -> Self {
        Self::new(Family::Node).bytes(&id.to_be_bytes())
    }

    /// [`Family::Key`]
    #[must_use]
    pub fn public_key(id: KeyId) -> Self {
        Self::new(Family::Key).bytes(id.as_bytes())
    }

    /// All keys of one identity in [`Family::KeyOfIdentity`].
    #[must_use]
    pub fn keys_of(identity: &Identity) -> Self {
        Self::new(Family::KeyOfIdentity)
            .bytes(&[kind_byte(identity)])
            .text(&identity.id())
    }

    /// [`Family::KeyOfIdentity`]
    #[must_use]
    pub fn key_of(identity: &Identity, key: KeyId) -> Self {
        Self::keys_of(identity).bytes(key.as_bytes())
    }

    /// [`Family::Namespace`]
    #[must_use]
    pub fn namespace(name: &str) -> Self {
        Self::new(Family::Namespace).last_text(name)
    }

    /// [`Family::Session`]
    #[must_use]
    pub fn session(id: SessionId) -> Self {
        Self::new(Family::Session).bytes(id.as_bytes())
    }

    /// [`Family::Halt`]
    #[must_use]
    pub fn halt(id: &str) -> Self {
        Self::new(Family::Halt).last_text(id)
    }

    /// All bundles of one namespace in [`Family::Bundle`].
    #[must_use]
    pub fn bundles(namespace: &str) -> Self {
        Self::new(Family::Bundle).text(namespace)
    }

    /// [`Family::Bundle`]
    #[must_use]
    pub fn bundle(namespace: &str, digest: &BundleDigest) -> Self {
        Self::bundles(namespace).bytes(&digest.0)
    }

    /// [`Family::BundleChunk`]
    #[must_use]
    pub fn bundle_chunk(namespace: &str, digest: &BundleDigest, chunk: u32) -> Self {
        Self::new(Family::BundleChunk)
            .text(namespace)
            .bytes(&digest.0)
            .bytes(&chunk.to_be_bytes())
    }

    /// [`Family::Request`]
    #[must_use]
    pub fn request(author: &Identity, request: RequestId) -> Self {
        Self::new(Family::Request)
            .bytes(&[kind_byte(author)])
            .text(&author.id())
            .bytes(request.as_bytes())
    }

    /// [`Family::OutcomeOf`]
    #[must_use]
    pub fn outcome_of(decision: LeafIndex) -> Self {
        Self::new(Family::OutcomeOf).bytes(&decision.0.to_be_bytes())
    }

    /// [`Family::RedemptionOf`]
    #[must_use]
    pub fn redemption_of(decision: LeafIndex) -> Self {
        Self::new(Family::RedemptionOf).bytes(&decision.0.to_be_bytes())
    }

    /// [`Family::Trust`]
    #[must_use]
    pub fn trust(epoch: u64) -> Self {
        Self::new(Family::Trust).bytes(&epoch.to_be_bytes())
    }

    /// [`Family::Attestation`]
    #[must_use]
    pub fn attestation(node: u64) -> Self {
        Self::new(Family::Attestation).bytes(&node.to_be_bytes())
    }

    /// All records of one partition in [`Family::Partition`]. The key says how long its parts are, so that no partition's
    /// keys begin with another's.
    #[must_use]
    pub fn partition(namespace: &str, scope: HistoryScope, partition: &[u8]) -> Self {
        Self::new(Family::Partition)
            .text(namespace)
            .bytes(&[scope_byte(scope)])
            .sized(partition)
    }

    /// One record of a partition.
    #[must_use]
    pub fn in_partition(&self, record: &[u8]) -> Self {
        self.clone().bytes(record)
    }

    /// [`Family::PartitionExpiry`]
    #[must_use]
    pub fn partition_expiry(expires_at_us: u64, partition: &Self) -> Self {
        Self::new(Family::PartitionExpiry)
            .bytes(&expires_at_us.to_be_bytes())
            .bytes(&partition.0)
    }

    /// [`Family::Entry`]
    #[must_use]
    pub fn entry(leaf: LeafIndex) -> Self {
        Self::new(Family::Entry).bytes(&leaf.0.to_be_bytes())
    }

    /// All hashes of one level in [`Family::TileHash`].
    #[must_use]
    pub fn tile_row(level: u8) -> Self {
        Self::new(Family::TileHash).bytes(&[level])
    }

    /// [`Family::TileHash`]
    #[must_use]
    pub fn tile_hash(level: u8, index: u64) -> Self {
        Self::tile_row(level).bytes(&index.to_be_bytes())
    }

    /// [`Family::Compartment`]
    #[must_use]
    pub fn compartment(leaf: LeafIndex, kind: CompartmentKind) -> Self {
        Self::new(Family::Compartment)
            .bytes(&leaf.0.to_be_bytes())
            .bytes(&[compartment_byte(kind)])
    }
}

/// The key of the partition that a [`Family::PartitionExpiry`] key ends in, and its expiry.
#[must_use]
pub(crate) fn split_expiry(key: &[u8]) -> Option<(u64, Key)> {
    let rest = key.get(1..)?;
    let (expiry, partition) = rest.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*expiry), Key(partition.to_vec())))
}

/// The key id that a [`Family::KeyOfIdentity`] key ends in.
#[must_use]
pub(crate) fn last_key_id(key: &[u8]) -> Option<KeyId> {
    key.last_chunk::<16>().map(|id| KeyId::from_bytes(*id))
}

/// A history scope as one byte of a key.
const fn scope_byte(scope: HistoryScope) -> u8 {
    match scope {
        HistoryScope::Agent => 1,
        HistoryScope::Session => 2,
        HistoryScope::Subject => 3,
        HistoryScope::Owner => 4,
        HistoryScope::Namespace => 5,
    }
}

/// A compartment kind as one byte of a key: the number of the enum.
const fn compartment_byte(kind: CompartmentKind) -> u8 {
    match kind {
        CompartmentKind::Unspecified => 0,
        CompartmentKind::Input => 1,
        CompartmentKind::Resource => 2,
        CompartmentKind::Context => 3,
        CompartmentKind::Output => 4,
        CompartmentKind::ExecutedInput => 5,
        CompartmentKind::Reason => 6,
    }
}
