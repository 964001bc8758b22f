//! How the command line reaches a ledger: endpoints, trust policy, keys, and what it remembers between calls.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::context::{self, Context};
use super::show::printable;
use super::{Exit, Failure};
use crate::answer::Level;
use crate::client::{Client, Settled};
use crate::key_file::KeyFile;
use crate::settings::Settings;
use crate::signing::Author;
use crate::transport::Answer;
use crate::trust::Trust;

/// What every command that talks to a ledger takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct Connection {
    /// A context that `ledger-client context set` has kept. Default: the one in use, if there is one.
    #[arg(long, env = "COUNTERSIGN_CONTEXT", value_name = "NAME")]
    context: Option<String>,
    /// The nodes, separated by commas, such as `http://127.0.0.1:7401`.
    #[arg(
        long,
        env = "COUNTERSIGN_ENDPOINTS",
        value_delimiter = ',',
        value_name = "URL"
    )]
    endpoints: Vec<String>,
    /// The trust policy: a C2SP tlog-policy file, obtained from somebody you trust.
    #[arg(long, env = "COUNTERSIGN_TRUST", value_name = "FILE")]
    trust: Option<PathBuf>,
    /// The key file of an agent or gateway.
    #[arg(long, env = "COUNTERSIGN_KEY", value_name = "FILE")]
    key: Option<PathBuf>,
    /// The key file of an operator.
    #[arg(long, env = "COUNTERSIGN_OPERATOR", value_name = "FILE")]
    operator: Option<PathBuf>,
    /// The key file of somebody who signs beside; can be repeated.
    #[arg(long = "cosigner", value_name = "FILE")]
    cosigners: Vec<PathBuf>,
    /// Where this client remembers what it has seen. Default: `countersign` in the user's state directory.
    #[arg(long, env = "COUNTERSIGN_STATE", value_name = "DIR")]
    state: Option<PathBuf>,
    /// How long a call may take, in seconds.
    #[arg(long, default_value_t = 10, value_name = "S")]
    timeout: u64,
    /// What receipts should be worth. Nothing less is a yes, or done.
    #[arg(long, value_enum, default_value_t = ReceiptLevel::Cosigned)]
    level: ReceiptLevel,
}

/// What a receipt should be worth when it comes.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ReceiptLevel {
    /// Vouched for by the node that answers; provisional.
    Committed,
    /// Vouched for by a quorum; proof.
    Cosigned,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaker {
    /// The agent or gateway of `--key`.
    Key,
    /// The operator of `--operator`.
    Operator,
    /// Whoever there is: the operator first.
    Any,
    /// Nobody: open reads only.
    Nobody,
}

impl Connection {
    /// A client whose cluster was compared with what this machine has seen before.
    pub(super) async fn open(&self, speaker: Speaker) -> Result<Client, Failure> {
        let client = self.client(speaker)?;
        client.check().await?;
        Ok(client)
    }

    /// The same for a caller that fulfils these critical conditions.
    pub(super) async fn open_knowing(
        &self,
        speaker: Speaker,
        known: &[String],
    ) -> Result<Client, Failure> {
        let this = self.completed()?;
        let client = this.build(speaker, &this.endpoints, known)?;
        client.check().await?;
        Ok(client)
    }

    /// One client for each endpoint.
    pub(super) fn each(&self, speaker: Speaker) -> Result<Vec<(String, Client)>, Failure> {
        let this = self.completed()?;
        let urls = this.endpoints.iter();
        urls.map(|url| {
            let client = this.build(speaker, std::slice::from_ref(url), &[])?;
            Ok((url.clone(), client))
        })
        .collect()
    }

    /// A client; nothing is dialled yet.
    pub(super) fn client(&self, speaker: Speaker) -> Result<Client, Failure> {
        let this = self.completed()?;
        this.build(speaker, &this.endpoints, &[])
    }

    /// What was given, as a context holds it.
    pub(super) fn as_context(&self) -> Context {
        Context {
            endpoints: self.endpoints.clone(),
            trust: self.trust.clone(),
            key: self.key.clone(),
            operator: self.operator.clone(),
            state: self.state.clone(),
        }
    }

    /// The same with what its context says where nothing was given.
    fn completed(&self) -> Result<Self, Failure> {
        let mut this = self.clone();
        let Some(context) = context::find(self.context.as_deref())? else {
            return Ok(this);
        };
        if this.endpoints.is_empty() {
            this.endpoints = context.endpoints;
        }
        this.trust = this.trust.or(context.trust);
        this.key = this.key.or(context.key);
        this.operator = this.operator.or(context.operator);
        this.state = this.state.or(context.state);
        Ok(this)
    }

    fn build(
        &self,
        speaker: Speaker,
        endpoints: &[String],
        known: &[String],
    ) -> Result<Client, Failure> {
        let trust = self.trust.as_deref().ok_or_else(|| {
            configuration("no trust policy is given; set COUNTERSIGN_TRUST or --trust to the ledger's trust policy file")
        })?;
        let trust = Trust::open(trust, None)?;
        let memory = self.state_dir(trust.origin())?.join("checkpoint");
        let trust = Trust::new(trust.policy(), Some(memory))?;
        let mut settings = Settings::new(endpoints.to_vec());
        settings.known_conditions = known.iter().cloned().collect();
        settings.timeout = Duration::from_secs(self.timeout.max(1));
        settings.level = match self.level {
            ReceiptLevel::Committed => Level::Committed,
            ReceiptLevel::Cosigned => Level::Cosigned,
        };
        let author = self.author(speaker)?;
        let cosigners = self.cosigners.iter().map(|path| author_of(path));
        let cosigners = cosigners.collect::<Result<Vec<_>, _>>()?;
        Ok(Client::new(settings, trust, author)?.with_cosigners(cosigners))
    }

    fn author(&self, speaker: Speaker) -> Result<Option<Author>, Failure> {
        let (path, missing) = match speaker {
            Speaker::Nobody => return Ok(None),
            Speaker::Key => (
                self.key.as_deref(),
                "no key is given; set COUNTERSIGN_KEY or --key to the key file of an agent or gateway",
            ),
            Speaker::Operator => (
                self.operator.as_deref(),
                "no operator is given; set COUNTERSIGN_OPERATOR or --operator to an operator's key file",
            ),
            Speaker::Any => (
                self.operator.as_deref().or(self.key.as_deref()),
                "no key is given; set COUNTERSIGN_OPERATOR or COUNTERSIGN_KEY to a key file",
            ),
        };
        let path = path.ok_or_else(|| configuration(missing))?;
        author_of(path).map(Some)
    }

    /// Where this machine remembers what it has seen of a ledger. Made if it is not there.
    pub(super) fn state_dir(&self, origin: &str) -> Result<PathBuf, Failure> {
        let base = match self.completed()?.state {
            Some(dir) => dir,
            None => default_state()?,
        };
        // An origin is a path such as `ledger.example.com/prod`; one folder each, whatever it holds.
        let name: String = origin
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || c == '.' || c == '-' {
                    c
                } else {
                    '_'
                }
            })
            .collect();
        let dir = base.join(name);
        std::fs::create_dir_all(&dir).map_err(|error| {
            configuration(&format!(
                "{} cannot be made: {error}; set COUNTERSIGN_STATE to a folder that can be written",
                dir.display()
            ))
        })?;
        Ok(dir)
    }
}

fn author_of(path: &Path) -> Result<Author, Failure> {
    Ok(Author::of_file(KeyFile::open(path)?, path)?)
}

fn default_state() -> Result<PathBuf, Failure> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(dir) = set("XDG_STATE_HOME") {
        return Ok(PathBuf::from(dir).join("countersign"));
    }
    let home = set("HOME").ok_or_else(|| {
        configuration("there is no home directory; set COUNTERSIGN_STATE to a folder")
    })?;
    Ok(PathBuf::from(home).join(".local/state/countersign"))
}

pub(super) fn configuration(message: &str) -> Failure {
    Failure::new(Exit::Configuration, message)
}

/// The answer. If it is of one node's knowledge only, the reader is told.
pub(super) fn told<A>(settled: Settled<A>) -> Answer<A> {
    let answer = settled.answer;
    if let Some(why) = settled.alone_because {
        let _ = writeln!(
            std::io::stderr(),
            "ledger-client: this is what {} alone has, and it may be behind: {}",
            answer.by,
            printable(&why.to_string())
        );
    }
    answer
}

/// Runs the asynchronous part of a command until it ends or is interrupted.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    block_on_or(work, || {
        "interrupted; no file was written, and a request that was sent before may have been recorded".to_owned()
    })
}

/// The same for a command that has more to say about an interrupt.
pub(super) fn block_on_or<T>(
    work: impl Future<Output = Result<T, Failure>>,
    interrupted: impl FnOnce() -> String,
) -> Result<T, Failure> {
    let work = async {
        tokio::select! {
            biased;
            done = work => done,
            _ = tokio::signal::ctrl_c() => Err(Failure::new(Exit::Interrupted, interrupted())),
        }
    };
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Internal, format!("no threads can be made: {error}")))?
        .block_on(work)
}
