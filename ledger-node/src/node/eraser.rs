//! Physical erasure: after an erasure is applied, this node sees to it that the bytes leave its disk.
//!
//! They are in the log, in the tables, in the write-ahead log under both, and in the files of snapshots. So the log is purged
//! past the erasure, which needs a snapshot; tables and write-ahead log are written again; and a snapshot of the result takes
//! the place of the first. An erasure is listed in the store from its apply on until all of this is done, so that whatever
//! crashes in between is simply done again.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ledger_core::hash::LeafIndex;
use ledger_core::state::Key;
use ledger_core::{entry, ledger};
use ledger_proto::v1::command::Body;

use super::log_purge::purge_log;
use crate::fatal::{Fatal, disk};
use crate::raft::Raft;
use crate::raft::snapshot::Snapshots;
use crate::raft::types::invalid;
use crate::storage::meta::{self, log_key};
use crate::storage::view::StoreState;
use crate::storage::{Batch, OwnedRange, Pair, Store, Table};

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(500);

/// Erases.
pub(super) struct Eraser {
    pub(super) store: Arc<dyn Store>,
    pub(super) raft: Raft,
    pub(super) snapshots: Arc<Snapshots>,
    pub(super) fatal: Fatal,
}

impl Eraser {
    /// Erases until the node ends.
    pub(super) async fn run(self) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut scrubbed: Option<Scrubbed> = None;
        loop {
            ticks.tick().await;
            match self.step(&mut scrubbed).await {
                Ok(()) => {}
                Err(error) => {
                    scrubbed = None;
                    tracing::warn!(%error, "an erasure is not physical yet and is tried again");
                }
            }
        }
    }

    /// One step further, if there is something to erase.
    async fn step(&self, scrubbed: &mut Option<Scrubbed>) -> io::Result<()> {
        let listed = meta::erasing(&*self.store)?;
        if listed.is_empty() {
            return Ok(());
        }
        let through = listed.iter().map(place).max().unwrap_or_default();
        let fatal = |error: &dyn std::fmt::Display| io::Error::other(error.to_string());
        if !purge_log(&self.raft, &self.snapshots, &*self.store, through).await? {
            return Ok(());
        }
        let Some(done) = scrubbed else {
            *scrubbed = self.scrub(listed, through).await?;
            return Ok(());
        };
        if done.installed != self.snapshots.installed() {
            *scrubbed = None;
            return Ok(());
        }
        if !self.snapshots.only_newer_than(done.begun)? {
            let current = self.snapshots.current();
            if current.is_none_or(|current| !current.is_newer_than(done.begun)) {
                let triggered = self.raft.trigger().snapshot().await;
                return triggered.map_err(|error| fatal(&error));
            }
            return Ok(());
        }
        let mut batch = Batch::new();
        for (key, _) in &done.listed {
            batch.delete(Table::Meta, key.clone());
        }
        let erasures = done.listed.len();
        *scrubbed = None;
        write(&*self.store, &self.fatal, &batch)?;
        tracing::info!(erasures, "what was erased is off this disk");
        Ok(())
    }

    /// Writes tables and write-ahead log anew; none if a reader was in the way.
    async fn scrub(&self, listed: Vec<Pair>, through: u64) -> io::Result<Option<Scrubbed>> {
        let mut ranges = vec![(
            Table::Log,
            log_key(0).to_vec(),
            log_key(through.saturating_add(1)).to_vec(),
        )];
        ranges.extend(self.content(&listed)?);
        let installed = self.snapshots.installed();
        let store = Arc::clone(&self.store);
        let (again, switch) = (listed.clone(), self.fatal.clone());
        let gone = tokio::task::spawn_blocking(move || {
            // A write of no consequence, so that there is a new write-ahead log to begin.
            let mut batch = Batch::new();
            for (key, value) in again {
                batch.put(Table::Meta, key, value);
            }
            write(&*store, &switch, &batch)?;
            store.scrub(&ranges)
        });
        let gone = gone.await.map_err(io::Error::other)??;
        Ok(gone.then(|| Scrubbed {
            listed,
            installed,
            begun: self.snapshots.begun(),
        }))
    }

    /// Where in the state the content was that these erasures name, from the first compartment to the last.
    fn content(&self, listed: &[Pair]) -> io::Result<Option<OwnedRange>> {
        let state = StoreState(&*self.store);
        let mut keys = Vec::new();
        for (key, _) in listed {
            let leaf = LeafIndex(number(key.get(meta::ERASING.len()..).unwrap_or_default()));
            let found = ledger::entry(&state, leaf)?;
            let command = found.and_then(|found| entry::command(&found).ok().flatten());
            let Some(Body::Erase(erase)) = command.and_then(|command| command.body) else {
                return Err(invalid(format!("leaf {leaf} is no erasure")));
            };
            keys.extend(erase.compartments.iter().map(|named| {
                Key::compartment(LeafIndex(named.index), named.kind())
                    .as_bytes()
                    .to_vec()
            }));
        }
        keys.sort();
        let last = keys.last().cloned().map(|mut last| {
            last.push(0);
            last
        });
        Ok(keys
            .into_iter()
            .next()
            .zip(last)
            .map(|(first, last)| (Table::State, first, last)))
    }
}

/// A store that was written anew, and what that was for.
struct Scrubbed {
    listed: Vec<Pair>,
    /// Stores that had been installed before, and copies that had begun: those hold what was erased.
    installed: u64,
    begun: u64,
}

/// A store that cannot be written must not be gone on with.
fn write(store: &dyn Store, fatal: &Fatal, batch: &Batch) -> io::Result<()> {
    store
        .write(batch)
        .inspect_err(|error| fatal.stop(disk("an erasure cannot be written", error)))
}

/// Where in the log a listed erasure is.
fn place((_, value): &Pair) -> u64 {
    number(value)
}

fn number(bytes: &[u8]) -> u64 {
    <[u8; 8]>::try_from(bytes).map_or(0, u64::from_be_bytes)
}
