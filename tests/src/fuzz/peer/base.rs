//! Where every input begins: a node that has followed a leader for a while, and what is at hand to go on from there.

use std::sync::OnceLock;
use std::time::Instant;

use ledger_core::batch::BatchBuilder;
use ledger_core::hash::TreeHash;
use ledger_core::id::Identity;
use ledger_core::machine::{Tip, genesis_digest};
use ledger_core::signature::vote_message;
use ledger_core::signer::Signer as _;
use ledger_node::cli::init::create_state;
use ledger_node::storage::Store as _;
use ledger_node::storage::marker::{MARKER_FILE, Marker};
use ledger_node::storage::memory::MemoryStore;
use ledger_node::storage::store_id::StoreId;
use ledger_proto::peer::v1 as wire;
use ledger_proto::peer::v1::append_response::Result as Answer;
use ledger_proto::v1::{self, command::Body};
use prost::Message as _;

use super::node::{FuzzedNode, MEMBERS, NODE, PATIENCE, Setting, node_key};
use super::promises::{self, Promises};
use crate::fuzz::machine::story;
use crate::kit::{Ask, World, authorize_body, bank, node_card, operator_message, trust_policy};

/// The leader of the beginning.
const LEADER: u64 = MEMBERS[0];
/// How many entries a snapshot is ahead.
const LATER: usize = 2;
/// The store of the node.
const STORE: [u8; 16] = [1; 16];

/// The beginning.
pub(super) struct Base {
    pub(super) setting: Setting,
    /// The store to begin with.
    pub(super) store: MemoryStore,
    /// The marker that goes with it.
    pub(super) marker: Vec<u8>,
    /// A copy of the store as it was a few entries later.
    pub(super) snapshot: Snapshot,
    /// Commands that the ledger has not seen, or has.
    pub(super) submissions: Vec<v1::Submission>,
}

/// A copy that a leader could send: its manifest, and the one file that a store in memory has.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) manifest: wire::SnapshotManifest,
    pub(super) bytes: Vec<u8>,
}

/// The beginning, made once.
pub(super) fn base() -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    BASE.get_or_init(make)
}

fn make() -> Base {
    let mut world = World::new();
    let agent = world.agent("bot");
    let session = world.session("bot");
    for tool in ["bank/read", "bank/pay"] {
        let _ = world.authorize("bot", session, tool, "{}");
    }
    let mut submissions = Vec::new();
    let mut add = |world: &mut World, ask: Ask| submissions.push(world.sign(ask));
    let root = || Identity::Operator("root".to_owned());
    for body in [
        authorize_body("bot", session, "bank/read"),
        authorize_body("bot", session, "bank/pay"),
    ] {
        add(&mut world, Ask::new(agent.clone(), body));
    }
    let origin = world.origin.clone();
    let nodes = |nodes: &[u64]| v1::UpdateMembership {
        nodes: nodes.iter().map(|node| node_card(&origin, *node)).collect(),
        trust_policy: trust_policy(&origin, nodes),
    };
    for body in [
        Body::RegisterOperator(operator_message(&origin, "op-1", &[])),
        Body::UpdateMembership(nodes(&[1, 2, 3, 4])),
        Body::UpdateMembership(nodes(&[1, 2])),
        world.adjust_time(),
        Body::ActivateEngine(v1::ActivateEngine { version: 1 }),
    ] {
        add(&mut world, Ask::new(root(), body));
    }
    for (index, chunk) in (0..).zip(bank().chunks()) {
        let body = Body::PublishBundle(v1::PublishBundle {
            namespace: "team".to_owned(),
            digest: bank().digest().0.to_vec(),
            chunk_index: index,
            chunk_count: u32::try_from(bank().chunks().len()).expect("few chunks"),
            chunk,
        });
        add(&mut world, Ask::new(root(), body));
    }
    let attested = Body::AttestState(v1::AttestState {
        tree_size: 3,
        digest: vec![6; 32],
        copied: false,
    });
    add(&mut world, Ask::new(Identity::Node(LEADER), attested));
    submissions.extend(story().told.iter().map(|told| told.submission.clone()));
    live(world, submissions)
}

/// Lives through the beginning: a leader sends the log of the world to a node that has its genesis and nothing else.
fn live(world: World, submissions: Vec<v1::Submission>) -> Base {
    let genesis = crate::kit::genesis_message(TreeHash::Sha256);
    let setting = Setting::new(genesis.clone(), world.now_us);
    let (store, id) = (MemoryStore::new(), StoreId::from_bytes(STORE));
    create_state(&store, &genesis, NODE, id, false).expect("an empty store");
    let folder = tempfile::tempdir().expect("a folder");
    let marker = Marker::create(folder.path(), NODE, genesis_digest(&genesis), id);
    drop(marker.expect("an empty folder"));
    let marker = std::fs::read(folder.path().join(MARKER_FILE)).expect("a marker");
    let node = FuzzedNode::start(&setting, store, &marker);
    for payload in [
        membership(&[1, 2, 3]),
        wire::log_entry::Payload::Blank(true),
    ] {
        lead(&node, 1, &payload);
    }
    let (mut store, mut marker) = (None, None);
    let last = world.log.len() - LATER;
    for (number, (time_us, submission)) in world.log.iter().enumerate() {
        if number == last {
            store = Some(node.store.killed());
            marker = Some(node.marker_file());
        }
        let tip = promises::tip(&*node.store);
        lead(&node, 1, &batch(*time_us, &tip, vec![submission.clone()]));
    }
    let snapshot = snapshot(&node);
    node.end();
    Base {
        setting,
        store: store.expect("a log"),
        marker: marker.expect("a log"),
        snapshot,
        submissions,
    }
}

/// Sends an entry as a leader that a quorum has elected, and waits until it is applied.
///
/// # Panics
/// If the node does not follow.
pub(super) fn lead(node: &FuzzedNode, term: u64, payload: &wire::log_entry::Payload) {
    let began = Instant::now();
    let mut is_longer = false;
    loop {
        let previous = if is_longer {
            promises::last(&*node.store)
        } else {
            promises::applied(&*node.store)
        };
        let message = next(node.now_us, term, previous, payload);
        let index = message.committed.unwrap_or_default().index;
        let answers = node.append(LEADER, vec![message]);
        let answers = answers.expect("a leader is answered");
        if let [Ok(answer)] = answers.as_slice()
            && matches!(answer.result, Some(Answer::Matched(_)))
        {
            return node.until("it has applied what is committed", || async {
                promises::applied(&*node.store).is_some_and(|applied| applied.index >= index)
            });
        }
        // A leader has all that is committed. This one tries whether that is more than what is applied.
        assert!(
            began.elapsed() < PATIENCE,
            "a leader is not followed: {answers:?}"
        );
        is_longer = !is_longer;
        node.settle();
    }
}

/// What a leader of this term sends next.
fn next(
    now_us: u64,
    term: u64,
    previous: Option<wire::LogId>,
    payload: &wire::log_entry::Payload,
) -> wire::AppendRequest {
    let vote = wire::Vote {
        term,
        node_id: LEADER,
        committed: true,
    };
    let index = previous.map_or(0, |previous| previous.index + 1);
    let log_id = wire::LogId {
        // The membership of the genesis is of no term.
        term: if index == 0 { 0 } else { term },
        index,
    };
    wire::AppendRequest {
        vote: Some(vote),
        previous,
        entries: vec![wire::LogEntry {
            log_id: Some(log_id),
            payload: Some(payload.clone()),
        }],
        committed: Some(log_id),
        sent_at_us: now_us,
        has_quorum: true,
        election: election(&vote, &MEMBERS),
    }
}

/// Leads in a later term, as a sound leader does: a first entry of nothing, and a command.
///
/// # Panics
/// If the node does not follow.
pub(super) fn lead_on(node: &FuzzedNode) {
    let term = promises::vote(&*node.store).term + 1;
    lead(node, term, &wire::log_entry::Payload::Blank(true));
    let tip = promises::tip(&*node.store);
    let question = base().submissions.first().expect("commands").clone();
    lead(node, term, &batch(node.now_us, &tip, vec![question]));
    let asked = wire::GetTrustStepsRequest { after_epoch: 0 };
    let (mut client, asked) = (node.client(LEADER), node.request(LEADER, asked));
    let answered = node.answer("get_trust_steps", client.get_trust_steps(asked));
    answered.expect("a member may ask");
}

/// The votes of these nodes for a candidate.
pub(super) fn election(vote: &wire::Vote, by: &[u64]) -> Vec<wire::VoteGrant> {
    static GENESIS: OnceLock<ledger_core::hash::Hash> = OnceLock::new();
    let genesis =
        GENESIS.get_or_init(|| genesis_digest(&crate::kit::genesis_message(TreeHash::Sha256)));
    let grant = |id: &u64| wire::VoteGrant {
        node_id: *id,
        signature: node_key(*id)
            .sign(&vote_message(genesis, *id, vote.term, vote.node_id))
            .to_vec(),
    };
    by.iter().map(grant).collect()
}

/// A membership of these voters.
pub(super) fn membership(voters: &[u64]) -> wire::log_entry::Payload {
    let peers = voters.iter().map(|node| wire::Peer {
        node_id: *node,
        address: node_card("", *node).peer_address,
    });
    wire::log_entry::Payload::Membership(wire::Membership {
        voters: vec![wire::VoterSet {
            node_ids: voters.to_vec(),
        }],
        peers: peers.collect(),
    })
}

/// A batch that goes on from a tree.
pub(super) fn batch(
    time_us: u64,
    prior: &Tip,
    submissions: Vec<v1::Submission>,
) -> wire::log_entry::Payload {
    let mut batch = BatchBuilder::new(time_us, prior.size.0, prior.root.as_bytes());
    for submission in submissions {
        // What does not fit is left out.
        let _ = batch.push(submission);
    }
    wire::log_entry::Payload::Batch(batch.finish().encode_to_vec().into())
}

fn snapshot(node: &FuzzedNode) -> Snapshot {
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("copy");
    node.store.checkpoint(&copy).expect("a folder");
    let file = std::fs::read_dir(&copy).expect("a folder").next();
    let file = file.expect("one file").expect("a file");
    let bytes = std::fs::read(file.path()).expect("a file");
    let tip = promises::tip(&*node.store);
    let applied = promises::applied_record(&*node.store);
    let manifest = wire::SnapshotManifest {
        meta: Some(wire::SnapshotMeta {
            last_log_id: applied.last_log_id,
            membership_log_id: applied.membership_log_id,
            membership: applied.membership,
        }),
        files: vec![wire::SnapshotFile {
            name: file.file_name().to_string_lossy().into_owned(),
            size: bytes.len() as u64,
            digest: blake3::hash(&bytes).as_bytes().to_vec(),
        }],
        tree_size: tip.size.0,
        root: tip.root.as_bytes().to_vec(),
    };
    Snapshot { manifest, bytes }
}

impl Base {
    /// Starts a node at the beginning.
    pub(super) fn node(&self) -> (FuzzedNode, Promises) {
        let node = FuzzedNode::start(&self.setting, self.store.killed(), &self.marker);
        let promises = Promises::of(&node);
        (node, promises)
    }
}
