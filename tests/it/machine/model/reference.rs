//! The model: what a ledger must remember, and what it must answer.
//!
//! It leaves out parents, gateways, erasure and changes of bundles: the determinism test covers those.

use std::collections::BTreeMap;

use proptest::prelude::*;

pub(super) const AGENTS: u8 = 2;
/// The operators whose roles come and go.
pub(super) const OPERATORS: u8 = 2;
const SECOND: u64 = 1_000_000;
const HOUR: u64 = 3_600 * SECOND;

/// What the model can reach and every long test must meet.
pub(super) const KINDS: [&str; 21] = [
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
];

/// Who gives a command that several may give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Root,
    /// The owner of every agent.
    Olive,
    /// An operator whose roles come and go.
    Operator(u8),
    /// An agent, with its key of this number.
    Agent(u8, u8),
    Node,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Active,
    Suspended,
    Revoked,
}

/// One thing that is asked: plain data, so that a failing run shrinks.
#[derive(Debug, Clone)]
pub(super) enum Transition {
    Authorize {
        agent: u8,
        key: u8,
        session: u8,
        tool: Tool,
    },
    Open {
        agent: u8,
        by: By,
        pay_only: bool,
        ttl_s: u32,
    },
    Close {
        session: u8,
        by: By,
    },
    Seal {
        session: u8,
        by: By,
    },
    SetStatus {
        agent: u8,
        status: Status,
        by: By,
    },
    AddKey {
        agent: u8,
        key: u8,
        days: u8,
        by: By,
    },
    RetireKey {
        agent: u8,
        key: u8,
        by: By,
    },
    SetHalt {
        halt: u8,
        agent: Option<u8>,
        ttl_s: u32,
        by: By,
    },
    ClearHalt {
        halt: u8,
        by: By,
    },
    SetRoles {
        operator: u8,
        admin: bool,
        responder: bool,
    },
    Replay {
        command: u8,
    },
    ReuseId {
        command: u8,
    },
    Stale {
        seconds: u32,
    },
    Wait {
        seconds: u32,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tool {
    Read,
    Pay,
    /// Arguments that the schema does not know.
    Malformed,
}

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
struct Session {
    agent: u8,
    pay_only: bool,
    expires_us: u64,
    by: By,
    count: u64,
    ended: Option<&'static str>,
}

#[derive(Debug, Clone)]
struct KeyOf {
    ends_us: u64,
    retired: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) expected: Expected,
    now_us: u64,
    last_us: u64,
    leaf: u64,
    sessions: Vec<Session>,
    status: BTreeMap<u8, (Status, Option<By>)>,
    keys: BTreeMap<(u8, u8), KeyOf>,
    halts: BTreeMap<u8, (Option<u8>, u64)>,
    roles: BTreeMap<u8, (bool, bool)>,
    payments: BTreeMap<u8, Vec<u64>>,
    /// What was sent: who, under which entry if there is one.
    sent: Vec<(By, Option<u64>)>,
}

pub(super) fn transitions() -> BoxedStrategy<Transition> {
    let agent = || 0..AGENTS;
    let key = || prop_oneof![6 => Just(0_u8), 1 => 1..3_u8];
    let agent_by = (agent(), key()).prop_map(|(agent, key)| By::Agent(agent, key));
    let by = || {
        prop_oneof![
            4 => Just(By::Root), 3 => Just(By::Olive), 3 => (0..OPERATORS).prop_map(By::Operator), 2 => agent_by.clone(),
            1 => Just(By::Node),
        ]
    };
    let status = prop_oneof![
        6 => Just(Status::Suspended), 9 => Just(Status::Active), 1 => Just(Status::Revoked)
    ];
    let tool = prop_oneof![2 => Just(Tool::Read), 8 => Just(Tool::Pay), 1 => Just(Tool::Malformed)];
    let ttl_s = || prop_oneof![3 => Just(0_u32), 1 => 1..100_u32];
    prop_oneof![
        30 => (agent(), key(), any::<u8>(), tool)
            .prop_map(|(agent, key, session, tool)| Transition::Authorize { agent, key, session, tool }),
        10 => (agent(), by(), prop::bool::weighted(0.2), ttl_s())
            .prop_map(|(agent, by, pay_only, ttl_s)| Transition::Open { agent, by, pay_only, ttl_s }),
        2 => (any::<u8>(), by()).prop_map(|(session, by)| Transition::Close { session, by }),
        2 => (any::<u8>(), prop_oneof![3 => Just(By::Node), 1 => by()])
            .prop_map(|(session, by)| Transition::Seal { session, by }),
        4 => (agent(), status, by()).prop_map(|(agent, status, by)| Transition::SetStatus { agent, status, by }),
        3 => (agent(), 1..3_u8, 1..3_u8, by())
            .prop_map(|(agent, key, days, by)| Transition::AddKey { agent, key, days, by }),
        2 => (agent(), 0..3_u8, by()).prop_map(|(agent, key, by)| Transition::RetireKey { agent, key, by }),
        3 => (0..3_u8, prop::option::of(agent()), prop_oneof![1 => Just(0_u32), 4 => 1..60_u32], by())
            .prop_map(|(halt, agent, ttl_s, by)| Transition::SetHalt { halt, agent, ttl_s, by }),
        5 => (0..3_u8, by()).prop_map(|(halt, by)| Transition::ClearHalt { halt, by }),
        3 => (0..OPERATORS, any::<bool>(), any::<bool>())
            .prop_map(|(operator, admin, responder)| Transition::SetRoles { operator, admin, responder }),
        3 => any::<u8>().prop_map(|command| Transition::Replay { command }),
        2 => any::<u8>().prop_map(|command| Transition::ReuseId { command }),
        1 => (301..10_000_u32).prop_map(|seconds| Transition::Stale { seconds }),
        4 => prop_oneof![6 => 1..30_u32, 2 => 500..4_000_u32, 1 => 86_400..200_000_u32]
            .prop_map(|seconds| Transition::Wait { seconds }),
    ]
    .boxed()
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
            Transition::Replay { command } => self.again(*command, true),
            Transition::ReuseId { command } => self.again(*command, false),
            Transition::Stale { .. } => {
                self.sent.push((By::Root, None));
                Expected::Refused("Stale")
            }
            _ => self.command(transition),
        };
    }

    fn time(&self) -> u64 {
        self.now_us.max(self.last_us + 1)
    }

    fn key_refusal(&self, by: By) -> Option<&'static str> {
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
        Expected::Entry {
            leaf,
            what: what.to_owned(),
            link,
        }
    }

    fn answer(&mut self, transition: &Transition) -> (&'static str, Option<Link>) {
        let result = match transition.clone() {
            Transition::Authorize {
                agent,
                session,
                tool,
                ..
            } => {
                return self.authorize(agent, session, tool);
            }
            Transition::Open {
                agent,
                by,
                pay_only,
                ttl_s,
            } => {
                return self.open(agent, by, pay_only, ttl_s);
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
            Transition::Replay { .. }
            | Transition::ReuseId { .. }
            | Transition::Stale { .. }
            | Transition::Wait { .. } => "Nothing",
        };
        (result, None)
    }

    fn halted(&self, agent: u8) -> bool {
        let now = self.time();
        let mut in_force = self
            .halts
            .values()
            .filter(|(_, ends)| *ends == 0 || *ends > now);
        in_force.any(|(whom, _)| whom.is_none_or(|whom| whom == agent))
    }

    fn authorize(&mut self, agent: u8, session: u8, tool: Tool) -> (&'static str, Option<Link>) {
        let now = self.time();
        let found =
            place(session, self.sessions.len()).filter(|at| self.sessions[*at].agent == agent);
        let over = found.and_then(|at| {
            let session = &self.sessions[at];
            session
                .ended
                .or((session.expires_us <= now).then_some("SessionExpired"))
        });
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
        let link = found.map(|at| self.next_link(at, over.is_some()));
        (reason, link)
    }

    /// Number 0 is late.
    fn next_link(&mut self, at: usize, late: bool) -> Link {
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

    fn is_admin(&self, by: By) -> bool {
        by == By::Root
            || matches!(by, By::Operator(id) if self.roles.get(&id).is_some_and(|roles| roles.0))
    }

    fn is_responder(&self, by: By) -> bool {
        self.is_admin(by)
            || matches!(by, By::Operator(id) if self.roles.get(&id).is_some_and(|roles| roles.1))
    }

    fn close(&mut self, session: u8, by: By) -> &'static str {
        let Some(at) = place(session, self.sessions.len()) else {
            return "NotFound";
        };
        let session = &self.sessions[at];
        let own =
            matches!(by, By::Agent(id, _) if id == session.agent) || same_person(by, session.by);
        if !own && by != By::Olive && !self.is_responder(by) {
            return "NotPermitted";
        }
        self.end(at, "SessionClosed")
    }

    fn seal(&mut self, session: u8, by: By) -> &'static str {
        if by != By::Node {
            return "NotPermitted";
        }
        let Some(at) = place(session, self.sessions.len()) else {
            return "NotFound";
        };
        if self.sessions[at].expires_us > self.time() {
            return "FailedPrecondition";
        }
        self.end(at, "SessionExpired")
    }

    fn end(&mut self, at: usize, how: &'static str) -> &'static str {
        if self.sessions[at].ended.is_some() {
            return "FailedPrecondition";
        }
        self.sessions[at].ended = Some(how);
        "Applied"
    }

    fn set_status(&mut self, agent: u8, to: Status, by: By) -> &'static str {
        let (from, suspended_by) = self.status[&agent];
        if from == to || from == Status::Revoked {
            return "FailedPrecondition";
        }
        let may = match to {
            Status::Suspended => by == By::Olive || self.is_responder(by),
            Status::Active => {
                self.is_admin(by) || (by == By::Olive && suspended_by == Some(By::Olive))
            }
            Status::Revoked => self.is_admin(by),
        };
        if !may {
            return "NotPermitted";
        }
        self.status.insert(agent, (to, Some(by)));
        if to == Status::Revoked {
            for (_, key) in self
                .keys
                .iter_mut()
                .filter(|((whose, _), _)| *whose == agent)
            {
                key.retired = true;
            }
        }
        "Applied"
    }

    fn keys_refused(&self, agent: u8, by: By) -> Option<&'static str> {
        if by != By::Olive && !self.is_admin(by) {
            return Some("NotPermitted");
        }
        (self.status[&agent].0 == Status::Revoked).then_some("FailedPrecondition")
    }

    fn add_key(&mut self, agent: u8, key: u8, days: u8, by: By) -> &'static str {
        if let Some(refused) = self.keys_refused(agent, by) {
            return refused;
        }
        if self.keys.contains_key(&(agent, key)) {
            return "KeyRefused";
        }
        let ends_us = self.now_us + u64::from(days) * 24 * HOUR;
        self.keys.insert(
            (agent, key),
            KeyOf {
                ends_us,
                retired: false,
            },
        );
        "Applied"
    }

    fn retire_key(&mut self, agent: u8, key: u8, by: By) -> &'static str {
        if !self.keys.contains_key(&(agent, key)) {
            return "NotFound";
        }
        if let Some(refused) = self.keys_refused(agent, by) {
            return refused;
        }
        let key = self.keys.get_mut(&(agent, key)).expect("looked up");
        if std::mem::replace(&mut key.retired, true) {
            "FailedPrecondition"
        } else {
            "Applied"
        }
    }

    fn set_halt(&mut self, halt: u8, agent: Option<u8>, ttl_s: u32, by: By) -> &'static str {
        if !self.is_responder(by) {
            return "NotPermitted";
        }
        let now = self.time();
        self.halts
            .retain(|id, (_, ends)| *id != halt || *ends == 0 || *ends > now);
        if self.halts.contains_key(&halt) {
            return "AlreadyExists";
        }
        // Halts whose time is over make room for others.
        self.halts.retain(|_, (_, ends)| *ends == 0 || *ends > now);
        let ends = if ttl_s == 0 {
            0
        } else {
            self.now_us + u64::from(ttl_s) * SECOND
        };
        self.halts.insert(halt, (agent, ends));
        "Applied"
    }

    fn clear_halt(&mut self, halt: u8, by: By) -> &'static str {
        if !self.halts.contains_key(&halt) {
            return "NotFound";
        }
        if !self.is_admin(by) {
            return "NotPermitted";
        }
        self.halts.remove(&halt);
        "Applied"
    }
}

/// Who signs.
pub(super) fn author(transition: &Transition) -> By {
    match transition {
        Transition::Authorize { agent, key, .. } => By::Agent(*agent, *key),
        Transition::Open { by, .. }
        | Transition::Close { by, .. }
        | Transition::Seal { by, .. }
        | Transition::SetStatus { by, .. }
        | Transition::AddKey { by, .. }
        | Transition::RetireKey { by, .. }
        | Transition::SetHalt { by, .. }
        | Transition::ClearHalt { by, .. } => *by,
        Transition::SetRoles { .. }
        | Transition::Replay { .. }
        | Transition::ReuseId { .. }
        | Transition::Stale { .. }
        | Transition::Wait { .. } => By::Root,
    }
}

/// The same identity, whichever key it signs with.
fn same_person(a: By, b: By) -> bool {
    match (a, b) {
        (By::Agent(a, _), By::Agent(b, _)) => a == b,
        _ => a == b,
    }
}

/// The place a number means: mostly a late one; past the end if the list is empty or the number is 255.
pub(super) fn place(number: u8, len: usize) -> Option<usize> {
    if number == u8::MAX || len == 0 {
        return None;
    }
    let number = usize::from(number);
    Some(if number < 200 {
        len - 1 - number % len.min(4)
    } else {
        number % len
    })
}

/// One of what was sent.
pub(super) fn pick<T>(number: u8, list: &[T]) -> Option<&T> {
    place(number, list.len()).map(|at| &list[at])
}
