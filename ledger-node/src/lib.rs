//! The node: a replica that decides, commits and proves.

pub mod apply;
pub mod cli;
pub mod clock;
pub mod config;
pub mod cosign;
pub mod failure;
pub mod fatal;
pub mod front;
pub mod fsck;
pub mod genesis_file;
pub mod index;
pub mod keyfile;
pub mod leadership;
pub mod ledger;
pub mod limits;
pub mod logging;
pub mod node;
pub mod peer;
pub mod raft;
pub mod reads;
pub mod seldom;
pub mod storage;
pub mod submit;
pub mod transport;
pub mod worker;
