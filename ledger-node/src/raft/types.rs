//! The types that openraft is generic over, and their encoding.
//!
//! Wire and disk share one encoding, the messages of `countersign.peer.v1`: an upgrade of openraft changes no byte.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;

use bytes::Bytes;
use ledger_proto::peer::v1 as wire;
use openraft::raft::AppendEntriesRequest;
use openraft::{EntryPayload, Membership, StoredMembership};

openraft::declare_raft_types!(
    /// What the ledger replicates.
    pub Types:
        D = Proposal,
        R = (),
        NodeId = u64,
        Node = Peer,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>,
);

/// The committed part of a leader's name: its term.
pub type Term = openraft::type_config::alias::CommittedLeaderIdOf<Types>;
/// The name of a log entry.
pub type LogId = openraft::type_config::alias::LogIdOf<Types>;
/// A vote.
pub type Vote = openraft::type_config::alias::VoteOf<Types>;
/// A log entry.
pub type Entry = openraft::type_config::alias::EntryOf<Types>;
/// The replicas, and the log entry that said so.
pub type Members = StoredMembership<Term, u64, Peer>;
/// What a snapshot covers.
pub type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<Types>;

/// The encoding of a `countersign.v1.Batch`, passed around without being copied.
#[derive(Clone, PartialEq, Eq)]
pub struct Proposal(pub Bytes);

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "batch of {} bytes", self.0.len())
    }
}

/// Where a replica is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peer {
    /// host:port of its peer service.
    pub address: String,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

/// Bytes that are not what they should be.
pub fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// A log id as it is stored and sent.
#[must_use]
pub fn log_id_to_wire(id: &LogId) -> wire::LogId {
    wire::LogId {
        term: id.committed_leader_id().term,
        index: id.index(),
    }
}

/// A log id that was stored or received.
#[must_use]
pub fn log_id(id: &wire::LogId) -> LogId {
    LogId::new(Term { term: id.term }, id.index)
}

/// A vote as it is stored and sent.
#[must_use]
pub fn vote_to_wire(vote: &Vote) -> wire::Vote {
    wire::Vote {
        term: vote.leader_id.term,
        node_id: vote.leader_id.voted_for,
        committed: vote.committed,
    }
}

/// A vote that was stored or received.
#[must_use]
pub fn vote(vote: &wire::Vote) -> Vote {
    if vote.committed {
        Vote::new_committed(vote.term, vote.node_id)
    } else {
        Vote::new(vote.term, vote.node_id)
    }
}

/// A membership as it is stored and sent.
#[must_use]
pub fn membership_to_wire(membership: &Membership<u64, Peer>) -> wire::Membership {
    wire::Membership {
        voters: membership
            .get_joint_config()
            .iter()
            .map(|set| wire::VoterSet {
                node_ids: set.iter().copied().collect(),
            })
            .collect(),
        peers: membership
            .nodes()
            .map(|(node_id, peer)| wire::Peer {
                node_id: *node_id,
                address: peer.address.clone(),
            })
            .collect(),
    }
}

/// A membership that was stored or received.
///
/// # Errors
/// A voter without an address.
pub fn membership(message: &wire::Membership) -> io::Result<Membership<u64, Peer>> {
    let sets: Vec<BTreeSet<u64>> = message
        .voters
        .iter()
        .map(|set| set.node_ids.iter().copied().collect())
        .collect();
    let peers: BTreeMap<u64, Peer> = message
        .peers
        .iter()
        .map(|peer| {
            let address = peer.address.clone();
            (peer.node_id, Peer { address })
        })
        .collect();
    Membership::new(sets, peers).map_err(|error| invalid(format!("a membership: {error}")))
}

/// An entry as it is stored and sent.
#[must_use]
pub fn entry_to_wire(entry: &Entry) -> wire::LogEntry {
    let payload = match &entry.payload {
        EntryPayload::Blank => wire::log_entry::Payload::Blank(true),
        EntryPayload::Normal(proposal) => wire::log_entry::Payload::Batch(proposal.0.clone()),
        EntryPayload::Membership(membership) => {
            wire::log_entry::Payload::Membership(membership_to_wire(membership))
        }
    };
    wire::LogEntry {
        log_id: Some(log_id_to_wire(&entry.log_id)),
        payload: Some(payload),
    }
}

/// An entry that was stored or received.
///
/// # Errors
/// A part is missing or not valid.
pub fn entry(message: wire::LogEntry) -> io::Result<Entry> {
    let id = message
        .log_id
        .ok_or_else(|| invalid("a log entry without a log id"))?;
    let payload = match message.payload {
        Some(wire::log_entry::Payload::Blank(_)) => EntryPayload::Blank,
        Some(wire::log_entry::Payload::Batch(bytes)) => EntryPayload::Normal(Proposal(bytes)),
        Some(wire::log_entry::Payload::Membership(message)) => {
            EntryPayload::Membership(membership(&message)?)
        }
        None => return Err(invalid("a log entry without a payload")),
    };
    Ok(Entry {
        log_id: log_id(&id),
        payload,
    })
}

/// AppendEntries as it was received, and when it was sent.
///
/// # Errors
/// The message is none that a leader sends.
pub fn append_request(
    message: wire::AppendRequest,
) -> io::Result<(AppendEntriesRequest<Types>, u64)> {
    let sender = message.vote.ok_or_else(|| invalid("no vote"))?;
    let entries = message
        .entries
        .into_iter()
        .map(|mut received| {
            // The log's tail keeps entries for long, and a part of the buffer that they came in would keep all of it.
            if let Some(wire::log_entry::Payload::Batch(batch)) = &mut received.payload {
                *batch = Bytes::copy_from_slice(batch);
            }
            entry(received)
        })
        .collect::<io::Result<Vec<Entry>>>()?;
    // openraft takes it for granted that a leader sends no gaps.
    let first = message.previous.as_ref().map_or(0, |id| id.index + 1);
    let gapless = (first..)
        .zip(&entries)
        .all(|(index, entry)| entry.log_id.index() == index);
    if !gapless {
        return Err(invalid("entries with gaps"));
    }
    let request = AppendEntriesRequest {
        vote: vote(&sender),
        prev_log_id: message.previous.as_ref().map(log_id),
        entries,
        leader_commit: message.committed.as_ref().map(log_id),
    };
    Ok((request, message.sent_at_us))
}

/// How many bytes an entry takes in a message, about.
#[must_use]
pub fn entry_len(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(proposal) => proposal.0.len() + 32,
        EntryPayload::Blank | EntryPayload::Membership(_) => 256,
    }
}

/// What a snapshot covers, as it is stored and sent.
#[must_use]
pub fn meta_to_wire(meta: &SnapshotMeta) -> wire::SnapshotMeta {
    wire::SnapshotMeta {
        last_log_id: meta.last_log_id.as_ref().map(log_id_to_wire),
        membership_log_id: meta.last_membership.log_id().as_ref().map(log_id_to_wire),
        membership: Some(membership_to_wire(meta.last_membership.membership())),
    }
}

/// What a snapshot covers, stored or received.
///
/// # Errors
/// A membership that is not valid.
pub fn meta(message: &wire::SnapshotMeta) -> io::Result<SnapshotMeta> {
    Ok(SnapshotMeta {
        last_log_id: message.last_log_id.as_ref().map(log_id),
        last_membership: members(&message.membership_log_id, &message.membership)?,
    })
}

/// The replicas and the entry that said so, stored or received.
///
/// # Errors
/// A membership that is not valid.
pub fn members(
    id: &Option<wire::LogId>,
    message: &Option<wire::Membership>,
) -> io::Result<Members> {
    let members = message.as_ref().map(membership).transpose()?;
    Ok(Members::new(
        id.as_ref().map(log_id),
        members.unwrap_or_default(),
    ))
}
