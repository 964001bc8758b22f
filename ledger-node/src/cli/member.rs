//! `ledger-node member`: an admin changes the set of nodes.
//!
//! The change is a command in the ledger like any other, made and signed here, so that no node has to be trusted with it. The
//! nodes as they are now come from the cluster; the name of the ledger and its key come from the admin's own trust policy.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use ledger_core::id::{Identity, KeyId};
use ledger_core::keys::PublicKey;
use ledger_core::note::tlog_policy::TlogPolicy;
use ledger_core::signature::{SignatureDomain, sign_one};
use ledger_core::signer::Signer;
use ledger_proto::v1::{self, cluster_service_client::ClusterServiceClient, entry::Body};
use prost::Message as _;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use super::{Exit, Failure, about, read_text, unwritable};
use crate::clock::{Clock as _, Entropy as _, SystemClock, SystemEntropy};
use crate::front::read_auth;
use crate::genesis_file::{NodeFile, majority_policy, read_card};
use crate::keyfile::KeyFile;

/// Between two tries of the same command.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Add a node by its card. Its id and key must be new to the ledger.
    Add {
        /// The card, as `ledger-node key new` wrote it.
        #[arg(long, value_name = "FILE")]
        card: PathBuf,
        #[command(flatten)]
        by: By,
    },
    /// Remove a node. Its id and key are never used again.
    Remove {
        /// The node's id.
        #[arg(long, value_name = "N")]
        node_id: u64,
        #[command(flatten)]
        by: By,
    },
}

/// Who asks whom.
#[derive(Debug, Args)]
pub(super) struct By {
    /// A node that serves, such as `http://127.0.0.1:7401`.
    #[arg(long, value_name = "URL")]
    endpoint: String,
    /// The admin's key file.
    #[arg(long, env = "COUNTERSIGN_OPERATOR", value_name = "FILE")]
    operator: PathBuf,
    /// The admin's id in the ledger.
    #[arg(long, value_name = "ID")]
    operator_id: String,
    /// Another admin and its key file, where the genesis asks for more than one; can be repeated.
    #[arg(long = "cosigner", value_name = "ID=FILE")]
    cosigners: Vec<String>,
    /// A trust policy of the ledger: it says which ledger this is.
    #[arg(long, env = "COUNTERSIGN_TRUST", value_name = "FILE")]
    trust_policy: PathBuf,
    /// How long to try, in milliseconds.
    #[arg(long, default_value_t = 30_000)]
    timeout_ms: u64,
}

pub(super) fn run(command: &Command, out: &mut dyn Write) -> Result<Exit, Failure> {
    let by = match command {
        Command::Add { by, .. } | Command::Remove { by, .. } => by,
    };
    let session = Session::new(by)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Fatal, error.to_string()))?;
    let entry = runtime.block_on(change(command, &session))?;
    report(command, &entry, out)
}

/// What is known before anybody is asked.
struct Session {
    endpoint: String,
    timeout: Duration,
    operator: KeyFile,
    cosigners: BTreeMap<String, KeyFile>,
    author: Identity,
    origin: String,
    log: PublicKey,
}

impl Session {
    fn new(by: &By) -> Result<Self, Failure> {
        let policy = TlogPolicy::parse(read_text(&by.trust_policy)?.as_bytes())
            .map_err(|error| about(&by.trust_policy, &error.to_string()))?;
        let [log] = policy.logs() else {
            let what = "must name one log: that of the ledger";
            return Err(about(&by.trust_policy, what));
        };
        let mut cosigners = BTreeMap::new();
        for cosigner in &by.cosigners {
            let Some((id, path)) = cosigner.split_once('=') else {
                return Err(Failure::configuration(format!(
                    "`--cosigner {cosigner}` is not ID=FILE"
                )));
            };
            cosigners.insert(id.to_owned(), KeyFile::open(Path::new(path))?);
        }
        Ok(Self {
            endpoint: by.endpoint.clone(),
            timeout: Duration::from_millis(by.timeout_ms),
            operator: KeyFile::open(&by.operator)?,
            cosigners,
            author: Identity::Operator(by.operator_id.clone()),
            origin: log.key.name().to_owned(),
            log: *log.key.public_key(),
        })
    }

    fn refused(&self, what: impl std::fmt::Display) -> Failure {
        Failure::configuration(format!("{}: {what}", self.endpoint))
    }

    fn unavailable(&self, what: impl std::fmt::Display) -> Failure {
        Failure::new(Exit::Unavailable, format!("{}: {what}", self.endpoint))
    }

    async fn connect(&self) -> Result<ClusterServiceClient<Channel>, Failure> {
        let channel = Endpoint::from_shared(self.endpoint.clone())
            .map_err(|error| self.refused(format!("not a URL: {error}")))?
            .connect_timeout(self.timeout)
            .timeout(self.timeout)
            .connect()
            .await
            .map_err(|_| self.unavailable("nobody answers"))?;
        Ok(ClusterServiceClient::new(channel))
    }

    /// The cards of the nodes as they are now, and those that the ledger has known in the same answer.
    async fn members(
        &self,
        client: &mut ClusterServiceClient<Channel>,
    ) -> Result<Vec<NodeFile>, Failure> {
        let id = SystemEntropy.id().map_err(no_randomness)?;
        let request = read_auth::sign(
            v1::GetClusterRequest { consistency: None },
            &self.origin,
            &self.operator,
            SystemClock.now_us(),
            id,
        );
        let answer = client.get_cluster(request).await;
        let answer = answer.map_err(|status| {
            if matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded) {
                self.unavailable(status.message())
            } else {
                self.refused(status.message())
            }
        })?;
        let cards = answer.into_inner().members.into_iter();
        cards
            .filter_map(|member| member.record?.card)
            .map(|card| NodeFile::of_message(&card).map_err(|what| self.refused(what)))
            .collect()
    }

    fn submission(&self, nodes: &[NodeFile]) -> Result<v1::Submission, Failure> {
        let trust_policy =
            majority_policy(&self.origin, &self.log, nodes).map_err(Failure::configuration)?;
        let cards = nodes.iter().map(NodeFile::to_message);
        let command = v1::Command {
            request_id: SystemEntropy.id().map_err(no_randomness)?.to_vec(),
            issued_at_us: SystemClock.now_us(),
            author: Some(self.author.to_message()),
            commitments: Vec::new(),
            cosigners: self
                .cosigners
                .keys()
                .map(|id| Identity::Operator(id.clone()).to_message())
                .collect(),
            body: Some(v1::command::Body::UpdateMembership(v1::UpdateMembership {
                nodes: cards
                    .collect::<Result<_, _>>()
                    .map_err(Failure::configuration)?,
                trust_policy,
            })),
        };
        let keys: Vec<(KeyId, &dyn Signer)> = std::iter::once(&self.operator)
            .chain(self.cosigners.values())
            .map(|key| (key.public().key_id(), key as &dyn Signer))
            .collect();
        let domain = SignatureDomain::of(&self.author);
        let signed = sign_one(domain, &self.origin, command.encode_to_vec(), &keys)
            .map_err(|error| Failure::configuration(error.to_string()))?;
        Ok(v1::Submission {
            signed: Some(signed),
            compartments: Vec::new(),
        })
    }

    /// Sends the same bytes until there is an answer: that is safe, because a request id names at most one entry.
    async fn submit(
        &self,
        client: &mut ClusterServiceClient<Channel>,
        submission: v1::Submission,
    ) -> Result<v1::Entry, Failure> {
        let deadline = Instant::now() + self.timeout;
        let message = v1::SubmitRequest {
            submission: Some(submission),
            receipt_level: v1::ReceiptLevel::Committed.into(),
        };
        let answer = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut request = tonic::Request::new(message.clone());
            request.set_timeout(left);
            match client.update_membership(request).await {
                Ok(answer) => break answer.into_inner(),
                Err(status) if !may_pass(status.code()) => {
                    return Err(self.refused(status.message()));
                }
                Err(status) if Instant::now() + PAUSE >= deadline => {
                    let what = status.message();
                    return Err(self.unavailable(format!(
                        "{what}; whether the change was made is not known, look at the nodes before you try again"
                    )));
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        };
        answer
            .receipt
            .and_then(|receipt| receipt.entry)
            .and_then(|proven| ledger_core::entry::decode(&proven.entry).ok())
            .ok_or_else(|| self.refused("answers with something that is no entry"))
    }
}

const fn may_pass(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Cancelled
            | Code::Internal
            | Code::Unknown
    )
}

fn no_randomness(error: std::io::Error) -> Failure {
    Failure::new(Exit::Fatal, format!("no randomness: {error}"))
}

async fn change(command: &Command, session: &Session) -> Result<v1::Entry, Failure> {
    let mut client = session.connect().await?;
    let mut nodes = session.members(&mut client).await?;
    match command {
        Command::Add { card: path, .. } => {
            let card = read_card(&read_text(path)?).map_err(|what| about(path, &what))?;
            with(&mut nodes, card).map_err(|what| about(path, &what))?;
        }
        Command::Remove { node_id, .. } => {
            without(&mut nodes, *node_id).map_err(|what| session.refused(what))?;
        }
    }
    let submission = session.submission(&nodes)?;
    session.submit(&mut client, submission).await
}

/// Adds a node, in the order of ids.
fn with(nodes: &mut Vec<NodeFile>, card: NodeFile) -> Result<(), String> {
    match nodes.binary_search_by_key(&card.node_id, |node| node.node_id) {
        Ok(_) => Err(format!(
            "node {} is a member already; a new node needs an id that was never used",
            card.node_id
        )),
        Err(place) => {
            nodes.insert(place, card);
            Ok(())
        }
    }
}

/// Takes a node out.
fn without(nodes: &mut Vec<NodeFile>, node_id: u64) -> Result<(), String> {
    let before = nodes.len();
    nodes.retain(|node| node.node_id != node_id);
    if nodes.len() == before {
        return Err(format!("node {node_id} is not a member"));
    }
    if nodes.is_empty() {
        return Err(format!(
            "node {node_id} is the last one; a ledger without nodes cannot go on"
        ));
    }
    Ok(())
}

fn report(command: &Command, entry: &v1::Entry, out: &mut dyn Write) -> Result<Exit, Failure> {
    let Some(Body::Governance(governance)) = &entry.body else {
        return Err(Failure::new(Exit::Fatal, "the entry is of another kind"));
    };
    let name = governance.result().as_str_name();
    let result = name.strip_prefix("RESULT_").unwrap_or(name);
    writeln!(out, "index = {}\nresult = \"{result}\"", entry.index).map_err(unwritable)?;
    if governance.result() != v1::Result::Applied {
        return Err(Failure::configuration(format!(
            "entry {} says {result}: the nodes are as they were",
            entry.index
        )));
    }
    let next = match command {
        Command::Add { .. } => {
            "next, on the new node: `ledger-node init --config FILE --genesis FILE` without --first, then `ledger-node start`; \
             it votes once it has caught up"
        }
        Command::Remove { .. } => {
            "next: stop the node once the others go on without it; its key and data are of no further use, and its id is \
             never used again"
        }
    };
    // What to do next is for people, not for scripts.
    let _ = writeln!(std::io::stderr(), "{next}");
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::genesis_file::tests::genesis;

    fn nodes() -> Vec<NodeFile> {
        let cards = genesis().nodes;
        cards
            .iter()
            .map(|card| NodeFile::of_message(card).unwrap())
            .collect()
    }

    #[test]
    fn nodes_stay_in_the_order_of_their_ids() {
        let mut cards = nodes();
        let second = cards.remove(1);
        with(&mut cards, second.clone()).unwrap();
        assert_eq!(cards, nodes());
        let twice = with(&mut cards, second).unwrap_err();
        assert!(twice.contains("node 2"), "{twice}");
    }

    #[test]
    fn the_last_node_and_strangers_are_not_removed() {
        let mut cards = nodes();
        without(&mut cards, 4).unwrap_err();
        without(&mut cards, 1).unwrap();
        without(&mut cards, 3).unwrap();
        assert!(without(&mut cards, 2).unwrap_err().contains("last"));
    }
}
