//! The lists of the index: exactly those keys that the entries derive.

use std::collections::BTreeMap;

use ledger_core::hash::LeafIndex;
use ledger_core::id::SessionId;
use ledger_core::state::{Family, Key, Pair, State, StateError};
use ledger_proto::v1;
use prost::Message as _;

use super::{Check, Go, Seen, family_of};
use crate::index::{self, Family as ListFamily};
use crate::storage::view::StoreState;
use crate::storage::{Batch, Change, Table};

/// The state as a derivation saw it when its entry was new: sessions and keys that came later are not there yet. What it
/// reads of earlier ones never changes.
struct AsOf<'r> {
    state: StoreState<'r>,
    leaf: u64,
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "only sessions and keys say when they were made"
)]
impl State for AsOf<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        let value = self.state.get(key)?;
        let made_at = value.as_deref().and_then(|value| match family_of(key)? {
            Family::Session => Some(v1::SessionRecord::decode(value).ok()?.leaf),
            Family::Key => Some(v1::KeyRecord::decode(value).ok()?.leaf),
            _ => None,
        });
        Ok(value.filter(|_| made_at.is_none_or(|leaf| leaf <= self.leaf)))
    }

    fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Pair>, StateError> {
        self.state.scan(prefix, after, limit)
    }
}

/// What an entry puts into the index and what it takes out.
#[derive(Default)]
struct Derived {
    puts: BTreeMap<Vec<u8>, Vec<u8>>,
    deletes: Vec<Vec<u8>>,
}

fn derive(check: &mut Check<'_>, entry: &v1::Entry) -> Go<Derived> {
    let state = AsOf {
        state: StoreState(check.read),
        leaf: entry.index,
    };
    let mut batch = Batch::new();
    let mut derived = Derived::default();
    if let Err(error) = index::changes(&state, entry, &mut batch) {
        check.found(Table::State, &error.key, error.what)?;
        return Ok(derived);
    }
    for change in batch.changes() {
        match change {
            Change::Put(_, key, value) => {
                let expired = is_expiry(key) && has_ended(check, key)?;
                if !expired {
                    derived.puts.insert(key.clone(), value.clone());
                }
            }
            Change::Delete(_, key) => derived.deletes.push(key.clone()),
            // No entry deletes a range of the index.
            Change::DeleteRange(..) => {}
        }
    }
    Ok(derived)
}

fn is_expiry(key: &[u8]) -> bool {
    key.first() == Some(&(ListFamily::Expiry as u8))
}

/// True if the session that an expiry is of has ended: then the expiry is gone.
fn has_ended(check: &mut Check<'_>, key: &[u8]) -> Go<bool> {
    let Some(id) = key.last_chunk::<16>() else {
        return Ok(false);
    };
    let session: Option<v1::SessionRecord> =
        check.record(&Key::session(SessionId::from_bytes(*id)))?;
    Ok(session.is_some_and(|session| session.end_kind() != v1::SessionEndKind::Unspecified))
}

pub(super) fn check_entry(check: &mut Check<'_>, seen: &mut Seen, entry: &v1::Entry) -> Go {
    let derived = derive(check, entry)?;
    let leaf = entry.index;
    for (key, value) in derived.puts {
        seen.indexed += 1;
        match check.get(Table::Index, &key)? {
            None => {
                let what = format!("is missing, although entry {leaf} belongs on this list");
                check.found(Table::Index, &key, what)?;
            }
            Some(stored) if stored != value => {
                let what = format!("does not say what entry {leaf} makes it say");
                check.found(Table::Index, &key, what)?;
            }
            Some(_) => {}
        }
    }
    for key in derived.deletes {
        if check.get(Table::Index, &key)?.is_some() {
            let what = format!("is of a session that entry {leaf} ended");
            check.found(Table::Index, &key, what)?;
        }
    }
    Ok(())
}

/// No key is there that no entry derives. The keys are counted first: usually that is enough.
pub(super) fn check(check: &mut Check<'_>, seen: &Seen) -> Go {
    let count = check.walk(Table::Index, &[], |_, _, _| Ok(()))?;
    if count == seen.indexed {
        return Ok(());
    }
    check.look(Table::Index, &[], |check, key, _| {
        if is_derived(check, key)? {
            Ok(())
        } else {
            check.found(Table::Index, key, "no entry belongs on this list")
        }
    })?;
    Ok(())
}

fn is_derived(check: &mut Check<'_>, key: &[u8]) -> Go<bool> {
    let leaf = if is_expiry(key) {
        let session: Option<v1::SessionRecord> = match key.last_chunk::<16>() {
            Some(id) => check.record(&Key::session(SessionId::from_bytes(*id)))?,
            None => None,
        };
        session.map(|session| session.leaf)
    } else {
        key.last_chunk::<8>().map(|leaf| u64::from_be_bytes(*leaf))
    };
    let entry = match leaf {
        Some(leaf) => check.entry(LeafIndex(leaf).0)?,
        None => None,
    };
    match entry {
        Some(entry) => Ok(derive(check, &entry)?.puts.contains_key(key)),
        None => Ok(false),
    }
}
