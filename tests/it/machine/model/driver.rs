//! The machine's side: each transition as a signed command, each answer in the model's words.

use countersign_tests::kit::{
    Ask, DAY, SECOND, World, authorize_body, bundle, enrolment, input_digest, key, public_key,
};
use ed25519_dalek::SigningKey;
use ledger_core::id::{Identity, SessionId};
use ledger_core::machine::{self, Applied};
use ledger_core::signature::{SignatureDomain, sign_one};
use ledger_proto::v1::{self, CompartmentKind, IdentityStatus, Role, command::Body};

use super::reference::{Expected, Link};
use super::transition::{AGENTS, By, OPERATORS, Status, Tool, Transition, author, pick, place};

/// Everything is permitted, and three payments an hour for each agent.
const RULES: &str = r#"
@id("all")
permit (principal, action, resource);

@id("cap")
forbid (principal, action == Countersign::Action::"bank/pay", resource)
when temporal { count_within(1h, Countersign::Action::"bank/pay"::allowed{}) >= 3 };
"#;

/// A ledger, and what was sent to it.
#[derive(Debug)]
pub(super) struct Driver {
    world: World,
    keys_end_us: u64,
    sessions: Vec<SessionId>,
    /// Decisions: their leaf, and what the input was committed to.
    decisions: Vec<(u64, Vec<u8>)>,
    sent: Vec<(Ask, By, v1::Submission, Option<u64>)>,
}

fn agent_id(agent: u8) -> String {
    format!("bot-{agent}")
}

fn operator_id(operator: u8) -> String {
    format!("op-{operator}")
}

fn agent_key(agent: u8, number: u8) -> SigningKey {
    let name = Identity::Agent(agent_id(agent)).to_string();
    match number {
        0 => key(&name),
        _ => key(&format!("{name} {number}")),
    }
}

fn identity(by: By) -> Identity {
    match by {
        By::Root => Identity::Operator("root".to_owned()),
        By::Olive => Identity::Operator("olive".to_owned()),
        By::Operator(operator) => Identity::Operator(operator_id(operator)),
        By::Agent(agent, _) => Identity::Agent(agent_id(agent)),
        By::Node => Identity::Node(1),
    }
}

impl Driver {
    pub(super) fn new() -> Self {
        let mut world = World::new();
        for operator in 0..OPERATORS {
            world.operator(&operator_id(operator), &[]);
        }
        world.policy("team", &bundle("agent", RULES));
        let keys_end_us = world.now_us + 90 * DAY;
        for agent in 0..AGENTS {
            // Registered at one moment, so that the first keys end at one moment.
            let now_us = world.now_us;
            world.agent(&agent_id(agent));
            world.now_us = now_us;
        }
        world.now_us += SECOND;
        Self {
            world,
            keys_end_us,
            sessions: Vec::new(),
            decisions: Vec::new(),
            sent: Vec::new(),
        }
    }

    /// The clock, the time of the last entry, and the next leaf.
    pub(super) fn beginning(&self) -> (u64, u64, u64) {
        let tip = machine::tip(&self.world.state).expect("sound");
        (self.world.now_us, tip.time_us, tip.size.0)
    }

    pub(super) const fn keys_end_us(&self) -> u64 {
        self.keys_end_us
    }

    pub(super) fn step(&mut self, transition: &Transition) -> Expected {
        self.world.now_us += 1_003;
        match transition {
            Transition::Wait { seconds } => {
                self.world.now_us += u64::from(*seconds) * SECOND;
                Expected::Nothing
            }
            Transition::AdjustTime { seconds, by } => {
                self.world.now_us -= u64::from(*seconds) * SECOND;
                let ask = Ask::new(identity(*by), self.world.adjust_time());
                let found = self.send(ask, *by, self.world.now_us);
                let applied = matches!(&found, Expected::Entry { what, .. } if what == "Applied");
                if !applied {
                    self.world.now_us += u64::from(*seconds) * SECOND;
                }
                found
            }
            Transition::Replay { command } => self.again(*command, true),
            Transition::ReuseId { command } => self.again(*command, false),
            Transition::Stale { seconds } => {
                let issued = self.world.now_us - u64::from(*seconds) * SECOND;
                let clear = Body::ClearHalt(v1::ClearHalt {
                    id: "none".to_owned(),
                });
                self.send(Ask::new(identity(By::Root), clear), By::Root, issued)
            }
            _ => {
                let by = author(transition);
                let mut ask = Ask::new(identity(by), self.body(transition));
                if let Transition::Authorize { tool, .. } = transition {
                    let input = match tool {
                        Tool::Read => r#"{"doc": "a"}"#,
                        Tool::Pay => r#"{"to": "alice", "amount": 5}"#,
                        Tool::Malformed => r#"{"to": "alice"}"#,
                    };
                    ask = ask.with(CompartmentKind::Input, input.as_bytes());
                }
                self.send(ask, by, self.world.now_us)
            }
        }
    }

    fn again(&mut self, command: u8, same: bool) -> Expected {
        let Some((ask, by, submission, Some(_))) = pick(command, &self.sent).cloned() else {
            return Expected::Nothing;
        };
        if same {
            let applied = self.world.apply(&submission);
            return self.read(&applied);
        }
        let bytes = &submission.signed.as_ref().expect("signed").command;
        let first: v1::Command = prost::Message::decode(bytes.as_slice()).expect("decodes");
        let other = self.sign(ask, by, first.request_id, self.world.now_us);
        let applied = self.world.apply(&other);
        self.read(&applied)
    }

    fn sign(&self, ask: Ask, by: By, request_id: Vec<u8>, issued_us: u64) -> v1::Submission {
        let author = ask.author.clone();
        let mut submission = self.world.sign_as(ask, request_id, issued_us);
        if let By::Agent(agent, number) = by {
            let key = agent_key(agent, number);
            let bytes = submission.signed.take().expect("signed").command;
            let key_id = public_key(&key).key_id();
            let domain = SignatureDomain::of(&author);
            let signed = sign_one(domain, &self.world.origin, bytes, &[(key_id, &key)]);
            submission.signed = Some(signed.expect("one command signs"));
        }
        submission
    }

    fn send(&mut self, ask: Ask, by: By, issued_us: u64) -> Expected {
        let mut request_id = vec![5; 16];
        request_id[8..].copy_from_slice(&(self.sent.len() as u64).to_be_bytes());
        let submission = self.sign(ask.clone(), by, request_id, issued_us);
        let applied = self.world.apply(&submission);
        let leaf = match &applied {
            Applied::Appended(appended) => Some(appended.index.0),
            Applied::Replayed { .. } | Applied::Refused(_) => None,
        };
        let found = self.read(&applied);
        self.sent.push((ask, by, submission, leaf));
        found
    }

    /// An answer in the model's words.
    fn read(&mut self, applied: &Applied) -> Expected {
        use v1::entry::Body as Answer;
        let appended = match applied {
            Applied::Refused(refusal) => {
                let name = format!("{refusal:?}");
                let known = ["UnknownKey", "KeyNotActive", "RequestIdReused", "Stale"];
                let known = known.into_iter().find(|known| *known == name);
                return Expected::Refused(known.expect("a refusal that the model knows"));
            }
            Applied::Replayed { index, .. } => return Expected::Replayed(index.0),
            Applied::Appended(appended) => appended,
        };
        let what = match appended.entry.body.as_ref().expect("a body") {
            Answer::Decision(decision) => {
                let digest = input_digest(&appended.entry);
                self.decisions.push((appended.index.0, digest));
                format!("{:?}", decision.reason())
            }
            Answer::Redemption(redemption) => {
                let drift = redemption.state_drift().map(|drift| format!(" {drift:?}"));
                format!("{:?}{}", redemption.reason(), drift.collect::<String>())
            }
            Answer::SessionOpening(opening) => match opening.result() {
                v1::Result::Halted => "HaltedOpening".to_owned(),
                result => {
                    if result == v1::Result::Applied {
                        let id = ledger_core::entry::session(&appended.entry);
                        self.sessions
                            .push(id.expect("an opening names its session"));
                    }
                    format!("{result:?}")
                }
            },
            Answer::SessionEnd(end) => format!("{:?}", end.result()),
            Answer::Governance(governance) => format!("{:?}", governance.result()),
            other @ (Answer::Genesis(_) | Answer::Outcome(_)) => panic!("not asked for: {other:?}"),
        };
        let link = ledger_core::entry::chain(&appended.entry).map(|link| Link {
            session: self
                .sessions
                .iter()
                .position(|id| id.as_bytes()[..] == link.session_id)
                .expect("a session that was opened"),
            number: if link.late { 0 } else { link.number },
        });
        Expected::Entry {
            leaf: appended.index.0,
            what,
            link,
        }
    }

    /// The session that a number means.
    fn session(&self, number: u8) -> SessionId {
        place(number, self.sessions.len())
            .map_or_else(|| SessionId::from_bytes([9; 16]), |at| self.sessions[at])
    }

    fn body(&self, transition: &Transition) -> Body {
        match *transition {
            Transition::Authorize {
                agent,
                session,
                tool,
                ..
            } => {
                let tool = if tool == Tool::Read {
                    "bank/read"
                } else {
                    "bank/pay"
                };
                authorize_body(&agent_id(agent), self.session(session), tool)
            }
            Transition::Redeem {
                decision, changed, ..
            } => {
                let found = pick(decision, &self.decisions).cloned();
                let (leaf, mut digest) = found.unwrap_or_else(|| (u64::MAX, vec![0; 32]));
                if changed {
                    digest[0] ^= 1;
                }
                Body::Redeem(v1::Redeem {
                    decision_index: leaf,
                    input_digest: digest,
                })
            }
            Transition::Open {
                agent,
                pay_only,
                ttl_s,
                ..
            } => Body::OpenSession(v1::OpenSession {
                agent: agent_id(agent),
                scope: vec![if pay_only { "bank/pay" } else { "bank/*" }.to_owned()],
                ttl_s,
                ..v1::OpenSession::default()
            }),
            Transition::Close { session, .. } => Body::CloseSession(v1::CloseSession {
                session_id: self.session(session).to_vec(),
            }),
            Transition::Seal { session, .. } => Body::Seal(v1::Seal {
                session_id: self.session(session).to_vec(),
            }),
            Transition::SetStatus { agent, status, .. } => Body::SetStatus(v1::SetStatus {
                identity: Some(Identity::Agent(agent_id(agent)).to_message()),
                status: match status {
                    Status::Active => IdentityStatus::Active,
                    Status::Suspended => IdentityStatus::Suspended,
                    Status::Revoked => IdentityStatus::Revoked,
                }
                .into(),
            }),
            Transition::AddKey {
                agent, key, days, ..
            } => {
                let identity = Identity::Agent(agent_id(agent));
                let ends = self.world.now_us + u64::from(days) * DAY;
                let key = enrolment(&self.world.origin, &identity, &agent_key(agent, key), ends);
                Body::AddKey(v1::AddKey {
                    identity: Some(identity.to_message()),
                    key: Some(key),
                })
            }
            Transition::RetireKey { agent, key, .. } => Body::RetireKey(v1::RetireKey {
                key_id: public_key(&agent_key(agent, key)).key_id().to_vec(),
            }),
            Transition::SetHalt {
                halt, agent, ttl_s, ..
            } => self.halt(halt, agent, ttl_s),
            Transition::ClearHalt { halt, .. } => Body::ClearHalt(v1::ClearHalt {
                id: format!("halt-{halt}"),
            }),
            Transition::SetRoles {
                operator,
                admin,
                responder,
            } => {
                let held = [(Role::Admin, admin), (Role::Responder, responder)];
                let held = held.into_iter().filter(|(_, held)| *held);
                Body::UpdateOperator(v1::UpdateOperator {
                    id: operator_id(operator),
                    roles: held
                        .map(|(role, _)| v1::RoleGrant {
                            role: role.into(),
                            namespace: "*".to_owned(),
                        })
                        .collect(),
                    ..v1::UpdateOperator::default()
                })
            }
            Transition::Replay { .. }
            | Transition::ReuseId { .. }
            | Transition::Stale { .. }
            | Transition::Wait { .. }
            | Transition::AdjustTime { .. } => panic!("no command of its own: {transition:?}"),
        }
    }

    fn halt(&self, halt: u8, agent: Option<u8>, ttl_s: u32) -> Body {
        use v1::halt_scope::Target;
        let target = agent.map_or(Target::Everything(true), |agent| {
            Target::Agent(agent_id(agent))
        });
        Body::SetHalt(v1::SetHalt {
            id: format!("halt-{halt}"),
            scope: Some(v1::HaltScope {
                target: Some(target),
            }),
            expires_at_us: match ttl_s {
                0 => 0,
                seconds => self.world.now_us + u64::from(seconds) * SECOND,
            },
        })
    }
}
