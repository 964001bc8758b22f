//! A running node: its parts put together.

pub mod attested;
mod attester;
mod bodies;
mod check;
mod connections;
pub mod eraser;
pub mod fatal;
mod keeper;
mod leadership;
pub mod ledger;
mod own_commands;
mod patrol;
pub mod reads;
mod reports;
mod serve;
pub mod start;
pub mod view;
pub mod vouched;
