//! The promises, as judges of what callers saw and of what every node tells afterwards: one file for each.
//!
//! A judge is a function from a [`Case`] to findings, one sentence each. Each is tested on a history that was doctored, where
//! it must find something: a judge that never objects is of no use.

pub mod p1_decision_is_commit;
pub mod p2_nobodys_word;
pub mod p3_append_only;
pub mod p4_provable;
pub mod p5_fail_closed;
pub mod p6_exactly_once;
pub mod p7_order_is_law;
pub mod p8_erasable;
#[cfg(test)]
mod test_case;

use std::collections::BTreeMap;
use std::path::Path;

use ledger_core::hash::TreeHash;
use ledger_core::note::tlog_policy::TlogPolicy;
use ledger_proto::v1;

use super::Cluster;
use super::history::{History, Ledger};

/// Most findings that are shown of one judge: the first say enough.
const SHOWN: usize = 10;

/// Everything that there is to judge.
#[derive(Debug, Clone)]
pub struct Case {
    /// What callers saw.
    pub history: History,
    /// What each node tells, afterwards.
    pub ledgers: Vec<Ledger>,
    /// The trust policy that holds for the ledgers' checkpoints.
    pub policy: TlogPolicy,
    /// The hash of the tree.
    pub tree_hash: TreeHash,
    /// Every command that was signed, by request id.
    pub sent: BTreeMap<Vec<u8>, v1::Submission>,
}

/// A judge.
pub type Judge = fn(&Case) -> Vec<String>;

/// All judges, by the promise that each looks after.
pub const JUDGES: &[(&str, Judge)] = &[
    ("P1", p1_decision_is_commit::judge),
    ("P2", p2_nobodys_word::judge),
    ("P3", p3_append_only::judge),
    ("P4", p4_provable::judge),
    ("P5", p5_fail_closed::judge),
    ("P6", p6_exactly_once::judge),
    ("P7", p7_order_is_law::judge),
    ("P8", p8_erasable::judge),
];

impl Case {
    /// What all judges find, each finding led by its promise.
    #[must_use]
    pub fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        for (promise, judge) in JUDGES {
            let found = judge(self);
            let more = found.len().saturating_sub(SHOWN);
            findings.extend(
                found
                    .into_iter()
                    .take(SHOWN)
                    .map(|found| format!("{promise}: {found}")),
            );
            if more > 0 {
                findings.push(format!("{promise}: and {more} more"));
            }
        }
        findings
    }
}

impl Cluster {
    /// Waits until all nodes agree, reads everything back from each, and lets all judges look at it. Gives the case.
    ///
    /// # Panics
    /// If a promise is broken.
    pub async fn must_keep_promises(&mut self) -> Case {
        self.must_be_alive();
        self.converge().await;
        let mut ledgers = Vec::new();
        for node in self.nodes() {
            ledgers.push(self.ledger(node).await);
        }
        let case = Case {
            history: self.recorder.history(),
            policy: policy_in_force(&ledgers),
            ledgers,
            tree_hash: TreeHash::of_origin(&self.origin),
            sent: self.signing.sent(),
        };
        let findings = case.findings();
        assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
        case
    }

    /// Stops all nodes and checks what each has on its disk.
    ///
    /// # Panics
    /// If anything is wrong there.
    pub async fn must_be_sound_on_disk(&mut self) {
        for node in self.nodes() {
            self.stop(node).await;
            self.must_be_sound(node);
        }
    }
}

/// The trust policy after the last change that the ledger tells of.
fn policy_in_force(ledgers: &[Ledger]) -> TlogPolicy {
    let mut text = String::new();
    for entry in ledgers.iter().flat_map(Ledger::decoded) {
        match &entry.body {
            Some(v1::entry::Body::Genesis(genesis)) => text.clone_from(&genesis.trust_policy),
            Some(v1::entry::Body::Governance(governance))
                if governance.result() == v1::Result::Applied =>
            {
                let command = ledger_core::entry::command(&entry).expect("a command decodes");
                if let Some(v1::command::Body::UpdateMembership(change)) =
                    command.and_then(|command| command.body)
                {
                    text.clone_from(&change.trust_policy);
                }
            }
            _ => {}
        }
    }
    TlogPolicy::parse(text.as_bytes()).expect("the ledger has a trust policy")
}

/// Whether a file holds these bytes.
///
/// # Panics
/// If it cannot be read.
#[must_use]
pub fn file_holds(path: &Path, bytes: &[u8]) -> bool {
    let content = std::fs::read(path).expect("a file");
    holds(&content, bytes)
}

/// Whether these bytes hold those.
#[must_use]
pub fn holds(content: &[u8], bytes: &[u8]) -> bool {
    content.windows(bytes.len()).any(|window| window == bytes)
}
