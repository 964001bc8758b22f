//! The RFC 6962 Merkle tree of a ledger, stored as C2SP tiles.
//!
//! Appending goes through the [`frontier`], which knows the root at O(log n) cost and says what to write into which
//! [`tile`]. Proving reads tiles ([`proof`]), at any size the ledger has ever had. Verifying ([`verify`]) needs nothing
//! but hashes. [`batch`] is the same tree over the few commands that share one signature.

pub mod batch;
pub mod frontier;
pub mod proof;
pub mod tile;
mod tile_tree;
pub mod verify;

#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
mod tamper_tests;
#[cfg(test)]
mod test_ledger;
