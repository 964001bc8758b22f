//! How a run ends: the true disk comes back, honest nodes go on, and everything that was seen is judged.

use super::judge::advice;
use super::run::Run;
use crate::cluster::RECOVERY;
use crate::cluster::wait::until;

impl Run {
    /// What the nodes said of disks.
    fn judge_advice(&mut self) {
        for node in 1..=3 {
            let log = std::fs::read_to_string(self.cluster.file(node).log()).unwrap_or_default();
            self.report.findings.extend(advice(node, &log));
        }
    }

    /// The node was found out: its own disk comes back, and everything goes on.
    pub(super) async fn end(&mut self) {
        let goes_on = self.report.took_part() && self.report.forgot_nothing();
        if self.report.took_part() && !goes_on {
            let finding = "the node took part on a disk that went back, and it could be noticed";
            self.report.findings.push(finding.to_owned());
        }
        let (r, a, b) = (self.r, self.a, self.b);
        self.cluster.kill(r);
        for node in [a, b] {
            if !self.cluster.nodes().contains(&node) {
                self.cluster.restart(node);
            }
        }
        // The honest nodes go on without it.
        self.cluster.leader_among(&[a, b]).await;
        self.decide("without the node").await;
        // What was put aside is the older one, if the node has gone on.
        if !goes_on {
            self.volume.put_back();
        }
        self.cluster.restart(r);
        self.cluster.is_whole().await;
        self.decide("at the end").await;
        self.judge(&[]).await;
    }

    /// Nobody could notice: whoever knew more finds out, and the way out is to start the true disks without the one that was led
    /// astray.
    pub(super) async fn end_of_fork(&mut self) {
        let (r, a, b) = (self.r, self.a, self.b);
        let found_out = self.finds_out().await;
        self.report.found_out = Some(found_out);
        for node in self.cluster.nodes() {
            self.cluster.kill(node);
        }
        self.volume.put_back();
        self.cluster.restart(r);
        self.cluster.restart(a);
        self.cluster.leader_among(&[a, r]).await;
        self.decide("at the end").await;
        self.judge(&[b]).await;
    }

    /// Waits until a node ends or says that its own disk and another one's contradict each other.
    async fn finds_out(&mut self) -> String {
        let nodes = [self.a, self.r, self.b];
        let logs = nodes.map(|node| self.cluster.file(node).log());
        let cluster = &mut self.cluster;
        until("somebody finds out", RECOVERY, async || {
            for (node, log) in nodes.iter().zip(&logs) {
                let text = std::fs::read_to_string(log).unwrap_or_default();
                if let Some(status) = cluster.process(*node).ended() {
                    let last = text.lines().last().unwrap_or_default();
                    return Some(format!("node {node}, {status}: {last}"));
                }
                let words = ["to cosign another root", "lost log entries", "was forked"];
                let found = text
                    .lines()
                    .find(|line| words.iter().any(|words| line.contains(words)));
                if let Some(line) = found {
                    return Some(format!("node {node}: {line}"));
                }
            }
            None
        })
        .await
    }

    /// Judges all that was seen, but for nodes that went another way.
    async fn judge(&mut self, astray: &[u64]) {
        self.judge_advice();
        let case = self.cluster.must_keep_promises().await;
        let ledger = case.ledgers.first().expect("a ledger");
        let second = self.trees.beside(ledger, case.tree_hash);
        if self.case.witness || astray.is_empty() {
            self.report.findings.extend(second);
        } else {
            self.report.second_trees = second;
        }
        if u64::try_from(ledger.entries.len()).expect("few") < self.trees.largest() {
            let finding = "a larger tree was proven than the ledger has now";
            self.report.findings.push(finding.to_owned());
        }
        self.cluster.must_be_sound_on_disk().await;
        self.volume.close();
    }
}
