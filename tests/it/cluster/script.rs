//! `scripts/cluster`, every command of it, as a developer uses it.

use std::path::{Path, PathBuf};
use std::process::Command;

use countersign_tests::cluster::SOON;
use countersign_tests::cluster::cli::Said;
use countersign_tests::cluster::process::program;
use countersign_tests::cluster::wait::until;

/// A folder for a cluster of the script, whose nodes end with it.
struct Scripted {
    folder: tempfile::TempDir,
}

impl Scripted {
    fn dir(&self) -> PathBuf {
        self.folder.path().join("dev")
    }

    /// Runs a command of the script on the cluster's folder.
    fn run(&self, command: &str, more: &[&str]) -> Said {
        let mut script = Self::script();
        script.arg(command).arg(self.dir()).args(more);
        script.output().expect("the script runs").into()
    }

    /// A command that must succeed.
    fn must(&self, command: &str, more: &[&str]) -> Said {
        let said = self.run(command, more);
        assert_eq!(said.code, 0, "{command} {more:?}: {said:?}");
        said
    }

    /// Each node and what it does, by `status`; the exit code tells whether all serve.
    fn states(&self) -> Vec<(u64, String)> {
        let said = self.run("status", &[]);
        let states: Vec<(u64, String)> = said
            .out
            .lines()
            .map(|line| {
                let mut words = line.split_whitespace().skip(1);
                let id = words.next().expect("an id").parse().expect("a number");
                (id, words.next().expect("a state").to_owned())
            })
            .collect();
        let all = states.iter().all(|(_, state)| state == "serves");
        assert_eq!(said.code, i32::from(!all), "{said:?}");
        states
    }

    /// Waits until exactly these nodes are there, and serve. Whoever runs all along learns of a new leader only when that finds it.
    async fn all_serve(&self, ids: &[u64]) {
        until("all nodes serve", SOON, async || {
            (self.states() == serve(ids)).then_some(())
        })
        .await;
    }

    /// Runs a line in a shell that has evaluated `env`.
    fn shell(&self, line: &str) -> Said {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/cluster");
        let line = format!(
            "eval \"$({} env {})\" && {line}",
            path.display(),
            self.dir().display()
        );
        let mut shell = Command::new("bash");
        shell.args(["-euc", &line]);
        shell.env("CARGO_TARGET_DIR", target());
        shell.output().expect("a shell runs").into()
    }

    fn script() -> Command {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/cluster");
        let mut script = Command::new(path);
        script.env("CARGO_TARGET_DIR", target());
        script
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        let _ = self.run("down", &[]);
    }
}

fn target() -> PathBuf {
    let node = program();
    let target = node.parent().and_then(Path::parent);
    target.expect("a target folder").to_owned()
}

fn scripted() -> Scripted {
    let folder = tempfile::tempdir().expect("a folder");
    Scripted { folder }
}

fn serve(ids: &[u64]) -> Vec<(u64, String)> {
    ids.iter().map(|id| (*id, "serves".to_owned())).collect()
}

#[tokio::test]
async fn a_cluster_of_the_script_goes_through_all_that_it_offers() {
    let cluster = scripted();
    cluster.must("up", &["--nodes", "3", "--tree-hash", "blake3"]);
    cluster.all_serve(&[1, 2, 3]).await;
    let origin = std::fs::read_to_string(cluster.dir().join("origin")).expect("a file");
    assert_eq!(origin.trim(), "localhost/countersign/blake3");
    let again = cluster.run("up", &[]);
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.err.contains("exists"), "{again:?}");

    cluster.must("kill", &["1"]);
    cluster.must("stop", &["2"]);
    let states: Vec<String> = cluster
        .states()
        .into_iter()
        .map(|(_, state)| state)
        .collect();
    assert_eq!(states[..2], ["stopped", "stopped"]);
    let twice = cluster.run("stop", &["2"]);
    assert_eq!(twice.code, 1, "{twice:?}");
    assert!(twice.err.contains("does not run"), "{twice:?}");
    // Node 1 serves only once there is a quorum again, for which another is needed.
    std::thread::scope(|scope| {
        scope.spawn(|| cluster.must("start", &["1"]));
        scope.spawn(|| cluster.must("start", &["2"]));
    });
    cluster.all_serve(&[1, 2, 3]).await;

    cluster.must("add", &[]);
    cluster.all_serve(&[1, 2, 3, 4]).await;
    cluster.must("remove", &["1"]);
    cluster.all_serve(&[2, 3, 4]).await;
    let back = cluster.run("start", &["1"]);
    assert_eq!(back.code, 1, "{back:?}");
    assert!(back.err.contains("was removed"), "{back:?}");
    let listed = cluster.shell("ledger-client cluster status --json");
    assert_eq!(listed.code, 0, "{listed:?}");
    let nodes = listed.json()["nodes"].clone();
    let ids = nodes.as_array().expect("a list").iter();
    let ids: Vec<_> = ids.filter_map(|node| node["node"].as_u64()).collect();
    assert_eq!(ids, [2, 3, 4], "{listed:?}");

    cluster.must("down", &[]);
    cluster.must("start", &[]);
    cluster.all_serve(&[2, 3, 4]).await;
    cluster.must("down", &[]);
    assert!(
        cluster.states().iter().all(|(_, state)| state == "stopped"),
        "{:?}",
        cluster.states()
    );
}

#[test]
fn the_script_says_what_is_wrong_with_what_it_is_given() {
    let cluster = scripted();
    let usage = |command: &str, more: &[&str], says: &str| {
        let said = cluster.run(command, more);
        assert_eq!(said.code, 2, "{command} {more:?}: {said:?}");
        assert!(said.err.contains(says), "{command} {more:?}: {said:?}");
        assert!(!cluster.dir().exists(), "{command} {more:?}");
    };
    usage("up", &["--nodes", "0"], "a number from 1 to 9");
    usage("up", &["--nodes", "ten"], "a number from 1 to 9");
    usage("up", &["--tree-hash", "md5"], "sha256 or blake3");
    usage("up", &["--tree-hash"], "needs a value");
    usage("up", &["--node", "3"], "unknown argument");
    usage("begin", &[], "unknown command");
    for command in [
        "env", "status", "kill", "stop", "start", "add", "remove", "down",
    ] {
        let said = cluster.run(command, &[]);
        assert_eq!(said.code, 1, "{command}: {said:?}");
        assert!(
            said.err.contains("scripts/cluster up"),
            "{command}: {said:?}"
        );
    }
    let alone: Said = Scripted::script().arg("up").output().expect("runs").into();
    assert_eq!(alone.code, 2, "{alone:?}");
}
