//! How the nodes of a cluster are started and ended.

use std::path::Path;

use super::clock_shim::ClockShim;
use super::process::Process;
use super::{Cluster, SOON};

impl Cluster {
    /// Starts a node that does not run.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn restart(&mut self, node: u64) {
        self.restart_with(node, &[]);
    }

    /// Starts a node that does not run, with more arguments.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn restart_with(&mut self, node: u64, more: &[&str]) {
        let files = self.file(node);
        let process = Process::start(&files.config(), &files.log(), more);
        self.running.insert(node, process);
    }

    /// Starts a node that does not run with another clock.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn restart_with_clock(&mut self, node: u64, clock: &ClockShim) {
        let files = self.file(node);
        let process = Process::start_with_clock(&files.config(), &files.log(), clock);
        self.running.insert(node, process);
    }

    /// Starts a node that does not run, and that looks in this file for what is to happen to its workers.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn restart_with_fault_file(&mut self, node: u64, file: &Path) {
        let files = self.file(node);
        let process = Process::start_with_fault_file(&files.config(), &files.log(), file);
        self.running.insert(node, process);
    }

    /// Starts a node that does not run under a tracer with these arguments.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn restart_traced(&mut self, node: u64, tracer: &[String]) {
        let files = self.file(node);
        let process = Process::start_traced(&files.config(), &files.log(), tracer);
        self.running.insert(node, process);
    }

    /// Ends a node without notice.
    pub fn kill(&mut self, node: u64) {
        if let Some(mut process) = self.running.remove(&node) {
            process.kill();
        }
    }

    /// Asks a node to stop, and waits until it has.
    ///
    /// # Panics
    /// If it does not stop, or complains.
    pub async fn stop(&mut self, node: u64) {
        let mut process = self.running.remove(&node).expect("a running node");
        process.signal("TERM");
        let status = process.must_end(SOON).await;
        assert!(status.success(), "node {node} was asked to stop: {status}");
    }
}
