//! What a node keeps of cosigned checkpoints: the newest, and for each change of the trust policy one that carries it.

use std::collections::BTreeSet;
use std::io;
use std::ops::RangeInclusive;

use ledger_core::hash::TreeSize;
use ledger_core::note::signed_note::Note;

use super::{Cosigned, TrustPolicies};
use crate::storage::view::StoreState;
use crate::storage::{Batch, Direction, Pair, Read, Store, Table, meta, scan};

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
    for epoch in carried(store, &policies, note)? {
        batch.put(Table::Meta, meta::trust_step_key(epoch), note);
    }
    for (old, _) in largest(store, MAX_KEPT + 8)?.into_iter().skip(MAX_KEPT) {
        batch.delete(Table::Meta, old);
    }
    Ok(batch)
}

/// Epochs whose step this checkpoint carries and no other does yet: each by itself, or else all from one of them to the newest
/// together, as after a change that was taken back because nobody could meet its policy.
fn carried(
    store: &dyn Store,
    policies: &TrustPolicies<'_>,
    note: &str,
) -> io::Result<BTreeSet<u64>> {
    let carries = |first: u64, last: u64| -> io::Result<bool> {
        let step = policies.step(first..=last)?;
        Ok(step.is_some_and(|step| step.must_be_carried_by(note).is_ok()))
    };
    let open = open_steps(store, policies)?;
    let mut carried = BTreeSet::new();
    for epoch in &open {
        if carries(*epoch, *epoch)? {
            carried.insert(*epoch);
        }
    }
    let newest = policies.epoch();
    for first in &open {
        if !carried.contains(first) && carries(*first, newest)? {
            carried.extend(*first..=newest);
            break;
        }
    }
    Ok(carried)
}

/// The changes of the trust policy that the checkpoint of this epoch's step carries together, if there is one: those around it
/// that have the same.
pub(crate) fn carried_together(store: &dyn Read, epoch: u64) -> io::Result<Option<Carried>> {
    let note_of = |epoch: u64| store.get(Table::Meta, &meta::trust_step_key(epoch));
    let Some(note) = note_of(epoch)? else {
        return Ok(None);
    };
    let (mut first, mut last) = (epoch, epoch);
    while first > 1 && note_of(first - 1)?.as_ref() == Some(&note) {
        first -= 1;
    }
    while note_of(last.saturating_add(1))?.as_ref() == Some(&note) {
        last += 1;
    }
    Ok(Some(Carried {
        epochs: first..=last,
        note,
    }))
}

/// Changes of the trust policy with the checkpoint that carries them.
pub(crate) struct Carried {
    /// The epochs that they begin, without gaps.
    pub(crate) epochs: RangeInclusive<u64>,
    /// The note.
    pub(crate) note: Vec<u8>,
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
