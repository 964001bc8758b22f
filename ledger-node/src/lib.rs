//! The node: a replica that decides, commits and proves.

pub mod front;
pub mod index;
pub mod node;
pub mod storage;
