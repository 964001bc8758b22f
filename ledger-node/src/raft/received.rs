//! What a snapshot from another node holds is checked before it becomes this node's store.
//!
//! Every entry is hashed again into the tree and its root, and every compartment compared with what its entry commits to: the
//! state digest, by which the rest of the state is confirmed later, covers neither. One pass over each, in pages.

use std::io;

use ledger_core::hash::{LeafIndex, TreeHash};
use ledger_core::ledger::{Head, entry};
use ledger_core::state::{Family, Key, State, StateError, read};
use ledger_core::tree::frontier::Frontier;
use ledger_core::{canonical, compartment};
use ledger_proto::peer::v1 as wire;
use ledger_proto::v1;

use super::types::invalid;
use crate::node::view::StoreState;
use crate::storage::Read;

/// Entries read at once; a page has at most 4 MiB.
const ENTRIES: usize = 64;
/// Compartments read at once; a page has at most 2 MiB.
const COMPARTMENTS: usize = 8;

/// Checks entries, tree and compartments of a copy.
///
/// # Errors
/// What is wrong, naming the entry.
pub(super) fn check(copy: &dyn Read, manifest: &wire::SnapshotManifest) -> io::Result<()> {
    let state = StoreState(copy);
    check_entries(&state, manifest)?;
    check_compartments(&state)
}

fn check_entries(state: &StoreState<'_>, manifest: &wire::SnapshotManifest) -> io::Result<()> {
    let ledger: v1::LedgerRecord = read(state, &Key::ledger())
        .map_err(unreadable)?
        .ok_or_else(|| invalid("the snapshot holds no ledger"))?;
    let hash = TreeHash::parse(&ledger.tree_hash).map_err(|error| invalid(error.to_string()))?;
    let head = Head::read(state, hash).map_err(unreadable)?;
    let mut frontier = Frontier::new(hash);
    each(state, Family::Entry, ENTRIES, |key, bytes| {
        let leaf = LeafIndex(frontier.size().0);
        if key != Key::entry(leaf).as_bytes() {
            return Err(invalid(format!("the snapshot has no entry {leaf}")));
        }
        for write in frontier.append(hash.leaf(bytes)) {
            let place = write.tile * 256 + u64::from(write.position);
            let stored = state.get(Key::tile_hash(write.level, place).as_bytes());
            if stored.map_err(unreadable)?.as_deref() != Some(write.hash.as_bytes().as_slice()) {
                return Err(invalid(format!(
                    "entry {leaf} of the snapshot, or the tree over it, is not what was appended"
                )));
            }
        }
        Ok(())
    })?;
    let as_said = frontier.size().0 == manifest.tree_size
        && frontier.root().as_bytes().as_slice() == manifest.root
        && frontier.size() == head.size()
        && frontier.root() == head.root();
    if as_said {
        Ok(())
    } else {
        Err(invalid(format!(
            "the snapshot's {} entries do not make the tree that it says it holds",
            frontier.size()
        )))
    }
}

fn check_compartments(state: &StoreState<'_>) -> io::Result<()> {
    // Compartments of one entry follow each other.
    let mut last: Option<(u64, Vec<v1::Commitment>)> = None;
    each(state, Family::Compartment, COMPARTMENTS, |key, bytes| {
        let damaged = |what: &str| invalid(format!("{what} (state key {})", hex::encode(key)));
        let leaf = key.get(1..).and_then(|rest| rest.first_chunk::<8>());
        let leaf = u64::from_be_bytes(*leaf.ok_or_else(|| damaged("not a compartment's key"))?);
        if last.as_ref().is_none_or(|(known, _)| *known != leaf) {
            let found = entry(state, LeafIndex(leaf)).map_err(unreadable)?;
            let command = found.and_then(|found| ledger_core::entry::command(&found).ok()?);
            last = command.map(|command| (leaf, command.commitments));
        }
        let commitments = last.as_ref().map(|(_, commitments)| commitments.as_slice());
        let stored = canonical::decode::<v1::Compartment>(bytes, usize::MAX);
        let holds = stored.is_ok_and(|stored| {
            Key::compartment(LeafIndex(leaf), stored.kind()).as_bytes() == key
                && commitments
                    .unwrap_or_default()
                    .iter()
                    .any(|commitment| compartment::matches(commitment, &stored))
        });
        if holds {
            Ok(())
        } else {
            Err(damaged(&format!(
                "the snapshot's content of entry {leaf} is not what that entry commits to"
            )))
        }
    })
}

/// Hands on every pair of a family, ascending.
fn each(
    state: &StoreState<'_>,
    family: Family,
    page_len: usize,
    mut check: impl FnMut(&[u8], &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let prefix = Key::family(family);
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = state.scan(prefix.as_bytes(), after.as_deref(), page_len);
        let page = page.map_err(unreadable)?;
        for (key, value) in &page {
            check(key, value)?;
        }
        match page.into_iter().last() {
            Some((last, _)) => after = Some(last),
            None => return Ok(()),
        }
    }
}

fn unreadable(error: StateError) -> io::Error {
    invalid(format!("the snapshot cannot be read: {}", error.what))
}
