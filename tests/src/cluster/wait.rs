//! Waiting: always for a condition, at most so long, and with words for what was waited for.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const EVERY: Duration = Duration::from_millis(20);

/// Looks at a condition until it gives something.
///
/// # Panics
/// If it has given nothing after this time.
pub async fn until<T>(
    what: &str,
    at_most: Duration,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> T {
    let start = Instant::now();
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // The condition itself may hang, which is also not to be waited for longer.
        let left = at_most.saturating_sub(start.elapsed());
        match tokio::time::timeout(left, condition()).await {
            Ok(Some(found)) => return found,
            Ok(None) => {}
            Err(_) => panic!("waited {at_most:?} until {what}"),
        }
        assert!(start.elapsed() < at_most, "waited {at_most:?} until {what}");
    }
}
