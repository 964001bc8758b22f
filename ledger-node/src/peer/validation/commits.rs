//! What a leader says is committed. openraft takes the smaller of that and of what the leader has sent, by term and then by index, and
//! never looks whether such an entry is there: with a log id that is of no entry it would commit beyond the end of its log. It also takes
//! it from a leader whose vote it refuses.

use openraft::raft::AppendEntriesRequest;

use super::{Check, RaftView, Refusal, refuse};
use crate::raft::bounds::is_of_term;
use crate::raft::types::{LogId, Types};

/// The end of what a leader says is committed, as far as this node has or gets the entry: one that the leader sends, if it fits, or that
/// is in this node's log. None says nothing: the leader says it again with what it sends next.
///
/// # Errors
/// It cannot be an entry of the log that the leader sends.
pub(super) fn said_committed(
    request: &AppendEntriesRequest<Types>,
    known: &RaftView<'_>,
) -> Result<Option<LogId>, Refusal> {
    let Some(said) = request.leader_commit else {
        return Ok(None);
    };
    let entries = request.entries.iter().map(|entry| entry.log_id);
    let mut sent = None;
    for id in request.prev_log_id.into_iter().chain(entries) {
        if !is_of_one_log(&said, &id) {
            let what = format!("{said} is said to be committed, and the same log has {id}");
            return Err(refuse(Check::LogId, said.index(), what));
        }
        if id.index() <= said.index() {
            sent = Some(id);
        }
    }
    let is_here = |id: &LogId| (known.log_id_at)(id.index()) == Some(*id);
    let end = known.committed.map(|id| id.index());
    // What is committed here has been compared, even where it is purged.
    let fits = |previous: &LogId| is_here(previous) || Some(previous.index()) <= end;
    if request.prev_log_id.as_ref().is_none_or(fits) && sent.is_some() {
        return Ok(sent);
    }
    // What does not fit is taken from the log, with all that comes after it.
    let previous = request.prev_log_id.map(|id| id.index());
    let stays = previous.is_none_or(|previous| said.index() < previous);
    Ok(Some(said).filter(|said| stays && is_here(said)))
}

/// True if one log can have both: terms do not go back in it.
fn is_of_one_log(one: &LogId, other: &LogId) -> bool {
    let (earlier, later) = if one.index() <= other.index() {
        (one, other)
    } else {
        (other, one)
    };
    let is_same = earlier.index() != later.index() || one == other;
    is_same && is_of_term(earlier, later.committed_leader_id().term)
}
