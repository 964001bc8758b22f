//! Log entries of a lying node: as a leader that nobody elected, in another's name, or after an election that it won.

use std::time::Duration;

use crate::cluster::peer::PeerClient;
use ledger_proto::peer::v1 as wire;
use ledger_proto::v1;
use prost::Message as _;
use prost::bytes::Bytes;
use tonic::Status;

use super::LyingNode;
use super::forge::{FAR, below, hash};
use super::script::Attack;
use crate::cluster::client::now_us;
use crate::kit::SECOND;
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

    /// An append that must be refused, or changes nothing.
    fn bad_append(&self, attack: Attack, dice: &mut Dice, to: u64) -> wire::AppendRequest {
        let mut draft = self.good_append(attack, dice);
        let which = match attack {
            // Any of the lies about what is in a batch.
            Attack::Leads | Attack::SpeaksAsLeader => *dice.pick(&[
                Attack::StampsAhead,
                Attack::NamesWrongTree,
                Attack::AppendsNoise,
            ]),
            other => other,
        };
        draft.misplace(which, dice);
        self.spoil(&mut draft, which, dice, to);
        if attack == Attack::SpeaksAsLeader {
            draft.vote = self.knowledge.lock().vote;
        }
        let election = self.election(dice, &draft.vote);
        wire::AppendRequest {
            election,
            ..draft.request(attack, dice)
        }
    }

    /// What a leader would append next. What is well-formed is not sent by one that was elected: it could tell each follower
    /// something else, and nothing in a cluster whose quorum is a majority could stop it.
    fn good_append(&self, attack: Attack, dice: &mut Dice) -> Draft {
        let knowledge = self.knowledge.lock();
        let known = knowledge.vote;
        let is_elected = known == knowledge.won;
        let is_well_formed = matches!(attack, Attack::Strips | Attack::ForgesCommands);
        let term = match (is_elected, is_well_formed) {
            (true, true) => known.term.saturating_add(1),
            (true, false) => known.term,
            (false, _) => known.term.saturating_add(dice.below(2)),
        };
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
        let batch = &mut draft.batch;
        match which {
            Attack::StampsAhead => batch.time_us = ahead(dice),
            Attack::StampsBehind => batch.time_us = dice.word() % now_us().saturating_sub(SECOND),
            Attack::NamesWrongTree => {
                if dice.percent(50) {
                    batch.prior_root = hash(dice).as_bytes().to_vec();
                } else {
                    batch.prior_size = batch.prior_size.saturating_add(1 + dice.below(FAR));
                }
                let len = if dice.percent(80) { 32 } else { 7 };
                batch.prior_root.truncate(len);
            }
            Attack::AppendsNoise => {
                let noise = hash(dice).as_bytes().repeat(1 + below(dice, 8));
                let noise = [&[0xff], noise.as_slice()].concat();
                draft.payload = Some(wire::log_entry::Payload::Batch(noise.into()));
            }
            Attack::AppendsTooMuch => batch.submissions = vec![self.forge.payment(); 8_000],
            Attack::Strips => {
                for submission in &mut batch.submissions {
                    submission.compartments.clear();
                }
            }
            Attack::ForgesCommands => batch.submissions = vec![self.forged(dice)],
            Attack::ChangesMembers => draft.payload = Some(self.membership(dice, to)),
            _ => {}
        }
        // What is refused is committed by nobody, whoever says so.
        let is_refused = matches!(which, Attack::StampsAhead | Attack::NamesWrongTree);
        if is_refused && dice.percent(50) {
            draft.committed = Some(draft.id);
        }
    }

    fn membership(&self, dice: &mut Dice, to: u64) -> wire::log_entry::Payload {
        let stranger = 1_000 + dice.below(10);
        let voters = match dice.below(4) {
            0 => vec![self.id],
            1 => vec![stranger],
            2 => vec![],
            _ => vec![self.id, to],
        };
        let peers = [self.id, to, stranger].map(|node_id| wire::Peer {
            node_id,
            address: "127.0.0.1:1".to_owned(),
        });
        wire::log_entry::Payload::Membership(wire::Membership {
            voters: vec![wire::VoterSet { node_ids: voters }],
            peers: peers.into(),
        })
    }

    /// A command that its author did not sign.
    pub(super) fn forged(&self, dice: &mut Dice) -> v1::Submission {
        let mut submission = self.forge.payment();
        let signed = submission.signed.as_mut().expect("signed");
        match dice.below(4) {
            0 => signed.signatures.clear(),
            1 => {
                let at = below(dice, signed.command.len() as u64);
                signed.command[at] ^= 1;
            }
            2 => {
                let signature = &mut signed.signatures[0].signature;
                signature[below(&mut dice.clone(), 64)] ^= 1;
            }
            _ => submission.signed = None,
        }
        submission
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
        let batch = || wire::log_entry::Payload::Batch(Bytes::from(self.batch.encode_to_vec()));
        let entry = wire::LogEntry {
            log_id: Some(self.id),
            payload: Some(self.payload.unwrap_or_else(batch)),
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

/// A time that no sound clock shows: seconds to months ahead.
fn ahead(dice: &mut Dice) -> u64 {
    let by = *dice.pick(&[3, 61, 3_600, 89 * 86_400]) + dice.below(60);
    now_us() + by * SECOND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_ahead_are_ahead() {
        let mut dice = Dice::new(1);
        assert!(ahead(&mut dice) > now_us() + 2 * SECOND);
    }
}
