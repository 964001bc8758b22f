//! AgentDojo's tasks as sessions: what a user's prompt permits, and what the rules of `examples/agentdojo` make of it.
//!
//! [`environment`] reads what the user's world looks like before anything happens, [`grants`] reads a prompt against it and
//! says with what a session is to be opened, [`report`] asks the rules about recorded actions in such sessions.

pub mod engine;
pub mod environment;
pub mod grants;
pub mod report;
pub mod sessions;
mod words;
mod yaml;

/// The suites.
pub const SUITES: [&str; 4] = crate::examples::AGENTDOJO;
