//! Who is in a cluster's ledger, and the commands that put them there.

use std::time::Duration;

use ledger_core::card::NodeFile;
use ledger_core::id::{Identity, SessionId};
use ledger_core::quorum::Quorum;
use ledger_proto::v1::{self, command::Body};
use policy_engine::Bundle;

use super::client::{Failed, now_us, path_of};
use super::wait::until;
use super::{Cluster, RECOVERY, admin};
use crate::kit::{Ask, DAY, enrolment, key, operator_message, result_of, session_of_entry};

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(10);

/// An agent with an open session.
#[derive(Debug, Clone)]
pub struct Actor {
    /// The agent's id.
    pub agent: String,
    /// Its session.
    pub session: SessionId,
}

impl Cluster {
    /// Sends a command to a node once.
    ///
    /// # Errors
    /// [`Failed`]
    pub async fn submit(&self, node: u64, ask: Ask) -> Result<v1::SubmitResponse, Failed> {
        let path = path_of(&ask.body);
        let request = v1::SubmitRequest {
            submission: Some(self.signing.command(ask)),
            receipt_level: v1::ReceiptLevel::Committed.into(),
        };
        let request = tonic::Request::new(request);
        self.line(node).call(path, request, ATTEMPT).await
    }

    /// Sends a command to one node after the other until it is answered, and gives the entry.
    ///
    /// # Panics
    /// If it is refused, or not answered in time.
    pub async fn must(&self, ask: Ask) -> v1::Entry {
        let path = path_of(&ask.body);
        let what = format!("{path} is answered");
        let message = v1::SubmitRequest {
            submission: Some(self.signing.command(ask)),
            receipt_level: v1::ReceiptLevel::Committed.into(),
        };
        let mut nodes = self.nodes().into_iter().cycle();
        let answer: v1::SubmitResponse = until(&what, RECOVERY, async || {
            let node = nodes.next().expect("a node runs");
            let request = tonic::Request::new(message.clone());
            match self.line(node).call(path, request, ATTEMPT).await {
                Ok(answer) => Some(answer),
                Err(failed) if failed.can_repeat() => None,
                Err(failed) => panic!("{path}: {failed:?}"),
            }
        })
        .await;
        entry_of(&answer.receipt.expect("a receipt"))
    }

    /// A command by the admin that must take effect.
    ///
    /// # Panics
    /// If it does not.
    pub async fn govern(&self, body: Body) -> v1::Entry {
        let entry = self.must(Ask::new(admin(), body)).await;
        let result = result_of(&entry);
        assert_eq!(result, v1::Result::Applied, "{:?}", entry.body);
        entry
    }

    /// Registers an owner, a namespace with a bundle, and agents, each with a session.
    ///
    /// # Panics
    /// If anything is refused.
    pub async fn settle(&self, agents: usize, bundle: &Bundle) -> Vec<Actor> {
        let olive = operator_message(&self.origin, "olive", &[]);
        self.govern(Body::RegisterOperator(olive)).await;
        self.govern(Body::CreateNamespace(v1::CreateNamespace {
            name: "team".to_owned(),
            owners: vec!["olive".to_owned()],
            single_use: false,
        }))
        .await;
        self.activate(bundle).await;
        let mut actors = Vec::with_capacity(agents);
        for number in 0..agents {
            actors.push(self.actor(&format!("agent-{number}")).await);
        }
        actors
    }

    /// Publishes a bundle for the namespace and makes it decide.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn activate(&self, bundle: &Bundle) {
        let chunks = bundle.chunks();
        let count = u32::try_from(chunks.len()).expect("few chunks");
        for (index, chunk) in (0..count).zip(chunks) {
            self.govern(Body::PublishBundle(v1::PublishBundle {
                namespace: "team".to_owned(),
                digest: bundle.digest().0.to_vec(),
                chunk_index: index,
                chunk_count: count,
                chunk,
            }))
            .await;
        }
        self.govern(Body::ActivateBundle(v1::ActivateBundle {
            namespace: "team".to_owned(),
            digest: bundle.digest().0.to_vec(),
            accept_short_history: true,
        }))
        .await;
    }

    /// Registers an agent and opens a session for it.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn actor(&self, agent: &str) -> Actor {
        let identity = Identity::Agent(agent.to_owned());
        let signer = key(&identity.to_string());
        self.govern(Body::RegisterAgent(v1::RegisterAgent {
            id: agent.to_owned(),
            namespace: "team".to_owned(),
            owner: "olive".to_owned(),
            groups: Vec::new(),
            attributes: Vec::new(),
            minimum_assurance: v1::Assurance::Unspecified.into(),
            session_issuers: v1::SessionIssuers::Unspecified.into(),
            keys: vec![enrolment(
                &self.origin,
                &identity,
                &signer,
                now_us() + 89 * DAY,
            )],
        }))
        .await;
        let opening = v1::OpenSession {
            agent: agent.to_owned(),
            scope: vec!["*".to_owned()],
            ttl_s: 86_400,
            ..v1::OpenSession::default()
        };
        let olive = Identity::Operator("olive".to_owned());
        let entry = self.must(Ask::new(olive, Body::OpenSession(opening))).await;
        assert_eq!(result_of(&entry), v1::Result::Applied, "{:?}", entry.body);
        Actor {
            agent: agent.to_owned(),
            session: session_of_entry(&entry),
        }
    }

    /// Changes the membership to these nodes. The trust policy asks for as much as that of the genesis.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn change_members(&self, nodes: &[u64]) {
        let cards: Vec<NodeFile> = nodes
            .iter()
            .map(|node| self.file(*node).node_file())
            .collect();
        let log = self.policy.logs().first().expect("a log");
        let policy = Quorum::of_policy(&self.policy)
            .and_then(|quorum| quorum.policy(&self.origin, log.key.public_key(), &cards));
        self.govern(Body::UpdateMembership(v1::UpdateMembership {
            nodes: nodes
                .iter()
                .map(|node| self.file(*node).card_message())
                .collect(),
            trust_policy: policy.expect("a trust policy"),
        }))
        .await;
    }
}

/// The entry in a receipt.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn entry_of(receipt: &v1::Receipt) -> v1::Entry {
    let proven = receipt.entry.as_ref().expect("a receipt has an entry");
    ledger_core::entry::decode(&proven.entry).expect("an entry decodes")
}
