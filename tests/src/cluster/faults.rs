//! Disks that fail under real processes: strace makes one call of the system fail, or ends the process in the middle of it.
//!
//! A fault is a call, where it is made, which time of it, and what happens. The node must stop and say why, or end where it
//! is killed, or do without the call; what it leaves behind must be sound, and it must come back with all that it acknowledged.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;

use super::load::Load;
use super::wait::until;
use super::{Cluster, RECOVERY, SOON};

/// The exit code of a node that stopped because of its disk.
const EXIT_FATAL: i32 = 70;
/// The signal that nobody can catch.
const SIGKILL: i32 = 9;
/// Numbers of files that a database may use up while a test looks at it.
const NUMBERS: u32 = 200;
/// Calls that are answered before a fault is said not to have happened: enough for a snapshot.
const UNHURT: usize = 8_000;

/// Snapshots after every mebibyte of log, and nothing kept behind them; a store that takes little memory.
pub const SETTINGS: &str = "[snapshot]\nlog_bytes = 1048576\nlog_keep_entries = 0\n\n\
                            [limits]\nlog_tail_bytes = 4194304\nblock_cache_bytes = 4194304\nwrite_buffer_bytes = 8388608\n";

/// The line of these settings that says when a node takes a snapshot, and one that lets it take none.
const SNAPSHOTS: &str = "log_bytes = 1048576";
const NO_SNAPSHOTS: &str = "log_bytes = 1073741824";

/// When a fault happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// While the node starts, or later, whichever comes first.
    Running,
    /// While it installs a snapshot, because it was away for long. It takes none of its own meanwhile, whatever of its log it
    /// had not yet saved when it went away.
    Installing,
}

/// What happens in place of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It fails with an input or output error.
    Eio,
    /// It fails because the disk is full.
    Enospc,
    /// The process is killed before it.
    Kill,
}

/// The files that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// All of them.
    Anywhere,
    /// The write-ahead logs.
    Wal,
    /// The sorted tables, which hold what the logs no longer do.
    Table,
    /// The lists of the live tables, and what names the newest list.
    Manifest,
    /// One file of the data directory, by the name that it has before the call.
    File(&'static str),
}

/// A fault.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// When.
    pub phase: Phase,
    /// The calls, as strace names them.
    pub call: &'static str,
    /// Where.
    pub place: Place,
    /// Which time that one thread makes such a call there, from 1.
    pub nth: usize,
    /// What happens.
    pub effect: Effect,
    /// What the node says as it stops, with `|` between two ways to say it; nothing is said by one that is killed.
    pub says: &'static [&'static str],
}

impl Fault {
    /// What strace is told.
    fn tracer(&self, data: &Path, trace: &Path) -> Vec<String> {
        let effect = match self.effect {
            Effect::Eio => "error=EIO",
            Effect::Enospc => "error=ENOSPC",
            Effect::Kill => "signal=KILL",
        };
        let mut arguments = vec![
            "-o".to_owned(),
            trace.display().to_string(),
            format!("--trace={}", self.call),
            format!("--inject={}:{effect}:when={}", self.call, self.nth),
        ];
        let paths = match self.place {
            Place::Anywhere => Vec::new(),
            Place::File(name) => vec![name.to_owned()],
            Place::Wal => numbered(data, |number| vec![format!("{number:06}.log")]),
            Place::Table => numbered(data, |number| vec![format!("{number:06}.sst")]),
            Place::Manifest => numbered(data, |number| {
                vec![
                    format!("MANIFEST-{number:06}"),
                    format!("{number:06}.dbtmp"),
                ]
            }),
        };
        // The kernel then stops only at the calls that are named. strace 6.1 has that neither with paths nor with signals.
        if paths.is_empty() && self.effect != Effect::Kill {
            arguments.push("--seccomp-bpf".to_owned());
        }
        for path in paths {
            arguments.push("-P".to_owned());
            arguments.push(data.join(path).display().to_string());
        }
        arguments
    }
}

/// The paths of files that the database may make from now on, by the names that a number gives.
fn numbered(data: &Path, names: impl Fn(u32) -> Vec<String>) -> Vec<String> {
    let (database, last) = live(data);
    // A snapshot that is installed brings the numbers of another node.
    let databases = [
        (database, last..last + NUMBERS),
        (
            database + 1,
            last.saturating_sub(NUMBERS)..last + 2 * NUMBERS,
        ),
    ];
    let mut paths = Vec::new();
    for (database, numbers) in databases {
        for number in numbers {
            let names = names(number).into_iter();
            paths.extend(names.map(|name| format!("db-{database}/{name}")));
        }
    }
    paths
}

/// The number of the live database, and the greatest number of a file in it.
fn live(data: &Path) -> (u32, u32) {
    let name = std::fs::read_to_string(data.join("LIVE")).expect("a name");
    let folder = std::fs::read_dir(data.join(&name)).expect("a folder");
    let numbers = folder.filter_map(|item| {
        let name = item.expect("an item").file_name();
        let digits: String = name
            .to_str()?
            .chars()
            .skip_while(|letter| !letter.is_ascii_digit())
            .take_while(char::is_ascii_digit)
            .collect();
        // Logs that were put away carry a time.
        digits.parse().ok()
    });
    let last = numbers.filter(|number| *number < 1_000_000).max();
    let database = name.strip_prefix("db-").expect("a number");
    (database.parse().expect("a number"), last.unwrap_or(1))
}

/// The name of a node's newest snapshot, which tells where it ends; empty if there is none.
fn newest_snapshot(data: &Path) -> String {
    let items = std::fs::read_dir(data.join("snapshots")).expect("a folder");
    let names = items.filter_map(|item| item.ok()?.file_name().into_string().ok());
    let newest = names.filter(|name| name.starts_with("snap-")).max();
    newest.unwrap_or_default()
}

/// What a fault did to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effects {
    /// It ended, as it should, with these words; without any if it was killed.
    Ended(String),
    /// It could do without what the call was to do, and went on.
    WentOn,
    /// The call was never made.
    Missed,
}

impl Cluster {
    /// Lets a node suffer a fault under load, and brings it back.
    ///
    /// # Panics
    /// If the node does not end as it should, leaves damage behind, or does not come back.
    pub async fn suffers(&mut self, load: &Load, node: u64, fault: &Fault) -> Effects {
        self.kill(node);
        if fault.phase == Phase::Installing {
            // The second was begun after the node had gone, so that the log before it, which the node would need, is purged.
            for _ in 0..2 {
                self.others_take_snapshots(node).await;
            }
            self.file(node).change_config(SNAPSHOTS, NO_SNAPSHOTS);
        }
        let (data, log) = (self.file(node).data(), self.file(node).log());
        let said_before = std::fs::read_to_string(&log).unwrap_or_default().len();
        let trace = self.folder().join(format!("strace-{node}.txt"));
        self.restart_traced(node, &fault.tracer(&data, &trace));
        let Some(status) = self.ends_or_runs_well(load, node).await else {
            self.kill(node);
            let traced = std::fs::read_to_string(&trace).expect("what strace saw");
            let effects = if traced.contains("(INJECTED)") {
                // The next sync of that file succeeds, whether its bytes are there or not.
                assert!(!fault.call.ends_with("sync"), "{fault:?}: it went on");
                self.must_be_sound(node);
                Effects::WentOn
            } else {
                Effects::Missed
            };
            self.comes_back(node, fault.phase).await;
            return effects;
        };
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        let said = said.get(said_before..).unwrap_or_default();
        let last = if fault.effect == Effect::Kill {
            assert_eq!(
                status.signal(),
                Some(SIGKILL),
                "{fault:?}: {status}\n{said}"
            );
            ""
        } else {
            assert_eq!(
                status.code(),
                Some(EXIT_FATAL),
                "{fault:?}: {status}\n{said}"
            );
            let last = said.lines().last().unwrap_or_default();
            assert!(last.starts_with("ledger-node: "), "{fault:?}: {last}");
            for words in fault.says {
                assert!(
                    words.split('|').any(|words| last.contains(words)),
                    "{fault:?}: {words:?} is not in: {last}"
                );
            }
            last
        };
        self.must_be_sound(node);
        self.comes_back(node, fault.phase).await;
        Effects::Ended(last.to_owned())
    }

    /// Starts a node after a fault, as it was configured before.
    async fn comes_back(&mut self, node: u64, phase: Phase) {
        if phase == Phase::Installing {
            self.file(node).change_config(NO_SNAPSHOTS, SNAPSHOTS);
        }
        self.restart(node);
        self.is_whole().await;
    }

    /// Waits until every node but one has a newer snapshot than now.
    ///
    /// # Panics
    /// If they take none.
    pub async fn others_take_snapshots(&self, node: u64) {
        let others = || self.nodes().into_iter().filter(|other| *other != node);
        let newest = |other: u64| newest_snapshot(&self.file(other).data());
        let before: Vec<String> = others().map(newest).collect();
        until("all others take a snapshot", RECOVERY, async || {
            let all = others()
                .zip(&before)
                .all(|(other, before)| newest(other) > *before);
            all.then_some(())
        })
        .await;
    }

    /// Waits until the process of a node has ended, or nothing can happen to it any more.
    async fn ends_or_runs_well(&mut self, load: &Load, node: u64) -> Option<ExitStatus> {
        let mut unhurt_at = None;
        let process = self.running.get_mut(&node)?;
        let line = self.lines.get(&node)?;
        let (signing, answered) = (&self.signing, load);
        let status = until(
            "the fault has happened, or cannot",
            RECOVERY + SOON,
            async || {
                if let Some(status) = process.ended() {
                    return Some(Some(status));
                }
                let serves = super::status(signing, line)
                    .await
                    .is_some_and(|status| status.ready);
                let now = answered.answered();
                if serves {
                    let at = *unhurt_at.get_or_insert(now + UNHURT);
                    return (now >= at).then_some(None);
                }
                None
            },
        )
        .await;
        if status.is_some() {
            self.running.remove(&node);
        }
        status
    }
}
