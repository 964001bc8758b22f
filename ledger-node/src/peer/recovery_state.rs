//! What a node that starts is told of its own promises. Only the store is read: Raft may not run yet.

use std::io;

use ledger_proto::peer::v1 as wire;

use crate::cosign::Cosigner;
use crate::raft::log::{last_log_id, read_meta};
use crate::raft::peers::Peers;
use crate::raft::types;
use crate::storage::{Read, meta};

/// What this node remembers of another one, and how far it is itself.
pub(super) fn recovery_state(
    store: &dyn Read,
    peers: &Peers,
    cosigner: &Cosigner,
    of: u64,
) -> io::Result<wire::GetRecoveryStateResponse> {
    let applied: Option<wire::AppliedRecord> = read_meta(store, meta::APPLIED)?;
    let applied = applied.unwrap_or_default();
    let last = last_log_id(store)?.max(applied.last_log_id.as_ref().map(types::log_id));
    let known = peers.memory.recall(of);
    Ok(wire::GetRecoveryStateResponse {
        remembers: peers.participation.remembers(),
        takes_part: peers.participation.is_full(),
        granted: known.granted,
        acknowledged_in_term: known.acknowledged_in_term,
        acknowledged: known.acknowledged,
        cosigned_checkpoint: cosigner.newest_by(of)?.unwrap_or_default(),
        vote: read_meta(store, meta::VOTE)?,
        last_log_id: last.as_ref().map(types::log_id_to_wire),
        membership_log_id: applied.membership_log_id,
        membership: applied.membership,
    })
}
