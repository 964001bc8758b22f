//! Witnesses outside of a cluster: processes of `ledger-client witness`, made and run as people do it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Cluster;
use super::cli::client;
use super::process::Process;

/// A witness: its folder, and where it listens.
#[derive(Debug, Clone)]
pub struct WitnessFiles {
    /// Its name in the trust policy.
    pub name: String,
    /// Its folder, with key and memory.
    pub folder: PathBuf,
    /// Where the leader reaches it.
    pub address: SocketAddr,
    /// Its public key.
    pub vkey: String,
}

impl WitnessFiles {
    /// Makes a witness in a folder that does not exist yet.
    ///
    /// # Panics
    /// If the program refuses.
    #[must_use]
    pub fn make(number: u64, folder: PathBuf, address: SocketAddr) -> Self {
        let name = format!("w{number}");
        let made = Command::new(client())
            .args(["witness", "new", "--name", &format!("witness.test/{name}")])
            .arg(&folder)
            .output()
            .expect("ledger-client runs");
        assert!(made.status.success(), "{made:?}");
        let vkey = String::from_utf8(made.stdout).expect("text");
        Self {
            name,
            folder,
            address,
            vkey: vkey.trim_end().to_owned(),
        }
    }

    /// The URL that a trust policy names.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What the process says.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.with_extension("log")
    }

    /// Starts it for the log of a trust policy, whose changes it hears of from these nodes.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(&self, trust: &Path, endpoints: &str) -> Process {
        let mut command = Command::new(client());
        command
            .args(["witness", "serve"])
            .arg(&self.folder)
            .arg("--trust")
            .arg(trust)
            .args(["--endpoints", endpoints])
            .args(["--listen", &self.address.to_string()]);
        Process::run_logged(command, &self.log())
    }
}

impl Cluster {
    /// A witness's files.
    ///
    /// # Panics
    /// If there is no such witness.
    #[must_use]
    pub fn witness(&self, number: u64) -> &WitnessFiles {
        self.witnesses
            .get(&number)
            .expect("a witness of this cluster")
    }

    /// Starts a witness that does not run.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start_witness(&mut self, number: u64) {
        let trust = self.folder.path().join("trust-of-witnesses");
        std::fs::write(&trust, self.policy.to_string()).expect("a file");
        let endpoints: Vec<String> = self
            .files
            .values()
            .map(|node| format!("http://{}", node.client))
            .collect();
        let process = self.witness(number).start(&trust, &endpoints.join(","));
        self.witnessing.insert(number, process);
    }

    /// Ends a witness without notice.
    pub fn kill_witness(&mut self, number: u64) {
        if let Some(mut process) = self.witnessing.remove(&number) {
            process.kill();
        }
    }
}
