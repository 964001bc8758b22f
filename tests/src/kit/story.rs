//! One command of every kind, in an order in which nearly all of them take effect.
//!
//! Golden bytes and the seeds of fuzzing are made from it: a new kind of command that is not told here fails their tests.

use ledger_core::hash::{LeafIndex, TreeHash};
use ledger_core::id::{Identity, SessionId};
use ledger_core::machine::{Applied, Appended};
use ledger_core::state::MemoryState;
use ledger_proto::v1::{self, CompartmentKind, command::Body};
use policy_engine::Bundle;
use prost::Message;

use super::*;

/// One command of the story and the entry it made.
#[derive(Debug, Clone)]
pub struct Told {
    /// What the command shows; unique within the story.
    pub name: &'static str,
    /// What was sent.
    pub submission: v1::Submission,
    /// What it made.
    pub appended: Appended,
}

/// The whole story.
#[derive(Debug)]
pub struct Story {
    /// The ledger after the last command.
    pub world: World,
    /// Every command, in order.
    pub told: Vec<Told>,
    /// The state before the admins were replaced, with a session open: what most commands can still act on.
    pub before_the_end: MemoryState,
    /// The session that is still open.
    pub open_session: SessionId,
    /// The session that was sealed.
    pub sealed_session: SessionId,
    /// An allowed decision.
    pub allowed: LeafIndex,
}

/// The kind of a command, as its field in the oneof is called. Exhaustive, so that a new kind does not compile unnamed.
#[must_use]
pub const fn kind_of(body: &Body) -> &'static str {
    match body {
        Body::Authorize(_) => "authorize",
        Body::Record(_) => "record",
        Body::OpenSession(_) => "open_session",
        Body::CloseSession(_) => "close_session",
        Body::Seal(_) => "seal",
        Body::RegisterAgent(_) => "register_agent",
        Body::UpdateAgent(_) => "update_agent",
        Body::RegisterGateway(_) => "register_gateway",
        Body::UpdateGateway(_) => "update_gateway",
        Body::SetStatus(_) => "set_status",
        Body::AddKey(_) => "add_key",
        Body::RetireKey(_) => "retire_key",
        Body::RegisterOperator(_) => "register_operator",
        Body::UpdateOperator(_) => "update_operator",
        Body::CreateNamespace(_) => "create_namespace",
        Body::UpdateNamespace(_) => "update_namespace",
        Body::SetHalt(_) => "set_halt",
        Body::ClearHalt(_) => "clear_halt",
        Body::PublishBundle(_) => "publish_bundle",
        Body::ActivateBundle(_) => "activate_bundle",
        Body::Erase(_) => "erase",
        Body::UpdateMembership(_) => "update_membership",
        Body::ActivateEngine(_) => "activate_engine",
        Body::ActivateCluster(_) => "activate_cluster",
        Body::DeclareSupport(_) => "declare_support",
        Body::AttestState(_) => "attest_state",
        Body::ReplaceAdmins(_) => "replace_admins",
    }
}

/// The rules of the story: a capped payment, one that needs approvals, and nothing for mallory.
#[must_use]
pub fn story_bundle() -> Bundle {
    let rules = r#"
@id("read")
permit (principal, action == Countersign::Action::"bank/read", resource);

@id("pay-cap")
@permit_ttl("120")
@obligation("notify:finance")
permit (principal, action == Countersign::Action::"bank/pay", resource)
when { context.input.amount < 1000 }
when temporal { count_within(1h, Countersign::Action::"bank/pay"::allowed{}) < 3 };

@id("pay-much")
@approvers("finance:2,legal")
permit (principal, action == Countersign::Action::"bank/pay", resource)
when { context.input.amount >= 1000 && context.request has approval && context.request.approval.count >= 2 };

@id("never-mallory")
forbid (principal, action == Countersign::Action::"bank/pay", resource)
when { context.input.to == "mallory" };
"#;
    bundle("subject", rules)
}

/// Commands that the machine rejects, each with an entry that says so.
const REJECTED: &[&str] = &["activate_cluster", "activate_engine", "open_session_rejected"];

struct Teller {
    world: World,
    told: Vec<Told>,
}

impl Teller {
    fn tell(&mut self, name: &'static str, ask: Ask) -> LeafIndex {
        let submission = self.world.sign(ask);
        let applied = self.world.apply(&submission);
        self.world.now_us += 1_000;
        let Applied::Appended(appended) = applied else {
            panic!("{name}: no entry but {applied:?}");
        };
        let expected = match &appended.entry.body {
            Some(v1::entry::Body::Decision(_) | v1::entry::Body::Outcome(_)) => true,
            _ => (result_of(&appended.entry) == v1::Result::Applied) != REJECTED.contains(&name),
        };
        assert!(expected, "{name}: {:?}", appended.entry.body);
        let index = appended.index;
        self.told.push(Told {
            name,
            submission,
            appended: *appended,
        });
        index
    }

    fn root(&mut self, name: &'static str, body: Body) -> LeafIndex {
        self.tell(name, Ask::new(root(), body).with(CompartmentKind::Reason, b"a reason"))
    }

    fn pay(&mut self, name: &'static str, session: SessionId, to: &str, amount: u32) -> LeafIndex {
        let input = format!(r#"{{"to": "{to}", "amount": {amount}}}"#);
        let ask = Ask::new(bot(), authorize_body("bot", session, "bank/pay"));
        self.tell(name, ask.with(CompartmentKind::Input, input.as_bytes()))
    }

    fn session(&self) -> SessionId {
        session_of(&self.told.last().expect("something was told").appended)
    }
}

fn root() -> Identity {
    Identity::Operator("root".to_owned())
}

fn olive() -> Identity {
    Identity::Operator("olive".to_owned())
}

fn bot() -> Identity {
    Identity::Agent("bot".to_owned())
}

fn gate() -> Identity {
    Identity::Gateway("gate".to_owned())
}

fn open_body(ttl_s: u32, scope: &[&str], parent: Vec<u8>) -> Body {
    Body::OpenSession(v1::OpenSession {
        agent: "bot".to_owned(),
        parent,
        scope: scope.iter().map(|pattern| (*pattern).to_owned()).collect(),
        ttl_s,
        runtime: Some(v1::Runtime {
            model: "model-1".to_owned(),
            framework: "framework 2.0".to_owned(),
            build_digest: vec![7; 32],
        }),
        label: "nightly run".to_owned(),
    })
}

/// What the sessions of the story are for.
#[must_use]
pub fn story_context() -> v1::SessionContext {
    let subject = |sub: &str| v1::Subject {
        iss: "https://idp.example.com".to_owned(),
        sub: sub.to_owned(),
    };
    v1::SessionContext {
        purpose: "pay the invoices of November".to_owned(),
        subject: Some(subject("user-17")),
        act: vec![subject("scheduler")],
        grants: vec![v1::StringSet {
            name: "recipients".to_owned(),
            values: vec!["alice".to_owned(), "bob".to_owned()],
        }],
        claims: Vec::new(),
        token_digest: vec![9; 32],
    }
}

/// Tells the story.
///
/// # Panics
/// If a command makes no entry.
#[must_use]
pub fn tell_story(tree_hash: TreeHash) -> Story {
    let mut teller = Teller {
        world: World::with_tree(tree_hash),
        told: Vec::new(),
    };
    govern_identities(&mut teller);
    govern_keys(&mut teller);
    govern_policy(&mut teller);
    let (open_session, allowed) = act(&mut teller);
    govern_replicas(&mut teller);
    let sealed_session = end_sessions(&mut teller, open_session, allowed);
    let before_the_end = teller.world.state.clone();
    let rescue = operator_message(&teller.world.origin, "rescue", &[(v1::Role::Admin, "*")]);
    let body = Body::ReplaceAdmins(v1::ReplaceAdmins {
        admins: vec![rescue],
    });
    teller.tell("replace_admins", Ask::new(Identity::Recovery, body));
    Story {
        world: teller.world,
        told: teller.told,
        before_the_end,
        open_session,
        sealed_session,
        allowed,
    }
}

fn govern_identities(teller: &mut Teller) {
    let origin = teller.world.origin.clone();
    let mut ruth = operator_message(&origin, "ruth", &[(v1::Role::Approver, "team")]);
    ruth.groups = vec!["finance".to_owned()];
    teller.root("register_operator", Body::RegisterOperator(ruth));
    teller.root(
        "update_operator",
        Body::UpdateOperator(v1::UpdateOperator {
            id: "ruth".to_owned(),
            name: "Ruth".to_owned(),
            groups: vec!["finance".to_owned(), "legal".to_owned()],
            roles: Vec::new(),
        }),
    );
    let name = "lab".to_owned();
    let owners = vec!["olive".to_owned()];
    let create = v1::CreateNamespace {
        name: name.clone(),
        owners: Vec::new(),
    };
    teller.root("create_namespace", Body::CreateNamespace(create));
    let update = v1::UpdateNamespace { name, owners };
    teller.root("update_namespace", Body::UpdateNamespace(update));

    let attribute = v1::Attribute {
        name: "tier".to_owned(),
        value: "gold".to_owned(),
    };
    let keys = vec![teller.world.enrol(&bot())];
    let register = Body::RegisterAgent(v1::RegisterAgent {
        id: "bot".to_owned(),
        namespace: "team".to_owned(),
        owner: "olive".to_owned(),
        groups: vec!["payers".to_owned()],
        attributes: Vec::new(),
        minimum_assurance: v1::Assurance::Unspecified.into(),
        keys,
    });
    teller.root("register_agent", register);
    let update = Body::UpdateAgent(v1::UpdateAgent {
        id: "bot".to_owned(),
        owner: "olive".to_owned(),
        groups: vec!["approvers".to_owned(), "payers".to_owned()],
        attributes: vec![attribute],
        minimum_assurance: v1::Assurance::GatewayAsserted.into(),
    });
    teller.root("update_agent", update);
    let target = |target| v1::ActsFor {
        target: Some(target),
    };
    let keys = vec![teller.world.enrol(&gate())];
    let register = Body::RegisterGateway(v1::RegisterGateway {
        id: "gate".to_owned(),
        namespace: "team".to_owned(),
        owner: "olive".to_owned(),
        acts_for: vec![target(v1::acts_for::Target::Agent("bot".to_owned()))],
        may: vec![v1::GatewayPermission::Authorize.into()],
        keys,
    });
    teller.root("register_gateway", register);
    let update = Body::UpdateGateway(v1::UpdateGateway {
        id: "gate".to_owned(),
        owner: "olive".to_owned(),
        acts_for: vec![target(v1::acts_for::Target::Group("payers".to_owned()))],
        may: (1..=5).collect(),
    });
    teller.root("update_gateway", update);
}

fn govern_keys(teller: &mut Teller) {
    let second = key("agent `bot`, second key");
    let ends = teller.world.now_us + 90 * DAY;
    let add = Body::AddKey(v1::AddKey {
        identity: Some(bot().to_message()),
        key: Some(enrolment(&teller.world.origin, &bot(), &second, ends)),
    });
    teller.tell("add_key", Ask::new(olive(), add));
    let retire = Body::RetireKey(v1::RetireKey {
        key_id: public_key(&second).key_id().to_vec(),
    });
    teller.tell("retire_key", Ask::new(olive(), retire));
    for (name, status) in [
        ("set_status", v1::IdentityStatus::Suspended),
        ("set_status_back", v1::IdentityStatus::Active),
    ] {
        let set = Body::SetStatus(v1::SetStatus {
            identity: Some(bot().to_message()),
            status: status.into(),
        });
        teller.root(name, set);
    }
}

fn govern_policy(teller: &mut Teller) {
    let bundle = story_bundle();
    let digest = bundle.digest().0.to_vec();
    let publish = Body::PublishBundle(v1::PublishBundle {
        namespace: "team".to_owned(),
        digest: digest.clone(),
        chunk_index: 0,
        chunk_count: 1,
        chunk: bundle.pack(),
    });
    teller.root("publish_bundle", publish);
    let activate = Body::ActivateBundle(v1::ActivateBundle {
        namespace: "team".to_owned(),
        digest,
        accept_short_history: true,
    });
    teller.root("activate_bundle", activate);
}

/// A session of a day; in it an allowed, a denied and an escalated request, one denied before the rules, and outcomes.
fn act(teller: &mut Teller) -> (SessionId, LeafIndex) {
    let context = story_context().encode_to_vec();
    let open = Ask::new(olive(), open_body(86_400, &["*"], Vec::new()));
    teller.tell("open_session", open.with(CompartmentKind::Context, &context));
    let session = teller.session();
    let facts = v1::ResourceFacts {
        id: "account-1".to_owned(),
        r#type: "account".to_owned(),
        parents: vec!["bank".to_owned()],
        attributes: Vec::new(),
    };
    let mut body = authorize_body("bot", session, "bank/pay");
    if let Body::Authorize(ask) = &mut body {
        ask.tool_call_id = "call-1".to_owned();
        ask.trace_id = vec![1; 16];
        ask.span_id = vec![2; 8];
        ask.parent_request_id = vec![3; 16];
    }
    let ask = Ask::new(bot(), body)
        .cosigned(gate())
        .with(CompartmentKind::Input, br#"{"to": "alice", "amount": 5}"#)
        .with(CompartmentKind::Resource, &facts.encode_to_vec());
    let allowed = teller.tell("authorize", ask);
    let digest = input_digest(&teller.told.last().expect("told").appended.entry);
    teller.pay("authorize_denied", session, "mallory", 5);
    teller.pay("authorize_escalated", session, "alice", 5000);
    let unknown = Ask::new(bot(), authorize_body("bot", session, "bank/burn"));
    let unknown = unknown.with(CompartmentKind::Input, b"{}");
    teller.tell("authorize_unknown_action", unknown);

    let record = Body::Record(v1::Record {
        decision_index: allowed.0,
        status: v1::ExecutionStatus::Succeeded.into(),
        started_at_us: teller.world.now_us,
        finished_at_us: teller.world.now_us + 5,
        result_digest: Some(v1::ResultDigest {
            algorithm: v1::DigestAlgorithm::Sha256.into(),
            bytes: vec![4; 32],
        }),
        executed_input_digest: digest,
    });
    let record = Ask::new(gate(), record).with(CompartmentKind::Output, b"{}");
    teller.tell("record", record);
    let changed = Body::Record(v1::Record {
        decision_index: allowed.0,
        status: v1::ExecutionStatus::Partial.into(),
        executed_input_digest: vec![5; 32],
        ..v1::Record::default()
    });
    let changed = Ask::new(bot(), changed).with(CompartmentKind::ExecutedInput, b"{}");
    teller.tell("record_drift", changed);

    let halt = v1::SetHalt {
        id: "freeze".to_owned(),
        scope: Some(v1::HaltScope {
            target: Some(v1::halt_scope::Target::Action("bank/*".to_owned())),
        }),
        expires_at_us: teller.world.now_us + DAY,
    };
    teller.root("set_halt", Body::SetHalt(halt));
    let clear = v1::ClearHalt {
        id: "freeze".to_owned(),
    };
    teller.root("clear_halt", Body::ClearHalt(clear));
    let stays = v1::SetHalt {
        id: "lab closed".to_owned(),
        scope: Some(v1::HaltScope {
            target: Some(v1::halt_scope::Target::Namespace("lab".to_owned())),
        }),
        expires_at_us: 0,
    };
    teller.root("set_halt_that_stays", Body::SetHalt(stays));
    (session, allowed)
}

fn govern_replicas(teller: &mut Teller) {
    let origin = teller.world.origin.clone();
    let update = Body::UpdateMembership(v1::UpdateMembership {
        nodes: [1, 2, 3, 4].map(|node| node_card(&origin, node)).to_vec(),
        trust_policy: trust_policy(&origin, &[1, 2, 3, 4]),
    });
    teller.root("update_membership", update);
    let support = Body::DeclareSupport(v1::DeclareSupport {
        engine_versions: vec![1],
        cluster_versions: vec![1],
    });
    teller.tell("declare_support", Ask::new(Identity::Node(1), support));
    let attest = Body::AttestState(v1::AttestState {
        tree_size: 3,
        digest: vec![6; 32],
    });
    teller.tell("attest_state", Ask::new(Identity::Node(1), attest));
    let engine = Body::ActivateEngine(v1::ActivateEngine { version: 1 });
    teller.root("activate_engine", engine);
    let cluster = Body::ActivateCluster(v1::ActivateCluster { version: 1 });
    teller.root("activate_cluster", cluster);
}

/// A child session is closed, another expires and is sealed, and an input is erased.
fn end_sessions(teller: &mut Teller, parent: SessionId, allowed: LeafIndex) -> SessionId {
    let child = Ask::new(bot(), open_body(600, &["bank/read"], parent.to_vec()));
    let told = v1::SessionContext {
        grants: Vec::new(),
        ..story_context()
    };
    let child = child.with(CompartmentKind::Context, &told.encode_to_vec());
    teller.tell("open_session_child", child);
    let session_id = teller.session().to_vec();
    let close = Body::CloseSession(v1::CloseSession { session_id });
    teller.tell("close_session", Ask::new(bot(), close));

    let short = Ask::new(olive(), open_body(60, &["bank/pay", "bank/read"], Vec::new()));
    teller.tell("open_session_short", short);
    let sealed = teller.session();
    teller.world.now_us += 61 * SECOND;
    let session_id = sealed.to_vec();
    let seal = Body::Seal(v1::Seal { session_id });
    teller.tell("seal", Ask::new(Identity::Node(2), seal));

    let erase = Body::Erase(v1::Erase {
        compartments: vec![v1::CompartmentRef {
            index: allowed.0,
            kind: CompartmentKind::Input.into(),
        }],
    });
    teller.root("erase", erase);
    let wide = Ask::new(bot(), open_body(600, &["*"], vec![1; 16]));
    teller.tell("open_session_rejected", wide);
    sealed
}
