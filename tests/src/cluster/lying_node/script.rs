//! What a lying node does, drawn from one number: the same seed gives the same script.

use crate::stream::Dice;

/// One step of a run, and the number from which its details follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// What is done.
    pub kind: Kind,
    /// Everything else that is to be chosen.
    pub number: u64,
}

/// What is done in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The liar sends something to honest nodes.
    Attack(Attack),
    /// The liar answers peers in another way from now on.
    PeerAnswers(PeerAnswers),
    /// The liar answers clients in another way from now on.
    ClientAnswers(ClientAnswers),
    /// An honest client does something.
    Act(Act),
}

/// What the liar sends to honest nodes. Beside each: what must stop it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attack {
    /// Stands for election again and again. Nothing stops it: elections decide nothing.
    Stands,
    /// Stands in a term that no count of elections reaches. The bound on terms.
    JumpsTerms,
    /// Stands with a log that it cannot have. The bound on log ids.
    BoastsOfLog,
    /// Asks for votes in another node's name. The sender is the candidate.
    StandsForOthers,
    /// Asks for votes that it says a quorum has given already. A candidate's vote is not committed.
    StandsCommitted,
    /// Appends a batch that is stamped ahead. The follower's clock.
    StampsAhead,
    /// Appends a batch that is stamped long ago. Entry times never go back.
    StampsBehind,
    /// Appends a batch on another tree. The follower's own tree.
    NamesWrongTree,
    /// Appends bytes that are no batch. The decoder, before the log.
    AppendsNoise,
    /// Appends more than fits. The limits.
    AppendsTooMuch,
    /// Appends a command without its content or with another. What its author has signed.
    Strips,
    /// Appends a command that nobody has signed. Its author's signature.
    ForgesCommands,
    /// Appends with gaps, or at the end of all numbers. The bounds on log ids.
    LeavesGaps,
    /// Appends a membership of its own. The ledger's membership.
    ChangesMembers,
    /// Says that entries are committed that do not exist. The end of the log.
    ClaimsCommits,
    /// Writes other entries where committed ones are. What is committed stays.
    RewritesPast,
    /// Appends in the name of the node that leads. The sender is the leader.
    SpeaksAsLeader,
    /// Has leadership handed over to it, wins the election, and leads for a while as `reign.rs` has it.
    Leads,
    /// Hands over leadership that it does not have. The sender leads.
    HandsOver,
    /// Offers a snapshot of lies. The vote, names, sizes, digests, own trees.
    OffersSnapshots,
    /// Sends bytes without end. The size that was offered.
    SendsEndlessly,
    /// Forwards what nobody signed, or what lacks content. Admission.
    Forwards,
    /// Asks to cosign trees that are not there. The node's own tree.
    AsksToCosign,
    /// Sends checkpoints that it made itself. The trust policy.
    PutsCheckpoints,
    /// Wants checkpoints of trees that never come. The limits.
    WantsCheckpoints,
    /// Has others compile what nobody signed. The sender leads; the limits.
    CompilesAhead,
    /// Asks for what only a leader can say, again and again. Nothing stops it: it is told the truth.
    Reads,
    /// Says that it is another node, of another ledger, in another version. Who the connection is from.
    Pretends,
    /// Opens streams and says nothing. The limits of connections.
    OpensStreams,
    /// Says false things in the ledger, signed by its own key. It is outvoted.
    AttestsLies,
}

impl Attack {
    /// True if the lie is told in appends, where it is worth more from a leader that was elected.
    #[must_use]
    pub const fn is_of_leader(self) -> bool {
        matches!(
            self,
            Self::StampsAhead
                | Self::StampsBehind
                | Self::NamesWrongTree
                | Self::AppendsNoise
                | Self::AppendsTooMuch
                | Self::Strips
                | Self::ForgesCommands
                | Self::LeavesGaps
                | Self::ChangesMembers
                | Self::ClaimsCommits
                | Self::RewritesPast
                | Self::SpeaksAsLeader
        )
    }
}

/// How the liar answers peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerAnswers {
    /// As a good follower, as far as a node without a store can.
    AsIfHonest,
    /// Not at all.
    Silence,
    /// That nothing fits.
    Conflict,
    /// That what the leader sends must be refused.
    Refusal,
    /// That there is another leader, in a term that is a little later.
    LaterTerm,
    /// The same, in a term that no count of elections reaches.
    HugeTerm,
    /// With a clock that is far off.
    WrongClock,
    /// Yes to all candidates, in each term as often as they ask.
    EveryVote,
    /// That it has what was never sent.
    MoreThanSent,
    /// With more answers than there were questions.
    Endlessly,
    /// With cosignatures of other trees, and checkpoints and steps that it made itself.
    ForgedNotes,
}

/// How the liar answers clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientAnswers {
    /// As an honest node says.
    AsIfHonest,
    /// Not at all.
    Silence,
    /// With the first answer that it had, to everybody.
    Replay,
    /// With permits that live for ever.
    Revived,
    /// That receipts are worth more than they are.
    Promoted,
    /// With a yes of its own, as the next entry of the real ledger.
    Forged,
    /// After it took the content off the question.
    Stripped,
    /// With a changed byte.
    Damaged,
    /// With old checkpoints.
    OldCheckpoint,
    /// With noise.
    Noise,
}

/// What honest clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// Asks for what is always allowed.
    Ask,
    /// Asks for what is allowed three times an hour.
    Pay,
    /// Asks for what is never allowed.
    PayMallory,
    /// Sends bytes again that were sent before.
    AskAgain,
    /// Asks whether a permit that it holds still holds.
    LookAtPermit,
    /// Redeems a permit that it holds: now, and once.
    Redeem,
    /// Records what a permit's action did.
    Record,
    /// Halts everything.
    Halt,
    /// Lifts the halt.
    ClearHalt,
    /// Suspends an agent.
    Suspend,
    /// Resumes it.
    Resume,
    /// Fetches evidence and verifies it.
    Prove,
    /// Compares the ledger with what it has seen before.
    Check,
}

/// How often each is drawn, of all.
const ATTACKS: &[(Attack, u64)] = &[
    (Attack::Stands, 4),
    (Attack::JumpsTerms, 3),
    (Attack::BoastsOfLog, 2),
    (Attack::StandsForOthers, 3),
    (Attack::StandsCommitted, 3),
    (Attack::StampsAhead, 6),
    (Attack::StampsBehind, 3),
    (Attack::NamesWrongTree, 5),
    (Attack::AppendsNoise, 4),
    (Attack::AppendsTooMuch, 1),
    (Attack::Strips, 3),
    (Attack::ForgesCommands, 3),
    (Attack::LeavesGaps, 4),
    (Attack::ChangesMembers, 4),
    (Attack::ClaimsCommits, 4),
    (Attack::RewritesPast, 4),
    (Attack::SpeaksAsLeader, 5),
    (Attack::Leads, 7),
    (Attack::HandsOver, 2),
    (Attack::OffersSnapshots, 4),
    (Attack::SendsEndlessly, 1),
    (Attack::Forwards, 4),
    (Attack::AsksToCosign, 6),
    (Attack::PutsCheckpoints, 5),
    (Attack::WantsCheckpoints, 3),
    (Attack::CompilesAhead, 3),
    (Attack::Reads, 3),
    (Attack::Pretends, 4),
    (Attack::OpensStreams, 2),
    (Attack::AttestsLies, 3),
];
/// [`PeerAnswers::EveryVote`] is not drawn: no node of a cluster whose quorum is a majority can see through it (decision 0018). Two leaders of
/// one term can have two honest nodes cosign two trees with the liar's help, and the one that finds out stops.
const PEER_ANSWERS: &[(PeerAnswers, u64)] = &[
    (PeerAnswers::AsIfHonest, 6),
    (PeerAnswers::Silence, 2),
    (PeerAnswers::Conflict, 2),
    (PeerAnswers::Refusal, 3),
    (PeerAnswers::LaterTerm, 1),
    (PeerAnswers::HugeTerm, 2),
    (PeerAnswers::WrongClock, 3),
    (PeerAnswers::MoreThanSent, 2),
    (PeerAnswers::Endlessly, 2),
    (PeerAnswers::ForgedNotes, 4),
];
const CLIENT_ANSWERS: &[(ClientAnswers, u64)] = &[
    (ClientAnswers::AsIfHonest, 4),
    (ClientAnswers::Silence, 1),
    (ClientAnswers::Replay, 3),
    (ClientAnswers::Revived, 4),
    (ClientAnswers::Promoted, 2),
    (ClientAnswers::Forged, 4),
    (ClientAnswers::Stripped, 3),
    (ClientAnswers::Damaged, 2),
    (ClientAnswers::OldCheckpoint, 3),
    (ClientAnswers::Noise, 1),
];
const ACTS: &[(Act, u64)] = &[
    (Act::Ask, 8),
    (Act::Pay, 4),
    (Act::PayMallory, 2),
    (Act::AskAgain, 8),
    (Act::LookAtPermit, 4),
    (Act::Redeem, 6),
    (Act::Record, 4),
    (Act::Halt, 1),
    (Act::ClearHalt, 3),
    (Act::Suspend, 1),
    (Act::Resume, 3),
    (Act::Prove, 2),
    (Act::Check, 1),
];

/// The steps of a seed, without end.
#[derive(Debug, Clone)]
pub struct Script(Dice);

impl Script {
    /// The script of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(Dice::new(seed))
    }
}

impl Iterator for Script {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let dice = &mut self.0;
        let kind = match dice.below(100) {
            0..45 => Kind::Attack(weighted(dice, ATTACKS)),
            45..52 => Kind::PeerAnswers(weighted(dice, PEER_ANSWERS)),
            52..60 => Kind::ClientAnswers(weighted(dice, CLIENT_ANSWERS)),
            _ => Kind::Act(weighted(dice, ACTS)),
        };
        Some(Step {
            kind,
            number: dice.word(),
        })
    }
}

fn weighted<T: Copy>(dice: &mut Dice, list: &[(T, u64)]) -> T {
    let total: u64 = list.iter().map(|(_, weight)| weight).sum();
    let mut left = dice.below(total);
    let chosen = list.iter().find(|(_, weight)| {
        let is_it = left < *weight;
        left = left.saturating_sub(*weight);
        is_it
    });
    let (item, _) = chosen.expect("a number below the sum of the weights belongs to an item");
    *item
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_gives_one_script_and_other_seeds_others() {
        let steps = |seed| Script::new(seed).take(100).collect::<Vec<_>>();
        assert_eq!(steps(1), steps(1));
        assert_ne!(steps(1), steps(2));
    }

    #[test]
    fn every_lie_and_every_act_is_drawn() {
        let drawn = |of: fn(Kind) -> Option<String>| {
            let kinds = Script::new(7).take(10_000).map(|step| step.kind);
            kinds.filter_map(of).collect::<BTreeSet<_>>().len()
        };
        let attacks = drawn(|kind| match kind {
            Kind::Attack(attack) => Some(format!("{attack:?}")),
            _ => None,
        });
        assert_eq!(attacks, ATTACKS.len());
        let answers = drawn(|kind| match kind {
            Kind::PeerAnswers(answers) => Some(format!("{answers:?}")),
            Kind::ClientAnswers(answers) => Some(format!("client {answers:?}")),
            _ => None,
        });
        assert_eq!(answers, PEER_ANSWERS.len() + CLIENT_ANSWERS.len());
        let acts = drawn(|kind| match kind {
            Kind::Act(act) => Some(format!("{act:?}")),
            _ => None,
        });
        assert_eq!(acts, ACTS.len());
    }
}
