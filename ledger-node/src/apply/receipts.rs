//! Receipts: one signed checkpoint and one walk over the tree for all callers that a batch answers.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use ledger_core::evidence::StateTiles;
use ledger_core::hash::{LeafIndex, TreeHash};
use ledger_core::ledger;
use ledger_core::machine::{Liveness, Tip};
use ledger_core::note::checkpoint::Checkpoint;
use ledger_core::signer::Signer;
use ledger_core::tree::proof::Prover;
use ledger_proto::v1;

use super::waiters::{Caller, Outcome};
use crate::failure::{Answer, Failure};
use crate::fatal::Fatal;
use crate::storage::Store;
use crate::storage::view::StoreState;
use crate::worker::{self, Worker};

/// A command that is in the ledger.
#[derive(Debug, Clone)]
pub struct Submitted {
    /// Where its entry is.
    pub index: LeafIndex,
    /// Set if the entry is of an earlier call with the same bytes: what holds now.
    pub replayed: Option<Liveness>,
    /// The entry, proven to `checkpoint`.
    pub entry: v1::ProvenEntry,
    /// A signed note; shared by all that were proven to it.
    pub checkpoint: Arc<str>,
    /// What the checkpoint is worth.
    pub level: v1::ReceiptLevel,
}

/// A caller and what became of its command.
pub type Answered = (Caller, Outcome);

/// Callers that one apply answers, and the ledger after it.
#[derive(Debug)]
pub struct Answers {
    /// Where the ledger ends.
    pub tip: Tip,
    /// The callers.
    pub callers: Vec<Answered>,
}

/// Signs and proves.
pub struct Notary {
    store: Arc<dyn Store>,
    origin: String,
    log: Arc<dyn Signer + Send + Sync>,
}

impl std::fmt::Debug for Notary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notary")
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

impl Notary {
    /// For a ledger, with its log key.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, origin: &str, log: Arc<dyn Signer + Send + Sync>) -> Self {
        Self {
            store,
            origin: origin.to_owned(),
            log,
        }
    }

    /// A checkpoint with the log's signature: this node's word, no more.
    ///
    /// # Errors
    /// The origin cannot name a checkpoint, which the genesis rules out.
    pub fn sign(&self, tip: &Tip) -> Answer<Arc<str>> {
        let internal = |what: String| Failure::new(v1::ErrorReason::Internal, what);
        let checkpoint = Checkpoint::new(&self.origin, tip.size, tip.root)
            .map_err(|error| internal(error.to_string()))?;
        let note = checkpoint
            .sign(&*self.log)
            .map_err(|error| internal(error.to_string()))?;
        Ok(note.to_string().into())
    }

    /// A prover for a size of the tree that has been applied.
    #[must_use]
    pub fn tree_hash(&self) -> TreeHash {
        TreeHash::of_origin(&self.origin)
    }

    /// Starts the thread that answers callers.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(self: Arc<Self>, fatal: &Fatal) -> io::Result<Sender<Answers>> {
        let (sender, waiting) = channel();
        let lifetime = fatal.lifetime(Worker::Answerer);
        std::thread::Builder::new()
            .name("receipts".to_owned())
            .spawn(move || {
                self.run(&waiting);
                lifetime.release();
            })?;
        Ok(sender)
    }

    fn run(&self, waiting: &Receiver<Answers>) {
        while let Ok(answers) = waiting.recv() {
            worker::strike(Worker::Answerer);
            let state = StoreState(&*self.store);
            let tiles = StateTiles(&state);
            let mut prover = Prover::new(&tiles, self.tree_hash(), answers.tip.size);
            let checkpoint = self.sign(&answers.tip);
            for (caller, outcome) in answers.callers {
                let answer = self.answer(&mut prover, &checkpoint, outcome);
                // Nobody may wait any more.
                let _ = caller.send(answer);
            }
        }
    }

    fn answer(
        &self,
        prover: &mut Prover<'_, StateTiles<'_>>,
        checkpoint: &Answer<Arc<str>>,
        outcome: Outcome,
    ) -> Answer<Submitted> {
        let (index, replayed) = match outcome {
            Outcome::Appended(index) => (index, None),
            Outcome::Replayed(index, now) => (index, Some(now)),
            Outcome::Refused(refusal) => return Err(refusal.into()),
        };
        // There is an entry: whatever fails from here on has not undone it.
        Ok(Submitted {
            index,
            replayed,
            entry: self.prove(prover, index).map_err(Failure::once_brought)?,
            checkpoint: checkpoint.clone().map_err(Failure::once_brought)?,
            level: v1::ReceiptLevel::Committed,
        })
    }

    /// An entry with its proof.
    ///
    /// # Errors
    /// The store cannot be read, or is damaged.
    pub fn prove(
        &self,
        prover: &mut Prover<'_, StateTiles<'_>>,
        index: LeafIndex,
    ) -> Answer<v1::ProvenEntry> {
        let damaged = || {
            Failure::new(
                v1::ErrorReason::DataDamaged,
                format!("entry {index} or its proof is missing on this node; ask another node"),
            )
        };
        let entry = ledger::entry_bytes(&StoreState(&*self.store), index)?.ok_or_else(damaged)?;
        let path = prover.inclusion(index).map_err(|error| {
            tracing::error!(%error, index = index.0, "cannot prove an entry");
            damaged()
        })?;
        Ok(v1::ProvenEntry {
            index: index.0,
            entry,
            path: path.iter().map(|hash| hash.as_bytes().to_vec()).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use ledger_core::hash::TreeSize;
    use ledger_core::machine::{Liveness, Refusal};
    use ledger_proto::v1::{CallOutcome, ErrorReason};

    use super::*;
    use crate::storage::memory::MemoryStore;

    #[test]
    fn an_entry_that_cannot_be_proven_is_not_said_to_be_nothing() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let log = Arc::new(SigningKey::from_bytes(&[7; 32]));
        let notary = Notary::new(Arc::clone(&store), "ledger.test/damaged", log);
        let state = StoreState(&*store);
        let tiles = StateTiles(&state);
        let mut prover = Prover::new(&tiles, notary.tree_hash(), TreeSize(1));
        let checkpoint: Answer<Arc<str>> = Ok("".into());
        let mut fails = |outcome| {
            let answer = notary.answer(&mut prover, &checkpoint, outcome);
            answer.unwrap_err()
        };
        let now = Liveness {
            time_us: 1,
            permit_lives: false,
            agent_active: true,
            session_open: true,
            halted: false,
            redeemed: false,
        };
        let leaf = LeafIndex(0);
        for outcome in [Outcome::Appended(leaf), Outcome::Replayed(leaf, now)] {
            let failure = fails(outcome);
            assert_eq!(failure.reason, ErrorReason::Undetermined, "{failure:?}");
            assert!(failure.message.contains("is missing on this node"));
        }
        let refused = fails(Outcome::Refused(Refusal::Stale));
        let outcome = refused.to_call_error().outcome();
        assert_eq!(outcome, CallOutcome::Nothing, "{refused:?}");
    }
}
