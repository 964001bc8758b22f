//! Inclusion and consistency proofs, built by reading tiles.
