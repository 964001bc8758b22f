//! The machine, driven as a cluster drives it: signed submissions in, entries out.

mod admission;
mod authorize;
mod determinism;
mod history;
mod limits;
mod model;
mod records;
mod roles;
mod sessions;
mod smoke;
mod stream;

/// As many cases as `PROPTEST_CASES` says, or this many.
pub(crate) fn cases(default: u32) -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(default)
}
