//! Checking everything that a node keeps, while it is stopped: `fsck` reads all of it and writes nothing.
//!
//! Every key of every table is read. Entries are hashed again, and tree, root and cosigned checkpoints compared with what
//! comes out; what entries say is compared with the records, compartments and lists that they left behind; Raft's log must be
//! whole and fit what was applied. Records that change over time (who is in which group, what a rule has seen) are decoded
//! and tied to the entry of their last change; that they are the right ones, byte for byte, shows in the state digest, which
//! two sound nodes of one size share.
//!
//! Memory is bounded: the store is read in pages, and what has to be remembered between them is named where it is kept.

mod content;
mod index;
mod log;
mod proofs;
mod records;
mod tree;
mod walk;

use std::collections::{BTreeMap, BTreeSet};

use ledger_core::canonical;
use ledger_core::hash::{Hash, TreeHash, TreeSize};
use ledger_core::ledger::Head;
use ledger_core::state::{Family, Key, state_digest};
use ledger_proto::v1;
use prost::Message;

use crate::storage::marker::MarkerRecord;
use crate::storage::view::StoreState;
use crate::storage::{Read, Table};

/// After so many findings nothing more is looked for: what was found is enough to replace the node.
pub const MAX_FINDINGS: usize = 32;

/// Where something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// At a key of a table.
    Key(Table, Vec<u8>),
    /// In the marker.
    Marker,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub place: Place,
    /// What.
    pub what: String,
}

/// What was read, and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Keys read, by table.
    pub keys: [(Table, u64); 4],
    /// The size and root of the tree, as the store says.
    pub tree: Option<(TreeSize, Hash)>,
    /// The digest of the state; none if something was found.
    pub state_digest: Option<Hash>,
    /// What is wrong, in the order in which it was found; at most [`MAX_FINDINGS`].
    pub findings: Vec<Finding>,
}

/// Called from time to time: which table, and how many of its keys were read.
pub type OnProgress<'p> = &'p mut dyn FnMut(Table, u64);

/// Checks a store, and that it is not older than its marker.
#[must_use]
pub fn run(read: &dyn Read, marker: Option<&MarkerRecord>, progress: OnProgress<'_>) -> Report {
    let mut check = Check {
        read,
        findings: Vec::new(),
        keys: [0; 4],
        progress,
    };
    let mut report = Report {
        keys: Table::ALL.map(|table| (table, 0)),
        tree: None,
        state_digest: None,
        findings: Vec::new(),
    };
    let done = everything(&mut check, marker, &mut report);
    if done.is_ok() && check.findings.is_empty() {
        report.state_digest = state_digest(&StoreState(read)).ok();
    }
    report.keys =
        Table::ALL.map(|table| (table, check.keys.get(table as usize).copied().unwrap_or(0)));
    report.findings = check.findings;
    report
}

fn everything(check: &mut Check<'_>, marker: Option<&MarkerRecord>, report: &mut Report) -> Go {
    let ground = ground(check)?;
    report.tree = Some((ground.size(), ground.head.root()));
    let mut seen = Seen::default();
    tree::check(check, &ground, &mut seen)?;
    records::check(check, &ground, &seen)?;
    content::check_absent(check, &seen)?;
    index::check(check, &seen)?;
    let standing = log::check(check, &ground)?;
    proofs::check(check, &ground, &standing, marker)
}

/// Enough is known: reading on would only repeat it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Enough;

type Go<T = ()> = Result<T, Enough>;

/// A check that goes on.
struct Check<'a> {
    read: &'a dyn Read,
    findings: Vec<Finding>,
    keys: [u64; 4],
    progress: OnProgress<'a>,
}

/// What everything else is compared with.
struct Ground {
    ledger: v1::LedgerRecord,
    hash: TreeHash,
    head: Head,
}

impl Ground {
    const fn size(&self) -> TreeSize {
        self.head.size()
    }
}

/// What reading the entries leaves to be compared with the rest.
#[derive(Default)]
struct Seen {
    /// Entries with a command: each has one request id.
    requests: u64,
    /// Keys of the index that the entries derive.
    indexed: u64,
    /// Compartments that were stored, are gone, and were not erased by an entry so far.
    absent: BTreeSet<(u64, i32)>,
    /// Halts that were set and not lifted, with their end; at most as many as can be in force, and a few that have ended.
    halts: BTreeMap<String, u64>,
    /// Time of the last entry.
    time_us: u64,
    /// How far the ledger's time was ahead of clocks then.
    time_offset_us: u64,
    /// When an entry adjusted it last.
    adjusted_at_us: u64,
}

fn ground(check: &mut Check<'_>) -> Go<Ground> {
    let ledger: v1::LedgerRecord = check.must(&Key::ledger())?;
    let record: v1::HeadRecord = check.must(&Key::head())?;
    let hash = match TreeHash::parse(&ledger.tree_hash) {
        Ok(hash) => hash,
        Err(error) => return check.end(Table::State, Key::ledger().as_bytes(), error),
    };
    match Head::read(&StoreState(check.read), hash) {
        Ok(head) => {
            debug_assert_eq!(head.time_us, record.time_us);
            Ok(Ground { ledger, hash, head })
        }
        Err(error) => check.end(Table::State, &error.key, error.what),
    }
}

impl Check<'_> {
    /// Something is wrong at a key.
    fn found(&mut self, table: Table, key: &[u8], what: impl ToString) -> Go {
        self.at(Place::Key(table, key.to_vec()), what)
    }

    fn at(&mut self, place: Place, what: impl ToString) -> Go {
        let what = what.to_string();
        self.findings.push(Finding { place, what });
        if self.findings.len() < MAX_FINDINGS {
            Ok(())
        } else {
            Err(Enough)
        }
    }

    /// Something is wrong at a key without which nothing else can be judged.
    fn end<T>(&mut self, table: Table, key: &[u8], what: impl ToString) -> Go<T> {
        self.found(table, key, what)?;
        Err(Enough)
    }

    fn get(&mut self, table: Table, key: &[u8]) -> Go<Option<Vec<u8>>> {
        match self.read.get(table, key) {
            Ok(value) => Ok(value),
            Err(error) => self.end(table, key, format!("cannot be read: {error}")),
        }
    }

    fn state(&mut self, key: &Key) -> Go<Option<Vec<u8>>> {
        self.get(Table::State, key.as_bytes())
    }

    /// A record of the state; what is wrong with its bytes is found where its family is read.
    fn record<M: Message + Default>(&mut self, key: &Key) -> Go<Option<M>> {
        let bytes = self.state(key)?;
        Ok(bytes.and_then(|bytes| M::decode(bytes.as_slice()).ok()))
    }

    /// A record without which nothing else can be judged.
    fn must<M: Message + Default>(&mut self, key: &Key) -> Go<M> {
        match self.state(key)? {
            None => self.end(Table::State, key.as_bytes(), "is missing"),
            Some(bytes) => match canonical::decode(&bytes, usize::MAX) {
                Ok(record) => Ok(record),
                Err(error) => self.end(Table::State, key.as_bytes(), error),
            },
        }
    }

    /// A key that must be there.
    fn expect(&mut self, key: &Key, why: impl ToString) -> Go {
        if self.state(key)?.is_none() {
            self.found(
                Table::State,
                key.as_bytes(),
                format!("is missing, although {}", why.to_string()),
            )?;
        }
        Ok(())
    }

    /// The entry at a leaf; none if it is not there or does not decode, which is found where entries are read.
    fn entry(&mut self, leaf: u64) -> Go<Option<v1::Entry>> {
        let bytes = self.state(&Key::entry(ledger_core::hash::LeafIndex(leaf)))?;
        Ok(bytes.and_then(|bytes| ledger_core::entry::decode(&bytes).ok()))
    }
}

/// The name of a table for people and in JSON.
#[must_use]
pub const fn table_name(table: Table) -> &'static str {
    match table {
        Table::Meta => "meta",
        Table::Log => "log",
        Table::State => "state",
        Table::Index => "index",
    }
}

/// The family that a key of the state belongs to, if there is such a family.
#[must_use]
pub fn family_of(key: &[u8]) -> Option<Family> {
    let first = key.first()?;
    Family::ALL
        .into_iter()
        .find(|family| *family as u8 == *first)
}
