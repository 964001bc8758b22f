//! The machine, driven as a cluster drives it: signed submissions in, entries out.

mod admission;
mod authorize;
mod limits;
mod records;
mod roles;
mod sessions;
mod smoke;
