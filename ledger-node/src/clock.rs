//! Time and randomness, as things that a node is given.
//!
//! A node that asked the operating system wherever it wants to know the time could not be simulated, and its behaviour with a
//! wrong clock could not be tested. So whoever starts a node hands it a [`Clock`] and an [`Entropy`].

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Tells the time.
pub trait Clock: std::fmt::Debug + Send + Sync {
    /// Microseconds since 1970. May jump, also backwards.
    fn now_us(&self) -> u64;

    /// A moment that only ever moves forward, for deadlines and intervals.
    fn instant(&self) -> Instant;
}

/// The clock of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_us(&self) -> u64 {
        // A clock before 1970 counts as 1970: such a node is behind every voter, and is treated as that.
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        micros(since)
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }
}

/// A clock that moves when it is told to.
#[derive(Debug)]
pub struct ManualClock {
    start: Instant,
    hands: Mutex<Hands>,
}

#[derive(Debug, Clone, Copy)]
struct Hands {
    now_us: u64,
    elapsed: Duration,
}

impl ManualClock {
    /// A clock that stands at this time.
    #[must_use]
    pub fn new(now_us: u64) -> Self {
        Self {
            start: Instant::now(),
            hands: Mutex::new(Hands {
                now_us,
                elapsed: Duration::ZERO,
            }),
        }
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        let mut hands = self.hands.lock().unwrap_or_else(PoisonError::into_inner);
        hands.now_us = hands.now_us.saturating_add(micros(by));
        hands.elapsed = hands.elapsed.saturating_add(by);
    }

    /// Sets the wall clock, and only that, as an operator or a broken time server does.
    pub fn set(&self, now_us: u64) {
        self.hands
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .now_us = now_us;
    }

    fn hands(&self) -> Hands {
        *self.hands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now_us(&self) -> u64 {
        self.hands().now_us
    }

    fn instant(&self) -> Instant {
        self.start + self.hands().elapsed
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Gives random bytes.
pub trait Entropy: std::fmt::Debug + Send + Sync {
    /// Fills the buffer.
    ///
    /// # Errors
    /// The operating system has no randomness to give. Nothing may be signed or named then.
    fn fill(&self, buffer: &mut [u8]) -> io::Result<()>;

    /// A new id of 16 random bytes.
    ///
    /// # Errors
    /// As [`Entropy::fill`].
    fn id(&self) -> io::Result<[u8; 16]> {
        let mut id = [0; 16];
        self.fill(&mut id)?;
        Ok(id)
    }
}

/// The randomness of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, buffer: &mut [u8]) -> io::Result<()> {
        getrandom::fill(buffer).map_err(io::Error::other)
    }
}

/// The same bytes for the same seed. For simulations only: whoever knows the seed knows the bytes.
#[derive(Debug)]
pub struct SeededEntropy(Mutex<blake3::OutputReader>);

impl SeededEntropy {
    /// The bytes that follow from a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_be_bytes());
        Self(Mutex::new(hasher.finalize_xof()))
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, buffer: &mut [u8]) -> io::Result<()> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .fill(buffer);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_is_of_this_century() {
        let now_us = SystemClock.now_us();
        assert!(now_us > 1_700_000_000_000_000);
        assert!(now_us < ledger_core::limits::MAX_TIME_US);
    }

    #[test]
    fn setting_the_wall_clock_moves_no_deadline() {
        let clock = ManualClock::new(5);
        let before = clock.instant();
        clock.set(1);
        assert_eq!((clock.now_us(), clock.instant()), (1, before));
        clock.advance(Duration::from_secs(2));
        assert_eq!(clock.now_us(), 2_000_001);
        assert_eq!(clock.instant() - before, Duration::from_secs(2));
    }

    #[test]
    fn a_seed_repeats_and_the_system_does_not() {
        let ids = |entropy: &dyn Entropy| [entropy.id().unwrap(), entropy.id().unwrap()];
        assert_eq!(ids(&SeededEntropy::new(7)), ids(&SeededEntropy::new(7)));
        assert_ne!(ids(&SeededEntropy::new(7)), ids(&SeededEntropy::new(8)));
        let [a, b] = ids(&SystemEntropy);
        assert_ne!(a, b);
    }
}
