//! A running node: its parts put together.

mod attester;
mod bodies;
mod check;
mod connections;
pub mod eraser;
mod handshakes;
mod keeper;
mod log_purge;
mod members;
mod own_commands;
mod patrol;
mod reconciler;
mod recovery;
mod reports;
mod serve;
pub mod start;
mod timekeeper;
mod trust_follower;
mod trust_push;
pub mod vouched;
