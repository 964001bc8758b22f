//! The public gRPC services.

pub mod authorization;
pub mod cluster;
mod entries;
mod evidence;
pub mod failure;
mod follow;
pub mod gate;
pub mod ledger;
pub mod listing;
pub mod paging;
pub mod proving;
pub mod read_auth;
pub mod rights;
