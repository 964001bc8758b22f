//! A running node: its parts put together.

mod check;
pub mod eraser;
pub mod fatal;
mod keeper;
pub mod ledger;
pub mod reads;
mod serve;
pub mod start;
pub mod view;
