//! The one integration binary: every test that needs more than one crate.

mod machine;
mod manifests;
