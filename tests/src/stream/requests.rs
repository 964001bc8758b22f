//! What agents and gateways ask: decisions, outcomes, sessions.

use crate::kit::{Ask, SECOND, authorize_body};
use ledger_core::id::{Identity, SessionId};
use ledger_proto::v1::{self, CompartmentKind, command::Body};
use prost::Message;

use super::{AGENTS, Dice, GATEWAYS, Stream};

const TOOLS: [&str; 6] = [
    "bank/read",
    "bank/pay",
    "bank/pay",
    "bank/approve",
    "bank/deploy",
    "bank/rob",
];

/// Arguments that some tool takes, and arguments that none does.
const INPUTS: [&str; 13] = [
    r#"{"doc": "a"}"#,
    r#"{"to": "alice", "amount": 5}"#,
    r#"{"to": "bob", "amount": 700}"#,
    r#"{"to": "mallory", "amount": 1}"#,
    r#"{"ticket": "T-1"}"#,
    r#"{"ticket": "T-2"}"#,
    r#"{"to": "alice"}"#,
    r#"{"to": "alice", "amount": 5.5}"#,
    r#"{"to": "alice", "amount": 99999999999999999999}"#,
    r#"{"to": "alice", "to": "bob", "amount": 1}"#,
    r#"["to"]"#,
    "{",
    "\u{0}",
];

/// The arguments that each tool takes.
fn fitting(dice: &mut Dice, tool: &str) -> &'static str {
    match tool {
        "bank/read" => INPUTS[0],
        "bank/pay" => dice.pick::<&str>(&INPUTS[1..4]),
        _ => dice.pick::<&str>(&INPUTS[4..6]),
    }
}

impl Stream {
    pub(super) fn request(&mut self, dice: &mut Dice) -> Ask {
        match dice.below(60) {
            0..31 => self.authorize(dice),
            31..42 => self.record(dice),
            42..46 => self.redeem(dice),
            46..56 => self.open_session(dice),
            56 => {
                let session_id = self.session(dice).0.to_vec();
                let author = self.somebody(dice);
                Ask::new(author, Body::CloseSession(v1::CloseSession { session_id }))
                    .with(CompartmentKind::Reason, b"done")
            }
            _ => {
                let session_id = self.session(dice).0.to_vec();
                let author = if dice.percent(90) {
                    Identity::Node(1 + dice.below(4))
                } else {
                    self.somebody(dice)
                };
                Ask::new(author, Body::Seal(v1::Seal { session_id }))
            }
        }
    }

    pub(super) fn session(&self, dice: &mut Dice) -> (SessionId, String) {
        let known = dice.recent(&self.sessions).cloned();
        known
            .filter(|_| dice.percent(96))
            .unwrap_or_else(|| (SessionId::from_bytes([9; 16]), AGENTS[0].to_owned()))
    }

    /// An agent, a gateway or an operator, whoever it may concern.
    fn somebody(&self, dice: &mut Dice) -> Identity {
        match dice.below(4) {
            0 => Identity::Agent((*dice.pick(&AGENTS)).to_owned()),
            1 => Identity::Gateway((*dice.pick(&GATEWAYS)).to_owned()),
            2 => Identity::Operator("olive".to_owned()),
            _ => self.operator(dice),
        }
    }

    /// The agent's own signature, a gateway's, both, or a wrong one.
    fn present(dice: &mut Dice, agent: &str) -> (Identity, Vec<Identity>) {
        let by_agent = Identity::Agent(agent.to_owned());
        let by_gateway = Identity::Gateway((*dice.pick(&GATEWAYS)).to_owned());
        match dice.below(20) {
            0..14 => (by_agent, Vec::new()),
            14 => (by_gateway, Vec::new()),
            15..17 => (by_agent, vec![by_gateway]),
            17 => (by_gateway, vec![by_agent]),
            18 => (
                Identity::Agent((*dice.pick(&AGENTS)).to_owned()),
                Vec::new(),
            ),
            _ => (Identity::Operator("olive".to_owned()), Vec::new()),
        }
    }

    fn authorize(&self, dice: &mut Dice) -> Ask {
        let (session, mut agent) = self.session(dice);
        if dice.percent(4) {
            (*dice.pick(&AGENTS)).clone_into(&mut agent);
        }
        let tool = *dice.pick(&TOOLS);
        let (author, cosigners) = Self::present(dice, &agent);
        let mut ask = Ask::new(author, authorize_body(&agent, session, tool));
        ask.cosigners = cosigners;
        if dice.percent(3)
            && let Body::Authorize(body) = &mut ask.body
        {
            body.trace_id = vec![1; 15];
        }
        let input = if dice.percent(85) {
            fitting(dice, tool)
        } else {
            *dice.pick(&INPUTS)
        };
        if dice.percent(97) {
            ask = ask.with(CompartmentKind::Input, input.as_bytes());
        }
        if dice.percent(2) {
            ask = ask.with(CompartmentKind::Input, &vec![b' '; 300_000]);
        }
        if dice.percent(15) {
            let facts = v1::ResourceFacts {
                id: "vault".to_owned(),
                r#type: "Box".to_owned(),
                parents: vec!["a".to_owned(), "b".to_owned()],
                attributes: Vec::new(),
            };
            ask = ask.with(CompartmentKind::Resource, &facts.encode_to_vec());
        }
        ask
    }

    /// Faithful, late, forged, changed, twice, or of nothing at all.
    fn record(&self, dice: &mut Dice) -> Ask {
        let Some(decided) = dice.recent(&self.decisions).cloned() else {
            return self.authorize(dice);
        };
        let (author, cosigners) = Self::present(dice, &decided.agent);
        let executed = match dice.below(10) {
            0 => vec![3; 32],
            1 => Vec::new(),
            2 => vec![1],
            _ => decided.input_digest,
        };
        let status = match dice.below(10) {
            0..6 => 1,
            other => i32::try_from(other - 4).expect("a small number"),
        };
        let body = Body::Record(v1::Record {
            decision_index: if dice.percent(95) {
                decided.leaf
            } else {
                dice.below(decided.leaf + 50)
            },
            status,
            started_at_us: if dice.percent(30) {
                self.now_us - dice.below(300 * SECOND)
            } else {
                0
            },
            executed_input_digest: executed,
            ..v1::Record::default()
        });
        let mut ask = Ask::new(author, body);
        ask.cosigners = cosigners;
        if dice.percent(60) {
            let outputs = [r#"{"ok": true}"#, r#"{"ok": false}"#, "null", "\u{1}"];
            ask = ask.with(CompartmentKind::Output, dice.pick(&outputs).as_bytes());
        }
        ask
    }

    /// Once, twice, late, by others, of something else.
    fn redeem(&self, dice: &mut Dice) -> Ask {
        let Some(decided) = dice.recent(&self.decisions).cloned() else {
            return self.authorize(dice);
        };
        let (author, cosigners) = Self::present(dice, &decided.agent);
        let input_digest = match dice.below(20) {
            0 => vec![3; 32],
            1 => Vec::new(),
            _ => decided.input_digest,
        };
        let body = Body::Redeem(v1::Redeem {
            decision_index: if dice.percent(95) {
                decided.leaf
            } else {
                dice.below(decided.leaf + 50)
            },
            input_digest,
        });
        let mut ask = Ask::new(author, body);
        ask.cosigners = cosigners;
        ask
    }

    fn open_session(&self, dice: &mut Dice) -> Ask {
        let child = dice.percent(30);
        let (parent, of_parent) = self.session(dice);
        let agent = if child && dice.percent(70) {
            of_parent.clone()
        } else {
            (*dice.pick(&AGENTS)).to_owned()
        };
        let author = match dice.below(10) {
            0..4 => Identity::Operator("olive".to_owned()),
            4..6 => Identity::Agent(agent.clone()),
            6 => Identity::Agent(of_parent),
            7 => Identity::Operator("root".to_owned()),
            _ => self.somebody(dice),
        };
        let scopes: [&[&str]; 5] = [
            &["*"],
            &["*"],
            &["bank/*"],
            &["bank/pay", "bank/read"],
            &["b", "a"],
        ];
        let body = Body::OpenSession(v1::OpenSession {
            agent,
            parent: if child { parent.to_vec() } else { Vec::new() },
            scope: dice
                .pick(&scopes)
                .iter()
                .map(|scope| (*scope).to_owned())
                .collect(),
            ttl_s: *dice.pick(&[0, 0, 0, 30, 7_200, 86_400, 86_401]),
            ..v1::OpenSession::default()
        });
        let mut told = v1::SessionContext {
            purpose: "to test".to_owned(),
            ..v1::SessionContext::default()
        };
        if dice.percent(40) {
            told.subject = Some(v1::Subject {
                iss: "idp".to_owned(),
                sub: format!("user-{}", dice.below(3)),
            });
        }
        if dice.percent(20) {
            told.grants = vec![v1::StringSet {
                name: "to".to_owned(),
                values: vec!["alice".to_owned()],
            }];
        }
        Ask::new(author, body).with(CompartmentKind::Context, &told.encode_to_vec())
    }
}
