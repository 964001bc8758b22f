//! Room and a net for parsers that recurse.
//!
//! Dogwood and Cedar parse, lower and validate by recursion. Text is measured first ([`crate::nesting`]), so the depth is
//! bounded; this thread's fixed stack holds that depth with a wide margin, whatever the caller's own stack is. A panic in
//! them ends the thread and becomes a finding.

/// Far more than the deepest text within the limits needs; only what is touched is ever resident.
const STACK_BYTES: usize = 256 * 1024 * 1024;

/// The work ended in a panic, or the system has no thread to give.
#[derive(Debug)]
pub(super) struct Failed;

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
        .map_err(|_| Failed)?
        .join()
        .map_err(|_| Failed)
}

#[cfg(test)]
mod tests {
    use super::on_large_stack;

    #[test]
    fn work_is_done_and_a_panic_is_contained() {
        assert_eq!(on_large_stack(|| 7).unwrap(), 7);
        assert!(on_large_stack(|| -> u8 { panic!("contained") }).is_err());
    }
}
