//! `countersign.v1`: every message that is signed, hashed, stored or sent.
//!
//! The `.proto` files are the reference; this crate is what the build makes of them. The gRPC services are behind the
//! feature `grpc`, so that the pure crates see messages only.

/// Version 1 of everything.
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/countersign.v1.rs"));
}

/// What replicas say to each other, and how they keep Raft's log.
pub mod peer {
    /// Version 1.
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/countersign.peer.v1.rs"));
    }
}

/// The encoded `FileDescriptorSet` of both packages, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
