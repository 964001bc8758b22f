//! The rules' turn: from a checked request to a decision, and the history it leaves.

use std::collections::{BTreeMap, BTreeSet};

use ledger_proto::v1::{self, Assurance, DecisionReason, SubjectAssurance, Verdict};
use policy_engine::{Decision, Issuer, Reason, Request};
use prost::Message;

use super::authorize::{Case, Checked, Content, active_bundle};
use super::context::{Context, Stop};
use super::history;
use crate::id::Identity;
use crate::limits::{
    DEFAULT_PERMIT_TTL_S, ESCALATION_TTL_S, MAX_APPROVERS, MAX_CONDITION_LEN, MAX_CONDITIONS,
    MAX_PERMIT_TTL_S, MAX_RULES_IN_ENTRY, SECOND_US,
};

/// What precedes the rule ids in their digest.
const RULES_DOMAIN: &[u8] = b"countersign-rules-v1\0";
/// What precedes agent, action and commitments in the digest that an approval must name.
const ACTION_DOMAIN: &[u8] = b"countersign-action-v1\0";

/// The claims that a session's purpose and subject are where nobody vouches for them.
const PURPOSE_CLAIM: &str = "purpose";
const SUBJECT_ISS_CLAIM: &str = "subject.iss";
const SUBJECT_SUB_CLAIM: &str = "subject.sub";

pub(super) fn decide(
    context: &mut Context<'_, '_>,
    case: &Case<'_>,
    checked: &Checked,
) -> Result<v1::Decision, Stop> {
    let namespace = context.namespace(&checked.agent.namespace)?;
    let Some((namespace, (digest, starts))) =
        namespace.and_then(|namespace| active_bundle(&namespace).map(|active| (namespace, active)))
    else {
        return Ok(deny(DecisionReason::NoActivePolicy));
    };
    let compiled = context
        .policies
        .get(context.txn, &checked.agent.namespace, digest)?;
    let whose = checked.whose(&case.ask.agent);
    // Rules that read no history can be asked whatever is known of it.
    let scope = compiled.history_scope();
    let known = compiled.temporal_rules().is_empty() || history::is_known(context, whose, scope)?;
    let mut decision = match checked.content.as_ref().filter(|_| known) {
        Some(content) => {
            let request = request(context, case, checked, content);
            let past = history::past(context.txn, whose, scope);
            let evaluated = compiled.decide(&starts, &past, &request)?;
            if context.explains {
                let explanation = compiled.explain(&starts, &past, &request)?;
                context.found.explanation = Some(Box::new(explanation));
            }
            let decision = translate(context, case, &checked.session, &evaluated.decision);
            // What the entry cannot hold becomes a denial, and a denial that was not the rules' is not part of their history.
            if decision.reason() == translate_reason(evaluated.decision.reason) {
                history::step(context, &namespace, whose, &evaluated.events)?;
            }
            if context.recorded.is_some() {
                context.found.asked = Some(Box::new(request));
            }
            decision
        }
        None => {
            history::forget(context, &namespace, whose)?;
            context.adopt_decision()?
        }
    };
    decision.single_use |= namespace.single_use && decision.verdict() == Verdict::Allow;
    decision.bundle_digest = digest.0.to_vec();
    decision.rests_on = Some(v1::RestsOn {
        activation: Some(namespace.activation_leaf),
        ..v1::RestsOn::default()
    });
    Ok(decision)
}

fn deny(reason: DecisionReason) -> v1::Decision {
    v1::Decision {
        verdict: Verdict::Deny.into(),
        reason: reason.into(),
        ..v1::Decision::default()
    }
}

/// The request as rules see it, each fact from the party that vouches for it.
fn request(
    context: &Context<'_, '_>,
    case: &Case<'_>,
    checked: &Checked,
    content: &Content,
) -> Request {
    let Checked {
        agent,
        session_id,
        session,
        content: _,
    } = checked;
    let Content {
        told,
        resource,
        input,
    } = content;
    let issuer = issuer(session);
    let vouched = Vouched::new(told, session, &issuer);
    Request {
        time_us: context.now_us,
        request_id: context.command.request_id.to_string(),
        agent: policy_engine::Agent {
            id: case.ask.agent.clone(),
            owner: agent.owner.clone(),
            groups: agent.groups.iter().cloned().collect(),
            attributes: attributes(&agent.attributes),
        },
        session: policy_engine::Session {
            id: session_id.to_string(),
            purpose: vouched.purpose,
            issuer,
            delegated: !session.parent.is_empty(),
            seq: session.count + 1,
            opened_at_us: session.opened_at_us,
            subject: vouched.subject,
            grants: string_sets(&told.grants),
        },
        presenter: match &case.presenter {
            Identity::Gateway(id) => Some(id.clone()),
            Identity::Agent(_) | Identity::Operator(_) | Identity::Node(_) | Identity::Recovery => {
                None
            }
        },
        assurance: match case.assurance {
            Assurance::BothSigned => policy_engine::Assurance::BothSigned,
            Assurance::AgentSigned => policy_engine::Assurance::AgentSigned,
            Assurance::GatewayAsserted | Assurance::Unspecified => {
                policy_engine::Assurance::GatewayAsserted
            }
        },
        action: case.action.clone(),
        resource: policy_engine::Resource {
            id: resource.id.clone(),
            kind: (!resource.r#type.is_empty()).then(|| resource.r#type.clone()),
            parents: resource.parents.iter().cloned().collect(),
            attributes: attributes(&resource.attributes),
        },
        input: input.clone(),
        claims: vouched.claims,
        approval: None,
    }
}

/// Who opened a session. Nobody but operators, gateways and agents can, and an agent's word is worth the least.
fn issuer(session: &v1::SessionRecord) -> Issuer {
    let issuer = session.issuer.as_ref();
    match issuer.and_then(|issuer| Identity::parse(issuer).ok()) {
        Some(Identity::Operator(id)) => Issuer::Operator(id),
        Some(Identity::Gateway(id)) => Issuer::Gateway(id),
        Some(Identity::Agent(id)) => Issuer::Agent(id),
        Some(Identity::Node(_) | Identity::Recovery) | None => Issuer::Agent(session.agent.clone()),
    }
}

/// What the opening of a session says, apart by who vouches for it.
struct Vouched {
    purpose: Option<String>,
    subject: Option<policy_engine::Subject>,
    /// The agent's own words, and whatever nobody vouches for.
    claims: policy_engine::StringSets,
}

impl Vouched {
    fn new(told: &v1::SessionContext, session: &v1::SessionRecord, issuer: &Issuer) -> Self {
        let mut claims = string_sets(&told.claims);
        let mut claim = |name: &str, value: &str| {
            let values: &mut BTreeSet<String> = claims.entry(name.to_owned()).or_default();
            values.insert(value.to_owned());
        };
        let mut purpose = Some(told.purpose.clone()).filter(|purpose| !purpose.is_empty());
        if matches!(issuer, Issuer::Agent(_))
            && let Some(purpose) = purpose.take()
        {
            claim(PURPOSE_CLAIM, &purpose);
        }
        let assurance = match session.subject_assurance() {
            SubjectAssurance::Unspecified | SubjectAssurance::Claimed => None,
            SubjectAssurance::IssuerAsserted => Some("ISSUER_ASSERTED"),
            SubjectAssurance::TokenVerified => Some("TOKEN_VERIFIED"),
        };
        let subject = match (&told.subject, assurance) {
            (None, _) => None,
            (Some(subject), None) => {
                claim(SUBJECT_ISS_CLAIM, &subject.iss);
                claim(SUBJECT_SUB_CLAIM, &subject.sub);
                None
            }
            (Some(subject), Some(assurance)) => Some(policy_engine::Subject {
                iss: subject.iss.clone(),
                sub: subject.sub.clone(),
                assurance: assurance.to_owned(),
            }),
        };
        Self {
            purpose,
            subject,
            claims,
        }
    }
}

fn attributes(list: &[v1::Attribute]) -> BTreeMap<String, String> {
    list.iter()
        .map(|attribute| (attribute.name.clone(), attribute.value.clone()))
        .collect()
}

fn string_sets(sets: &[v1::StringSet]) -> policy_engine::StringSets {
    sets.iter()
        .map(|set| (set.name.clone(), set.values.iter().cloned().collect()))
        .collect()
}

/// The engine's decision as an entry holds it.
fn translate(
    context: &Context<'_, '_>,
    case: &Case<'_>,
    session: &v1::SessionRecord,
    decision: &Decision,
) -> v1::Decision {
    let conditions: Vec<v1::Condition> = decision
        .conditions
        .iter()
        .map(|condition| v1::Condition {
            r#type: condition.kind.clone(),
            value: condition.value.clone(),
            critical: condition.critical,
        })
        .collect();
    let fits = conditions.len() <= MAX_CONDITIONS
        && conditions
            .iter()
            .all(|condition| condition.r#type.len() + condition.value.len() <= MAX_CONDITION_LEN)
        && decision.approvers.len() <= MAX_APPROVERS
        && decision
            .approvers
            .iter()
            .all(|approver| approver.group.len() <= MAX_CONDITION_LEN);
    if !fits {
        // A condition that got lost could be the one that protects somebody.
        return v1::Decision {
            rules: Some(rules(decision)),
            ..deny(DecisionReason::EvaluationError)
        };
    }
    let verdict = match decision.verdict {
        policy_engine::Verdict::Allow => Verdict::Allow,
        policy_engine::Verdict::Deny => Verdict::Deny,
        policy_engine::Verdict::Escalate => Verdict::Escalate,
    };
    let ttl_s = decision
        .permit_ttl_s
        .unwrap_or(DEFAULT_PERMIT_TTL_S)
        .min(MAX_PERMIT_TTL_S);
    let permit_end = context
        .now_us
        .saturating_add(u64::from(ttl_s) * SECOND_US)
        .min(session.expires_at_us);
    v1::Decision {
        verdict: verdict.into(),
        reason: translate_reason(decision.reason).into(),
        rules: (!decision.rules.is_empty()).then(|| rules(decision)),
        conditions,
        permit_expires_at_us: if verdict == Verdict::Allow {
            permit_end
        } else {
            0
        },
        escalation: (verdict == Verdict::Escalate).then(|| escalation(context, case, decision)),
        single_use: verdict == Verdict::Allow && decision.single_use,
        ..v1::Decision::default()
    }
}

const fn translate_reason(reason: Reason) -> DecisionReason {
    match reason {
        Reason::AllowedByPolicy => DecisionReason::AllowedByPolicy,
        Reason::NoMatchingPermit => DecisionReason::NoMatchingPermit,
        Reason::ForbiddenByPolicy => DecisionReason::ForbiddenByPolicy,
        Reason::ApprovalRequired => DecisionReason::ApprovalRequired,
        Reason::SchemaMismatch => DecisionReason::SchemaMismatch,
        Reason::UnknownAction => DecisionReason::UnknownAction,
        Reason::HistoryLimit => DecisionReason::HistoryLimit,
        Reason::EvaluationError => DecisionReason::EvaluationError,
    }
}

/// The first rule ids, how many there are, and
/// `BLAKE3("countersign-rules-v1\0" || for each id, ascending: u16be(len) || id)` over all of them.
fn rules(decision: &Decision) -> v1::DeterminingRules {
    if decision.rules.is_empty() {
        return v1::DeterminingRules::default();
    }
    let mut all = RULES_DOMAIN.to_vec();
    for rule in &decision.rules {
        crate::keys::push_str(&mut all, &rule.0);
    }
    v1::DeterminingRules {
        ids: decision
            .rules
            .iter()
            .take(MAX_RULES_IN_ENTRY)
            .map(|rule| rule.0.clone())
            .collect(),
        count: u32::try_from(decision.rules.len()).unwrap_or(u32::MAX),
        digest: blake3::hash(&all).as_bytes().to_vec(),
    }
}

/// What an approval must name: the agent, the session, the action, and what it was asked with.
/// `BLAKE3("countersign-action-v1\0" || str(agent) || session || str(action) || for each commitment: varint(len) || its message)`.
fn escalation(context: &Context<'_, '_>, case: &Case<'_>, decision: &Decision) -> v1::Escalation {
    let mut bytes = ACTION_DOMAIN.to_vec();
    crate::keys::push_str(&mut bytes, &case.ask.agent);
    bytes.extend_from_slice(&case.ask.session_id);
    crate::keys::push_str(&mut bytes, &case.action);
    for commitment in context.command.commitments.values() {
        bytes.extend_from_slice(&commitment.encode_length_delimited_to_vec());
    }
    v1::Escalation {
        approvers: decision
            .approvers
            .iter()
            .map(|approver| v1::Approver {
                group: approver.group.clone(),
                count: approver.count,
            })
            .collect(),
        action_digest: blake3::hash(&bytes).as_bytes().to_vec(),
        expires_at_us: context
            .now_us
            .saturating_add(u64::from(ESCALATION_TTL_S) * SECOND_US),
    }
}
