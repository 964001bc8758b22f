//! What nodes said, and which trees met the trust policy.

use std::collections::BTreeMap;

use ledger_core::hash::{Hash, TreeHash, TreeSize};
use ledger_core::note::tlog_policy::TlogPolicy;
use ledger_core::note::verify::verify_checkpoint;

use crate::cluster::history::{Ledger, Seen};

/// What a line says that has an operator give up a disk.
const GIVES_UP: [&str; 4] = ["new node id", "new one", "replace", "empty data directory"];
/// What such a line must say as well.
const KEEPS: [&str; 5] = [
    "keep",
    "Keep",
    "look for",
    "Look for",
    "If its first disk still exists",
];
/// What no line may say.
const DESTROYS: [&str; 5] = ["destroy", "wipe", "delete", "erase this", "throw"];

/// Lines of a node's log that would have the only true disk thrown away.
pub(super) fn advice(node: u64, log: &str) -> Vec<String> {
    let has = |line: &str, words: &[&str]| words.iter().any(|words| line.contains(words));
    let told = log
        .lines()
        .filter(|line| line.contains("ERROR") || line.contains("WARN") || !line.contains("INFO"));
    let bad =
        told.filter(|line| has(line, &DESTROYS) || (has(line, &GIVES_UP) && !has(line, &KEEPS)));
    bad.map(|line| format!("node {node} gives advice that loses a disk: {line}"))
        .collect()
}

/// Trees that met the trust policy when they were seen.
#[derive(Debug, Default)]
pub(super) struct Trees(BTreeMap<(u64, Hash), String>);

impl Trees {
    /// Takes a checkpoint that a node showed, if it meets the policy.
    pub(super) fn see(&mut self, node: u64, when: &str, note: &str, policy: &TlogPolicy) {
        if verify_checkpoint(note.as_bytes(), policy).is_ok() {
            let seen = Seen::of_note(node, 0, note);
            let by = format!("node {node} {when}");
            self.0.entry((seen.size.0, seen.root)).or_insert(by);
        }
    }

    /// The largest of them.
    pub(super) fn largest(&self) -> u64 {
        self.0.keys().map(|(size, _)| *size).max().unwrap_or(0)
    }

    /// Those that are no beginnings of this ledger: together with its own they are two trees.
    pub(super) fn beside(&self, ledger: &Ledger, hash: TreeHash) -> Vec<String> {
        let sizes: Vec<TreeSize> = self.0.keys().map(|(size, _)| TreeSize(*size)).collect();
        let roots = ledger.roots(hash, &sizes);
        let others = self
            .0
            .iter()
            .filter(|((size, root), _)| roots.get(size) != Some(root));
        others
            .map(|((size, _), by)| {
                format!("a second tree of {size} entries meets the trust policy, shown by {by}")
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_that_loses_a_disk_is_told_from_advice_that_keeps_it() {
        let bad = "ERROR a quorum has another root; replace the damaged one";
        assert_eq!(advice(1, bad).len(), 1);
        let good = "ERROR it differs: keep this disk; let it join under a new node id";
        assert_eq!(advice(1, good), Vec::<String>::new());
        let both = "ERROR Keep both disks before one is replaced under a new node id";
        assert_eq!(advice(1, both), Vec::<String>::new());
        assert_eq!(advice(1, "ERROR wipe the disk and keep calm").len(), 1);
        assert_eq!(advice(1, "INFO a snapshot replaces the log").len(), 0);
    }
}
