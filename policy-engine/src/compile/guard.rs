//! Room and a net for parsers that recurse.
//!
//! Dogwood and Cedar parse, lower and validate by recursion. Text is measured first ([`crate::nesting`]), so the depth is
//! bounded; this thread's fixed stack holds that depth with a wide margin, whatever the caller's own stack is. A panic in
//! them ends the thread and becomes a finding; that the system has no thread to give says nothing about the text and is told apart.

/// Far more than the deepest text within the limits needs; only what is touched is ever resident.
const STACK_BYTES: usize = 256 * 1024 * 1024;

/// Why the work has no result.
#[derive(Debug)]
pub(super) enum Failed {
    /// It ended in a panic.
    Panicked,
    /// It never began.
    NoThread,
}

/// Runs the work on a stack of its own and waits for it.
#[expect(
    clippy::disallowed_methods,
    reason = "a stack overflow cannot be caught, so the stack must not be the caller's; the thread shares nothing, and is \
              waited for at once"
)]
pub(super) fn on_large_stack<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failed> {
    std::thread::Builder::new()
        .name("compile".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(work)
        .map_err(|_| Failed::NoThread)?
        .join()
        .map_err(|_| Failed::Panicked)
}

#[cfg(test)]
mod tests {
    use super::{Failed, on_large_stack};

    #[test]
    fn work_is_done_and_a_panic_is_contained() {
        assert_eq!(on_large_stack(|| 7).unwrap(), 7);
        assert!(matches!(
            on_large_stack(|| -> u8 { panic!("contained") }),
            Err(Failed::Panicked)
        ));
    }
}
