//! The node: a replica that decides, commits and proves.

pub mod clock;
pub mod config;
pub mod front;
pub mod keyfile;
pub mod node;
pub mod storage;
