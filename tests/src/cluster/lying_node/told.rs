//! What became of the lies of a leader, and what honest nodes did that they must not do.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Met;

/// Counts of lies by what they met, and findings.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<Record>);

#[derive(Debug, Default)]
struct Record {
    met: BTreeMap<String, BTreeMap<Met, usize>>,
    findings: Vec<String>,
}

impl Told {
    fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A lie met this.
    pub(super) fn note(&self, lie: impl Into<String>, met: Met) {
        let mut record = self.lock();
        let counts = record.met.entry(lie.into()).or_default();
        *counts.entry(met).or_default() += 1;
    }

    /// An honest node did what it must not do.
    pub(super) fn find(&self, what: String) {
        self.lock().findings.push(what);
    }

    /// What was met, and what was found.
    pub(super) fn all(&self) -> (BTreeMap<String, BTreeMap<Met, usize>>, Vec<String>) {
        let record = self.lock();
        (record.met.clone(), record.findings.clone())
    }
}
