//! The command line, run as people run it: a program with files and variables, of which only output and exit code are seen.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use ed25519_dalek::pkcs8::EncodePrivateKey as _;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ledger_core::id::Identity;
use serde_json::Value;

use super::process::program;
use super::{Cluster, admin};
use crate::kit::key;

/// A shell's worth of settings for one ledger.
#[derive(Debug, Clone)]
pub struct Cli {
    /// Where files of the user are, and what the client remembers.
    pub folder: PathBuf,
    endpoints: String,
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    /// The exit code.
    pub code: i32,
    /// On standard output.
    pub out: String,
    /// On standard error.
    pub err: String,
}

impl Said {
    /// Standard output as JSON.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code().unwrap_or(-1),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }
}

impl Cli {
    /// The settings of the admin of a cluster, in a folder of its own.
    ///
    /// # Panics
    /// If its files cannot be written.
    #[must_use]
    pub fn of_admin(cluster: &Cluster) -> Self {
        let folder = cluster.folder().join("user");
        std::fs::create_dir_all(&folder).expect("a folder");
        let endpoints: Vec<String> = cluster
            .nodes()
            .into_iter()
            .map(|node| cluster.endpoint(node))
            .collect();
        let cli = Self {
            folder,
            endpoints: endpoints.join(","),
        };
        std::fs::write(cli.trust(), cluster.policy.to_string()).expect("a file");
        let _ = cli.key_file("admin.key", &admin());
        cli
    }

    /// The nodes, as `--endpoints` takes them.
    #[must_use]
    pub fn endpoints(&self) -> String {
        self.endpoints.clone()
    }

    /// The trust policy's file.
    #[must_use]
    pub fn trust(&self) -> PathBuf {
        self.folder.join("trust-policy")
    }

    /// Writes the key that the kit gives to an identity.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use = "the file is there to be used"]
    pub fn key_file(&self, name: &str, identity: &Identity) -> PathBuf {
        use std::os::unix::fs::OpenOptionsExt as _;
        let path = self.folder.join(name);
        let pem = key(&identity.to_string())
            .to_pkcs8_pem(LineEnding::LF)
            .expect("a key has a PEM form");
        let text = format!("identity: {}\n{}", identity.to_text(), pem.as_str());
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path);
        std::io::Write::write_all(&mut file.expect("a file"), text.as_bytes()).expect("a file");
        path
    }

    /// A command that can still be changed.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(client());
        command
            .args(arguments)
            .current_dir(&self.folder)
            .env_clear()
            .env("COUNTERSIGN_ENDPOINTS", &self.endpoints)
            .env("COUNTERSIGN_TRUST", self.trust())
            .env("COUNTERSIGN_OPERATOR", self.folder.join("admin.key"))
            .env("COUNTERSIGN_STATE", self.folder.join("state"))
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Said {
        let output = self.command(arguments).output();
        output.expect("ledger-client runs").into()
    }

    /// Runs a command that can write at most so many blocks of 512 bytes to each file: a disk that is full from there on.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn run_on_full_disk(&self, blocks: u32, arguments: &[&str]) -> Said {
        self.run_on_full_disk_with(blocks, arguments, &[])
    }

    /// The same with more variables.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn run_on_full_disk_with(
        &self,
        blocks: u32,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Said {
        let inner = self.command(arguments);
        let mut shell = Command::new("sh");
        // A signal that nobody ignores would end the process, and a disk that is full sends none.
        let limit = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
        shell
            .args(["-c", &limit, "sh"])
            .arg(inner.get_program())
            .args(inner.get_args())
            .current_dir(&self.folder)
            .env_clear()
            .stdin(Stdio::null());
        for (name, value) in inner.get_envs() {
            shell.env(name, value.unwrap_or_default());
        }
        shell.env("PATH", "/usr/bin:/bin");
        shell.envs(variables.iter().copied());
        shell.output().expect("a shell runs").into()
    }

    /// Runs a command that must succeed.
    ///
    /// # Panics
    /// If it does not.
    #[expect(
        clippy::must_use_candidate,
        reason = "that it succeeds may be all that counts"
    )]
    pub fn must(&self, arguments: &[&str]) -> Said {
        let said = self.run(arguments);
        assert_eq!(said.code, 0, "{arguments:?}: {said:?}");
        said
    }
}

/// The program `ledger-client`, beside the node's.
#[must_use]
pub fn client() -> PathBuf {
    let node = program();
    node.with_file_name("ledger-client")
}
