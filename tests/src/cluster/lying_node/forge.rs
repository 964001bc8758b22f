//! What a lying node makes itself: it has its own key, the log's key, and an accomplice among the agents.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ledger_core::hash::{Hash, TreeSize};
use ledger_core::note::checkpoint::Checkpoint;
use ledger_core::note::cosignature::{CosignatureTime, cosign};
use ledger_core::note::signed_note::Note;
use ledger_core::signature::vote_message;
use ledger_core::signer::Signer as _;
use ledger_node::keyfile::KeyFile;
use ledger_proto::peer::v1 as wire;
use ledger_proto::v1;
use prost::Message as _;

use super::knowledge::{Knowledge, Shared};
use super::replica::Replica;
use crate::cluster::Cluster;
use crate::cluster::client::{Signing, now_us};
use crate::cluster::peer::PeerSpeaker;
use crate::cluster::people::Actor;
use crate::kit::{Ask, SECOND, authorize_body};
use crate::stream::Dice;
use ledger_core::id::Identity;

/// So far ahead that nothing is there.
pub(super) const FAR: u64 = 1_000_000;

/// Keys, and what is made with them.
#[derive(Debug)]
pub(super) struct Forge {
    pub(super) id: u64,
    /// All nodes, and where each is reached.
    pub(super) members: Vec<(u64, String)>,
    pub(super) genesis: Hash,
    pub(super) origin: String,
    /// The cosigner's name of the node.
    pub(super) name: String,
    pub(super) node_key: KeyFile,
    pub(super) log_key: KeyFile,
    pub(super) signing: Arc<Signing>,
    /// An agent that signs whatever the node wants.
    pub(super) accomplice: Actor,
    /// Its own ledger.
    pub(super) replica: Mutex<Replica>,
    /// The yes that it forged last.
    pub(super) forged: Mutex<Option<v1::ProvenEntry>>,
}

impl Forge {
    /// What a node of a cluster can make with its keys.
    ///
    /// # Panics
    /// If it has none.
    pub(super) fn of(
        cluster: &Cluster,
        id: u64,
        speaker: &PeerSpeaker,
        replica: Replica,
        accomplice: &Actor,
    ) -> Self {
        let files = cluster.file(id);
        let key = |path| KeyFile::open(path).expect("a key of the cluster");
        let members = cluster.all_files();
        Self {
            id,
            members: members
                .map(|files| (files.id, files.peer.to_string()))
                .collect(),
            genesis: speaker.peers.genesis,
            origin: cluster.origin.clone(),
            name: files.card_message().name,
            node_key: key(&files.folder.join("node.key")),
            log_key: key(&cluster.genesis().with_file_name("log.key")),
            signing: Arc::clone(&cluster.signing),
            accomplice: accomplice.clone(),
            replica: Mutex::new(replica),
            forged: Mutex::default(),
        }
    }

    /// The node's own vote, signed.
    pub(super) fn vote_grant(&self, vote: &wire::Vote) -> wire::VoteGrant {
        let message = vote_message(&self.genesis, self.id, vote.term, vote.node_id);
        wire::VoteGrant {
            node_id: self.id,
            signature: self.node_key.sign(&message).to_vec(),
        }
    }

    /// Its ledger, as far as the log is committed.
    pub(super) fn ledger(&self, knowledge: &Shared) -> MutexGuard<'_, Replica> {
        let mut replica = self.replica.lock().unwrap_or_else(PoisonError::into_inner);
        let next = {
            let knowledge = knowledge.lock();
            let committed = knowledge.committed.map_or(0, |id| id.index);
            knowledge.log.range(replica.applied() + 1, committed)
        };
        replica.apply_next(&next);
        replica
    }

    /// A checkpoint with the log's signature.
    pub(super) fn checkpoint_of(&self, size: u64, root: Hash) -> Option<Note> {
        let tree = Checkpoint::new(&self.origin, TreeSize(size), root).ok()?;
        tree.sign(&self.log_key).ok()
    }

    /// The node's own cosignature of a note.
    pub(super) fn cosignature(&self, note: &str) -> Option<String> {
        let note = Note::parse(note.as_bytes()).ok()?;
        let tree = Checkpoint::parse(note.text()).ok()?;
        self.cosign(&tree)
    }

    fn cosign(&self, tree: &Checkpoint) -> Option<String> {
        let time = CosignatureTime::from_seconds(now_us() / SECOND).ok()?;
        let line = cosign(tree, time, &self.name, &self.node_key).ok()?;
        Some(line.to_string())
    }

    /// A cosignature, but not of this note.
    pub(super) fn cosignature_of_another_tree(
        &self,
        dice: &mut Dice,
        note: &str,
    ) -> Option<String> {
        let note = Note::parse(note.as_bytes()).ok()?;
        let tree = Checkpoint::parse(note.text()).ok()?;
        match dice.below(4) {
            0 => Some("— noise\n".repeat(1 + below(dice, 1_000))),
            1 => Some(String::new()),
            2 => {
                let later = Checkpoint::new(&self.origin, TreeSize(tree.size().0 + 1), tree.root());
                self.cosign(&later.ok()?)
            }
            _ => {
                let other = Checkpoint::new(&self.origin, tree.size(), hash(dice));
                self.cosign(&other.ok()?)
            }
        }
    }

    /// A checkpoint of a tree that nobody has, signed by the log and cosigned by this node.
    pub(super) fn checkpoint(&self, dice: &mut Dice, tip: Option<(TreeSize, Hash)>) -> String {
        let (size, root) = tip.unwrap_or((TreeSize(1), Hash::from_bytes([1; 32])));
        let (size, root) = match dice.below(5) {
            0 => (size.0, hash(dice)),
            1 => (size.0 + 1 + dice.below(10), hash(dice)),
            2 => (size.0.saturating_sub(1 + dice.below(10)).max(1), hash(dice)),
            3 => (u64::MAX >> (1 + dice.below(8)), root),
            _ => (size.0 + dice.below(2), root),
        };
        let Some(mut note) = self.checkpoint_of(size, root) else {
            return "noise".to_owned();
        };
        let tree = Checkpoint::parse(note.text()).ok();
        let line = tree.and_then(|tree| {
            let time = CosignatureTime::from_seconds(now_us() / SECOND).ok()?;
            cosign(&tree, time, &self.name, &self.node_key).ok()
        });
        if let Some(line) = line
            && dice.percent(70)
        {
            let _ = note.add(line);
        }
        note.to_string()
    }

    /// A change of the trust policy that nobody made.
    pub(super) fn trust_step(
        &self,
        dice: &mut Dice,
        tip: Option<(TreeSize, Hash)>,
    ) -> v1::TrustStep {
        let entry = v1::ProvenEntry {
            index: dice.below(100),
            entry: self.payment().encode_to_vec(),
            path: vec![hash(dice).as_bytes().to_vec()],
        };
        v1::TrustStep {
            entry: Some(entry),
            checkpoint: self.checkpoint(dice, tip),
        }
    }

    /// A payment of the accomplice, of which rules allow three an hour.
    pub(super) fn payment(&self) -> v1::Submission {
        let agent = &self.accomplice.agent;
        let body = authorize_body(agent, self.accomplice.session, "bank/pay");
        let ask = Ask::new(Identity::Agent(agent.clone()), body);
        let input = br#"{"to":"an accomplice","amount":1}"#;
        self.signing
            .command(ask.with(v1::CompartmentKind::Input, input))
    }

    /// A good batch after what is known of the tree, with these submissions.
    pub(super) fn batch(
        &self,
        knowledge: &Knowledge,
        submissions: Vec<v1::Submission>,
    ) -> v1::Batch {
        let (size, root) = knowledge
            .tip
            .unwrap_or((TreeSize(0), Hash::from_bytes([0; 32])));
        v1::Batch {
            time_us: now_us(),
            prior_size: size.0,
            prior_root: root.as_bytes().to_vec(),
            submissions,
        }
    }

    /// The answer to a question for a decision: a yes, as the next entry of the ledger, which the log's key and this node vouch for.
    pub(super) fn yes(&self, knowledge: &Shared, question: &[u8]) -> Option<Vec<u8>> {
        let question = v1::AuthorizeRequest::decode(question).ok()?;
        let forgery = self.ledger(knowledge).forge(&question.submission?)?;
        let (size, root) = forgery.tree;
        let mut note = self.checkpoint_of(size.0, root)?;
        let tree = Checkpoint::parse(note.text()).ok()?;
        let time = CosignatureTime::from_seconds(now_us() / SECOND).ok()?;
        let line = cosign(&tree, time, &self.name, &self.node_key).ok()?;
        note.add(line).ok()?;
        *self.forged.lock().unwrap_or_else(PoisonError::into_inner) = Some(forgery.proven.clone());
        let level = if now_us().is_multiple_of(2) {
            v1::ReceiptLevel::Cosigned
        } else {
            v1::ReceiptLevel::Committed
        };
        let receipt = v1::Receipt {
            entry: Some(forgery.proven),
            checkpoint: note.to_string(),
            level: level.into(),
        };
        let answer = v1::AuthorizeResponse {
            receipt: Some(receipt),
            ..v1::AuthorizeResponse::default()
        };
        Some(answer.encode_to_vec())
    }

    /// The proof that the tree of the last forged yes goes on from an older one.
    pub(super) fn consistency(&self, knowledge: &Shared, question: &[u8]) -> Option<Vec<u8>> {
        let question = v1::GetConsistencyProofRequest::decode(question).ok()?;
        let forged = self.forged.lock().unwrap_or_else(PoisonError::into_inner);
        let forged = forged.clone()?;
        if question.new_tree_size != forged.index + 1 {
            return None;
        }
        let path = self
            .ledger(knowledge)
            .consistency(question.old_tree_size, &forged)?;
        Some(v1::GetConsistencyProofResponse { path }.encode_to_vec())
    }
}

/// A root that no tree has.
pub(super) fn hash(dice: &mut Dice) -> Hash {
    let mut bytes = [0; 32];
    for part in bytes.chunks_mut(8) {
        part.copy_from_slice(&dice.word().to_be_bytes());
    }
    Hash::from_bytes(bytes)
}

/// A number below `end`, as lengths are.
pub(super) fn below(dice: &mut Dice, end: u64) -> usize {
    usize::try_from(dice.below(end)).expect("a small number")
}
