//! Raft's log, and what a node knows of itself.

use ledger_proto::peer::v1 as wire;
use ledger_proto::v1;
use openraft::EntryPayload;
use prost::Message;

use super::{Check, Go, Ground};
use crate::raft::log::decode_entry;
use crate::raft::types;
use crate::storage::Table;
use crate::storage::meta::{self, log_key};
use crate::storage::store_id::StoreId;

/// What was read of the log, and where it stands.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Standing {
    pub(super) purged: Option<wire::LogId>,
    pub(super) committed: Option<wire::LogId>,
    pub(super) applied: Option<wire::LogId>,
    pub(super) last: Option<wire::LogId>,
}

/// The greater one is the later one.
pub(super) const fn order(id: &wire::LogId) -> (u64, u64) {
    (id.term, id.index)
}

pub(super) fn check(check: &mut Check<'_>, ground: &Ground) -> Go<Standing> {
    check_meta(check)?;
    // All but the genesis comes from the log.
    if ground.size().0 > 1 && check.get(Table::Meta, meta::APPLIED)?.is_none() {
        check.found(
            Table::Meta,
            meta::APPLIED,
            "is missing, although there are entries",
        )?;
    }
    let applied: Option<wire::AppliedRecord> = meta_record(check, meta::APPLIED)?;
    let mut standing = Standing {
        purged: meta_record(check, meta::PURGED)?,
        committed: meta_record(check, meta::COMMITTED)?,
        applied: applied.and_then(|applied| applied.last_log_id),
        last: None,
    };
    standing.last = standing.purged;
    check_entries(check, &mut standing)?;
    check_ends(check, &standing)?;
    Ok(standing)
}

fn meta_record<M: Message + Default>(check: &mut Check<'_>, key: &[u8]) -> Go<Option<M>> {
    let bytes = check.get(Table::Meta, key)?;
    Ok(bytes.and_then(|bytes| M::decode(bytes.as_slice()).ok()))
}

fn is<M: Message + Default>(bytes: &[u8]) -> bool {
    ledger_core::canonical::decode::<M>(bytes, usize::MAX).is_ok()
}

/// Every key is known, and its value has the form that it must have.
fn check_meta(check: &mut Check<'_>) -> Go {
    check.walk(Table::Meta, &[], |check, key, value| {
        let numbered = |prefix: &[u8]| {
            let rest = key.strip_prefix(prefix);
            rest.is_some_and(|rest| rest.len() == 8)
        };
        let valid = match key {
            meta::FORMAT => value == meta::FORMAT_VERSION.to_be_bytes(),
            meta::NODE | meta::COPIED => value.len() == 8,
            meta::GENESIS => value.len() == 32,
            meta::STORE => value.len() == StoreId::LEN,
            _ if numbered(meta::PEER) => is::<wire::PeerRecord>(value),
            meta::BOOTSTRAP => true,
            meta::VOTE => is::<wire::Vote>(value),
            meta::COMMITTED | meta::PURGED => is::<wire::LogId>(value),
            meta::APPLIED => is_applied(value),
            _ if numbered(meta::ERASING) => value.len() == 8,
            // Their notes are read where they are compared with the tree.
            _ if numbered(meta::CHECKPOINT) || numbered(meta::TRUST_STEP) => true,
            _ => return check.found(Table::Meta, key, "is no key that a node writes"),
        };
        if valid {
            Ok(())
        } else {
            check.found(Table::Meta, key, "does not have the form that it must have")
        }
    })?;
    for key in [meta::FORMAT, meta::NODE, meta::GENESIS, meta::STORE] {
        if check.get(Table::Meta, key)?.is_none() {
            check.found(Table::Meta, key, "is missing")?;
        }
    }
    Ok(())
}

fn is_applied(value: &[u8]) -> bool {
    ledger_core::canonical::decode::<wire::AppliedRecord>(value, usize::MAX)
        .is_ok_and(|record| types::members(&record.membership_log_id, &record.membership).is_ok())
}

/// The log has no gaps, goes on from what was purged, and can be read.
fn check_entries(check: &mut Check<'_>, standing: &mut Standing) -> Go {
    let (purged, committed, applied) = (standing.purged, standing.committed, standing.applied);
    let mut last = purged;
    check.walk(Table::Log, &[], |check, key, value| {
        let expected = log_key(last.map_or(0, |last| last.index.saturating_add(1)));
        if key != expected {
            let (at, what) = if key > expected.as_slice() {
                (
                    expected.as_slice(),
                    "a log entry is missing, although there are later ones",
                )
            } else {
                (
                    key,
                    "the log entry was purged and is still there, or its key is none",
                )
            };
            return check.end(Table::Log, at, what);
        }
        let entry = match decode_entry(value) {
            Ok(entry) => entry,
            Err(error) => return check.end(Table::Log, key, error),
        };
        let id = types::log_id_to_wire(&entry.log_id);
        if log_key(id.index) != expected {
            return check.end(Table::Log, key, "the log entry says another index");
        }
        if last.is_some_and(|last| last.term > id.term) {
            check.found(Table::Log, key, "the term of the log goes back")?;
        }
        let is_batch = match &entry.payload {
            EntryPayload::Normal(proposal) => v1::Batch::decode(proposal.0.clone()).is_ok(),
            EntryPayload::Blank | EntryPayload::Membership(_) => true,
        };
        if !is_batch || types::entry_to_wire(&entry).encode_to_vec() != value {
            check.found(
                Table::Log,
                key,
                "the log entry is not in the form that is written",
            )?;
        }
        for (name, other) in [(meta::COMMITTED, committed), (meta::APPLIED, applied)] {
            if other.is_some_and(|other| other.index == id.index && other.term != id.term) {
                check.found(Table::Meta, name, "names a log entry of another term")?;
            }
        }
        last = Some(id);
        Ok(())
    })?;
    standing.last = last;
    Ok(())
}

/// What was committed and applied is in the log, or was before it was purged.
fn check_ends(check: &mut Check<'_>, standing: &Standing) -> Go {
    let place = |id: Option<wire::LogId>| id.as_ref().map(order);
    let last = place(standing.last);
    let next = log_key(standing.last.map_or(0, |last| last.index.saturating_add(1)));
    if place(standing.applied) > last {
        return check.found(
            Table::Log,
            &next,
            "a log entry is missing, although it was applied",
        );
    }
    if place(standing.committed) > last {
        return check.found(
            Table::Log,
            &next,
            "a log entry is missing, although it was committed",
        );
    }
    if place(standing.purged) > place(standing.applied) {
        check.found(
            Table::Meta,
            meta::PURGED,
            "log entries were purged that were never applied",
        )?;
    }
    Ok(())
}

/// The number that a key has after its prefix.
pub(super) fn number_after(prefix: &[u8], key: &[u8]) -> Option<u64> {
    let number = key.strip_prefix(prefix)?;
    Some(u64::from_be_bytes(number.try_into().ok()?))
}
