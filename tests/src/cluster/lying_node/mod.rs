//! A node that lies: a program of ours that takes the place of a node, with that node's keys, and speaks both protocols.
//!
//! It has no store and no machine. What it knows it has heard from honest nodes; what it says is drawn from a script, which
//! follows from one number. The judges look at what honest clients believed and at what honest nodes have in the end.
//!
//! What it does not do, because nothing in a cluster whose quorum is a majority could stop it (decision 0018): lead for real and
//! give different entries to different followers. A witness outside the cluster makes such a fork impossible to cosign.

mod acts;
mod appends;
mod attacks;
mod client_side;
mod forge;
pub mod judge;
mod knowledge;
mod offers;
mod peer_side;
pub mod script;
pub mod stage;

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use ledger_core::hash::TreeHash;
use ledger_node::keyfile::KeyFile;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use super::Cluster;
use super::liar::Liar;
use super::peer::PeerSpeaker;
use super::people::Actor;
use super::wait::until;
use forge::Forge;
use knowledge::Shared;
use peer_side::{Manner, PeerSide};
use script::{Attack, ClientAnswers, PeerAnswers};

pub use attacks::Met;

/// Most connections that are held open for nothing.
const MAX_HELD: usize = 64;

/// A node that lies.
pub struct LyingNode {
    /// Whose place it has taken.
    pub id: u64,
    honest: Vec<(u64, String)>,
    speaker: PeerSpeaker,
    forge: Arc<Forge>,
    knowledge: Shared,
    manner: Manner,
    front: Liar,
    serving: AbortHandle,
    held: tokio::sync::Mutex<Vec<Box<dyn Any + Send + Sync>>>,
    findings: Mutex<Vec<String>>,
}

impl fmt::Debug for LyingNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LyingNode").field(&self.id).finish()
    }
}

impl Drop for LyingNode {
    fn drop(&mut self) {
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
        let key = |path| KeyFile::open(path).expect("a key of the cluster");
        let speaker = PeerSpeaker::of(cluster, id);
        let forge = Arc::new(Forge {
            id,
            genesis: speaker.peers.genesis,
            origin: cluster.origin.clone(),
            tree_hash: TreeHash::of_origin(&cluster.origin),
            name: files.card_message().name,
            node_key: key(&files.folder.join("node.key")),
            log_key: key(&cluster.genesis().with_file_name("log.key")),
            signing: Arc::clone(&cluster.signing),
            accomplice: accomplice.clone(),
        });
        let (knowledge, manner) = (Shared::default(), Manner::default());
        let side = PeerSide {
            node_id: id,
            manner: manner.clone(),
            knowledge: knowledge.clone(),
            forge: Arc::clone(&forge),
        };
        let listener = until("the peer port is free", super::SOON, async || {
            TcpListener::bind(files.peer).await.ok()
        })
        .await;
        let serving = speaker.serve(listener, side);
        let honest: Vec<(u64, String)> = honest
            .iter()
            .map(|node| (*node, cluster.file(*node).peer.to_string()))
            .collect();
        let source = honest.first().expect("somebody is honest").0;
        let front = Liar::at(files.client, cluster.file(source).client).await;
        Self {
            id,
            honest,
            speaker,
            forge,
            knowledge,
            manner,
            front,
            serving,
            held: tokio::sync::Mutex::default(),
            findings: Mutex::default(),
        }
    }

    /// Answers peers in this way from now on.
    pub fn answers_peers(&self, answers: PeerAnswers, number: u64) {
        self.manner.set(answers, number);
    }

    /// Answers clients in this way from now on.
    pub fn answers_clients(&self, answers: ClientAnswers, number: u64) {
        client_side::set(&self.front, &self.forge, answers, number);
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

    /// What honest nodes did that they must not do.
    pub fn findings(&self) -> Vec<String> {
        let findings = self.findings.lock();
        findings.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn finds(&self, what: String) {
        let findings = self.findings.lock();
        findings.unwrap_or_else(PoisonError::into_inner).push(what);
    }
}
