//! Handing leadership over: because an admin asks, or because this node stops or its clock is off.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use openraft::async_runtime::WatchReceiver;
use openraft::{Instant as _, ServerState};

use super::Raft;
use super::peers::Peers;

/// How long a voter that was asked to lead has until it stands for election, before another one is asked.
const STANDS_WITHIN: Duration = Duration::from_millis(500);

/// How long a voter that was asked to lead, and did not stand for election, is not asked again in that term: as long as it leads
/// nobody, a leader that has begun to hand over decides nothing.
const PASSED_OVER: Duration = Duration::from_secs(60);

/// A voter that has been silent for so long is not asked to lead: until it does, nobody does.
const SILENT: Duration = Duration::from_secs(1);

/// The reason why no voter can be asked to lead now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoSuccessor {
    #[error("node {0} does not answer the leader; see that it runs and try again")]
    Silent(u64),
    #[error("no other voter answers the leader; start one and try again")]
    AllSilent,
    #[error(
        "node {0} was asked to lead less than a minute ago and did not stand for election; see its log, or let another node lead"
    )]
    PassedOver(u64),
    #[error(
        "every other voter that answers the leader was asked to lead less than a minute ago and did not stand for election; see their logs"
    )]
    AllPassedOver,
    #[error("another node was asked to lead a moment ago; see who leads and try again")]
    UnderWay,
}

/// The voters that were asked to lead in one term, and when.
#[derive(Debug, Default)]
pub(crate) struct AskedSuccessors(Mutex<Asked>);

#[derive(Debug, Default)]
struct Asked {
    term: u64,
    at: BTreeMap<u64, Instant>,
}

impl AskedSuccessors {
    /// Notes that a voter is asked to lead.
    fn note(&self, term: u64, voter: u64, now: Instant) {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.term != term {
            asked.term = term;
            asked.at.clear();
        }
        asked.at.insert(voter, now);
    }

    /// The voter to ask in this term, of those that answer, the best first: not one that was asked without standing for election.
    fn choose(
        &self,
        term: u64,
        answering: &[u64],
        to: Option<u64>,
        now: Instant,
    ) -> Result<u64, NoSuccessor> {
        let asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = |voter: &u64| {
            let at = asked.at.get(voter).filter(|_| asked.term == term);
            at.map(|at| now.saturating_duration_since(*at))
        };
        if asked
            .at
            .keys()
            .any(|voter| since(voter).is_some_and(|since| since < STANDS_WITHIN))
        {
            return Err(NoSuccessor::UnderWay);
        }
        let mut able = answering.iter().filter(|id| to.is_none_or(|to| to == **id));
        let Some(first) = able.clone().next() else {
            return Err(to.map_or(NoSuccessor::AllSilent, NoSuccessor::Silent));
        };
        able.find(|voter| since(voter).is_none_or(|since| since >= PASSED_OVER))
            .copied()
            .ok_or_else(|| {
                to.map_or(NoSuccessor::AllPassedOver, |_| {
                    NoSuccessor::PassedOver(*first)
                })
            })
    }
}

/// The voter to hand over to: this one, or else the one whose log is the longest. It has answered the leader lately, and was not asked
/// in vain.
///
/// # Errors
/// [`NoSuccessor`]
pub(crate) fn successor(raft: &Raft, peers: &Peers, to: Option<u64>) -> Result<u64, NoSuccessor> {
    let metrics = raft.metrics().borrow_watched().clone();
    let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
    let heard = metrics.heartbeat.unwrap_or_default();
    let answers = |id: &u64| {
        let last = heard.get(id).copied().flatten();
        last.is_some_and(|last| last.elapsed() < SILENT)
    };
    let mut answering: Vec<_> = metrics
        .replication
        .unwrap_or_default()
        .into_iter()
        .filter(|(id, _)| *id != metrics.id && voters.contains(id) && answers(id))
        .map(|(id, matched)| (matched, id))
        .collect();
    answering.sort_unstable();
    let answering: Vec<u64> = answering.into_iter().rev().map(|(_, id)| id).collect();
    let now = Instant::now();
    peers
        .asked_successors
        .choose(metrics.current_term, &answering, to, now)
}

/// Asks a voter to lead, and remembers that.
pub(crate) async fn ask_to_lead(raft: &Raft, peers: &Peers, voter: u64) -> bool {
    let term = raft.metrics().borrow_watched().current_term;
    peers.asked_successors.note(term, voter, Instant::now());
    let asked = raft.trigger().transfer_leader(voter).await;
    asked
        .inspect_err(|error| tracing::warn!(%error, "cannot hand leadership over"))
        .is_ok()
}

/// If this node leads, asks voters to lead, this one or else the one whose log is the longest and then the next, until this node leads
/// no more.
///
/// # Errors
/// There is nobody to ask, and nothing has happened.
pub(crate) async fn hand_over(
    raft: &Raft,
    peers: &Peers,
    to: Option<u64>,
) -> Result<(), NoSuccessor> {
    if !raft.is_leader() {
        return Ok(());
    }
    let mut next = match successor(raft, peers, to) {
        Ok(next) => Some(next),
        Err(NoSuccessor::UnderWay) => None,
        Err(error) => return Err(error),
    };
    while raft.is_leader() {
        if let Some(next) = next
            && !ask_to_lead(raft, peers, next).await
        {
            return Ok(());
        }
        // Metrics change all the time, and each call of `transfer_leader` sends to every voter: only the end of leading counts.
        let led = raft.wait(Some(STANDS_WITHIN));
        let _ = led
            .metrics(
                |metrics| metrics.state != ServerState::Leader,
                "it leads no more",
            )
            .await;
        // A leader that has begun to hand over sends no more heartbeats: if that voter fell silent, others will take over.
        next = successor(raft, peers, to).ok();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_voter_that_was_asked_in_vain_is_passed_over_in_that_term_for_a_minute() {
        let asked = AskedSuccessors::default();
        let begin = Instant::now();
        let later = begin + STANDS_WITHIN;
        let minute = begin + PASSED_OVER;
        assert_eq!(asked.choose(7, &[3, 2], None, begin), Ok(3));
        asked.note(7, 3, begin);
        assert_eq!(
            asked.choose(7, &[3, 2], None, begin),
            Err(NoSuccessor::UnderWay)
        );
        assert_eq!(asked.choose(7, &[3, 2], None, later), Ok(2));
        assert_eq!(
            asked.choose(7, &[3, 2], Some(3), later),
            Err(NoSuccessor::PassedOver(3))
        );
        assert_eq!(
            asked.choose(7, &[3], None, later),
            Err(NoSuccessor::AllPassedOver)
        );
        assert_eq!(asked.choose(7, &[3, 2], None, minute), Ok(3), "a minute on");
        assert_eq!(asked.choose(8, &[3, 2], None, later), Ok(3), "another term");
        asked.note(8, 2, later);
        assert_eq!(asked.choose(8, &[3], None, later + STANDS_WITHIN), Ok(3));
    }

    #[test]
    fn voters_that_do_not_answer_are_named() {
        let asked = AskedSuccessors::default();
        let now = Instant::now();
        assert_eq!(asked.choose(7, &[], None, now), Err(NoSuccessor::AllSilent));
        assert_eq!(
            asked.choose(7, &[2], Some(3), now),
            Err(NoSuccessor::Silent(3))
        );
        assert_eq!(asked.choose(7, &[2, 3], Some(3), now), Ok(3));
    }
}
