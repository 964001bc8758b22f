//! Reading what peers ask: who asks, and Raft's requests from the wire, refused if they are no such thing.

use bytes::Bytes;
use ledger_core::machine::CLUSTER_VERSION;
use ledger_proto::peer::v1 as wire;
use ledger_proto::v1;
use openraft::raft::{AppendEntriesRequest, VoteRequest};
use prost::Message;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::raft::peers::{Peers, keys};
use crate::raft::types::{self, Types};

/// A request that makes no sense.
pub(super) fn bad(what: impl std::fmt::Display) -> Status {
    Status::invalid_argument(what.to_string())
}

/// Reads RequestVote.
pub(super) fn vote_request(message: &wire::VoteRequest) -> Result<VoteRequest<Types>, Status> {
    let vote = message.vote.as_ref().ok_or_else(|| bad("no vote"))?;
    Ok(VoteRequest {
        vote: types::vote(vote),
        last_log_id: message.last_log_id.as_ref().map(types::log_id),
        leadership_transfer: message.leadership_transfer,
    })
}

/// What clients are told here.
pub(crate) const NOT_FOR_CLIENTS: &str =
    "this is the port for other nodes; clients use the client address of this node";

/// The sender, if the call is meant for this node and this ledger.
pub(super) fn sender(peers: &Peers, metadata: &MetadataMap) -> Result<u64, Status> {
    let number = |key: &str| -> Option<u64> { metadata.get(key)?.to_str().ok()?.parse().ok() };
    let genesis = metadata
        .get_bin(keys::GENESIS)
        .and_then(|value| value.to_bytes().ok())
        .ok_or_else(|| Status::failed_precondition(NOT_FOR_CLIENTS))?;
    if genesis.as_ref() != peers.genesis.as_bytes() {
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
    number(keys::FROM)
        .filter(|from| *from != peers.node_id)
        .ok_or_else(|| Status::failed_precondition("the sender does not say who it is"))
}

/// An append, and what the leader says beside it.
pub(super) struct Received {
    /// For openraft.
    pub(super) request: AppendEntriesRequest<Types>,
    /// The leader's clock, microseconds since 1970.
    pub(super) sent_at_us: u64,
    /// The leader has heard of a quorum lately.
    pub(super) has_quorum: bool,
}

/// Reads AppendEntries, with the time at which it was sent.
pub(super) fn append_request(message: wire::AppendRequest) -> Result<Received, Status> {
    let vote = message.vote.ok_or_else(|| bad("no vote"))?;
    let entries = message
        .entries
        .into_iter()
        .map(|mut entry| {
            // The log's tail keeps entries for long, and a part of the buffer that they came in would keep all of it.
            if let Some(wire::log_entry::Payload::Batch(batch)) = &mut entry.payload {
                *batch = Bytes::copy_from_slice(batch);
                // Once committed it would stop every replica, at each start again.
                v1::Batch::decode(batch.clone()).map_err(bad)?;
            }
            types::entry(entry).map_err(bad)
        })
        .collect::<Result<Vec<types::Entry>, _>>()?;
    // openraft takes it for granted that a leader sends no gaps.
    let first = message.previous.as_ref().map_or(0, |id| id.index + 1);
    let gapless = (first..)
        .zip(&entries)
        .all(|(index, entry)| entry.log_id.index() == index);
    if !gapless {
        return Err(bad("entries with gaps"));
    }
    let request = AppendEntriesRequest {
        vote: types::vote(&vote),
        prev_log_id: message.previous.as_ref().map(types::log_id),
        entries,
        leader_commit: message.committed.as_ref().map(types::log_id),
    };
    Ok(Received {
        request,
        sent_at_us: message.sent_at_us,
        has_quorum: message.has_quorum,
    })
}
