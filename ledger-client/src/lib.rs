//! The client side of the ledger: what authors and auditors do without a server.
//!
//! [`bundle_dir`] reads a bundle from a directory; [`cli`] is the command line `ledger-client`. Talking to a cluster comes with
//! the node.

pub mod bundle_dir;
pub mod cli;
