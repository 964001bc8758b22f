//! From committed log entries to ledger entries: signatures on worker threads, the machine on one thread with a large stack.

pub mod applier;
pub mod boundaries;
pub mod points;
pub mod prepare;
pub mod receipts;
pub mod suspicion;
pub mod waiters;

pub use applier::Applier;
