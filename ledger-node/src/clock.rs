//! The time of day, and randomness, as things that a node is given.
//!
//! A node that asked the operating system wherever it wants to know what time it is could not be tested with a wrong clock. So whoever starts a node hands it a [`Clock`] and an [`Entropy`].

use std::io;
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
    fn the_randomness_of_the_system_does_not_repeat() {
        assert_ne!(SystemEntropy.id().unwrap(), SystemEntropy.id().unwrap());
    }
}
