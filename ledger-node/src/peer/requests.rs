//! Reading what peers ask: who asks, and Raft's requests from the wire, refused if they are no such thing.

use ledger_core::machine::CLUSTER_VERSION;
use ledger_proto::peer::v1 as wire;
use openraft::raft::{TransferLeaderRequest, VoteRequest};
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::raft::bounds::{is_near, is_of_term};
use crate::raft::peers::{Peers, keys};
use crate::raft::types::{self, Types, Vote};

/// A request that makes no sense.
pub(super) fn bad(what: impl std::fmt::Display) -> Status {
    Status::invalid_argument(what.to_string())
}

/// Reads RequestVote and its rehearsal. A node asks for itself, in a term that elections can have led to from this node's, and its
/// log cannot be of a later one.
pub(super) fn vote_request(
    message: &wire::VoteRequest,
    from: u64,
    own_term: u64,
) -> Result<VoteRequest<Types>, Status> {
    let vote = types::vote(message.vote.as_ref().ok_or_else(|| bad("no vote"))?);
    let term = vote.leader_id.term;
    let last_log_id = message.last_log_id.as_ref().map(types::log_id);
    if vote.committed || vote.leader_id.voted_for != from {
        return Err(bad("a candidate asks for votes for itself"));
    }
    if !is_near(&vote, own_term) {
        return Err(bad(format!(
            "no elections can have led from this node's term {own_term} to term {term}"
        )));
    }
    if last_log_id.is_some_and(|id| !is_of_term(&id, term)) {
        return Err(bad("the candidate's log is of a later term than its vote"));
    }
    Ok(VoteRequest {
        vote,
        last_log_id,
        leadership_transfer: message.leadership_transfer,
    })
}

/// Reads TransferLeader. A leader hands over itself.
pub(super) fn transfer_request(
    message: &wire::TransferLeaderRequest,
    from: u64,
) -> Result<TransferLeaderRequest<Types>, Status> {
    let vote = types::vote(message.from.as_ref().ok_or_else(|| bad("no vote"))?);
    let last_log_id = message.last_log_id.as_ref().map(types::log_id);
    let is_of_leader = |id: &types::LogId| is_of_term(id, vote.leader_id.term);
    if !vote.committed
        || vote.leader_id.voted_for != from
        || !last_log_id.as_ref().is_none_or(is_of_leader)
    {
        return Err(bad("a leader hands over its own leadership"));
    }
    Ok(TransferLeaderRequest::new(vote, message.to, last_log_id))
}

/// The vote of the leader that sends a snapshot.
pub(super) fn leader_vote(
    message: Option<wire::Vote>,
    from: u64,
    own_term: u64,
) -> Result<Vote, Status> {
    let vote = types::vote(&message.ok_or_else(|| bad("no vote"))?);
    if !vote.committed || vote.leader_id.voted_for != from || !is_near(&vote, own_term) {
        return Err(bad(
            "a leader sends snapshots with its own vote, of a term that elections can have led to",
        ));
    }
    Ok(vote)
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
