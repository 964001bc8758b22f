//! Explaining a session: that these are all its entries, from the opening to the end.

use std::fmt;

use ledger_proto::v1::{self, command::Body as Ask, entry::Body};

use super::proven::{Proven, ProvenEntries};
use super::report::{Basis, Report};
use super::verify::EvidenceError;
use crate::entry;
use crate::id::Identity;

pub(super) fn explain_session(
    report: &mut Report,
    entries: &ProvenEntries,
    id: &[u8],
) -> Result<(), EvidenceError> {
    let mut previous: Vec<u8> = Vec::new();
    let mut number = 0;
    let mut end = None;
    let mut counted = Counted::default();
    for proven in entries.iter() {
        let contradiction = |what| EvidenceError::Contradiction {
            index: proven.index,
            what,
        };
        if end.is_some() {
            return Err(contradiction("an entry after the end of the session"));
        }
        if let Some(Body::SessionEnd(answer)) = &proven.entry.body {
            if answer.result() != v1::Result::Applied || answer.session_id != id {
                return Err(contradiction("not the end of this session"));
            }
            if answer.count != number || answer.head != previous {
                return Err(contradiction(
                    "the end of the session counts other entries than these",
                ));
            }
            end = Some((proven.index, answer.kind()));
            continue;
        }
        let link = entry::chain(&proven.entry).filter(|link| link.session_id == id && !link.late);
        let link = link.ok_or_else(|| contradiction("not an entry of this session's chain"))?;
        number += 1;
        if link.number != number || link.previous_hash != previous {
            return Err(contradiction(
                "an entry of the session is missing before this one",
            ));
        }
        previous = proven.leaf_hash.as_bytes().to_vec();
        match &proven.entry.body {
            Some(Body::SessionOpening(_)) if number == 1 => explain_opening(report, proven, id)?,
            Some(body) if number > 1 && counted.add(body) => {
                if let Body::Outcome(outcome) = body {
                    explain_drift(report, proven, outcome);
                }
            }
            _ => {
                return Err(contradiction(
                    "a chain begins with the opening, and only once",
                ));
            }
        }
    }
    let Some((leaf, kind)) = end else {
        return Err(EvidenceError::Missing {
            index: 0,
            what: "the end of the session",
        });
    };
    let complete = format!("all {number} entries: {counted}");
    report.add("complete", complete, Basis::Verified);
    report.add(
        "ended",
        kind.as_str_name().trim_start_matches("SESSION_END_KIND_"),
        Basis::Ledger(leaf),
    );
    Ok(())
}

/// Entries of a chain behind its opening, by what they say.
#[derive(Debug, Default)]
struct Counted {
    allowed: u64,
    denied: u64,
    redeemed: u64,
    not_redeemed: u64,
    outcomes: u64,
}

impl Counted {
    /// False for an entry that no chain holds behind its opening.
    fn add(&mut self, body: &Body) -> bool {
        let count = match body {
            Body::Decision(decision) if decision.verdict() == v1::Verdict::Allow => {
                &mut self.allowed
            }
            Body::Decision(_) => &mut self.denied,
            Body::Redemption(redemption)
                if redemption.reason() == v1::RedemptionReason::Redeemed =>
            {
                &mut self.redeemed
            }
            Body::Redemption(_) => &mut self.not_redeemed,
            Body::Outcome(_) => &mut self.outcomes,
            Body::Genesis(_)
            | Body::SessionOpening(_)
            | Body::SessionEnd(_)
            | Body::Governance(_) => return false,
        };
        *count += 1;
        true
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            allowed,
            denied,
            redeemed,
            not_redeemed,
            outcomes,
        } = self;
        write!(f, "{allowed} allowed, {denied} denied or escalated, ")?;
        if redeemed + not_redeemed > 0 {
            write!(f, "{redeemed} redeemed, {not_redeemed} not redeemed, ")?;
        }
        write!(f, "{outcomes} outcomes")
    }
}

/// Whose session it is: the opening's command has the session's id.
fn explain_opening(report: &mut Report, opening: &Proven, id: &[u8]) -> Result<(), EvidenceError> {
    let command = opening
        .command
        .as_ref()
        .filter(|command| command.request_id == id);
    let (Some(command), Some(Ask::OpenSession(ask))) =
        (command, command.and_then(|command| command.body.as_ref()))
    else {
        let what = "the opening of another session";
        return Err(EvidenceError::Contradiction {
            index: opening.index,
            what,
        });
    };
    let basis = || Basis::Ledger(opening.index);
    let issuer = command
        .author
        .as_ref()
        .and_then(|author| Identity::parse(author).ok());
    report.add("session", hex::encode(id), Basis::Verified);
    report.add("agent", ask.agent.clone(), basis());
    report.add(
        "opened by",
        issuer.as_ref().map(ToString::to_string).unwrap_or_default(),
        basis(),
    );
    // A scope that an agent gave is its word; whoever reads this cannot see what stands above it.
    let scope_basis = match &issuer {
        Some(agent @ Identity::Agent(_)) => Basis::Claimed(agent.to_string()),
        _ => basis(),
    };
    report.add("scope", ask.scope.join(" "), scope_basis);
    Ok(())
}

/// How an execution departed from what was authorized, if it did.
fn explain_drift(report: &mut Report, proven: &Proven, outcome: &v1::Outcome) {
    let drift: Vec<&str> = outcome
        .drift()
        .map(|drift| drift.as_str_name().trim_start_matches("DRIFT_"))
        .collect();
    if drift.is_empty() {
        return;
    }
    let command = proven.command.as_ref();
    let of = match command.and_then(|command| command.body.as_ref()) {
        Some(Ask::Record(record)) => format!("of the decision in entry {}", record.decision_index),
        _ => "of no decision".to_owned(),
    };
    let recorder = outcome
        .recorder
        .as_ref()
        .and_then(|recorder| Identity::parse(recorder).ok())
        .map_or_else(|| "nobody".to_owned(), |recorder| recorder.to_string());
    let told = format!("{}, {of}; recorded by {recorder}", drift.join(", "));
    report.add("drift", told, Basis::Ledger(proven.index));
}
