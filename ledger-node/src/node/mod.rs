//! A running node: its parts put together.

pub mod fatal;
pub mod ledger;
pub mod reads;
pub mod view;
