//! A lying node that leads: it replicates its log, commits what a quorum has, proposes what honest nodes forward, and collects
//! cosignatures, as an honest leader does. Between two of those it lies ([`super::reign_lies`]).
//!
//! It has one log, and says that something is committed when a quorum has it: nothing in a cluster whose quorum is a majority could stop
//! a leader that gives two followers two entries for one place (decision 0018). A witness outside makes such a fork impossible to cosign.

use std::time::{Duration, Instant};

use ledger_core::batch::BatchBuilder;
use ledger_core::note::signed_note::NoteSignature;
use ledger_proto::peer::v1 as wire;
use ledger_proto::peer::v1::append_response::Result as Answer;
use ledger_proto::peer::v1::log_entry::Payload;
use ledger_proto::v1;

use super::Met;
use super::batches::entry_of;
use super::elections::{Leader, PATIENCE};
use super::knowledge::Shared;
use crate::cluster::client::now_us;
use crate::cluster::peer::Purpose;
use crate::stream::Dice;

/// How long an append may stay without an answer.
const APPEND_PATIENCE: Duration = Duration::from_millis(300);
/// Most entries of one append, and most commands of one batch.
const ENTRIES: u64 = 64;
const COMMANDS: usize = 32;
/// How often out of a hundred it lies rather than proposes.
const LIES: u64 = 40;

/// A follower, as its leader knows it.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) id: u64,
    pub(super) address: String,
    pub(super) is_honest: bool,
    /// The last entry that it has said to have, in this term.
    pub(super) matched: Option<u64>,
    /// It has been told that all up to here is committed.
    pub(super) knows: u64,
    /// Where its log may fit this one, until that is known.
    pub(super) next: u64,
}

/// What a follower says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    Matched,
    Conflict(u64),
    Refused(&'static str),
    Later(wire::Vote),
    /// It cannot judge yet, and has taken nothing.
    NotYet,
    /// Nothing in time: it may have taken it.
    Nothing,
}

/// One term in which it leads.
#[derive(Debug)]
pub(super) struct Reign {
    pub(super) vote: wire::Vote,
    pub(super) ends_at: Instant,
    pub(super) followers: Vec<Follower>,
    /// Its first entry is in the log.
    pub(super) begun: bool,
    /// Nobody has an entry of the term before behind the end of this log.
    pub(super) may_name_before: bool,
    /// The only honest follower that is shown entries.
    pub(super) only: Option<u64>,
    /// It proposes nothing of what it is given.
    pub(super) withholds: bool,
    /// It has its trees cosigned.
    pub(super) collects: bool,
    pub(super) is_over: bool,
    pub(super) dice: Dice,
}

impl Reign {
    pub(super) fn is_over(&self, knowledge: &Shared) -> bool {
        let voted = knowledge.lock().voted;
        self.is_over || voted != self.vote || Instant::now() >= self.ends_at
    }
}

impl Leader {
    /// What a leader does now and again.
    pub(super) async fn tick(&self, reign: &mut Reign) {
        if !reign.begun {
            reign.begun = true;
            if reign.may_name_before && reign.dice.percent(40) {
                self.name_leader_before(reign).await;
            }
            self.appends(reign, Payload::Blank(true));
        } else if reign.dice.percent(LIES) {
            self.lies(reign).await;
        } else if !reign.withholds {
            self.propose(reign);
        }
        self.replicate(reign).await;
        self.commit(reign);
        let tip = tokio::task::block_in_place(|| self.forge.ledger(&self.knowledge).tip());
        let known = self.knowledge.lock().tip;
        if reign.collects && known.is_none_or(|known| known.0 < tip.size) {
            self.collect(reign, tip.size.0, tip.root).await;
        }
    }

    /// Puts an entry at the end of its log.
    fn appends(&self, reign: &Reign, payload: Payload) {
        let mut knowledge = self.knowledge.lock();
        let index = knowledge.last.map_or(0, |id| id.index + 1);
        knowledge.appends(wire::LogEntry {
            log_id: Some(wire::LogId {
                term: reign.vote.term,
                index,
            }),
            payload: Some(payload),
        });
    }

    /// What honest nodes have forwarded, as an honest leader would propose it.
    pub(super) fn next_batch(&self, commands: usize) -> v1::Batch {
        let tip = tokio::task::block_in_place(|| self.forge.ledger(&self.knowledge).tip());
        let mut batch = BatchBuilder::new(now_us(), tip.size.0, tip.root.as_bytes());
        let mut knowledge = self.knowledge.lock();
        for _ in 0..commands {
            let Some(submission) = knowledge.queue.pop_front() else {
                break;
            };
            // What is over its limit goes: honest nodes do not forward it.
            let _ = batch.push(submission);
        }
        batch.finish()
    }

    fn propose(&self, reign: &Reign) {
        if self.knowledge.lock().queue.is_empty() {
            return;
        }
        let batch = self.next_batch(COMMANDS);
        self.told.note("Proposes, as leader", Met::Answered);
        self.appends(reign, entry_of(&batch));
    }

    /// Sends each follower what it lacks, or a heartbeat.
    pub(super) async fn replicate(&self, reign: &mut Reign) {
        let last = self.knowledge.lock().last.map_or(0, |id| id.index);
        let only = reign.only;
        let sent = reign.followers.iter().map(async |follower| {
            let is_shown = only.is_none_or(|only| !follower.is_honest || follower.id == only);
            let from = follower.matched.unwrap_or(follower.next);
            let upto = match follower.matched {
                Some(matched) if is_shown => last.min(matched + ENTRIES),
                _ => from,
            };
            let (previous, entries, committed) = {
                let knowledge = self.knowledge.lock();
                let entries = knowledge.log.range(from + 1, upto);
                (knowledge.log.id_at(from), entries, knowledge.committed)
            };
            let told = committed.map_or(0, |id| id.index);
            let said = self.send(reign, follower, previous, entries, committed);
            (upto, told, said.await)
        });
        let said = futures_util::future::join_all(sent).await;
        let mut is_over = false;
        for (follower, (upto, told, said)) in reign.followers.iter_mut().zip(said) {
            match said {
                Said::Matched => {
                    follower.matched = Some(upto);
                    follower.knows = follower.knows.max(told.min(upto));
                }
                Said::Conflict(at) => follower.next = at.min(follower.next).saturating_sub(1),
                Said::Refused(check) => {
                    self.told
                        .note(format!("Replicates, as leader: {check}"), Met::Refused);
                    is_over |= follower.is_honest;
                }
                Said::Later(vote) => {
                    self.knowledge.lock().hear_vote(&vote);
                    is_over |= follower.is_honest;
                }
                Said::NotYet | Said::Nothing => {}
            }
        }
        reign.is_over |= is_over;
    }

    /// What a quorum has is committed, once it is of this term.
    fn commit(&self, reign: &Reign) {
        let mut knowledge = self.knowledge.lock();
        let Some(last) = knowledge.last else { return };
        let first = knowledge.committed.map_or(0, |id| id.index);
        let is_held = |index: u64| {
            let have = |follower: &&Follower| follower.matched >= Some(index);
            1 + reign.followers.iter().filter(have).count() >= self.majority()
        };
        let committed = (first + 1..=last.index).rev().find(|index| {
            let id = knowledge.log.id_at(*index);
            id.is_some_and(|id| id.term == reign.vote.term) && is_held(*index)
        });
        if let Some(index) = committed {
            knowledge.committed = knowledge.log.id_at(index);
        }
    }

    /// One append, and what the follower says.
    pub(super) async fn send(
        &self,
        reign: &Reign,
        to: &Follower,
        previous: Option<wire::LogId>,
        entries: Vec<wire::LogEntry>,
        committed: Option<wire::LogId>,
    ) -> Said {
        let peers = &self.speaker.peers;
        let Ok(mut client) = peers.client(to.id, &to.address, Purpose::Log) else {
            return Said::Nothing;
        };
        let request = wire::AppendRequest {
            vote: Some(reign.vote),
            previous,
            entries,
            committed,
            sent_at_us: now_us(),
            has_quorum: true,
            election: self.knowledge.lock().election.clone(),
        };
        let asked = async {
            let stream = tokio_stream::iter([request]);
            let answers = client.append(peers.request(to.id, stream)).await?;
            answers.into_inner().message().await
        };
        match tokio::time::timeout(APPEND_PATIENCE, asked).await {
            Ok(Ok(Some(answer))) => match answer.result {
                Some(Answer::Matched(_)) => Said::Matched,
                Some(Answer::Conflict(id)) => Said::Conflict(id.index),
                Some(Answer::Refused(refused)) => Said::Refused(refused.check().as_str_name()),
                Some(Answer::HigherVote(vote)) => Said::Later(vote),
                None => Said::Nothing,
            },
            Ok(Err(status)) if status.message().contains("not applied yet") => Said::NotYet,
            Ok(Ok(None) | Err(_)) | Err(_) => Said::Nothing,
        }
    }

    /// Has its tree cosigned, and sends the checkpoint to all.
    async fn collect(&self, reign: &Reign, size: u64, root: ledger_core::hash::Hash) {
        let Some(mut note) = self.forge.checkpoint_of(size, root) else {
            return;
        };
        let checkpoint = note.to_string();
        let asked = reign.followers.iter().map(async |follower| {
            let peers = &self.speaker.peers;
            let client = peers.client(follower.id, &follower.address, Purpose::Other);
            let message = wire::CosignRequest {
                checkpoint: checkpoint.clone(),
            };
            let request = peers.request(follower.id, message);
            let mut client = client.ok()?;
            let asked = tokio::time::timeout(PATIENCE, client.cosign(request));
            Some(asked.await.ok()?.ok()?.into_inner().signature)
        });
        let asked = futures_util::future::join_all(asked).await;
        let lines = asked.into_iter().flatten().filter(|line| !line.is_empty());
        let mut count = 0;
        for line in lines.chain(self.forge.cosignature(&checkpoint)) {
            if let Ok(line) = NoteSignature::parse(line.trim_end_matches('\n')) {
                count += usize::from(note.add(line).is_ok());
            }
        }
        let met = if count >= self.majority() {
            Met::Answered
        } else {
            Met::Refused
        };
        self.told.note("Collects, as leader", met);
        if met == Met::Answered {
            self.spread(reign, &note.to_string()).await;
        }
    }

    async fn spread(&self, reign: &Reign, checkpoint: &str) {
        self.knowledge.lock().hear_note(checkpoint);
        for follower in &reign.followers {
            let peers = &self.speaker.peers;
            let client = peers.client(follower.id, &follower.address, Purpose::Other);
            let message = wire::PutCheckpointRequest {
                checkpoint: checkpoint.to_owned(),
            };
            let request = peers.request(follower.id, message);
            if let Ok(mut client) = client {
                let _ = tokio::time::timeout(PATIENCE, client.put_checkpoint(request)).await;
            }
        }
    }
}
