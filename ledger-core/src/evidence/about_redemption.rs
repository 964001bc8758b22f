//! Explaining the redemption of a decision: that it is of this decision, by somebody who could, and while the permit lived.

use ledger_proto::v1::{
    self, Assurance, CompartmentKind, RedemptionReason, Verdict, command::Body as Ask, entry::Body,
};

use super::about_decision::Case;
use super::proven::Proven;
use super::report::{Basis, Report, utc};
use super::signers::signers;
use super::verify::EvidenceError;
use crate::id::Identity;

/// Checks the redemption that the evidence holds, if it holds one.
pub(super) fn redemption(report: &mut Report, case: &Case<'_>) -> Result<(), EvidenceError> {
    let mut found = case
        .entries
        .iter()
        .filter(|proven| matches!(proven.entry.body, Some(Body::Redemption(_))));
    let Some(proven) = found.next() else {
        if case.decision.single_use {
            let none = "none in this evidence, and without one the decision is no yes";
            report.add("redemption", none, case.at());
        }
        return Ok(());
    };
    if found.next().is_some() {
        return Err(case.contradiction("two redemptions of one decision"));
    }
    let contradiction = |what| EvidenceError::Contradiction {
        index: proven.index,
        what,
    };
    let command = proven
        .command
        .as_ref()
        .and_then(|command| command.body.as_ref());
    let (Some(Body::Redemption(redemption)), Some(Ask::Redeem(ask))) =
        (&proven.entry.body, command)
    else {
        return Err(contradiction("a redemption that nobody asked for"));
    };
    let of_this = ask.decision_index == case.proven.index
        && proven.index > case.proven.index
        && redemption.namespace == case.decision.namespace;
    if !of_this {
        return Err(contradiction("a redemption of another decision"));
    }
    if !is_possible(case, proven, redemption, ask) {
        return Err(contradiction(
            "it says that a permit was redeemed which did not permit that",
        ));
    }
    let by = signers(
        case.entries,
        &case.evidence.origin,
        proven,
        &redemption.keys,
    )?;
    if redemption.assurance() != assurance(case, &by) {
        return Err(contradiction(
            "its assurance is not what the signatures give",
        ));
    }
    let when = format!("redeemed at {}", utc(proven.entry.time_us));
    report.add("redemption", when, Basis::Ledger(proven.index));
    let names: Vec<String> = by.iter().map(Identity::to_string).collect();
    report.add("redeemed by", names.join(" and "), Basis::Verified);
    Ok(())
}

/// True if the decision could be redeemed then, with what was to run.
fn is_possible(
    case: &Case<'_>,
    proven: &Proven,
    redemption: &v1::Redemption,
    ask: &v1::Redeem,
) -> bool {
    let mut commitments = case.command.commitments.iter();
    let input = commitments.find(|commitment| commitment.kind() == CompartmentKind::Input);
    redemption.reason() == RedemptionReason::Redeemed
        && redemption.assurance() != Assurance::Unspecified
        && case.decision.verdict() == Verdict::Allow
        && redemption.permit_expires_at_us == case.decision.permit_expires_at_us
        && proven.entry.time_us < case.decision.permit_expires_at_us
        && input.is_some_and(|input| input.digest == ask.input_digest)
}

/// What these signatures are worth for the agent; nothing if somebody signed who speaks for somebody else.
fn assurance(case: &Case<'_>, signers: &[Identity]) -> Assurance {
    let agent = Identity::Agent(case.request.agent.clone());
    let by_agent = signers.contains(&agent);
    let by_gateway = signers
        .iter()
        .any(|signer| matches!(signer, Identity::Gateway(_)));
    match (by_agent, by_gateway) {
        (true, true) => Assurance::BothSigned,
        (true, false) => Assurance::AgentSigned,
        (false, true) => Assurance::GatewayAsserted,
        (false, false) => Assurance::Unspecified,
    }
}
