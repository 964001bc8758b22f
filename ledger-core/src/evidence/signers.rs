//! Signatures of a command, checked with keys that the evidence proves to be enrolled.

use ledger_proto::v1;

use super::enrolment::enrolled;
use super::proven::{Proven, ProvenEntries};
use super::verify::EvidenceError;
use crate::command::parse_cosigners;
use crate::id::Identity;
use crate::signature::{SignatureDomain, parse_signatures};

/// Checks every signature of a command with the key that the entry at the leaf beside it enrolled. Returns who signed.
pub(super) fn signers(
    entries: &ProvenEntries,
    origin: &str,
    proven: &Proven,
    key_leaves: &[u64],
) -> Result<Vec<Identity>, EvidenceError> {
    let index = proven.index;
    let contradiction = |what| EvidenceError::Contradiction { index, what };
    let command = proven.command.as_ref();
    let command = command.ok_or_else(|| contradiction("an entry without a command"))?;
    let author = parse(command.author.as_ref());
    let author = author.ok_or_else(|| contradiction("a command without an author"))?;
    let signed = proven.entry.signed.as_ref();
    let signed = signed.ok_or_else(|| contradiction("an entry without a command"))?;
    let parsed = parse_signatures(SignatureDomain::of(&author), origin, signed)
        .map_err(|_| EvidenceError::Signature { index })?;
    if key_leaves.len() != parsed.len() {
        return Err(contradiction(
            "it does not name the entry of each signing key",
        ));
    }
    let mut signers = Vec::with_capacity(parsed.len());
    for (signature, leaf) in parsed.iter().zip(key_leaves) {
        let enrolment = entries.get(*leaf, "the enrolment of a signing key")?;
        let enrolled = enrolled(
            &enrolment.entry,
            enrolment.command.as_ref(),
            signature.key_id,
        )
        .ok_or_else(|| contradiction("the entry it names did not enrol the signing key"))?;
        if *leaf >= index {
            return Err(contradiction("a key that was enrolled after it signed"));
        }
        if !enrolled.is_of(proven.entry.time_us) {
            return Err(contradiction(
                "a key that was not valid yet, or not any more, when it signed",
            ));
        }
        if !signature.verify(&enrolled.key) {
            return Err(EvidenceError::Signature { index });
        }
        signers.push(enrolled.identity);
    }
    let cosigners = parse_cosigners(&command.cosigners, &author)
        .ok_or_else(|| contradiction("cosigners that a command cannot have"))?;
    let mut named: Vec<&Identity> = cosigners.iter().chain([&author]).collect();
    let mut signed_by: Vec<&Identity> = signers.iter().collect();
    named.sort();
    signed_by.sort();
    if named != signed_by {
        return Err(contradiction(
            "others signed than the author and its cosigners",
        ));
    }
    Ok(signers)
}

fn parse(identity: Option<&v1::Identity>) -> Option<Identity> {
    identity.and_then(|identity| Identity::parse(identity).ok())
}
