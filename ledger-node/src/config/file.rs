//! The file as it is written, and the checks that make a [`Config`] of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use super::{
    Config, ConfigError, LimitsConfig, LogConfig, LogFilter, LogFormat, Overrides, RaftConfig,
    SnapshotConfig,
};

/// Bytes in a mebibyte.
pub(super) const MIB: u64 = 1024 * 1024;

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfigFile {
    node_id: u64,
    data_dir: PathBuf,
    marker_dir: Option<PathBuf>,
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
pub(super) struct Setting {
    pub(super) key: &'static str,
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

pub(super) const ELECTION_MIN: Setting =
    Setting::new("raft.election_timeout_min_ms", 500, 50..=60_000);
pub(super) const ELECTION_MAX: Setting =
    Setting::new("raft.election_timeout_max_ms", 1_000, 100..=120_000);
pub(super) const HEARTBEAT: Setting = Setting::new("raft.heartbeat_ms", 100, 10..=10_000);
pub(super) const LOG_BYTES: Setting =
    Setting::new("snapshot.log_bytes", 256 * MIB, MIB..=64 * 1024 * MIB);
pub(super) const LOG_KEEP: Setting =
    Setting::new("snapshot.log_keep_entries", 100_000, 0..=100_000_000);
pub(super) const QUEUE_COMMANDS: Setting =
    Setting::new("limits.queue_commands", 16_384, 64..=1_000_000);
pub(super) const QUEUE_BYTES: Setting =
    Setting::new("limits.queue_bytes", 64 * MIB, 4 * MIB..=4_096 * MIB);
pub(super) const LOG_TAIL: Setting =
    Setting::new("limits.log_tail_bytes", 32 * MIB, 4 * MIB..=4_096 * MIB);
pub(super) const BLOCK_CACHE: Setting =
    Setting::new("limits.block_cache_bytes", 32 * MIB, MIB..=65_536 * MIB);
pub(super) const WRITE_BUFFER: Setting =
    Setting::new("limits.write_buffer_bytes", 32 * MIB, MIB..=4_096 * MIB);
pub(super) const CALLS: Setting = Setting::new("limits.calls_per_connection", 1_024, 1..=65_536);

impl ConfigFile {
    pub(super) fn check(self, dir: &Path, overrides: &Overrides) -> Result<Config, ConfigError> {
        if self.node_id == 0 {
            return Err(bad("node_id", "is 0; node ids begin with 1".into()));
        }
        let insecure = self.insecure || overrides.insecure;
        let client = overrides.client_listen.as_ref();
        let peer = overrides.peer_listen.as_ref();
        let client_listen = listen_address("client_listen", client.unwrap_or(&self.client_listen))?;
        must_be_reachable_by_trusted_only(client_listen, insecure)?;
        let peer_listen = listen_address("peer_listen", peer.unwrap_or(&self.peer_listen))?;
        if client_listen == peer_listen && client_listen.port() != 0 {
            return Err(bad(
                "peer_listen",
                "is also `client_listen`; clients and nodes come in on ports of their own".into(),
            ));
        }
        let data_dir = match &overrides.data_dir {
            Some(data_dir) => data_dir.clone(),
            None => dir.join(self.data_dir),
        };
        Ok(Config {
            node_id: self.node_id,
            marker_dir: match self.marker_dir {
                Some(marker_dir) => dir.join(marker_dir),
                None => data_dir.clone(),
            },
            data_dir,
            node_key: dir.join(self.node_key),
            log_key: dir.join(self.log_key),
            client_listen,
            peer_listen,
            insecure,
            peer_addresses: peer_addresses(self.peer_addresses, &overrides.peer_addresses)?,
            log: self.log.check(overrides)?,
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
    fn check(self, overrides: &Overrides) -> Result<LogConfig, ConfigError> {
        let format = overrides.log_format.or(self.format);
        let filter = overrides.log_filter.clone().or(self.filter);
        let filter = filter.unwrap_or_else(|| "info,openraft=error".to_owned());
        if let Err(error) = EnvFilter::try_new(&filter) {
            let what = format!("is not a filter such as `info`: {error}");
            return Err(bad("log.filter", what));
        }
        Ok(LogConfig {
            format: format.unwrap_or(LogFormat::Text),
            filter: LogFilter(filter),
        })
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

fn listen_address(key: &str, value: &str) -> Result<SocketAddr, ConfigError> {
    let local = value
        .strip_prefix("localhost:")
        .and_then(|port| port.parse().ok())
        .map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    match local {
        Some(address) => Ok(address),
        None => value.parse::<SocketAddr>().map_err(|_| {
            bad(
                key,
                format!("is `{value}`; write IP:PORT, such as 127.0.0.1:7401 or [::1]:7401"),
            )
        }),
    }
}

/// The port for clients has no TLS yet; that for nodes has nothing else.
fn must_be_reachable_by_trusted_only(
    client_listen: SocketAddr,
    insecure: bool,
) -> Result<(), ConfigError> {
    if client_listen.ip().is_loopback() || insecure {
        return Ok(());
    }
    Err(bad(
        "client_listen",
        format!(
            "is {client_listen}, which others can reach, and nothing on it would be encrypted; listen on loopback, or say \
             `insecure = true` or --insecure if only clients you trust can reach it"
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
