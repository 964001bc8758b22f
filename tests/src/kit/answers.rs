//! Reading what the machine answered.

use ledger_core::id::SessionId;
use ledger_core::machine::Appended;
use ledger_proto::v1;

/// The digest to which a decision's request commits its input.
#[must_use]
pub fn input_digest(entry: &v1::Entry) -> Vec<u8> {
    let command = ledger_core::entry::command(entry)
        .expect("decodes")
        .expect("has a command");
    let input = command
        .commitments
        .iter()
        .find(|commitment| commitment.kind() == v1::CompartmentKind::Input);
    input.map(|input| input.digest.clone()).unwrap_or_default()
}

/// The session that an opening opened.
///
/// # Panics
/// If the entry is not an opening that took effect.
#[must_use]
pub fn session_of(appended: &Appended) -> SessionId {
    session_of_entry(&appended.entry)
}

/// The session that the entry of an opening opened.
///
/// # Panics
/// If the entry is not an opening that took effect.
#[must_use]
pub fn session_of_entry(entry: &v1::Entry) -> SessionId {
    ledger_core::entry::session(entry).expect("an opening names its session")
}

/// The result in an entry of a governance command, session opening or session end.
///
/// # Panics
/// If it is another entry.
#[must_use]
pub fn result_of(entry: &v1::Entry) -> v1::Result {
    match entry.body.as_ref().expect("a body") {
        v1::entry::Body::Governance(governance) => governance.result(),
        v1::entry::Body::SessionOpening(opening) => opening.result(),
        v1::entry::Body::SessionEnd(end) => end.result(),
        other => panic!("no result in {other:?}"),
    }
}

/// The decision in an entry.
///
/// # Panics
/// If it is another entry.
#[must_use]
pub fn decision_of(entry: &v1::Entry) -> &v1::Decision {
    match entry.body.as_ref().expect("a body") {
        v1::entry::Body::Decision(decision) => decision,
        other => panic!("no decision but {other:?}"),
    }
}

/// The outcome in an entry.
///
/// # Panics
/// If it is another entry.
#[must_use]
pub fn outcome_of(entry: &v1::Entry) -> &v1::Outcome {
    match entry.body.as_ref().expect("a body") {
        v1::entry::Body::Outcome(outcome) => outcome,
        other => panic!("no outcome but {other:?}"),
    }
}

/// The redemption in an entry.
///
/// # Panics
/// If it is another entry.
#[must_use]
pub fn redemption_of(entry: &v1::Entry) -> &v1::Redemption {
    match entry.body.as_ref().expect("a body") {
        v1::entry::Body::Redemption(redemption) => redemption,
        other => panic!("no redemption but {other:?}"),
    }
}
