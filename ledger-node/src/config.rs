//! The configuration of a node: one TOML file, overridden by flags, checked once.
//!
//! What comes out of [`Config::load`] is valid: addresses parse, numbers are within their bounds, and nothing is listened on
//! that should not be. `deploy/node.example.toml` shows every key with its default; a test compares it with what is read here.

mod file;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use file::ConfigFile;

/// Longest configuration file in bytes.
pub const MAX_CONFIG_LEN: usize = 1024 * 1024;
/// The name of the trust policy that an operator has given a node, inside the data directory.
pub const TRUST_FILE: &str = "trust-policy";
/// The name of the genesis inside the data directory.
pub const GENESIS_FILE: &str = "genesis.toml";

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {path} cannot be read: {error}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is not TOML, has a key that does not exist, or lacks one.
    #[error("the configuration {path} is not valid{}: {what}", line.map(|line| format!(", line {line}")).unwrap_or_default())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// The line, the first being 1.
        line: Option<usize>,
        /// What is wrong.
        what: String,
    },
    /// A value is not possible.
    #[error("`{key}` {what}")]
    Value {
        /// The key, with its table.
        key: String,
        /// What is wrong, and what to write instead.
        what: String,
    },
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// What is logged, as `tracing`'s filters are written: `info`, `ledger_node=debug`. Every part of it can be read.
#[derive(Clone, PartialEq, Eq)]
pub struct LogFilter(String);

impl LogFilter {
    /// The filter as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// What to log, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// How lines look.
    pub format: LogFormat,
    /// What is logged.
    pub filter: LogFilter,
}

/// Raft's timing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaftConfig {
    /// How long a follower waits for its leader: a time in this range, drawn each time.
    pub election_timeout: RangeInclusive<Duration>,
    /// How often a leader says that it lives.
    pub heartbeat: Duration,
}

/// When a snapshot is made, and how much log stays behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotConfig {
    /// Bytes of log since the last snapshot.
    pub log_bytes: u64,
    /// Entries that stay in the log when it is purged, so that a node that was away needs no snapshot.
    pub log_keep_entries: u64,
}

/// How much memory and work a node takes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Commands that wait to be proposed. One more: `RESOURCE_EXHAUSTED`.
    pub queue_commands: usize,
    /// Bytes of commands that wait to be proposed. One more: `RESOURCE_EXHAUSTED`.
    pub queue_bytes: usize,
    /// Bytes of the newest log entries kept in memory.
    pub log_tail_bytes: usize,
    /// Bytes of blocks that the store caches.
    pub block_cache_bytes: usize,
    /// Bytes that the store collects before it writes a file.
    pub write_buffer_bytes: usize,
    /// Calls that one connection may have in flight.
    pub calls_per_connection: u32,
}

/// A checked configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Which node this is; never 0.
    pub node_id: u64,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Where the marker is kept: in the data directory, unless another volume is to remember for it.
    pub marker_dir: PathBuf,
    /// The node's key file.
    pub node_key: PathBuf,
    /// The log's key file; the same key on every node.
    pub log_key: PathBuf,
    /// Where clients come in.
    pub client_listen: SocketAddr,
    /// Where other nodes come in.
    pub peer_listen: SocketAddr,
    /// True if listening for clients beyond loopback, without TLS, was asked for.
    pub insecure: bool,
    /// Where to reach a node instead of the address in its card.
    pub peer_addresses: BTreeMap<u64, String>,
    /// Logging.
    pub log: LogConfig,
    /// Raft's timing.
    pub raft: RaftConfig,
    /// Snapshots.
    pub snapshot: SnapshotConfig,
    /// Limits.
    pub limits: LimitsConfig,
}

impl Config {
    /// The genesis, as `init` copied it.
    #[must_use]
    pub fn genesis_path(&self) -> PathBuf {
        self.data_dir.join(GENESIS_FILE)
    }

    /// The trust policy that an operator has given this node, if one did.
    #[must_use]
    pub fn trust_path(&self) -> PathBuf {
        self.data_dir.join(TRUST_FILE)
    }

    /// Reads a file and lays the overrides over it. Paths in the file are relative to the file, paths in overrides to the
    /// current directory.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn load(path: &Path, overrides: &Overrides) -> Result<Self, ConfigError> {
        let unreadable = |error| ConfigError::Unreadable {
            path: path.to_owned(),
            error,
        };
        let len = std::fs::metadata(path).map_err(unreadable)?.len();
        if len > MAX_CONFIG_LEN as u64 {
            let error = std::io::Error::other(format!("it has more than {MAX_CONFIG_LEN} bytes"));
            return Err(unreadable(error));
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let dir = path.parent().unwrap_or_else(|| Path::new("."));
        Self::parse(&text, path, dir, overrides)
    }

    fn parse(
        text: &str,
        path: &Path,
        dir: &Path,
        overrides: &Overrides,
    ) -> Result<Self, ConfigError> {
        let file: ConfigFile = toml::from_str(text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            line: error.span().map(|span| {
                let before = text.get(..span.start).unwrap_or_default();
                before.bytes().filter(|byte| *byte == b'\n').count() + 1
            }),
            what: one_line(error.message()),
        })?;
        file.check(dir, overrides)
    }
}

/// What flags say instead of the file.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Overrides {
    /// Keep everything in this directory.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Listen for clients on this IP:PORT.
    #[arg(long, value_name = "IP:PORT")]
    pub client_listen: Option<String>,
    /// Listen for other nodes on this IP:PORT.
    #[arg(long, value_name = "IP:PORT")]
    pub peer_listen: Option<String>,
    /// Reach a node here instead of at the address in its card; can be repeated.
    #[arg(long = "peer-address", value_name = "ID=HOST:PORT")]
    pub peer_addresses: Vec<String>,
    /// Listen for clients beyond loopback although nothing on that port is encrypted.
    #[arg(long)]
    pub insecure: bool,
    /// How log lines look.
    #[arg(long, value_enum)]
    pub log_format: Option<LogFormat>,
    /// What is logged, such as `info` or `ledger_node=debug`.
    #[arg(long, env = "COUNTERSIGN_LOG", value_name = "FILTER")]
    pub log_filter: Option<String>,
}

/// A parser's message on one line.
fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}
