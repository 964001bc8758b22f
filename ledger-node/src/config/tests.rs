//! What a configuration may say, and that the example says all of it.

use super::file::{
    BLOCK_CACHE, CALLS, ELECTION_MAX, ELECTION_MIN, HEARTBEAT, LOG_BYTES, LOG_KEEP, LOG_TAIL,
    QUEUE_BYTES, QUEUE_COMMANDS, WRITE_BUFFER,
};
use super::*;

const EXAMPLE: &str = include_str!("../../../deploy/node.example.toml");
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

/// What a configuration that sets nothing means.
pub(crate) fn defaults() -> LimitsConfig {
    parse(LEAST).unwrap().limits
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
        "marker_dir",
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
fn paths_are_relative_to_the_file_and_flags_win() {
    let config = parse(LEAST).unwrap();
    assert_eq!(config.data_dir, Path::new("/etc/cs/data"));
    assert_eq!(config.marker_dir, config.data_dir);
    let apart = parse(&format!("marker_dir = \"../marker\"\n{LEAST}")).unwrap();
    assert_eq!(apart.marker_dir, Path::new("/etc/cs/../marker"));
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
    assert_eq!(config.marker_dir, Path::new("here"));
    assert_eq!(config.client_listen, "[::1]:9".parse().unwrap());
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.log.filter.as_str(), "debug");
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
fn clients_beyond_loopback_are_refused_unless_asked_for() {
    let text = LEAST.replace("localhost:7501", "0.0.0.0:7501");
    assert!(parse(&text).is_ok(), "the port for nodes is encrypted");
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
            format!("{LEAST}[log]\nfilter = \"info=loud\"\n"),
            "log.filter",
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
