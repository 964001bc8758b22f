//! A running node: its parts put together.

mod check;
pub mod eraser;
pub mod fatal;
mod keeper;
mod leadership;
pub mod ledger;
pub mod reads;
mod serve;
pub mod start;
pub mod view;
