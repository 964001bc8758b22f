//! Compiled bundles, by digest. A cache: everything in it follows from chunk entries in the ledger.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use ledger_proto::v1::{self, command::Body};
use policy_engine::{Bundle, BundleDigest, Compiled, Diagnostic};

use crate::hash::LeafIndex;
use crate::state::{Key, State, StateError, read};
use crate::{entry, ledger};

/// Most compiled bundles kept at a time. Past it, any of them makes room; it is compiled again when it is needed.
const MAX_COMPILED: usize = 256;

/// Bundles that have been compiled.
#[derive(Debug, Default)]
pub struct Policies {
    // Guards the map only: compiling happens outside, so that a slow bundle stops nobody else.
    compiled: Mutex<BTreeMap<BundleDigest, Arc<Compiled>>>,
}

impl Policies {
    /// Compiles the canonical bytes of a bundle, unless that has happened before.
    ///
    /// # Errors
    /// What keeps the bundle from being used.
    pub fn compile(&self, packed: &[u8]) -> Result<Arc<Compiled>, Vec<Diagnostic>> {
        let bundle = Bundle::from_packed(packed)?;
        if let Some(compiled) = self.cached(bundle.digest()) {
            return Ok(compiled);
        }
        let compiled = Arc::new(Compiled::compile(&bundle)?);
        let mut cache = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= MAX_COMPILED {
            cache.pop_first();
        }
        cache.insert(bundle.digest(), Arc::clone(&compiled));
        Ok(compiled)
    }

    /// The compiled form of a bundle whose publication is complete.
    pub(super) fn get(
        &self,
        state: &dyn State,
        namespace: &str,
        digest: BundleDigest,
    ) -> Result<Arc<Compiled>, StateError> {
        if let Some(compiled) = self.cached(digest) {
            return Ok(compiled);
        }
        let key = Key::bundle(namespace, &digest);
        let packed = packed_bundle(state, namespace, digest)?
            .ok_or_else(|| StateError::new(&key, "chunks of a complete bundle are missing"))?;
        self.compile(&packed).map_err(|_| {
            StateError::new(
                &key,
                "a bundle that compiled when it was published no longer does",
            )
        })
    }

    fn cached(&self, digest: BundleDigest) -> Option<Arc<Compiled>> {
        self.compiled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&digest)
            .map(Arc::clone)
    }
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
        _ => Err(StateError::new(
            &Key::entry(leaf),
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
