//! The public gRPC services.

pub mod authorization;
pub mod cluster;
pub mod failure;
mod follow;
pub mod gate;
pub mod listing;
pub mod paging;
pub mod proving;
pub mod read_auth;
pub mod rights;
