//! `scripts/deps` on machines that this one is not: each test gives it a `PATH` with nothing but stand-ins.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// Debian's answer when the package is there.
const LIBCLANG_THERE: &str = "echo 'libclang-19-dev install ok installed'";

/// Debian's answer when it was there once.
const LIBCLANG_REMOVED: &str = "echo 'libclang-dev deinstall ok config-files'";

/// A machine that has only these programs.
struct Machine {
    programs: TempDir,
}

impl Machine {
    /// Every machine has Rust, and most have strace.
    fn new() -> Self {
        let programs = tempfile::tempdir().expect("a temporary folder can be made");
        Self { programs }
            .with("cargo", "exit 0")
            .with("strace", "exit 0")
    }

    fn without(self, name: &str) -> Self {
        fs::remove_file(self.programs.path().join(name)).expect("the stand-in is there");
        self
    }

    /// The machine with one more program, a line of shell. What it is called with goes to the file `calls`.
    fn with(self, name: &str, line: &str) -> Self {
        let path = self.programs.path().join(name);
        let log = self.programs.path().join("calls");
        let script = format!(
            "#!{}\nprintf '%s\\n' \"{name} $*\" >> '{}'\n{line}\n",
            bash().display(),
            log.display()
        );
        fs::write(&path, script).expect("a stand-in can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .expect("a stand-in can be made to run");
        self
    }

    fn debian(uid: u32) -> Self {
        Self::new()
            .with("apt-get", "exit 0")
            .with("env", "shift; \"$@\"")
            .with("id", &format!("echo {uid}"))
    }

    /// What the script says, with nobody at the terminal.
    fn deps(&self, arguments: &[&str], yes: bool) -> Output {
        let mut command = Command::new(bash());
        command
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/deps"))
            .args(arguments)
            .env_clear()
            .env("PATH", self.programs.path())
            .stdin(Stdio::null());
        if yes {
            command.env("YES", "1");
        }
        command.output().expect("bash can be run")
    }

    /// Calls of apt-get so far, one a line.
    fn installs(&self) -> String {
        let calls = fs::read_to_string(self.programs.path().join("calls")).unwrap_or_default();
        calls
            .lines()
            .filter(|line| line.starts_with("apt-get "))
            .map(|line| format!("{line}\n"))
            .collect()
    }
}

fn bash() -> PathBuf {
    let path = std::env::var_os("PATH").expect("a PATH is set");
    std::env::split_paths(&path)
        .map(|folder| folder.join("bash"))
        .find(|program| program.is_file())
        .expect("the scripts of this repository need bash")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn nothing_is_done_when_all_is_there() {
    let machine = Machine::debian(1000)
        .with("dpkg-query", LIBCLANG_THERE)
        .with("g++", "exit 0");
    let output = machine.deps(&[], false);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout(&output), "deps: all there\n");
    assert_eq!(machine.installs(), "");
}

#[test]
fn root_installs_what_is_missing_and_only_that() {
    let machine = Machine::debian(0)
        .with("dpkg-query", LIBCLANG_REMOVED)
        .with("g++", "exit 0");
    let output = machine.deps(&[], false);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("will install libclang-dev\n"));
    assert_eq!(
        machine.installs(),
        "apt-get update\napt-get install --yes --no-install-recommends libclang-dev\n"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn what_tests_break_disks_with_is_installed_too() {
    let machine = Machine::debian(0)
        .without("strace")
        .with("dpkg-query", LIBCLANG_THERE)
        .with("g++", "exit 0");
    let output = machine.deps(&[], false);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(machine.installs().ends_with(" strace\n"));
}

#[test]
fn others_are_asked_or_say_yes() {
    let machine = Machine::debian(1000)
        .with("dpkg-query", "exit 1")
        .with("sudo", "\"$@\"");
    let refused = machine.deps(&[], false);
    assert!(!refused.status.success());
    assert!(stdout(&refused).contains("will install g++ libclang-dev"));
    assert!(stderr(&refused).contains("set YES=1"));
    assert_eq!(machine.installs(), "");

    let agreed = machine.deps(&[], true);
    assert!(agreed.status.success(), "{}", stderr(&agreed));
    assert!(machine.installs().contains("g++ libclang-dev"));
}

#[test]
fn a_dry_run_changes_nothing() {
    let machine = Machine::debian(0).with("dpkg-query", "exit 1");
    let output = machine.deps(&["--dry-run"], true);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("will install g++ libclang-dev"));
    assert_eq!(machine.installs(), "");
}

#[test]
fn without_root_or_sudo_it_says_what_to_run() {
    let machine = Machine::debian(1000).with("dpkg-query", "exit 1");
    let output = machine.deps(&[], true);
    assert!(!output.status.success());
    assert!(stderr(&output).contains("as root run: env DEBIAN_FRONTEND=noninteractive apt-get"));
}

#[test]
fn elsewhere_it_says_what_to_install() {
    let machine = Machine::new()
        .with("clang++", "exit 0")
        .with("dpkg-query", "exit 1");
    let output = machine.deps(&[], true);
    assert!(!output.status.success());
    let said = stderr(&output);
    assert!(
        said.contains("missing, by their Debian names: libclang-dev"),
        "{said}"
    );
    assert!(said.contains("clang-devel"));
}

#[test]
fn a_machine_without_rust_is_told_so() {
    let machine = Machine::debian(0).without("cargo");
    let output = machine.deps(&[], true);
    assert!(!output.status.success());
    assert!(stderr(&output).contains("cargo is missing"));
}

#[test]
fn an_unknown_argument_is_refused() {
    let output = Machine::debian(0).deps(&["--now"], true);
    assert!(!output.status.success());
    assert!(stderr(&output).contains("unknown argument --now"));
}
