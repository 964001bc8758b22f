//! How far this node's clock is from its peers', from the times in their answers.
//!
//! A peer's answer brings its clock; half of the round trip is taken for the way back. The estimate is off by at most half the
//! round trip, which is far below the 2 seconds that matter.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// An estimate older than this says nothing, in microseconds.
const STALE_US: u64 = 30_000_000;
/// How far a leader's clock may be from its voters' median, in microseconds.
pub const MAX_OFFSET_US: i64 = 2_000_000;

/// Estimates by peer.
#[derive(Debug, Default)]
pub struct Clocks {
    /// Peer's clock minus ours in microseconds, and when that was measured.
    offsets: Mutex<BTreeMap<u64, (i64, u64)>>,
}

impl Clocks {
    /// Takes an answer into account. All times in microseconds since 1970.
    pub fn record(&self, peer: u64, sent_at_us: u64, clock_us: u64, now_us: u64) {
        if clock_us == 0 || now_us < sent_at_us {
            return;
        }
        let middle = sent_at_us + (now_us - sent_at_us) / 2;
        let offset = i128::from(clock_us) - i128::from(middle);
        let bound = i128::from(i64::MAX);
        let offset = i64::try_from(offset.clamp(-bound, bound)).unwrap_or_default();
        let mut offsets = self.offsets.lock().unwrap_or_else(PoisonError::into_inner);
        offsets.insert(peer, (offset, now_us));
    }

    /// Forgets all estimates: this node's clock is not the one that they were made with.
    pub fn forget(&self) {
        let mut offsets = self.offsets.lock().unwrap_or_else(PoisonError::into_inner);
        offsets.clear();
    }

    /// How far this node's clock is ahead of the median of the voters' clocks, itself among them; negative if behind. Peers
    /// that have not been heard of lately do not count.
    #[must_use]
    pub fn ahead_of_median_us(&self, this: u64, voters: &[u64], now_us: u64) -> i64 {
        let offsets = self.offsets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known: Vec<i64> = voters
            .iter()
            .filter(|peer| **peer != this)
            .filter_map(|peer| offsets.get(peer))
            .filter(|(_, at)| now_us.abs_diff(*at) <= STALE_US)
            .map(|(offset, _)| *offset)
            .collect();
        known.push(0);
        known.sort_unstable();
        let middle = known.len() / 2;
        let upper = known.get(middle).copied().unwrap_or_default();
        let lower = known
            .get((known.len() - 1) / 2)
            .copied()
            .unwrap_or_default();
        // Of an even number, the one nearer to this node: two clocks alone cannot say which is wrong.
        let median = if upper.abs() <= lower.abs() {
            upper
        } else {
            lower
        };
        median.saturating_neg()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn the_odd_one_out_is_found() {
        let clocks = Clocks::default();
        let now = 100 * SECOND;
        clocks.record(2, now, now + 10 * SECOND, now);
        clocks.record(3, now, now + 11 * SECOND, now);
        assert_eq!(clocks.ahead_of_median_us(1, &[1, 2, 3], now), -10_000_000);
        clocks.record(3, now, now, now);
        assert_eq!(clocks.ahead_of_median_us(1, &[1, 2, 3], now), 0);
    }

    #[test]
    fn two_clocks_cannot_tell_and_old_news_do_not_count() {
        let clocks = Clocks::default();
        let now = 100 * SECOND;
        clocks.record(2, now, now + 10 * SECOND, now);
        assert_eq!(clocks.ahead_of_median_us(1, &[1, 2], now), 0);
        clocks.record(3, now, now + 10 * SECOND, now);
        assert_eq!(clocks.ahead_of_median_us(1, &[1, 2, 3], now), -10_000_000);
        assert_eq!(
            clocks.ahead_of_median_us(1, &[1, 2, 3], now + 31 * SECOND),
            0
        );
    }

    #[test]
    fn half_of_the_round_trip_is_taken_off() {
        let clocks = Clocks::default();
        for peer in [2, 3] {
            clocks.record(peer, 10 * SECOND, 12 * SECOND, 14 * SECOND);
        }
        assert_eq!(clocks.ahead_of_median_us(1, &[1, 2, 3], 14 * SECOND), 0);
    }
}
