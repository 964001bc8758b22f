//! A ledger in which every operator of the role table has something of its own to act on.

use countersign_tests::kit::{
    Ask, DAY, SECOND, World, bank, bundle, enrolment, key, node_card, operator_message, public_key,
    session_of, trust_policy,
};
use ledger_core::id::{Identity, SessionId};
use ledger_proto::v1::{self, GatewayPermission, IdentityStatus, Role, command::Body};

/// The roles that operators have one at a time; none is the absence of any.
pub(super) const ROLES: [Option<Role>; 7] = [
    Some(Role::Admin),
    Some(Role::Policy),
    Some(Role::Responder),
    Some(Role::Approver),
    Some(Role::Auditor),
    Some(Role::Privacy),
    None,
];

/// Where a role is granted. Everything that the table acts on is in "team".
pub(super) const GRANTS: [&str; 3] = ["team", "elsewhere", "*"];

/// The prepared ledger.
pub(super) struct Stage {
    pub(super) world: World,
    /// A decision in "team" with an INPUT compartment.
    pub(super) decision: u64,
    /// An entry that concerns the whole ledger, with a REASON compartment.
    pub(super) of_whole_ledger: u64,
    /// A session whose time is over.
    pub(super) expired: SessionId,
}

/// What one operator owns, and the table acts on.
pub(super) struct Target {
    pub(super) owner: String,
    pub(super) agent: String,
    /// Suspended by root.
    pub(super) sleeper: String,
    pub(super) gateway: String,
    pub(super) session: SessionId,
}

pub(super) fn operator_id(role: Option<Role>, grant: &str) -> String {
    let role = role.map_or("nobody", |role| role.as_str_name());
    format!("{role}@{grant}")
}

fn operator(id: &str) -> Identity {
    Identity::Operator(id.to_owned())
}

impl Stage {
    pub(super) fn new() -> Self {
        let mut world = World::new();
        world.govern(Body::CreateNamespace(v1::CreateNamespace {
            name: "elsewhere".to_owned(),
            owners: Vec::new(),
            single_use: false,
        }));
        let mut owners = vec!["olive".to_owned()];
        for role in ROLES {
            for grant in GRANTS {
                let id = operator_id(role, grant);
                let roles: Vec<(Role, &str)> = role.map(|role| (role, grant)).into_iter().collect();
                world.operator(&id, &roles);
                owners.push(id);
            }
        }
        owners.sort();
        world.govern(Body::UpdateNamespace(v1::UpdateNamespace {
            name: "team".to_owned(),
            owners: owners.clone(),
            single_use: false,
        }));
        for owner in &owners {
            equip(&mut world, owner);
        }
        world.policy("team", &bank());
        world.publish("team", &candidate());
        world.agent("bot");
        let session = world.session("bot");
        let decision = world.authorize("bot", session, "bank/read", r#"{"doc": "a"}"#);
        let expired = open(&mut world, "bot", 1);
        let message = operator_message(&world.origin, "with-reason", &[]);
        let reason = Ask::new(operator("root"), Body::RegisterOperator(message))
            .with(v1::CompartmentKind::Reason, b"a new colleague");
        let of_whole_ledger = world.must(reason).index.0;
        for (id, target) in [
            (
                "everything",
                v1::halt_scope::Target::Action("nothing/*".to_owned()),
            ),
            ("agent", v1::halt_scope::Target::Agent("bot".to_owned())),
        ] {
            world.govern(Body::SetHalt(v1::SetHalt {
                id: id.to_owned(),
                scope: Some(v1::HaltScope {
                    target: Some(target),
                }),
                expires_at_us: 0,
            }));
        }
        for node in [1, 2, 3] {
            world.must(Ask::new(
                Identity::Node(node),
                Body::DeclareSupport(v1::DeclareSupport {
                    engine_versions: vec![1, 2],
                    cluster_versions: vec![1, 2],
                }),
            ));
        }
        world.now_us += 2 * SECOND;
        Self {
            world,
            decision: decision.index.0,
            of_whole_ledger,
            expired,
        }
    }

    /// What an operator owns.
    pub(super) fn target(&self, owner: &str) -> Target {
        let gateway = format!("gateway of {owner}");
        let opening = ledger_core::machine::find_request(
            &self.world.state,
            &operator(owner),
            session_request(owner),
        );
        let leaf = opening.expect("sound").expect("opened");
        let entry = self.world.entry(leaf.0);
        Target {
            owner: owner.to_owned(),
            agent: format!("agent of {owner}"),
            sleeper: format!("sleeper of {owner}"),
            gateway,
            session: ledger_core::entry::session(&entry).expect("an opening"),
        }
    }
}

fn session_request(owner: &str) -> ledger_core::id::RequestId {
    let digest = blake3::hash(owner.as_bytes());
    ledger_core::id::RequestId::from_slice(&digest.as_bytes()[..16]).expect("16 bytes")
}

/// A bundle that is published and waits.
pub(super) fn candidate() -> policy_engine::Bundle {
    bundle(
        "agent",
        "@id(\"all\") permit (principal, action, resource);",
    )
}

/// Another bundle that nobody has published.
pub(super) fn unpublished() -> policy_engine::Bundle {
    bundle(
        "agent",
        "@id(\"none\") forbid (principal, action, resource);",
    )
}

fn equip(world: &mut World, owner: &str) {
    for id in [format!("agent of {owner}"), format!("sleeper of {owner}")] {
        let identity = Identity::Agent(id.clone());
        let keys = vec![world.enrol(&identity)];
        world.govern(register_agent(&id, owner, keys));
    }
    world.govern(Body::SetStatus(v1::SetStatus {
        identity: Some(Identity::Agent(format!("sleeper of {owner}")).to_message()),
        status: IdentityStatus::Suspended.into(),
    }));
    let id = format!("gateway of {owner}");
    let keys = vec![world.enrol(&Identity::Gateway(id.clone()))];
    world.govern(register_gateway(
        &id,
        "team",
        owner,
        &format!("agent of {owner}"),
        keys,
    ));
    let ask = Ask::new(
        operator(owner),
        open_session(&format!("agent of {owner}"), 3_600),
    );
    let id = session_request(owner).as_bytes().to_vec();
    let submission = world.sign_as(ask, id, world.now_us);
    world.apply(&submission);
    world.now_us += 1_000;
}

fn open(world: &mut World, agent: &str, ttl_s: u32) -> SessionId {
    session_of(&world.must(Ask::new(operator("olive"), open_session(agent, ttl_s))))
}

pub(super) fn open_session(agent: &str, ttl_s: u32) -> Body {
    Body::OpenSession(v1::OpenSession {
        agent: agent.to_owned(),
        scope: vec!["*".to_owned()],
        ttl_s,
        ..v1::OpenSession::default()
    })
}

pub(super) fn register_agent(id: &str, owner: &str, keys: Vec<v1::KeyEnrolment>) -> Body {
    Body::RegisterAgent(v1::RegisterAgent {
        id: id.to_owned(),
        namespace: "team".to_owned(),
        owner: owner.to_owned(),
        keys,
        ..v1::RegisterAgent::default()
    })
}

pub(super) fn register_gateway(
    id: &str,
    namespace: &str,
    owner: &str,
    acts_for: &str,
    keys: Vec<v1::KeyEnrolment>,
) -> Body {
    Body::RegisterGateway(v1::RegisterGateway {
        id: id.to_owned(),
        namespace: namespace.to_owned(),
        owner: owner.to_owned(),
        acts_for: acts_for_agent(acts_for),
        may: vec![
            GatewayPermission::Authorize.into(),
            GatewayPermission::Record.into(),
            GatewayPermission::OpenSession.into(),
        ],
        keys,
    })
}

pub(super) fn acts_for_agent(agent: &str) -> Vec<v1::ActsFor> {
    vec![v1::ActsFor {
        target: Some(v1::acts_for::Target::Agent(agent.to_owned())),
    }]
}

impl Stage {
    /// A key that nobody has, enrolled for an identity.
    pub(super) fn new_key(&self, identity: &Identity) -> v1::KeyEnrolment {
        let end = self.world.now_us + 90 * DAY;
        enrolment(&self.world.origin, identity, &key("a new key"), end)
    }

    pub(super) fn add_key(&self, identity: &Identity) -> Body {
        Body::AddKey(v1::AddKey {
            identity: Some(identity.to_message()),
            key: Some(self.new_key(identity)),
        })
    }

    pub(super) fn membership(&self) -> Body {
        let origin = &self.world.origin;
        Body::UpdateMembership(v1::UpdateMembership {
            nodes: vec![node_card(origin, 1), node_card(origin, 2)],
            trust_policy: trust_policy(origin, &[1, 2]),
        })
    }
}

pub(super) fn retire_key(identity: &Identity) -> Body {
    Body::RetireKey(v1::RetireKey {
        key_id: public_key(&key(&identity.to_string())).key_id().to_vec(),
    })
}

pub(super) fn set_status(identity: Identity, status: IdentityStatus) -> Body {
    Body::SetStatus(v1::SetStatus {
        identity: Some(identity.to_message()),
        status: status.into(),
    })
}

pub(super) fn set_halt(target: v1::halt_scope::Target) -> Body {
    Body::SetHalt(v1::SetHalt {
        id: "a new halt".to_owned(),
        scope: Some(v1::HaltScope {
            target: Some(target),
        }),
        expires_at_us: 0,
    })
}
