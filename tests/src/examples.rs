//! The bundles under `examples/`, as people get to them.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The suites of AgentDojo.
pub const AGENTDOJO: [&str; 4] = ["banking", "slack", "travel", "workspace"];

/// Where the examples are.
#[must_use]
pub fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

/// Copies the bundles for AgentDojo into a folder and puts each suite's manifest beside its rules. `data` is laid out like the
/// published data: the manifest of all suites is `context/agentdojo_tools.json`.
///
/// # Errors
/// A file cannot be read or written, or the manifest is none.
pub fn agentdojo(data: &Path, out: &Path) -> io::Result<()> {
    let manifest = std::fs::read(data.join("context/agentdojo_tools.json"))?;
    let manifest: Value = serde_json::from_slice(&manifest)?;
    for suite in AGENTDOJO {
        let tools = manifest.get(suite).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the manifest has no tools for the suite `{suite}`"),
            )
        })?;
        let target = out.join(suite);
        copy(&examples().join("agentdojo").join(suite), &target)?;
        std::fs::write(target.join("tools.json"), serde_json::to_vec(tools)?)?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for item in std::fs::read_dir(from)? {
        let item = item?;
        let target = to.join(item.file_name());
        if item.file_type()?.is_dir() {
            copy(&item.path(), &target)?;
        } else {
            std::fs::copy(item.path(), target)?;
        }
    }
    Ok(())
}
