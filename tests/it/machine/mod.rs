//! The machine, driven as a cluster drives it: signed submissions in, entries out.

#![expect(
    clippy::too_many_lines,
    clippy::type_complexity,
    clippy::wildcard_enum_match_arm,
    reason = "tables of cases are data, and what a test does not expect ends it"
)]

mod admission;
mod attestation;
mod audit;
mod authorize;
mod bad_input;
mod bundles;
mod determinism;
mod erase;
mod halts;
mod history;
mod keys;
mod limits;
mod membership;
mod model;
mod provenance;
mod records;
mod redemption_keys;
mod redemptions;
mod roles;
mod sessions;
mod smoke;
mod time;
mod versions;

/// As many cases as `PROPTEST_CASES` says, or this many.
pub(crate) fn cases(default: u32) -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(default)
}
