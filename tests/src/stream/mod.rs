//! Random streams of commands of every kind, valid and not.
//!
//! One number makes one step, so a stream is a list of numbers: it shrinks by leaving numbers out, and a fixed seed gives a
//! fixed stream. Commands are made against what the ledger has answered so far, because a stream that knows nothing of it
//! would be refused at the door and test only the door.

mod dice;
mod governance;
mod mangle;
mod policies;
mod requests;

use std::collections::BTreeMap;

use crate::kit::{Ask, DAY, SECOND, command, key, public_key};
use ed25519_dalek::SigningKey;
use ledger_core::id::{Identity, SessionId};
use ledger_core::machine::Applied;
use ledger_core::signature::{SignatureDomain, sign_batch};
use ledger_proto::v1::{self, CompartmentKind, entry::Body};
use policy_engine::Bundle;
use prost::Message;

pub use dice::Dice;

pub(super) const AGENTS: [&str; 6] = [
    "bot-0",
    "bot-1",
    "bot-2",
    "bot-3",
    "arn:aws:iam::1:role/bot",
    "spiffe://x/bot",
];
pub(super) const GATEWAYS: [&str; 3] = ["gate-0", "gate-1", "gate-2"];
pub(super) const OPERATORS: [&str; 5] = ["root", "olive", "op-0", "op-1", "op-2"];
pub(super) const NAMESPACES: [&str; 3] = ["team", "lab", "ops/x"];
pub(super) const GROUPS: [&str; 3] = ["approvers", "interns", "night"];

/// A submission and the time of the batch that carries it.
#[derive(Debug, Clone)]
pub struct Step {
    /// The time of the batch, microseconds since 1970.
    pub time_us: u64,
    /// The submission.
    pub submission: v1::Submission,
}

/// A decision that was made, for those who record its outcome.
#[derive(Debug, Clone)]
pub(super) struct Decided {
    pub(super) leaf: u64,
    pub(super) agent: String,
    pub(super) input_digest: Vec<u8>,
}

/// What a stream knows of its ledger.
#[derive(Debug, Clone)]
pub struct Stream {
    origin: String,
    now_us: u64,
    next_id: u64,
    next_key: u64,
    /// The keys of everybody, the newest last and retired ones first.
    keys: BTreeMap<Identity, Vec<SigningKey>>,
    /// Keys that were made to be enrolled, by their public bytes.
    made: BTreeMap<Vec<u8>, SigningKey>,
    sessions: Vec<(SessionId, String)>,
    decisions: Vec<Decided>,
    /// Compartments that were stored.
    stored: Vec<v1::CompartmentRef>,
    halts: Vec<String>,
    sent: Vec<v1::Submission>,
    bundles: Vec<Bundle>,
    next_epoch_nodes: Vec<u64>,
    /// The last entry: its leaf and its time.
    last: Option<(u64, u64)>,
    /// By how much clocks were put back for an adjustment of the ledger's time that was not applied so far.
    set_back_us: u64,
}

impl Stream {
    /// For a ledger with "root", "olive" and the namespace "team".
    pub fn new(origin: &str, now_us: u64) -> Self {
        let mut keys = BTreeMap::new();
        for identity in everybody() {
            keys.insert(identity.clone(), vec![key(&identity.to_string())]);
        }
        Self {
            origin: origin.to_owned(),
            now_us,
            next_id: 1,
            next_key: 1,
            keys,
            made: BTreeMap::new(),
            sessions: Vec::new(),
            decisions: Vec::new(),
            stored: Vec::new(),
            halts: Vec::new(),
            sent: Vec::new(),
            bundles: policies::all(),
            next_epoch_nodes: vec![1, 2, 3],
            last: None,
            set_back_us: 0,
        }
    }

    /// The next commands that a number asks for: one, or a few under one signature.
    pub fn next(&mut self, number: u64) -> Vec<Step> {
        let mut dice = Dice::new(number);
        self.now_us += std::mem::take(&mut self.set_back_us);
        self.let_time_pass(&mut dice);
        // A clock that is behind must not matter: entry times come from the ledger then.
        let time_us = if dice.percent(10) {
            self.now_us - dice.below(20 * SECOND)
        } else {
            self.now_us
        };
        let mut submissions = self.submissions(&mut dice);
        if dice.percent(5) {
            for submission in &mut submissions {
                mangle::mangle(&mut dice, submission);
            }
        }
        self.sent.extend(submissions.iter().cloned());
        submissions
            .into_iter()
            .map(|submission| Step {
                time_us,
                submission,
            })
            .collect()
    }

    /// Mostly no time at all, so that many commands share a moment; seldom so much that keys end.
    const fn let_time_pass(&mut self, dice: &mut Dice) {
        self.now_us += match dice.below(4_000) {
            0..2_000 => 0,
            2_000..3_800 => dice.below(50_000),
            3_800..3_985 => dice.below(20 * SECOND),
            3_985..3_997 => dice.below(7_200 * SECOND),
            3_997..3_999 => dice.below(2 * DAY),
            _ => dice.below(120 * DAY),
        };
    }

    fn submissions(&mut self, dice: &mut Dice) -> Vec<v1::Submission> {
        match dice.below(100) {
            0..4 => self.replay(dice),
            4..6 => {
                let late = dice.percent(50);
                let ask = self.ask(dice);
                let shift = 301 * SECOND + dice.below(DAY);
                let issued = if late {
                    self.now_us - shift
                } else {
                    self.now_us + shift
                };
                vec![self.sign(dice, ask, issued)]
            }
            6..10 => self.sign_group(dice),
            _ => {
                let ask = self.ask(dice);
                let issued = self.now_us;
                vec![self.sign(dice, ask, issued)]
            }
        }
    }

    fn ask(&mut self, dice: &mut Dice) -> Ask {
        match dice.below(100) {
            0..58 => self.request(dice),
            _ => self.govern(dice),
        }
    }

    /// What was sent before: as it was, or another command under its id.
    fn replay(&mut self, dice: &mut Dice) -> Vec<v1::Submission> {
        let Some(earlier) = dice.recent(&self.sent).cloned() else {
            return Vec::new();
        };
        if dice.percent(70) {
            return vec![earlier];
        }
        let decoded = earlier
            .signed
            .as_ref()
            .and_then(|signed| v1::Command::decode(signed.command.as_slice()).ok());
        let author = decoded
            .as_ref()
            .and_then(|command| Identity::parse(command.author.as_ref()?).ok());
        let (Some(mut command), Some(author)) = (decoded, author) else {
            return vec![earlier];
        };
        command.issued_at_us = self.now_us;
        // Mostly without those who stood beside it, and it says so.
        if dice.percent(90) {
            command.cosigners.clear();
        }
        let commands = vec![(command, earlier.compartments)];
        self.sign_commands(dice, &author, &[], commands)
    }

    /// Some commands of one author under one signature.
    fn sign_group(&mut self, dice: &mut Dice) -> Vec<v1::Submission> {
        let first = self.ask(dice);
        let mut asks = vec![first.clone()];
        for _ in 0..dice.below(16) {
            let mut ask = self.ask(dice);
            if ask.author == first.author || dice.percent(5) {
                ask.author = first.author.clone();
                asks.push(ask);
            }
        }
        // The group is signed by its author alone; now and then one of it names others.
        if dice.percent(90) {
            asks.iter_mut().for_each(|ask| ask.cosigners.clear());
        }
        let issued = self.now_us;
        let commands = asks
            .into_iter()
            .map(|ask| self.command(ask, issued))
            .collect();
        self.sign_commands(dice, &first.author, &[], commands)
    }

    fn sign(&mut self, dice: &mut Dice, ask: Ask, issued_at_us: u64) -> v1::Submission {
        let (author, cosigners) = (ask.author.clone(), ask.cosigners.clone());
        let command = self.command(ask, issued_at_us);
        let mut signed = self.sign_commands(dice, &author, &cosigners, vec![command]);
        signed.pop().expect("one command, one submission")
    }

    fn command(&mut self, ask: Ask, issued_at_us: u64) -> (v1::Command, Vec<v1::Compartment>) {
        let number = self.next_id;
        self.next_id += 1;
        let mut request_id = vec![7; 16];
        request_id[8..].copy_from_slice(&number.to_be_bytes());
        command(ask, request_id, issued_at_us)
    }

    fn sign_commands(
        &mut self,
        dice: &mut Dice,
        author: &Identity,
        cosigners: &[Identity],
        commands: Vec<(v1::Command, Vec<v1::Compartment>)>,
    ) -> Vec<v1::Submission> {
        let bytes: Vec<Vec<u8>> = commands
            .iter()
            .map(|(command, _)| command.encode_to_vec())
            .collect();
        let batch: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
        let mut of_each = vec![Vec::new(); bytes.len()];
        for identity in std::iter::once(author).chain(cosigners) {
            let key = self.key_of(dice, identity);
            let key_id = public_key(&key).key_id();
            let domain = SignatureDomain::of(author);
            let signatures =
                sign_batch(domain, &self.origin, &batch, key_id, &key).expect("a small batch");
            for (own, signature) in of_each.iter_mut().zip(signatures) {
                own.push(signature);
            }
        }
        let mut submissions = Vec::new();
        for ((command, mut signatures), (_, compartments)) in
            bytes.iter().cloned().zip(of_each).zip(commands)
        {
            signatures.sort_by(|a, b| a.key_id.cmp(&b.key_id));
            submissions.push(v1::Submission {
                signed: Some(v1::SignedCommand {
                    command,
                    signatures,
                }),
                compartments,
            });
        }
        submissions
    }

    /// Mostly the newest key, sometimes an older one, which may have been retired.
    fn key_of(&self, dice: &mut Dice, identity: &Identity) -> SigningKey {
        let Some(keys) = self.keys.get(identity) else {
            return key(&identity.to_string());
        };
        let newest = keys.last().expect("everybody has a key");
        if dice.percent(90) {
            newest.clone()
        } else {
            dice.pick(keys).clone()
        }
    }

    /// Mostly about the ledger as it ends, and mostly after clocks were found to have been ahead.
    fn adjust_time(&mut self, dice: &mut Dice) -> v1::command::Body {
        if dice.percent(90) {
            self.set_back_us = dice.below(900 * SECOND);
            self.now_us -= self.set_back_us;
        }
        let (leaf, last_entry_time_us) = self.last.unwrap_or_default();
        v1::command::Body::AdjustTime(v1::AdjustTime {
            tree_size: leaf + if dice.percent(90) { 1 } else { 2 },
            last_entry_time_us,
        })
    }

    /// Learns from what became of a step.
    pub fn learn(&mut self, applied: &Applied) {
        let Applied::Appended(appended) = applied else {
            return;
        };
        let entry = &appended.entry;
        self.last = Some((appended.index.0, entry.time_us));
        self.stored
            .extend(entry.stored().map(|kind| v1::CompartmentRef {
                index: appended.index.0,
                kind: kind.into(),
            }));
        let Some(command) = ledger_core::entry::command(entry).expect("decodes") else {
            return;
        };
        match (&entry.body, command.body) {
            (Some(Body::Decision(_)), Some(v1::command::Body::Authorize(asked))) => {
                self.decisions.push(Decided {
                    leaf: appended.index.0,
                    agent: asked.agent,
                    input_digest: command
                        .commitments
                        .iter()
                        .find(|commitment| commitment.kind() == CompartmentKind::Input)
                        .map(|commitment| commitment.digest.clone())
                        .unwrap_or_default(),
                });
            }
            (Some(Body::SessionOpening(opening)), Some(v1::command::Body::OpenSession(asked)))
                if opening.result() == v1::Result::Applied =>
            {
                let id = SessionId::from_slice(&command.request_id).expect("16 bytes");
                self.sessions.push((id, asked.agent));
            }
            (Some(Body::Governance(governance)), Some(body))
                if governance.result() == v1::Result::Applied =>
            {
                self.learn_keys(&body);
                if matches!(body, v1::command::Body::AdjustTime(_)) {
                    self.set_back_us = 0;
                }
            }
            _ => {}
        }
    }

    /// Whose keys are which from now on.
    fn learn_keys(&mut self, body: &v1::command::Body) {
        if let v1::command::Body::RetireKey(ask) = body {
            for keys in self.keys.values_mut() {
                let retired = |key: &SigningKey| public_key(key).key_id().to_vec() == ask.key_id;
                keys.sort_by_key(|key| !retired(key));
            }
        }
        for (identity, enrolment) in governance::enrolments(body) {
            let bytes = enrolment.key.as_ref().map(|key| &key.bytes);
            let made = bytes.and_then(|bytes| self.made.get(bytes)).cloned();
            self.keys.entry(identity).or_default().extend(made);
        }
    }
}

/// Everybody that a stream speaks for, registered or not.
fn everybody() -> Vec<Identity> {
    let operators = OPERATORS.map(|id| Identity::Operator(id.to_owned()));
    let agents = AGENTS.map(|id| Identity::Agent(id.to_owned()));
    let gateways = GATEWAYS.map(|id| Identity::Gateway(id.to_owned()));
    let nodes = (1..=9).map(Identity::Node);
    let all = operators.into_iter().chain(agents).chain(gateways);
    all.chain(nodes).chain([Identity::Recovery]).collect()
}
