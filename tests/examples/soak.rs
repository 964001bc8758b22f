//! The long forms of what `tests/it/cluster` does in short: `soak kills 30`, `soak partitions 60`, `soak entries 1000000`,
//! `soak faults 5`, `soak replay 10`, `soak levels 500`.
//! Prints figures, and fails if a promise is broken or a figure is beyond its limit.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::panic,
    reason = "a program whose findings are its output, and which fails by panicking"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_tests::cluster::cli::Cli;
use countersign_tests::cluster::faults::{Effects, Fault, SETTINGS};
use countersign_tests::cluster::load::Load;
use countersign_tests::cluster::scenarios::{Cut, UNAVAILABLE_MEDIAN, UNAVAILABLE_WORST};
use countersign_tests::cluster::sweep::sweep;
use countersign_tests::cluster::{Cluster, Options};
use countersign_tests::examples::{agentdojo, examples};
use countersign_tests::kit::key;
use countersign_tests::shared_data::shared_data;
use ledger_client::{Author, Client, Level, Question, Settings, Trust};
use ledger_core::id::Identity;

/// Writers of the load.
const WRITERS: usize = 32;
/// Entries after which memory is measured first.
const FIRST_MEASURE: usize = 100_000;
/// How much more memory the whole run may take than its first part.
const GROWTH: u64 = 64 * 1024 * 1024;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().unwrap_or_default();
    let number = arguments.next().and_then(|number| number.parse().ok());
    match (what.as_str(), number) {
        ("kills", Some(number)) => kills(number).await,
        ("partitions", Some(number)) => partitions(Duration::from_secs(number as u64)).await,
        ("entries", Some(number)) => entries(number).await,
        ("faults", Some(number)) => faults(number, &arguments.next().unwrap_or_default()).await,
        ("replay", Some(number)) => replay(number).await,
        ("levels", Some(number)) => levels(number).await,
        _ => panic!(
            "usage: soak kills COUNT | soak partitions SECONDS | soak entries COUNT | soak faults NUMBERS [KIND] | soak replay KILLS | soak levels COUNT"
        ),
    }
}

async fn kills(count: usize) {
    let (mut cluster, actors) = Cluster::with_actors(Options::default(), WRITERS + 1).await;
    let (probe, writers) = actors.split_last().expect("actors");
    let load = Load::start(&cluster, writers);
    let kills = cluster.kills(&load, probe, count).await;
    load.finish().await;
    let case = cluster.must_keep_promises().await;
    cluster.must_be_sound_on_disk().await;
    println!(
        "kills: {}, of leaders: {}",
        kills.kills,
        kills.unavailable.len()
    );
    println!("answered calls: {}", case.history.answered().count());
    println!(
        "entries: {}",
        case.ledgers
            .first()
            .map_or(0, |ledger| ledger.entries.len())
    );
    let (median, worst) = (kills.median(), kills.worst());
    println!("without decisions after the death of a leader: median {median:?}, worst {worst:?}");
    assert!(
        median <= UNAVAILABLE_MEDIAN,
        "the median is beyond {UNAVAILABLE_MEDIAN:?}"
    );
    assert!(
        worst <= UNAVAILABLE_WORST,
        "the worst is beyond {UNAVAILABLE_WORST:?}"
    );
}

async fn partitions(during: Duration) {
    let (mut cluster, actors) = Cluster::with_actors(Options::default(), WRITERS).await;
    let load = Load::start(&cluster, &actors);
    for cut in [Cut::Both, Cut::Mute, Cut::Deaf] {
        for of_leader in [true, false] {
            let node = if of_leader {
                cluster.leader().await
            } else {
                cluster.follower().await
            };
            let begin = Instant::now();
            cluster.partition(&load, node, cut, during).await;
            println!(
                "{cut:?} of node {node}, leader: {of_leader}; well again after {:?}",
                begin.elapsed()
            );
        }
    }
    load.finish().await;
    let case = cluster.must_keep_promises().await;
    cluster.must_be_sound_on_disk().await;
    println!("answered calls: {}", case.history.answered().count());
}

/// What a yes costs one client that asks one question after the other, by what its receipts are worth; the levels take turns, so
/// that they meet the same machine.
async fn levels(count: usize) {
    let (cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    let actor = actors.first().expect("an actor");
    let mut took: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    let clients = [Level::Committed, Level::Cosigned].map(|level| {
        let endpoints = cluster
            .nodes()
            .into_iter()
            .map(|node| cluster.endpoint(node));
        let mut settings = Settings::new(endpoints.collect());
        settings.level = level;
        let identity = Identity::Agent(actor.agent.clone());
        let author = Author::new(identity.clone(), Arc::new(key(&identity.to_string())));
        let trust = Trust::new(cluster.policy.clone(), None).expect("a trust policy");
        let client = Client::new(settings, trust, Some(author.expect("a good key")));
        (level, client.expect("a client"))
    });
    for _ in 0..count {
        for (level, client) in &clients {
            let input = r#"{"doc":"a"}"#;
            let question = Question::new(&actor.agent, actor.session, "bank/read", input);
            let begin = Instant::now();
            let decision = client.authorize(question).await.expect("an answer");
            took.entry(level.name()).or_default().push(begin.elapsed());
            assert!(decision.permits_now(), "{:?}", decision.refusal());
        }
    }
    for (level, mut took) in took {
        took.sort_unstable();
        let at = |percent: usize| {
            let place = (took.len() * percent / 100).min(took.len().saturating_sub(1));
            took.get(place).copied().unwrap_or_default()
        };
        println!(
            "{level}: median {:?}, 95 % {:?}, 99 % {:?}",
            at(50),
            at(95),
            at(99)
        );
    }
}

async fn entries(count: usize) {
    let (mut cluster, actors) = Cluster::with_actors(Options::default(), WRITERS).await;
    let load = Load::unrecorded(&cluster, &actors);
    let begin = Instant::now();
    let mut first = Vec::new();
    // Also in between, for runs that are stopped before their end.
    let targets = (FIRST_MEASURE..count).step_by(FIRST_MEASURE);
    for target in targets.chain([count]) {
        cluster.grows_to(target).await;
        let resident: Vec<u64> = cluster.resident_bytes();
        println!(
            "{target} entries after {:?}: resident bytes {resident:?}",
            begin.elapsed()
        );
        if first.is_empty() {
            first = resident;
        } else {
            for (before, after) in first.iter().zip(&resident) {
                assert!(
                    *after <= before + GROWTH,
                    "a node grew from {before} to {after} bytes"
                );
            }
        }
    }
    load.finish().await;
    cluster.converge().await;
    let elections = cluster.elections();
    println!("elections, the first included: {elections}");
    assert_eq!(elections, 1, "a leader was lost under load");
    cluster.must_be_sound_on_disk().await;
}

/// Goes through every kind of fault, for each from the first call to the last of so many, or to one that is never made. Each
/// kind has a cluster of its own, so that what is checked after each fault does not grow with those before. `only` is in the name
/// of the kinds that are wanted.
async fn faults(numbers: usize, only: &str) {
    let (mut ended, mut went_on, mut answered) = (0, 0, 0);
    for kind in sweep() {
        let name = format!(
            "{:?} {} {:?} {:?}",
            kind.phase, kind.call, kind.place, kind.effect
        );
        if !name.contains(only) {
            continue;
        }
        let options = Options {
            settings: SETTINGS.to_owned(),
            ..Options::default()
        };
        let (mut cluster, actors) = Cluster::with_actors(options, WRITERS).await;
        let load = Load::start(&cluster, &actors);
        let (mut ended_of_kind, mut went_on_of_kind, mut missed) = (0, 0, "");
        let mut said = BTreeMap::new();
        for nth in 1..=numbers {
            let node = cluster.follower().await;
            match cluster.suffers(&load, node, &Fault { nth, ..kind }).await {
                Effects::Ended(words) => {
                    ended_of_kind += 1;
                    *said.entry(words).or_insert(0) += 1;
                }
                Effects::WentOn => went_on_of_kind += 1,
                Effects::Missed => {
                    missed = "; no thread makes more such calls";
                    break;
                }
            }
        }
        load.finish().await;
        let case = cluster.must_keep_promises().await;
        cluster.must_be_sound_on_disk().await;
        let answered_of_kind = case.history.answered().count();
        println!(
            "{name}: ended {ended_of_kind}, went on {went_on_of_kind}{missed}; {answered_of_kind} answered calls kept"
        );
        for (words, times) in said.iter().filter(|(words, _)| !words.is_empty()) {
            println!("    {times}x {words}");
        }
        ended += ended_of_kind;
        went_on += went_on_of_kind;
        answered += answered_of_kind;
    }
    println!("faults: the node ended {ended} times, and went on {went_on} times");
    println!("answered calls: {answered}");
}

/// Replays the long recordings of real agents while nodes are killed, so many of them during each; then audits the ledger.
async fn replay(kills: usize) {
    let data =
        shared_data("traces/agentdojo-runs.jsonl").expect("the recordings beside the checkout");
    let data = data.ancestors().nth(2).expect("the data's folder");
    let mut cluster = Cluster::start(Options::default()).await;
    let cli = Cli::of_admin(&cluster);
    let dojo = cli.folder.join("agentdojo");
    agentdojo(data, &dojo).expect("the bundles for AgentDojo");
    for (name, bundle) in [
        ("agentdojo-runs", dojo),
        ("tau2-gt", examples().join("service")),
    ] {
        let trace = data.join(format!("traces/{name}.jsonl"));
        let begin = Instant::now();
        let mut killed = 0;
        let mut command = cli.command(&["replay", "--out", "answers.jsonl", "--bundle"]);
        command.arg(&bundle).arg(&trace);
        let mut child = command.spawn().expect("ledger-client runs");
        let status = loop {
            if let Some(status) = child.try_wait().expect("our child") {
                break status;
            }
            if killed < kills {
                let node = if killed % 2 == 0 {
                    cluster.leader().await
                } else {
                    cluster.follower().await
                };
                cluster.kill(node);
                cluster.restart(node);
                killed += 1;
            }
            cluster.is_whole().await;
        };
        println!(
            "{name}: {status} after {:?}, {killed} kills",
            begin.elapsed()
        );
        assert_eq!(killed, kills, "{name} ended before all kills");
        assert!(status.success(), "{name} was not replayed");
        let asked = std::fs::read_to_string(&trace).expect("the trace");
        let answers = std::fs::read_to_string(cli.folder.join("answers.jsonl"));
        let answers = answers.expect("the answers").lines().count();
        assert_eq!(answers, asked.lines().count(), "one line for each");
    }
    let audit = cli.must(&["audit", "--replay"]);
    println!("{}", audit.out);
    cluster.converge().await;
    for node in cluster.nodes() {
        cluster.stop(node).await;
        cluster.must_be_sound(node);
    }
}
