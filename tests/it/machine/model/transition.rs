//! What the model is asked: plain data, so that a failing run shrinks.

use proptest::prelude::*;

pub(super) const AGENTS: u8 = 2;
/// The operators whose roles come and go.
pub(super) const OPERATORS: u8 = 2;

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
    Redeem {
        agent: u8,
        key: u8,
        decision: u8,
        changed: bool,
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
    /// Clocks are found to have been so far ahead; if it is refused, they stay as they were.
    AdjustTime {
        seconds: u32,
        by: By,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tool {
    Read,
    Pay,
    /// Arguments that the schema does not know.
    Malformed,
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
        18 => (agent(), key(), any::<u8>(), prop::bool::weighted(0.1))
            .prop_map(|(agent, key, decision, changed)| Transition::Redeem { agent, key, decision, changed }),
        10 => (agent(), by(), prop::bool::weighted(0.2), ttl_s())
            .prop_map(|(agent, by, pay_only, ttl_s)| Transition::Open { agent, by, pay_only, ttl_s }),
        2 => (any::<u8>(), by()).prop_map(|(session, by)| Transition::Close { session, by }),
        2 => (any::<u8>(), prop_oneof![3 => Just(By::Node), 1 => by()])
            .prop_map(|(session, by)| Transition::Seal { session, by }),
        6 => (agent(), status, by()).prop_map(|(agent, status, by)| Transition::SetStatus { agent, status, by }),
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
        1 => (prop_oneof![1 => 0..10_u32, 3 => 500..200_000_u32], by())
            .prop_map(|(seconds, by)| Transition::AdjustTime { seconds, by }),
    ]
    .boxed()
}

/// Who signs.
pub(super) fn author(transition: &Transition) -> By {
    match transition {
        Transition::Authorize { agent, key, .. } | Transition::Redeem { agent, key, .. } => {
            By::Agent(*agent, *key)
        }
        Transition::Open { by, .. }
        | Transition::Close { by, .. }
        | Transition::Seal { by, .. }
        | Transition::SetStatus { by, .. }
        | Transition::AddKey { by, .. }
        | Transition::RetireKey { by, .. }
        | Transition::SetHalt { by, .. }
        | Transition::ClearHalt { by, .. }
        | Transition::AdjustTime { by, .. } => *by,
        Transition::SetRoles { .. }
        | Transition::Replay { .. }
        | Transition::ReuseId { .. }
        | Transition::Stale { .. }
        | Transition::Wait { .. } => By::Root,
    }
}

/// The same identity, whichever key it signs with.
pub(super) fn same_person(a: By, b: By) -> bool {
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
