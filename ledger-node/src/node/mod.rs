//! A running node: its parts put together.

pub mod ledger;
pub mod view;
