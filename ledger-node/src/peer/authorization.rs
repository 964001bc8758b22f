//! Who may call what on the port for other nodes: one table, and one place that asks it before any handler runs.
//!
//! A caller is who its key says. What it may do depends on what it is as far as this node knows ([`Role`]), and on what this node
//! has ([`Footing`]). Raft's own calls are taken from every node that is listed, learners included: a leader may vote by an entry of
//! the log that this node does not have yet, and a node that refused it would never get that entry (Raft, 4.2). Everything else
//! is asked for by nodes that this one's own log knows, or can wait until it does.

use http::HeaderMap;
use ledger_core::machine::CLUSTER_VERSION;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::raft::peer_memory::PeerMemory;
use crate::raft::peers::{Peers, keys, set_store_id, store_id};
use crate::transport::{Entry, Footing, Role};

/// Where the calls of peers begin.
const SERVICE: &str = "/countersign.peer.v1.PeerService/";

/// Whoever leads, or could.
const VOTERS: &[Role] = &[Role::Voter, Role::Leaving];
/// Everybody whom this node's own log knows.
const MEMBERS: &[Role] = &[Role::Voter, Role::Learner, Role::Leaving];
/// Everybody who is listed.
const LISTED: &[Role] = &[Role::Voter, Role::Learner, Role::Leaving, Role::Named];
const NOBODY: &[Role] = &[];

/// A call and who may make it.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The call.
    pub rpc: &'static str,
    /// Who may make it to a node that has only its genesis.
    pub to_new: &'static [Role],
    /// Who may make it to a node that has joined.
    pub to_joined: &'static [Role],
}

impl Row {
    const fn raft(rpc: &'static str) -> Self {
        Self {
            rpc,
            to_new: LISTED,
            to_joined: LISTED,
        }
    }

    const fn of(rpc: &'static str, to_joined: &'static [Role]) -> Self {
        Self {
            rpc,
            to_new: NOBODY,
            to_joined,
        }
    }

    /// Who may make the call to a node with this footing.
    #[must_use]
    pub const fn callers(&self, footing: Footing) -> &'static [Role] {
        match footing {
            Footing::New => self.to_new,
            Footing::Joined => self.to_joined,
        }
    }
}

/// All calls. That a vote names its sender is checked where the vote is read, `requests.rs`.
pub const TABLE: [Row; 18] = [
    Row::raft("Append"),
    Row::raft("Vote"),
    Row::raft("PreVote"),
    Row::raft("OfferSnapshot"),
    Row::raft("SendSnapshot"),
    Row::raft("InstallSnapshot"),
    // A node compares clocks with everybody whom it may follow, before it has a log as well.
    Row::raft("GetClock"),
    // A node asks what it has promised before it takes part.
    Row::raft("GetRecoveryState"),
    // To the node whose log is the longest: it knows who votes.
    Row::of("TransferLeader", VOTERS),
    // The leader asks, and whoever lags behind it has nothing to answer.
    Row::of("Cosign", VOTERS),
    Row::of("PutCheckpoint", VOTERS),
    Row::of("CompileAhead", VOTERS),
    // Every node asks on behalf of its clients, or of itself.
    Row::of("HandOver", MEMBERS),
    Row::of("Forward", MEMBERS),
    Row::of("ReadIndex", MEMBERS),
    Row::of("WantCheckpoint", MEMBERS),
    Row::of("GetTrustSteps", MEMBERS),
    Row::of("GetErasureState", MEMBERS),
];

/// The caller of a call that has been authorized: the node whose key was shown on its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caller(pub(crate) u64);

/// Decides whether a call may go on to its handler: its caller may make it, and means this node, this ledger and this wire.
///
/// # Errors
/// What does not fit, in the words that the caller is told.
pub(crate) fn authorize(
    peers: &Peers,
    caller: &Entry,
    path: &str,
    headers: &HeaderMap,
) -> Result<Caller, Status> {
    let row = path
        .strip_prefix(SERVICE)
        .and_then(|rpc| TABLE.iter().find(|row| row.rpc == rpc))
        .ok_or_else(|| Status::unimplemented("nodes do not call this"))?;
    means_this_node(peers, caller.node_id, headers)?;
    let footing = peers.transport.directory().footing();
    if row.callers(footing).contains(&caller.role) {
        must_be_met(&peers.memory, caller.node_id, headers)?;
        return Ok(Caller(caller.node_id));
    }
    Err(Status::permission_denied(format!(
        "node {} is {} as far as node {} knows, which {}, and may not call {}",
        caller.node_id,
        caller.role.in_words(),
        peers.node_id,
        footing.in_words(),
        row.rpc
    )))
}

/// Checks what each call says of its sender and receiver.
fn means_this_node(peers: &Peers, caller: u64, headers: &HeaderMap) -> Result<(), Status> {
    let number = |key: &str| -> Option<u64> { headers.get(key)?.to_str().ok()?.parse().ok() };
    let genesis = only(headers, keys::GENESIS);
    let genesis = genesis
        .get_bin(keys::GENESIS)
        .and_then(|value| value.to_bytes().ok());
    if genesis.as_deref() != Some(peers.genesis.as_bytes()) {
        return Err(Status::failed_precondition(
            "the sender belongs to another ledger: its genesis digest is not this node's",
        ));
    }
    if number(keys::VERSION) != Some(u64::from(CLUSTER_VERSION)) {
        return Err(Status::failed_precondition(format!(
            "this node speaks cluster version {CLUSTER_VERSION} and the sender another"
        )));
    }
    if number(keys::TO) != Some(peers.node_id) {
        return Err(Status::failed_precondition(format!(
            "this is node {}; the sender means another, check the addresses of the nodes",
            peers.node_id
        )));
    }
    if number(keys::FROM) != Some(caller) {
        return Err(Status::failed_precondition(format!(
            "the sender does not say that it is node {caller}, whose key it has shown"
        )));
    }
    Ok(())
}

/// One key of the metadata: only what is read is copied.
fn only(headers: &HeaderMap, key: &'static str) -> MetadataMap {
    let mut copied = HeaderMap::new();
    if let Some(sent) = headers.get(key) {
        copied.insert(key, sent.clone());
    }
    MetadataMap::from_headers(copied)
}

/// Refuses a caller that comes with another store than it was met with, and one that has met this node with another.
fn must_be_met(memory: &PeerMemory, caller: u64, headers: &HeaderMap) -> Result<(), Status> {
    let sent = |key: &'static str| store_id(&only(headers, key), key);
    memory.meet(caller, sent(keys::STORE)).map_err(|refusal| {
        let mut known = MetadataMap::new();
        if let Some(id) = memory.store_of(caller) {
            set_store_id(&mut known, keys::KNOWN_STORE, &id);
        }
        Status::with_metadata(Code::FailedPrecondition, refusal.to_string(), known)
    })?;
    match sent(keys::KNOWN_STORE) {
        Some(known) if known != memory.own() => {
            memory.note_refused(caller);
            Err(Status::failed_precondition(
                "this node has another store than the one that the sender means",
            ))
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet, HashMap};
    use std::sync::Arc;

    use ed25519_dalek::SigningKey;
    use ledger_core::hash::Hash;

    use super::*;
    use crate::clock::SystemClock;
    use crate::fatal::Fatal;
    use crate::raft::participation::Stage;
    use crate::storage::memory::MemoryStore;
    use crate::storage::store_id::StoreId;
    use crate::transport::{KeyDirectory, Listed, PeerTransport};

    const ROLES: [Role; 4] = [Role::Voter, Role::Learner, Role::Leaving, Role::Named];
    const FOOTINGS: [Footing; 2] = [Footing::New, Footing::Joined];

    /// What may be called, once more and by hand: by whom of new nodes, and by whom of joined ones; V, L, G (going) and N.
    const EXPECTED: [(&str, &str, &str); 18] = [
        ("Append", "VLGN", "VLGN"),
        ("Vote", "VLGN", "VLGN"),
        ("PreVote", "VLGN", "VLGN"),
        ("TransferLeader", "", "VG"),
        ("HandOver", "", "VLG"),
        ("OfferSnapshot", "VLGN", "VLGN"),
        ("SendSnapshot", "VLGN", "VLGN"),
        ("InstallSnapshot", "VLGN", "VLGN"),
        ("Forward", "", "VLG"),
        ("ReadIndex", "", "VLG"),
        ("Cosign", "", "VG"),
        ("PutCheckpoint", "", "VG"),
        ("WantCheckpoint", "", "VLG"),
        ("GetTrustSteps", "", "VLG"),
        ("CompileAhead", "", "VG"),
        ("GetErasureState", "", "VLG"),
        ("GetClock", "VLGN", "VLGN"),
        ("GetRecoveryState", "VLGN", "VLGN"),
    ];

    const fn letter(role: Role) -> char {
        match role {
            Role::Voter => 'V',
            Role::Learner => 'L',
            Role::Leaving => 'G',
            Role::Named => 'N',
        }
    }

    /// Node 1, to which node 2 has this role.
    fn node_1(footing: Footing, role: Role) -> Peers {
        let key = SigningKey::from_bytes(&[1; 32]);
        let listed = Listed { key: [2; 32], role };
        let directory = KeyDirectory::of(footing, &BTreeMap::from([(2, listed)]));
        let transport = PeerTransport::new(Arc::new(key), Arc::new(directory)).unwrap();
        let genesis = Hash::from_bytes([3; 32]);
        let (clock, transport) = (Arc::new(SystemClock), Arc::new(transport));
        let store = StoreId::from_bytes([1; 16]);
        let memory = PeerMemory::open(Arc::new(MemoryStore::new()), store, Fatal::default());
        let (memory, addresses) = (Arc::new(memory.unwrap()), HashMap::new());
        Peers::new(1, genesis, addresses, clock, transport, memory, Stage::Full)
    }

    fn ask(peers: &Peers, path: &str, headers: &HeaderMap) -> Result<Caller, Status> {
        let caller = peers.transport.directory().by_id(2).unwrap();
        authorize(peers, &caller, path, headers)
    }

    /// The metadata of node 2's calls.
    fn headers(peers: &Peers) -> HeaderMap {
        let mut headers = peers.request(1, ()).into_parts().0.into_headers();
        headers.insert(keys::FROM, 2.into());
        headers
    }

    #[test]
    fn each_call_has_a_row_and_each_row_a_call() {
        let file = "/../proto/proto/countersign/peer/v1/peer_service.proto";
        let file = format!("{}{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(file).unwrap();
        let calls = text.lines().filter_map(|line| {
            let (rpc, _) = line.trim().strip_prefix("rpc ")?.split_once('(')?;
            Some(rpc)
        });
        let rows: Vec<&str> = TABLE.iter().map(|row| row.rpc).collect();
        let distinct: BTreeSet<&str> = rows.iter().copied().collect();
        assert_eq!(distinct.len(), rows.len(), "a call has two rows");
        assert_eq!(distinct, calls.collect::<BTreeSet<&str>>());
    }

    #[test]
    fn the_whole_table_is_what_is_asked() {
        for (rpc, to_new, to_joined) in EXPECTED {
            for footing in FOOTINGS {
                for role in ROLES {
                    let peers = node_1(footing, role);
                    let path = format!("{SERVICE}{rpc}");
                    let answer = ask(&peers, &path, &headers(&peers));
                    let may = match footing {
                        Footing::New => to_new,
                        Footing::Joined => to_joined,
                    };
                    let what = format!("{rpc} by {role:?} of a node that is {footing:?}");
                    if may.contains(letter(role)) {
                        assert_eq!(answer.unwrap(), Caller(2), "{what}");
                    } else {
                        let refused = answer.unwrap_err();
                        assert_eq!(refused.code(), Code::PermissionDenied, "{what}");
                        assert!(refused.message().contains(rpc), "{refused}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_no_call_of_peers_and_what_means_another_is_refused() {
        let peers = node_1(Footing::Joined, Role::Voter);
        let good = headers(&peers);
        for path in ["", SERVICE, "/countersign.v1.LedgerService/GetEntry"] {
            let refused = ask(&peers, path, &good).unwrap_err();
            assert_eq!(refused.code(), Code::Unimplemented, "{path}");
        }
        let path = format!("{SERVICE}ReadIndex");
        assert!(ask(&peers, &path, &good).is_ok());
        for (key, other) in [
            (keys::FROM, Some("3")),
            (keys::TO, Some("2")),
            (keys::VERSION, Some("99")),
            (keys::GENESIS, Some("AAAA")),
            (keys::STORE, Some("AAAA")),
            (keys::KNOWN_STORE, Some("AAAAAAAAAAAAAAAAAAAAAA")),
            (keys::FROM, None),
            (keys::TO, None),
            (keys::VERSION, None),
            (keys::GENESIS, None),
            (keys::STORE, None),
        ] {
            let mut bad = good.clone();
            bad.remove(key);
            if let Some(other) = other {
                bad.insert(key, other.parse().unwrap());
            }
            let refused = ask(&peers, &path, &bad).unwrap_err();
            assert_eq!(refused.code(), Code::FailedPrecondition, "{key} {other:?}");
        }
    }
}
