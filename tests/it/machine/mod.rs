//! The machine, driven as a cluster drives it: signed submissions in, entries out.

mod determinism;
mod history;
mod smoke;
mod stream;
