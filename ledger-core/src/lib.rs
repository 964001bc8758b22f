//! The pure core of the ledger: what is hashed, signed, proven and decided, and how others check it.
//!
//! Nothing here reads a clock, a file, the network or randomness: the same input gives the same bytes on every
//! machine, which is what lets replicas agree and lets anyone verify a proof offline. Whatever such a function needs
//! to know about the outside is an argument.
//!
//! Read in this order: [`tree`] and [`note`] (what is proven), [`canonical`], [`keys`], [`signature`] and [`compartment`]
//! (what is signed), [`command`] (what can be asked), [`state`] (what is remembered), [`machine`] (what happens), and
//! [`evidence`] and [`audit`] (how others check it).

pub mod audit;
pub mod batch;
pub mod canonical;
pub mod card;
pub mod command;
pub mod compartment;
pub mod entry;
pub mod evidence;
pub mod explanation;
pub mod hash;
pub mod id;
pub mod keys;
pub mod ledger;
pub mod limits;
pub mod machine;
pub mod note;
pub mod quorum;
pub mod signature;
pub mod signer;
pub mod state;
pub mod tree;
