//! Real processes of the program that ships: where it is, how it is run, and how it ends.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::SOON;
use super::clock_shim::ClockShim;
use super::wait::until;

/// The program, built beforehand. Cargo tells only the crate that has a binary where it is; all others have to know that test
/// executables and examples are in folders beside it.
///
/// # Panics
/// If it was not built.
#[must_use]
pub fn program() -> PathBuf {
    let own = std::env::current_exe().expect("a running program has a path");
    let found = own
        .ancestors()
        .skip(1)
        .map(|folder| folder.join("ledger-node"))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "there is no ledger-node near {}; run `cargo build -p ledger-node --bins`",
            own.display()
        )
    })
}

/// Runs one command of the program to its end and gives its standard output.
///
/// # Panics
/// If it fails.
#[must_use]
pub fn must_run(arguments: &[&str]) -> String {
    let (status, out, err) = run(arguments);
    assert!(
        status.success(),
        "ledger-node {}: {status}\n{err}",
        arguments.join(" ")
    );
    out
}

/// Runs one command of the program to its end: status, standard output, standard error.
///
/// # Panics
/// If it cannot be run.
#[must_use]
pub fn run(arguments: &[&str]) -> (ExitStatus, String, String) {
    let output = Command::new(program())
        .args(arguments)
        .output()
        .expect("the program runs");
    (
        output.status,
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// A running node. It ends when this is dropped, so that no test leaves one behind.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a node whose output is added to a log file, with more arguments.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(config: &Path, log: &Path, more: &[&str]) -> Self {
        Self::spawn(Command::new(program()), config, log, more)
    }

    /// Starts a node whose clock is another one.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start_with_clock(config: &Path, log: &Path, clock: &ClockShim) -> Self {
        let mut command = Command::new(program());
        clock.preload(&mut command);
        Self::spawn(command, config, log, &[])
    }

    /// Starts a node that looks in a file for what is to happen to its workers.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start_with_fault_file(config: &Path, log: &Path, file: &Path) -> Self {
        let mut command = Command::new(program());
        command.env("COUNTERSIGN_FAULT_FILE", file);
        Self::spawn(command, config, log, &[])
    }

    /// Starts a node under strace, which is told what to do by these arguments. The process is the node's: strace is not its
    /// parent, and ends after it.
    ///
    /// # Panics
    /// If it cannot be started, or if there is no strace: a test without its faults would prove nothing.
    #[must_use]
    pub fn start_traced(config: &Path, log: &Path, tracer: &[String]) -> Self {
        let version = Command::new("strace").arg("--version").output();
        assert!(
            version.is_ok_and(|version| version.status.success()),
            "this test needs strace; run `make deps`"
        );
        let mut command = Command::new("strace");
        command
            .args(["-f", "-D", "-qq"])
            .args(tracer)
            .arg("--")
            .arg(program());
        Self::spawn(command, config, log, &[])
    }

    fn spawn(mut command: Command, config: &Path, log: &Path, more: &[&str]) -> Self {
        command.args(["start", "--config"]).arg(config).args(more);
        Self::run_logged(command, log)
    }

    /// Starts any program whose output is added to a log file.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn run_logged(mut command: Command, log: &Path) -> Self {
        let open =
            || -> std::io::Result<File> { OpenOptions::new().create(true).append(true).open(log) };
        let child = command
            .stdin(Stdio::null())
            .stdout(open().expect("a log file"))
            .stderr(open().expect("a log file"))
            .env("RUST_BACKTRACE", "1")
            .spawn()
            .expect("the program starts");
        Self {
            child,
            log: log.to_owned(),
        }
    }

    /// Ends it without notice, as kill -9 does, and waits for its end.
    ///
    /// # Panics
    /// If it is not ours any more, which cannot be.
    pub fn kill(&mut self) {
        self.child.kill().expect("our child can be killed");
        self.child.wait().expect("our child can be waited for");
    }

    /// The status with which it has ended, if it has.
    ///
    /// # Panics
    /// If it is not ours any more, which cannot be.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our child can be waited for")
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end in time.
    pub async fn must_end(&mut self, at_most: Duration) -> ExitStatus {
        let log = self.log.display().to_string();
        let child = &mut self.child;
        until(&format!("the process of {log} ends"), at_most, async || {
            child.try_wait().expect("our child can be waited for")
        })
        .await
    }

    /// Asks it to stop (SIGTERM), or to stand still or go on (SIGSTOP, SIGCONT).
    ///
    /// # Panics
    /// If there is no such process.
    pub fn signal(&self, name: &str) {
        // The shell's own: a bare machine has no program of that name.
        let status = Command::new("sh")
            .args([
                "-c",
                "kill -\"$0\" \"$1\"",
                name,
                &self.child.id().to_string(),
            ])
            .status()
            .expect("kill runs");
        assert!(status.success(), "kill -{name}: {status}");
    }

    /// Stops it where it is (SIGSTOP), and waits until each of its threads stands still: the others run on until the one that was given
    /// the signal has had its turn, which on a busy machine is time for an answer.
    ///
    /// # Panics
    /// If there is no such process, or it goes on.
    pub async fn stand_still(&self) {
        self.signal("STOP");
        let tasks = format!("/proc/{}/task", self.child.id());
        until("every thread stands still", SOON, async || {
            let mut threads = std::fs::read_dir(&tasks).ok()?.flatten();
            let is_stopped = |path: PathBuf| {
                let stat = std::fs::read_to_string(path.join("stat")).unwrap_or_default();
                // The state follows the name, which is in brackets.
                let state = stat
                    .rsplit_once(") ")
                    .map(|(_, rest)| rest.starts_with('T'));
                state.unwrap_or(true)
            };
            threads
                .all(|thread| is_stopped(thread.path()))
                .then_some(())
        })
        .await;
    }

    /// Its resident memory in bytes.
    ///
    /// # Panics
    /// If it has ended.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .expect("the process runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        let kib: u64 = kib.and_then(|kib| kib.parse().ok()).expect("a size in kB");
        kib * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
