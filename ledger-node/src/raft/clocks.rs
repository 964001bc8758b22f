//! How far this node's clock is from its peers', from the times that they say.
//!
//! A peer's answer brings its clock; half of the round trip is taken for the way back, so that the estimate is off by at most half
//! the round trip, which is far below the 2 seconds that matter. A peer's request brings its clock as well: it was on its way for some
//! time, so that the peer's clock shows at least so much now. That counts where no answer was heard lately.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ledger_core::limits::MAX_CLOCK_OFFSET_US;

/// An estimate older than this says nothing, in microseconds.
const STALE_US: u64 = 30_000_000;
/// An answer that took longer says nothing: half of it would be as much as matters.
const MAX_ROUND_TRIP_US: u64 = 2_000_000;
/// The best of what was heard within this time counts, in microseconds: a message can be late, but never early.
const HEARD_US: u64 = 5_000_000;
/// How far a leader's clock may be from its voters' median, in microseconds.
pub const MAX_OFFSET_US: i64 = MAX_CLOCK_OFFSET_US.cast_signed();
/// How far a clock may be behind the last entry of the ledger, in microseconds.
pub const MAX_BEHIND_US: u64 = 5_000_000;

/// What a peer has said of its clock.
#[derive(Debug, Default, Clone, Copy)]
struct Known {
    /// Its clock minus ours in an answer, and when that came.
    answered: Option<(i64, u64)>,
    /// The greatest of its clock minus ours in requests, and when the first of them came.
    heard: Option<(i64, u64)>,
    /// The same of the requests before those.
    heard_before: Option<(i64, u64)>,
}

impl Known {
    /// The peer's clock minus ours, if it was heard of lately.
    fn offset(&self, now_us: u64) -> Option<i64> {
        let lately = |(offset, at): (i64, u64), within: u64| {
            (now_us.abs_diff(at) <= within).then_some(offset)
        };
        let answered = self.answered.and_then(|it| lately(it, STALE_US));
        let heard = [self.heard, self.heard_before];
        let heard = heard.into_iter().flatten();
        let heard = heard.filter_map(|it| lately(it, STALE_US)).max();
        answered.or(heard)
    }
}

/// How this node's clock compares with the others'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// Too few of the voters' clocks are known.
    Unknown,
    /// It is among a quorum's.
    Sound,
    /// It is off by so much from the median of so many clocks, itself among them: positive if it is ahead.
    Off {
        /// Microseconds.
        ahead_us: i64,
        /// Clocks that were compared.
        clocks: usize,
    },
    /// It is behind the last entry of the ledger by so much, in microseconds.
    BehindLedger {
        /// Microseconds.
        by_us: u64,
        /// A quorum's clocks say the same as this one: it is the ledger that is ahead.
        with_quorum: bool,
    },
}

/// Estimates by peer.
#[derive(Debug, Default)]
pub struct Clocks {
    peers: Mutex<BTreeMap<u64, Known>>,
}

fn difference(theirs_us: u64, ours_us: u64) -> i64 {
    let offset = i128::from(theirs_us) - i128::from(ours_us);
    let bound = i128::from(i64::MAX);
    i64::try_from(offset.clamp(-bound, bound)).unwrap_or_default()
}

impl Clocks {
    /// Takes an answer into account. All times in microseconds since 1970.
    pub fn record(&self, peer: u64, sent_at_us: u64, clock_us: u64, now_us: u64) {
        if clock_us == 0 || now_us < sent_at_us || now_us - sent_at_us > MAX_ROUND_TRIP_US {
            return;
        }
        let middle = sent_at_us + (now_us - sent_at_us) / 2;
        let offset = difference(clock_us, middle);
        self.lock().entry(peer).or_default().answered = Some((offset, now_us));
    }

    /// Takes a request into account that was sent at this time of the peer's clock and came at this time of ours.
    pub fn hear(&self, peer: u64, sent_at_us: u64, now_us: u64) {
        if sent_at_us == 0 {
            return;
        }
        let least = difference(sent_at_us, now_us);
        let mut peers = self.lock();
        let known = peers.entry(peer).or_default();
        match &mut known.heard {
            Some((best, since)) if now_us.abs_diff(*since) <= HEARD_US => {
                *best = (*best).max(least)
            }
            heard => known.heard_before = heard.replace((least, now_us)),
        }
    }

    /// Forgets all estimates: this node's clock is not the one that they were made with.
    pub fn forget(&self) {
        self.lock().clear();
    }

    /// How far this node's clock is ahead of the voters' median, itself among them; negative if behind. Peers that have not been
    /// heard of lately do not count. Of an even number of clocks the one that is behind counts: whoever waits does no harm.
    #[must_use]
    pub fn ahead_of_median_us(&self, this: u64, voters: &[u64], now_us: u64) -> i64 {
        median(&self.offsets(this, voters, now_us)).saturating_neg()
    }

    /// Compares this node's clock with the voters', and with the time of the last entry, which no sound clock is behind.
    #[must_use]
    pub fn compare(&self, this: u64, voters: &[u64], now_us: u64, ledger_us: u64) -> Comparison {
        let is_behind = |clock_us: u64| ledger_us > clock_us.saturating_add(MAX_BEHIND_US);
        let offsets = self.offsets(this, voters, now_us);
        let quorum = voters.len() / 2 + 1;
        if is_behind(now_us) {
            let near = offsets
                .iter()
                .filter(|offset| offset.abs() <= MAX_OFFSET_US);
            return Comparison::BehindLedger {
                by_us: ledger_us - now_us,
                with_quorum: near.count() >= quorum,
            };
        }
        // Before raft has said who votes, nobody's clock counts.
        if voters.is_empty() || offsets.len() < quorum {
            return Comparison::Unknown;
        }
        let mut plausible = offsets;
        plausible.retain(|offset| !is_behind(now_us.saturating_add_signed(*offset)));
        let ahead_us = median(&plausible).saturating_neg();
        if ahead_us.abs() <= MAX_OFFSET_US {
            return Comparison::Sound;
        }
        let clocks = plausible.len();
        Comparison::Off { ahead_us, clocks }
    }

    /// The latest time that the clocks of a quorum of voters have come to; none if too few are known.
    #[must_use]
    pub fn supported_us(&self, this: u64, voters: &[u64], now_us: u64) -> Option<u64> {
        let mut offsets = self.offsets(this, voters, now_us);
        offsets.reverse();
        let quorum = voters.len() / 2;
        let reached = offsets.get(quorum)?;
        Some(now_us.saturating_add_signed(*reached))
    }

    /// The clocks of the voters, and this node's, minus this node's: ascending.
    fn offsets(&self, this: u64, voters: &[u64], now_us: u64) -> Vec<i64> {
        let peers = self.lock();
        let others = voters.iter().filter(|peer| **peer != this);
        let known = others.filter_map(|peer| peers.get(peer)?.offset(now_us));
        let mut offsets: Vec<i64> = known.chain([0]).collect();
        offsets.sort_unstable();
        offsets
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Known>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The middle of ascending numbers; of an even number of them the lesser one.
fn median(ascending: &[i64]) -> i64 {
    let middle = ascending.len().saturating_sub(1) / 2;
    ascending.get(middle).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;
    const NOW: u64 = 1_000_000 * SECOND;
    const HOUR: u64 = 3_600 * SECOND;

    /// What node 1 makes of clocks that are ahead of its own by so many seconds.
    fn clocks(ahead_s: &[(u64, i64)]) -> Clocks {
        let clocks = Clocks::default();
        for (peer, ahead_s) in ahead_s {
            let theirs = NOW.saturating_add_signed(ahead_s * 1_000_000);
            clocks.record(*peer, NOW, theirs, NOW);
        }
        clocks
    }

    fn compared(voters: &[u64], ahead_s: &[(u64, i64)], ledger_us: u64) -> Comparison {
        clocks(ahead_s).compare(1, voters, NOW, ledger_us)
    }

    const fn off(ahead_s: i64, clocks: usize) -> Comparison {
        let ahead_us = ahead_s * 1_000_000;
        Comparison::Off { ahead_us, clocks }
    }

    #[test]
    fn the_odd_one_out_is_found() {
        let three = [1, 2, 3];
        assert_eq!(compared(&three, &[(2, 10), (3, 11)], 0), off(-10, 3));
        assert_eq!(compared(&three, &[(2, 10), (3, 0)], 0), Comparison::Sound);
        assert_eq!(compared(&three, &[(2, -400), (3, -400)], 0), off(400, 3));
        let five = [1, 2, 3, 4, 5];
        let two_off = [(2, 100), (3, 100), (4, 0), (5, 1)];
        assert_eq!(compared(&five, &two_off, 0), Comparison::Sound);
        assert_eq!(compared(&[1], &[], 0), Comparison::Sound, "alone");
    }

    #[test]
    fn of_two_clocks_the_one_that_is_ahead_is_off() {
        let three = [1, 2, 3];
        assert_eq!(compared(&three, &[(2, -90_000)], 0), off(90_000, 2));
        assert_eq!(compared(&three, &[(2, 90_000)], 0), Comparison::Sound);
        assert_eq!(compared(&three, &[(2, -2)], 0), Comparison::Sound);
        let four = [(2, -5), (3, -5), (4, 0)];
        assert_eq!(compared(&[1, 2, 3, 4, 5], &four, 0), off(5, 4));
    }

    #[test]
    fn a_clock_that_is_behind_the_last_entry_does_not_count() {
        let three = [1, 2, 3];
        // A node in 1970 beside one that is right.
        let in_1970 = [(2, -999_990)];
        assert_eq!(compared(&three, &in_1970, NOW), Comparison::Sound);
        let itself = compared(&three, &[(2, 3_600)], NOW + HOUR);
        let with_quorum = false;
        let by_us = HOUR;
        assert_eq!(itself, Comparison::BehindLedger { by_us, with_quorum });
        let all = compared(&three, &[(2, 0), (3, 1)], NOW + HOUR);
        let with_quorum = true;
        assert_eq!(all, Comparison::BehindLedger { by_us, with_quorum });
    }

    #[test]
    fn with_too_few_clocks_nothing_is_known_and_old_news_do_not_count() {
        let three = [1, 2, 3];
        assert_eq!(compared(&three, &[], NOW), Comparison::Unknown);
        assert_eq!(compared(&[], &[], NOW), Comparison::Unknown);
        assert_eq!(
            compared(&[1, 2, 3, 4, 5], &[(2, 0)], 0),
            Comparison::Unknown
        );
        let clocks = clocks(&[(2, 10), (3, 10)]);
        let later = NOW + STALE_US + 1;
        assert_eq!(clocks.compare(1, &three, later, NOW), Comparison::Unknown);
        clocks.forget();
        assert_eq!(clocks.compare(1, &three, NOW, NOW), Comparison::Unknown);
    }

    #[test]
    fn half_of_the_round_trip_is_taken_off_and_a_long_one_says_nothing() {
        let clocks = Clocks::default();
        let (sent, back) = (10 * SECOND, 12 * SECOND);
        for peer in [2, 3] {
            clocks.record(peer, sent, 11 * SECOND, back);
        }
        assert_eq!(clocks.ahead_of_median_us(1, &[1, 2, 3], back), 0);
        clocks.forget();
        clocks.record(2, sent, 11 * SECOND, back + 1);
        assert_eq!(clocks.compare(1, &[1, 2, 3], back, 0), Comparison::Unknown);
    }

    #[test]
    fn what_is_heard_counts_as_the_least_that_the_peer_can_show() {
        let clocks = Clocks::default();
        // The first message was on its way for 30 s, while this node stood still.
        clocks.hear(2, NOW - 430 * SECOND, NOW);
        clocks.hear(2, NOW - 400 * SECOND, NOW);
        clocks.hear(2, NOW - 410 * SECOND, NOW + SECOND);
        let found = clocks.compare(1, &[1, 2, 3], NOW + SECOND, 0);
        assert_eq!(found, off(400, 2));
        let later = NOW + 2 * HEARD_US;
        clocks.hear(2, later, later);
        assert_eq!(clocks.compare(1, &[1, 2, 3], later, 0), Comparison::Sound);
        // What was answered is exact.
        clocks.record(2, later, later - 7 * SECOND, later);
        assert_eq!(clocks.compare(1, &[1, 2, 3], later, 0), off(7, 2));
    }

    #[test]
    fn a_quorum_supports_the_time_that_most_of_it_has_come_to() {
        let voters = [1, 2, 3];
        let supported = |ahead: &[(u64, i64)]| clocks(ahead).supported_us(1, &voters, NOW);
        assert_eq!(supported(&[]), None);
        assert_eq!(supported(&[(2, -90_000)]), Some(NOW - 90_000 * SECOND));
        assert_eq!(supported(&[(2, 90_000)]), Some(NOW));
        assert_eq!(supported(&[(2, 90_000), (3, -1)]), Some(NOW));
        assert_eq!(clocks(&[]).supported_us(1, &[1], NOW), Some(NOW));
    }
}
