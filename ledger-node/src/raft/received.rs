//! What a snapshot from another node holds is checked before it becomes this node's store.
//!
//! It must begin with this node's genesis, hold the tree that this node has cosigned, and end where its manifest says. Every entry is hashed again into the tree and its root, and every compartment compared with what its entry commits to: the
//! state digest, by which the rest of the state is confirmed later, covers neither. One pass over each, in pages.

use std::collections::BTreeSet;
use std::io;

use ledger_core::hash::{LeafIndex, TreeHash};
use ledger_core::ledger::{Head, entry};
use ledger_core::machine::genesis_digest;
use ledger_core::state::{Family, Key, State, StateError, read};
use ledger_core::tree::frontier::Frontier;
use ledger_core::{canonical, compartment};
use ledger_proto::peer::v1 as wire;
use ledger_proto::v1::{self, command::Body as Ask, entry::Body};

use super::types::{self, Members, invalid};
use crate::apply::applier::AppliedState;
use crate::storage::Read;
use crate::storage::marker::MarkerRecord;
use crate::storage::view::{StoreState, nodes};

/// Entries read at once; a page has at most 4 MiB.
const ENTRIES: usize = 64;
/// Compartments read at once; a page has at most 2 MiB.
const COMPARTMENTS: usize = 8;

/// Checks a copy: that it ends where its manifest says and goes on from what this node has promised, and its entries, tree and
/// compartments.
///
/// # Errors
/// What is wrong, naming the entry.
pub(super) fn check(
    copy: &dyn Read,
    manifest: &wire::SnapshotManifest,
    promised: &MarkerRecord,
) -> io::Result<()> {
    let announced = manifest.meta.as_ref();
    let announced = announced.and_then(|meta| meta.last_log_id.as_ref());
    let applied = AppliedState::read(copy)?;
    if applied.last.is_none() || applied.last != announced.map(types::log_id) {
        return Err(invalid(
            "the snapshot does not end at the log entry that its manifest names",
        ));
    }
    let state = StoreState(copy);
    check_members(&state, manifest, &applied.members)?;
    check_entries(&state, manifest, promised)?;
    check_compartments(&state)
}

/// The membership that the manifest names is the copy's own, of nodes that its ledger has or had. What a copy says of them is believed
/// as far as the rest of it.
fn check_members(
    state: &StoreState<'_>,
    manifest: &wire::SnapshotManifest,
    members: &Members,
) -> io::Result<()> {
    let announced = manifest.meta.as_ref().map(types::meta).transpose()?;
    if announced.is_none_or(|meta| meta.last_membership != *members) {
        return Err(invalid(
            "the snapshot does not hold the membership that its manifest names",
        ));
    }
    let records = nodes(state).map_err(unreadable)?.into_iter();
    let known: BTreeSet<u64> = records
        .filter_map(|record| Some(record.card?.node_id))
        .collect();
    let mut ids = members.membership().nodes().map(|(id, _)| *id);
    ids.find(|id| !known.contains(id)).map_or(Ok(()), |id| {
        Err(invalid(format!(
            "the membership of the snapshot has node {id}, which its ledger never had"
        )))
    })
}

fn check_entries(
    state: &StoreState<'_>,
    manifest: &wire::SnapshotManifest,
    promised: &MarkerRecord,
) -> io::Result<()> {
    check_genesis(state, promised)?;
    let ledger: v1::LedgerRecord = read(state, &Key::ledger())
        .map_err(unreadable)?
        .ok_or_else(|| invalid("the snapshot holds no ledger"))?;
    let hash = TreeHash::parse(&ledger.tree_hash).map_err(|error| invalid(error.to_string()))?;
    let head = Head::read(state, hash).map_err(unreadable)?;
    let mut frontier = Frontier::new(hash);
    let (mut at_cosigned, mut kept) = (None, KeptContent::default());
    let cosigned = promised.cosigned.filter(|tree| tree.size.0 > 0);
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
        if cosigned.is_some_and(|tree| tree.size == frontier.size()) {
            at_cosigned = Some(frontier.root());
        }
        kept.follow(state, bytes)
    })?;
    kept.must_be_whole()?;
    // Whoever sends it may be wrong, or lie: this node never vouches for two histories.
    if at_cosigned != cosigned.map(|tree| tree.root) {
        let size = promised.cosigned.map_or(0, |tree| tree.size.0);
        return Err(invalid(format!(
            "the snapshot does not hold the tree of {size} entries that this node has cosigned"
        )));
    }
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

/// The content that entries stored, of which only an erasure may have taken some away: without it a later command could not be applied here.
#[derive(Debug, Default)]
struct KeptContent {
    /// What was stored and is not there, and that no entry so far has erased.
    absent: BTreeSet<(u64, i32)>,
}

impl KeptContent {
    fn follow(&mut self, state: &StoreState<'_>, bytes: &[u8]) -> io::Result<()> {
        let found =
            ledger_core::entry::decode(bytes).map_err(|error| invalid(error.to_string()))?;
        for kind in found.stored() {
            let key = Key::compartment(LeafIndex(found.index), kind);
            if state.get(key.as_bytes()).map_err(unreadable)?.is_none() {
                self.absent.insert((found.index, kind.into()));
            }
        }
        let Some(Body::Governance(governance)) = &found.body else {
            return Ok(());
        };
        if governance.result() == v1::Result::Applied
            && let Ok(Some(command)) = ledger_core::entry::command(&found)
            && let Some(Ask::Erase(ask)) = command.body
        {
            for named in ask.compartments {
                self.absent.remove(&(named.index, named.kind));
            }
        }
        Ok(())
    }

    fn must_be_whole(&self) -> io::Result<()> {
        self.absent.first().map_or(Ok(()), |(leaf, _)| {
            Err(invalid(format!(
                "the snapshot lacks content of entry {leaf}, which no entry has erased"
            )))
        })
    }
}

/// Its ledger is the one that this node belongs to. A copy says itself who the nodes are and what they sign with, so all that
/// is believed of it later begins here.
fn check_genesis(state: &StoreState<'_>, promised: &MarkerRecord) -> io::Result<()> {
    let first = entry(state, LeafIndex(0))?;
    match first.and_then(|first| first.body) {
        Some(Body::Genesis(genesis)) if genesis_digest(&genesis) == promised.genesis_digest => {
            Ok(())
        }
        _ => Err(invalid(
            "entry 0 of the snapshot is not the genesis of this node's ledger",
        )),
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
