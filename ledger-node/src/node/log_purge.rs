//! Purging the log past an entry that it must not be read from again.

use std::io;

use ledger_proto::peer::v1 as wire;

use crate::raft::Raft;
use crate::raft::log::read_meta;
use crate::raft::snapshot::Snapshots;
use crate::storage::{Store, meta};

/// Takes one step towards a log that begins behind this index; true once it does. A snapshot has to be there first.
///
/// # Errors
/// The store or the snapshot cannot be read, or openraft has ended.
pub(super) async fn purge_log(
    raft: &Raft,
    snapshots: &Snapshots,
    store: &dyn Store,
    through: u64,
) -> io::Result<bool> {
    let purged: Option<wire::LogId> = read_meta(store, meta::PURGED)?;
    if purged.is_some_and(|purged| purged.index >= through) {
        return Ok(true);
    }
    let trigger = raft.trigger();
    let triggered = if snapshots.end()? >= through {
        trigger.purge_log(through).await
    } else {
        trigger.snapshot().await
    };
    triggered.map_err(|error| io::Error::other(error.to_string()))?;
    Ok(false)
}
