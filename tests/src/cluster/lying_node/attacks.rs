//! What a lying node sends to honest ones.

use std::time::Duration;

use crate::cluster::peer::{PeerClient, Purpose, keys};
use ledger_core::id::Identity;
use ledger_core::signature::{SignatureDomain, sign_one};
use ledger_proto::peer::v1 as wire;
use ledger_proto::v1::{self, command::Body};
use prost::Message as _;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status};

use super::LyingNode;
use super::forge::hash;
use super::script::Attack;
use crate::cluster::client::now_us;
use crate::kit::public_key;
use crate::stream::Dice;

/// How long a lie may take to be answered.
const PATIENCE: Duration = Duration::from_secs(3);
/// Entries ahead in a term that only a liar is in.
const FAR: u64 = 1_000_000;

/// What came of a lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Met {
    /// The node said no, or ended the call.
    Refused,
    /// The node answered; what that is worth is for the judges.
    Answered,
    /// The node said nothing in time.
    Silence,
}

/// A term that no count of elections reaches.
pub(super) fn huge_term(term: u64, number: u64) -> u64 {
    match number % 4 {
        0 => u64::MAX,
        1 => u64::MAX - 1,
        2 => term.saturating_add(1 << (17 + number % 30)),
        _ => 1 << 63,
    }
}

impl LyingNode {
    /// Lies to a node, or to all.
    pub(super) async fn attack(&self, attack: Attack, number: u64) -> Vec<Met> {
        let dice = &mut Dice::new(number);
        if attack == Attack::Leads {
            return vec![self.begin_to_lead(number).await];
        }
        // What only a leader can say it says as the leader, if it leads.
        if attack.is_of_leader() && self.leader.tells(attack, dice).await {
            return Vec::new();
        }
        let targets = if dice.percent(25) {
            self.honest.clone()
        } else {
            vec![dice.pick(&self.honest).clone()]
        };
        let mut met = Vec::new();
        for (to, address) in targets {
            // Each target is told the same lie.
            let dice = &mut Dice::new(dice.clone().word());
            let Ok(mut client) = self.speaker.peers.client(to, &address, Purpose::Other) else {
                continue;
            };
            let lie = self.lie(attack, dice, to, &mut client);
            let said = tokio::time::timeout(PATIENCE, lie).await;
            met.push(match said {
                Ok(Ok(())) => Met::Answered,
                Ok(Err(_)) => Met::Refused,
                Err(_) => Met::Silence,
            });
        }
        met
    }

    async fn lie(
        &self,
        attack: Attack,
        dice: &mut Dice,
        to: u64,
        client: &mut PeerClient,
    ) -> Result<(), Status> {
        match attack {
            Attack::Stands
            | Attack::JumpsTerms
            | Attack::BoastsOfLog
            | Attack::StandsForOthers
            | Attack::StandsCommitted => self.stand(attack, dice, to, client).await,
            Attack::StampsAhead
            | Attack::StampsBehind
            | Attack::NamesWrongTree
            | Attack::AppendsNoise
            | Attack::AppendsTooMuch
            | Attack::Strips
            | Attack::ForgesCommands
            | Attack::LeavesGaps
            | Attack::ChangesMembers
            | Attack::ClaimsCommits
            | Attack::RewritesPast
            | Attack::SpeaksAsLeader => self.append(attack, dice, to, client).await,
            // It has begun to.
            Attack::Leads => Ok(()),
            Attack::HandsOver => self.hand_over(dice, to, client).await,
            Attack::OffersSnapshots | Attack::SendsEndlessly => {
                self.snapshot(attack, dice, to, client).await
            }
            Attack::Forwards => self.forward(dice, to, client).await,
            Attack::AsksToCosign | Attack::PutsCheckpoints | Attack::WantsCheckpoints => {
                self.notes(attack, dice, to, client).await
            }
            Attack::CompilesAhead => {
                let message = wire::CompileAheadRequest {
                    submission: Some(self.forge.forged(dice)),
                    tree_size: dice.word() >> dice.below(64),
                };
                let asked = client.compile_ahead(self.speaker.peers.request(to, message));
                asked.await.map(drop)
            }
            Attack::Reads => {
                let read = wire::ReadIndexRequest {};
                client
                    .read_index(self.speaker.peers.request(to, read))
                    .await?;
                let index = dice.word() >> dice.below(64);
                let erasure = wire::GetErasureStateRequest { index };
                let asked = client.get_erasure_state(self.speaker.peers.request(to, erasure));
                asked.await.map(drop)
            }
            Attack::Pretends => self.pretend(dice, to, client).await,
            Attack::OpensStreams => {
                let silent = tokio_stream::pending::<wire::AppendRequest>();
                let opened = client
                    .append(self.speaker.peers.request(to, silent))
                    .await?;
                self.held.lock().await.push(Box::new(opened));
                Ok(())
            }
            Attack::AttestsLies => self.attest(dice, to).await,
        }
    }

    pub(super) fn term(&self) -> u64 {
        self.knowledge.lock().vote.term
    }

    pub(super) fn vote(&self, term: u64, committed: bool) -> wire::Vote {
        wire::Vote {
            term,
            node_id: self.id,
            committed,
        }
    }

    async fn stand(
        &self,
        attack: Attack,
        dice: &mut Dice,
        to: u64,
        client: &mut PeerClient,
    ) -> Result<(), Status> {
        let term = self.term();
        let mut vote = self.vote(term.saturating_add(1 + dice.below(3)), false);
        let mut last = self.knowledge.lock().last;
        match attack {
            Attack::JumpsTerms => vote.term = huge_term(term, dice.word()),
            Attack::StandsForOthers => vote.node_id = to,
            Attack::StandsCommitted => vote.committed = true,
            Attack::BoastsOfLog => {
                last = Some(wire::LogId {
                    term: vote.term.saturating_add(dice.below(2) * FAR),
                    index: u64::MAX >> dice.below(40),
                });
            }
            _ => {}
        }
        let request = wire::VoteRequest {
            vote: Some(vote),
            last_log_id: last,
            leadership_transfer: dice.percent(50),
            sent_at_us: now_us(),
        };
        if dice.percent(30) {
            client
                .pre_vote(self.speaker.peers.request(to, request))
                .await?;
        } else {
            client.vote(self.speaker.peers.request(to, request)).await?;
        }
        Ok(())
    }

    async fn hand_over(
        &self,
        dice: &mut Dice,
        to: u64,
        client: &mut PeerClient,
    ) -> Result<(), Status> {
        if dice.percent(30) {
            let mut word = || dice.word().to_be_bytes();
            let signature = wire::ReadSignature {
                key_id: [word(), word()].concat(),
                time_us: now_us(),
                nonce: [word(), word()].concat(),
                signature: (0..8).flat_map(|_| word()).collect(),
            };
            let request = v1::TransferLeadershipRequest { to: Some(to) };
            let message = wire::HandOverRequest {
                request: request.encode_to_vec(),
                signature: Some(signature),
            };
            let request = self.speaker.peers.request(to, message);
            let answer = client.hand_over(request).await?.into_inner();
            let refused = answer.error.map(|error| error.message);
            return refused.map_or(Ok(()), |why| Err(Status::failed_precondition(why)));
        }
        let term = self.term().saturating_add(dice.below(2));
        let from = match dice.below(3) {
            0 => self.knowledge.lock().vote,
            1 => self.vote(term, true),
            _ => self.vote(huge_term(term, dice.word()), true),
        };
        let message = wire::TransferLeaderRequest {
            from: Some(from),
            to,
            last_log_id: self.knowledge.lock().last,
        };
        let asked = client.transfer_leader(self.speaker.peers.request(to, message));
        asked.await.map(drop)
    }

    async fn pretend(
        &self,
        dice: &mut Dice,
        to: u64,
        client: &mut PeerClient,
    ) -> Result<(), Status> {
        let mut request: Request<wire::VoteRequest> = self.speaker.peers.request(
            to,
            wire::VoteRequest {
                vote: Some(self.vote(self.term().saturating_add(1), false)),
                last_log_id: self.knowledge.lock().last,
                leadership_transfer: false,
                sent_at_us: now_us(),
            },
        );
        let metadata = request.metadata_mut();
        match dice.below(4) {
            0 => {
                let others = self.honest.iter().find(|(id, _)| *id != to);
                let other = others.map_or(99, |(id, _)| *id);
                metadata.insert(keys::FROM, MetadataValue::from(other));
            }
            1 => {
                let other = MetadataValue::from_bytes(hash(dice).as_bytes());
                metadata.insert_bin(keys::GENESIS, other);
            }
            2 => {
                metadata.insert(keys::VERSION, MetadataValue::from(dice.word()));
            }
            _ => {
                metadata.insert(keys::FROM, MetadataValue::from(to));
            }
        }
        client.vote(request).await.map(drop)
    }

    /// Commands that a node may sign, with what is not so.
    async fn attest(&self, dice: &mut Dice, to: u64) -> Result<(), Status> {
        let size = self.knowledge.lock().tip.map_or(1, |tip| tip.0.0);
        let body = match dice.below(3) {
            0 => Body::AttestState(v1::AttestState {
                tree_size: size,
                digest: hash(dice).as_bytes().to_vec(),
                copied: dice.percent(20),
            }),
            1 => Body::Seal(v1::Seal {
                session_id: self.forge.accomplice.session.to_vec(),
            }),
            _ => Body::DeclareSupport(v1::DeclareSupport {
                engine_versions: vec![1],
                cluster_versions: vec![1],
            }),
        };
        let author = Identity::Node(self.id);
        let command = v1::Command {
            request_id: hash(dice).as_bytes()[..16].to_vec(),
            issued_at_us: now_us(),
            author: Some(author.to_message()),
            body: Some(body),
            ..v1::Command::default()
        };
        let key = &self.forge.node_key;
        let key_id = public_key(key).key_id();
        let domain = SignatureDomain::of(&author);
        let signed = sign_one(
            domain,
            &self.forge.origin,
            command.encode_to_vec(),
            &[(key_id, key)],
        );
        let submission = v1::Submission {
            signed: signed.ok(),
            compartments: Vec::new(),
        };
        let request = wire::ForwardRequest {
            correlation_id: 1,
            submission: Some(submission),
        };
        let Some((_, address)) = self.honest.iter().find(|(id, _)| *id == to) else {
            return Ok(());
        };
        let client = self.speaker.peers.client(to, address, Purpose::Other);
        let mut client = client.map_err(|error| Status::unavailable(error.to_string()))?;
        let stream = tokio_stream::iter([request]);
        let answers = client
            .forward(self.speaker.peers.request(to, stream))
            .await?;
        answers.into_inner().message().await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_terms_are_huge() {
        for number in 0..100 {
            assert!(huge_term(5, number) > 5 + (1 << 16), "{number}");
        }
    }
}
