//! Cosigning: this node's word that a tree is the one it computed, and the collection of such words until they meet the trust
//! policy.
//!
//! A node signs only a root that it computed itself from what it applied, only for a larger tree than before, and only after
//! that fact is durable in its marker. So however it crashes, it never vouches for two histories. A node that began with a
//! copy of another's state signs nothing until most of the others have attested the same state.

mod ahead;
pub mod attested;
mod collect;
mod conditions;
mod copied;
mod kept;
mod lacking;
mod policies;
mod steps;
#[cfg(test)]
mod test_ledger;
#[cfg(test)]
mod tests;
mod witness_client;
mod witnesses;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ledger_core::evidence::StateTiles;
use ledger_core::hash::{Hash, TreeSize};
use ledger_core::machine::Tip;
use ledger_core::note::checkpoint::Checkpoint;
use ledger_core::note::cosignature::{CosignatureTime, cosign};
use ledger_core::note::signed_note::Note;
use ledger_core::note::verify::verify_checkpoint;
use ledger_core::signer::Signer;
use ledger_core::state::{Key, read};
use ledger_core::tree::proof::Prover;
use ledger_proto::v1;
use tokio::sync::{Notify, watch};

use ahead::Ahead;
pub use copied::check_copied;
pub(crate) use kept::{carried_together, kept_page};
pub(crate) use policies::TrustPolicies;
use witnesses::Witnesses;

use crate::apply::receipts::Notary;
use crate::apply::suspicion::Suspicion;
use crate::clock::Clock;
use crate::cosign::attested::not_cosigning;
use crate::fatal::{FIND_OUT, Fatal, disk};
use crate::raft::flusher::Flusher;
use crate::raft::peers::Peers;
use crate::raft::standing::Standing;
use crate::seldom::Seldom;
use crate::storage::marker::{MarkedTree, Marker, MarkerError};
use crate::storage::view::StoreState;
use crate::storage::{Batch, Store};

/// How long a checkpoint to cosign may be ahead of what is applied here, and its leader of what this node follows, before it is refused.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two complaints about peers that ask for cosignatures of other trees: some ask without end.
const COMPLAINTS: Duration = Duration::from_secs(10);

/// A checkpoint that meets the trust policy.
#[derive(Debug, Clone)]
pub struct Cosigned {
    /// The size of its tree.
    pub size: TreeSize,
    /// The note.
    pub note: Arc<str>,
}

/// What the cosigner works with.
#[expect(
    missing_debug_implementations,
    reason = "it holds a signer, which shows nothing of itself"
)]
pub struct Parts {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Signs with the log key.
    pub notary: Arc<Notary>,
    /// This node's key.
    pub signer: Arc<dyn Signer + Send + Sync>,
    /// This node's name as a cosigner.
    pub name: String,
    /// Remembers what was signed.
    pub marker: Arc<Marker>,
    /// Makes what was applied durable first.
    pub flusher: Flusher,
    /// What was applied.
    pub tip: watch::Receiver<Tip>,
    /// Who leads.
    pub standing: watch::Receiver<Standing>,
    /// The peers.
    pub peers: Arc<Peers>,
    /// Whether this node doubts its tree.
    pub suspicion: Arc<Suspicion>,
    /// This node's clock.
    pub clock: Arc<dyn Clock>,
    /// Stops the node.
    pub fatal: Fatal,
}

/// Cosigns and collects.
pub struct Cosigner {
    parts: Parts,
    /// Held while signing, so that two requests cannot both be the larger one.
    signing: tokio::sync::Mutex<()>,
    latest: watch::Sender<Option<Cosigned>>,
    ahead: watch::Sender<Ahead>,
    wanted: Wanted,
    wake: Notify,
    /// What the last round of collecting lacked, in one sentence.
    lacking: watch::Sender<Option<String>>,
    witnesses: Witnesses,
    /// About peers that ask for cosignatures of other trees.
    complaints: Seldom,
}

/// The largest tree that somebody waits for. It is never lowered, and anybody may ask for anything.
#[derive(Debug, Default)]
struct Wanted(AtomicU64);

impl Wanted {
    /// Raises it, at most to the tree that is there. True if it was less before: whoever asks again hurries nobody.
    fn raise(&self, size: TreeSize, there: TreeSize) -> bool {
        let size = size.min(there).0;
        self.0.fetch_max(size, Ordering::AcqRel) < size
    }

    fn size(&self) -> TreeSize {
        TreeSize(self.0.load(Ordering::Acquire))
    }
}

impl std::fmt::Debug for Cosigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cosigner")
            .field("name", &self.parts.name)
            .finish_non_exhaustive()
    }
}

impl Cosigner {
    /// Begins with the newest cosigned checkpoint in the store.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn new(parts: Parts) -> std::io::Result<Self> {
        let latest = kept::newest(&*parts.store)?;
        let cosigner = Self {
            parts,
            signing: tokio::sync::Mutex::default(),
            latest: watch::Sender::new(latest),
            ahead: watch::Sender::new(Ahead::default()),
            wanted: Wanted::default(),
            wake: Notify::new(),
            lacking: watch::Sender::new(None),
            witnesses: Witnesses::default(),
            complaints: Seldom::new(COMPLAINTS),
        };
        cosigner.compare_newest()?;
        Ok(cosigner)
    }

    /// Compares the newest cosigned checkpoint with the tree that is here, which could have been damaged since.
    fn compare_newest(&self) -> std::io::Result<()> {
        let Some(newest) = self.latest.borrow().clone() else {
            return Ok(());
        };
        let note = Note::parse(newest.note.as_bytes()).map_err(std::io::Error::other)?;
        let checkpoint = Checkpoint::parse(note.text()).map_err(std::io::Error::other)?;
        // It has stopped the node if they differ.
        if self.must_have_root(&checkpoint).is_ok() {
            self.parts.suspicion.confirm(newest.size);
        }
        Ok(())
    }

    /// The newest checkpoint that meets the trust policy, as it moves.
    #[must_use]
    pub fn latest(&self) -> watch::Receiver<Option<Cosigned>> {
        self.latest.subscribe()
    }

    /// The largest size that this node has signed.
    #[must_use]
    pub fn signed(&self) -> TreeSize {
        let signed = self.parts.marker.read().cosigned;
        signed.map_or(TreeSize(0), |tree| tree.size)
    }

    /// The newest checkpoint that this node keeps with a cosignature in another node's name; the signature is not checked.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn newest_by(&self, node: u64) -> std::io::Result<Option<String>> {
        let store = &*self.parts.store;
        let record: Option<v1::NodeRecord> =
            read(&StoreState(store), &Key::node(node)).map_err(std::io::Error::from)?;
        match record.and_then(|record| record.card) {
            Some(card) => kept::newest_by(store, &card.name),
            None => Ok(None),
        }
    }

    /// Somebody waits for a tree of this size. What has not been applied here cannot be asked for: the next tree is collected,
    /// and sent to all, without anybody asking.
    pub fn want(&self, size: TreeSize) {
        if self.wanted.raise(size, self.parts.tip.borrow().size) {
            self.wake.notify_one();
        }
    }

    /// Cosigns a checkpoint with the log's signature for a node, this one included, or says why not.
    ///
    /// # Errors
    /// One sentence.
    pub async fn cosign(&self, note: &str, asked_by: u64) -> Result<String, String> {
        let parts = &self.parts;
        if let Some(why) = parts.peers.participation.why_not() {
            return Err(why);
        }
        self.must_be_followed(asked_by).await?;
        let checkpoint = self.check_log_signature(note)?;
        let (size, root) = (checkpoint.size(), checkpoint.root());
        self.wait_applied(size).await?;
        self.must_be_of_now(size)?;
        self.must_be_another_leader(asked_by)?;
        let not_cosigning = not_cosigning(&*parts.store, parts.peers.node_id);
        if let Some(why) = not_cosigning.map_err(|error| error.to_string())? {
            return Err(why);
        }
        if self.root_at(size).map_err(|error| error.to_string())? != root {
            return Err(self.disagree(size, asked_by));
        }
        let _signing = self.signing.lock().await;
        let last = parts.marker.read().cosigned;
        match last {
            Some(last) if last.size > size => {
                return Err(format!("size {} was cosigned before", last.size));
            }
            Some(last) if last.size == size && last.root != root => {
                return Err("another root was cosigned for this size".to_owned());
            }
            Some(last) if last.size == size => {}
            _ => {
                // What was applied must not be forgotten once it is vouched for.
                let durable = parts.flusher.barrier().await;
                durable.map_err(|error| error.to_string())?;
                let marker = Arc::clone(&parts.marker);
                let marked = MarkedTree { size, root };
                // The commit point of a cosignature.
                let fatal = parts.fatal.clone();
                tokio::task::spawn_blocking(move || {
                    let updated = marker.update(|record| record.cosigned = Some(marked));
                    updated.map_err(|error| not_marked(&fatal, error))
                })
                .await
                .map_err(|error| error.to_string())??;
            }
        }
        let time = CosignatureTime::from_seconds(parts.clock.now_us() / 1_000_000)
            .map_err(|error| error.to_string())?;
        let signature = cosign(&checkpoint, time, &parts.name, &*parts.signer)
            .map_err(|error| error.to_string())?;
        Ok(signature.to_string())
    }

    /// Somebody asks to cosign another root than this node computed. One node's word says nothing about which of the two is
    /// wrong: a node that stopped over it could be stopped by any other that is damaged or lies. What stops it is a quorum's
    /// word, in a checkpoint, in the states that the ledger has attested, or in what is committed; and its own.
    fn disagree(&self, size: TreeSize, asked_by: u64) -> String {
        let parts = &self.parts;
        if asked_by == parts.peers.node_id {
            parts.fatal.stop(format!(
                "this node has computed two roots for size {size}: it is damaged. Run fsck, keep its disk, and let it join under a new node id"
            ));
        } else if self.complaints.may_say() {
            tracing::error!(
                node_id = asked_by,
                %size,
                "a peer asks to cosign another root than this node computed: one of the two is damaged, or has lost what the other holds. Keep both disks, run fsck on both, and compare the newest checkpoints of all nodes with those that clients and evidence remember, before one is replaced under a new node id"
            );
        }
        "the root is another one".to_owned()
    }

    /// Keeps a checkpoint that meets the trust policy, or puts it off until its tree is here.
    ///
    /// # Errors
    /// It does not, or it cannot be kept.
    pub fn put(&self, note: &str) -> Result<(), String> {
        let parsed = Note::parse(note.as_bytes()).map_err(|error| error.to_string())?;
        let checkpoint = Checkpoint::parse(parsed.text()).map_err(|error| error.to_string())?;
        let size = checkpoint.size();
        if size > self.parts.tip.borrow().size {
            return self.put_off(note, size);
        }
        self.must_meet_policy(note, size)?;
        self.must_have_root(&checkpoint)?;
        let kept = kept::to_keep(&*self.parts.store, note, size);
        self.write(&kept.map_err(|error| error.to_string())?)?;
        self.parts.suspicion.confirm(size);
        self.latest.send_if_modified(|latest| {
            let newer = latest.as_ref().is_none_or(|latest| latest.size < size);
            if newer {
                *latest = Some(Cosigned {
                    size,
                    note: note.into(),
                });
            }
            newer
        });
        Ok(())
    }

    /// Compares a checkpoint that a quorum has cosigned with the tree that was computed here, and stops the node if they differ.
    fn must_have_root(&self, checkpoint: &Checkpoint) -> Result<(), String> {
        let size = checkpoint.size();
        if self.root_at(size).map_err(|error| error.to_string())? == checkpoint.root() {
            return Ok(());
        }
        self.parts.fatal.stop(format!(
            "a quorum has cosigned another root than this node computed for size {size}: either this node is damaged, or the others have lost what it holds and have written something else; {FIND_OUT}"
        ));
        Err("the root is another one".to_owned())
    }

    /// Checks a checkpoint against the trust policy in force for a tree of this size.
    fn must_meet_policy(&self, note: &str, size: TreeSize) -> Result<(), String> {
        let state = StoreState(&*self.parts.store);
        let policy = TrustPolicies::read(&state, size)
            .and_then(|policies| policies.in_force())
            .map_err(|error| error.to_string())?;
        let verified = verify_checkpoint(note.as_bytes(), &policy);
        verified.map(drop).map_err(|error| error.to_string())
    }

    /// Writes to the store, or stops the node: what comes after a failed write could not be relied on.
    fn write(&self, batch: &Batch) -> Result<(), String> {
        self.parts.store.write(batch).map_err(|error| {
            let what = "a cosigned checkpoint cannot be written";
            self.parts.fatal.stop(disk(what, &error));
            error.to_string()
        })
    }

    async fn wait_applied(&self, size: TreeSize) -> Result<(), String> {
        let mut tip = self.parts.tip.clone();
        let enough = tip.wait_for(|tip| tip.size >= size);
        let applied = tokio::time::timeout(PATIENCE, enough).await.is_ok();
        if applied {
            Ok(())
        } else {
            Err(format!("size {size} has not been applied here yet"))
        }
    }

    fn root_at(&self, size: TreeSize) -> std::io::Result<Hash> {
        let tip = *self.parts.tip.borrow();
        if tip.size == size {
            return Ok(tip.root);
        }
        let state = StoreState(&*self.parts.store);
        let tiles = StateTiles(&state);
        Prover::new(&tiles, self.parts.notary.tree_hash(), size)
            .root()
            .map_err(std::io::Error::from)
    }
}

/// What the peer is told; this node stops unless its marker only refused to take something back. Called where the marker is
/// written, because the peer may have hung up.
fn not_marked(fatal: &Fatal, error: MarkerError) -> String {
    let text = error.to_string();
    if !matches!(error, MarkerError::Back(_)) {
        fatal.stop(disk("the marker cannot be written", &error.into()));
    }
    text
}
