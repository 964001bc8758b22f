//! The admins' requests to move leadership that this node has honoured. What an admin signed moves leadership once: a request is for
//! the leader of the time at which it was signed, and that leader remembers it for as long as its time lets it pass.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ledger_core::hash::Hash;

/// How long a request is remembered. It may be dated as far ahead of this node's clock as behind it, so that its time refuses it after
/// twice that long at the latest.
pub const REMEMBERED: Duration = Duration::from_secs(120);
/// Most requests that are remembered. One more is refused until the oldest is forgotten: they are the admins' own.
pub const MAX_REMEMBERED: usize = 64;

/// The reason why a request is not honoured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotHonoured {
    /// The request was signed before this leadership began.
    #[error(
        "the request was signed before the present leader was elected; see who leads, and sign it again"
    )]
    BeforeElection,
    /// The request has been honoured.
    #[error("this signed request has moved leadership already; sign another one")]
    Again,
    /// Too many requests are remembered.
    #[error("leadership was moved {MAX_REMEMBERED} times in two minutes; wait for two minutes")]
    TooMany,
}

/// The requests to move leadership that this node has honoured, and since when it can have led.
#[derive(Debug)]
pub struct HonouredTransfers(Mutex<Honoured>);

#[derive(Debug)]
struct Honoured {
    /// The term of this node's last candidacy.
    term: u64,
    /// When that began, by this node's clock; or when the process did.
    since_us: u64,
    /// When each request was honoured, by the digest of what was signed.
    at: BTreeMap<Hash, Instant>,
}

impl HonouredTransfers {
    /// The memory of a node that begins now: it does not know what it honoured before, so no older request counts.
    #[must_use]
    pub const fn new(now_us: u64) -> Self {
        Self(Mutex::new(Honoured {
            term: 0,
            since_us: now_us,
            at: BTreeMap::new(),
        }))
    }

    /// Notes that this node is a candidate in a term: it leads it later than that, if it does.
    pub fn note_candidacy(&self, term: u64, now_us: u64) {
        let mut honoured = self.lock();
        if term > honoured.term {
            honoured.term = term;
            honoured.since_us = now_us;
        }
    }

    /// Checks that a request can be honoured.
    ///
    /// # Errors
    /// [`NotHonoured`]
    pub fn check(&self, digest: &Hash, signed_at_us: u64, now: Instant) -> Result<(), NotHonoured> {
        self.lock().check(digest, signed_at_us, now)
    }

    /// Honours a request, which is the only time that it is.
    ///
    /// # Errors
    /// [`NotHonoured`]
    pub fn honour(&self, digest: Hash, signed_at_us: u64, now: Instant) -> Result<(), NotHonoured> {
        let mut honoured = self.lock();
        honoured.check(&digest, signed_at_us, now)?;
        honoured.at.insert(digest, now);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Honoured> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Honoured {
    fn check(&mut self, digest: &Hash, signed_at_us: u64, now: Instant) -> Result<(), NotHonoured> {
        // By a clock that runs evenly: the time of day may go back, and must not make an old request new.
        self.at
            .retain(|_, at| now.saturating_duration_since(*at) < REMEMBERED);
        if signed_at_us < self.since_us {
            return Err(NotHonoured::BeforeElection);
        }
        if self.at.contains_key(digest) {
            return Err(NotHonoured::Again);
        }
        if self.at.len() >= MAX_REMEMBERED {
            return Err(NotHonoured::TooMany);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_796_040_000_000_000;

    fn digest(number: usize) -> Hash {
        Hash::from_bytes(*blake3::hash(&number.to_be_bytes()).as_bytes())
    }

    #[test]
    fn a_request_is_honoured_once_for_as_long_as_its_time_lets_it_pass() {
        let honoured = HonouredTransfers::new(NOW);
        let begin = Instant::now();
        assert_eq!(honoured.check(&digest(1), NOW, begin), Ok(()));
        assert_eq!(honoured.honour(digest(1), NOW, begin), Ok(()));
        let last = begin + REMEMBERED - Duration::from_nanos(1);
        for now in [begin, last] {
            let again = Err(NotHonoured::Again);
            assert_eq!(honoured.check(&digest(1), NOW, now), again);
            assert_eq!(honoured.honour(digest(1), NOW, now), again);
        }
        assert_eq!(honoured.honour(digest(2), NOW, begin), Ok(()));
        assert_eq!(
            honoured.honour(digest(1), NOW, begin + REMEMBERED),
            Ok(()),
            "its time refuses it by now"
        );
    }

    #[test]
    fn a_request_is_for_the_leader_of_its_time() {
        let honoured = HonouredTransfers::new(NOW);
        let now = Instant::now();
        let before = Err(NotHonoured::BeforeElection);
        assert_eq!(honoured.honour(digest(1), NOW - 1, now), before, "a start");
        honoured.note_candidacy(7, NOW + 5);
        assert_eq!(honoured.honour(digest(1), NOW + 4, now), before);
        honoured.note_candidacy(7, NOW + 9);
        honoured.note_candidacy(6, NOW + 9);
        assert_eq!(
            honoured.honour(digest(1), NOW + 5, now),
            Ok(()),
            "a term begins once"
        );
        honoured.note_candidacy(8, NOW + 9);
        assert_eq!(honoured.honour(digest(2), NOW + 8, now), before);
    }

    #[test]
    fn so_many_are_remembered_and_not_one_more() {
        let honoured = HonouredTransfers::new(NOW);
        let now = Instant::now();
        for number in 0..MAX_REMEMBERED {
            assert_eq!(honoured.honour(digest(number), NOW, now), Ok(()));
        }
        let more = digest(MAX_REMEMBERED);
        assert_eq!(honoured.honour(more, NOW, now), Err(NotHonoured::TooMany));
        assert_eq!(honoured.honour(more, NOW, now + REMEMBERED), Ok(()));
    }
}
