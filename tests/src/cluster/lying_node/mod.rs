//! A node that lies: a program of ours that takes the place of a node, with that node's keys, and speaks both protocols.
//!
//! It begins with that node's log and ledger, and goes on with what it hears, in memory. What it says is drawn from a script, which
//! follows from one number. From time to time it has leadership handed over to it, is elected with its real log, and lies as the leader.
//! The judges look at what honest clients believed and at what honest nodes have in the end.
//!
//! What it does not do, because nothing in a cluster whose quorum is a majority could stop it (decision 0018): give different entries for
//! one place in the log to different followers, say that something is committed that no quorum has, or help to elect a node that lacks
//! what it has said to have. A witness outside the cluster makes such a fork impossible to cosign.

mod acts;
mod appends;
mod attacks;
mod batches;
mod client_side;
mod elections;
mod follower;
mod forge;
pub mod judge;
mod keeping;
mod knowledge;
mod offers;
mod peer_side;
mod reign;
mod reign_lies;
mod replica;
pub mod script;
pub mod stage;
mod told;

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use ledger_core::hash::TreeHash;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use super::Cluster;
use super::liar::Liar;
use super::peer::PeerSpeaker;
use super::people::Actor;
use super::wait::until;
use elections::Leader;
use forge::Forge;
use knowledge::Shared;
use peer_side::{Manner, PeerSide};
use replica::Inheritance;
use script::{Attack, ClientAnswers, PeerAnswers};
use told::Told;

pub use attacks::Met;

/// Most connections that are held open for nothing.
const MAX_HELD: usize = 64;

/// A node that lies.
pub struct LyingNode {
    /// Whose place it has taken.
    pub id: u64,
    honest: Vec<(u64, String)>,
    speaker: Arc<PeerSpeaker>,
    forge: Arc<Forge>,
    knowledge: Shared,
    manner: Manner,
    leader: Arc<Leader>,
    front: Liar,
    serving: AbortHandle,
    held: tokio::sync::Mutex<Vec<Box<dyn Any + Send + Sync>>>,
}

impl fmt::Debug for LyingNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LyingNode").field(&self.id).finish()
    }
}

impl Drop for LyingNode {
    fn drop(&mut self) {
        self.leader.stop();
        self.serving.abort();
    }
}

impl LyingNode {
    /// Ends a node of a cluster and takes its place. `honest` are the nodes that go on; clients who ask this one are answered
    /// from what the first of them says.
    ///
    /// # Panics
    /// If the place cannot be taken.
    pub async fn take_place(
        cluster: &mut Cluster,
        id: u64,
        honest: &[u64],
        accomplice: &Actor,
    ) -> Self {
        cluster.kill(id);
        let files = cluster.file(id).clone();
        let speaker = Arc::new(PeerSpeaker::of(cluster, id));
        let Inheritance { replica, log, vote } =
            Inheritance::read(&files.data(), TreeHash::of_origin(&cluster.origin));
        let knowledge = Shared::new(log, vote, replica.applied());
        let forge = Arc::new(Forge::of(cluster, id, &speaker, replica, accomplice));
        let manner = Manner::default();
        let others: Vec<(u64, String)> = forge
            .members
            .iter()
            .filter(|(node, _)| *node != id)
            .cloned()
            .collect();
        let is_honest = |node: &(u64, String)| honest.contains(&node.0);
        let side = PeerSide {
            node_id: id,
            manner: manner.clone(),
            knowledge: knowledge.clone(),
            forge: Arc::clone(&forge),
            fellows: others
                .iter()
                .filter(|node| !is_honest(node))
                .map(|node| node.0)
                .collect(),
        };
        let listener = until("the peer port is free", super::SOON, async || {
            TcpListener::bind(files.peer).await.ok()
        })
        .await;
        let serving = speaker.serve(listener, side);
        let leader = Arc::new(Leader {
            id,
            others: others.clone(),
            honest: honest.iter().copied().collect(),
            speaker: Arc::clone(&speaker),
            signing: Arc::clone(&cluster.signing),
            forge: Arc::clone(&forge),
            knowledge: knowledge.clone(),
            manner: manner.clone(),
            reign: tokio::sync::Mutex::default(),
            told: Told::default(),
            ruling: Mutex::default(),
        });
        let source = honest.first().expect("somebody is honest");
        let front = Liar::at(files.client, cluster.file(*source).client).await;
        Self {
            id,
            honest: others.into_iter().filter(is_honest).collect(),
            speaker,
            forge,
            knowledge,
            manner,
            leader,
            front,
            serving,
            held: tokio::sync::Mutex::default(),
        }
    }

    /// Answers peers in this way from now on.
    pub fn answers_peers(&self, answers: PeerAnswers, number: u64) {
        self.manner.set(answers, number);
    }

    /// Answers clients in this way from now on.
    pub fn answers_clients(&self, answers: ClientAnswers, number: u64) {
        client_side::set(&self.front, &self.forge, &self.knowledge, answers, number);
    }

    /// Lies to honest nodes. Gives what came of it.
    pub async fn lies(&self, attack: Attack, number: u64) -> Vec<Met> {
        {
            let mut held = self.held.lock().await;
            if held.len() > MAX_HELD {
                held.clear();
            }
        }
        self.attack(attack, number).await
    }

    /// Has leadership handed over to it, and leads in the background for some seconds if it is elected.
    pub async fn begin_to_lead(&self, number: u64) -> Met {
        self.leader.begin(number).await
    }

    /// Leads no more, and answers peers as a good follower does.
    pub fn is_honest(&self) {
        self.leader.stop();
        self.knowledge.lock().leads = false;
        self.answers_peers(PeerAnswers::AsIfHonest, 0);
    }

    /// What became of the lies that it told as a leader, and what honest nodes did that they must not do.
    pub fn told(&self) -> (BTreeMap<String, BTreeMap<Met, usize>>, Vec<String>) {
        self.leader.told.all()
    }

    fn finds(&self, what: String) {
        self.leader.told.find(what);
    }
}
