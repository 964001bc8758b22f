//! Where the ledger stands: its versions, its end, and what it has answered before.

use ledger_proto::v1::{self, entry::Body, governance::Detail};

use super::{ENGINE_VERSION, ENGINE_VERSIONS};
use crate::hash::{Hash, LeafIndex, TreeHash, TreeSize};
use crate::id::{Identity, RequestId};
use crate::ledger::Head;
use crate::state::{Key, State, StateError, Txn, read};

/// The ledger's record, if this build can run its engine version. Going on with other rules would part from the replicas.
pub(super) fn read_ledger(txn: &Txn<'_>) -> Result<v1::LedgerRecord, StateError> {
    let ledger: v1::LedgerRecord = txn.must_read(&Key::ledger())?;
    if ENGINE_VERSIONS.contains(&ledger.engine_version) {
        return Ok(ledger);
    }
    let what = format!(
        "this build runs engine version {ENGINE_VERSION}, the ledger is at {}: start a build that supports it",
        ledger.engine_version
    );
    Err(StateError::unable(
        Key::ledger(),
        std::io::ErrorKind::Unsupported,
        what,
    ))
}

/// The end of a ledger: how many entries, the root over them, the time of the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    /// How many entries.
    pub size: TreeSize,
    /// The root over them.
    pub root: Hash,
    /// Time of the last entry in microseconds since 1970.
    pub time_us: u64,
    /// How far the ledger's time is ahead of clocks by the word of the admins, in microseconds.
    pub time_offset_us: u64,
}

impl Tip {
    /// What clocks show at the time of the last entry, in microseconds since 1970.
    #[must_use]
    pub const fn clock_us(&self) -> u64 {
        self.time_us.saturating_sub(self.time_offset_us)
    }

    /// What the clock of the next entry's batch can have shown, in microseconds since 1970: the entry says no more of it. Applied at this
    /// time, its command gives the same entry again.
    #[must_use]
    pub const fn batch_clock_us(&self, next: &v1::Entry) -> u64 {
        if let Some(Body::Governance(governance)) = &next.body
            && let Some(Detail::TimeAdjustment(adjusted)) = &governance.detail
        {
            // The offset is what that clock was behind by, or what its authors' was, which is less.
            return self.time_us.saturating_sub(adjusted.time_offset_us);
        }
        next.time_us.saturating_sub(self.time_offset_us)
    }
}

/// Where the ledger ends.
///
/// # Errors
/// [`StateError`] if there is no genesis or the state is damaged.
pub fn tip(state: &dyn State) -> Result<Tip, StateError> {
    let ledger: v1::LedgerRecord = read(state, &Key::ledger())?
        .ok_or_else(|| StateError::damaged(Key::ledger(), "the ledger has no genesis"))?;
    let head = read_head(state, &ledger)?;
    Ok(Tip {
        size: head.size(),
        root: head.root(),
        time_us: head.time_us,
        time_offset_us: ledger.time_offset_us,
    })
}

pub(super) fn read_head(state: &dyn State, ledger: &v1::LedgerRecord) -> Result<Head, StateError> {
    let tree_hash = TreeHash::parse(&ledger.tree_hash)
        .map_err(|error| StateError::damaged(Key::ledger(), error.to_string()))?;
    Head::read(state, tree_hash)
}

/// Where the entry of a request is, if the request has been applied.
///
/// # Errors
/// [`StateError`] if the state is damaged.
pub fn find_request(
    state: &dyn State,
    author: &Identity,
    request: RequestId,
) -> Result<Option<LeafIndex>, StateError> {
    let record: Option<v1::RequestRecord> = read(state, &Key::request(author, request))?;
    Ok(record.map(|record| LeafIndex(record.leaf)))
}
