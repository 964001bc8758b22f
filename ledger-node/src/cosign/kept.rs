//! What a node keeps of cosigned checkpoints: the newest, and for each change of the trust policy one that carries it.

use std::collections::BTreeSet;
use std::io;

use ledger_core::hash::TreeSize;
use ledger_core::note::signed_note::Note;

use super::{Cosigned, TrustPolicies};
use crate::storage::view::StoreState;
use crate::storage::{Batch, Direction, Pair, Store, Table, meta, scan};

/// Cosigned checkpoints that are kept, besides those of trust steps.
const MAX_KEPT: usize = 64;

/// The newest.
pub(super) fn newest(store: &dyn Store) -> io::Result<Option<Cosigned>> {
    let Some((key, note)) = largest(store, 1)?.into_iter().next() else {
        return Ok(None);
    };
    let size = key
        .last_chunk::<8>()
        .map(|size| TreeSize(u64::from_be_bytes(*size)))
        .ok_or_else(|| io::Error::other("a checkpoint without a size"))?;
    let note = String::from_utf8(note).map_err(io::Error::other)?;
    Ok(Some(Cosigned {
        size,
        note: note.into(),
    }))
}

/// What is written to keep a checkpoint, and the steps of the trust policy that it carries.
pub(super) fn to_keep(store: &dyn Store, note: &str, size: TreeSize) -> io::Result<Batch> {
    let mut batch = Batch::new();
    batch.put(Table::Meta, meta::checkpoint_key(size.0), note);
    let state = StoreState(store);
    let policies = TrustPolicies::read(&state, size)?;
    for epoch in open_steps(store, &policies)? {
        let step = policies.step(epoch)?;
        if step.is_some_and(|step| step.must_be_carried_by(note).is_ok()) {
            batch.put(Table::Meta, meta::trust_step_key(epoch), note);
        }
    }
    for (old, _) in largest(store, MAX_KEPT + 8)?.into_iter().skip(MAX_KEPT) {
        batch.delete(Table::Meta, old);
    }
    Ok(batch)
}

/// Epochs whose step no checkpoint carries yet.
pub(super) fn open_steps(
    store: &dyn Store,
    policies: &TrustPolicies<'_>,
) -> io::Result<BTreeSet<u64>> {
    let mut open = BTreeSet::new();
    for epoch in 1..=policies.epoch() {
        let key = meta::trust_step_key(epoch);
        if store.get(Table::Meta, &key)?.is_none() {
            open.insert(epoch);
        }
    }
    Ok(open)
}

/// The newest kept checkpoint with a signature line of this name.
pub(super) fn newest_by(store: &dyn Store, name: &str) -> io::Result<Option<String>> {
    for (_, note) in largest(store, MAX_KEPT + 8)? {
        let signed = Note::parse(&note)
            .is_ok_and(|note| note.signatures().iter().any(|line| line.name() == name));
        if signed {
            return String::from_utf8(note).map(Some).map_err(io::Error::other);
        }
    }
    Ok(None)
}

/// Kept checkpoints, the largest first.
fn largest(store: &dyn Store, limit: usize) -> io::Result<Vec<Pair>> {
    let (prefix, direction) = (meta::CHECKPOINT, Direction::Descending);
    scan(store, Table::Meta, prefix, None, direction, limit)
}
