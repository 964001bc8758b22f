//! A small ledger in memory for tests: records written as the machine would, read through the traits that ship.

use ed25519_dalek::{Signer as _, SigningKey};
use ledger_core::hash::TreeHash;
use ledger_core::id::Identity;
use ledger_core::keys::PublicKey;
use ledger_core::ledger::Head;
use ledger_core::state::{Key, MemoryState, Txn};
use ledger_proto::v1::{self, IdentityStatus};
use prost::Message;
use tonic::metadata::{MetadataMap, MetadataValue};

use super::read_auth::ReadRequest;
use crate::index;
use crate::storage::memory::MemoryStore;
use crate::storage::view::View;
use crate::storage::{Batch, Store as _, Table};

pub(crate) const ORIGIN: &str = "ledger.test/prod";
pub(crate) const NOW: u64 = 1_795_392_000_000_000;

/// State, entries and index, written as an applier writes them.
#[derive(Debug)]
pub(crate) struct TestWorld {
    pub(crate) state: MemoryState,
    head: Head,
    index: Batch,
}

impl TestWorld {
    pub(crate) fn new() -> Self {
        let mut world = Self {
            state: MemoryState::new(),
            head: Head::empty(TreeHash::Sha256),
            index: Batch::new(),
        };
        world.put(
            Key::ledger(),
            &v1::LedgerRecord {
                origin: ORIGIN.to_owned(),
                tree_hash: "sha256".to_owned(),
                ..v1::LedgerRecord::default()
            },
        );
        world
    }

    pub(crate) fn put<M: Message>(&mut self, key: Key, record: &M) {
        let writes = [(key.into_bytes(), Some(record.encode_to_vec()))];
        self.state.commit(writes.into());
    }

    /// An active key, and the identity's record.
    pub(crate) fn enrol(&mut self, identity: &Identity) {
        let key = key(identity);
        let public = PublicKey::from_bytes(key.verifying_key().as_bytes()).unwrap();
        let record = v1::KeyRecord {
            identity: Some(identity.to_message()),
            key: Some(v1::PublicKey {
                algorithm: v1::KeyAlgorithm::Ed25519.into(),
                bytes: public.as_bytes().to_vec(),
                not_before_us: NOW - 1,
                not_after_us: NOW + 1_000_000_000,
            }),
            leaf: 0,
            retired_at_us: 0,
        };
        self.put(Key::public_key(public.key_id()), &record);
    }

    pub(crate) fn operator(
        &mut self,
        id: &str,
        roles: &[(v1::Role, &str)],
        status: IdentityStatus,
    ) {
        let roles = roles.iter().map(|(role, namespace)| v1::RoleGrant {
            role: (*role).into(),
            namespace: (*namespace).to_owned(),
        });
        let record = v1::OperatorRecord {
            roles: roles.collect(),
            groups: vec!["leads".to_owned()],
            status: status.into(),
            ..v1::OperatorRecord::default()
        };
        self.put(Key::operator(id), &record);
    }

    pub(crate) fn agent(&mut self, id: &str, namespace: &str, owner: &str, status: IdentityStatus) {
        let record = v1::AgentRecord {
            namespace: namespace.to_owned(),
            owner: owner.to_owned(),
            status: status.into(),
            ..v1::AgentRecord::default()
        };
        self.put(Key::agent(id), &record);
    }

    /// Appends an entry for a command by this author.
    pub(crate) fn append(
        &mut self,
        author: &Identity,
        ask: v1::command::Body,
        body: v1::entry::Body,
    ) -> v1::Entry {
        let command = v1::Command {
            author: Some(author.to_message()),
            body: Some(ask),
            ..v1::Command::default()
        };
        let size = self.head.size().0;
        let entry = v1::Entry {
            index: size,
            time_us: NOW + size * 10,
            signed: Some(v1::SignedCommand {
                command: command.encode_to_vec(),
                signatures: Vec::new(),
            }),
            body: Some(body),
            ..v1::Entry::default()
        };
        let mut txn = Txn::new(&self.state);
        self.head.append(&mut txn, &entry).unwrap();
        let writes = txn.into_writes();
        self.state.commit(writes);
        index::changes(&self.state, &entry, &mut self.index).unwrap();
        entry
    }

    /// Appends a decision about an agent's call of a tool.
    pub(crate) fn decide(&mut self, agent: &str, tool: &str, decision: v1::Decision) -> v1::Entry {
        let author = Identity::Agent(agent.to_owned());
        let ask = v1::Authorize {
            agent: agent.to_owned(),
            tool: Some(v1::Tool {
                name: tool.to_owned(),
                ..v1::Tool::default()
            }),
            ..v1::Authorize::default()
        };
        self.append(
            &author,
            v1::command::Body::Authorize(ask),
            v1::entry::Body::Decision(decision),
        )
    }

    pub(crate) fn view(&self) -> View {
        let mut state = Batch::new();
        for (key, value) in self.state.pairs() {
            state.put(Table::State, key, value);
        }
        let store = MemoryStore::new();
        for batch in [&state, &self.index] {
            store.write(batch).unwrap();
        }
        View::new(store.view())
    }
}

pub(crate) fn key(identity: &Identity) -> SigningKey {
    SigningKey::from_bytes(blake3::hash(identity.to_string().as_bytes()).as_bytes())
}

/// The metadata of a read, its message built here from `call.proto` alone.
pub(crate) fn signed<R: ReadRequest>(
    identity: &Identity,
    origin: &str,
    method: &str,
    time_us: u64,
    request: &R,
) -> MetadataMap {
    let (key, nonce) = (key(identity), [7_u8; 16]);
    let mut message = b"countersign-read-v1\0".to_vec();
    for text in [origin, method] {
        message.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
        message.extend(text.as_bytes());
    }
    message.extend(time_us.to_be_bytes());
    message.extend(nonce);
    message.extend(blake3::hash(&request.encode_to_vec()).as_bytes());
    let public = PublicKey::from_bytes(key.verifying_key().as_bytes()).unwrap();
    let mut metadata = MetadataMap::new();
    let binary = |bytes: &[u8]| MetadataValue::from_bytes(bytes);
    let key_id = public.key_id();
    metadata.insert_bin("countersign-key-id-bin", binary(key_id.as_bytes()));
    metadata.insert("countersign-time-us", time_us.to_string().parse().unwrap());
    metadata.insert_bin("countersign-nonce-bin", binary(&nonce));
    let signature = key.sign(&message).to_bytes();
    metadata.insert_bin("countersign-signature-bin", binary(&signature));
    metadata
}
