//! May this agent do this, now? Every check in its order; the first that fails decides.
//!
//! Form → halt → agent → presenter → session → assurance → compartments → schema and rules. Each denial has a reason of its
//! own and an entry of its own, in the session's chain if the session is known.

use ledger_proto::v1::{
    self, Assurance, CompartmentKind, DecisionReason as Reason, GatewayPermission, IdentityStatus,
    SessionIssuers, Verdict,
};

use super::admission::Signer;
use super::context::{Context, Stop};
use super::delegation::{gateway_may, opened_by_others};
use super::halt::{self, Attempt};
use super::history::{self, Whose};
use super::session::{Standing, read_context, scope_holds, standing};
use super::{decide, validate};
use crate::id::{Identity, SessionId, check_optional_text, check_text};
use crate::limits::{MAX_ID_LEN, MAX_VALUE_LEN};
use crate::state::StateError;

/// Everything about a request that is known before any rule is asked.
#[derive(Debug)]
pub(super) struct Case<'a> {
    pub(super) ask: &'a v1::Authorize,
    /// `server/name`, or `name`.
    pub(super) action: String,
    pub(super) agent: Option<v1::AgentRecord>,
    /// The gateway that presents the request, with its id, if one does.
    pub(super) gateway: Option<(String, v1::GatewayRecord)>,
    /// The session, if it exists and is the agent's, and where it stands. Nobody but the agent and those who may present for
    /// it get to write into its chain: for others it is none.
    pub(super) session: Option<(SessionId, v1::SessionRecord, Standing)>,
    pub(super) presenter: Identity,
    /// True if all who speak for the agent may.
    pub(super) may_present: bool,
    pub(super) assurance: Assurance,
}

pub(super) fn authorize(
    context: &mut Context<'_, '_>,
    ask: &v1::Authorize,
) -> Result<v1::Decision, Stop> {
    let case = gather(context, ask)?;
    let mut decision = match check(context, &case)? {
        Err(reason) => v1::Decision {
            verdict: Verdict::Deny.into(),
            reason: reason.into(),
            ..v1::Decision::default()
        },
        Ok(checked) => decide::decide(context, &case, &checked)?,
    };
    decision.namespace = case
        .agent
        .as_ref()
        .map(|agent| agent.namespace.clone())
        .unwrap_or_default();
    decision.presenter = Some(case.presenter.to_message());
    decision.assurance = case.assurance.into();
    decision.chain = case
        .session
        .as_ref()
        .map(|(id, session, standing)| link(*id, session, *standing));
    let rests_on = decision.rests_on.get_or_insert_default();
    rests_on.agent = case.agent.as_ref().map(|agent| agent.leaf);
    rests_on.gateway = case.gateway.as_ref().map(|(_, gateway)| gateway.leaf);
    rests_on.session = case.session.as_ref().map(|(_, session, _)| session.leaf);
    rests_on.keys = key_leaves(context.signers);
    Ok(decision)
}

/// The next place in a session's chain; none of its places if the session has ended.
pub(super) fn link(
    id: SessionId,
    session: &v1::SessionRecord,
    standing: Standing,
) -> v1::ChainLink {
    match standing {
        Standing::Open => v1::ChainLink {
            session_id: id.to_vec(),
            number: session.count + 1,
            previous_hash: session.head.clone(),
            late: false,
        },
        Standing::Closed | Standing::Expired => v1::ChainLink {
            session_id: id.to_vec(),
            number: 0,
            previous_hash: Vec::new(),
            late: true,
        },
    }
}

pub(super) fn key_leaves(signers: &[Signer]) -> Vec<u64> {
    signers
        .iter()
        .filter_map(|signer| signer.leaf)
        .map(|leaf| leaf.0)
        .collect()
}

fn gather<'a>(context: &Context<'_, '_>, ask: &'a v1::Authorize) -> Result<Case<'a>, StateError> {
    let agent = context.agent(&ask.agent)?;
    let agent_signed = context.signed_by(&Identity::Agent(ask.agent.clone()));
    let presenter = context.presenter().clone();
    let gateway = match &presenter {
        Identity::Gateway(id) => context.gateway(id)?.map(|record| (id.clone(), record)),
        Identity::Agent(_) | Identity::Operator(_) | Identity::Node(_) | Identity::Recovery => None,
    };
    let may_present = may_present(context, ask, agent.as_ref())?;
    let assurance = match (agent_signed, &presenter) {
        (true, Identity::Gateway(_)) => Assurance::BothSigned,
        (true, _) => Assurance::AgentSigned,
        (false, Identity::Gateway(_)) => Assurance::GatewayAsserted,
        (false, _) => Assurance::Unspecified,
    };
    let session = match SessionId::from_slice(&ask.session_id) {
        Ok(id) => match context
            .session(id)?
            .filter(|session| session.agent == ask.agent && (agent_signed || may_present))
        {
            Some(session) => {
                let standing = standing(context.txn, context.ledger, context.now_us, &session)?;
                Some((id, session, standing))
            }
            None => None,
        },
        Err(_) => None,
    };
    let action = ask.tool.as_ref().map(action_id).unwrap_or_default();
    Ok(Case {
        ask,
        action,
        agent,
        gateway,
        session,
        presenter,
        may_present,
        assurance,
    })
}

/// The action id of a tool.
pub(super) fn action_id(tool: &v1::Tool) -> String {
    match tool.server.as_str() {
        "" => tool.name.clone(),
        server => format!("{server}/{}", tool.name),
    }
}

/// What a request that passed every check but the rules brings to them.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) agent: v1::AgentRecord,
    pub(super) session_id: SessionId,
    pub(super) session: v1::SessionRecord,
    /// None if any of it is gone, which only whoever applies recorded commands again can meet.
    pub(super) content: Option<Content>,
}

/// What compartments say, of the request and of its session.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) told: v1::SessionContext,
    pub(super) resource: v1::ResourceFacts,
    pub(super) input: Vec<u8>,
}

impl Checked {
    /// Whose history the rules read.
    pub(super) fn whose<'a>(&'a self, agent_id: &'a str) -> Whose<'a> {
        Whose {
            namespace: &self.agent.namespace,
            agent: agent_id,
            owner: &self.agent.owner,
            session_id: self.session_id.as_bytes(),
            subject_digest: &self.session.subject_digest,
        }
    }
}

/// Everything but schema and rules. The inner error is the reason of the denial.
fn check(
    context: &Context<'_, '_>,
    case: &Case<'_>,
) -> Result<Result<Checked, Reason>, StateError> {
    if !is_well_formed(context, case) {
        return Ok(Err(Reason::InvalidRequest));
    }
    let attempt = Attempt {
        agent_id: &case.ask.agent,
        agent: case.agent.as_ref(),
        action: Some(case.action.as_str()),
    };
    if halt::stops(context.txn, context.now_us, attempt)? {
        return Ok(Err(Reason::Halted));
    }
    let Some(agent) = &case.agent else {
        return Ok(Err(Reason::AgentUnknown));
    };
    match agent.status() {
        IdentityStatus::Active => {}
        IdentityStatus::Revoked => return Ok(Err(Reason::AgentRevoked)),
        IdentityStatus::Suspended | IdentityStatus::Unspecified => {
            return Ok(Err(Reason::AgentSuspended));
        }
    }
    if !case.may_present {
        return Ok(Err(Reason::PresenterNotPermitted));
    }
    let Some((session_id, session, standing)) = &case.session else {
        return Ok(Err(Reason::SessionUnknown));
    };
    match standing {
        Standing::Open => {}
        Standing::Closed => return Ok(Err(Reason::SessionClosed)),
        Standing::Expired => return Ok(Err(Reason::SessionExpired)),
    }
    if !scope_holds(&session.scope, &case.action) {
        return Ok(Err(Reason::OutOfScope));
    }
    // The demand may be newer than the session.
    if agent.session_issuers() == SessionIssuers::OthersOnly
        && !opened_by_others(context.txn, session)?
    {
        return Ok(Err(Reason::SessionIssuerNotPermitted));
    }
    if case.assurance < agent.minimum_assurance() {
        return Ok(Err(Reason::AssuranceTooLow));
    }
    let asked = match check_compartments(context, case) {
        Ok(asked) => asked,
        Err(reason) => return Ok(Err(reason)),
    };
    let told = read_context(context.txn, session)?;
    let content = asked.zip(told).map(|((resource, input), told)| Content {
        told,
        resource,
        input,
    });
    Ok(Ok(Checked {
        agent: agent.clone(),
        session_id: *session_id,
        session: session.clone(),
        content,
    }))
}

fn is_well_formed(context: &Context<'_, '_>, case: &Case<'_>) -> bool {
    let Some(tool) = &case.ask.tool else {
        return false;
    };
    let by_agent_or_gateway = matches!(
        context.command.author,
        Identity::Agent(_) | Identity::Gateway(_)
    );
    by_agent_or_gateway
        && check_text(&case.ask.agent, MAX_ID_LEN).is_ok()
        && check_optional_text(&tool.server, MAX_ID_LEN).is_ok()
        && !tool.server.contains('/')
        && check_text(&tool.name, MAX_ID_LEN).is_ok()
        // Without this, tool "a/b" of no server and tool "b" of server "a" would be one action.
        && !(tool.server.is_empty() && tool.name.contains('/'))
        && validate::is_empty_or(&tool.definition_digest, 32)
        && case.ask.tool_call_id.len() <= MAX_VALUE_LEN
        && validate::is_empty_or(&case.ask.trace_id, 16)
        && validate::is_empty_or(&case.ask.span_id, 8)
        && validate::is_empty_or(&case.ask.parent_request_id, 16)
        // Approvals are reserved: nothing can be referred to yet.
        && case.ask.approval_ref.is_none()
}

/// The agent presents its own requests; a gateway presents those of agents it acts for. Every gateway that signs must be
/// one that may, even beside the agent.
fn may_present(
    context: &Context<'_, '_>,
    ask: &v1::Authorize,
    agent: Option<&v1::AgentRecord>,
) -> Result<bool, StateError> {
    let by_agent_or_gateway = match &context.command.author {
        Identity::Agent(id) => *id == ask.agent,
        Identity::Gateway(_) => true,
        Identity::Operator(_) | Identity::Node(_) | Identity::Recovery => false,
    };
    let Some(agent) = agent.filter(|_| by_agent_or_gateway) else {
        return Ok(false);
    };
    for signer in context.signers {
        if let Identity::Gateway(id) = &signer.identity {
            let may = context.gateway(id)?.is_some_and(|gateway| {
                gateway_may(&gateway, GatewayPermission::Authorize, &ask.agent, agent)
            });
            if !may {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// The facts about the resource, and the arguments; none if any of it is gone.
fn check_compartments(
    context: &Context<'_, '_>,
    case: &Case<'_>,
) -> Result<Option<(v1::ResourceFacts, Vec<u8>)>, Reason> {
    if !context.compartments.too_large.is_empty() {
        return Err(Reason::InputTooLarge);
    }
    // Arguments that nobody committed to could be anything.
    let commitments = &context.command.commitments;
    if !context.compartments.is_complete() || !commitments.contains_key(&CompartmentKind::Input) {
        return Err(Reason::CommitmentMismatch);
    }
    if !context.compartments.erased.is_empty() {
        if context.recorded_before_rules() {
            return Err(Reason::SchemaMismatch);
        }
        return Ok(None);
    }
    let input = context
        .content(CompartmentKind::Input)
        .ok_or(Reason::CommitmentMismatch)?
        .to_vec();
    let mut resource = match context.content(CompartmentKind::Resource) {
        Some(content) => validate::resource(content).ok_or(Reason::SchemaMismatch)?,
        None => v1::ResourceFacts::default(),
    };
    let asserted =
        case.gateway
            .as_ref()
            .zip(case.agent.as_ref())
            .is_some_and(|((_, gateway), agent)| {
                gateway_may(
                    gateway,
                    GatewayPermission::AssertResource,
                    &case.ask.agent,
                    agent,
                )
            });
    if !asserted {
        // Which resource is meant is the request itself; facts about it are only a gateway's to assert.
        resource = v1::ResourceFacts {
            id: resource.id,
            ..v1::ResourceFacts::default()
        };
    }
    if resource.id.is_empty() {
        resource.id.clone_from(&case.action);
    }
    Ok(Some((resource, input)))
}

/// The session a decision belongs to, for those who look back at it.
pub(super) fn session_of(
    context: &Context<'_, '_>,
    decision: &v1::Decision,
) -> Result<Option<(SessionId, v1::SessionRecord, Standing)>, StateError> {
    let Some(link) = &decision.chain else {
        return Ok(None);
    };
    let Ok(id) = SessionId::from_slice(&link.session_id) else {
        return Ok(None);
    };
    let Some(session) = context.session(id)? else {
        return Ok(None);
    };
    let standing = standing(context.txn, context.ledger, context.now_us, &session)?;
    Ok(Some((id, session, standing)))
}

/// The bundle that decides for a namespace now.
pub(super) fn active_bundle(
    namespace: &v1::NamespaceRecord,
) -> Option<(policy_engine::BundleDigest, policy_engine::Starts)> {
    let digest = history::digest(&namespace.active_digest)?;
    let tracked = namespace
        .tracked
        .iter()
        .find(|tracked| tracked.digest == namespace.active_digest);
    Some((digest, tracked.map(history::starts).unwrap_or_default()))
}
