//! The configuration of a node: one TOML file, overridden by flags, checked once.
//!
//! What comes out of [`Config::load`] is valid: addresses parse, numbers are within their bounds, and nothing is listened on
//! that should not be. `deploy/node.example.toml` shows every key with its default; a test compares it with this file.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

/// Bytes in a mebibyte.
const MIB: u64 = 1024 * 1024;

/// Longest configuration file in bytes.
pub const MAX_CONFIG_LEN: usize = 1024 * 1024;
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

/// What to log, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// How lines look.
    pub format: LogFormat,
    /// What is logged, as `tracing`'s filters are written: `info`, `ledger_node=debug`.
    pub filter: String,
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
    /// The node's key file.
    pub node_key: PathBuf,
    /// The log's key file; the same key on every node.
    pub log_key: PathBuf,
    /// Where clients come in.
    pub client_listen: SocketAddr,
    /// Where other nodes come in.
    pub peer_listen: SocketAddr,
    /// True if listening beyond loopback without TLS was asked for.
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
    /// Listen beyond loopback although nothing is encrypted.
    #[arg(long)]
    pub insecure: bool,
    /// How log lines look.
    #[arg(long, value_enum)]
    pub log_format: Option<LogFormat>,
    /// What is logged, such as `info` or `ledger_node=debug`.
    #[arg(long, env = "COUNTERSIGN_LOG", value_name = "FILTER")]
    pub log_filter: Option<String>,
}

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    node_id: u64,
    data_dir: PathBuf,
    node_key: PathBuf,
    log_key: PathBuf,
    client_listen: String,
    peer_listen: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    peer_addresses: BTreeMap<String, String>,
    #[serde(default)]
    log: LogFile,
    #[serde(default)]
    raft: RaftFile,
    #[serde(default)]
    snapshot: SnapshotFile,
    #[serde(default)]
    limits: LimitsFile,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogFile {
    format: Option<LogFormat>,
    filter: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RaftFile {
    election_timeout_min_ms: Option<u64>,
    election_timeout_max_ms: Option<u64>,
    heartbeat_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SnapshotFile {
    log_bytes: Option<u64>,
    log_keep_entries: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsFile {
    queue_commands: Option<u64>,
    queue_bytes: Option<u64>,
    log_tail_bytes: Option<u64>,
    block_cache_bytes: Option<u64>,
    write_buffer_bytes: Option<u64>,
    calls_per_connection: Option<u64>,
}

/// A number with the bounds that it must keep.
struct Setting {
    key: &'static str,
    default: u64,
    range: RangeInclusive<u64>,
}

impl Setting {
    const fn new(key: &'static str, default: u64, range: RangeInclusive<u64>) -> Self {
        Self {
            key,
            default,
            range,
        }
    }

    fn of(&self, value: Option<u64>) -> Result<u64, ConfigError> {
        let value = value.unwrap_or(self.default);
        if self.range.contains(&value) {
            return Ok(value);
        }
        let (low, high) = (self.range.start(), self.range.end());
        Err(bad(
            self.key,
            format!("is {value}; write a number from {low} to {high}"),
        ))
    }

    fn size(&self, value: Option<u64>) -> Result<usize, ConfigError> {
        let value = self.of(value)?;
        usize::try_from(value).map_err(|_| bad(self.key, "is too large for this machine".into()))
    }
}

const ELECTION_MIN: Setting = Setting::new("raft.election_timeout_min_ms", 500, 50..=60_000);
const ELECTION_MAX: Setting = Setting::new("raft.election_timeout_max_ms", 1_000, 100..=120_000);
const HEARTBEAT: Setting = Setting::new("raft.heartbeat_ms", 100, 10..=10_000);
const LOG_BYTES: Setting = Setting::new("snapshot.log_bytes", 256 * MIB, MIB..=64 * 1024 * MIB);
const LOG_KEEP: Setting = Setting::new("snapshot.log_keep_entries", 100_000, 0..=100_000_000);
const QUEUE_COMMANDS: Setting = Setting::new("limits.queue_commands", 16_384, 64..=1_000_000);
const QUEUE_BYTES: Setting = Setting::new("limits.queue_bytes", 64 * MIB, 4 * MIB..=4_096 * MIB);
const LOG_TAIL: Setting = Setting::new("limits.log_tail_bytes", 32 * MIB, 4 * MIB..=4_096 * MIB);
const BLOCK_CACHE: Setting = Setting::new("limits.block_cache_bytes", 32 * MIB, MIB..=65_536 * MIB);
const WRITE_BUFFER: Setting =
    Setting::new("limits.write_buffer_bytes", 32 * MIB, MIB..=4_096 * MIB);
const CALLS: Setting = Setting::new("limits.calls_per_connection", 1_024, 1..=65_536);

impl ConfigFile {
    fn check(self, dir: &Path, overrides: &Overrides) -> Result<Config, ConfigError> {
        if self.node_id == 0 {
            return Err(bad("node_id", "is 0; node ids begin with 1".into()));
        }
        let insecure = self.insecure || overrides.insecure;
        let listen = |key: &str, value: &str| listen_address(key, value, insecure);
        let client = overrides.client_listen.as_ref();
        let peer = overrides.peer_listen.as_ref();
        let client_listen = listen("client_listen", client.unwrap_or(&self.client_listen))?;
        let peer_listen = listen("peer_listen", peer.unwrap_or(&self.peer_listen))?;
        if client_listen == peer_listen && client_listen.port() != 0 {
            return Err(bad(
                "peer_listen",
                "is also `client_listen`; clients and nodes come in on ports of their own".into(),
            ));
        }
        Ok(Config {
            node_id: self.node_id,
            data_dir: match &overrides.data_dir {
                Some(data_dir) => data_dir.clone(),
                None => dir.join(self.data_dir),
            },
            node_key: dir.join(self.node_key),
            log_key: dir.join(self.log_key),
            client_listen,
            peer_listen,
            insecure,
            peer_addresses: peer_addresses(self.peer_addresses, &overrides.peer_addresses)?,
            log: self.log.check(overrides),
            raft: self.raft.check()?,
            snapshot: SnapshotConfig {
                log_bytes: LOG_BYTES.of(self.snapshot.log_bytes)?,
                log_keep_entries: LOG_KEEP.of(self.snapshot.log_keep_entries)?,
            },
            limits: self.limits.check()?,
        })
    }
}

impl LogFile {
    fn check(self, overrides: &Overrides) -> LogConfig {
        let format = overrides.log_format.or(self.format);
        let filter = overrides.log_filter.clone().or(self.filter);
        LogConfig {
            format: format.unwrap_or(LogFormat::Text),
            filter: filter.unwrap_or_else(|| "info,openraft=error".to_owned()),
        }
    }
}

impl RaftFile {
    fn check(&self) -> Result<RaftConfig, ConfigError> {
        let min = ELECTION_MIN.of(self.election_timeout_min_ms)?;
        let max = ELECTION_MAX.of(self.election_timeout_max_ms)?;
        let heartbeat = HEARTBEAT.of(self.heartbeat_ms)?;
        if max <= min {
            return Err(bad(
                ELECTION_MAX.key,
                format!(
                    "is {max}, which must be more than the minimum of {min}; nodes that wait equally long split the vote"
                ),
            ));
        }
        // One heartbeat may get lost without an election.
        if heartbeat.saturating_mul(2) >= min {
            return Err(bad(
                HEARTBEAT.key,
                format!(
                    "is {heartbeat}; write less than half of the shortest election timeout, {min}"
                ),
            ));
        }
        let ms = Duration::from_millis;
        Ok(RaftConfig {
            election_timeout: ms(min)..=ms(max),
            heartbeat: ms(heartbeat),
        })
    }
}

impl LimitsFile {
    fn check(&self) -> Result<LimitsConfig, ConfigError> {
        let calls = CALLS.of(self.calls_per_connection)?;
        Ok(LimitsConfig {
            queue_commands: QUEUE_COMMANDS.size(self.queue_commands)?,
            queue_bytes: QUEUE_BYTES.size(self.queue_bytes)?,
            log_tail_bytes: LOG_TAIL.size(self.log_tail_bytes)?,
            block_cache_bytes: BLOCK_CACHE.size(self.block_cache_bytes)?,
            write_buffer_bytes: WRITE_BUFFER.size(self.write_buffer_bytes)?,
            calls_per_connection: u32::try_from(calls)
                .map_err(|_| bad(CALLS.key, "is too large".into()))?,
        })
    }
}

fn bad(key: &str, what: String) -> ConfigError {
    ConfigError::Value {
        key: key.to_owned(),
        what,
    }
}

/// A parser's message on one line.
fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn listen_address(key: &str, value: &str, insecure: bool) -> Result<SocketAddr, ConfigError> {
    let local = value
        .strip_prefix("localhost:")
        .and_then(|port| port.parse().ok())
        .map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    let address = match local {
        Some(address) => address,
        None => value.parse::<SocketAddr>().map_err(|_| {
            bad(
                key,
                format!("is `{value}`; write IP:PORT, such as 127.0.0.1:7401 or [::1]:7401"),
            )
        })?,
    };
    if address.ip().is_loopback() || insecure {
        return Ok(address);
    }
    Err(bad(
        key,
        format!(
            "is {address}, which others can reach, and nothing on it would be encrypted; listen on loopback, or say \
             `insecure = true` or --insecure if only nodes and clients you trust can reach it"
        ),
    ))
}

fn peer_addresses(
    file: BTreeMap<String, String>,
    flags: &[String],
) -> Result<BTreeMap<u64, String>, ConfigError> {
    let mut pairs: Vec<(String, String)> = file.into_iter().collect();
    for flag in flags {
        let (id, address) = flag.split_once('=').ok_or_else(|| {
            bad(
                "peer_addresses",
                format!("is given as `{flag}`; write ID=HOST:PORT"),
            )
        })?;
        pairs.push((id.to_owned(), address.to_owned()));
    }
    let mut addresses = BTreeMap::new();
    for (id, address) in pairs {
        let key = format!("peer_addresses.{id}");
        let node = id
            .parse()
            .ok()
            .filter(|node| *node != 0_u64)
            .ok_or_else(|| {
                bad(
                    &key,
                    "is not the id of a node, which is a number from 1 on".into(),
                )
            })?;
        ledger_core::card::check_host_port(&address)
            .map_err(|what| bad(&key, format!("does not fit: {what}")))?;
        addresses.insert(node, address);
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../deploy/node.example.toml");
    const LEAST: &str = "node_id = 1\ndata_dir = \"data\"\nnode_key = \"n.key\"\nlog_key = \"l.key\"\n\
                         client_listen = \"127.0.0.1:7401\"\npeer_listen = \"localhost:7501\"\n";

    fn parse_with(text: &str, overrides: &Overrides) -> Result<Config, String> {
        Config::parse(
            text,
            Path::new("node.toml"),
            Path::new("/etc/cs"),
            overrides,
        )
        .map_err(|error| error.to_string())
    }

    fn parse(text: &str) -> Result<Config, String> {
        parse_with(text, &Overrides::default())
    }

    #[test]
    fn the_example_has_every_key_with_its_default() {
        let shown = parse(EXAMPLE).unwrap();
        let least = parse(LEAST).unwrap();
        assert_eq!(shown.log, least.log);
        assert_eq!(shown.raft, least.raft);
        assert_eq!(shown.snapshot, least.snapshot);
        assert_eq!(shown.limits, least.limits);
        assert_eq!(shown.insecure, least.insecure);
        let table: toml::Table = toml::from_str(EXAMPLE).unwrap();
        let mut keys: Vec<String> = Vec::new();
        for (name, value) in &table {
            match value.as_table().filter(|_| name != "peer_addresses") {
                Some(inner) => keys.extend(inner.keys().map(|key| format!("{name}.{key}"))),
                None => keys.push(name.clone()),
            }
        }
        keys.sort();
        let settings = [
            ELECTION_MIN,
            ELECTION_MAX,
            HEARTBEAT,
            LOG_BYTES,
            LOG_KEEP,
            QUEUE_COMMANDS,
            QUEUE_BYTES,
            LOG_TAIL,
            BLOCK_CACHE,
            WRITE_BUFFER,
            CALLS,
        ];
        let mut expected: Vec<String> = settings.iter().map(|s| s.key.to_owned()).collect();
        let others = [
            "node_id",
            "data_dir",
            "node_key",
            "log_key",
            "client_listen",
            "peer_listen",
            "insecure",
            "peer_addresses",
            "log.format",
            "log.filter",
        ];
        expected.extend(others.map(str::to_owned));
        expected.sort();
        assert_eq!(keys, expected);
    }

    #[test]
    fn the_defaults_fit_the_memory_of_a_node() {
        let limits = parse(LEAST).unwrap().limits;
        let listed = limits.queue_bytes
            + limits.log_tail_bytes
            + limits.block_cache_bytes
            + limits.write_buffer_bytes;
        // The rest is for compiled rules, messages in flight, and the program.
        assert!(listed as u64 <= 384 * MIB, "{listed}");
    }

    #[test]
    fn paths_are_relative_to_the_file_and_flags_win() {
        let config = parse(LEAST).unwrap();
        assert_eq!(config.data_dir, Path::new("/etc/cs/data"));
        assert_eq!(
            config.genesis_path(),
            Path::new("/etc/cs/data/genesis.toml")
        );
        assert_eq!(config.peer_listen, "127.0.0.1:7501".parse().unwrap());
        let overrides = Overrides {
            data_dir: Some("here".into()),
            client_listen: Some("[::1]:9".to_owned()),
            peer_listen: None,
            peer_addresses: vec!["2=proxy.test:99".to_owned()],
            insecure: false,
            log_format: Some(LogFormat::Json),
            log_filter: Some("debug".to_owned()),
        };
        let text = format!("{LEAST}[peer_addresses]\n2 = \"10.0.0.2:1\"\n3 = \"[::1]:7\"\n");
        let config = parse_with(&text, &overrides).unwrap();
        assert_eq!(config.data_dir, Path::new("here"));
        assert_eq!(config.client_listen, "[::1]:9".parse().unwrap());
        assert_eq!(config.log.format, LogFormat::Json);
        assert_eq!(config.log.filter, "debug");
        let expected = [(2, "proxy.test:99".to_owned()), (3, "[::1]:7".to_owned())];
        assert_eq!(config.peer_addresses, expected.into());
    }

    #[test]
    fn unknown_keys_are_named_with_their_line() {
        let error = parse(&format!("{LEAST}data_dri = \"x\"\n")).unwrap_err();
        assert!(
            error.contains("data_dri") && error.contains("line 7"),
            "{error}"
        );
        let error = parse(&format!("{LEAST}[raft]\nheartbeat = 1\n")).unwrap_err();
        assert!(
            error.contains("`heartbeat`") && error.contains("line 8"),
            "{error}"
        );
        let error = parse(&LEAST.replace("node_id", "# node_id")).unwrap_err();
        assert!(error.contains("node_id"), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }

    #[test]
    fn beyond_loopback_is_refused_unless_asked_for() {
        for address in ["0.0.0.0:7401", "[::]:7401", "10.1.2.3:7401"] {
            let text = LEAST.replace("127.0.0.1:7401", address);
            let error = parse(&text).unwrap_err();
            assert!(
                error.contains("client_listen") && error.contains("--insecure"),
                "{error}"
            );
            assert!(parse(&format!("{text}insecure = true\n")).is_ok());
            let overrides = Overrides {
                insecure: true,
                ..Overrides::default()
            };
            assert!(parse_with(&text, &overrides).is_ok());
        }
    }

    #[test]
    fn impossible_values_are_named() {
        let cases = [
            (LEAST.replace("node_id = 1", "node_id = 0"), "node_id"),
            (
                LEAST.replace("localhost:7501", "127.0.0.1:7401"),
                "peer_listen",
            ),
            (
                LEAST.replace("127.0.0.1:7401", "example.com:1"),
                "client_listen",
            ),
            (
                format!("{LEAST}[raft]\nheartbeat_ms = 250\n"),
                "raft.heartbeat_ms",
            ),
            (
                format!("{LEAST}[raft]\nheartbeat_ms = 9\n"),
                "raft.heartbeat_ms",
            ),
            (
                format!("{LEAST}[raft]\nelection_timeout_max_ms = 500\n"),
                "raft.election_timeout_max_ms",
            ),
            (
                format!("{LEAST}[snapshot]\nlog_bytes = 1\n"),
                "snapshot.log_bytes",
            ),
            (
                format!("{LEAST}[limits]\nqueue_bytes = 1\n"),
                "limits.queue_bytes",
            ),
            (
                format!("{LEAST}[peer_addresses]\nx = \"a:1\"\n"),
                "peer_addresses.x",
            ),
            (
                format!("{LEAST}[peer_addresses]\n0 = \"a:1\"\n"),
                "peer_addresses.0",
            ),
            (
                format!("{LEAST}[peer_addresses]\n2 = \"a\"\n"),
                "peer_addresses.2",
            ),
            (
                format!("{LEAST}[peer_addresses]\n2 = \"a:0\"\n"),
                "peer_addresses.2",
            ),
            (
                format!("{LEAST}[peer_addresses]\n2 = \"a b:1\"\n"),
                "peer_addresses.2",
            ),
        ];
        for (text, key) in cases {
            let error = parse(&text).unwrap_err();
            assert!(error.starts_with(&format!("`{key}`")), "{key}: {error}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let error = Config::load(Path::new("/nonexistent/node.toml"), &Overrides::default());
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("/nonexistent/node.toml")
        );
    }
}
