//! How a lying node comes to lead, as any member may: an admin has the leader hand over to it, it stands with its real log in the next
//! term, and collects the signed votes of the others.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ledger_proto::peer::v1 as wire;
use ledger_proto::v1;
use tokio::task::AbortHandle;

use super::Met;
use super::forge::Forge;
use super::knowledge::Shared;
use super::peer_side::Manner;
use super::reign::{Follower, Reign};
use super::script::{Attack, PeerAnswers};
use super::told::Told;
use crate::cluster::admin;
use crate::cluster::client::{Signing, now_us, shown_to_leader};
use crate::cluster::peer::{PeerSpeaker, Purpose};
use crate::stream::Dice;

/// How long one call may take.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);
/// How often the leader is asked to hand over, and how long it then has to begin.
const ASKED: usize = 4;
const HANDED_OVER: Duration = Duration::from_millis(400);
/// The call that an admin signs.
const TRANSFER: &str = "/countersign.v1.ClusterService/TransferLeadership";
/// Shortest reign, and how much longer others are.
const REIGN_MS: u64 = 1_500;
const LONGER_MS: u64 = 2_500;
/// Between two things that a leader does.
const TICK: Duration = Duration::from_millis(60);

/// A lying node as a candidate and a leader.
#[derive(Debug)]
pub(super) struct Leader {
    pub(super) id: u64,
    /// The other nodes.
    pub(super) others: Vec<(u64, String)>,
    pub(super) honest: BTreeSet<u64>,
    pub(super) speaker: Arc<PeerSpeaker>,
    /// Has an admin move leadership to this node: that admin does not know that it lies.
    pub(super) signing: Arc<Signing>,
    pub(super) forge: Arc<Forge>,
    pub(super) knowledge: Shared,
    pub(super) manner: Manner,
    pub(super) reign: tokio::sync::Mutex<Option<Reign>>,
    pub(super) told: Told,
    pub(super) ruling: Mutex<Option<AbortHandle>>,
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Leader {
    /// Leads no more, whatever it was about to say.
    pub(super) fn stop(&self) {
        let ruling = self.ruling.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ruling) = ruling.as_ref() {
            ruling.abort();
        }
    }

    /// Nodes that make a majority.
    pub(super) fn majority(&self) -> usize {
        self.others.len().div_ceil(2) + 1
    }

    /// Comes to lead, and leads in the background for a while.
    pub(super) async fn begin(self: &Arc<Self>, number: u64) -> Met {
        let mut reign = self.reign.lock().await;
        if reign.is_some() {
            return Met::Answered;
        }
        let mut dice = Dice::new(number);
        let Some(won) = self.win(&mut dice).await else {
            return Met::Refused;
        };
        self.told.note("Wins an election", Met::Answered);
        *reign = Some(won);
        let leader = Arc::clone(self);
        let ruling = tokio::spawn(async move { leader.rule().await });
        let mut before = self.ruling.lock().unwrap_or_else(PoisonError::into_inner);
        *before = Some(ruling.abort_handle());
        Met::Answered
    }

    async fn rule(&self) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let mut reign = self.reign.lock().await;
            let Some(current) = reign.as_mut() else {
                return;
            };
            self.tick(current).await;
            if current.is_over(&self.knowledge) {
                self.abdicate(current).await;
                *reign = None;
                return;
            }
        }
    }

    async fn win(&self, dice: &mut Dice) -> Option<Reign> {
        self.manner.set(PeerAnswers::AsIfHonest, 0);
        let leader = self.knowledge.lock().vote.node_id;
        if !self.honest.contains(&leader) {
            return None;
        }
        let from = self.handed_over_by(leader).await?;
        self.stand(from, dice).await
    }

    /// Has the leader hand over, as an admin has signed. Gives the vote with which it led.
    async fn handed_over_by(&self, leader: u64) -> Option<wire::Vote> {
        let (_, address) = self.others.iter().find(|(id, _)| *id == leader)?;
        let peers = &self.speaker.peers;
        let mut client = peers.client(leader, address, Purpose::Other).ok()?;
        let mut transfers = self.knowledge.transfer.subscribe();
        for _ in 0..ASKED {
            let message = v1::TransferLeadershipRequest { to: Some(self.id) };
            let asked = self.signing.read_at(now_us(), &admin(), TRANSFER, message);
            let asked = client.hand_over(peers.request(leader, shown_to_leader(&asked)));
            let _ = tokio::time::timeout(PATIENCE, asked).await;
            let begins = |from: &wire::Vote| from.term >= self.knowledge.lock().vote.term;
            let begun = tokio::time::timeout(HANDED_OVER, transfers.wait_for(begins)).await;
            if let Ok(Ok(from)) = begun {
                return Some(*from);
            }
        }
        None
    }

    /// Stands in the term after that of the leader that handed over.
    async fn stand(&self, from: wire::Vote, dice: &mut Dice) -> Option<Reign> {
        let vote = wire::Vote {
            term: from.term.checked_add(1)?,
            node_id: self.id,
            committed: false,
        };
        let last = {
            let mut knowledge = self.knowledge.lock();
            if !knowledge.may_stand() || vote.term <= knowledge.voted.term {
                return None;
            }
            knowledge.voted = vote;
            knowledge.last?
        };
        let request = wire::VoteRequest {
            vote: Some(vote),
            last_log_id: Some(last),
            leadership_transfer: true,
            sent_at_us: now_us(),
        };
        let answers = self.ask_for_votes(request).await;
        let mut election = vec![self.forge.vote_grant(&vote)];
        let granted = answers.iter().filter(|(_, answer)| answer.granted);
        election.extend(granted.map(|(node_id, answer)| wire::VoteGrant {
            node_id: *node_id,
            signature: answer.signature.clone(),
        }));
        if election.len() < self.majority() {
            return None;
        }
        let vote = wire::Vote {
            committed: true,
            ..vote
        };
        {
            let mut knowledge = self.knowledge.lock();
            knowledge.vote = vote;
            knowledge.voted = vote;
            knowledge.won = vote;
            knowledge.election = election;
            knowledge.leads = true;
            knowledge.tells_old = dice.percent(30);
            knowledge.queue.clear();
        }
        let mut reign = self.reign_of(vote, last, &answers, dice);
        reign.may_name_before &= from.term == last.term;
        Some(reign)
    }

    async fn ask_for_votes(&self, request: wire::VoteRequest) -> Vec<(u64, wire::VoteResponse)> {
        let asked = self.others.iter().map(async |(to, address)| {
            let peers = &self.speaker.peers;
            let mut client = peers.client(*to, address, Purpose::Heartbeat).ok()?;
            let asked = client.vote(peers.request(*to, request));
            let answer = tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()?;
            Some((*to, answer.into_inner()))
        });
        let answers = futures_util::future::join_all(asked).await;
        answers.into_iter().flatten().collect()
    }

    /// What a leader knows of its followers by their votes, and how it will lead.
    fn reign_of(
        &self,
        vote: wire::Vote,
        last: wire::LogId,
        answers: &[(u64, wire::VoteResponse)],
        dice: &mut Dice,
    ) -> Reign {
        let ends_here = |id: u64| {
            let mut answers = answers.iter();
            answers.any(|(from, answer)| *from == id && answer.last_log_id == Some(last))
        };
        let followers = self.others.iter().map(|(id, address)| Follower {
            id: *id,
            address: address.clone(),
            is_honest: self.honest.contains(id),
            matched: ends_here(*id).then_some(last.index),
            knows: 0,
            next: last.index,
        });
        let length = REIGN_MS + dice.below(LONGER_MS);
        Reign {
            vote,
            ends_at: Instant::now() + Duration::from_millis(length),
            followers: followers.collect(),
            begun: false,
            // All logs end where this one does, so that nobody has what comes next in the name of the leader before.
            may_name_before: self.others.iter().all(|(id, _)| ends_here(*id)),
            only: None,
            withholds: false,
            collects: dice.percent(70),
            is_over: false,
            dice: Dice::new(dice.word()),
        }
    }

    async fn abdicate(&self, reign: &Reign) {
        {
            let mut knowledge = self.knowledge.lock();
            knowledge.leads = false;
            knowledge.queue.clear();
        }
        // Now and then it is polite.
        let last = self.knowledge.lock().last;
        let next = reign
            .followers
            .iter()
            .find(|follower| follower.is_honest && follower.matched == last.map(|last| last.index));
        let Some(next) = next.filter(|_| reign.vote.term.is_multiple_of(2)) else {
            return;
        };
        let message = wire::TransferLeaderRequest {
            from: Some(reign.vote),
            to: next.id,
            last_log_id: last,
        };
        for (to, address) in &self.others {
            let peers = &self.speaker.peers;
            let Ok(mut client) = peers.client(*to, address, Purpose::Heartbeat) else {
                continue;
            };
            let asked = client.transfer_leader(peers.request(*to, message));
            let _ = tokio::time::timeout(PATIENCE, asked).await;
        }
    }

    /// Tells a lie of appends as the leader that it is; false if it is none.
    pub(super) async fn tells(&self, attack: Attack, dice: &mut Dice) -> bool {
        let mut reign = self.reign.lock().await;
        let Some(current) = reign.as_mut() else {
            return false;
        };
        self.lie(current, attack, dice).await;
        true
    }
}
