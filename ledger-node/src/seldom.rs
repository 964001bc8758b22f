//! Lines of the log that would be written again for as long as their cause lasts, and hide everything else.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// When something was last said.
#[derive(Debug)]
pub struct Seldom {
    pause: Duration,
    said: Mutex<Option<Instant>>,
}

impl Seldom {
    /// Once in so long.
    #[must_use]
    pub const fn new(pause: Duration) -> Self {
        Self {
            pause,
            said: Mutex::new(None),
        }
    }

    /// True if it is time to say it again; whoever is told so says it.
    #[must_use]
    pub fn may_say(&self) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let may = said.is_none_or(|said| said.elapsed() >= self.pause);
        if may {
            *said = Some(Instant::now());
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_just_said_is_not_said_again() {
        let hourly = Seldom::new(Duration::from_secs(3_600));
        assert!(hourly.may_say());
        assert!(!hourly.may_say());
        let always = Seldom::new(Duration::ZERO);
        assert!(always.may_say() && always.may_say());
    }
}
