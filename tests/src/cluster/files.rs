//! What a node needs on disk before it starts: keys, cards, genesis, configuration. Made by the program's own commands, as
//! operators make them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ledger_core::card::NodeFile;
use ledger_core::id::Identity;
use ledger_core::keys::possession_message;
use ledger_core::signer::Signer as _;
use ledger_proto::v1;

use super::process::must_run;
use super::witness::WitnessFiles;
use crate::kit::key;

/// The admin of test ledgers.
pub const ADMIN: &str = "root";

/// Where a node's files are, and where it listens.
#[derive(Debug, Clone)]
pub struct NodeFiles {
    /// Its id.
    pub id: u64,
    /// Its folder.
    pub folder: PathBuf,
    /// Where clients reach it.
    pub client: SocketAddr,
    /// Where its proxies reach it.
    pub peer: SocketAddr,
}

impl NodeFiles {
    /// The configuration.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder.join("node.toml")
    }

    /// The data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// What the process says.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.join("log.txt")
    }

    /// The node's card.
    #[must_use]
    pub fn card(&self) -> PathBuf {
        self.folder.join("card.toml")
    }

    /// The node's private key.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.folder.join("node.key")
    }

    /// Makes key and card.
    ///
    /// # Panics
    /// If the program refuses.
    pub fn make_key(&self, origin: &str) {
        std::fs::create_dir_all(&self.folder).expect("a folder");
        let _ = must_run(&[
            "key",
            "new",
            "--out",
            text(&self.key()),
            "--node-id",
            &self.id.to_string(),
            "--origin",
            origin,
            "--peer",
            &self.peer.to_string(),
            "--client",
            &self.client.to_string(),
            "--card",
            text(&self.card()),
        ]);
    }

    /// Writes the configuration: everybody else is reached through a proxy.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write_config(&self, settings: &str, peers: &BTreeMap<u64, SocketAddr>) {
        let mut config = format!(
            "node_id = {}\ndata_dir = \"data\"\nnode_key = \"node.key\"\nlog_key = \"../log.key\"\n\
             client_listen = \"{}\"\npeer_listen = \"{}\"\n\n{settings}\n\n[peer_addresses]\n",
            self.id, self.client, self.peer
        );
        for (id, address) in peers {
            let _ = writeln!(config, "{id} = \"{address}\"");
        }
        std::fs::write(self.config(), config).expect("a file");
    }

    /// Changes one line of the configuration.
    ///
    /// # Panics
    /// If there is no such line.
    pub fn change_config(&self, line: &str, into: &str) {
        let config = std::fs::read_to_string(self.config()).expect("a configuration");
        assert!(
            config.lines().any(|found| found == line),
            "no {line:?} in {config}"
        );
        std::fs::write(self.config(), config.replace(line, into)).expect("a file");
    }

    /// Makes the data directory.
    ///
    /// # Panics
    /// If the program refuses.
    pub fn init(&self, genesis: &Path, first: bool) {
        let config = self.config();
        let mut arguments = vec![
            "init",
            "--config",
            text(&config),
            "--genesis",
            text(genesis),
        ];
        if first {
            arguments.push("--first");
        }
        let _ = must_run(&arguments);
    }

    /// The card as the ledger has it.
    ///
    /// # Panics
    /// If the program wrote something else.
    #[must_use]
    pub fn card_message(&self) -> v1::NodeCard {
        self.node_file().to_message().expect("a valid card")
    }

    /// The card as its file has it.
    ///
    /// # Panics
    /// If the program wrote no card.
    #[must_use]
    pub fn node_file(&self) -> NodeFile {
        let card = std::fs::read_to_string(self.card()).expect("a card");
        toml::from_str(&card).expect("a card")
    }
}

/// Makes the genesis and the log key, with the admin whose key the kit knows; gives the trust policy.
///
/// # Panics
/// If the program refuses.
#[must_use]
pub(super) fn make_genesis(
    folder: &Path,
    origin: &str,
    nodes: &[&NodeFiles],
    witnesses: &[&WitnessFiles],
    quorum: Option<u64>,
) -> String {
    let admin = folder.join("admin.toml");
    std::fs::write(&admin, admin_card(origin)).expect("a file");
    let genesis = genesis_file(folder);
    let log_key = folder.join("log.key");
    let cards: Vec<PathBuf> = nodes.iter().map(|node| node.card()).collect();
    let mut arguments = vec!["genesis", "--origin", origin, "--admin", text(&admin)];
    arguments.extend(["--out", text(&genesis), "--log-key", text(&log_key)]);
    if origin.ends_with("/blake3") {
        arguments.extend(["--tree-hash", "blake3"]);
    }
    for card in &cards {
        arguments.extend(["--card", text(card)]);
    }
    let urls: Vec<String> = witnesses.iter().map(|witness| witness.url()).collect();
    for (witness, url) in witnesses.iter().zip(&urls) {
        arguments.extend(["--witness", &witness.name, &witness.vkey, url]);
    }
    let quorum = quorum.map(|quorum| quorum.to_string());
    if let Some(quorum) = &quorum {
        arguments.extend(["--quorum", quorum]);
    }
    let _ = must_run(&arguments);
    let made = std::fs::read_to_string(&genesis).expect("a genesis");
    let made: toml::Table = made.parse().expect("a genesis is TOML");
    let policy = made.get("trust_policy").and_then(toml::Value::as_str);
    policy.expect("a genesis has a trust policy").to_owned()
}

/// Where the genesis is.
#[must_use]
pub(super) fn genesis_file(folder: &Path) -> PathBuf {
    folder.join("genesis.toml")
}

fn admin_card(origin: &str) -> String {
    let identity = Identity::Operator(ADMIN.to_owned());
    let key = key(&identity.to_string());
    let proof = key.sign(&possession_message(origin, &identity));
    format!(
        "id = \"{ADMIN}\"\n\n[[keys]]\npublic_key = \"{}\"\nproof_of_possession = \"{}\"\n",
        hex::encode(key.public_key()),
        hex::encode(proof)
    )
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}
