//! Disks that fail under real processes, one fault of each kind; and P1 as the system saw it, call by call.

use std::collections::BTreeMap;
use std::path::Path;

use countersign_tests::cluster::client::request_id;
use countersign_tests::cluster::faults::{Effects, SETTINGS};
use countersign_tests::cluster::load::{Load, ask, question};
use countersign_tests::cluster::sweep::KINDS;
use countersign_tests::cluster::{Cluster, Options};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_stops_its_node_and_nothing_is_lost() {
    let options = Options {
        settings: SETTINGS.to_owned(),
        ..Options::default()
    };
    let (mut cluster, actors) = Cluster::with_actors(options, 8).await;
    let load = Load::start(&cluster, &actors);
    let node = cluster.follower().await;
    for fault in KINDS {
        let effects = cluster.suffers(&load, node, fault).await;
        assert!(
            matches!(effects, Effects::Ended(_)),
            "{fault:?}: {effects:?}"
        );
    }
    load.finish().await;
    cluster.must_keep_promises().await;
    cluster.must_be_sound_on_disk().await;
}

/// When a call of the system began and ended, in microseconds.
#[derive(Debug, Clone, Copy)]
struct Span {
    begin: u64,
    end: u64,
}

/// Seconds with six decimals, in microseconds.
fn micros(seconds: &str) -> Option<u64> {
    let (whole, decimals) = seconds.split_once('.')?;
    (decimals.len() == 6).then_some(())?;
    format!("{whole}{decimals}").parse().ok()
}

/// Calls of one thread: time, text up to the result, duration.
fn calls(text: &str) -> Vec<(Span, &str)> {
    let lines = text.lines().filter_map(|line| {
        let (time, call) = line.split_once(' ')?;
        let begin = micros(time)?;
        let (call, took) = call.rsplit_once(" <")?;
        let end = begin + micros(took.strip_suffix('>')?)?;
        Some((Span { begin, end }, call))
    });
    lines.collect()
}

/// All calls of a node: strace has written a file for each of its threads.
fn traces(folder: &Path, node: u64) -> Vec<String> {
    let prefix = format!("order-{node}.");
    let items = std::fs::read_dir(folder).expect("a folder");
    let paths = items.map(|item| item.expect("an item").path());
    paths
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with(&prefix))
        })
        .map(|path| std::fs::read_to_string(path).expect("a trace"))
        .collect()
}

/// As strace writes bytes with `-xx`.
fn escaped(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_sent_after_a_quorum_has_synced_its_entry() {
    let (mut cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    for node in cluster.nodes() {
        cluster.stop(node).await;
        let trace = cluster.folder().join(format!("order-{node}"));
        let arguments = format!(
            "--seccomp-bpf -ff -ttt -T -yy -xx -s 100000 -o {} --trace=fdatasync,write,writev,sendto,sendmsg",
            trace.display()
        );
        let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        cluster.restart_traced(node, &arguments);
    }
    let leader = cluster.leader().await;
    let submission = cluster.signing.command(question(&actors[0], 0));
    let answer = ask(cluster.line(leader), &submission).await;
    answer.expect("an answer");
    let client = cluster.file(leader).client.to_string();
    let folder = cluster.folder().to_owned();
    for node in cluster.nodes() {
        cluster.stop(node).await;
    }

    let id = escaped(&request_id(&submission));
    let log_name = format!("{}>", escaped(b".log"));
    let mut synced = BTreeMap::new();
    let mut answered = None;
    for node in 1..=3 {
        let traces = traces(&folder, node);
        let all: Vec<(Span, &str)> = traces.iter().flat_map(|text| calls(text)).collect();
        let is_log = |call: &str| call.contains(&log_name);
        let written = all
            .iter()
            .filter(|(_, call)| call.starts_with("write") && is_log(call) && call.contains(&id))
            .map(|(span, _)| span.end)
            .min();
        // The node that was started last can have been stopped before the entry reached it.
        let Some(written) = written else { continue };
        let sync = all
            .iter()
            .filter(|(span, call)| {
                call.starts_with("fdatasync") && is_log(call) && span.begin >= written
            })
            .map(|(span, _)| span.end)
            .min();
        synced.extend(sync.map(|sync| (node, sync)));
        if node == leader {
            answered = all
                .iter()
                .filter(|(_, call)| {
                    call.contains(&format!("TCP:[{client}->")) && call.contains(&id)
                })
                .map(|(span, _)| span.begin)
                .min();
        }
    }
    let answered = answered.expect("the leader has sent the answer to a client");
    let before = synced
        .values()
        .filter(|synced| **synced <= answered)
        .count();
    assert!(
        before >= 2,
        "answered at {answered}, synced at {synced:?} by node"
    );
}
