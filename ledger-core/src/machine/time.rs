//! The ledger's time: what clocks show, and how far the ledger is ahead of them.
//!
//! Times never fall. So when clocks that were ahead have dated entries, and are right again, nothing can be dated until they have come to
//! the last entry. Admins end the wait: they say what their clocks show, and from then on the difference is added to what clocks show.

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
    let behind = head.time_us.saturating_sub(context.command.issued_at_us);
    // Less than before would have time stand still, and with it every permit and session.
    if !names_end(ask, &head) || behind < previous.saturating_add(MIN_TIME_ADJUSTMENT_US) {
        return Err(v1::Result::FailedPrecondition.into());
    }
    validate::valid(behind <= MAX_TIME_OFFSET_US)?;
    // Nothing that stops actions ends because time has jumped.
    halt::put_off(context, behind.saturating_sub(previous))?;
    let mut ledger = context.ledger.clone();
    ledger.time_offset_us = behind;
    context.txn.write(Key::ledger(), &ledger);
    Ok(v1::Governance {
        detail: Some(Detail::TimeAdjustment(v1::TimeAdjustment {
            time_offset_us: behind,
            previous_time_offset_us: previous,
        })),
        ..applied("")
    })
}
