//! What peers answer to appends and votes, as openraft counts on it.

use std::io;
use std::time::Instant;

use ledger_proto::peer::v1 as wire;
use openraft::errors::{NetworkError, RPCError, Unreachable};
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult};
use tonic::{Code, Status};

use super::bounds::is_near;
use super::peers::Peers;
use super::types::{self, LogId, Types, Vote};

/// An append that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) at: Instant,
    /// The entry before its first.
    previous: Option<LogId>,
    /// Its last entry, or the one before its first if it has none.
    last: Option<LogId>,
}

impl Sent {
    pub(super) fn now(request: &AppendEntriesRequest<Types>) -> Self {
        let last = request.entries.last().map(|entry| entry.log_id);
        Self {
            at: Instant::now(),
            previous: request.prev_log_id,
            last: last.or(request.prev_log_id),
        }
    }
}

/// An error if the peer has lost what it had acknowledged. It is not sent to again at once: it would only say the same.
pub(super) fn has_kept(
    peers: &Peers,
    to: u64,
    term: u64,
    result: &Result<StreamAppendResult<Types>, RPCError<Types>>,
) -> Result<(), RPCError<Types>> {
    match result {
        Ok(Ok(Some(last))) => peers.memory.note_acknowledged(to, term, last),
        Ok(Err(StreamAppendError::Conflict(id))) if peers.memory.is_lost(to, term, id.index()) => {
            return Err(unreachable("the peer has lost what it had acknowledged"));
        }
        Ok(_) | Err(_) => {}
    }
    Ok(())
}

/// True if this node leads no more because a peer says that there is a later term.
pub(super) fn steps_back(peers: &Peers, from: u64, term: u64) -> bool {
    let members = peers.elections.members();
    let is_in_touch = !peers.has_lost_quorum(term);
    peers
        .higher_votes
        .believes(from, term, &members, is_in_touch)
}

/// True if the peer does not know the voters who have elected this node: it may have been away while they joined.
pub(super) fn has_refused_election(answer: &wire::AppendResponse) -> bool {
    let Some(wire::append_response::Result::Refused(refused)) = &answer.result else {
        return false;
    };
    refused.check() == wire::AppendCheck::Vote
}

/// Reads an answer. openraft counts on what it says of the log: it can only be about what was sent.
pub(super) fn append_result(
    peers: &Peers,
    to: u64,
    term: u64,
    sent: &Sent,
    answer: wire::AppendResponse,
) -> Result<StreamAppendResult<Types>, RPCError<Types>> {
    use wire::append_response::Result as Answer;
    match answer.result {
        Some(Answer::Matched(matched)) => {
            let last = matched.last.as_ref().map(types::log_id);
            if last != sent.last {
                return Err(network_error("an acknowledgement of what was not sent"));
            }
            if let Some(last) = last {
                peers.refusals.taken(to, last.index());
            }
            Ok(Ok(last))
        }
        Some(Answer::Conflict(id)) => {
            let id = types::log_id(&id);
            if sent.previous != Some(id) {
                return Err(network_error("a conflict with what was not sent"));
            }
            Ok(Err(StreamAppendError::Conflict(id)))
        }
        Some(Answer::HigherVote(vote)) => {
            let vote = near(&vote, term).map_err(|status| rpc_error(&status))?;
            if !steps_back(peers, to, term) {
                return Err(unreachable("the peer is in a later term"));
            }
            Ok(Err(StreamAppendError::HigherVote(vote)))
        }
        Some(Answer::Refused(refused)) => {
            peers.refusals.note(to, term, &refused);
            Err(unreachable("the peer refuses what it was sent for the log"))
        }
        None => Err(network_error("an append answer without a result")),
    }
}

/// The vote of an answer, if elections can have led to its term from the one in which this node asked. That a quorum gave it, an answer
/// cannot show: its leader shows that itself.
pub(super) fn near(vote: &wire::Vote, term: u64) -> Result<Vote, Status> {
    Some(Vote::new(vote.term, vote.node_id))
        .filter(|vote| is_near(vote, term))
        .ok_or_else(|| Status::internal("an answer of a term that no elections can have led to"))
}

pub(super) fn rpc_error(status: &Status) -> RPCError<Types> {
    if status.code() == Code::Unavailable || status.code() == Code::FailedPrecondition {
        // Back off: the peer is down, or is not who we mean.
        RPCError::Unreachable(Unreachable::new(status))
    } else {
        RPCError::Network(NetworkError::new(status))
    }
}

pub(super) fn network_error(what: impl Into<String>) -> RPCError<Types> {
    RPCError::Network(NetworkError::new(&io::Error::other(what.into())))
}

pub(super) fn unreachable(what: &str) -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::new(&io::Error::other(what.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::super::elections::tests::node;
    use super::*;

    #[test]
    fn a_leader_is_not_deposed_by_one_answer_before_it_can_have_heard_of_a_quorum() {
        let peers = node(1, 9);
        let members = [1, 2, 3].into();
        peers.elections.set_members(0, members, [].into());
        assert!(!steps_back(&peers, 2, 7), "nothing is reported yet");
        peers.set_leading(Some((6, false)));
        assert!(!steps_back(&peers, 2, 7), "of an earlier term");
        peers.set_leading(Some((7, true)));
        assert!(!steps_back(&peers, 2, 7));
        peers.set_leading(Some((7, false)));
        assert!(steps_back(&peers, 2, 7), "it hears of no quorum");
    }
}
