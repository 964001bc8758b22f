//! Reading what peers ask: who asks, and Raft's requests from the wire, refused if they are no such thing.

use ledger_proto::peer::v1 as wire;
use openraft::raft::{TransferLeaderRequest, VoteRequest};
use tonic::{Request, Status};

use super::authorization::Caller;
use crate::raft::bounds::{is_near, is_of_term};
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

/// The caller, which has been authorized before the handler runs.
pub(super) fn caller<T>(request: &Request<T>) -> Result<u64, Status> {
    let caller = request.extensions().get::<Caller>();
    let Caller(caller) = *caller.ok_or_else(|| Status::unauthenticated("nobody has called"))?;
    Ok(caller)
}
