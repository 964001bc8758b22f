//! The trust policy that an operator gives a node, so that it believes members whom it cannot know from its own ledger yet.

use std::path::Path;

use ledger_core::note::tlog_policy::TlogPolicy;
use ledger_proto::v1;

use super::{Failure, about, read_text, write_new};
use crate::config::Config;
use crate::keyfile::sync_dir_of;

/// Reads a policy and checks that it is of this ledger.
///
/// # Errors
/// It cannot be read, or is of another ledger.
pub(super) fn read(path: &Path, genesis: &v1::Genesis) -> Result<String, Failure> {
    let text = read_text(path)?;
    let policy = TlogPolicy::parse(text.as_bytes());
    let policy = policy.map_err(|error| about(path, &error.to_string()))?;
    let mut logs = policy.logs().iter();
    if logs.any(|log| log.key.name() == genesis.origin) {
        return Ok(text);
    }
    let what = format!(
        "not a trust policy of {}; take the one that ledger-client uses for this ledger",
        genesis.origin
    );
    Err(about(path, &what))
}

/// Writes the policy into the data directory, in the place of one that was given before, durably.
///
/// # Errors
/// It cannot be written.
pub(super) fn keep(config: &Config, text: &str) -> Result<(), Failure> {
    let path = config.trust_path();
    let new = path.with_extension("new");
    let failed = |error: std::io::Error| about(&path, &format!("cannot be written: {error}"));
    if new.exists() {
        std::fs::remove_file(&new).map_err(failed)?;
    }
    write_new(&new, text)?;
    std::fs::rename(&new, &path).map_err(failed)?;
    sync_dir_of(&path).map_err(failed)
}
