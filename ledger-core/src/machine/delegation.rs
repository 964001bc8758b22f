//! Who may open a session for whom, and what a child may get from its parent: never more than the parent has.

use std::collections::{BTreeMap, BTreeSet};

use ledger_proto::v1::{self, GatewayPermission, IdentityStatus, SessionIssuers, SubjectAssurance};

use super::authority::{Duty, WHOLE_LEDGER};
use super::context::{Context, Stop};
use super::session::pattern_holds;
use super::validate;
use crate::id::{Identity, SessionId};
use crate::limits::MAX_SESSION_DEPTH;
use crate::state::{Key, StateError, Txn};

/// Who may open: the agent itself, its owner, an admin, or a gateway that may; for a child, the parent's agent or issuer
/// must sign too. Returns whether the issuer's word about the subject counts.
pub(super) fn require_issuer(
    context: &Context<'_, '_>,
    ask: &v1::OpenSession,
    agent: &v1::AgentRecord,
    parent: Option<&v1::SessionRecord>,
) -> Result<bool, Stop> {
    let not_permitted = Stop::Rejected(v1::Result::NotPermitted);
    if let Some(parent) = parent {
        let issuer = parent
            .issuer
            .as_ref()
            .and_then(|issuer| Identity::parse(issuer).ok());
        let above = Identity::Agent(parent.agent.clone());
        let mut consents = false;
        for party in std::iter::once(above).chain(issuer) {
            consents |= context.signed_by(&party) && context.is_active(&party)?;
        }
        // A parent's grants come from somebody with authority in its namespace, and are worth nothing in another.
        if !consents || parent.namespace != agent.namespace {
            return Err(not_permitted);
        }
    }
    match &context.command.author {
        Identity::Agent(id) if *id == ask.agent => Ok(false),
        // The parent's agent may delegate to another agent.
        Identity::Agent(id) => {
            let delegates = parent.is_some_and(|parent| parent.agent == *id);
            if delegates && context.is_active(&context.command.author)? {
                Ok(false)
            } else {
                Err(not_permitted)
            }
        }
        Identity::Gateway(id) => {
            let gateway = context.gateway(id)?.ok_or(v1::Result::NotPermitted)?;
            if !gateway_may(&gateway, GatewayPermission::OpenSession, &ask.agent, agent) {
                return Err(not_permitted);
            }
            Ok(gateway_may(
                &gateway,
                GatewayPermission::AssertSubject,
                &ask.agent,
                agent,
            ))
        }
        Identity::Operator(_) => {
            context.require_or_owner(Duty::OpenSession, &agent.namespace, &agent.owner)?;
            Ok(true)
        }
        Identity::Node(_) | Identity::Recovery => Err(not_permitted),
    }
}

/// Rejects what only agents would stand behind, if the agent's registration demands that others open its sessions.
pub(super) fn require_others(
    context: &Context<'_, '_>,
    agent: &v1::AgentRecord,
    parent: Option<&v1::SessionRecord>,
) -> Result<(), Stop> {
    let by_agent = matches!(context.command.author, Identity::Agent(_));
    if agent.session_issuers() != SessionIssuers::OthersOnly || !by_agent {
        return Ok(());
    }
    match parent {
        Some(parent) if opened_by_others(context.txn, parent)? => Ok(()),
        Some(_) | None => Err(v1::Result::SessionIssuerNotPermitted.into()),
    }
}

/// True if somebody who is no agent opened the session or one above it: it then has no more than that one gave.
pub(super) fn opened_by_others(
    txn: &Txn<'_>,
    session: &v1::SessionRecord,
) -> Result<bool, StateError> {
    let mut at = session.clone();
    // The depth is bounded at opening.
    for _ in 0..=MAX_SESSION_DEPTH {
        let issuer = at.issuer.as_ref();
        match issuer.and_then(|issuer| Identity::parse(issuer).ok()) {
            Some(Identity::Operator(_) | Identity::Gateway(_)) => return Ok(true),
            Some(Identity::Agent(_) | Identity::Node(_) | Identity::Recovery) | None => {}
        }
        let Ok(parent) = SessionId::from_slice(&at.parent) else {
            break;
        };
        at = txn.must_read(&Key::session(parent))?;
    }
    Ok(false)
}

/// True if the gateway is active, has the permission, and acts for the agent.
pub(super) fn gateway_may(
    gateway: &v1::GatewayRecord,
    permission: GatewayPermission,
    agent_id: &str,
    agent: &v1::AgentRecord,
) -> bool {
    let in_namespace = gateway.namespace == WHOLE_LEDGER || gateway.namespace == agent.namespace;
    let acts_for = gateway.acts_for.iter().any(|target| match &target.target {
        Some(v1::acts_for::Target::Agent(id)) => id == agent_id,
        Some(v1::acts_for::Target::Group(group)) => agent.groups.contains(group),
        None => false,
    });
    gateway.status() == IdentityStatus::Active
        && in_namespace
        && acts_for
        && gateway.may().any(|may| may == permission)
}

pub(super) fn subject_assurance(
    told: &v1::SessionContext,
    issuer_may_assert: bool,
    parent: Option<&v1::SessionRecord>,
) -> SubjectAssurance {
    match (&told.subject, parent) {
        (None, _) => SubjectAssurance::Unspecified,
        // A child's subject is its parent's, and is as certain as it was there.
        (Some(_), Some(parent)) => parent.subject_assurance(),
        (Some(_), None) if issuer_may_assert => SubjectAssurance::IssuerAsserted,
        (Some(_), None) => SubjectAssurance::Claimed,
    }
}

/// A child may only narrow what the session above it says. A session without a parent gets grants only from somebody other than its agent.
pub(super) fn require_narrower(
    context: &Context<'_, '_>,
    ask: &v1::OpenSession,
    told: &v1::SessionContext,
    above: Option<(&v1::SessionRecord, v1::SessionContext)>,
) -> Result<(), Stop> {
    let Some((parent, above)) = above else {
        let by_agent = context.command.author == Identity::Agent(ask.agent.clone());
        return validate::valid(!by_agent || told.grants.is_empty());
    };
    let granted = sets(&above.grants);
    let narrower = told.grants.iter().all(|set| {
        granted.get(set.name.as_str()).is_some_and(|values| {
            set.values
                .iter()
                .all(|value| values.contains(value.as_str()))
        })
    });
    if narrower && told.subject == above.subject && is_narrower(&ask.scope, &parent.scope) {
        Ok(())
    } else {
        Err(v1::Result::NotNarrower.into())
    }
}

fn sets(sets: &[v1::StringSet]) -> BTreeMap<&str, BTreeSet<&str>> {
    sets.iter()
        .map(|set| {
            (
                set.name.as_str(),
                set.values.iter().map(String::as_str).collect(),
            )
        })
        .collect()
}

/// True if everything in `inner` is in `outer`.
fn is_narrower(inner: &[String], outer: &[String]) -> bool {
    inner.iter().all(|pattern| {
        outer.iter().any(
            |wide| match (pattern.strip_suffix('*'), wide.strip_suffix('*')) {
                (Some(prefix), Some(wide)) => prefix.starts_with(wide),
                (Some(_), None) => false,
                (None, _) => pattern_holds(wide, pattern),
            },
        )
    })
}
