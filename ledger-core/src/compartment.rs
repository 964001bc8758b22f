//! Content that can be erased without touching a leaf.
//!
//! A command commits to content; salt and content travel beside it and are stored apart. Without the 32 random bytes of
//! salt the commitment says nothing about the content, so erasing salt and content erases it for good.

use ledger_proto::v1::{self, CompartmentKind};

use crate::hash::Hash;
use crate::limits::{
    MAX_CONTEXT_LEN, MAX_INPUT_LEN, MAX_OUTPUT_LEN, MAX_REASON_LEN, MAX_RESOURCE_LEN,
};
use crate::state::{Key, StateError};

/// Bytes of salt.
pub const SALT_LEN: usize = 32;

/// What precedes salt and content in the hash of a commitment.
const COMMITMENT_DOMAIN: &[u8] = b"countersign-commitment-v1\0";

/// `BLAKE3("countersign-commitment-v1\0" || salt || content)`.
#[must_use]
pub fn commitment_digest(salt: &[u8; SALT_LEN], content: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(COMMITMENT_DOMAIN)
        .update(salt)
        .update(content);
    Hash::from_bytes(*hasher.finalize().as_bytes())
}

/// The commitment to a piece of content.
#[must_use]
pub fn commit(kind: CompartmentKind, salt: &[u8; SALT_LEN], content: &[u8]) -> v1::Commitment {
    v1::Commitment {
        kind: kind.into(),
        length: content.len() as u64,
        digest: commitment_digest(salt, content).as_bytes().to_vec(),
    }
}

/// True if the compartment is what the commitment promises.
#[must_use]
pub fn matches(commitment: &v1::Commitment, compartment: &v1::Compartment) -> bool {
    let Ok(salt) = <&[u8; SALT_LEN]>::try_from(compartment.salt.as_slice()) else {
        return false;
    };
    commitment.kind == compartment.kind
        && commitment.length == compartment.content.len() as u64
        && commitment.digest == commitment_digest(salt, &compartment.content).as_bytes()
}

/// Rejects a stored compartment that is not what its entry commits to.
pub(crate) fn require_match(
    key: &Key,
    commitment: &v1::Commitment,
    stored: &v1::Compartment,
) -> Result<(), StateError> {
    if matches(commitment, stored) {
        Ok(())
    } else {
        let what = "a stored compartment is not what its entry commits to; run fsck";
        Err(StateError::damaged(key, what))
    }
}

/// The longest content of a kind, in bytes.
#[must_use]
pub const fn max_len(kind: CompartmentKind) -> u64 {
    match kind {
        CompartmentKind::Unspecified => 0,
        CompartmentKind::Input | CompartmentKind::ExecutedInput => MAX_INPUT_LEN,
        CompartmentKind::Resource => MAX_RESOURCE_LEN,
        CompartmentKind::Context => MAX_CONTEXT_LEN,
        CompartmentKind::Output => MAX_OUTPUT_LEN,
        CompartmentKind::Reason => MAX_REASON_LEN,
    }
}
