//! The times of entries against those of cosigners and witnesses: checkpoints that a node keeps, and those that the auditor has.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::path::{Path, PathBuf};

use ledger_core::audit::times::{TimeComparison, TimeConflict};
use ledger_core::audit::{Auditor, CheckedCheckpoint, Flaw};
use ledger_core::evidence::utc;
use ledger_core::hash::TreeSize;
use ledger_core::limits::SECOND_US;
use ledger_core::note::checkpoint::Checkpoint;
use ledger_core::note::signed_note::{MAX_NOTE_LEN, Note};
use ledger_proto::v1;
use serde_json::{Value, json};

use super::super::show::printable;
use super::super::{Exit, Failure};
use crate::client::Client;
use crate::files;
use crate::paths;

/// Checkpoints of one page.
const PAGE: u32 = 500;
/// Most checkpoints that are compared: twice what a node keeps.
const MAX_CHECKPOINTS: usize = 20_480;

/// Checkpoints on their way to be compared, and what came of those before.
#[derive(Debug, Default)]
pub(in crate::cli) struct TimeAudit {
    /// By tree size, ascending.
    checkpoints: VecDeque<(TreeSize, String)>,
    comparison: TimeComparison,
    unproven: u64,
}

impl TimeAudit {
    /// An audit against the checkpoints that a node keeps, and those in these files.
    pub(super) async fn open(client: &Client, files: &[PathBuf]) -> Result<Self, Failure> {
        let mut notes = Vec::new();
        for file in files {
            notes.push(read_note(file)?);
        }
        let mut page_token = String::new();
        loop {
            let message = v1::ListCheckpointsRequest {
                page_size: PAGE,
                page_token,
            };
            let page: v1::ListCheckpointsResponse =
                client.open_read(paths::LIST_CHECKPOINTS, message).await?;
            notes.extend(page.checkpoints);
            page_token = page.next_page_token;
            if page_token.is_empty() || notes.len() >= MAX_CHECKPOINTS {
                break;
            }
        }
        Ok(Self::of(notes))
    }

    fn of(notes: Vec<String>) -> Self {
        let mut audit = Self::default();
        // A tree can have two notes, and either may say more.
        let mut by_size: BTreeMap<TreeSize, Vec<String>> = BTreeMap::new();
        for note in notes {
            match size_of(&note) {
                Some(size) => by_size.entry(size).or_default().push(note),
                None => audit.unproven += 1,
            }
        }
        let flat = by_size
            .into_iter()
            .flat_map(|(size, notes)| notes.into_iter().map(move |note| (size, note)));
        audit.checkpoints = flat.collect();
        audit
    }

    /// Adds the checkpoint up to which the ledger is read.
    pub(super) fn add_last(&mut self, checkpoint: &Checkpoint, note: &str) {
        let last = checkpoint.size();
        self.checkpoints.retain(|(size, _)| *size <= last);
        self.checkpoints.push_back((last, note.to_owned()));
    }

    /// Compares the entry that the auditor has just read, and each checkpoint of the tree up to it.
    pub(super) fn compare(&mut self, auditor: &Auditor, time_us: u64) -> Result<(), Flaw> {
        self.comparison.add_entry(time_us);
        while let Some((size, _)) = self.checkpoints.front()
            && *size <= auditor.size()
        {
            let Some((_, note)) = self.checkpoints.pop_front() else {
                break;
            };
            match auditor.verify_checkpoint(&note)? {
                CheckedCheckpoint::Proven(verified) => {
                    let offset_us = auditor.time_offset_us().map_err(Flaw::State)?;
                    self.comparison.add_checkpoint(&verified, offset_us);
                }
                CheckedCheckpoint::Unproven(_) => self.unproven += 1,
            }
        }
        Ok(())
    }

    /// The report as JSON.
    pub(super) fn to_json(&self) -> Value {
        let conflicts = self.comparison.conflicts().iter().map(|conflict| {
            let by = conflict.contradicted_by.iter();
            json!({
                "first_index": conflict.first.0,
                "entries": conflict.entries,
                "time": utc(conflict.time_us),
                "tree_size": conflict.tree_size.0,
                "impossible": conflict.is_impossible,
                "contradicted_by": by
                    .map(|(name, time)| json!({ "cosigner": name, "time": utc_of_seconds(*time) }))
                    .collect::<Vec<_>>(),
            })
        });
        json!({
            "checkpoints": self.comparison.checkpoints(),
            "unproven_checkpoints": self.unproven,
            "impossible": self.comparison.impossible(),
            "doubtful": self.comparison.doubtful(),
            "conflicts": conflicts.collect::<Vec<_>>(),
        })
    }

    /// The report for people.
    pub(super) fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let comparison = &self.comparison;
        writeln!(
            out,
            "times           compared with those of {} cosigned checkpoints: {} impossible, {} in doubt",
            comparison.checkpoints(),
            comparison.impossible(),
            comparison.doubtful()
        )?;
        for conflict in comparison.conflicts() {
            writeln!(out, "  {}", sentence(conflict))?;
        }
        if self.unproven > 0 {
            writeln!(
                out,
                "  {} checkpoints do not meet the trust policy of their tree and were not compared",
                self.unproven
            )?;
        }
        Ok(())
    }

    /// True if no cosigner supports the time of an entry.
    pub(super) const fn is_impossible(&self) -> bool {
        self.comparison.impossible() > 0
    }

    /// The failure of a ledger with impossible times.
    pub(super) fn failure(&self) -> Failure {
        let count = self.comparison.impossible();
        let what = format!(
            "{count} entries are dated later than every cosigner was when it signed a tree that holds them: do not rely on anything that depends on their times"
        );
        Failure::new(Exit::Evidence, what)
    }
}

fn sentence(conflict: &TimeConflict) -> String {
    let by = conflict.contradicted_by.iter();
    let by: Vec<String> = by
        .map(|(name, time)| format!("{} at {}", printable(name), utc_of_seconds(*time)))
        .collect();
    let verdict = if conflict.is_impossible {
        "impossible"
    } else {
        "in doubt"
    };
    format!(
        "entry {} ({verdict}) says {}; the tree of {} entries was cosigned by {}",
        conflict.first,
        utc(conflict.time_us),
        conflict.tree_size,
        by.join(", ")
    )
}

fn utc_of_seconds(seconds: u64) -> String {
    utc(seconds.saturating_mul(SECOND_US))
}

fn size_of(note: &str) -> Option<TreeSize> {
    let note = Note::parse(note.as_bytes()).ok()?;
    Some(Checkpoint::parse(note.text()).ok()?.size())
}

fn read_note(path: &Path) -> Result<String, Failure> {
    let bad = |what: String| Failure::new(Exit::Configuration, what);
    let bytes = files::read(path, MAX_NOTE_LEN)?;
    let text = String::from_utf8(bytes)
        .ok()
        .filter(|text| size_of(text).is_some());
    text.ok_or_else(|| bad(format!("{}: this is no checkpoint", path.display())))
}
