//! The public gRPC services.

pub mod failure;
