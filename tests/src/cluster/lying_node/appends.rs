//! Log entries of a lying node that leads nobody: as a leader that nobody elected, or in another's name. What it appends as a leader
//! that was elected is in [`super::reign`].

use std::time::Duration;

use crate::cluster::peer::PeerClient;
use ledger_proto::peer::v1 as wire;
use ledger_proto::v1;
use tonic::Status;

use super::LyingNode;
use super::batches::entry_of;
use super::forge::below;
use super::script::Attack;
use crate::cluster::client::now_us;
use crate::stream::Dice;

/// How long an append may stay without an answer: whoever refuses one ends the stream.
const APPEND_PATIENCE: Duration = Duration::from_millis(300);

impl LyingNode {
    pub(super) async fn append(
        &self,
        attack: Attack,
        dice: &mut Dice,
        to: u64,
        client: &mut PeerClient,
    ) -> Result<(), Status> {
        let request = self.bad_append(attack, dice, to);
        let stream = tokio_stream::iter([request]);
        let answers = client
            .append(self.speaker.peers.request(to, stream))
            .await?;
        let mut answers = answers.into_inner();
        match tokio::time::timeout(APPEND_PATIENCE, answers.message()).await {
            Ok(Ok(Some(answer))) => match answer.result {
                Some(wire::append_response::Result::Refused(refused)) => {
                    Err(Status::aborted(refused.reason))
                }
                _ => Ok(()),
            },
            Ok(Ok(None)) | Err(_) => Err(Status::aborted("the stream ended")),
            Ok(Err(status)) => Err(status),
        }
    }

    /// An append that must be refused, or changes nothing, because nobody has elected its sender.
    fn bad_append(&self, attack: Attack, dice: &mut Dice, to: u64) -> wire::AppendRequest {
        let mut draft = self.good_append(dice);
        let which = match attack {
            // Any of the lies about what is in a batch.
            Attack::SpeaksAsLeader => *dice.pick(&[
                Attack::StampsAhead,
                Attack::NamesWrongTree,
                Attack::AppendsNoise,
            ]),
            other => other,
        };
        draft.misplace(which, dice);
        self.spoil(&mut draft, which, dice, to);
        let leader = self.knowledge.lock().vote;
        // Its own votes of old count still: what it appends with them is in [`super::reign`].
        if attack == Attack::SpeaksAsLeader && leader.node_id != self.id {
            draft.vote = leader;
        }
        let election = self.election(dice, &draft.vote);
        wire::AppendRequest {
            election,
            ..draft.request(attack, dice)
        }
    }

    /// What a leader would append next, in a term in which this node was not elected.
    fn good_append(&self, dice: &mut Dice) -> Draft {
        let knowledge = self.knowledge.lock();
        let known = knowledge.vote;
        let later = u64::from(known == knowledge.won).max(dice.below(2));
        let term = known.term.saturating_add(later);
        let end = knowledge.last.map_or(0, |id| id.index);
        Draft {
            vote: self.vote(term, true),
            previous: knowledge.last,
            id: wire::LogId {
                term,
                index: end.saturating_add(1),
            },
            committed: knowledge.committed,
            batch: self.forge.batch(&knowledge, vec![self.forge.payment()]),
            payload: None,
        }
    }

    /// The votes that it shows: those of the election that it won, or what looks like an election.
    pub(super) fn election(&self, dice: &mut Dice, vote: &wire::Vote) -> Vec<wire::VoteGrant> {
        let knowledge = self.knowledge.lock();
        let own = self.forge.vote_grant(vote);
        if knowledge.won == *vote {
            return knowledge.election.clone();
        }
        match dice.below(4) {
            0 => Vec::new(),
            1 => vec![own; 1 + below(dice, 200)],
            // Of another term.
            2 => knowledge.election.clone(),
            _ => {
                let others = self.honest.iter().map(|(node_id, _)| wire::VoteGrant {
                    node_id: *node_id,
                    signature: own.signature.clone(),
                });
                others.chain([own.clone()]).collect()
            }
        }
    }

    /// Lies about what is in an entry.
    fn spoil(&self, draft: &mut Draft, which: Attack, dice: &mut Dice, to: u64) {
        let batch = draft.batch.clone();
        draft.payload = Some(self.forge.spoil(batch, which, dice, to));
        // What is refused is committed by nobody, whoever says so.
        let is_refused = matches!(which, Attack::StampsAhead | Attack::NamesWrongTree);
        if is_refused && dice.percent(50) {
            draft.committed = Some(draft.id);
        }
    }
}

/// An append that is not sent yet.
struct Draft {
    vote: wire::Vote,
    previous: Option<wire::LogId>,
    id: wire::LogId,
    committed: Option<wire::LogId>,
    batch: v1::Batch,
    /// Instead of the batch.
    payload: Option<wire::log_entry::Payload>,
}

impl Draft {
    /// Lies about where an entry is in the log, and what is committed.
    fn misplace(&mut self, which: Attack, dice: &mut Dice) {
        let term = self.id.term;
        match which {
            Attack::LeavesGaps if dice.percent(40) => {
                let index = u64::MAX - dice.below(2);
                self.id.index = index;
                self.previous = Some(wire::LogId {
                    term,
                    index: index - 1,
                });
            }
            Attack::LeavesGaps => {
                self.id.index = self.id.index.saturating_add(1 + dice.below(3));
            }
            Attack::ClaimsCommits => {
                let far = dice.word() >> dice.below(64);
                let index = self.id.index.saturating_add(far);
                self.committed = Some(wire::LogId { term, index });
            }
            Attack::RewritesPast => {
                let back = 1 + dice.below(8);
                let committed = self.committed.map_or(1, |id| id.index);
                self.id.index = committed.saturating_sub(back).max(1);
                self.previous = Some(wire::LogId {
                    term: self.previous.map_or(0, |id| id.term),
                    index: self.id.index - 1,
                });
            }
            _ => {}
        }
    }

    fn request(self, attack: Attack, dice: &mut Dice) -> wire::AppendRequest {
        let entry = wire::LogEntry {
            log_id: Some(self.id),
            payload: Some(self.payload.unwrap_or_else(|| entry_of(&self.batch))),
        };
        let entries = if attack == Attack::ClaimsCommits {
            Vec::new()
        } else {
            vec![entry]
        };
        wire::AppendRequest {
            vote: Some(self.vote),
            previous: self.previous,
            entries,
            committed: self.committed,
            sent_at_us: now_us(),
            has_quorum: dice.percent(50),
            election: Vec::new(),
        }
    }
}
