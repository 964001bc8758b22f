//! Explaining a decision: whose it is, in which session, under which rule, and how one knows.

use ledger_proto::v1::{
    self, Assurance, CompartmentKind, Verdict, command::Body as Ask, entry::Body,
};

use super::about_redemption::redemption;
use super::about_rules::rules;
use super::proven::{Proven, ProvenEntries};
use super::report::{Basis, Report, utc};
use super::signers::signers;
use super::verify::EvidenceError;
use crate::id::Identity;

/// What is said of an allowed action whose outcome is not there.
const NO_OUTCOME: &str = "none in this evidence; one may exist";

/// What is said of keys: no entry beside their enrolments is in the evidence, and replicas refuse what a retired key signs.
const NO_RETIREMENT: &str = "none, by the word of the ledger; this evidence does not show it";

/// What the explanations below look at.
pub(super) struct Case<'a> {
    pub(super) entries: &'a ProvenEntries,
    pub(super) proven: &'a Proven,
    pub(super) command: &'a v1::Command,
    pub(super) decision: &'a v1::Decision,
    pub(super) request: &'a v1::Authorize,
    pub(super) evidence: &'a v1::Evidence,
}

impl Case<'_> {
    pub(super) fn contradiction(&self, what: &'static str) -> EvidenceError {
        EvidenceError::Contradiction {
            index: self.proven.index,
            what,
        }
    }

    pub(super) fn at(&self) -> Basis {
        Basis::Ledger(self.proven.index)
    }
}

pub(super) fn explain_decision(
    report: &mut Report,
    entries: &ProvenEntries,
    index: u64,
    evidence: &v1::Evidence,
) -> Result<(), EvidenceError> {
    let proven = entries.get(index, "the decision")?;
    let command = proven.command.as_ref();
    let (Some(Body::Decision(decision)), Some(command), Some(Ask::Authorize(request))) = (
        &proven.entry.body,
        command,
        command.and_then(|command| command.body.as_ref()),
    ) else {
        return Err(EvidenceError::Contradiction {
            index,
            what: "the entry is not a decision",
        });
    };
    let case = Case {
        entries,
        proven,
        command,
        decision,
        request,
        evidence,
    };
    verdict(report, &case);
    let signers = signatures(&case)?;
    identities(report, &case, &signers)?;
    session(report, &case)?;
    rules(report, &case)?;
    content(report, &case);
    redemption(report, &case)?;
    outcomes(report, &case)
}

fn verdict(report: &mut Report, case: &Case<'_>) {
    let decision = case.decision;
    let verdict = decision
        .verdict()
        .as_str_name()
        .trim_start_matches("VERDICT_");
    let reason = decision
        .reason()
        .as_str_name()
        .trim_start_matches("DECISION_REASON_");
    report.add("decision", format!("{verdict}: {reason}"), case.at());
    report.add("time", utc(case.proven.entry.time_us), case.at());
    let tool = case.request.tool.clone().unwrap_or_default();
    let action = if tool.server.is_empty() {
        tool.name
    } else {
        format!("{}/{}", tool.server, tool.name)
    };
    report.add("action", action, Basis::Verified);
    if decision.verdict() == Verdict::Allow {
        let until = format!("until {}", utc(decision.permit_expires_at_us));
        report.add("permit", until, case.at());
    }
    for condition in &decision.conditions {
        let kind = if condition.critical {
            "obligation"
        } else {
            "advice"
        };
        report.add(
            "condition",
            format!("{kind} {}: {}", condition.r#type, condition.value),
            case.at(),
        );
    }
}

/// Checks every signature of the request with the keys that the decision rests on. Returns who signed.
fn signatures(case: &Case<'_>) -> Result<Vec<Identity>, EvidenceError> {
    let leaves = case
        .decision
        .rests_on
        .as_ref()
        .map(|rests_on| rests_on.keys.as_slice())
        .unwrap_or_default();
    signers(case.entries, &case.evidence.origin, case.proven, leaves)
}

fn identities(
    report: &mut Report,
    case: &Case<'_>,
    signers: &[Identity],
) -> Result<(), EvidenceError> {
    let agent = Identity::Agent(case.request.agent.clone());
    let presenter = case
        .decision
        .presenter
        .as_ref()
        .and_then(|presenter| Identity::parse(presenter).ok());
    let gateway = signers
        .iter()
        .filter(|signer| matches!(signer, Identity::Gateway(_)))
        .max_by_key(|signer| Some(*signer) == presenter.as_ref());
    let by_agent = signers.contains(&agent);
    let assurance = match (by_agent, gateway) {
        (true, Some(_)) => Assurance::BothSigned,
        (true, None) => Assurance::AgentSigned,
        (false, Some(_)) => Assurance::GatewayAsserted,
        (false, None) => Assurance::Unspecified,
    };
    if case.decision.assurance() != assurance {
        return Err(case.contradiction("its assurance is not what the signatures give"));
    }
    let basis = match (by_agent, gateway) {
        (true, _) => Basis::Verified,
        (false, Some(gateway)) => Basis::Asserted(gateway.to_string()),
        (false, None) => {
            Basis::Claimed(signers.first().map(Identity::to_string).unwrap_or_default())
        }
    };
    report.add("agent", case.request.agent.clone(), basis);
    if let Some(owner) = owner(case) {
        report.add("owner", owner.0, Basis::Ledger(owner.1));
    }
    report.add("namespace", case.decision.namespace.clone(), case.at());
    let assurance = assurance.as_str_name().trim_start_matches("ASSURANCE_");
    let names: Vec<String> = signers.iter().map(Identity::to_string).collect();
    report.add(
        "signed by",
        format!("{} ({assurance})", names.join(" and ")),
        Basis::Verified,
    );
    report.add("retired keys", NO_RETIREMENT, case.at());
    Ok(())
}

/// The owner of the agent, if the entry that the decision rests on says who it is. After a suspension that was lifted it is
/// another entry, and then the evidence does not tell: an older one could have been overtaken.
fn owner(case: &Case<'_>) -> Option<(String, u64)> {
    let leaf = case.decision.rests_on.as_ref()?.agent?;
    let proven = case.entries.get(leaf, "the agent").ok()?;
    let body = proven.command.as_ref()?.body.as_ref()?;
    let named = if let Ask::RegisterAgent(ask) = body {
        (&ask.id, &ask.owner)
    } else if let Ask::UpdateAgent(ask) = body {
        (&ask.id, &ask.owner)
    } else {
        return None;
    };
    let holds = is_applied(&proven.entry) && *named.0 == case.request.agent;
    holds.then(|| (named.1.clone(), leaf))
}

pub(super) fn is_applied(entry: &v1::Entry) -> bool {
    match &entry.body {
        Some(Body::Governance(governance)) => governance.result() == v1::Result::Applied,
        Some(Body::SessionOpening(opening)) => opening.result() == v1::Result::Applied,
        _ => false,
    }
}

fn session(report: &mut Report, case: &Case<'_>) -> Result<(), EvidenceError> {
    let Some(link) = &case.decision.chain else {
        report.add(
            "session",
            "none that the presenter could speak for",
            case.at(),
        );
        return Ok(());
    };
    let leaf = case
        .decision
        .rests_on
        .as_ref()
        .and_then(|rests_on| rests_on.session);
    let leaf =
        leaf.ok_or_else(|| case.contradiction("it is in a session and does not name its opening"))?;
    let opening = case.entries.get(leaf, "the opening of the session")?;
    let command = opening.command.as_ref();
    let Some((command, Ask::OpenSession(ask))) =
        command.and_then(|command| command.body.as_ref().map(|body| (command, body)))
    else {
        return Err(
            case.contradiction("what it names as the opening of its session is another entry")
        );
    };
    let own = is_applied(&opening.entry)
        && command.request_id == case.request.session_id
        && link.session_id == case.request.session_id
        && ask.agent == case.request.agent;
    if !own || leaf >= case.proven.index {
        return Err(case.contradiction("its session is not the one that the opening opened"));
    }
    let place = if link.late {
        "after its end".to_owned()
    } else {
        format!("number {}", link.number)
    };
    let issuer = command
        .author
        .as_ref()
        .and_then(|author| Identity::parse(author).ok());
    // A scope that an agent gave is its word; whoever reads this cannot see what stands above it.
    let scope_basis = match &issuer {
        Some(agent @ Identity::Agent(_)) => Basis::Claimed(agent.to_string()),
        _ => Basis::Ledger(leaf),
    };
    let issuer = issuer.map(|issuer| issuer.to_string()).unwrap_or_default();
    report.add(
        "session",
        format!("{}, {place}", hex::encode(&link.session_id)),
        Basis::Ledger(leaf),
    );
    report.add("opened by", issuer, Basis::Ledger(leaf));
    report.add("scope", ask.scope.join(" "), scope_basis);
    if !ask.label.is_empty() {
        report.add("label", ask.label.clone(), Basis::Ledger(leaf));
    }
    Ok(())
}

/// Content that was handed out with the evidence, and who says it.
fn content(report: &mut Report, case: &Case<'_>) {
    let agent = Identity::Agent(case.request.agent.clone()).to_string();
    for opened in &case.evidence.compartments {
        let Some(compartment) = opened.compartment.as_ref() else {
            continue;
        };
        let text = String::from_utf8_lossy(&compartment.content);
        let kind = compartment.kind();
        if kind == CompartmentKind::Input && opened.index == case.proven.index {
            report.add("input", text, Basis::Claimed(agent.clone()));
        } else if kind == CompartmentKind::Output {
            let recorder = format!("the recorder of entry {}", opened.index);
            report.add("output", text, Basis::Claimed(recorder));
        }
    }
}

fn outcomes(report: &mut Report, case: &Case<'_>) -> Result<(), EvidenceError> {
    let mut found = false;
    for proven in case.entries.iter() {
        let command = proven
            .command
            .as_ref()
            .and_then(|command| command.body.as_ref());
        let (Some(Body::Outcome(outcome)), Some(Ask::Record(ask))) = (&proven.entry.body, command)
        else {
            continue;
        };
        // A record made before the decision speaks of something else, whatever index it names.
        let of_this = ask.decision_index == case.proven.index
            && proven.index > case.proven.index
            && outcome.namespace == case.decision.namespace;
        if !of_this {
            return Err(case.contradiction("an outcome of another decision"));
        }
        found = true;
        let status = ask
            .status()
            .as_str_name()
            .trim_start_matches("EXECUTION_STATUS_");
        let drift: Vec<&str> = outcome
            .drift()
            .map(|drift| drift.as_str_name().trim_start_matches("DRIFT_"))
            .collect();
        let compared = !ask.executed_input_digest.is_empty();
        let drift = match (drift.is_empty(), compared) {
            (true, true) => "as authorized".to_owned(),
            (true, false) => "without stating what was executed".to_owned(),
            (false, _) => format!("drift: {}", drift.join(", ")),
        };
        let notices: Vec<&str> = outcome
            .notices()
            .map(|notice| notice.as_str_name().trim_start_matches("NOTICE_"))
            .collect();
        let notices = match notices.as_slice() {
            [] => String::new(),
            some => format!("; notices: {}", some.join(", ")),
        };
        let recorder = outcome
            .recorder
            .as_ref()
            .and_then(|recorder| Identity::parse(recorder).ok())
            .map_or_else(|| "nobody".to_owned(), |recorder| recorder.to_string());
        report.add(
            "outcome",
            format!("{status}, {drift}; recorded by {recorder}{notices}"),
            Basis::Ledger(proven.index),
        );
    }
    if !found && case.decision.verdict() == Verdict::Allow {
        // Whoever handed out the evidence could have left one out.
        report.add("outcome", NO_OUTCOME, Basis::Verified);
    }
    Ok(())
}
