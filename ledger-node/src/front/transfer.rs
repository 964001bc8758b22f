//! What an admin signs to move leadership. The node that is asked checks it, and the leader again, because the node that shows it may
//! have made it up.

use std::time::{Duration, Instant};

use ledger_core::hash::Hash;
use ledger_proto::peer::v1 as wire;
use ledger_proto::v1::{self, ErrorReason, Role};
use prost::Message as _;

use super::read_auth::{MAX_SKEW_US, ReadSignature};
use super::rights::Reader;
use crate::failure::{Answer, Failure, argument};
use crate::leadership::AskedTransfer;
use crate::ledger::Ledger;
use crate::raft::honoured::REMEMBERED;

/// How long the leader takes at most to see that its state is the newest.
const CHECK: Duration = Duration::from_secs(2);

// A request that is forgotten must be too old.
const _: () = assert!(REMEMBERED.as_secs() >= 2 * MAX_SKEW_US / 1_000_000);

/// The transfer that a reader asks for who signed this request with this signature.
///
/// # Errors
/// `READ_NOT_PERMITTED` for everybody but admins of the whole ledger.
pub(super) fn of_admin(
    reader: &Reader,
    signature: &ReadSignature,
    request: v1::TransferLeadershipRequest,
    origin: &str,
) -> Answer<AskedTransfer> {
    if !reader.holds(&[Role::Admin], "") {
        return Err(Failure::new(
            ErrorReason::ReadNotPermitted,
            "only an admin of the whole ledger may move leadership",
        ));
    }
    let mut digest = blake3::Hasher::new();
    digest.update(&signature.key_id().to_vec());
    digest.update(&signature.message(origin, &request));
    Ok(AskedTransfer {
        to: request.to,
        by: reader.identity.clone(),
        signed_at_us: signature.time_us(),
        digest: Hash::from_bytes(*digest.finalize().as_bytes()),
        signed: wire::HandOverRequest {
            request: request.encode_to_vec(),
            signature: Some(signature.to_wire()),
        },
    })
}

/// Checks what another node shows as signed by an admin, as if the admin had asked this node: time, key, signature over this call of
/// this ledger, and role, in the newest state.
///
/// # Errors
/// Those of a read that is signed wrongly, or by somebody else.
pub(crate) async fn verify(
    ledger: &Ledger,
    shown: &wire::HandOverRequest,
) -> Answer<AskedTransfer> {
    let signature = shown.signature.as_ref().ok_or_else(unsigned)?;
    let signature = ReadSignature::of_wire(signature).ok_or_else(unsigned)?;
    signature
        .check_time(ledger.clock_us())
        .map_err(|failure| ledger.or_clock_is_off(failure))?;
    let request = v1::TransferLeadershipRequest::decode(shown.request.as_slice())
        .map_err(|_| argument("`request` is no TransferLeadershipRequest"))?;
    ledger.fully_consistent(Instant::now() + CHECK).await?;
    let (view, now_us) = (ledger.view(), ledger.now_us());
    let found = || Reader::identify(&view, ledger.origin(), now_us, &signature, &request);
    let reader = tokio::task::block_in_place(found)?;
    of_admin(&reader, &signature, request, ledger.origin())
}

fn unsigned() -> Failure {
    Failure::new(
        ErrorReason::ReadSignatureMissing,
        "the leader hands over when an admin asks: the admin's signature is missing",
    )
}
