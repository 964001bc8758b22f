//! What every command must pass before it can leave a trace: form, signatures, request id, freshness, in this order.
//!
//! Refused commands are nobody's: an entry for them would let anyone write into the ledger. So they leave none.

use std::collections::BTreeMap;

use ledger_proto::v1;
use thiserror::Error;

use super::authority::{WHOLE_LEDGER, enough_admins};
use super::time;
use crate::command::Command;
use crate::hash::LeafIndex;
use crate::id::{Identity, KeyId};
use crate::keys::PublicKey;
use crate::ledger::Head;
use crate::limits::FRESHNESS_US;
use crate::signature::{SignatureDomain, parse_signatures};
use crate::state::{Key, State, StateError, Txn, read};

/// Why a command was refused. Nothing happened in any of these cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Error)]
pub enum Refusal {
    /// Too long, not canonical, or its header does not make sense.
    #[error(
        "the command does not decode, is not canonical, or is too long; build it with a current client"
    )]
    Undecodable,
    /// No signature, too many, out of order, or not possible at their batch positions.
    #[error("the signatures are not well-formed; sign again")]
    SignatureForm,
    /// No identity has this key.
    #[error("no identity of this ledger has this key; register it, or use another")]
    UnknownKey,
    /// The key was retired, has expired, or is not valid yet.
    #[error("the key is retired, expired or not valid yet; use another key of the same identity")]
    KeyNotActive,
    /// The signature is not by this key over this command, in this ledger, at this batch position.
    #[error("a signature does not verify; check the ledger's origin and the key")]
    BadSignature,
    /// Two signatures by one identity, or none by the author.
    #[error("a command is signed by its author, and at most once by each identity")]
    NotByAuthor,
    /// Signed by others than the author and the cosigners that the command names.
    #[error(
        "the author and the cosigners that the command names sign it, and nobody else; send it with all its signatures"
    )]
    SignersMismatch,
    /// The request id has named another command of this author.
    #[error("the request id names another command of this author; make a new id")]
    RequestIdReused,
    /// `issued_at` is too far from the time of the ledger.
    #[error(
        "the command was made more than 5 minutes before or after now; check the clock and sign again"
    )]
    Stale,
}

/// An identity that signed, and the leaf that enrolled its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signer {
    pub(super) identity: Identity,
    /// None only in a simulation.
    pub(super) leaf: Option<LeafIndex>,
}

/// A command whose signatures hold.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) command: Command,
    /// In the order of the signatures.
    pub(super) signers: Vec<Signer>,
}

/// Results of signature checks by key. A key id is a hash of the key, so a result stays true whatever happens to the state
/// between the check and the command's turn.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SignatureChecks(BTreeMap<KeyId, bool>);

/// Checks the signatures of a submission against the keys that are known now; unknown keys are left for later. Meant for
/// worker threads, from the moment a log entry is appended.
///
/// # Errors
/// [`StateError`] if the store cannot be read.
pub fn check_signatures(
    state: &dyn State,
    origin: &str,
    submission: &v1::Submission,
) -> Result<SignatureChecks, StateError> {
    let mut checks = SignatureChecks::default();
    let Some(signed) = &submission.signed else {
        return Ok(checks);
    };
    let Ok(command) = Command::parse(signed) else {
        return Ok(checks);
    };
    let Ok(signatures) = parse_signatures(SignatureDomain::of(&command.author), origin, signed)
    else {
        return Ok(checks);
    };
    for signature in signatures {
        let record: Option<v1::KeyRecord> = read(state, &Key::public_key(signature.key_id))?;
        if let Some(record) = record {
            checks.0.insert(
                signature.key_id,
                signature.verify(&stored_key(signature.key_id, &record)?),
            );
        }
    }
    Ok(checks)
}

/// Form and signatures. The inner error is a refusal, the outer one a damaged state.
pub(super) fn admit(
    txn: &Txn<'_>,
    origin: &str,
    now_us: u64,
    submission: &v1::Submission,
    checks: &SignatureChecks,
) -> Result<Result<Admitted, Refusal>, StateError> {
    let Some(signed) = &submission.signed else {
        return Ok(Err(Refusal::Undecodable));
    };
    let command = match Command::parse(signed) {
        Ok(command) => command,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let Ok(signatures) = parse_signatures(SignatureDomain::of(&command.author), origin, signed)
    else {
        return Ok(Err(Refusal::SignatureForm));
    };
    let mut signers: Vec<Signer> = Vec::with_capacity(signatures.len());
    for signature in signatures {
        let record: Option<v1::KeyRecord> = txn.read(&Key::public_key(signature.key_id))?;
        let Some(record) = record else {
            return Ok(Err(Refusal::UnknownKey));
        };
        if !is_active(&record, now_us) {
            return Ok(Err(Refusal::KeyNotActive));
        }
        let key = stored_key(signature.key_id, &record)?;
        let holds = checks.0.get(&signature.key_id).copied();
        if !holds.unwrap_or_else(|| signature.verify(&key)) {
            return Ok(Err(Refusal::BadSignature));
        }
        let identity = record
            .identity
            .as_ref()
            .and_then(|identity| Identity::parse(identity).ok())
            .ok_or_else(|| {
                StateError::damaged(
                    Key::public_key(signature.key_id),
                    "a key without an identity",
                )
            })?;
        if signers.iter().any(|signer| signer.identity == identity) {
            return Ok(Err(Refusal::NotByAuthor));
        }
        signers.push(Signer {
            identity,
            leaf: Some(LeafIndex(record.leaf)),
        });
    }
    if !signers
        .iter()
        .any(|signer| signer.identity == command.author)
    {
        return Ok(Err(Refusal::NotByAuthor));
    }
    // Whoever carries a command could otherwise take a signature off, and with it what only that signer vouches for.
    let all = command
        .signers()
        .all(|named| signers.iter().any(|signer| signer.identity == *named));
    if !all || signers.len() != command.signers().count() {
        return Ok(Err(Refusal::SignersMismatch));
    }
    Ok(Ok(Admitted { command, signers }))
}

/// The leaf of a command that was applied before, or the refusal of another command under the same id.
pub(super) fn replayed(
    txn: &Txn<'_>,
    command: &Command,
) -> Result<Option<Result<LeafIndex, Refusal>>, StateError> {
    let record: Option<v1::RequestRecord> =
        txn.read(&Key::request(&command.author, command.request_id))?;
    Ok(record.map(|record| {
        let same = record.command_digest == command.digest.as_bytes();
        if same {
            Ok(LeafIndex(record.leaf))
        } else {
            Err(Refusal::RequestIdReused)
        }
    }))
}

/// A command nobody has seen must be made at about the time at which it is applied. Authors have clocks, and know nothing of the
/// ledger's time offset. What admins say of a ledger that is ahead of all clocks is bound to the ledger's end instead; from others it
/// makes no entry, so that nobody can move that end away from them.
pub(super) fn fresh(
    txn: &Txn<'_>,
    ledger: &v1::LedgerRecord,
    head: &Head,
    admitted: &Admitted,
    now_us: u64,
) -> Result<Result<(), Refusal>, StateError> {
    let command = &admitted.command;
    let issued_at_us = command.issued_at_us.saturating_add(ledger.time_offset_us);
    let is_fresh = issued_at_us.abs_diff(now_us) <= FRESHNESS_US
        || time::is_of_end(&command.body, head)
            && enough_admins(txn, ledger, &admitted.signers, WHOLE_LEDGER)?;
    Ok(if is_fresh {
        Ok(())
    } else {
        Err(Refusal::Stale)
    })
}

/// True if the key may sign at this time.
pub(super) fn is_active(record: &v1::KeyRecord, now_us: u64) -> bool {
    let Some(key) = &record.key else { return false };
    let begun = key.not_before_us <= now_us;
    let ended = key.not_after_us != 0 && key.not_after_us <= now_us;
    begun && !ended && record.retired_at_us == 0
}

fn stored_key(key_id: KeyId, record: &v1::KeyRecord) -> Result<PublicKey, StateError> {
    let key = record
        .key
        .as_ref()
        .and_then(|key| PublicKey::parse(key).ok());
    key.ok_or_else(|| StateError::damaged(Key::public_key(key_id), "not a public key"))
}
