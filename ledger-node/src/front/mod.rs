//! The public gRPC services.

pub mod authorization;
pub mod cluster;
pub mod failure;
pub mod gate;
pub mod paging;
pub mod proving;
pub mod read_auth;
pub mod rights;
