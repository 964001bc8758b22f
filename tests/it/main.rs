//! Tests of the whole, and with other people's test vectors.

mod cedar_corpus;
