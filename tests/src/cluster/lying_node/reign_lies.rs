//! What only a leader that was elected can lie about: what is in the log, who has it, and what is committed.

use ledger_proto::peer::v1 as wire;
use ledger_proto::peer::v1::log_entry::Payload;

use super::Met;
use super::batches::entry_of;
use super::elections::{Leader, PATIENCE};
use super::forge::FAR;
use super::reign::{Reign, Said};
use super::script::Attack;
use crate::cluster::peer::Purpose;
use crate::stream::Dice;

/// Commands of others in a batch that is spoiled.
const COMMANDS: usize = 4;

/// Lies of a leader that are more than an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// Any of the lies in appends.
    Appends(Attack),
    /// Shows entries to one follower, and not to the others, or to all again.
    ShowsOne,
    /// Proposes nothing of what it is given, or all of it again.
    Withholds,
    /// Asks to cosign trees that are not there, and has its own cosigned no more, or again.
    OtherTrees,
}

/// How often each is drawn, of all. Beside each: what must stop it.
const LIES: &[(Lie, u64)] = &[
    // The follower's clock.
    (Lie::Appends(Attack::StampsAhead), 5),
    // The ledger's time.
    (Lie::Appends(Attack::StampsBehind), 3),
    // The follower's own tree, at append or, where that was not there yet, at apply.
    (Lie::Appends(Attack::NamesWrongTree), 1),
    // The decoder.
    (Lie::Appends(Attack::AppendsNoise), 2),
    // What its author has signed.
    (Lie::Appends(Attack::Strips), 5),
    // Its author's signature.
    (Lie::Appends(Attack::ForgesCommands), 4),
    // That an entry follows another.
    (Lie::Appends(Attack::LeavesGaps), 2),
    // The ledger's membership.
    (Lie::Appends(Attack::ChangesMembers), 6),
    // The end of the log.
    (Lie::Appends(Attack::ClaimsCommits), 2),
    // What is committed stays.
    (Lie::Appends(Attack::RewritesPast), 4),
    // Elections: who has less is not elected.
    (Lie::ShowsOne, 5),
    // Nothing: honest nodes decide once it leads no more.
    (Lie::Withholds, 2),
    // The node's own tree.
    (Lie::OtherTrees, 3),
];

impl Leader {
    /// Tells a lie that is drawn.
    pub(super) async fn lies(&self, reign: &mut Reign) {
        let mut dice = Dice::new(reign.dice.word());
        let total: u64 = LIES.iter().map(|(_, weight)| weight).sum();
        let mut left = dice.below(total);
        let drawn = LIES.iter().find(|(_, weight)| {
            let is_it = left < *weight;
            left = left.saturating_sub(*weight);
            is_it
        });
        let Some((lie, _)) = drawn else { return };
        match lie {
            Lie::Appends(attack) => self.lie(reign, *attack, &mut dice).await,
            Lie::ShowsOne => {
                let honest = reign.followers.iter().filter(|follower| follower.is_honest);
                let honest: Vec<u64> = honest.map(|follower| follower.id).collect();
                let shown = dice.percent(70) && reign.only.is_none();
                reign.only = shown.then(|| *dice.pick(&honest));
                self.told.note("ShowsOne, as leader", Met::Answered);
            }
            Lie::Withholds => {
                reign.withholds = !reign.withholds;
                self.told.note("Withholds, as leader", Met::Answered);
            }
            Lie::OtherTrees => {
                reign.collects = !reign.collects;
                self.asks_to_cosign_lies(reign, &mut dice).await;
            }
        }
    }

    /// Tells a lie in appends.
    pub(super) async fn lie(&self, reign: &mut Reign, attack: Attack, dice: &mut Dice) {
        match attack {
            Attack::LeavesGaps | Attack::RewritesPast => self.misplaces(reign, attack, dice).await,
            Attack::ClaimsCommits => self.claims_commits(reign, dice).await,
            Attack::SpeaksAsLeader => self.speaks_as_other(reign, dice).await,
            _ => {
                let to = dice.pick(&reign.followers).id;
                let commands = if dice.percent(50) { COMMANDS } else { 0 };
                let mut batch = self.next_batch(commands);
                let given = batch.submissions.clone();
                if dice.percent(30) {
                    // Once more what was in the log before.
                    let again = self.knowledge.lock().submission(dice.word());
                    batch.submissions.extend(again);
                }
                if batch.submissions.is_empty() || dice.percent(30) {
                    batch.submissions.push(self.forge.payment());
                }
                let payload = self.forge.spoil(batch, attack, dice, to);
                let term = reign.vote.term;
                let claims = dice.percent(50);
                if !self.offer(reign, attack, (term, payload), claims).await {
                    self.knowledge.lock().queue.extend(given);
                }
            }
        }
    }

    /// Appends in the name of the leader before, which has led no more since this one was elected, and whose log ends where this one
    /// does: an entry that is wrong is not its own.
    pub(super) async fn name_leader_before(&self, reign: &mut Reign) {
        let mut dice = Dice::new(reign.dice.word());
        let attack = *dice.pick(&[
            Attack::NamesWrongTree,
            Attack::NamesWrongTree,
            Attack::Strips,
            Attack::ForgesCommands,
            Attack::StampsAhead,
            Attack::ChangesMembers,
        ]);
        let mut batch = self.next_batch(0);
        batch.submissions.push(self.forge.payment());
        let to = dice.pick(&reign.followers).id;
        let payload = self.forge.spoil(batch, attack, &mut dice, to);
        let before = self.knowledge.lock().last.map_or(0, |id| id.term);
        let _ = self.offer(reign, attack, (before, payload), false).await;
    }

    /// Shows an entry to one follower after the other. It is in the log as soon as one may have it, and in no other place of it then;
    /// what all refuse has never been there. True if it is in the log.
    async fn offer(
        &self,
        reign: &mut Reign,
        attack: Attack,
        (term, payload): (u64, Payload),
        claims: bool,
    ) -> bool {
        let (last, committed) = {
            let knowledge = self.knowledge.lock();
            (knowledge.last, knowledge.committed)
        };
        let id = wire::LogId {
            term,
            index: last.map_or(0, |id| id.index + 1),
        };
        let entry = wire::LogEntry {
            log_id: Some(id),
            payload: Some(payload),
        };
        let what = format!("{attack:?}, as leader");
        // Other liars take everything: they are shown what one of the honest has taken.
        let mut order: Vec<usize> = (0..reign.followers.len()).collect();
        order.sort_by_key(|at| !reign.followers[*at].is_honest);
        let fellows = reign
            .followers
            .iter()
            .filter(|follower| !follower.is_honest)
            .count();
        let honest = order.len() - fellows;
        order[1.min(honest)..].rotate_right(fellows);
        let (mut taken, mut is_unknown) = (0, false);
        for at in order {
            let follower = &reign.followers[at];
            let is_shown = reign
                .only
                .is_none_or(|only| !follower.is_honest || follower.id == only);
            let is_at_end = follower.matched == last.map(|id| id.index);
            if !is_shown || !is_at_end || (!follower.is_honest && taken == 0) {
                continue;
            }
            // With this follower a quorum has it.
            let may_claim = claims && taken + 2 >= self.majority() && term == reign.vote.term;
            let says = if may_claim { Some(id) } else { committed };
            let said = self
                .send(reign, follower, last, vec![entry.clone()], says)
                .await;
            let met = match &said {
                Said::Matched => Met::Answered,
                Said::Nothing | Said::NotYet => Met::Silence,
                _ => Met::Refused,
            };
            if follower.is_honest {
                match &said {
                    Said::Refused(check) => self.told.note(format!("{what}: {check}"), met),
                    _ => self.told.note(what.as_str(), met),
                }
            }
            is_unknown |= said == Said::Nothing;
            if said == Said::Matched {
                taken += 1;
                reign.followers[at].matched = Some(id.index);
            }
        }
        if taken == 0 && !is_unknown {
            return false;
        }
        let mut knowledge = self.knowledge.lock();
        knowledge.promises(Some(id));
        if knowledge.voted == reign.vote {
            knowledge.appends(entry);
        }
        true
    }

    /// Entries with gaps, or in the place of what is committed.
    async fn misplaces(&self, reign: &Reign, attack: Attack, dice: &mut Dice) {
        let follower = dice.pick(&reign.followers);
        let (last, committed) = {
            let knowledge = self.knowledge.lock();
            (knowledge.last, knowledge.committed)
        };
        let (Some(last), Some(committed)) = (last, committed) else {
            return;
        };
        let (previous, index) = if attack == Attack::LeavesGaps {
            (Some(last), last.index + 2 + dice.below(3))
        } else {
            // What the follower knows to be committed: of other entries it cannot know that a quorum has them.
            let index = follower.knows.saturating_sub(dice.below(8)).max(1);
            (self.knowledge.lock().log.id_at(index - 1), index)
        };
        let mut batch = self.next_batch(0);
        batch.submissions.push(self.forge.payment());
        let entry = wire::LogEntry {
            log_id: Some(wire::LogId {
                term: reign.vote.term,
                index,
            }),
            payload: Some(entry_of(&batch)),
        };
        // What it has itself appended in this term it cannot give another content without anybody noticing.
        if self.knowledge.lock().log.id_at(index) == entry.log_id {
            return;
        }
        if !follower.is_honest || follower.knows == 0 {
            return;
        }
        let said = self.send(reign, follower, previous, vec![entry], Some(committed));
        self.note_said(attack, said.await);
    }

    fn note_said(&self, attack: Attack, said: Said) {
        let what = format!("{attack:?}, as leader");
        match said {
            Said::Refused(check) => self.told.note(format!("{what}: {check}"), Met::Refused),
            Said::Matched => self.told.note(what, Met::Answered),
            Said::Nothing | Said::NotYet => self.told.note(what, Met::Silence),
            Said::Conflict(_) | Said::Later(_) => self.told.note(what, Met::Refused),
        }
    }

    /// Says that more is committed than there is. All that there is a quorum has.
    async fn claims_commits(&self, reign: &Reign, dice: &mut Dice) {
        let (last, committed) = {
            let knowledge = self.knowledge.lock();
            (knowledge.last, knowledge.committed)
        };
        let Some(last) = last.filter(|last| Some(*last) == committed) else {
            return;
        };
        let far = dice.word() >> dice.below(64);
        let beyond = wire::LogId {
            term: reign.vote.term,
            index: last.index.saturating_add(far),
        };
        let follower = dice.pick(&reign.followers);
        if follower.is_honest {
            let said = self.send(reign, follower, Some(last), Vec::new(), Some(beyond));
            self.note_said(Attack::ClaimsCommits, said.await);
        }
    }

    /// Appends in the name of another node, in its own term.
    async fn speaks_as_other(&self, reign: &Reign, dice: &mut Dice) {
        let follower = dice.pick(&reign.followers);
        let other = dice.pick(&reign.followers).id;
        let as_other = Reign {
            vote: wire::Vote {
                node_id: other,
                ..reign.vote
            },
            followers: Vec::new(),
            dice: dice.clone(),
            ..*reign
        };
        let last = self.knowledge.lock().last;
        let said = self.send(&as_other, follower, last, Vec::new(), None).await;
        if follower.is_honest {
            self.note_said(Attack::SpeaksAsLeader, said);
        }
    }

    /// Asks to cosign trees that are not there.
    async fn asks_to_cosign_lies(&self, reign: &Reign, dice: &mut Dice) {
        let tip = tokio::task::block_in_place(|| self.forge.ledger(&self.knowledge).tip());
        let lie = Dice::new(dice.word());
        for follower in reign.followers.iter().filter(|follower| follower.is_honest) {
            let root = super::forge::hash(&mut lie.clone());
            let size = tip.size.0.saturating_sub(lie.clone().below(3)).max(1)
                + FAR * u64::from(dice.percent(10));
            let Some(note) = self.forge.checkpoint_of(size, root) else {
                return;
            };
            let message = wire::CosignRequest {
                checkpoint: note.to_string(),
            };
            let peers = &self.speaker.peers;
            let Ok(mut client) = peers.client(follower.id, &follower.address, Purpose::Other)
            else {
                continue;
            };
            let asked = client.cosign(peers.request(follower.id, message));
            let met = match tokio::time::timeout(PATIENCE, asked).await {
                Ok(Ok(answer)) if !answer.get_ref().signature.is_empty() => {
                    let to = follower.id;
                    self.told
                        .find(format!("node {to} cosigned a tree that is not there"));
                    Met::Answered
                }
                Ok(_) => Met::Refused,
                Err(_) => Met::Silence,
            };
            self.told.note("OtherTrees, as leader", met);
        }
    }
}
