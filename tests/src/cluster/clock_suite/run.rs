//! A run of one case on real processes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::case::{Crash, Event, Group};
use super::probe::Probe;
use super::{ClockCase, ClockReport, FLOWS_WITHIN, Flow, judge};
use crate::cluster::client::now_us;
use crate::cluster::clock_shim::ClockShim;
use crate::cluster::load::{ask_within, question};
use crate::cluster::people::Actor;
use crate::cluster::{Cluster, Options, RECOVERY};
use crate::kit::{RULES, bundle};

/// How long nodes are watched after each event: they compare clocks once a second.
const WATCHED: Duration = Duration::from_secs(2);
/// How long a ledger whose time is ahead is waited for.
const OVERTAKES_WITHIN: Duration = Duration::from_secs(120);
/// How far a clock may be behind the last entry before nothing is decided.
const MAX_BEHIND: Duration = Duration::from_secs(5);
/// What a node says of clocks.
const WORDS: [&str; 3] = [
    "this node's clock is off",
    "the ledger's time is ahead",
    "this node's clock has jumped",
];

/// What nodes say whose clocks agree and are wrong by more than five minutes: to them it is the caller's clock that is off.
const STALE: &str = "the command was made more than 5 minutes before or after now";

/// A cluster in the middle of a case.
struct Run {
    case: ClockCase,
    cluster: Cluster,
    actor: Actor,
    clocks: BTreeMap<u64, ClockShim>,
    /// Whose clocks go wrong in this case.
    wrong: Vec<u64>,
    /// Who crashes in this case.
    crash: Vec<u64>,
    /// Whose clocks are wrong now.
    off: BTreeSet<u64>,
    probe: Probe,
    report: ClockReport,
}

impl ClockCase {
    /// Runs it and judges it.
    ///
    /// # Panics
    /// If the cluster does not do what it must do to be judged, such as starting or coming together again.
    pub async fn run(self) -> ClockReport {
        let mut run = Run::start(self).await;
        for event in self.order {
            run.apply(*event).await;
        }
        run.end().await
    }
}

impl Run {
    async fn start(case: ClockCase) -> Self {
        let options = Options {
            nodes: case.group.nodes(),
            ..Options::default()
        };
        let mut cluster = Cluster::prepare(options).await;
        let genesis = cluster.genesis();
        let mut clocks = BTreeMap::new();
        for id in 1..=case.group.nodes() {
            let clock = ClockShim::ahead(&cluster.file(id).folder, 0);
            cluster.file(id).init(&genesis, id == 1);
            cluster.restart_with_clock(id, &clock);
            clocks.insert(id, clock);
        }
        let leader = cluster.leader().await;
        let mut actors = cluster.settle(1, &bundle("agent", RULES)).await;
        let actor = actors.pop().expect("one actor");
        cluster.is_whole().await;
        let followers = cluster.nodes().into_iter().filter(|node| *node != leader);
        let mut by_rank: Vec<u64> = followers.collect();
        if case.roles.wrong_leader {
            by_rank.insert(0, leader);
        } else {
            by_rank.push(leader);
        }
        let mut wrong = by_rank;
        let sound = wrong.split_off(case.group.wrong());
        let crash = match case.roles.crash {
            Crash::Wrong => wrong.clone(),
            // The leader is the last one, if it is sound.
            Crash::Sound => sound.last().copied().into_iter().collect(),
            Crash::Follower => sound.first().copied().into_iter().collect(),
            Crash::AllSound => sound,
        };
        let probe = Probe::start(&cluster, &actor);
        let flows = probe.answers_within(RECOVERY).await;
        assert!(flows.is_some(), "a sound cluster decides");
        Self {
            case,
            cluster,
            actor,
            clocks,
            wrong,
            crash,
            off: BTreeSet::new(),
            probe,
            report: ClockReport {
                case,
                flows: Vec::new(),
                ahead: Duration::ZERO,
                overtaken_after: None,
                said: Vec::new(),
                judged: 0,
                findings: Vec::new(),
            },
        }
    }

    async fn apply(&mut self, event: Event) {
        match event {
            Event::Fault => self.fault(),
            Event::Repair => self.repair(),
            Event::Crash => {
                for node in self.crash.clone() {
                    self.cluster.kill(node);
                }
            }
            Event::Restart => {
                let crashed = self.crash.clone();
                let (first, rest) = crashed.split_first().expect("somebody crashes");
                self.restart(*first);
                if self.case.roles.crash == Crash::AllSound && !rest.is_empty() {
                    self.settles(event).await;
                }
                for node in rest {
                    self.restart(*node);
                }
            }
        }
        self.settles(event).await;
    }

    fn restart(&mut self, node: u64) {
        let clock = self.clocks.get(&node).expect("a clock for each node");
        self.cluster.restart_with_clock(node, clock);
    }

    fn fault(&mut self) {
        let now_us = now_us();
        for (at, node) in self.wrong.iter().enumerate() {
            let offset = self.case.offset;
            let is_opposite = at > 0 && self.case.group.is_apart();
            let offset = if is_opposite {
                offset.opposite()
            } else {
                offset
            };
            self.clocks[node].is_ahead(offset.ahead_us(now_us));
            self.off.insert(*node);
        }
    }

    fn repair(&mut self) {
        for node in std::mem::take(&mut self.off) {
            self.clocks[&node].is_ahead(0);
        }
    }

    /// A quorum of wrong clocks that agree may take the ledger's time ahead: nobody can tell that they are the wrong ones.
    fn may_be_ahead(&self) -> bool {
        let is_ahead = self.case.offset.ahead_us(now_us()) > 0;
        self.case.group == Group::TwoOfThreeAlike && is_ahead
    }

    /// True if no node with a sound clock may decide yet.
    fn is_ahead(&self) -> bool {
        self.may_be_ahead() && self.probe.ledger_ahead() > MAX_BEHIND
    }

    /// Looks at what decisions do after an event.
    async fn settles(&mut self, event: Event) {
        let running = self.cluster.nodes();
        let quorum = self.case.group.nodes() / 2 + 1;
        let has_quorum = |count: usize| u64::try_from(count).expect("few") >= quorum;
        let sound = running.iter().filter(|node| !self.off.contains(node));
        let is_open = has_quorum(sound.count()) && !self.is_ahead();
        let at_most = if is_open { RECOVERY } else { WATCHED };
        let began = Instant::now();
        let answered = self.probe.answers_within(at_most).await;
        // What an event does may show only later; and after that decisions flow again, or still.
        let left = WATCHED.saturating_sub(began.elapsed());
        let _ = tokio::time::timeout(left, std::future::pending::<()>()).await;
        let again = match answered {
            Some(_) => self.probe.answers_within(at_most).await,
            None => None,
        };
        let answered = answered.and_then(|first| Some(first.max(again?)));
        if self.probe.ledger_ahead() > MAX_BEHIND {
            self.report.ahead = self.report.ahead.max(self.probe.ledger_ahead());
        }
        let flow = match answered {
            Some(after) => Flow::Flows(after),
            None if self.is_ahead() => Flow::Ahead,
            None => Flow::Closed,
        };
        self.report.flows.push((event, flow));
        match flow {
            Flow::Flows(after) if is_open && after > FLOWS_WITHIN => {
                self.finds(format!(
                    "decisions were away for {after:?} after {event:?}, with a quorum of sound clocks up"
                ));
            }
            Flow::Closed if is_open => {
                let said = self.says().await;
                self.finds(format!(
                    "nothing is decided {RECOVERY:?} after {event:?}, with a quorum of sound clocks up; {said:?}"
                ));
            }
            Flow::Closed | Flow::Ahead if has_quorum(running.len()) => self.must_say_why().await,
            Flow::Flows(_) | Flow::Closed | Flow::Ahead => {}
        }
    }

    fn finds(&mut self, finding: String) {
        self.report.findings.push(finding);
    }

    /// What each running node answers to a question.
    async fn says(&self) -> Vec<String> {
        let submission = self.cluster.signing.command(question(&self.actor, 0));
        let mut said = Vec::new();
        for node in self.cluster.nodes() {
            let line = self.cluster.line(node);
            let answer = ask_within(line, &submission, Duration::from_secs(2)).await;
            let words = answer.map_or_else(|failed| failed.message, |_| "decides".to_owned());
            said.push(format!("node {node}: {words}"));
        }
        said
    }

    /// A quorum of nodes runs and decides nothing: at least one of them says that it is a clock.
    async fn must_say_why(&mut self) {
        let said = self.says().await;
        let is_blamed = self.may_be_ahead();
        let names_a_clock = |said: &&String| {
            WORDS.iter().any(|words| said.contains(words)) || (is_blamed && said.contains(STALE))
        };
        match said.iter().find(names_a_clock) {
            Some(words) if self.report.said.len() < 2 => self.report.said.push(words.clone()),
            Some(_) => {}
            None => self.finds(format!(
                "nothing is decided, and no node says why: {said:?}"
            )),
        }
    }

    /// Repairs everything, and judges what the nodes then tell.
    async fn end(mut self) -> ClockReport {
        self.repair();
        self.settles(Event::Repair).await;
        if self.is_ahead() {
            self.is_overtaken().await;
        }
        let is_ahead = self.is_ahead();
        let was_ahead = self.report.ahead > Duration::ZERO;
        if !self.may_be_ahead() {
            self.report.findings.extend(self.probe.blamed());
        }
        let stamps = self.probe.stamps();
        self.report.judged = stamps.len();
        self.probe.finish().await;
        if is_ahead {
            self.cluster.must_be_alive();
            return self.report;
        }
        if !was_ahead {
            self.report.findings.extend(judge::answers(&stamps));
        }
        self.cluster.is_whole().await;
        let case = self.cluster.must_keep_promises().await;
        let ledger = case.ledgers.first().expect("a ledger");
        self.report.judged = ledger.entries.len();
        if !was_ahead {
            let found = judge::ledger(ledger, &stamps, now_us());
            self.report.findings.extend(found);
        }
        self.cluster.must_be_sound_on_disk().await;
        self.report
    }

    /// Waits until real time has overtaken a ledger that is ahead, if it is not ahead by too much to be waited for.
    async fn is_overtaken(&mut self) {
        let ahead = self.probe.ledger_ahead();
        if ahead + Duration::from_secs(5) > OVERTAKES_WITHIN {
            return;
        }
        let at_most = ahead + FLOWS_WITHIN;
        match self.probe.answers_within(at_most).await {
            Some(after) => self.report.overtaken_after = Some(after),
            None => self.finds(format!(
                "nothing is decided {at_most:?} after all clocks were right, of a ledger that was {ahead:?} ahead"
            )),
        }
    }
}
