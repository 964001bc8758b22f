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
use ledger_core::note::tlog_policy::TlogPolicy;
use ledger_core::note::verify::verify_checkpoint;
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

/// A checkpoint that is to be compared.
#[derive(Debug)]
struct Held {
    note: String,
    /// Whose it is, if it is not from the node.
    file: Option<HeldFile>,
}

/// A checkpoint that the auditor has brought.
#[derive(Debug)]
struct HeldFile {
    path: String,
    /// A trust policy that it meets, of those that this client follows from the one that it was given.
    policy: Option<TlogPolicy>,
}

/// Checkpoints on their way to be compared, and what came of those before.
#[derive(Debug, Default)]
pub(in crate::cli) struct TimeAudit {
    /// By tree size, ascending.
    checkpoints: VecDeque<(TreeSize, Held)>,
    comparison: TimeComparison,
    unproven: u64,
    /// Files that meet no trust policy that is known.
    unproven_files: Vec<String>,
}

impl TimeAudit {
    /// An audit against the checkpoints that a node keeps, and those in these files.
    pub(super) async fn open(client: &Client, files: &[PathBuf]) -> Result<Self, Failure> {
        let mut held = Vec::new();
        for path in files {
            held.push(read_held(client, path).await?);
        }
        let mut page_token = String::new();
        loop {
            let message = v1::ListCheckpointsRequest {
                page_size: PAGE,
                page_token,
            };
            let page: v1::ListCheckpointsResponse =
                client.open_read(paths::LIST_CHECKPOINTS, message).await?;
            let is_empty = page.checkpoints.is_empty();
            held.extend(
                page.checkpoints
                    .into_iter()
                    .map(|note| Held { note, file: None }),
            );
            page_token = page.next_page_token;
            if page_token.is_empty() || is_empty || held.len() >= MAX_CHECKPOINTS {
                break;
            }
        }
        Ok(Self::of(held))
    }

    fn of(held: Vec<Held>) -> Self {
        let mut audit = Self::default();
        // A tree can have two notes, and either may say more.
        let mut by_size: BTreeMap<TreeSize, Vec<Held>> = BTreeMap::new();
        for held in held {
            match size_of(&held.note) {
                Some(size) => by_size.entry(size).or_default().push(held),
                None => audit.unproven += 1,
            }
        }
        let flat = by_size
            .into_iter()
            .flat_map(|(size, held)| held.into_iter().map(move |held| (size, held)));
        audit.checkpoints = flat.collect();
        audit
    }

    /// The largest tree that a quorum vouches for in a file of the auditor's, and the file.
    pub(super) fn largest_held(&self) -> Option<(TreeSize, &str)> {
        let mut held = self.checkpoints.iter().rev();
        held.find_map(|(size, held)| {
            let file = held.file.as_ref()?;
            file.policy.as_ref()?;
            Some((*size, file.path.as_str()))
        })
    }

    /// Adds the checkpoint up to which the ledger is read.
    pub(super) fn add_last(&mut self, checkpoint: &Checkpoint, note: &str) {
        let last = checkpoint.size();
        let (kept, beyond): (Vec<_>, Vec<_>) = std::mem::take(&mut self.checkpoints)
            .into_iter()
            .partition(|(size, _)| *size <= last);
        self.checkpoints = kept.into();
        // What a node keeps may be newer than what is audited.
        let files = beyond.into_iter().filter_map(|(_, held)| held.file);
        self.unproven_files.extend(files.map(|file| file.path));
        let note = note.to_owned();
        self.checkpoints
            .push_back((last, Held { note, file: None }));
    }

    /// Compares the entry that the auditor has just read, and each checkpoint of the tree up to it.
    pub(super) fn compare(&mut self, auditor: &mut Auditor, time_us: u64) -> Result<(), Flaw> {
        self.comparison.add_entry(time_us);
        while let Some((size, _)) = self.checkpoints.front()
            && *size <= auditor.size()
        {
            let Some((_, held)) = self.checkpoints.pop_front() else {
                break;
            };
            self.compare_checkpoint(auditor, held)?;
        }
        Ok(())
    }

    fn compare_checkpoint(&mut self, auditor: &mut Auditor, held: Held) -> Result<(), Flaw> {
        let offset_us = auditor.time_offset_us().map_err(Flaw::State)?;
        if let CheckedCheckpoint::Proven(verified) = auditor.verify_checkpoint(&held.note)? {
            let policy = auditor.trust_policy()?;
            self.comparison.add_checkpoint(&verified, policy, offset_us);
            return Ok(());
        }
        let Some(file) = held.file else {
            self.unproven += 1;
            return Ok(());
        };
        if let Some(policy) = &file.policy
            && let CheckedCheckpoint::Proven(verified) =
                auditor.verify_checkpoint_under(&held.note, policy)?
        {
            self.comparison.add_checkpoint(&verified, policy, offset_us);
            return Ok(());
        }
        self.unproven_files.push(file.path);
        Ok(())
    }

    /// The failure of an auditor whose own checkpoint proves nothing.
    pub(super) fn unproven_file(&self) -> Option<Failure> {
        let path = self.unproven_files.first()?;
        let what = format!(
            "{path} meets neither the trust policy of its tree nor one that follows from `--trust`: nothing was compared with it; see whose checkpoint it is, and give the trust policy of that time"
        );
        Some(Failure::new(Exit::Quorum, what))
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

    /// True if no quorum of cosigners supports the time of an entry.
    pub(super) fn is_impossible(&self) -> bool {
        self.comparison.impossible() > 0
    }

    /// The failure of a ledger with impossible times.
    pub(super) fn failure(&self) -> Failure {
        let count = self.comparison.impossible();
        let what = format!(
            "{count} entries are dated later than the clocks of any quorum of cosigners had come to when these signed a tree that holds them: do not rely on anything that depends on their times"
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

/// Reads a file, and finds out who vouches for it.
async fn read_held(client: &Client, path: &Path) -> Result<Held, Failure> {
    let note = read_note(path)?;
    let meets = |policy: &TlogPolicy| verify_checkpoint(note.as_bytes(), policy).is_ok();
    let mut policy = client.trust().pinned().clone();
    let mut is_met = meets(&policy);
    if !is_met {
        policy = client.trust_in_force().await?;
        is_met = meets(&policy);
    }
    let file = HeldFile {
        path: path.display().to_string(),
        policy: is_met.then_some(policy),
    };
    Ok(Held {
        note,
        file: Some(file),
    })
}

fn read_note(path: &Path) -> Result<String, Failure> {
    let bad = |what: String| Failure::new(Exit::Configuration, what);
    let bytes = files::read(path, MAX_NOTE_LEN)?;
    let text = String::from_utf8(bytes)
        .ok()
        .filter(|text| size_of(text).is_some());
    text.ok_or_else(|| bad(format!("{}: this is no checkpoint", path.display())))
}
