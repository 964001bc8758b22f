//! Where the command line ends: at Ctrl-C, at a pipe that nobody reads, and on terminals of all kinds.

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use countersign_tests::cluster::cli::{self, Cli, Said};
use countersign_tests::cluster::liar::Liar;
use ledger_client::paths;
use rustix::process::{Pid, Signal, kill_process};

use super::commands::{asking, asks, list, one_agent};

/// Starts a command whose output is seen when it has ended.
fn start(cli: &Cli, arguments: &[&str]) -> Child {
    let mut command = cli.command(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("ledger-client runs")
}

/// Interrupts a command as Ctrl-C does, and demands that it says so in one sentence.
fn interrupted(child: Child, says: &str) -> Said {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a process"), Signal::INT).expect("a signal");
    let ended: Said = child.wait_with_output().expect("it ends").into();
    assert_eq!(ended.code, 130, "{ended:?}");
    assert_eq!(ended.err.lines().count(), 1, "{ended:?}");
    assert!(ended.err.contains(says), "{ended:?}");
    ended
}

/// The files of the user whose names begin so.
fn beginning_with(cli: &Cli, begin: &str) -> Vec<String> {
    let items = std::fs::read_dir(&cli.folder).expect("a folder");
    let names = items.map(|item| item.expect("an item").file_name());
    names
        .filter_map(|name| name.into_string().ok())
        .filter(|name| name.starts_with(begin))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_who_goes_away_ends_the_command() {
    let (_cluster, cli, _) = one_agent().await;
    let mut child = cli
        .command(&["follow", "--start", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("runs");
    let mut out = child.stdout.take().expect("a pipe");
    let mut first = [0; 1];
    out.read_exact(&mut first).expect("the first entry");
    drop(out);
    // It notices with the next entry.
    cli.must(&["namespace", "create", "noticed", "--owner", "root"]);
    let ended: Said = child.wait_with_output().expect("it ends").into();
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(
        ended.err.contains("the output cannot be written"),
        "{ended:?}"
    );
}

/// Recorded actions without end, as far as a test can wait.
fn long_trace(path: &Path) {
    let line = r#"{"suite":"shop","agent":"bot","session":"one","tool":"shop/lookup","args":{"order":"A-1"}}"#;
    std::fs::write(path, format!("{line}\n").repeat(200_000)).expect("a file");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_replay_leaves_no_file_behind() {
    let (_cluster, cli, _) = one_agent().await;
    long_trace(&cli.folder.join("long.jsonl"));
    let refunds = countersign_tests::examples::examples().join("refunds");
    let refunds = refunds.to_str().expect("a plain path");
    let child = cli
        .command(&[
            "replay",
            "long.jsonl",
            "--bundle",
            refunds,
            "--out",
            "answers",
        ])
        .stderr(Stdio::piped())
        .spawn()
        .expect("runs");
    // It is in the middle of it once its first actions have entries.
    let since = Instant::now();
    while list(&cli, &["--action", "shop/lookup"]).is_empty() {
        assert!(
            since.elapsed() < Duration::from_secs(60),
            "nothing is replayed"
        );
    }
    interrupted(child, "interrupted after ");
    assert_eq!(beginning_with(&cli, "answers"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_waits_for_an_answer_can_be_interrupted() {
    let (cluster, cli, actor) = one_agent().await;
    let index = asks(&cli, &actor, "bank/read", r#"{"doc":"a"}"#).to_string();
    let session = hex::encode(actor.session.to_vec());
    cli.must(&["session", "close", &session]);
    let authorize = asking(&session, "bank/read", "{}");
    let prove = ["prove", &index, "--out", "evidence"];
    let prove_session = ["prove", "--session", &session, "--out", "evidence"];
    let sound = "interrupted; the first ";
    let nothing = "interrupted; no file was written";
    let unknown = "whether anything happened is not known";
    let waits: [(&[&str], &'static str, &str); 6] = [
        (&["audit"], paths::FOLLOW, sound),
        (&["audit", "--replay"], paths::GET_ENTRY, sound),
        (&["follow", "--start", "0"], paths::FOLLOW, nothing),
        (&prove, paths::GET_EVIDENCE, nothing),
        (&prove_session, paths::GET_EVIDENCE, nothing),
        (&authorize, paths::AUTHORIZE, unknown),
    ];
    for (command, path, says) in waits {
        let liar = Liar::before(cluster.file(1).client).await;
        let endpoint = liar.endpoint();
        liar.is_silent(path);
        let child = start(&cli, &[command, &["--endpoints", &endpoint]].concat());
        liar.is_asked().await;
        let ended = interrupted(child, says);
        assert_eq!(ended.out, "", "{command:?}");
    }
    assert_eq!(beginning_with(&cli, "evidence"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_were_followed_until_an_interrupt_are_whole() {
    let (_cluster, cli, _) = one_agent().await;
    let mut child = start(&cli, &["follow", "--start", "0", "--json"]);
    let mut first = [0; 1];
    let out = child.stdout.as_mut().expect("a pipe");
    out.read_exact(&mut first).expect("the first entry");
    let ended = interrupted(child, "interrupted");
    let said = format!("{}{}", char::from(first[0]), ended.out);
    assert!(said.ends_with('\n'), "{said:?}");
    for line in said.lines() {
        let _: serde_json::Value = serde_json::from_str(line).expect("a whole entry");
    }
}

/// Runs a command on a terminal, and gives everything that the terminal was sent.
fn on_a_terminal(cli: &Cli, arguments: &str, variables: &[(&str, &str)]) -> String {
    let inner = cli.command(&[]);
    let line = format!("{} {arguments}", cli::client().display());
    let mut script = std::process::Command::new("script");
    script
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .current_dir(&cli.folder)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::null());
    for (name, value) in inner.get_envs() {
        script.env(name, value.unwrap_or_default());
    }
    script.envs(variables.iter().copied());
    let output = script.output().expect("`script` of util-linux runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn colour_is_for_terminals_that_have_it() {
    let (_cluster, cli, _) = one_agent().await;
    let xterm = ("TERM", "xterm");
    let wrong = "entry list --unrecorded --drifted";
    let coloured = on_a_terminal(&cli, wrong, &[xterm]);
    assert!(coloured.contains("\u{1b}["), "{coloured:?}");
    let plain = [("NO_COLOR", "1"), xterm];
    let dumb = [("TERM", "dumb")];
    for variables in [&plain[..], &dumb] {
        for command in [wrong, "--help", "agent list", "verify nothing", "audit"] {
            let said = on_a_terminal(&cli, command, variables);
            assert!(!said.is_empty(), "{command}");
            let colour = said.contains("\u{1b}[3") || said.contains("\u{1b}[1m");
            assert!(!colour, "{command} {variables:?}: {said:?}");
            let dumb = variables.contains(&("TERM", "dumb"));
            assert!(!dumb || !said.contains('\u{1b}'), "{command}: {said:?}");
        }
    }
    // What is not a terminal gets neither colour nor bars, whatever its name is.
    for command in [&["audit"][..], &["entry", "list"], &["--help"]] {
        let output = cli.command(command).env("TERM", "xterm").output();
        let said: Said = output.expect("runs").into();
        assert!(
            !said.out.contains('\u{1b}') && said.err.is_empty(),
            "{said:?}"
        );
    }
}
