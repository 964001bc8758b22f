//! A running node: its parts put together.

mod attester;
mod bodies;
mod check;
mod connections;
pub mod eraser;
mod keeper;
mod own_commands;
mod patrol;
mod reports;
mod serve;
pub mod start;
mod timekeeper;
pub mod vouched;
