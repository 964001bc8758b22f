//! A lying node as a follower: it takes the log and votes as an honest one, and says whatever its manner is.

use ledger_proto::peer::v1 as wire;
use ledger_proto::peer::v1::append_response::Result as Appended;

use super::knowledge::Heard;
use super::peer_side::PeerSide;
use super::script::PeerAnswers;
use crate::cluster::client::now_us;
use crate::stream::Dice;

/// How far a wrong clock is off, in microseconds.
const OFF_US: u64 = 3_600_000_000;
/// How many answers one question gets from whoever does not stop to answer.
const ENDLESS: usize = 1_000;

impl PeerSide {
    /// Waits for ever if nobody is to be answered.
    pub(super) async fn answers(&self) -> (PeerAnswers, u64) {
        let (answers, number) = self.manner.get();
        if answers == PeerAnswers::Silence {
            std::future::pending::<()>().await;
        }
        (answers, number)
    }

    /// The same, unless another liar asks: liars do not lie to each other.
    async fn answers_to(&self, vote: Option<&wire::Vote>) -> (PeerAnswers, u64) {
        if vote.is_some_and(|vote| self.fellows.contains(&vote.node_id)) {
            return (PeerAnswers::AsIfHonest, 0);
        }
        self.answers().await
    }

    /// What its clock shows.
    pub(super) fn clock_us(&self) -> u64 {
        match self.manner.get() {
            (PeerAnswers::WrongClock, number) if number % 2 == 0 => now_us() + OFF_US,
            (PeerAnswers::WrongClock, _) => now_us() - OFF_US,
            _ => now_us(),
        }
    }

    /// A vote for itself in a term that is later.
    pub(super) fn later_vote(&self) -> wire::Vote {
        let (answers, number) = self.manner.get();
        let term = self.knowledge.lock().vote.term;
        let term = match answers {
            PeerAnswers::HugeTerm => super::attacks::huge_term(term, number),
            _ => term.saturating_add(1 + number % 3),
        };
        wire::Vote {
            term,
            node_id: self.node_id,
            committed: false,
        }
    }

    /// Takes an append, and answers it.
    pub(super) async fn to_append(
        &self,
        request: &wire::AppendRequest,
    ) -> Vec<wire::AppendResponse> {
        let (answers, number) = self.answers_to(request.vote.as_ref()).await;
        let heard = self.knowledge.lock().hear_append(request);
        let newest = request.entries.last().and_then(|entry| entry.log_id);
        let end = newest.or(request.previous);
        let result = match answers {
            PeerAnswers::Conflict => Appended::Conflict(request.previous.unwrap_or_default()),
            PeerAnswers::LaterTerm | PeerAnswers::HugeTerm => {
                Appended::HigherVote(self.later_vote())
            }
            PeerAnswers::Refusal => Appended::Refused(wire::RefusedAppend {
                check: i32::try_from(1 + number % 7).unwrap_or_default(),
                log_index: end.map_or(0, |end| end.index),
                reason: "the tree is another one".to_owned(),
            }),
            PeerAnswers::MoreThanSent => {
                // Whatever it is taken for: it stands by it.
                self.knowledge.lock().promises(end);
                let beyond = end.map(|end| wire::LogId {
                    term: end.term.saturating_add(number % 2),
                    index: end.index.saturating_add(1 + number % 1_000),
                });
                Appended::Matched(wire::Matched { last: beyond })
            }
            _ => match heard {
                Heard::Matched(last) => Appended::Matched(wire::Matched { last }),
                Heard::Conflict(id) => Appended::Conflict(id),
                Heard::Later(vote) => Appended::HigherVote(vote),
            },
        };
        let answer = wire::AppendResponse {
            result: Some(result),
            sent_at_us: request.sent_at_us,
            clock_us: self.clock_us(),
        };
        let times = if answers == PeerAnswers::Endlessly {
            ENDLESS
        } else {
            1
        };
        vec![answer; times]
    }

    /// Answers a candidate.
    pub(super) async fn to_vote(
        &self,
        request: &wire::VoteRequest,
        is_rehearsal: bool,
    ) -> wire::VoteResponse {
        let (answers, _) = self.answers_to(request.vote.as_ref()).await;
        let candidate = request.vote.unwrap_or_default();
        let granted = match answers {
            PeerAnswers::EveryVote => true,
            PeerAnswers::Conflict | PeerAnswers::HugeTerm => false,
            _ => self.knowledge.lock().would_vote(request),
        };
        if granted && !is_rehearsal {
            self.knowledge.lock().voted = candidate;
        }
        let signature = if granted && !is_rehearsal {
            self.forge.vote_grant(&candidate).signature
        } else {
            Vec::new()
        };
        let vote = match answers {
            PeerAnswers::Conflict | PeerAnswers::HugeTerm => self.later_vote(),
            _ if granted => candidate,
            _ => self.knowledge.lock().voted,
        };
        wire::VoteResponse {
            vote: Some(vote),
            granted,
            last_log_id: self.knowledge.lock().last,
            clock_us: self.clock_us(),
            signature,
        }
    }

    /// What is needed to forge notes, if that is its manner.
    pub(super) async fn forges(&self) -> Option<Dice> {
        let (answers, number) = self.answers().await;
        (answers == PeerAnswers::ForgedNotes).then(|| Dice::new(number))
    }
}
