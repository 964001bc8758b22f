//! Sessions: opened by an issuer, narrowed for children, numbered entry by entry, ended once.

use ledger_proto::v1::{self, CompartmentKind, IdentityStatus, SessionEndKind, SubjectAssurance};

use super::authority::Duty;
use super::context::{Context, Stop};
use super::delegation::{require_issuer, require_narrower, require_others, subject_assurance};
use super::halt::{self, Attempt};
use super::recorded::is_gone;
use super::{history, time, validate};
use crate::canonical;
use crate::compartment;
use crate::hash::LeafIndex;
use crate::id::{Identity, SessionId, check_optional_text};
use crate::limits::{
    DEFAULT_SESSION_TTL_S, MAX_CONTEXT_LEN, MAX_LIST_LEN, MAX_NAME_LEN, MAX_SESSION_DEPTH,
    MAX_SESSION_TTL_S, MAX_VALUE_LEN, SECOND_US,
};
use crate::state::{Key, StateError, Txn};
use crate::{entry, ledger};

/// True if an action id is within a scope: equal to one of its patterns, or beginning with one that ends in "*".
#[must_use]
pub fn scope_holds(scope: &[String], action: &str) -> bool {
    scope.iter().any(|pattern| pattern_holds(pattern, action))
}

pub(super) fn pattern_holds(pattern: &str, action: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => action.starts_with(prefix),
        None => action == pattern,
    }
}

/// What the CONTEXT of an open session says; nothing, if it has none. Compartments are outside the state's digest, so what is
/// read is compared with what the opening committed to: a replica with other grants would decide otherwise. None if it is gone,
/// which only whoever applies recorded commands again can meet.
pub(super) fn read_context(
    txn: &Txn<'_>,
    session: &v1::SessionRecord,
) -> Result<Option<v1::SessionContext>, StateError> {
    let key = Key::compartment(LeafIndex(session.leaf), CompartmentKind::Context);
    let opening = ledger::entry(txn, LeafIndex(session.leaf))?
        .as_ref()
        .and_then(|entry| entry::command(entry).ok().flatten())
        .ok_or_else(|| StateError::damaged(&key, "a session without its opening"))?;
    let Some(commitment) = opening.commitments.first() else {
        return Ok(Some(v1::SessionContext::default()));
    };
    // It cannot be erased before the session has ended.
    let compartment: v1::Compartment = txn.must_read(&key)?;
    if is_gone(&compartment) {
        return Ok(None);
    }
    compartment::require_match(&key, commitment, &compartment)?;
    canonical::decode(&compartment.content, compartment.content.len())
        .map(Some)
        .map_err(|error| StateError::damaged(&key, error.to_string()))
}

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Open,
    /// Ended, or a session above it ended.
    Closed,
    /// Past its time, or past the time of a session above it.
    Expired,
}

pub(super) fn standing(
    txn: &Txn<'_>,
    ledger: &v1::LedgerRecord,
    now_us: u64,
    session: &v1::SessionRecord,
) -> Result<Standing, StateError> {
    let mut at = session.clone();
    let mut standing = Standing::Open;
    // A child ends with its parent; the depth is bounded at opening.
    for _ in 0..=MAX_SESSION_DEPTH {
        match at.end_kind() {
            SessionEndKind::Closed | SessionEndKind::Revoked => return Ok(Standing::Closed),
            SessionEndKind::Expired => standing = Standing::Expired,
            SessionEndKind::Unspecified => {}
        }
        if time::ends_at(ledger, at.opened_at_us, at.expires_at_us) <= now_us {
            standing = Standing::Expired;
        }
        let Ok(parent) = SessionId::from_slice(&at.parent) else {
            break;
        };
        at = txn.must_read(&Key::session(parent))?;
    }
    Ok(standing)
}

pub(super) fn open(
    context: &mut Context<'_, '_>,
    ask: &v1::OpenSession,
) -> Result<v1::SessionOpening, Stop> {
    check_fields(ask)?;
    let agent = require_agent(context, &ask.agent)?;
    if !context.compartments.is_complete() {
        return Err(v1::Result::CommitmentMismatch.into());
    }
    let id = SessionId::from_bytes(*context.command.request_id.as_bytes());
    let told = parse_context(context)?;
    let parent = match SessionId::from_slice(&ask.parent) {
        Ok(parent) => Some(open_parent(context, parent)?),
        Err(_) => None,
    };
    let issuer_may_assert = require_issuer(context, ask, &agent, parent.as_ref())?;
    require_others(context, &agent, parent.as_ref())?;
    let above = match &parent {
        Some(parent) => read_context(context.txn, parent)?.map(|told| Some((parent, told))),
        None => Some(None),
    };
    let (subject_assurance, subject_digest) = match told.zip(above) {
        Some((told, above)) => {
            require_narrower(context, ask, &told, above)?;
            let assurance = subject_assurance(&told, issuer_may_assert, parent.as_ref());
            (assurance, vouched_subject(&told, assurance))
        }
        None => gone_subject(context, id)?,
    };

    // Request ids are unique for each author; a session id is unique for all.
    if context.session(id)?.is_some() {
        return Err(v1::Result::AlreadyExists.into());
    }
    let expires_at_us = expiry(context.now_us, ask, parent.as_ref());
    let depth = parent.as_ref().map_or(0, |parent| parent.depth + 1);
    let record = v1::SessionRecord {
        agent: ask.agent.clone(),
        namespace: agent.namespace.clone(),
        issuer: Some(context.command.author.to_message()),
        parent: ask.parent.clone(),
        scope: ask.scope.clone(),
        opened_at_us: context.now_us,
        expires_at_us,
        depth,
        subject_assurance: subject_assurance.into(),
        leaf: context.leaf.0,
        count: 0,
        head: Vec::new(),
        end_kind: SessionEndKind::Unspecified.into(),
        subject_digest,
    };
    context.txn.write(Key::session(id), &record);
    Ok(v1::SessionOpening {
        result: v1::Result::Applied.into(),
        namespace: agent.namespace,
        chain: Some(v1::ChainLink {
            session_id: id.to_vec(),
            number: 1,
            previous_hash: Vec::new(),
            late: false,
        }),
        expires_at_us,
        depth,
        subject_assurance: subject_assurance.into(),
        agent_leaf: Some(agent.leaf),
        parent_leaf: parent.map(|parent| parent.leaf),
    })
}

/// Only a subject that somebody vouches for picks the history that rules read: an agent could claim anybody.
fn vouched_subject(told: &v1::SessionContext, assurance: SubjectAssurance) -> Vec<u8> {
    match (&told.subject, assurance) {
        (Some(subject), SubjectAssurance::IssuerAsserted | SubjectAssurance::TokenVerified) => {
            history::subject_digest(subject)
        }
        (_, SubjectAssurance::Unspecified | SubjectAssurance::Claimed) | (None, _) => Vec::new(),
    }
}

/// What the recorded opening says of a subject that is gone; the session's id stands in for the subject.
fn gone_subject(
    context: &mut Context<'_, '_>,
    id: SessionId,
) -> Result<(SubjectAssurance, Vec<u8>), Stop> {
    let recorded = context.adopt_opening()?;
    if recorded.result() != v1::Result::Applied {
        return Err(recorded.result().into());
    }
    let assurance = recorded.subject_assurance();
    let digest = match assurance {
        SubjectAssurance::IssuerAsserted | SubjectAssurance::TokenVerified => id.to_vec(),
        SubjectAssurance::Unspecified | SubjectAssurance::Claimed => Vec::new(),
    };
    Ok((assurance, digest))
}

/// The agent, if it is active and no halt stops it.
fn require_agent(context: &Context<'_, '_>, id: &str) -> Result<v1::AgentRecord, Stop> {
    let agent = context.agent(id)?;
    let attempt = Attempt {
        agent_id: id,
        agent: agent.as_ref(),
        action: None,
    };
    if halt::stops(context.txn, context.now_us, attempt)? {
        return Err(v1::Result::Halted.into());
    }
    let agent = agent.ok_or(v1::Result::NotFound)?;
    match agent.status() {
        IdentityStatus::Active => Ok(agent),
        IdentityStatus::Suspended | IdentityStatus::Revoked | IdentityStatus::Unspecified => {
            Err(v1::Result::AgentNotActive.into())
        }
    }
}

/// When the session ends by itself: after its lifetime, and never after its parent.
fn expiry(now_us: u64, ask: &v1::OpenSession, parent: Option<&v1::SessionRecord>) -> u64 {
    let ttl_s = if ask.ttl_s == 0 {
        DEFAULT_SESSION_TTL_S
    } else {
        ask.ttl_s
    };
    let wanted = now_us.saturating_add(u64::from(ttl_s) * SECOND_US);
    parent.map_or(wanted, |parent| wanted.min(parent.expires_at_us))
}

fn check_fields(ask: &v1::OpenSession) -> Result<(), Stop> {
    validate::patterns(&ask.scope)?;
    validate::label(&ask.label)?;
    validate::valid(ask.ttl_s <= MAX_SESSION_TTL_S && validate::is_empty_or(&ask.parent, 16))?;
    if let Some(runtime) = &ask.runtime {
        validate::label(&runtime.model)?;
        validate::label(&runtime.framework)?;
        validate::valid(validate::is_empty_or(&runtime.build_digest, 32))?;
    }
    Ok(())
}

/// The opener's CONTEXT, in canonical form and within its limits; none if it is gone.
fn parse_context(context: &Context<'_, '_>) -> Result<Option<v1::SessionContext>, Stop> {
    if !context.compartments.erased.is_empty() {
        return Ok(None);
    }
    let Some(content) = context.content(CompartmentKind::Context) else {
        return Ok(Some(v1::SessionContext::default()));
    };
    let limit = usize::try_from(MAX_CONTEXT_LEN).unwrap_or(usize::MAX);
    let told: v1::SessionContext =
        canonical::decode(content, limit).map_err(|_| v1::Result::InvalidArgument)?;
    let subjects_valid = told.subject.iter().chain(&told.act).all(|subject| {
        !subject.sub.is_empty()
            && check_optional_text(&subject.iss, MAX_VALUE_LEN).is_ok()
            && check_optional_text(&subject.sub, MAX_VALUE_LEN).is_ok()
    });
    let names_ascend = |sets: &[v1::StringSet]| {
        let names: Vec<&str> = sets.iter().map(|set| set.name.as_str()).collect();
        sets.len() <= MAX_LIST_LEN && validate::is_ascending(&names)
    };
    let sets_valid = told.grants.iter().chain(&told.claims).all(|set| {
        !set.name.is_empty()
            && set.name.len() <= MAX_NAME_LEN
            && validate::is_ascending(&set.values)
            && set.values.iter().all(|value| value.len() <= MAX_VALUE_LEN)
    });
    validate::valid(
        subjects_valid
            && sets_valid
            && names_ascend(&told.grants)
            && names_ascend(&told.claims)
            && told.act.len() <= MAX_LIST_LEN
            && validate::is_empty_or(&told.token_digest, 32),
    )?;
    Ok(Some(told))
}

fn open_parent(context: &Context<'_, '_>, id: SessionId) -> Result<v1::SessionRecord, Stop> {
    let parent = context.session(id)?.ok_or(v1::Result::NotFound)?;
    if standing(context.txn, context.ledger, context.now_us, &parent)? != Standing::Open
        || parent.depth >= MAX_SESSION_DEPTH
    {
        return Err(v1::Result::FailedPrecondition.into());
    }
    Ok(parent)
}

pub(super) fn close(
    context: &mut Context<'_, '_>,
    ask: &v1::CloseSession,
) -> Result<v1::SessionEnd, Stop> {
    context.require_reason()?;
    let (id, session) = find(context, &ask.session_id)?;
    let agent = context.agent(&session.agent)?.ok_or(v1::Result::NotFound)?;
    let author = &context.command.author;
    let by_agent = *author == Identity::Agent(session.agent.clone());
    let by_issuer = session.issuer.as_ref() == Some(&author.to_message());
    let by_party = (by_agent || by_issuer) && context.is_active(author)?;
    let kind = if by_party || context.is_owner(&agent.owner)? {
        SessionEndKind::Closed
    } else {
        context.require(Duty::CloseSession, &session.namespace)?;
        SessionEndKind::Revoked
    };
    end(context, id, session, kind)
}

pub(super) fn seal(context: &mut Context<'_, '_>, ask: &v1::Seal) -> Result<v1::SessionEnd, Stop> {
    if !matches!(context.command.author, Identity::Node(_)) {
        return Err(v1::Result::NotPermitted.into());
    }
    let (id, session) = find(context, &ask.session_id)?;
    match standing(context.txn, context.ledger, context.now_us, &session)? {
        Standing::Open => Err(v1::Result::FailedPrecondition.into()),
        Standing::Closed | Standing::Expired => end(context, id, session, SessionEndKind::Expired),
    }
}

fn find(context: &Context<'_, '_>, id: &[u8]) -> Result<(SessionId, v1::SessionRecord), Stop> {
    let id = SessionId::from_slice(id).map_err(|_| v1::Result::InvalidArgument)?;
    let session = context.session(id)?.ok_or(v1::Result::NotFound)?;
    Ok((id, session))
}

/// Freezes count and head. A session ends once.
fn end(
    context: &mut Context<'_, '_>,
    id: SessionId,
    mut session: v1::SessionRecord,
    kind: SessionEndKind,
) -> Result<v1::SessionEnd, Stop> {
    if session.end_kind() != SessionEndKind::Unspecified {
        return Err(v1::Result::FailedPrecondition.into());
    }
    session.end_kind = kind.into();
    context.txn.write(Key::session(id), &session);
    Ok(v1::SessionEnd {
        result: v1::Result::Applied.into(),
        session_id: id.to_vec(),
        kind: kind.into(),
        count: session.count,
        head: session.head,
        namespace: session.namespace,
    })
}
