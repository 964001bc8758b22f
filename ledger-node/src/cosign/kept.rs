//! What a node keeps of cosigned checkpoints: the newest, one for each minute of the week before them, and for each change of the
//! trust policy one that carries it. The first make proofs; those of the week say to an audit when which tree was there.

use std::collections::BTreeSet;
use std::io;
use std::ops::RangeInclusive;

use ledger_core::hash::TreeSize;
use ledger_core::note::cosignature::split_timestamped;
use ledger_core::note::signed_note::Note;

use super::{Cosigned, TrustPolicies};
use crate::storage::view::StoreState;
use crate::storage::{Batch, Direction, Pair, Read, Store, Table, meta, scan};

/// The newest cosigned checkpoints, which are all kept.
const MAX_NEWEST: usize = 64;
/// Seconds between two of the older ones.
const SPACING: u64 = 60;
/// Seconds that the oldest is older than the newest at most: with the spacing, 10,080 notes of up to 2 KiB.
const RETENTION: u64 = 7 * 24 * 60 * 60;
/// Older ones that are looked at when a new one is kept: one for each that was kept at the same time as another.
const LOOKED_AT: usize = 8;

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
    for old in superseded(store, note)? {
        batch.delete(Table::Meta, old);
    }
    Ok(batch)
}

/// The keys of the checkpoints that are not kept any longer once this one is: those that follow an older one too closely and are not
/// among the newest, and the oldest after its time.
fn superseded(store: &dyn Store, newest: &str) -> io::Result<Vec<Vec<u8>>> {
    let mut keys = Vec::new();
    // From the oldest on; the first of them stays, whatever it follows: it was looked at before.
    let looked_at = largest(store, MAX_NEWEST + LOOKED_AT)?;
    let Some((last, _)) = looked_at.get(MAX_NEWEST).cloned() else {
        return Ok(keys);
    };
    let mut before: Option<u64> = None;
    for (key, note) in looked_at.into_iter().skip(MAX_NEWEST).rev() {
        let time = cosigned_at(&note);
        if before.is_some_and(|before| time < before.saturating_add(SPACING)) {
            keys.push(key);
        } else {
            before = Some(time);
        }
    }
    let (prefix, direction) = (meta::CHECKPOINT, Direction::Ascending);
    let limit = cosigned_at(newest.as_bytes()).saturating_sub(RETENTION);
    let oldest = scan(store, Table::Meta, prefix, None, direction, LOOKED_AT)?;
    let expired = oldest
        .into_iter()
        .take_while(|(key, note)| *key <= last && cosigned_at(note) < limit);
    keys.extend(expired.map(|(key, _)| key));
    Ok(keys)
}

/// When the first of its cosigners signed a checkpoint, in seconds since 1970; 0 if no cosignature has a time. It met the trust policy
/// when it was kept, and nothing but its keeping depends on the time.
fn cosigned_at(note: &[u8]) -> u64 {
    let Ok(note) = Note::parse(note) else {
        return 0;
    };
    let lines = note.signatures().iter();
    let times = lines.filter_map(|line| split_timestamped(line.signature()));
    times.map(|(time, _)| time.seconds()).min().unwrap_or(0)
}

/// A page of the kept checkpoints beyond a size, the smallest first: sizes and notes.
///
/// # Errors
/// The store cannot be read.
pub(crate) fn kept_page(
    store: &dyn Read,
    after: Option<u64>,
    limit: usize,
) -> io::Result<Vec<(TreeSize, String)>> {
    let after = after.map(meta::checkpoint_key);
    let (prefix, direction) = (meta::CHECKPOINT, Direction::Ascending);
    let found = scan(
        store,
        Table::Meta,
        prefix,
        after.as_deref(),
        direction,
        limit,
    )?;
    let read = found.into_iter().map(|(key, note)| {
        let size = key.last_chunk::<8>().map(|size| u64::from_be_bytes(*size));
        let size = size.ok_or_else(|| io::Error::other("a checkpoint without a size"))?;
        Ok((
            TreeSize(size),
            String::from_utf8(note).map_err(io::Error::other)?,
        ))
    });
    read.collect()
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
    for (_, note) in largest(store, MAX_NEWEST + LOOKED_AT)? {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cosign::test_ledger::cosigned_at;
    use crate::storage::memory::MemoryStore;

    /// Keeps checkpoints of sizes 1, 2, …, one for each of these seconds, and gives the sizes that are still kept.
    fn kept_of(seconds: impl Iterator<Item = u64>) -> Vec<u64> {
        let store = MemoryStore::new();
        for (size, seconds) in (1..).zip(seconds) {
            let note = cosigned_at(size, seconds);
            let mut batch = Batch::new();
            batch.put(Table::Meta, meta::checkpoint_key(size), note.as_str());
            for old in superseded(&store, &note).unwrap() {
                batch.delete(Table::Meta, old);
            }
            store.write(&batch).unwrap();
        }
        let page = kept_page(&store, None, usize::MAX).unwrap();
        page.into_iter().map(|(size, _)| size.0).collect()
    }

    #[test]
    fn the_newest_are_kept_and_one_for_each_minute_before() {
        let kept = kept_of((0..1_000).map(|second| 1_000_000 + second));
        let (older, newest) = kept.split_at(kept.len() - MAX_NEWEST);
        assert!(newest.iter().copied().eq(937..=1_000), "{newest:?}");
        let gaps: Vec<u64> = older.windows(2).map(|pair| pair[1] - pair[0]).collect();
        // The last of them waits until the next is old enough to be looked at.
        let (_, gaps) = gaps.split_last().unwrap();
        assert!(gaps.iter().all(|gap| *gap == SPACING), "{gaps:?}");
        assert!(older.len() >= 15, "{older:?}");
    }

    #[test]
    fn none_is_kept_for_longer_than_a_week_unless_it_is_one_of_the_newest() {
        let hours = 24 * 10;
        let kept = kept_of((0..hours).map(|hour| 1_000_000 + hour * 3_600));
        assert_eq!(kept.first(), Some(&(hours - 24 * 7)), "{kept:?}");
        let days = 100;
        let kept = kept_of((0..days).map(|day| 1_000_000 + day * 86_400));
        assert!(kept.len() >= MAX_NEWEST, "{kept:?}");
    }

    #[test]
    fn pages_follow_each_other() {
        let store = MemoryStore::new();
        let mut batch = Batch::new();
        for size in 1..=5 {
            let note = cosigned_at(size, 1_000);
            batch.put(Table::Meta, meta::checkpoint_key(size), note);
        }
        store.write(&batch).unwrap();
        let sizes = |after, limit| -> Vec<u64> {
            let page = kept_page(&store, after, limit).unwrap();
            page.into_iter().map(|(size, _)| size.0).collect()
        };
        assert_eq!(sizes(None, 2), [1, 2]);
        assert_eq!(sizes(Some(2), 2), [3, 4]);
        assert_eq!(sizes(Some(4), 2), [5]);
        assert_eq!(sizes(Some(u64::MAX), 2), [] as [u64; 0]);
    }
}
