//! Adjustments of the ledger's time: the one kind of command that may be proposed while the ledger is ahead of all clocks.

use ledger_core::command::Command;
use ledger_core::limits::FRESHNESS_US;
use ledger_proto::v1::{Submission, command::Body};

use super::clocks::MAX_OFFSET_US;

/// When a submission's author made it, by his clock, if it adjusts the ledger's time.
#[must_use]
pub fn adjusted_at(submission: &Submission) -> Option<u64> {
    let command = Command::parse(submission.signed.as_ref()?).ok()?;
    matches!(command.body, Body::AdjustTime(_)).then_some(command.issued_at_us)
}

/// True if an adjustment that was made at that time can be proposed at this time of a clock. What its author's clock showed becomes the
/// time of the last entry: ahead of a node's clock, the ledger would stay ahead; long before it, the ledger would come to be further
/// ahead than it is.
#[must_use]
pub const fn is_timely(adjusted_at_us: u64, clock_us: u64) -> bool {
    adjusted_at_us <= clock_us.saturating_add(MAX_OFFSET_US.unsigned_abs())
        && adjusted_at_us.saturating_add(FRESHNESS_US) >= clock_us
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adjustment_is_made_about_when_it_is_proposed() {
        let clock_us = 1_796_040_000_000_000;
        let ahead = MAX_OFFSET_US.unsigned_abs();
        for (made_at, timely) in [
            (clock_us, true),
            (clock_us + ahead, true),
            (clock_us + ahead + 1, false),
            (clock_us - FRESHNESS_US, true),
            (clock_us - FRESHNESS_US - 1, false),
            (0, false),
        ] {
            assert_eq!(is_timely(made_at, clock_us), timely, "{made_at}");
        }
    }
}
