//! Finds the data of others that tests read and the repository does not hold.
//!
//! The data keeps its own licences and lies beside the repository. A machine that has only the repository still runs all
//! other tests; what it could not run, it says loudly.

use std::io::Write as _;
use std::path::{Path, PathBuf};

/// A file or directory of the shared data, by its path below `shared/data`.
///
/// `None` if it is not there, after a line on standard error that says so. The test then returns.
#[must_use]
pub fn shared_data(path: &str) -> Option<PathBuf> {
    let found = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/data")
        .join(path);
    if found.exists() {
        return Some(found);
    }
    // Written past the test harness, which hides the output of tests that pass. If even that fails, nothing is lost.
    drop(writeln!(
        std::io::stderr(),
        "SKIPPED: third-party data is missing: {}",
        found.display()
    ));
    None
}
