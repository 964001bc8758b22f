//! The one integration binary: every test that needs more than one crate, or other people's test vectors.

mod cedar_corpus;
mod machine;
mod manifests;
