//! The ledger's time: what clocks show, and how far the ledger is ahead of them.
//!
//! Times never fall. So when clocks that were ahead have dated entries, and are right again, nothing can be dated until they have come to
//! the last entry. Admins end the wait: they say what their clocks show, and from then on that is added to what clocks show by
//! which both their clocks and the proposer's are behind the last entry.

use ledger_proto::v1::{self, command::Body as Ask, governance::Detail};

use super::authority::{Duty, WHOLE_LEDGER};
use super::context::{Context, Stop, applied};
use super::tip::read_head;
use super::{halt, validate};
use crate::ledger::Head;
use crate::limits::{MAX_TIME_OFFSET_US, MAX_TIME_US, MIN_TIME_ADJUSTMENT_US};
use crate::state::Key;

/// The time of the next entry, at this time of a clock.
pub(super) fn next_entry(ledger: &v1::LedgerRecord, head: &Head, clock_us: u64) -> u64 {
    clock_us
        .saturating_add(ledger.time_offset_us)
        .max(head.time_us.saturating_add(1))
        .min(MAX_TIME_US)
}

/// When a session or permit ends that began then and was to end there: at the latest when admins adjusted the time after that. Nobody
/// knows how long the ledger stood still before, and what was open when it came to stand would live on after hours or days.
pub(super) fn ends_at(ledger: &v1::LedgerRecord, began_at_us: u64, expires_at_us: u64) -> u64 {
    if began_at_us < ledger.adjusted_at_us {
        expires_at_us.min(ledger.adjusted_at_us)
    } else {
        expires_at_us
    }
}

/// True if a command adjusts the time of the ledger that ends here.
pub(super) fn is_of_end(body: &Ask, head: &Head) -> bool {
    matches!(body, Ask::AdjustTime(ask) if names_end(ask, head))
}

fn names_end(ask: &v1::AdjustTime, head: &Head) -> bool {
    ask.tree_size == head.size().0 && ask.last_entry_time_us == head.time_us
}

pub(super) fn adjust(
    context: &mut Context<'_, '_>,
    ask: &v1::AdjustTime,
) -> Result<v1::Governance, Stop> {
    context.require(Duty::AdjustTime, WHOLE_LEDGER)?;
    let head = read_head(context.txn, context.ledger)?;
    let previous = context.ledger.time_offset_us;
    if !names_end(ask, &head) {
        return Err(v1::Result::FailedPrecondition.into());
    }
    let issued_at_us = context.command.issued_at_us;
    validate::valid(head.time_us.saturating_sub(issued_at_us) <= MAX_TIME_OFFSET_US)?;
    // By both clocks, the admins' and the proposer's: an adjustment that was held back until its end came to be true, or that was made by
    // a clock which is behind, would put a sound ledger ahead.
    let behind = head
        .time_us
        .saturating_sub(issued_at_us.max(context.clock_us));
    // Less than before would have time stand still, and with it every permit and session.
    if behind < previous.saturating_add(MIN_TIME_ADJUSTMENT_US) {
        return Err(v1::Result::FailedPrecondition.into());
    }
    // Nothing that stops actions ends because time has jumped.
    halt::put_off(context, behind.saturating_sub(previous))?;
    let mut ledger = context.ledger.clone();
    ledger.time_offset_us = behind;
    ledger.adjusted_at_us = context.now_us;
    context.txn.write(Key::ledger(), &ledger);
    Ok(v1::Governance {
        detail: Some(Detail::TimeAdjustment(v1::TimeAdjustment {
            time_offset_us: behind,
            previous_time_offset_us: previous,
        })),
        ..applied("")
    })
}
