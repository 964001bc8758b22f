//! What was really executed: kept whatever it says, compared with what was authorized, flagged where they differ.

use ledger_proto::v1::{
    self, CompartmentKind, Drift, ExecutionStatus, GatewayPermission, IdentityStatus, Notice,
    Verdict,
};

use super::authorize::{action_id, link};
use super::context::{Context, Stop};
use super::delegation::gateway_may;
use super::halt::{self, Attempt};
use super::kept::{Kept, compartment};
use super::observe::observe;
use super::redeem::lacks_redemption;
use super::session::Standing;
use super::subject::{Subject, find};
use super::validate;
use crate::compartment::{SALT_LEN, commitment_digest};
use crate::hash::LeafIndex;
use crate::id::Identity;
use crate::ledger;
use crate::limits::{FRESHNESS_US, MAX_TIME_US};
use crate::state::{Key, StateError};

pub(super) fn record(context: &mut Context<'_, '_>, ask: &v1::Record) -> Result<v1::Outcome, Stop> {
    let subject = find(context, LeafIndex(ask.decision_index))?;
    let recorder = context.presenter().clone();
    let may_record = subject
        .as_ref()
        .map_or(Ok(false), |subject| may_record(context, subject, &recorder))?;
    let first_key = Key::outcome_of(LeafIndex(ask.decision_index));
    let is_first = is_first(context, &first_key, &recorder)?;

    // A comparison is an answer: whoever may not record for a decision could guess at its input, and learn what became of its
    // agent. That somebody tried is all that is written down.
    let seen = subject.as_ref().filter(|_| may_record);
    let executed = executed(context, ask, seen)?;
    let mut drift = if subject.is_some() && !may_record {
        vec![Drift::WrongRecorder]
    } else {
        drift(context, ask, seen, is_first)
    };
    if executed.changed {
        drift.insert(0, Drift::InputChanged);
    }
    if lacks_redemption(context.txn, ask, seen.map(|seen| &seen.decision))? {
        drift.push(Drift::NotRedeemed);
    }
    let notices = notices(context, ask, seen, &recorder, executed.stated)?;
    let chain = subject
        .as_ref()
        // Whoever may not record for a session does not get to write into its chain.
        .filter(|_| may_record)
        .and_then(|subject| subject.session.as_ref())
        .map(|(id, session, standing)| link(*id, session, *standing));
    let on_time = chain.as_ref().is_some_and(|link| !link.late);
    // A suspended agent may say what it did; nothing is unlocked by its word.
    let faithful = drift.is_empty()
        && on_time
        && !notices.contains(&Notice::InputNotStated)
        && context.is_active(&recorder)?;
    let observed = match &subject {
        Some(subject) if faithful => observe(context, ask, subject, &recorder)?,
        _ => false,
    };
    // Only somebody who may record can take the place of the first outcome.
    if subject.is_some() && may_record && is_first {
        context.txn.write(
            first_key,
            &v1::LeafRecord {
                leaf: context.leaf.0,
            },
        );
    }
    Ok(v1::Outcome {
        drift: drift.into_iter().map(i32::from).collect(),
        notices: notices.into_iter().map(i32::from).collect(),
        chain,
        recorder: Some(recorder.to_message()),
        namespace: subject
            .map(|subject| subject.decision.namespace)
            .unwrap_or_default(),
        observed,
    })
}

/// True if nobody whose word counts for as much has recorded an outcome of the decision. What an agent says of itself does not keep
/// a gateway from being heard.
fn is_first(
    context: &Context<'_, '_>,
    first_key: &Key,
    recorder: &Identity,
) -> Result<bool, StateError> {
    let Some(first) = context.txn.read::<v1::LeafRecord>(first_key)? else {
        return Ok(true);
    };
    if !matches!(recorder, Identity::Gateway(_)) {
        return Ok(false);
    }
    let entry = ledger::entry(context.txn, LeafIndex(first.leaf))?;
    let Some(v1::entry::Body::Outcome(outcome)) = entry.and_then(|entry| entry.body) else {
        return Err(StateError::damaged(
            first_key,
            "a decision whose outcome is no outcome",
        ));
    };
    Ok(outcome
        .notices()
        .any(|notice| notice == Notice::SelfReported))
}

/// What the recorder says was executed, compared with what was authorized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Executed {
    /// It is stated, and if its content was sent, that content is what is stated.
    stated: bool,
    /// Something stated or sent is not what was authorized.
    changed: bool,
}

/// The content of EXECUTED_INPUT has a salt of its own, so that erasing INPUT erases what its digest could be guessed with;
/// hashed with the salt of INPUT it must give the digest that is stated. Where that cannot be seen, it is not stated.
fn executed(
    context: &mut Context<'_, '_>,
    ask: &v1::Record,
    subject: Option<&Subject>,
) -> Result<Executed, StateError> {
    let kind = CompartmentKind::ExecutedInput;
    let authorized = subject.and_then(|subject| subject.input.as_ref());
    let differs = |digest: &[u8]| authorized.is_some_and(|input| input.digest != digest);
    let digest = ask.executed_input_digest.as_slice();
    let mut executed = Executed {
        stated: !digest.is_empty(),
        changed: !digest.is_empty() && differs(digest),
    };
    if !context.command.commitments.contains_key(&kind) {
        return Ok(executed);
    }
    let decided_at = LeafIndex(ask.decision_index);
    let input = match compartment(context, decided_at, CompartmentKind::Input, authorized)? {
        Kept::Gone => None,
        Kept::Here(input) => Some(Some(input)),
        Kept::Never => Some(None),
    };
    let here = !context.compartments.erased.contains(&kind);
    let Some(input) = input.filter(|_| here) else {
        let recorded = context.adopt_outcome()?;
        return Ok(Executed {
            stated: !recorded
                .notices()
                .any(|notice| notice == Notice::InputNotStated),
            changed: recorded.drift().any(|drift| drift == Drift::InputChanged),
        });
    };
    let salt = input.and_then(|input| <[u8; SALT_LEN]>::try_from(input.salt).ok());
    match salt.zip(context.content(kind)) {
        Some((salt, content)) => {
            let sent = commitment_digest(&salt, content);
            executed.stated &= sent.as_bytes() == digest;
            executed.changed |= differs(sent.as_bytes());
        }
        None => executed.stated = false,
    }
    Ok(executed)
}

/// The decision's agent records for itself; a gateway records for agents it acts for.
fn may_record(
    context: &Context<'_, '_>,
    subject: &Subject,
    recorder: &Identity,
) -> Result<bool, StateError> {
    match recorder {
        Identity::Agent(id) => Ok(*id == subject.request.agent),
        Identity::Gateway(id) => {
            let gateway = context.gateway(id)?;
            Ok(gateway
                .zip(subject.agent.as_ref())
                .is_some_and(|(gateway, agent)| {
                    gateway_may(
                        &gateway,
                        GatewayPermission::Record,
                        &subject.request.agent,
                        agent,
                    )
                }))
        }
        Identity::Operator(_) | Identity::Node(_) | Identity::Recovery => Ok(false),
    }
}

fn drift(
    context: &Context<'_, '_>,
    ask: &v1::Record,
    subject: Option<&Subject>,
    is_first: bool,
) -> Vec<Drift> {
    let mut drift = Vec::new();
    let allowed = subject.filter(|subject| subject.decision.verdict() == Verdict::Allow);
    // The recorder's own word on when it began, by a clock; without it, the ledger's time. What began before it was asked for was not
    // authorized; clocks may differ by as much as the ledger lets a command differ.
    let begun = if ask.started_at_us == 0 {
        context.now_us
    } else {
        ask.started_at_us
            .saturating_add(context.ledger.time_offset_us)
    };
    let too_early = |subject: &Subject| begun.saturating_add(FRESHNESS_US) < subject.decided_at_us;
    // That nothing was executed is no drift, whatever was decided.
    let executed = ask.status() != ExecutionStatus::NotExecuted;
    if executed && allowed.is_none_or(too_early) {
        drift.push(Drift::NotAuthorized);
    }
    if executed && allowed.is_some_and(|allowed| begun >= allowed.permit_ends_at_us(context.ledger))
    {
        drift.push(Drift::PermitExpired);
    }
    if !is_first {
        drift.push(Drift::AlreadyRecorded);
    }
    if subject.is_none() {
        drift.push(Drift::WrongRecorder);
    }
    drift
}

fn notices(
    context: &Context<'_, '_>,
    ask: &v1::Record,
    subject: Option<&Subject>,
    recorder: &Identity,
    stated: bool,
) -> Result<Vec<Notice>, StateError> {
    let mut notices = Vec::new();
    if let Some(subject) = subject {
        let action = subject
            .request
            .tool
            .as_ref()
            .map(action_id)
            .unwrap_or_default();
        let agent = subject.agent.as_ref();
        if agent.is_some_and(|agent| {
            agent.status() != IdentityStatus::Active && agent.leaf > ask.decision_index
        }) {
            notices.push(Notice::SuspendedSince);
        }
        let namespace = context.namespace(&subject.decision.namespace)?;
        let activation = subject
            .decision
            .rests_on
            .as_ref()
            .and_then(|rests_on| rests_on.activation);
        if activation.is_some()
            && namespace.map(|namespace| namespace.activation_leaf) != activation
        {
            notices.push(Notice::PolicyChangedSince);
        }
        let attempt = Attempt {
            agent_id: &subject.request.agent,
            agent,
            action: Some(&action),
        };
        let decided_at = LeafIndex(ask.decision_index);
        if halt::stops_since(context.txn, context.now_us, attempt, decided_at)? {
            notices.push(Notice::HaltedSince);
        }
    }
    if matches!(recorder, Identity::Agent(_)) {
        notices.push(Notice::SelfReported);
    }
    if subject
        .and_then(|subject| subject.session.as_ref())
        .is_some_and(|(.., standing)| *standing != Standing::Open)
    {
        notices.push(Notice::Late);
    }
    if !stated && ask.status() != ExecutionStatus::NotExecuted {
        notices.push(Notice::InputNotStated);
    }
    if !context.compartments.too_large.is_empty()
        || !context.compartments.mismatched.is_empty()
        || !is_well_formed(ask)
    {
        notices.push(Notice::ContentNotKept);
    }
    Ok(notices)
}

fn is_well_formed(ask: &v1::Record) -> bool {
    let digest = ask.result_digest.as_ref().is_none_or(|digest| {
        digest.algorithm() != v1::DigestAlgorithm::Unspecified && digest.bytes.len() == 32
    });
    digest
        && ask.status() != ExecutionStatus::Unspecified
        && ask.started_at_us <= MAX_TIME_US
        && ask.finished_at_us <= MAX_TIME_US
        && validate::is_empty_or(&ask.executed_input_digest, 32)
}
