//! C2SP signed notes: how a ledger's tree head is signed, cosigned, trusted and carried in a file.
//!
//! A [`signed_note`] is text with signatures by named keys ([`vkey`]); a [`checkpoint`] is a note about a tree; a
//! [`cosignature`] is a witness's signature on one. A [`tlog_policy`] says whose signatures make a checkpoint
//! trustworthy, [`verify`] applies it, and a [`tlog_proof`] is a file that proves one entry with all of this.

pub mod checkpoint;
pub mod cosignature;
pub mod signed_note;
mod text;
pub mod tlog_policy;
mod tlog_policy_parse;
pub mod tlog_proof;
pub mod tlog_witness;
pub mod verify;
pub mod vkey;

#[cfg(test)]
mod note_tests;
#[cfg(test)]
pub(crate) mod test_keys;
#[cfg(test)]
mod tlog_policy_tests;
#[cfg(test)]
mod verify_tests;
