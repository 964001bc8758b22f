//! What is in log entries that must not be there: batches that are spoiled, memberships that the ledger does not have.

use ledger_proto::peer::v1 as wire;
use ledger_proto::peer::v1::log_entry::Payload;
use ledger_proto::v1;
use prost::Message as _;

use super::forge::{FAR, Forge, below, hash};
use super::script::Attack;
use crate::cluster::client::now_us;
use crate::kit::SECOND;
use crate::stream::Dice;

/// Submissions of an entry that is too long.
const TOO_MANY: usize = 8_000;

/// The entry of a batch.
pub(super) fn entry_of(batch: &v1::Batch) -> Payload {
    Payload::Batch(batch.encode_to_vec().into())
}

impl Forge {
    /// Lies in a batch, or makes something else of it. `to` are nodes that the lie is told to.
    pub(super) fn spoil(
        &self,
        mut batch: v1::Batch,
        which: Attack,
        dice: &mut Dice,
        to: u64,
    ) -> Payload {
        match which {
            Attack::StampsAhead => batch.time_us = ahead(dice),
            Attack::StampsBehind => batch.time_us = dice.word() % now_us().saturating_sub(SECOND),
            Attack::NamesWrongTree => name_another_tree(&mut batch, dice),
            Attack::AppendsNoise => {
                let noise = hash(dice).as_bytes().repeat(1 + below(dice, 8));
                let noise = [&[0xff], noise.as_slice()].concat();
                return Payload::Batch(noise.into());
            }
            Attack::AppendsTooMuch => batch.submissions = vec![self.payment(); TOO_MANY],
            Attack::Strips => {
                for submission in &mut batch.submissions {
                    change_content(submission, dice);
                }
            }
            Attack::ForgesCommands => batch.submissions.push(self.forged(dice)),
            Attack::ChangesMembers => return self.membership(dice, to),
            _ => {}
        }
        entry_of(&batch)
    }

    /// A membership that the ledger does not have.
    fn membership(&self, dice: &mut Dice, to: u64) -> Payload {
        let stranger = 1_000 + dice.below(10);
        let all: Vec<u64> = self.members.iter().map(|(id, _)| *id).collect();
        let set = |node_ids: Vec<u64>| wire::VoterSet { node_ids };
        let mut pair = vec![self.id.min(to), self.id.max(to)];
        pair.dedup();
        let voters = match dice.below(6) {
            0 => vec![set(vec![self.id])],
            1 => vec![set(vec![stranger])],
            2 => vec![set(Vec::new())],
            3 => vec![set(pair)],
            4 => vec![set(all), set(vec![self.id])],
            _ => vec![set(all.clone()), set([all, vec![stranger]].concat())],
        };
        let mut peers: Vec<wire::Peer> = self
            .members
            .iter()
            .map(|(node_id, address)| wire::Peer {
                node_id: *node_id,
                address: address.clone(),
            })
            .collect();
        peers.push(wire::Peer {
            node_id: stranger,
            address: "127.0.0.1:1".to_owned(),
        });
        Payload::Membership(wire::Membership { voters, peers })
    }

    /// A command that its author did not sign.
    pub(super) fn forged(&self, dice: &mut Dice) -> v1::Submission {
        let mut submission = self.payment();
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

fn name_another_tree(batch: &mut v1::Batch, dice: &mut Dice) {
    if dice.percent(50) {
        batch.prior_root = hash(dice).as_bytes().to_vec();
    } else {
        batch.prior_size = batch.prior_size.saturating_add(1 + dice.below(FAR));
    }
    let len = if dice.percent(80) { 32 } else { 7 };
    batch.prior_root.truncate(len);
}

/// Takes the content off a command, or puts other content in its place.
fn change_content(submission: &mut v1::Submission, dice: &mut Dice) {
    if dice.percent(50) {
        submission.compartments.clear();
    }
    for compartment in &mut submission.compartments {
        compartment.content = br#"{"to":"mallory","amount":1}"#.to_vec();
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
