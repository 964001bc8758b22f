//! The node: a replica that decides, commits and proves.

pub mod apply;
pub mod cli;
pub mod clock;
pub mod config;
pub mod cosign;
pub mod front;
pub mod fsck;
pub mod genesis_file;
pub mod index;
pub mod keyfile;
pub mod logging;
pub mod node;
pub mod raft;
pub mod storage;
pub mod submit;
