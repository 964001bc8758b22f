//! The one integration binary: what holds between the crates, and what holds for the repository as a whole.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test that meets anything but what it expects fails, whatever it met"
)]

#[cfg(test)]
mod agentdojo;
#[cfg(test)]
mod cedar_corpus;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod deps_script;
#[cfg(test)]
mod evidence;
#[cfg(test)]
mod format;
#[cfg(test)]
mod fsck;
#[cfg(test)]
mod fuzz_replay;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod machine;
#[cfg(test)]
mod manifests;
#[cfg(test)]
mod proto;
#[cfg(test)]
mod readme;
#[cfg(test)]
mod snapshots;
#[cfg(test)]
mod tidy;
#[cfg(test)]
mod vectors;
