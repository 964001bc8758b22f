//! Reading entries: the questions that evidence, audit and the machine all ask of them.

use ledger_proto::v1::{self, entry::Body};

use crate::canonical::{self, CanonicalError};
use crate::id::SessionId;
use crate::limits::MAX_ENTRY_LEN;

/// Decodes the canonical bytes of an entry.
///
/// # Errors
/// [`CanonicalError`]
pub fn decode(bytes: &[u8]) -> Result<v1::Entry, CanonicalError> {
    canonical::decode(bytes, MAX_ENTRY_LEN)
}

/// The command inside an entry, unless it is the genesis. The machine only writes commands that decode.
///
/// # Errors
/// [`CanonicalError`] if the command does not decode.
pub fn command(entry: &v1::Entry) -> Result<Option<v1::Command>, CanonicalError> {
    entry
        .signed
        .as_ref()
        .map(|signed| canonical::decode(&signed.command, MAX_ENTRY_LEN))
        .transpose()
}

/// The place of an entry in a session's chain, if it names a session.
#[must_use]
pub fn chain(entry: &v1::Entry) -> Option<&v1::ChainLink> {
    match entry.body.as_ref()? {
        Body::Decision(decision) => decision.chain.as_ref(),
        Body::Outcome(outcome) => outcome.chain.as_ref(),
        Body::Redemption(redemption) => redemption.chain.as_ref(),
        Body::SessionOpening(opening) => opening.chain.as_ref(),
        Body::SessionEnd(_) | Body::Genesis(_) | Body::Governance(_) => None,
    }
}

/// The session an entry belongs to, ends included.
#[must_use]
pub fn session(entry: &v1::Entry) -> Option<SessionId> {
    let id = match entry.body.as_ref()? {
        Body::SessionEnd(end) => &end.session_id,
        Body::Genesis(_)
        | Body::Decision(_)
        | Body::Outcome(_)
        | Body::Redemption(_)
        | Body::SessionOpening(_)
        | Body::Governance(_) => &chain(entry)?.session_id,
    };
    SessionId::from_slice(id).ok()
}

/// The namespace an entry concerns; empty for the whole ledger.
#[must_use]
pub fn namespace(entry: &v1::Entry) -> &str {
    match &entry.body {
        Some(Body::Decision(decision)) => &decision.namespace,
        Some(Body::Outcome(outcome)) => &outcome.namespace,
        Some(Body::Redemption(redemption)) => &redemption.namespace,
        Some(Body::SessionOpening(opening)) => &opening.namespace,
        Some(Body::SessionEnd(end)) => &end.namespace,
        Some(Body::Governance(governance)) => &governance.namespace,
        Some(Body::Genesis(_)) | None => "",
    }
}
