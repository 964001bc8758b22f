//! Whether this node's clock has run evenly since it was last found sound.
//!
//! Peers tell within a heartbeat that a clock is off, and the keeper looks once a second. In between, a leader whose clock jumped
//! an hour ahead would stamp entries, and since time never goes back, no node with a good clock could lead for that hour. So
//! before it stamps, the proposer compares the clock with the one that only moves forward.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::raft::clocks::MAX_OFFSET_US;

/// The clock at the moment when it was last found sound.
#[derive(Debug, Default)]
pub struct Pace {
    sound_at: Mutex<Option<(u64, Instant)>>,
    kept: Notify,
}

impl Pace {
    /// The clock is sound. `now_us` is microseconds since 1970, and `instant` the same moment.
    pub fn keep(&self, now_us: u64, instant: Instant) {
        let mut sound_at = self.sound_at.lock().unwrap_or_else(PoisonError::into_inner);
        *sound_at = Some((now_us, instant));
        drop(sound_at);
        self.kept.notify_waiters();
    }

    /// True if the clock has not jumped since; false before it was looked at for the first time.
    #[must_use]
    pub fn holds(&self, now_us: u64, instant: Instant) -> bool {
        self.is_even(now_us, instant) == Some(true)
    }

    /// True if the clock has jumped since.
    #[must_use]
    pub fn is_broken(&self, now_us: u64, instant: Instant) -> bool {
        self.is_even(now_us, instant) == Some(false)
    }

    fn is_even(&self, now_us: u64, instant: Instant) -> Option<bool> {
        let sound_at = self.sound_at.lock().unwrap_or_else(PoisonError::into_inner);
        sound_at.map(|(then_us, then)| {
            let passed = instant.saturating_duration_since(then).as_micros();
            let expected = u128::from(then_us) + passed;
            u128::from(now_us).abs_diff(expected) <= u128::from(MAX_OFFSET_US.unsigned_abs())
        })
    }

    /// Waits until the clock is known not to have jumped; returns its time in µs.
    pub async fn even(&self, clock: &dyn crate::clock::Clock) -> u64 {
        loop {
            let kept = self.kept.notified();
            let now_us = clock.now_us();
            if self.holds(now_us, clock.instant()) {
                return now_us;
            }
            kept.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn a_clock_that_jumps_either_way_is_seen_at_once_and_an_even_one_never() {
        let pace = Pace::default();
        let (then, start) = (1_000 * SECOND, Instant::now());
        assert!(!pace.holds(then, start) && !pace.is_broken(then, start));
        pace.keep(then, start);
        for (passed, shown, holds) in [
            (0, 0, true),
            (3_600, 3_600, true),
            (10, 12, true),
            (10, 8, true),
            (10, 13, false),
            (10, 7, false),
            (0, 3_600, false),
            (3_600, 0, false),
        ] {
            let instant = start + Duration::from_secs(passed);
            let now_us = then + shown * SECOND;
            let found = (pace.holds(now_us, instant), pace.is_broken(now_us, instant));
            assert_eq!(found, (holds, !holds), "{passed} s passed, {shown} s shown");
        }
        pace.keep(then + 3_600 * SECOND, start);
        assert!(pace.holds(then + 3_601 * SECOND, start + Duration::from_secs(1)));
    }
}
