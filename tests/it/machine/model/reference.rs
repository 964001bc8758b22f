//! The model: what a ledger must remember, and what it must answer.
//!
//! It leaves out parents, gateways, erasure and changes of bundles: the determinism test covers those.

use std::collections::BTreeMap;

use super::permits::Permit;
use super::transition::{AGENTS, By, Status, Tool, Transition, author, pick, place};

pub(super) const SECOND: u64 = 1_000_000;
pub(super) const HOUR: u64 = 3_600 * SECOND;

/// What the model can reach and every long test must meet.
pub(super) const KINDS: [&str; 30] = [
    "AllowedByPolicy",
    "ForbiddenByPolicy",
    "Halted",
    "AgentSuspended",
    "SessionUnknown",
    "SessionClosed",
    "SessionExpired",
    "OutOfScope",
    "SchemaMismatch",
    "Applied",
    "NotPermitted",
    "NotFound",
    "AlreadyExists",
    "FailedPrecondition",
    "AgentNotActive",
    "HaltedOpening",
    "UnknownKey",
    "KeyNotActive",
    "RequestIdReused",
    "Stale",
    "Replayed",
    "Redeemed",
    "AlreadyRedeemed",
    "NotAllowed",
    "PresenterNotPermitted",
    "DecisionUnknown",
    "StateDrift PermitExpired",
    "StateDrift Halted",
    "StateDrift AgentChanged",
    "StateDrift InputChanged",
];

/// What becomes of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expected {
    Nothing,
    Refused(&'static str),
    Replayed(u64),
    Entry {
        leaf: u64,
        what: String,
        link: Option<Link>,
    },
}

impl Expected {
    pub(super) fn kind(&self) -> String {
        match self {
            Self::Nothing => "Nothing".to_owned(),
            Self::Refused(why) => (*why).to_owned(),
            Self::Replayed(_) => "Replayed".to_owned(),
            Self::Entry { what, .. } => what.clone(),
        }
    }
}

/// The session by its number among all openings, the place in its chain, and whether it is late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) session: usize,
    pub(super) number: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) agent: u8,
    pub(super) pay_only: bool,
    pub(super) expires_us: u64,
    pub(super) by: By,
    pub(super) count: u64,
    pub(super) ended: Option<&'static str>,
}

#[derive(Debug, Clone)]
pub(super) struct KeyOf {
    pub(super) ends_us: u64,
    pub(super) retired: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) expected: Expected,
    /// What clocks show.
    pub(super) now_us: u64,
    /// How far the ledger's time is ahead of them.
    pub(super) offset_us: u64,
    pub(super) last_us: u64,
    pub(super) leaf: u64,
    pub(super) sessions: Vec<Session>,
    pub(super) status: BTreeMap<u8, (Status, Option<By>)>,
    pub(super) keys: BTreeMap<(u8, u8), KeyOf>,
    pub(super) halts: BTreeMap<u8, (Option<u8>, u64)>,
    pub(super) roles: BTreeMap<u8, (bool, bool)>,
    pub(super) payments: BTreeMap<u8, Vec<u64>>,
    pub(super) permits: Vec<Permit>,
    /// The leaf of the latest change of an agent's status.
    pub(super) changed_at: BTreeMap<u8, u64>,
    /// What was sent: who, under which entry if there is one.
    pub(super) sent: Vec<(By, Option<u64>)>,
}

impl Model {
    /// As [`super::driver::Driver::new`] leaves the machine: the agents have key 0, every operator exists without roles.
    pub(super) fn new() -> Self {
        let first = super::driver::Driver::new();
        let (now_us, last_us, leaf) = first.beginning();
        let key = KeyOf {
            ends_us: first.keys_end_us(),
            retired: false,
        };
        Self {
            expected: Expected::Nothing,
            now_us,
            offset_us: 0,
            last_us,
            leaf,
            sessions: Vec::new(),
            status: (0..AGENTS)
                .map(|agent| (agent, (Status::Active, None)))
                .collect(),
            keys: (0..AGENTS).map(|agent| ((agent, 0), key.clone())).collect(),
            halts: BTreeMap::new(),
            roles: BTreeMap::new(),
            payments: BTreeMap::new(),
            permits: Vec::new(),
            changed_at: BTreeMap::new(),
            sent: Vec::new(),
        }
    }

    pub(super) fn step(&mut self, transition: &Transition) {
        // Odd steps, so that nothing happens exactly at the end of a window.
        self.now_us += 1_003;
        self.expected = match transition {
            Transition::Wait { seconds } => {
                self.now_us += u64::from(*seconds) * SECOND;
                Expected::Nothing
            }
            Transition::AdjustTime { seconds, .. } => {
                let before = self.offset_us;
                self.now_us -= u64::from(*seconds) * SECOND;
                let off_us = self.time() - (self.now_us + self.offset_us);
                let expected = if off_us > 300 * SECOND && !self.is_admin(author(transition)) {
                    let by = author(transition);
                    self.sent.push((by, None));
                    Expected::Refused(self.key_refusal(by).unwrap_or("Stale"))
                } else {
                    self.command(transition)
                };
                if self.offset_us == before {
                    self.now_us += u64::from(*seconds) * SECOND;
                }
                expected
            }
            Transition::Replay { command } => self.again(*command, true),
            Transition::ReuseId { command } => self.again(*command, false),
            Transition::Stale { .. } => {
                self.sent.push((By::Root, None));
                Expected::Refused("Stale")
            }
            _ => self.command(transition),
        };
    }

    pub(super) fn time(&self) -> u64 {
        (self.now_us + self.offset_us).max(self.last_us + 1)
    }

    pub(super) fn key_refusal(&self, by: By) -> Option<&'static str> {
        let By::Agent(agent, key) = by else {
            return None;
        };
        match self.keys.get(&(agent, key)) {
            None => Some("UnknownKey"),
            Some(key) if key.retired || key.ends_us <= self.time() => Some("KeyNotActive"),
            Some(_) => None,
        }
    }

    fn again(&mut self, command: u8, same: bool) -> Expected {
        let Some((by, leaf)) = pick(command, &self.sent).copied() else {
            return Expected::Nothing;
        };
        // Only what left an entry is sent again.
        let Some(leaf) = leaf else {
            return Expected::Nothing;
        };
        match self.key_refusal(by) {
            Some(refusal) => Expected::Refused(refusal),
            None if same => Expected::Replayed(leaf),
            None => Expected::Refused("RequestIdReused"),
        }
    }

    fn command(&mut self, transition: &Transition) -> Expected {
        let by = author(transition);
        if let Some(refusal) = self.key_refusal(by) {
            self.sent.push((by, None));
            return Expected::Refused(refusal);
        }
        let (what, link) = self.answer(transition);
        let leaf = self.leaf;
        self.leaf += 1;
        self.last_us = self.time();
        self.sent.push((by, Some(leaf)));
        Expected::Entry { leaf, what, link }
    }

    fn answer(&mut self, transition: &Transition) -> (String, Option<Link>) {
        let result = match transition.clone() {
            Transition::Authorize {
                agent,
                key,
                session,
                tool,
            } => {
                let (reason, link) = self.authorize(agent, key, session, tool);
                return (reason.to_owned(), link);
            }
            Transition::Open {
                agent,
                by,
                pay_only,
                ttl_s,
            } => {
                let (result, link) = self.open(agent, by, pay_only, ttl_s);
                return (result.to_owned(), link);
            }
            Transition::Redeem {
                agent,
                decision,
                changed,
                ..
            } => {
                return self.redeem(agent, decision, changed);
            }
            Transition::Close { session, by } => self.close(session, by),
            Transition::Seal { session, by } => self.seal(session, by),
            Transition::SetStatus { agent, status, by } => self.set_status(agent, status, by),
            Transition::AddKey {
                agent,
                key,
                days,
                by,
            } => self.add_key(agent, key, days, by),
            Transition::RetireKey { agent, key, by } => self.retire_key(agent, key, by),
            Transition::SetHalt {
                halt,
                agent,
                ttl_s,
                by,
            } => self.set_halt(halt, agent, ttl_s, by),
            Transition::ClearHalt { halt, by } => self.clear_halt(halt, by),
            Transition::SetRoles {
                operator,
                admin,
                responder,
            } => {
                self.roles.insert(operator, (admin, responder));
                "Applied"
            }
            Transition::AdjustTime { by, .. } => self.adjust_time(by),
            Transition::Replay { .. }
            | Transition::ReuseId { .. }
            | Transition::Stale { .. }
            | Transition::Wait { .. } => "Nothing",
        };
        (result.to_owned(), None)
    }

    pub(super) fn halted(&self, agent: u8) -> bool {
        let now = self.time();
        let mut in_force = self
            .halts
            .values()
            .filter(|(_, ends)| *ends == 0 || *ends > now);
        in_force.any(|(whom, _)| whom.is_none_or(|whom| whom == agent))
    }

    fn authorize(
        &mut self,
        agent: u8,
        key: u8,
        session: u8,
        tool: Tool,
    ) -> (&'static str, Option<Link>) {
        let now = self.time();
        let found =
            place(session, self.sessions.len()).filter(|at| self.sessions[*at].agent == agent);
        let over = found.and_then(|at| self.over(at));
        let paid = self.payments.entry(agent).or_default();
        paid.retain(|at| at + HOUR >= now);
        let reason = if self.halted(agent) {
            "Halted"
        } else if self.status[&agent].0 == Status::Suspended {
            "AgentSuspended"
        } else if self.status[&agent].0 == Status::Revoked {
            "AgentRevoked"
        } else if let Some(at) = found {
            match (over, tool) {
                (Some(over), _) => over,
                (None, Tool::Read) if self.sessions[at].pay_only => "OutOfScope",
                (None, Tool::Malformed) => "SchemaMismatch",
                (None, Tool::Pay) if self.payments[&agent].len() >= 3 => "ForbiddenByPolicy",
                (None, Tool::Pay | Tool::Read) => "AllowedByPolicy",
            }
        } else {
            "SessionUnknown"
        };
        if reason == "AllowedByPolicy" && tool == Tool::Pay {
            self.payments.entry(agent).or_default().push(now);
        }
        self.permits.push(Permit {
            leaf: self.leaf,
            agent,
            key,
            is_allowed: reason == "AllowedByPolicy",
            ends_us: found.map_or(0, |at| self.sessions[at].expires_us.min(now + 60 * SECOND)),
            session: found,
            redeemed: false,
        });
        let link = found.map(|at| self.next_link(at, over.is_some()));
        (reason, link)
    }

    /// How a session ended, if it did.
    pub(super) fn over(&self, at: usize) -> Option<&'static str> {
        let session = &self.sessions[at];
        let expired = session.expires_us <= self.time();
        session
            .ended
            .or_else(|| expired.then_some("SessionExpired"))
    }

    /// Number 0 is late.
    pub(super) fn next_link(&mut self, at: usize, late: bool) -> Link {
        if late {
            return Link {
                session: at,
                number: 0,
            };
        }
        self.sessions[at].count += 1;
        Link {
            session: at,
            number: self.sessions[at].count,
        }
    }

    fn open(
        &mut self,
        agent: u8,
        by: By,
        pay_only: bool,
        ttl_s: u32,
    ) -> (&'static str, Option<Link>) {
        let own = matches!(by, By::Agent(id, _) if id == agent);
        if self.halted(agent) {
            return ("HaltedOpening", None);
        }
        if self.status[&agent].0 != Status::Active {
            return ("AgentNotActive", None);
        }
        if !own && by != By::Olive && !self.is_admin(by) {
            return ("NotPermitted", None);
        }
        let lifetime = if ttl_s == 0 {
            HOUR
        } else {
            u64::from(ttl_s) * SECOND
        };
        let expires_us = self.time() + lifetime;
        self.sessions.push(Session {
            agent,
            pay_only,
            expires_us,
            by,
            count: 0,
            ended: None,
        });
        let link = self.next_link(self.sessions.len() - 1, false);
        ("Applied", Some(link))
    }
}
