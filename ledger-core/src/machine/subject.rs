//! The decision that a later command speaks of: a redemption, or an outcome.

use ledger_proto::v1::{self, CompartmentKind};

use super::authorize::session_of;
use super::context::Context;
use super::session::Standing;
use super::time;
use crate::hash::LeafIndex;
use crate::id::{KeyId, RequestId, SessionId};
use crate::state::{Key, StateError};
use crate::{entry, ledger};

/// A decision with its request, and what is known of it now.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) decision: v1::Decision,
    pub(super) decided_at_us: u64,
    pub(super) request: v1::Authorize,
    pub(super) request_id: RequestId,
    /// The keys that signed the request.
    pub(super) signing_keys: Vec<KeyId>,
    pub(super) input: Option<v1::Commitment>,
    pub(super) resource: Option<v1::Commitment>,
    pub(super) agent: Option<v1::AgentRecord>,
    pub(super) session: Option<(SessionId, v1::SessionRecord, Standing)>,
}

impl Subject {
    /// When its permit ends or has ended.
    pub(super) fn permit_ends_at_us(&self, ledger: &v1::LedgerRecord) -> u64 {
        let expires_at_us = self.decision.permit_expires_at_us;
        time::ends_at(ledger, self.decided_at_us, expires_at_us)
    }
}

/// The decision of an entry; none if the entry holds none.
pub(super) fn find(
    context: &Context<'_, '_>,
    leaf: LeafIndex,
) -> Result<Option<Subject>, StateError> {
    let Some(found) = ledger::entry(context.txn, leaf)? else {
        return Ok(None);
    };
    let Some(v1::entry::Body::Decision(decision)) = &found.body else {
        return Ok(None);
    };
    let damaged = || StateError::damaged(Key::entry(leaf), "a decision without its request");
    let command = entry::command(&found).ok().flatten().ok_or_else(damaged)?;
    let Some(v1::command::Body::Authorize(request)) = command.body else {
        return Err(damaged());
    };
    let signatures = found.signed.iter().flat_map(|signed| &signed.signatures);
    let signing_keys = signatures.map(|signature| KeyId::from_slice(&signature.key_id));
    let signing_keys = signing_keys.collect::<Result<_, _>>();
    Ok(Some(Subject {
        agent: context.agent(&request.agent)?,
        session: session_of(context, decision)?,
        decision: decision.clone(),
        decided_at_us: found.time_us,
        request_id: RequestId::from_slice(&command.request_id).map_err(|_| damaged())?,
        signing_keys: signing_keys.map_err(|_| damaged())?,
        input: commitment(&command.commitments, CompartmentKind::Input),
        resource: commitment(&command.commitments, CompartmentKind::Resource),
        request,
    }))
}

fn commitment(all: &[v1::Commitment], kind: CompartmentKind) -> Option<v1::Commitment> {
    all.iter()
        .find(|commitment| commitment.kind() == kind)
        .cloned()
}
