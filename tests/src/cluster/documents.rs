//! Documents whose commands are run: what a page tells people to type has to work as it stands.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

use super::ports::Ports;
use super::process::program;

/// The commands in a document's blocks marked `console`, in their order: lines that begin with a dollar sign.
#[must_use]
pub fn commands(document: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut inside = false;
    for line in document.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if inside && let Some(command) = line.strip_prefix("$ ") {
            commands.push(command.to_owned());
        }
    }
    commands
}

/// What a document shows that its commands write: the other lines of these blocks.
#[must_use]
pub fn shown(document: &str) -> Vec<String> {
    let mut shown = Vec::new();
    let mut inside = false;
    for line in document.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if inside && !line.starts_with("$ ") {
            shown.push(line.to_owned());
        }
    }
    shown
}

/// A shell that runs commands one after the other, with everything that they leave running.
#[derive(Debug)]
pub struct Shell {
    child: Child,
    _ports: Ports,
}

impl Shell {
    /// Runs commands in a folder, up to the first that fails, and gives what they wrote. The ports 7400 to 7409 and 7500 to
    /// 7509 of the document become ports that nobody else uses.
    ///
    /// # Panics
    /// If a command fails; what it wrote and the commands before it are shown.
    #[must_use]
    pub fn must_run(commands: &[String], folder: &Path) -> (Self, String) {
        let ports = Ports::take();
        let tens = ports.first() / 10;
        let script = commands
            .join("\n")
            .replace("740", &tens.to_string())
            .replace("750", &(tens + 1).to_string());
        let written = folder.join("written");
        let out = std::fs::File::create(&written).expect("a file");
        let bin = program();
        let bin = bin.parent().expect("a folder");
        let path = std::env::var("PATH").unwrap_or_default();
        let child = Command::new("bash")
            .args(["-x", "-euo", "pipefail", "-c", &script])
            .current_dir(folder)
            .env("PATH", format!("{}:{path}", bin.display()))
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a file"))
            .stderr(out)
            // Ended as a whole: what runs on in the background belongs to it.
            .process_group(0)
            .spawn()
            .expect("bash runs");
        let mut shell = Self {
            child,
            _ports: ports,
        };
        let status = shell.child.wait().expect("our child can be waited for");
        let text = std::fs::read_to_string(&written).expect("what was written");
        assert!(status.success(), "{status}\n{text}");
        (shell, text)
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = group {
            // Nothing is left to end if nothing was left running.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
