//! The machine, driven as a cluster drives it: signed submissions in, entries out.

#![expect(
    clippy::too_many_lines,
    clippy::type_complexity,
    clippy::wildcard_enum_match_arm,
    reason = "tables of cases are data, and what a test does not expect ends it"
)]

mod admission;
mod authorize;
mod erase;
mod limits;
mod membership;
mod records;
mod roles;
mod sessions;
mod smoke;
