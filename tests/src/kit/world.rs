//! The ledger, its people, and how they ask.

use ed25519_dalek::SigningKey;
use ledger_core::hash::{Hash, LeafIndex, TreeHash, TreeSize};
use ledger_core::id::{Identity, SessionId};
use ledger_core::machine::{self, Appended, Applied, Machine, SignatureChecks};
use ledger_core::note::checkpoint::Checkpoint;
use ledger_core::note::cosignature::{CosignatureTime, cosign};
use ledger_core::signature::{SignatureDomain, sign_one};
use ledger_core::signer::Signer;
use ledger_core::state::{MemoryState, Txn, state_digest};
use ledger_proto::v1::{self, command::Body};
use policy_engine::Bundle;
use prost::Message;

use super::*;

/// A ledger in memory, and the keys of everybody in it.
#[derive(Debug)]
pub struct World {
    /// Everything the machine remembers.
    pub state: MemoryState,
    /// The machine.
    pub machine: Machine,
    /// The clock that batches are stamped with.
    pub now_us: u64,
    /// The ledger's name.
    pub origin: String,
    /// Every submission that was applied, with its time: the log, for replicas.
    pub log: Vec<(u64, v1::Submission)>,
    next_id: u64,
}

impl World {
    /// A SHA-256 ledger with one admin "root", a namespace "team" owned by operator "olive", and nodes 1, 2, 3.
    #[must_use]
    pub fn new() -> Self {
        Self::with_tree(TreeHash::Sha256)
    }

    /// The same with either tree hash.
    #[must_use]
    pub fn with_tree(tree_hash: TreeHash) -> Self {
        let mut world = Self::at_genesis(tree_hash);
        world.operator("olive", &[]);
        world.govern(Body::CreateNamespace(v1::CreateNamespace {
            name: "team".to_owned(),
            owners: vec!["olive".to_owned()],
            single_use: false,
        }));
        world
    }

    /// A ledger with its genesis and nothing else.
    #[must_use]
    pub fn at_genesis(tree_hash: TreeHash) -> Self {
        Self::from_genesis(genesis_message(tree_hash))
    }

    /// A ledger that begins with this genesis.
    ///
    /// # Panics
    /// If the genesis is not valid.
    #[must_use]
    pub fn from_genesis(genesis: v1::Genesis) -> Self {
        let mut state = MemoryState::new();
        let mut txn = Txn::new(&state);
        machine::genesis(&mut txn, &genesis).expect("the genesis is valid");
        let writes = txn.into_writes();
        state.commit(writes);
        Self {
            state,
            machine: Machine::new(),
            now_us: GENESIS_US + SECOND,
            origin: genesis.origin,
            log: Vec::new(),
            next_id: 1,
        }
    }

    /// The 16-byte id of the next command.
    pub fn next_request_id(&mut self) -> Vec<u8> {
        let mut id = [0; 16];
        id[8..].copy_from_slice(&self.next_id.to_be_bytes());
        self.next_id += 1;
        id.to_vec()
    }

    /// Builds and signs a submission, issued now.
    pub fn sign(&mut self, ask: Ask) -> v1::Submission {
        let request_id = self.next_request_id();
        let issued_at_us = self.now_us;
        self.sign_as(ask, request_id, issued_at_us)
    }

    /// Builds and signs a submission with a given id and time.
    pub fn sign_as(&self, ask: Ask, request_id: Vec<u8>, issued_at_us: u64) -> v1::Submission {
        sign(&self.origin, ask, request_id, issued_at_us)
    }

    /// Applies a submission at the world's time and commits what it writes.
    pub fn apply(&mut self, submission: &v1::Submission) -> Applied {
        self.log.push((self.now_us, submission.clone()));
        apply(&self.machine, &mut self.state, self.now_us, submission)
    }

    /// What a command would be answered, now; nothing is kept.
    pub fn peek(&mut self, ask: Ask) -> Applied {
        let submission = self.sign(ask);
        let mut txn = Txn::new(&self.state);
        self.machine
            .apply(
                &mut txn,
                self.now_us,
                &submission,
                &SignatureChecks::default(),
            )
            .expect("sound state")
    }

    /// Signs and applies; time goes on by a millisecond.
    pub fn ask(&mut self, ask: Ask) -> Applied {
        let submission = self.sign(ask);
        let applied = self.apply(&submission);
        self.now_us += 1_000;
        applied
    }

    /// Signs and applies what must make an entry.
    pub fn must(&mut self, ask: Ask) -> Appended {
        match self.ask(ask) {
            Applied::Appended(appended) => *appended,
            other => panic!("no entry: {other:?}"),
        }
    }

    /// A governance command by the admin "root", which must take effect.
    pub fn govern(&mut self, body: Body) -> Appended {
        let appended = self.must(Ask::new(Identity::Operator("root".to_owned()), body));
        assert_eq!(
            result_of(&appended.entry),
            v1::Result::Applied,
            "{:?}",
            appended.entry.body
        );
        appended
    }

    /// The result of a command, by anybody.
    pub fn result(&mut self, ask: Ask) -> v1::Result {
        result_of(&self.must(ask).entry)
    }

    /// What adjusts the time of the ledger as it ends now.
    #[must_use]
    pub fn adjust_time(&self) -> Body {
        let tip = machine::tip(&self.state).expect("sound state");
        Body::AdjustTime(v1::AdjustTime {
            tree_size: tip.size.0,
            last_entry_time_us: tip.time_us,
        })
    }

    /// Registers an operator.
    pub fn operator(&mut self, id: &str, roles: &[(v1::Role, &str)]) -> Identity {
        let message = operator_message(&self.origin, id, roles);
        self.govern(Body::RegisterOperator(message));
        Identity::Operator(id.to_owned())
    }

    /// Registers an agent of olive's in the namespace "team".
    pub fn agent(&mut self, id: &str) -> Identity {
        self.agent_in("team", id, &[])
    }

    /// Registers an agent of olive's with groups.
    pub fn agent_in(&mut self, namespace: &str, id: &str, groups: &[&str]) -> Identity {
        let identity = Identity::Agent(id.to_owned());
        let message = v1::RegisterAgent {
            id: id.to_owned(),
            namespace: namespace.to_owned(),
            owner: "olive".to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            attributes: Vec::new(),
            minimum_assurance: v1::Assurance::Unspecified.into(),
            keys: vec![self.enrol(&identity)],
            session_issuers: v1::SessionIssuers::Unspecified.into(),
        };
        self.govern(Body::RegisterAgent(message));
        identity
    }

    /// Registers a gateway of olive's in the namespace "team" that acts for one agent.
    pub fn gateway(&mut self, id: &str, agent: &str, may: &[v1::GatewayPermission]) -> Identity {
        let identity = Identity::Gateway(id.to_owned());
        let message = v1::RegisterGateway {
            id: id.to_owned(),
            namespace: "team".to_owned(),
            owner: "olive".to_owned(),
            acts_for: vec![v1::ActsFor {
                target: Some(v1::acts_for::Target::Agent(agent.to_owned())),
            }],
            may: may.iter().map(|may| i32::from(*may)).collect(),
            keys: vec![self.enrol(&identity)],
        };
        self.govern(Body::RegisterGateway(message));
        identity
    }

    /// The 90-day key of an agent or gateway, with its proof of possession.
    #[must_use]
    pub fn enrol(&self, identity: &Identity) -> v1::KeyEnrolment {
        enrolment(
            &self.origin,
            identity,
            &key(&identity.to_string()),
            self.now_us + 90 * DAY,
        )
    }

    /// Opens a session with scope "*" by the agent's owner.
    pub fn session(&mut self, agent: &str) -> SessionId {
        self.session_with(agent, &v1::SessionContext::default())
    }

    /// Opens a session with scope "*" and a context by the agent's owner.
    pub fn session_with(&mut self, agent: &str, context: &v1::SessionContext) -> SessionId {
        let ask = Ask::new(
            Identity::Operator("olive".to_owned()),
            Body::OpenSession(v1::OpenSession {
                agent: agent.to_owned(),
                scope: vec!["*".to_owned()],
                ..v1::OpenSession::default()
            }),
        );
        let appended = self.must(ask.with(v1::CompartmentKind::Context, &context.encode_to_vec()));
        assert_eq!(
            result_of(&appended.entry),
            v1::Result::Applied,
            "{:?}",
            appended.entry.body
        );
        session_of(&appended)
    }

    /// Publishes and activates a bundle in a namespace, accepting a short history.
    pub fn policy(&mut self, namespace: &str, bundle: &Bundle) {
        self.publish(namespace, bundle);
        self.govern_policy(Body::ActivateBundle(v1::ActivateBundle {
            namespace: namespace.to_owned(),
            digest: bundle.digest().0.to_vec(),
            accept_short_history: true,
        }));
    }

    /// Publishes all chunks of a bundle.
    pub fn publish(&mut self, namespace: &str, bundle: &Bundle) {
        let chunks = bundle.chunks();
        let count = u32::try_from(chunks.len()).expect("few chunks");
        for (index, chunk) in (0..count).zip(chunks) {
            self.govern_policy(Body::PublishBundle(v1::PublishBundle {
                namespace: namespace.to_owned(),
                digest: bundle.digest().0.to_vec(),
                chunk_index: index,
                chunk_count: count,
                chunk,
            }));
        }
    }

    fn govern_policy(&mut self, body: Body) {
        self.govern(body);
    }

    /// Authorizes one call by the agent, signed by itself.
    pub fn authorize(
        &mut self,
        agent: &str,
        session: SessionId,
        tool: &str,
        input: &str,
    ) -> Appended {
        let ask = Ask::new(
            Identity::Agent(agent.to_owned()),
            authorize_body(agent, session, tool),
        );
        self.must(ask.with(v1::CompartmentKind::Input, input.as_bytes()))
    }

    /// Records a faithful outcome of an allowed decision, by the agent itself.
    pub fn record(&mut self, agent: &str, decision: &Appended, output: Option<&str>) -> Appended {
        let ask = Ask::new(
            Identity::Agent(agent.to_owned()),
            Body::Record(v1::Record {
                decision_index: decision.index.0,
                status: v1::ExecutionStatus::Succeeded.into(),
                executed_input_digest: input_digest(&decision.entry),
                ..v1::Record::default()
            }),
        );
        let ask = match output {
            Some(output) => ask.with(v1::CompartmentKind::Output, output.as_bytes()),
            None => ask,
        };
        self.must(ask)
    }

    /// The root over everything.
    #[must_use]
    pub fn root(&self) -> Hash {
        machine::tip(&self.state).expect("the state is sound").root
    }

    /// The digest of everything remembered.
    #[must_use]
    pub fn digest(&self) -> Hash {
        state_digest(&self.state).expect("the state is sound")
    }

    /// The entry at a leaf.
    #[must_use]
    pub fn entry(&self, leaf: u64) -> v1::Entry {
        ledger_core::ledger::entry(&self.state, LeafIndex(leaf))
            .expect("sound")
            .expect("present")
    }

    /// A checkpoint of the whole ledger, signed by the log and cosigned by these nodes.
    #[must_use]
    pub fn checkpoint(&self, nodes: &[u64]) -> String {
        let tip = machine::tip(&self.state).expect("the state is sound");
        self.checkpoint_of(tip.size, tip.root, nodes)
    }

    /// A checkpoint of any tree, signed by the log and cosigned by these nodes.
    #[must_use]
    pub fn checkpoint_of(&self, size: TreeSize, root: Hash, nodes: &[u64]) -> String {
        let checkpoint = Checkpoint::new(&self.origin, size, root).expect("a checkpoint");
        let mut note = checkpoint.sign(&key("log")).expect("signs");
        let time = CosignatureTime::from_seconds(self.now_us / SECOND).expect("in range");
        for node in nodes {
            let name = node_name(&self.origin, *node);
            let signature = cosign(
                &checkpoint,
                time,
                &name,
                &key(&Identity::Node(*node).to_string()),
            )
            .expect("cosigns");
            note.add(signature).expect("room for a signature");
        }
        note.to_string()
    }

    /// The trust policy of the genesis.
    #[must_use]
    pub fn trust_policy(&self) -> String {
        trust_policy(&self.origin, &[1, 2, 3])
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

/// A command with a given id of 16 bytes and time, and the contents that it commits to. Salts are made from the id, so that the same
/// arguments give the same bytes.
///
/// # Panics
/// If the id is too short.
#[must_use]
pub fn command(
    ask: Ask,
    request_id: Vec<u8>,
    issued_at_us: u64,
) -> (v1::Command, Vec<v1::Compartment>) {
    let salt = u64::from_be_bytes(request_id[8..16].try_into().expect("16 bytes"));
    let (commitments, compartments) = ask
        .contents
        .iter()
        .map(|(kind, content)| compartment(*kind, salt, content))
        .unzip();
    let command = v1::Command {
        request_id,
        issued_at_us,
        author: Some(ask.author.to_message()),
        commitments,
        cosigners: cosigners_field(&ask.cosigners),
        body: Some(ask.body),
    };
    (command, compartments)
}

/// Builds and signs a submission for the ledger of this origin, as [`command`] makes it.
///
/// # Panics
/// If the id is too short.
#[must_use]
pub fn sign(origin: &str, ask: Ask, request_id: Vec<u8>, issued_at_us: u64) -> v1::Submission {
    let (author, cosigners) = (ask.author.clone(), ask.cosigners.clone());
    let (command, compartments) = command(ask, request_id, issued_at_us);
    let keys: Vec<SigningKey> = std::iter::once(&author)
        .chain(&cosigners)
        .map(|identity| key(&identity.to_string()))
        .collect();
    let signers: Vec<_> = keys
        .iter()
        .map(|key| (public_key(key).key_id(), key as &dyn Signer))
        .collect();
    let domain = SignatureDomain::of(&author);
    let signed =
        sign_one(domain, origin, command.encode_to_vec(), &signers).expect("one command signs");
    v1::Submission {
        signed: Some(signed),
        compartments,
    }
}

/// Applies one submission to a state and commits what it writes.
///
/// # Panics
/// If the state is damaged.
pub fn apply(
    machine: &Machine,
    state: &mut MemoryState,
    time_us: u64,
    submission: &v1::Submission,
) -> Applied {
    let mut txn = Txn::new(state);
    let applied = machine
        .apply(&mut txn, time_us, submission, &SignatureChecks::default())
        .expect("sound state");
    let writes = txn.into_writes();
    state.commit(writes);
    applied
}
