//! What the integration tests share.

pub mod shared_data;
