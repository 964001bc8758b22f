//! Faithful outcomes become part of the history that rules read, apart by who recorded them.

use ledger_proto::v1::{self, CompartmentKind, ExecutionStatus};
use policy_engine::{Outcome as ObservedOutcome, Recorder};

use super::authorize::{action_id, active_bundle};
use super::context::Context;
use super::history::{self, Whose};
use super::kept::{Kept, compartment, resource_id};
use super::subject::Subject;
use crate::hash::LeafIndex;
use crate::id::Identity;
use crate::state::StateError;

/// Makes a faithful outcome part of the history that rules read: succeeded is a response, failed or partial an error, and of what
/// the agent itself reports it is another event than of what a gateway records. What was not executed, or may have been, is nothing
/// that a rule can count on.
pub(super) fn observe(
    context: &mut Context<'_, '_>,
    ask: &v1::Record,
    subject: &Subject,
    recorder: &Identity,
) -> Result<bool, StateError> {
    let succeeded = match ask.status() {
        ExecutionStatus::Succeeded => true,
        ExecutionStatus::Failed | ExecutionStatus::Partial => false,
        ExecutionStatus::NotExecuted | ExecutionStatus::Unknown | ExecutionStatus::Unspecified => {
            return Ok(false);
        }
    };
    let (Some((session_id, session, _)), Some(agent)) = (&subject.session, &subject.agent) else {
        return Ok(false);
    };
    let Some(namespace) = context.namespace(&session.namespace)? else {
        return Ok(false);
    };
    let Some((digest, _)) = active_bundle(&namespace) else {
        return Ok(false);
    };
    let decided_at = LeafIndex(ask.decision_index);
    // Erased arguments are gone for rules too.
    let committed = subject.input.as_ref();
    let whose = Whose {
        namespace: &session.namespace,
        agent: &subject.request.agent,
        owner: &agent.owner,
        session_id: session_id.as_bytes(),
        subject_digest: &session.subject_digest,
    };
    let input = compartment(context, decided_at, CompartmentKind::Input, committed)?;
    let resource = resource_id(
        context,
        decided_at,
        &subject.request,
        subject.resource.as_ref(),
    )?;
    let output_is_gone = context
        .compartments
        .erased
        .contains(&CompartmentKind::Output);
    let (input, resource) = match (input, resource) {
        (Kept::Never, _) | (_, Kept::Never) => return Ok(false),
        (Kept::Here(input), Kept::Here(resource)) if !output_is_gone => (input, resource),
        (Kept::Gone | Kept::Here(_), Kept::Gone | Kept::Here(_)) => {
            let observed = context.adopt_outcome()?.observed;
            if observed {
                history::forget(context, &namespace, whose)?;
            }
            return Ok(observed);
        }
    };
    let compiled = context
        .policies
        .get(context.txn, &session.namespace, digest)?;
    let event = compiled.outcome_event(&ObservedOutcome {
        time_us: context.now_us,
        succeeded,
        recorder: &recorder_for_rules(recorder),
        request_id: &subject.request_id.to_string(),
        session_id: &session_id.to_string(),
        agent: &subject.request.agent,
        action: &subject
            .request
            .tool
            .as_ref()
            .map(action_id)
            .unwrap_or_default(),
        resource: &resource,
        input: &input.content,
        output: context.content(CompartmentKind::Output),
    });
    let Some(event) = event else { return Ok(false) };
    history::step(context, &namespace, whose, &[event])?;
    Ok(true)
}

/// Nobody but gateways that may and the agent itself gets here; whoever is no gateway is worth no more than the agent.
fn recorder_for_rules(recorder: &Identity) -> Recorder {
    match recorder {
        Identity::Gateway(id) => Recorder::Gateway(id.clone()),
        Identity::Agent(_) | Identity::Operator(_) | Identity::Node(_) | Identity::Recovery => {
            Recorder::Agent
        }
    }
}
