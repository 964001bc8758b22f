//! `ledger-node fsck`: checks everything that a stopped node keeps, and changes nothing.

use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::{Exit, Failure, unwritable};
use crate::config::{Config, Overrides};
use crate::fatal::ADVICE;
use crate::fsck::{self, Finding, Place, Report, table_name};
use crate::storage::marker::{Marker, MarkerError, MarkerRecord};
use crate::storage::rocks::RocksStore;
use crate::storage::{Read, Table};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The node's configuration.
    #[arg(long, env = "COUNTERSIGN_NODE_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// Say it in JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    overrides: Overrides,
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<Exit, Failure> {
    let config = Config::load(&arguments.config, &arguments.overrides)?;
    let dir = &config.data_dir;
    // Held to the end, so that no node starts on what is being read.
    let lock = Marker::lock(&config.marker_dir);
    let report = match marker(&config.marker_dir, &lock)? {
        Ok(marker) => match RocksStore::open_read_only(dir) {
            Ok(store) => check(&store, Some(&marker)),
            Err(error) => unopened(&error),
        },
        Err(finding) => match RocksStore::open_read_only(dir) {
            Ok(store) => {
                let mut report = check(&store, None);
                report.findings.insert(0, finding);
                report.state_digest = None;
                report
            }
            Err(error) => {
                let mut report = unopened(&error);
                report.findings.insert(0, finding);
                report
            }
        },
    };
    drop(lock);
    let text = if arguments.json {
        format!("{}\n", as_json(&report))
    } else {
        as_text(&report)
    };
    out.write_all(text.as_bytes()).map_err(unwritable)?;
    let Some(first) = report.findings.first() else {
        return Ok(Exit::Done);
    };
    Err(Failure::new(
        Exit::Data,
        format!(
            "{}: {}: {}; {ADVICE}",
            dir.display(),
            place(first),
            first.what
        ),
    ))
}

/// The marker, or what is wrong with it. The outer error is a directory that cannot be checked now.
fn marker(
    dir: &Path,
    lock: &Result<Marker, MarkerError>,
) -> Result<Result<MarkerRecord, Finding>, Failure> {
    let error = match lock {
        Ok(marker) => return Ok(Ok(marker.read())),
        Err(error @ (MarkerError::Locked | MarkerError::Missing(_) | MarkerError::Version(_))) => {
            return Err(Failure::new(Exit::Configuration, error.to_string()));
        }
        Err(error) => error,
    };
    // Reading is possible where writing, and so locking, is not: a copy that was made read only.
    match Marker::peek(dir) {
        Ok(record) => Ok(Ok(record)),
        Err(MarkerError::Io(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(Failure::configuration(format!(
                "{} cannot be read: {error}; nothing was checked. Run fsck as the user that runs the node",
                dir.display()
            )))
        }
        Err(_) => Ok(Err(Finding {
            place: Place::Marker,
            what: error.to_string(),
        })),
    }
}

fn check(read: &dyn Read, marker: Option<&MarkerRecord>) -> Report {
    let shows = io::stderr().is_terminal();
    let mut progress = |table: Table, keys: u64| {
        if shows {
            let _ = write!(io::stderr(), "\r{}: {keys} keys  ", table_name(table));
        }
    };
    let report = fsck::run(read, marker, &mut progress);
    if shows {
        let _ = write!(io::stderr(), "\r{:40}\r", "");
    }
    report
}

fn unopened(error: &io::Error) -> Report {
    Report {
        keys: Table::ALL.map(|table| (table, 0)),
        tree: None,
        state_digest: None,
        findings: vec![Finding {
            place: Place::Key(Table::Meta, Vec::new()),
            what: format!("the store cannot be opened: {error}"),
        }],
    }
}

fn place(finding: &Finding) -> String {
    match &finding.place {
        Place::Key(table, key) => format!("{} {}", table_name(*table), hex::encode(key)),
        Place::Marker => "marker".to_owned(),
    }
}

fn as_text(report: &Report) -> String {
    let mut text = String::new();
    for (table, keys) in &report.keys {
        text.push_str(&format!("{}_keys = {keys}\n", table_name(*table)));
    }
    if let Some((size, root)) = &report.tree {
        text.push_str(&format!("tree_size = {size}\nroot = \"{root}\"\n"));
    }
    if let Some(digest) = &report.state_digest {
        text.push_str(&format!("state_digest = \"{digest}\"\n"));
    }
    for finding in &report.findings {
        text.push_str(&format!("damaged: {}: {}\n", place(finding), finding.what));
    }
    if report.findings.is_empty() {
        text.push_str("nothing is wrong\n");
    }
    text
}

fn as_json(report: &Report) -> Value {
    let keys = report.keys.iter();
    let keys: serde_json::Map<String, Value> = keys
        .map(|(table, keys)| (table_name(*table).to_owned(), json!(keys)))
        .collect();
    let findings: Vec<Value> = report.findings.iter().map(finding_as_json).collect();
    json!({
        "clean": report.findings.is_empty(),
        "keys": keys,
        "tree_size": report.tree.map(|(size, _)| size.0),
        "root": report.tree.map(|(_, root)| root.to_string()),
        "state_digest": report.state_digest.map(|digest| digest.to_string()),
        "findings": findings,
        "advice": (!report.findings.is_empty()).then_some(ADVICE),
    })
}

fn finding_as_json(finding: &Finding) -> Value {
    let (table, key) = match &finding.place {
        Place::Key(table, key) => (table_name(*table), Some(hex::encode(key))),
        Place::Marker => ("marker", None),
    };
    json!({ "table": table, "key": key, "what": finding.what })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::init::create_state;
    use crate::genesis_file::tests::genesis;
    use crate::storage::memory::MemoryStore;
    use crate::storage::store_id::StoreId;
    use crate::storage::{Batch, Store as _, meta};

    const STORE: StoreId = StoreId::from_bytes([1; 16]);

    #[test]
    fn the_shapes_of_the_output_are_fixed() {
        let store = MemoryStore::new();
        create_state(&store, &genesis(), 1, STORE, true).unwrap();
        let report = check(&store, None);
        assert_eq!(report.findings, Vec::new());
        let clean = as_json(&report);
        assert_eq!(clean["clean"], true);
        assert_eq!(clean["tree_size"], 1);
        assert_eq!(clean["keys"]["meta"], 5);
        assert!(clean["state_digest"].is_string());
        assert!(as_text(&report).ends_with("nothing is wrong\n"));

        let mut batch = Batch::new();
        batch.put(Table::Meta, meta::NODE, vec![1]);
        store.write(&batch).unwrap();
        let report = check(&store, None);
        let damaged = as_json(&report);
        assert_eq!(damaged["clean"], false);
        assert_eq!(damaged["findings"][0]["table"], "meta");
        assert_eq!(damaged["findings"][0]["key"], hex::encode(meta::NODE));
        assert_eq!(damaged["state_digest"], Value::Null);
        assert!(as_text(&report).contains("damaged: meta 6e6f6465: "));
    }
}
