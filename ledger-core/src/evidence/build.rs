//! Building receipts and evidence from the ledger.

use std::collections::BTreeSet;

use ledger_proto::v1::{self, CompartmentKind, entry::Body, evidence::Subject};
use thiserror::Error;

use crate::hash::{Hash, LeafIndex, TreeHash};
use crate::id::SessionId;
use crate::machine::chunk_leaves;
use crate::note::checkpoint::{Checkpoint, CheckpointError};
use crate::note::signed_note::{Note, NoteError};
use crate::state::{Family, Key, State, StateError, read};
use crate::tree::proof::{ProveError, Prover, ReadError, TileReader};
use crate::tree::tile::{TILE_WIDTH, Tile};
use crate::{entry, ledger};

/// Why evidence cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BuildError {
    /// There is no such decision or session.
    #[error("there is no {0} to prove")]
    NotFound(&'static str),
    /// The checkpoint is older than what is to be proven.
    #[error(
        "entry {index} is not covered by a checkpoint of size {size} yet; wait for the next checkpoint"
    )]
    NotCovered {
        /// The leaf.
        index: u64,
        /// The size of the checkpoint.
        size: u64,
    },
    /// The session has not ended.
    #[error("the session has not ended; close it, or wait for its expiry")]
    SessionOpen,
    /// The checkpoint does not parse.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The checkpoint does not parse.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Tiles are missing.
    #[error(transparent)]
    Proof(#[from] ProveError),
    /// The state cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Tiles of the tree, read from the state.
#[derive(Clone, Copy)]
pub struct StateTiles<'s>(pub &'s dyn State);

impl std::fmt::Debug for StateTiles<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StateTiles")
    }
}

impl TileReader for StateTiles<'_> {
    fn read_tile(&self, tile: &Tile) -> Result<Vec<Hash>, ReadError> {
        let unreadable = |error: StateError| ReadError::Unreadable {
            tile: *tile,
            kind: error.kind,
            reason: error.to_string(),
        };
        let first = tile.index() * u64::from(TILE_WIDTH);
        let first_key = Key::tile_hash(tile.level(), first);
        // Keys of one row are in the order of their indexes, so a tile is one run of keys.
        let mut hashes = match self.0.get(first_key.as_bytes()).map_err(unreadable)? {
            Some(hash) => vec![hash],
            None => return Err(ReadError::Missing(*tile)),
        };
        let row = Key::tile_row(tile.level());
        let rest = usize::from(tile.width()).saturating_sub(1);
        let page = self
            .0
            .scan(row.as_bytes(), Some(first_key.as_bytes()), rest);
        hashes.extend(page.map_err(unreadable)?.into_iter().map(|(_, hash)| hash));
        if hashes.len() < usize::from(tile.width()) {
            return Err(ReadError::Missing(*tile));
        }
        let parsed: Option<Vec<Hash>> = hashes.iter().map(|hash| Hash::from_slice(hash)).collect();
        parsed.ok_or_else(|| {
            unreadable(StateError::damaged(
                &first_key,
                "a hash does not have 32 bytes",
            ))
        })
    }
}

/// What evidence is built from.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// The ledger.
    pub state: &'a dyn State,
    /// A signed checkpoint that covers everything to be proven.
    pub checkpoint: &'a str,
    /// For each change of the trust policy after the verifier's epoch, ascending: the epoch that began with it, and the
    /// checkpoint that carries it, alone or together with neighbours that have the same.
    pub trust_checkpoints: &'a [(u64, String)],
    /// Which compartments to hand out. Who may see them is the caller's to decide.
    pub compartments: &'a [CompartmentKind],
}

impl std::fmt::Debug for Sources<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources")
            .field("checkpoint", &self.checkpoint)
            .finish_non_exhaustive()
    }
}

/// A receipt for one entry, at whatever level the checkpoint gives it.
///
/// # Errors
/// [`BuildError`]
pub fn receipt(
    state: &dyn State,
    index: LeafIndex,
    checkpoint: &str,
    level: v1::ReceiptLevel,
) -> Result<v1::Receipt, BuildError> {
    let mut proven = prove_all(state, checkpoint, &BTreeSet::from([index.0]))?;
    Ok(v1::Receipt {
        entry: proven.pop(),
        checkpoint: checkpoint.to_owned(),
        level: level.into(),
    })
}

/// Evidence for one decision: the decision, what it rests on, the bundle that decided, its redemption, and its first outcome.
///
/// # Errors
/// [`BuildError`]
pub fn decision(sources: Sources<'_>, index: LeafIndex) -> Result<v1::Evidence, BuildError> {
    let state = sources.state;
    let found = ledger::entry(state, index)?.ok_or(BuildError::NotFound("decision"))?;
    let Some(Body::Decision(decision)) = &found.body else {
        return Err(BuildError::NotFound("decision"));
    };
    let mut leaves = BTreeSet::from([index.0]);
    if let Some(rests_on) = &decision.rests_on {
        leaves.extend(
            [
                rests_on.agent,
                rests_on.gateway,
                rests_on.session,
                rests_on.activation,
            ]
            .into_iter()
            .flatten(),
        );
        leaves.extend(&rests_on.keys);
    }
    if let Ok(digest) = decision.bundle_digest.as_slice().try_into() {
        let digest = policy_engine::BundleDigest(digest);
        leaves.extend(
            chunk_leaves(state, &decision.namespace, digest)?
                .into_iter()
                .flatten()
                .map(|leaf| leaf.0),
        );
    }
    let size = size_of(sources.checkpoint)?;
    let outcome: Option<v1::LeafRecord> = read(state, &Key::outcome_of(index))?;
    // An outcome may be newer than the checkpoint; the decision can be proven without it.
    leaves.extend(
        outcome
            .map(|outcome| outcome.leaf)
            .filter(|leaf| *leaf < size),
    );
    leaves.extend(redemption_leaves(state, index, size)?);
    assemble(sources, Subject::Decision(index.0), &leaves)
}

/// The redemption of a decision, if it is within the checkpoint, and the enrolments of the keys that signed it.
fn redemption_leaves(
    state: &dyn State,
    decision: LeafIndex,
    size: u64,
) -> Result<Vec<u64>, BuildError> {
    let record: Option<v1::LeafRecord> = read(state, &Key::redemption_of(decision))?;
    let Some(leaf) = record.map(|record| record.leaf).filter(|leaf| *leaf < size) else {
        return Ok(Vec::new());
    };
    let found = ledger::entry(state, LeafIndex(leaf))?;
    let Some(Body::Redemption(redemption)) = found.and_then(|found| found.body) else {
        return Ok(Vec::new());
    };
    let mut leaves = redemption.keys;
    leaves.push(leaf);
    Ok(leaves)
}

/// Evidence for a session that has ended: every entry of its chain. `leaves` are the session's entries; those outside the
/// chain are left out.
///
/// # Errors
/// [`BuildError`]
pub fn session(
    sources: Sources<'_>,
    id: SessionId,
    leaves: &[LeafIndex],
) -> Result<v1::Evidence, BuildError> {
    let record: Option<v1::SessionRecord> = read(sources.state, &Key::session(id))?;
    let record = record.ok_or(BuildError::NotFound("session"))?;
    if record.end_kind() == v1::SessionEndKind::Unspecified {
        return Err(BuildError::SessionOpen);
    }
    let mut chain = BTreeSet::new();
    for leaf in leaves {
        let Some(found) = ledger::entry(sources.state, *leaf)? else {
            continue;
        };
        let in_chain = match &found.body {
            Some(Body::SessionEnd(end)) => end.result() == v1::Result::Applied,
            _ => entry::chain(&found).is_some_and(|link| !link.late),
        };
        if in_chain && entry::session(&found) == Some(id) {
            chain.insert(leaf.0);
        }
    }
    assemble(sources, Subject::Session(id.to_vec()), &chain)
}

/// The entries that name a session, found by reading the whole ledger: O(entries). A node keeps an index instead.
///
/// # Errors
/// [`StateError`] if the state cannot be read.
pub fn session_leaves(state: &dyn State, id: SessionId) -> Result<Vec<LeafIndex>, StateError> {
    let prefix = Key::family(Family::Entry);
    let mut leaves = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = state.scan(prefix.as_bytes(), after.as_deref(), 1_024)?;
        for (_, bytes) in &page {
            let found = entry::decode(bytes)
                .ok()
                .filter(|found| entry::session(found) == Some(id));
            leaves.extend(found.map(|found| LeafIndex(found.index)));
        }
        let Some((last, _)) = page.into_iter().last() else {
            return Ok(leaves);
        };
        after = Some(last);
    }
}

fn assemble(
    sources: Sources<'_>,
    subject: Subject,
    leaves: &BTreeSet<u64>,
) -> Result<v1::Evidence, BuildError> {
    let state = sources.state;
    let ledger: v1::LedgerRecord =
        read(state, &Key::ledger())?.ok_or(BuildError::NotFound("ledger"))?;
    let mut compartments = Vec::new();
    for leaf in leaves {
        let kinds: BTreeSet<CompartmentKind> = sources.compartments.iter().copied().collect();
        for kind in kinds {
            let compartment: Option<v1::Compartment> =
                read(state, &Key::compartment(LeafIndex(*leaf), kind))?;
            compartments.extend(compartment.map(|stored| v1::OpenedCompartment {
                index: *leaf,
                compartment: Some(stored),
            }));
        }
    }
    Ok(v1::Evidence {
        origin: ledger.origin,
        subject: Some(subject),
        entries: prove_all(state, sources.checkpoint, leaves)?,
        checkpoint: sources.checkpoint.to_owned(),
        trust_steps: trust_steps(state, sources.trust_checkpoints)?,
        compartments,
    })
}

/// The changes of the trust policy that began these epochs, each proven to the checkpoint that carries it.
///
/// # Errors
/// [`BuildError`]
pub fn trust_steps(
    state: &dyn State,
    checkpoints: &[(u64, String)],
) -> Result<Vec<v1::TrustStep>, BuildError> {
    let steps = checkpoints.iter().map(|(epoch, checkpoint)| {
        let record: v1::TrustRecord =
            read(state, &Key::trust(*epoch))?.ok_or(BuildError::NotFound("trust epoch"))?;
        let entry = prove_all(state, checkpoint, &BTreeSet::from([record.leaf]))?.pop();
        Ok(v1::TrustStep {
            entry,
            checkpoint: checkpoint.clone(),
        })
    });
    steps.collect()
}

fn size_of(checkpoint: &str) -> Result<u64, BuildError> {
    let note = Note::parse(checkpoint.as_bytes())?;
    Ok(Checkpoint::parse(note.text())?.size().0)
}

/// Entries with their proofs, ascending.
fn prove_all(
    state: &dyn State,
    checkpoint: &str,
    leaves: &BTreeSet<u64>,
) -> Result<Vec<v1::ProvenEntry>, BuildError> {
    let note = Note::parse(checkpoint.as_bytes())?;
    let checkpoint = Checkpoint::parse(note.text())?;
    let tiles = StateTiles(state);
    let mut prover = Prover::new(
        &tiles,
        TreeHash::of_origin(checkpoint.origin()),
        checkpoint.size(),
    );
    let mut proven = Vec::with_capacity(leaves.len());
    for leaf in leaves {
        if !checkpoint.size().contains(LeafIndex(*leaf)) {
            return Err(BuildError::NotCovered {
                index: *leaf,
                size: checkpoint.size().0,
            });
        }
        let entry =
            ledger::entry_bytes(state, LeafIndex(*leaf))?.ok_or(BuildError::NotFound("entry"))?;
        let path = prover.inclusion(LeafIndex(*leaf))?;
        proven.push(v1::ProvenEntry {
            index: *leaf,
            entry,
            path: path.iter().map(|hash| hash.as_bytes().to_vec()).collect(),
        });
    }
    Ok(proven)
}
