//! The pure core of the ledger: what is hashed, signed, proven and decided, and how others check it.
//!
//! Nothing here reads a clock, a file, the network or randomness: the same input gives the same bytes on every
//! machine, which is what lets replicas agree and lets anyone verify a proof offline. Whatever such a function needs
//! to know about the outside is an argument.

pub mod hash;
pub mod id;
pub mod keys;
pub mod limits;
pub mod note;
pub mod signer;
pub mod tree;
