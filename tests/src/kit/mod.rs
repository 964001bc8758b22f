//! A whole ledger in memory: genesis, keys for everybody, commands signed as clients sign them.
//!
//! Nothing here is a stand-in: requests are signed, admitted, decided and appended by the code that ships. Only time and
//! randomness come from a counter, so that every run gives the same bytes.

mod answers;
mod ask;
mod bundles;
mod cast;
mod story;
mod world;

pub use answers::*;
pub use ask::*;
pub use bundles::*;
pub use cast::*;
pub use story::*;
pub use world::*;

use ledger_core::compartment::{SALT_LEN, commit};
use ledger_core::id::Identity;
use ledger_core::keys::{PublicKey, possession_message};
use ledger_core::signer::Signer;
use ledger_proto::v1;

/// The origin of SHA-256 ledgers in tests.
pub const ORIGIN: &str = "ledger.test/prod";
/// The origin of BLAKE3 ledgers in tests.
pub const ORIGIN_BLAKE3: &str = "ledger.test/prod/blake3";
/// When the genesis was made: 2026-11-23T00:00:00Z in microseconds.
pub const GENESIS_US: u64 = 1_795_392_000_000_000;
/// One second in microseconds.
pub const SECOND: u64 = 1_000_000;
/// One day in microseconds.
pub const DAY: u64 = 86_400 * SECOND;

/// A compartment with its commitment, the salt made from a number.
#[must_use]
pub fn compartment(
    kind: v1::CompartmentKind,
    salt: u64,
    content: &[u8],
) -> (v1::Commitment, v1::Compartment) {
    let mut bytes = [0; SALT_LEN];
    bytes[..8].copy_from_slice(&salt.to_be_bytes());
    let commitment = commit(kind, &bytes, content);
    (
        commitment,
        v1::Compartment {
            kind: kind.into(),
            salt: bytes.to_vec(),
            content: content.to_vec(),
        },
    )
}

/// A key with the proof that its holder has it; valid for the 90 days before its end, or for ever if that is 0.
#[must_use]
pub fn enrolment(
    origin: &str,
    identity: &Identity,
    signer: &dyn Signer,
    not_after_us: u64,
) -> v1::KeyEnrolment {
    v1::KeyEnrolment {
        key: Some(v1::PublicKey {
            algorithm: v1::KeyAlgorithm::Ed25519.into(),
            bytes: signer.public_key().to_vec(),
            not_before_us: not_after_us.saturating_sub(90 * DAY),
            not_after_us,
        }),
        proof_of_possession: signer.sign(&possession_message(origin, identity)).to_vec(),
    }
}

/// The public key of a signer.
///
/// # Panics
/// If the signer has a weak key, which no test key is.
#[must_use]
pub fn public_key(signer: &dyn Signer) -> PublicKey {
    PublicKey::from_bytes(&signer.public_key()).expect("test keys are strong")
}
