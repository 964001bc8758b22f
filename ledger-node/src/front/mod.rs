//! The public gRPC services.

pub mod failure;
pub mod gate;
pub mod paging;
pub mod read_auth;
pub mod rights;
