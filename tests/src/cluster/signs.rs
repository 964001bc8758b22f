//! Signs of life and of trouble: what processes, their logs and their disks tell without being asked.

use super::process::Process;
use super::{Cluster, process};

impl Cluster {
    /// The resident memory of each running node, ascending by node.
    #[must_use]
    pub fn resident_bytes(&self) -> Vec<u64> {
        self.running.values().map(Process::resident_bytes).collect()
    }

    /// How often a node became the leader, as the nodes' logs tell.
    #[must_use]
    pub fn elections(&self) -> usize {
        let logs = self.files.values().map(|files| {
            let log = std::fs::read_to_string(files.log()).unwrap_or_default();
            log.matches("standing leading=This").count()
        });
        logs.sum()
    }

    /// What the store's own check says about a node that does not run.
    ///
    /// # Panics
    /// If it finds anything.
    pub fn must_be_sound(&self, node: u64) {
        let config = self.file(node).config();
        let config = config.to_str().expect("temporary folders have plain names");
        let _ = process::must_run(&["fsck", "--config", config]);
    }

    /// Panics if a process has ended that should run, or if a node's log tells of a panic.
    ///
    /// # Panics
    /// If so.
    pub fn must_be_alive(&mut self) {
        for (node, process) in &mut self.running {
            if let Some(status) = process.ended() {
                panic!("node {node} has ended by itself: {status}");
            }
        }
        for (node, files) in &self.files {
            let log = std::fs::read_to_string(files.log()).unwrap_or_default();
            if let Some(line) = log.lines().find(|line| line.contains("panicked at")) {
                panic!("node {node} has panicked: {line}");
            }
        }
    }
}
