//! What operators, nodes and the recovery key ask: everything that changes who may do what.

use crate::kit::{
    Ask, DAY, SECOND, enrolment, key, node_card, operator_message, public_key, trust_policy,
};
use ledger_core::id::Identity;
use ledger_core::machine::{CLUSTER_VERSION, ENGINE_VERSION};
use ledger_proto::v1::{
    self, CompartmentKind, GatewayPermission, IdentityStatus, Role, command::Body,
};

use super::{AGENTS, Dice, GATEWAYS, GROUPS, NAMESPACES, OPERATORS, Stream};

fn groups(dice: &mut Dice) -> Vec<String> {
    GROUPS
        .iter()
        .filter(|_| dice.percent(30))
        .map(|group| (*group).to_owned())
        .collect()
}

fn owner(dice: &mut Dice) -> String {
    let owner = if dice.percent(80) {
        "olive"
    } else {
        *dice.pick(&OPERATORS)
    };
    owner.to_owned()
}

impl Stream {
    /// Mostly the one who holds every role, so that things happen.
    pub(super) fn operator(&self, dice: &mut Dice) -> Identity {
        let id = match dice.below(10) {
            0..8 => "root",
            8 => "olive",
            _ => *dice.pick(&OPERATORS),
        };
        Identity::Operator(id.to_owned())
    }

    pub(super) fn govern(&mut self, dice: &mut Dice) -> Ask {
        let author = self.operator(dice);
        let body = match dice.below(42) {
            0..4 => self.register_agent(dice),
            4..6 => Body::UpdateAgent(v1::UpdateAgent {
                id: (*dice.pick(&AGENTS)).to_owned(),
                owner: owner(dice),
                groups: groups(dice),
                attributes: Vec::new(),
                minimum_assurance: *dice.pick(&[0, 0, 0, 1, 2, 3, 7]),
                session_issuers: *dice.pick(&[0, 0, 0, 1, 1, 2]),
            }),
            6..8 => self.gateway(dice),
            8..12 => self.set_status(dice),
            12..18 => self.add_key(dice),
            18..20 => self.retire_key(dice),
            20..22 => self.register_or_update_operator(dice),
            22 => return self.replace_admins(dice),
            23..25 => self.change_namespace(dice),
            25..27 => self.set_halt(dice),
            27..31 => {
                let id = dice.recent(&self.halts).cloned().unwrap_or_default();
                Body::ClearHalt(v1::ClearHalt { id })
            }
            31..35 => self.publish(dice),
            35..37 => self.activate(dice),
            37..39 => self.erase(dice),
            39 => self.change_membership(dice),
            // Each ends all sessions.
            40 if dice.percent(20) => self.adjust_time(dice),
            40 => self.activate_version(dice),
            _ => return self.by_a_node(dice),
        };
        let mut ask = Ask::new(author, body);
        if dice.percent(20) {
            ask = ask.with(CompartmentKind::Reason, b"because");
        }
        if dice.percent(5) {
            ask.cosigners
                .push(Identity::Operator((*dice.pick(&OPERATORS[1..])).to_owned()));
        }
        ask
    }

    /// A new key of somebody; sometimes without proof, sometimes one that was used before.
    fn new_key(&mut self, dice: &mut Dice, identity: &Identity) -> v1::KeyEnrolment {
        let fresh = match dice.below(20) {
            0 => key("somebody else"),
            1..4 => self.key_of(dice, identity),
            _ => {
                self.next_key += 1;
                key(&format!("{identity} {}", self.next_key))
            }
        };
        let ends = if matches!(identity, Identity::Agent(_) | Identity::Gateway(_)) {
            self.now_us + *dice.pick(&[30, 90, 90]) * DAY
        } else {
            0
        };
        let mut enrolment = enrolment(&self.origin, identity, &fresh, ends);
        if dice.percent(5) {
            enrolment.proof_of_possession[0] ^= 1;
        }
        let public = public_key(&fresh).as_bytes().to_vec();
        self.made.insert(public, fresh);
        enrolment
    }

    fn register_agent(&mut self, dice: &mut Dice) -> Body {
        let id = (*dice.pick(&AGENTS)).to_owned();
        let enrolment = self.new_key(dice, &Identity::Agent(id.clone()));
        Body::RegisterAgent(v1::RegisterAgent {
            id,
            namespace: if dice.percent(70) {
                "team".to_owned()
            } else {
                (*dice.pick(&NAMESPACES)).to_owned()
            },
            owner: owner(dice),
            groups: groups(dice),
            attributes: vec![v1::Attribute {
                name: "tier".to_owned(),
                value: dice.below(3).to_string(),
            }],
            minimum_assurance: 0,
            keys: vec![enrolment],
            session_issuers: *dice.pick(&[0, 0, 0, 0, 1]),
        })
    }

    fn gateway(&mut self, dice: &mut Dice) -> Body {
        let id = (*dice.pick(&GATEWAYS)).to_owned();
        let agent = v1::acts_for::Target::Agent((*dice.pick(&AGENTS)).to_owned());
        let group = v1::acts_for::Target::Group((*dice.pick(&GROUPS)).to_owned());
        let acts_for = [agent, group]
            .map(|target| v1::ActsFor {
                target: Some(target),
            })
            .to_vec();
        let may = [
            GatewayPermission::Authorize,
            GatewayPermission::Record,
            GatewayPermission::OpenSession,
            GatewayPermission::AssertSubject,
            GatewayPermission::AssertResource,
        ];
        let may = may
            .into_iter()
            .filter(|_| dice.percent(80))
            .map(i32::from)
            .collect();
        let owner = owner(dice);
        if dice.percent(40) {
            return Body::UpdateGateway(v1::UpdateGateway {
                id,
                owner,
                acts_for,
                may,
            });
        }
        let enrolment = self.new_key(dice, &Identity::Gateway(id.clone()));
        Body::RegisterGateway(v1::RegisterGateway {
            id,
            namespace: (*dice.pick(&["team", "*", "lab"])).to_owned(),
            owner,
            acts_for,
            may,
            keys: vec![enrolment],
        })
    }

    /// An agent, a gateway, or an operator other than those whom the stream cannot do without.
    fn subject(dice: &mut Dice) -> Identity {
        match dice.below(10) {
            0..6 => Identity::Agent((*dice.pick(&AGENTS)).to_owned()),
            6..8 => Identity::Gateway((*dice.pick(&GATEWAYS)).to_owned()),
            8 => Identity::Operator((*dice.pick(&OPERATORS[2..])).to_owned()),
            _ => Identity::Node(2),
        }
    }

    fn set_status(&self, dice: &mut Dice) -> Body {
        let identity = Self::subject(dice);
        let status = match dice.below(20) {
            0..3 => IdentityStatus::Suspended,
            3..18 => IdentityStatus::Active,
            18 => IdentityStatus::Unspecified,
            // Revoking is for ever, so it is rare, and some agents are spared.
            _ if identity.id().starts_with("bot-") => IdentityStatus::Suspended,
            _ => IdentityStatus::Revoked,
        };
        Body::SetStatus(v1::SetStatus {
            identity: Some(identity.to_message()),
            status: status.into(),
        })
    }

    fn add_key(&mut self, dice: &mut Dice) -> Body {
        let identity = if dice.percent(5) {
            Identity::Operator("root".to_owned())
        } else {
            Self::subject(dice)
        };
        let enrolment = self.new_key(dice, &identity);
        Body::AddKey(v1::AddKey {
            identity: Some(identity.to_message()),
            key: Some(enrolment),
        })
    }

    fn retire_key(&self, dice: &mut Dice) -> Body {
        let identity = if dice.percent(20) {
            Identity::Operator("root".to_owned())
        } else {
            Self::subject(dice)
        };
        let keys = &self.keys[&identity];
        // The older ones: a newest key that is retired takes its owner out of the stream for long.
        let key = dice.pick(&keys[..(keys.len() / 2).max(1)]);
        Body::RetireKey(v1::RetireKey {
            key_id: public_key(key).key_id().to_vec(),
        })
    }

    fn register_or_update_operator(&mut self, dice: &mut Dice) -> Body {
        let id = *dice.pick(&OPERATORS[2..]);
        let held = [
            Role::Admin,
            Role::Policy,
            Role::Responder,
            Role::Approver,
            Role::Privacy,
        ];
        let held: Vec<(Role, &str)> = held
            .into_iter()
            .filter(|_| dice.percent(30))
            .map(|role| (role, if role == Role::Admin { "*" } else { "team" }))
            .collect();
        let mut message = operator_message(&self.origin, id, &held);
        if dice.percent(50) {
            return Body::UpdateOperator(v1::UpdateOperator {
                id: message.id,
                name: "Renamed".to_owned(),
                groups: groups(dice),
                roles: message.roles,
            });
        }
        message.keys = vec![self.new_key(dice, &Identity::Operator(id.to_owned()))];
        Body::RegisterOperator(message)
    }

    fn replace_admins(&mut self, dice: &mut Dice) -> Ask {
        let root = Identity::Operator("root".to_owned());
        let roles = [Role::Admin, Role::Policy, Role::Responder, Role::Privacy];
        let mut message = operator_message(&self.origin, "root", &roles.map(|role| (role, "*")));
        message.keys = vec![self.new_key(dice, &root)];
        let author = if dice.percent(80) {
            Identity::Recovery
        } else {
            root
        };
        let admins = vec![message];
        Ask::new(author, Body::ReplaceAdmins(v1::ReplaceAdmins { admins }))
    }

    fn change_namespace(&self, dice: &mut Dice) -> Body {
        let name = (*dice.pick(&["team", "lab", "ops/x", "Not A Name"])).to_owned();
        let owners = vec![owner(dice)];
        if dice.percent(50) {
            Body::CreateNamespace(v1::CreateNamespace {
                name,
                owners,
                single_use: false,
            })
        } else {
            Body::UpdateNamespace(v1::UpdateNamespace {
                name,
                owners,
                single_use: false,
            })
        }
    }

    /// Halts mostly end soon, so that the stream goes on.
    fn set_halt(&mut self, dice: &mut Dice) -> Body {
        use v1::halt_scope::Target;
        let id = format!("halt-{}", dice.below(40));
        self.halts.push(id.clone());
        let target = match dice.below(6) {
            0 => Target::Everything(dice.percent(80)),
            1 => Target::Namespace((*dice.pick(&NAMESPACES)).to_owned()),
            2 => Target::Group((*dice.pick(&GROUPS)).to_owned()),
            3 => Target::Action((*dice.pick(&["bank/pay", "bank/r*", "*x*"])).to_owned()),
            _ => Target::Agent((*dice.pick(&AGENTS)).to_owned()),
        };
        let lasting = matches!(target, Target::Agent(_)) && dice.percent(20);
        Body::SetHalt(v1::SetHalt {
            id,
            scope: Some(v1::HaltScope {
                target: Some(target),
            }),
            expires_at_us: if lasting {
                0
            } else {
                self.now_us + dice.below(2 * SECOND)
            },
        })
    }

    fn erase(&self, dice: &mut Dice) -> Body {
        let mut named = Vec::new();
        for _ in 0..=dice.below(8) {
            named.extend(dice.recent(&self.stored).copied());
        }
        named.sort_by_key(|named| (named.index, named.kind));
        if dice.percent(95) {
            named.dedup();
        }
        Body::Erase(v1::Erase {
            compartments: named,
        })
    }

    /// One more node, or one less; node 1 stays.
    fn change_membership(&mut self, dice: &mut Dice) -> Body {
        let node = 2 + dice.below(8);
        let before = self.next_epoch_nodes.len();
        self.next_epoch_nodes.retain(|known| *known != node);
        if self.next_epoch_nodes.len() == before {
            self.next_epoch_nodes.push(node);
            self.next_epoch_nodes.sort_unstable();
        }
        let nodes = &self.next_epoch_nodes;
        Body::UpdateMembership(v1::UpdateMembership {
            nodes: nodes
                .iter()
                .map(|node| node_card(&self.origin, *node))
                .collect(),
            trust_policy: trust_policy(&self.origin, nodes),
        })
    }

    fn activate_version(&self, dice: &mut Dice) -> Body {
        let more = u32::try_from(dice.below(2)).expect("0 or 1");
        if dice.percent(50) {
            let version = ENGINE_VERSION + more;
            Body::ActivateEngine(v1::ActivateEngine { version })
        } else {
            let version = CLUSTER_VERSION + more;
            Body::ActivateCluster(v1::ActivateCluster { version })
        }
    }

    fn by_a_node(&self, dice: &mut Dice) -> Ask {
        let author = Identity::Node(1 + dice.below(4));
        let body = if dice.percent(50) {
            Body::DeclareSupport(v1::DeclareSupport {
                // What this build does run: were all nodes to declare the next version, the stream could activate it, and
                // this build would rightly stop there.
                engine_versions: vec![ENGINE_VERSION],
                cluster_versions: vec![CLUSTER_VERSION],
            })
        } else {
            Body::AttestState(v1::AttestState {
                tree_size: dice.below(5_000),
                digest: vec![1; if dice.percent(90) { 32 } else { 31 }],
                copied: dice.percent(30),
            })
        };
        Ask::new(author, body)
    }
}

/// The keys that a command enrols, and whose they are.
pub(super) fn enrolments(body: &Body) -> Vec<(Identity, v1::KeyEnrolment)> {
    let (identity, keys) = if let Body::RegisterAgent(ask) = body {
        (Identity::Agent(ask.id.clone()), ask.keys.clone())
    } else if let Body::RegisterGateway(ask) = body {
        (Identity::Gateway(ask.id.clone()), ask.keys.clone())
    } else if let Body::RegisterOperator(ask) = body {
        (Identity::Operator(ask.id.clone()), ask.keys.clone())
    } else if let Body::ReplaceAdmins(ask) = body {
        let admin = &ask.admins[0];
        (Identity::Operator(admin.id.clone()), admin.keys.clone())
    } else if let Body::AddKey(ask) = body {
        let identity = ask.identity.as_ref().map(Identity::parse);
        let identity = identity
            .and_then(Result::ok)
            .expect("an applied command names somebody");
        (identity, ask.key.clone().into_iter().collect())
    } else {
        return Vec::new();
    };
    keys.into_iter()
        .map(|key| (identity.clone(), key))
        .collect()
}
