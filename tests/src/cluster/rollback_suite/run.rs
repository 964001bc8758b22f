//! A run of one case on real processes.

use std::time::Duration;

use super::case::{MarkerPlace, Method, Schedule};
use super::judge::Trees;
use super::volume::Volume;
use super::{Met, RollbackCase, RollbackReport};
use crate::cluster::cli::Cli;
use crate::cluster::load::{Load, ask_within, question};
use crate::cluster::people::Actor;
use crate::cluster::process::run;
use crate::cluster::wait::until;
use crate::cluster::{Cluster, Options, RECOVERY};
use crate::kit::{RULES, bundle};

/// Calls that are answered in each phase.
const CALLS: usize = 20;
/// How long a state must last to be believed.
const LASTS: Duration = Duration::from_secs(2);
/// How long decisions are tried for that must not or may not come.
const TRIES: Duration = Duration::from_secs(6);
/// What a node says that takes no part because of its disk.
const WAITS: [&str; 4] = [
    "was copied since this node ran on it last",
    "the data directory is new",
    "have met this node with another store",
    "the ledger has not begun",
];

/// A cluster in the middle of a case: `r` goes back, `a` knows everything, `b` is the third.
pub(super) struct Run {
    pub(super) case: RollbackCase,
    // Its processes end before the volume is unmounted.
    pub(super) cluster: Cluster,
    pub(super) volume: Volume,
    actors: Vec<Actor>,
    pub(super) r: u64,
    pub(super) a: u64,
    pub(super) b: u64,
    pub(super) trees: Trees,
    pub(super) report: RollbackReport,
}

impl RollbackCase {
    /// Runs it and judges it.
    ///
    /// # Panics
    /// If the cluster does not do what it must do to be judged, such as starting or coming together again.
    pub async fn run(self) -> RollbackReport {
        let mut run = Run::start(self).await;
        run.copy().await;
        run.decides_more().await;
        if run.restore() {
            run.comes_back().await;
        }
        if run.report.took_part() && run.case.cannot_be_noticed() {
            run.end_of_fork().await;
        } else {
            run.end().await;
        }
        run.report
    }
}

impl Run {
    async fn start(case: RollbackCase) -> Self {
        let options = Options {
            witnesses: u64::from(case.witness),
            ..Options::default()
        };
        let mut cluster = Cluster::prepare(options).await;
        let r = 1 + u64::try_from(case.number / 3 % 3).expect("small");
        let (a, b) = (r % 3 + 1, (r + 1) % 3 + 1);
        let files = cluster.file(r);
        let volume = Volume::make(&files.folder, case.method.is_image());
        let marker = match case.marker {
            MarkerPlace::WithData => "",
            MarkerPlace::SameVolume => "\nmarker_dir = \"volume/marker\"",
            MarkerPlace::OtherVolume => "\nmarker_dir = \"marker\"",
        };
        let place = format!("data_dir = \"volume/data\"{marker}");
        files.change_config("data_dir = \"data\"", &place);
        if case.witness {
            cluster.start_witness(1);
        }
        let genesis = cluster.genesis();
        for id in 1..=3 {
            cluster.file(id).init(&genesis, id == 1);
            cluster.restart(id);
        }
        cluster.leader().await;
        let actors = cluster.settle(2, &bundle("agent", RULES)).await;
        Self {
            case,
            cluster,
            volume,
            actors,
            r,
            a,
            b,
            trees: Trees::default(),
            report: RollbackReport {
                case,
                met: Vec::new(),
                decided: false,
                second_trees: Vec::new(),
                found_out: None,
                findings: Vec::new(),
            },
        }
    }

    /// Gets questions answered and cosigned by the running nodes.
    pub(super) async fn decide(&mut self, when: &str) {
        let load = Load::start(&self.cluster, &self.actors);
        load.flows(CALLS, RECOVERY).await;
        load.finish().await;
        self.cluster.converge().await;
        self.look(when).await;
    }

    /// Takes what running nodes show as cosigned.
    async fn look(&mut self, when: &str) {
        for node in self.cluster.nodes() {
            if let Some(note) = self.cluster.checkpoint(node, 0).await {
                let policy = &self.cluster.policy;
                self.trees.see(node, when, &note, policy);
            }
        }
    }

    /// Makes the copy, with everybody there who is not down before.
    async fn copy(&mut self) {
        self.decide("before the copy").await;
        let schedule = self.case.schedule;
        let (r, b) = (self.r, self.b);
        if matches!(
            schedule,
            Schedule::OtherBefore | Schedule::OtherBeforeTruthBetween
        ) {
            self.cluster.kill(b);
            self.cluster.leader().await;
        }
        if self.case.method.is_image() {
            self.volume.copy();
        } else if matches!(self.case.method, Method::OverRun(_)) {
            self.cluster.process(r).stand_still().await;
            self.volume.copy();
            self.cluster.process(r).signal("CONT");
        } else {
            // Now in good order, now as after a power cut.
            if self.case.number.is_multiple_of(2) {
                self.cluster.stop(r).await;
            } else {
                self.cluster.kill(r);
            }
            self.volume.copy();
            self.cluster.restart(r);
        }
        self.cluster.is_whole().await;
        let to = if self.case.leads { r } else { self.a };
        self.transfer(to).await;
    }

    async fn transfer(&mut self, to: u64) {
        until("the leader is who it shall be", RECOVERY, async || {
            if self.cluster.leader().await == to {
                return Some(());
            }
            let cli = Cli::of_admin(&self.cluster);
            let _ = cli.run(&["cluster", "transfer", "--to", &to.to_string()]);
            None
        })
        .await;
    }

    /// Decides what the copy knows nothing of, then takes down whoever is to be down when it is put back.
    async fn decides_more(&mut self) {
        let (r, a, b) = (self.r, self.a, self.b);
        let schedule = self.case.schedule;
        if matches!(
            schedule,
            Schedule::OtherBetween
                | Schedule::OtherBetweenTruthBetween
                | Schedule::OtherBetweenTruthAfter
        ) {
            self.cluster.kill(b);
            self.cluster.leader().await;
        }
        self.decide("between copy and restore").await;
        self.cluster.kill(r);
        match schedule {
            Schedule::OtherBeforeTruthBetween | Schedule::OtherBetweenTruthBetween => {
                self.cluster.kill(a);
            }
            Schedule::Everybody => {
                self.cluster.kill(a);
                self.cluster.kill(b);
            }
            Schedule::Transfer => {
                let leader = self.cluster.leader_among(&[a, b]).await;
                self.transfer(a + b - leader).await;
            }
            Schedule::Nobody
            | Schedule::OtherBefore
            | Schedule::OtherBetween
            | Schedule::TruthAfter
            | Schedule::OtherBetweenTruthAfter => {}
        }
    }

    /// Puts the disk back, and starts its node if there is something to start.
    fn restore(&mut self) -> bool {
        let method = self.case.method;
        // Logs that were written after the copy are still there when it is laid over them, and an older store may read them again.
        let held = method.is_laid_over().then(|| self.held()).flatten();
        self.volume.set_aside(method);
        self.volume.restore(method);
        if matches!(method, Method::Init | Method::InitFirst) {
            let (config, genesis) = (self.cluster.file(self.r).config(), self.cluster.genesis());
            let mut arguments = vec![
                "init",
                "--config",
                config.to_str().expect("a plain name"),
                "--genesis",
                genesis.to_str().expect("a plain name"),
            ];
            if method == Method::InitFirst {
                arguments.push("--first");
            }
            let (status, _, err) = run(&arguments);
            if !status.success() {
                self.report.met.push(Met::NotMade(err.trim().to_owned()));
                return false;
            }
        }
        if held.is_some() && self.held() >= held {
            self.report.met.push(Met::ForgotNothing);
        }
        self.cluster.restart(self.r);
        true
    }

    /// How many entries the node's disk holds; none if they are not sound.
    fn held(&self) -> Option<u64> {
        let config = self.cluster.file(self.r).config();
        let config = config.to_str().expect("a plain name");
        let (status, out, _) = run(&["fsck", "--json", "--config", config]);
        let report: serde_json::Value = serde_json::from_str(&out).ok()?;
        status
            .success()
            .then(|| report["tree_size"].as_u64())
            .flatten()
    }

    /// Starts and kills the others as the schedule says, and looks at the node after each step.
    async fn comes_back(&mut self) {
        let (a, b) = (self.a, self.b);
        match self.case.schedule {
            Schedule::Nobody | Schedule::Transfer => self.watch().await,
            Schedule::OtherBefore | Schedule::OtherBetween => {
                self.watch().await;
                self.joins(b).await;
            }
            Schedule::TruthAfter => {
                self.cluster.kill(a);
                self.watch().await;
                self.tries().await;
                self.joins(a).await;
            }
            Schedule::OtherBeforeTruthBetween | Schedule::OtherBetweenTruthBetween => {
                self.joins(b).await;
                self.tries().await;
                self.joins(a).await;
            }
            Schedule::OtherBetweenTruthAfter => {
                self.watch().await;
                self.cluster.kill(a);
                self.joins(b).await;
                self.tries().await;
                self.joins(a).await;
            }
            Schedule::Everybody => {
                self.watch().await;
                self.joins(b).await;
                self.tries().await;
                self.joins(a).await;
            }
        }
    }

    async fn joins(&mut self, node: u64) {
        self.cluster.restart(node);
        self.watch().await;
    }

    /// What the node does, once it does it for a while.
    async fn watch(&mut self) {
        let r = self.r;
        let mut since = (None, self.cluster.recorder.now());
        let log = self.cluster.file(r).log();
        let cluster = &mut self.cluster;
        let met = until("the node is in a state that lasts", RECOVERY, async || {
            if let Some(status) = cluster.process(r).ended() {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                let last = log.lines().last().unwrap_or_default().to_owned();
                return Some(Met::Ended(status.code().unwrap_or(-1), last));
            }
            let status = cluster.status(r).await?;
            let waits = |words: &str| WAITS.iter().any(|waits| words.contains(waits));
            let met = if status.ready {
                Met::TookPart
            } else if waits(&status.not_ready_reason) {
                Met::Waits(status.not_ready_reason)
            } else {
                Met::Leaderless
            };
            let now = cluster.recorder.now();
            if since.0.as_ref() != Some(&met) {
                since = (Some(met.clone()), now);
            }
            // Elections take a while.
            let lasts = if met == Met::Leaderless {
                LASTS * 3
            } else {
                LASTS
            };
            (Duration::from_nanos(now - since.1) >= lasts).then_some(met)
        })
        .await;
        if let Met::Ended(code, words) = &met
            && !matches!(code, 65 | 70)
        {
            let finding = format!("the node ended with {code}: {words}");
            self.report.findings.push(finding);
        }
        if self.report.met.last() != Some(&met) {
            self.report.met.push(met);
        }
        self.look("after the restore").await;
    }

    /// Tries to have something decided while whoever knows more is away.
    async fn tries(&mut self) {
        let submission = self.cluster.signing.command(question(&self.actors[0], 1));
        let began = self.cluster.recorder.now();
        let cluster = &self.cluster;
        let nodes = cluster.nodes();
        let decided = until("decisions are tried for", TRIES * 4, async || {
            for node in &nodes {
                let line = cluster.line(*node);
                let answer = ask_within(line, &submission, Duration::from_secs(2)).await;
                if answer.is_ok() {
                    return Some(true);
                }
            }
            let waited = Duration::from_nanos(cluster.recorder.now() - began);
            (waited >= TRIES).then_some(false)
        })
        .await;
        // The node that was there all the time and `r` may decide only if `r` has forgotten nothing, which it has.
        let r_runs = self.cluster.process(self.r).ended().is_none();
        self.report.decided |= decided && r_runs;
        if decided {
            let began = self.cluster.recorder.now();
            while Duration::from_nanos(self.cluster.recorder.now() - began) < LASTS {
                self.look("while the truth was away").await;
            }
        }
    }
}
