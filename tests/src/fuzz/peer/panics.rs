//! Panics of the node's own tasks and threads. Under the fuzzer each ends the process, so that the input is kept; here they are
//! counted as well, so that an ordinary test fails of them.

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

/// How the threads of the node's runtime are called.
pub(super) const THREAD: &str = "fuzzed-node";

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Counts the panics of the node's runtime from now on.
pub(super) fn count() {
    static COUNTS: Once = Once::new();
    COUNTS.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().name() == Some(THREAD) {
                PANICS.fetch_add(1, Ordering::AcqRel);
            }
            before(info);
        }));
    });
}

/// # Panics
/// If a task of the node has panicked.
pub(super) fn must_be_none() {
    let panics = PANICS.load(Ordering::Acquire);
    assert_eq!(panics, 0, "a task of the node has panicked");
}
