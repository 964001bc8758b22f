//! Compiled bundles, by digest. A cache: everything in it follows from chunk entries in the ledger.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use ledger_proto::v1::{self, command::Body};
use policy_engine::{Bundle, BundleDigest, Compiled, NoThread};

use super::history;
use crate::command::Command;
use crate::hash::LeafIndex;
use crate::limits::MAX_BUNDLE_CHUNKS;
use crate::state::{Family, Key, State, StateError, Txn, read};
use crate::{entry, ledger};

/// Most bundles kept at a time, those that do not compile included. Past it, the one whose last use is longest ago makes room;
/// it is compiled again when it is needed.
const MAX_COMPILED: usize = 256;

/// What became of a bundle; none if it cannot be used. Which it is follows from its bytes alone.
type Outcome = Option<Arc<Compiled>>;

/// Bundles that have been compiled.
#[derive(Debug, Default)]
pub(super) struct Policies {
    // Guards the map only: compiling happens outside, so that a slow bundle stops nobody else.
    compiled: Mutex<Cache>,
}

/// What has been compiled, and when it was last used: the number of the use.
#[derive(Debug, Default)]
struct Cache {
    outcomes: BTreeMap<BundleDigest, (u64, Outcome)>,
    uses: u64,
}

impl Cache {
    fn get(&mut self, digest: BundleDigest) -> Option<Outcome> {
        self.uses += 1;
        let (used, outcome) = self.outcomes.get_mut(&digest)?;
        *used = self.uses;
        Some(outcome.clone())
    }

    fn put(&mut self, digest: BundleDigest, outcome: Outcome) {
        if self.outcomes.len() >= MAX_COMPILED {
            let oldest = self.outcomes.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(oldest) = oldest.map(|(digest, _)| *digest) {
                self.outcomes.remove(&oldest);
            }
        }
        self.uses += 1;
        self.outcomes.insert(digest, (self.uses, outcome));
    }
}

impl Policies {
    /// Compiles the canonical bytes of a bundle, unless that has happened before; none if it cannot be used.
    ///
    /// # Errors
    /// [`StateError`] if there is no thread to compile on. Replicas that have one go on, so this one cannot.
    pub(super) fn compile(&self, key: &Key, packed: &[u8]) -> Result<Outcome, StateError> {
        let digest = BundleDigest::of(packed);
        if let Some(outcome) = self.cached(digest) {
            return Ok(outcome);
        }
        let outcome = match Bundle::from_packed(packed) {
            Err(_) => None,
            Ok(bundle) => Compiled::try_compile(&bundle)
                .map_err(|NoThread| {
                    let what = "there is no thread to compile a bundle on";
                    StateError::unable(key, std::io::ErrorKind::Other, what)
                })?
                .ok()
                .map(Arc::new),
        };
        self.compiled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .put(digest, outcome.clone());
        Ok(outcome)
    }

    /// The compiled form of a bundle whose publication is complete.
    pub(super) fn get(
        &self,
        state: &dyn State,
        namespace: &str,
        digest: BundleDigest,
    ) -> Result<Arc<Compiled>, StateError> {
        if let Some(Some(compiled)) = self.cached(digest) {
            return Ok(compiled);
        }
        let key = Key::bundle(namespace, &digest);
        let packed = packed_bundle(state, namespace, digest)?
            .ok_or_else(|| StateError::damaged(&key, "chunks of a complete bundle are missing"))?;
        self.compile(&key, &packed)?.ok_or_else(|| {
            StateError::damaged(
                &key,
                "a bundle that compiled when it was published no longer does",
            )
        })
    }

    /// Compiles what these submissions complete or activate. True if there was such a bundle, and all of them are compiled or
    /// known not to compile.
    pub(super) fn prepare(
        &self,
        state: &dyn State,
        pending: &[&v1::Submission],
    ) -> Result<bool, StateError> {
        let mut chunks: BTreeMap<(String, BundleDigest), BTreeMap<u32, v1::PublishBundle>> =
            BTreeMap::new();
        for submission in pending {
            let command = submission.signed.as_ref().map(Command::parse);
            let (namespace, digest, chunk) = match command.map(|parsed| parsed.map(|c| c.body)) {
                Some(Ok(Body::PublishBundle(ask))) => {
                    (ask.namespace.clone(), ask.digest.clone(), Some(ask))
                }
                Some(Ok(Body::ActivateBundle(ask))) => (ask.namespace, ask.digest, None),
                _ => continue,
            };
            let Ok(digest) = <[u8; 32]>::try_from(digest.as_slice()) else {
                continue;
            };
            let found = chunks.entry((namespace, BundleDigest(digest))).or_default();
            found.extend(chunk.map(|chunk| (chunk.chunk_index, chunk)));
        }
        let mut compiled = !chunks.is_empty();
        for ((namespace, digest), pending) in chunks {
            if self.cached(digest).is_some() {
                continue;
            }
            let packed = if pending.is_empty() {
                packed_bundle(state, &namespace, digest)?
            } else {
                join(state, &namespace, digest, &pending)?
            };
            // Without a thread nothing is lost: apply compiles, or says that it cannot.
            compiled &= packed.is_some_and(|packed| {
                self.compile(&Key::bundle(&namespace, &digest), &packed)
                    .is_ok()
            });
        }
        Ok(compiled)
    }

    /// Compiles what any namespace uses.
    pub(super) fn warm(&self, state: &dyn State) -> Result<(), StateError> {
        let txn = Txn::new(state);
        let prefix = Key::family(Family::Namespace);
        for (name, namespace) in txn.records_by_text::<v1::NamespaceRecord>(&prefix)? {
            for tracked in &namespace.tracked {
                if let Some(digest) = history::digest(&tracked.digest) {
                    self.get(state, &name, digest)?;
                }
            }
        }
        Ok(())
    }

    fn cached(&self, digest: BundleDigest) -> Option<Outcome> {
        self.compiled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(digest)
    }
}

/// The canonical bytes of a bundle from chunks that are pending and chunks that are in the ledger; none while some are in
/// neither.
fn join(
    state: &dyn State,
    namespace: &str,
    digest: BundleDigest,
    pending: &BTreeMap<u32, v1::PublishBundle>,
) -> Result<Option<Vec<u8>>, StateError> {
    let count = pending.values().map(|ask| ask.chunk_count).max();
    let mut packed = Vec::new();
    for chunk in 0..count
        .filter(|count| *count <= MAX_BUNDLE_CHUNKS)
        .unwrap_or(0)
    {
        if let Some(ask) = pending.get(&chunk) {
            packed.extend_from_slice(&ask.chunk);
            continue;
        }
        let key = Key::bundle_chunk(namespace, &digest, chunk);
        let Some(leaf) = read::<v1::LeafRecord>(state, &key)? else {
            return Ok(None);
        };
        packed.extend_from_slice(&chunk_bytes(state, LeafIndex(leaf.leaf))?);
    }
    Ok(Some(packed).filter(|packed| !packed.is_empty()))
}

/// The canonical bytes of a bundle, put together from its chunk entries; none while chunks are missing.
///
/// # Errors
/// [`StateError`] if the state is damaged.
pub(crate) fn packed_bundle(
    state: &dyn State,
    namespace: &str,
    digest: BundleDigest,
) -> Result<Option<Vec<u8>>, StateError> {
    let Some(leaves) = chunk_leaves(state, namespace, digest)? else {
        return Ok(None);
    };
    let mut packed = Vec::new();
    for leaf in leaves {
        packed.extend_from_slice(&chunk_bytes(state, leaf)?);
    }
    Ok(Some(packed))
}

/// The chunk that the entry at a leaf published.
pub(super) fn chunk_bytes(state: &dyn State, leaf: LeafIndex) -> Result<Vec<u8>, StateError> {
    let command = ledger::entry(state, leaf)?
        .as_ref()
        .and_then(|entry| entry::command(entry).ok().flatten())
        .and_then(|command| command.body);
    match command {
        Some(Body::PublishBundle(chunk)) => Ok(chunk.chunk),
        _ => Err(StateError::damaged(
            Key::entry(leaf),
            "not a chunk of a bundle",
        )),
    }
}

/// The leaves of a bundle's chunks in order; none while chunks are missing.
///
/// # Errors
/// [`StateError`] if the state is damaged.
pub(crate) fn chunk_leaves(
    state: &dyn State,
    namespace: &str,
    digest: BundleDigest,
) -> Result<Option<Vec<LeafIndex>>, StateError> {
    let Some(record) = read::<v1::BundleRecord>(state, &Key::bundle(namespace, &digest))? else {
        return Ok(None);
    };
    let mut leaves = Vec::new();
    for chunk in 0..record.chunk_count {
        let Some(leaf) =
            read::<v1::LeafRecord>(state, &Key::bundle_chunk(namespace, &digest, chunk))?
        else {
            return Ok(None);
        };
        leaves.push(LeafIndex(leaf.leaf));
    }
    Ok(Some(leaves))
}
