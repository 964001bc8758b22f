//! The client side of the ledger: an SDK that believes nothing that is not proven, and the command line `ledger-client`.
//!
//! An agent, or the gateway in front of its tools, asks before an action runs and records what was executed:
//!
//! ```no_run
//! use ledger_client::{Author, Client, Error, Execution, KeyFile, Question, Settings, Trust};
//! use ledger_core::id::SessionId;
//! use ledger_proto::v1::ExecutionStatus;
//!
//! # async fn refund(session: SessionId) -> Result<(), Error> {
//! let key = std::path::Path::new("refund-bot.key");
//! let author = Author::of_file(KeyFile::open(key)?, key)?;
//! let trust = Trust::open("trust-policy".as_ref(), Some("ledger.checkpoint".into()))?;
//! let client = Client::new(Settings::new(vec!["http://127.0.0.1:7401".to_owned()]), trust, Some(author))?;
//!
//! let input = r#"{"order":"A-1","amount":20}"#;
//! let question = Question::new("refund-bot", session, "shop/refund", input);
//! // Anything but a proven, unexpired ALLOW is an error here, and the refund does not run.
//! let permit = client.authorize(question).await?.require()?;
//! // … call the tool with `input` …
//! client.record(Execution::of(&permit, ExecutionStatus::Succeeded, input)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! [`Client`] signs, sends the same request id until there is an answer, and checks every receipt against the pinned [`Trust`]
//! policy before it returns it. Provisional receipts are vouched for in the background, see [`Client::upgrades`].
//! [`Decision::permits_now`] is a yes for whoever holds the answer; [`Permit::redeem`] is one that nobody else gets, and the only one
//! where a rule or namespace demands it. [`Error`] says who is at fault, whether anything happened, and whether to try again.

mod action;
mod answer;
mod answer_parts;
mod belief;
pub mod bundle_dir;
pub mod cli;
mod client;
mod decision;
mod error;
pub mod files;
mod govern;
mod key_file;
pub mod paths;
mod printable;
mod redemption;
mod sending;
mod settings;
mod signing;
mod transport;
mod trust;
mod upgrade;
pub mod witness;

pub use action::{Execution, Question, Recorded};
pub use answer::{Level, Proven};
pub use client::{Client, Submitted};
pub use decision::{Decision, Permit};
pub use error::Error;
pub use govern::result_of;
pub use key_file::KeyFile;
pub use redemption::Redemption;
pub use settings::Settings;
pub use signing::{Ask, Author, Content, SharedSigner, Signed, now_us};
pub use trust::Trust;
pub use upgrade::Upgrades;
