//! The times of batches, against this node's clock and the time that the ledger has come to.

use super::{BatchHead, LedgerView};
use crate::raft::adjustment::is_timely;
use crate::raft::clocks::MAX_OFFSET_US;

/// How far the time of a batch may be ahead of this node's clock, in microseconds: as far as a leader's clock may be off. A batch
/// dated further ahead is not acknowledged until this node's clock gets there.
pub(crate) const MAX_AHEAD_US: u64 = MAX_OFFSET_US.unsigned_abs();
/// How far the time of a batch may be before the one known before it, in microseconds. A new leader's clock may be behind the last
/// entry by 5 s, which is looked at once a second; between two looks a clock may jump by 2 s; and 2 s are for the bursts of entries
/// whose times are each a microsecond after the one before.
pub(super) const MAX_BACK_US: u64 = 10_000_000;

/// A batch carries its proposer's clock, which is not ahead of this node's.
pub(super) fn check_clock(batch: &BatchHead, now_us: u64) -> Result<(), String> {
    let time_us = batch.time_us;
    if time_us > now_us.saturating_add(MAX_AHEAD_US) {
        return Err(format!(
            "the time of the batch is {time_us}, and this node's clock says {now_us}: one of the two clocks is off"
        ));
    }
    Ok(())
}

/// Each adjustment of the ledger's time was made about when its proposer's clock says, which is the same at each replica, whenever it
/// looks. And a batch that holds one is not dated back: where by this node's clock the ledger is not ahead, one that was held back would
/// put it ahead. A node that was away gets what was adjusted meanwhile by a snapshot.
pub(super) fn check_adjustments(
    batch: &BatchHead,
    latest_us: u64,
    known: &LedgerView<'_>,
) -> Result<(), String> {
    let (time_us, now_us) = (batch.time_us, known.now_us);
    let untimely = |made_at: &&u64| !is_timely(**made_at, time_us);
    if let Some(made_at) = batch.adjusted_at_us.iter().find(untimely) {
        return Err(format!(
            "the batch holds an adjustment of the ledger's time that was made at {made_at}, and its own time is {time_us}: it would lead to another offset than clocks show"
        ));
    }
    let in_ledger = now_us.saturating_add(known.time_offset_us);
    let is_ahead = latest_us > in_ledger.saturating_add(MAX_AHEAD_US);
    let is_dated_back = time_us.saturating_add(MAX_BACK_US) < now_us;
    if !batch.adjusted_at_us.is_empty() && is_dated_back && !is_ahead {
        return Err(format!(
            "the batch holds an adjustment of the ledger's time and is dated {time_us}, where this node's clock says {now_us} and the ledger is not ahead of it"
        ));
    }
    Ok(())
}

/// A batch dated long before the ledger's end would have time stand still. Only what adjusts the time may come then.
pub(super) fn check_progress(
    batch: &BatchHead,
    entry_us: u64,
    latest_us: u64,
) -> Result<(), String> {
    if entry_us.saturating_add(MAX_BACK_US) >= latest_us || batch.only_adjusts {
        return Ok(());
    }
    let time_us = batch.time_us;
    Err(format!(
        "the time of the batch is {time_us}, which leads to {entry_us}, and the ledger has come to {latest_us}"
    ))
}
