//! The machine, driven as a cluster drives it: signed submissions in, entries out.

mod roles;
mod smoke;
