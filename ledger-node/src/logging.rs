//! Log lines: on standard error, as text or JSON.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

/// Begins logging for the whole process.
///
/// # Errors
/// Logging has begun already.
pub fn begin(config: &LogConfig) -> Result<(), String> {
    // Nothing of it is left out: it was checked with the configuration.
    let filter = EnvFilter::builder().parse_lossy(config.filter.as_str());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    let begun = match config.format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    begun.map_err(|error| error.to_string())
}
