//! A log that a witness cosigns: the trust policy of its ledger, as the steps that its nodes show lead on from the pinned one.
//!
//! Nodes come and go, and a note of today's nodes may not meet a policy of last year's. So a witness follows the policy as every client
//! does: each step is cosigned as the policy before it demands, this witness's own part included.

use std::path::Path;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::Uri;
use ledger_core::note::tlog_policy::TlogPolicy;
use ledger_core::note::verify::{CheckpointVerifyError, verify_checkpoint_of_nodes};

use crate::client::Client;
use crate::error::Error;
use crate::settings::Settings;
use crate::trust::Trust;

/// How long the nodes may take to show the steps: a leader waits three seconds for a witness.
const FOLLOWING: Duration = Duration::from_secs(2);
/// Between two times that nodes are asked. Whoever has the log's key can make a witness ask.
const SELDOM: Duration = Duration::from_secs(1);

/// A log with its trust policy.
#[derive(Debug)]
pub(super) struct WatchedLog {
    origin: String,
    pinned: TlogPolicy,
    /// The policy that the steps lead to, as far as they were followed.
    in_force: std::sync::Mutex<TlogPolicy>,
    /// Nodes that show the steps; none if the policy stays as it is.
    endpoints: Vec<String>,
    /// When nodes were asked last.
    followed: tokio::sync::Mutex<Option<Instant>>,
}

impl WatchedLog {
    /// The log of a trust policy, and the nodes that show how it has changed.
    ///
    /// # Errors
    /// [`Error::Configuration`]
    pub(super) fn open(policy: &Path, endpoints: Option<&Vec<String>>) -> Result<Self, Error> {
        let trust = Trust::open(policy, None)?;
        let endpoints = endpoints.cloned().unwrap_or_default();
        for url in &endpoints {
            let parsed: Result<Uri, _> = url.parse();
            parsed.map_err(|error| Error::Configuration(format!("the endpoint {url}: {error}")))?;
        }
        Ok(Self {
            origin: trust.origin().to_owned(),
            pinned: trust.pinned().clone(),
            in_force: std::sync::Mutex::new(trust.policy()),
            endpoints,
            followed: tokio::sync::Mutex::new(None),
        })
    }

    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    fn in_force(&self) -> MutexGuard<'_, TlogPolicy> {
        self.in_force.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks that the log has signed a checkpoint, and its nodes have as the policy demands.
    pub(super) fn verify(&self, note: &str) -> Result<(), CheckpointVerifyError> {
        let policy = self.in_force().clone();
        verify_checkpoint_of_nodes(note.as_bytes(), &policy).map(|_| ())
    }

    /// Asks the nodes how the policy has changed. True if it has.
    pub(super) async fn follow(&self) -> bool {
        if self.endpoints.is_empty() {
            return false;
        }
        let mut followed = self.followed.lock().await;
        if followed.is_some_and(|at| at.elapsed() < SELDOM) {
            return false;
        }
        let found = self.ask().await;
        *followed = Some(Instant::now());
        drop(followed);
        // What does not lead on changes nothing, and the note is refused as before.
        let Ok(found) = found else { return false };
        let mut policy = self.in_force();
        let has_changed = *policy != found;
        *policy = found;
        has_changed
    }

    async fn ask(&self) -> Result<TlogPolicy, Error> {
        let trust = Trust::new(self.pinned.clone(), None)?;
        let mut settings = Settings::new(self.endpoints.clone());
        settings.timeout = FOLLOWING;
        let client = Client::new(settings, trust, None)?;
        client.trust_in_force().await
    }
}
