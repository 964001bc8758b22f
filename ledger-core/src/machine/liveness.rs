//! What still holds of an answer that was given before.
//!
//! A retry gets the same entry as the first time. By then the permit may have ended, the agent may be suspended, or a halt
//! may be in force; whoever relies on the answer has to know.

use ledger_proto::v1::{self, IdentityStatus};

use super::authorize::action_id;
use super::halt::{self, Attempt};
use super::redeem::redemption_of;
use super::session::{Standing, standing};
use super::time;
use super::tip::read_ledger;
use crate::hash::LeafIndex;
use crate::id::SessionId;
use crate::state::{Key, StateError, Txn};
use crate::{entry, ledger};

/// What holds now. For entries other than decisions only `time_us` says anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Liveness {
    /// The time this was looked at, in microseconds since 1970.
    pub time_us: u64,
    /// The entry is an ALLOW and its permit has not ended.
    pub permit_lives: bool,
    /// The agent is active.
    pub agent_active: bool,
    /// The session is open.
    pub session_open: bool,
    /// A halt that covers the request is in force.
    pub halted: bool,
    /// The permit was redeemed.
    pub redeemed: bool,
}

impl Liveness {
    /// True if the allow that the entry holds can still be acted on.
    #[must_use]
    pub const fn permits(&self) -> bool {
        self.permit_lives
            && self.agent_active
            && self.session_open
            && !self.halted
            && !self.redeemed
    }
}

pub(super) fn now(txn: &Txn<'_>, leaf: LeafIndex, time_us: u64) -> Result<Liveness, StateError> {
    let mut now = Liveness {
        time_us,
        ..Liveness::default()
    };
    let Some(found) = ledger::entry(txn, leaf)? else {
        return Ok(now);
    };
    let Some(v1::entry::Body::Decision(decision)) = &found.body else {
        return Ok(now);
    };
    let request = entry::command(&found)
        .ok()
        .flatten()
        .and_then(|command| command.body);
    let Some(v1::command::Body::Authorize(request)) = request else {
        return Ok(now);
    };
    let ledger = read_ledger(txn)?;
    let permit_ends_at_us = time::ends_at(&ledger, found.time_us, decision.permit_expires_at_us);
    now.permit_lives = decision.verdict() == v1::Verdict::Allow && time_us < permit_ends_at_us;
    let agent: Option<v1::AgentRecord> = txn.read(&Key::agent(&request.agent))?;
    now.agent_active = agent
        .as_ref()
        .is_some_and(|agent| agent.status() == IdentityStatus::Active);
    if let Some(id) = decision
        .chain
        .as_ref()
        .and_then(|link| SessionId::from_slice(&link.session_id).ok())
    {
        let session: Option<v1::SessionRecord> = txn.read(&Key::session(id))?;
        if let Some(session) = session {
            now.session_open = standing(txn, &ledger, time_us, &session)? == Standing::Open;
        }
    }
    let action = request.tool.as_ref().map(action_id).unwrap_or_default();
    let attempt = Attempt {
        agent_id: &request.agent,
        agent: agent.as_ref(),
        action: Some(&action),
    };
    now.halted = halt::stops(txn, time_us, attempt)?;
    now.redeemed = redemption_of(txn, leaf)?.is_some();
    Ok(now)
}
