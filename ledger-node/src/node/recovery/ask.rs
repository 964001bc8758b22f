//! Asking another node what it remembers of this one, and reading what it says. Whatever it says of this node's cosignatures is
//! checked with this node's own key.

use std::time::Duration;

use ledger_core::note::checkpoint::Checkpoint;
use ledger_core::note::signed_note::Note;
use ledger_core::note::vkey::VerifierKey;
use ledger_proto::peer::v1 as wire;
use tonic::Code;

use super::judge::Answer;
use super::told::read_members;
use crate::node::check::{marked_id, marked_vote};
use crate::raft::peers::{Peers, Purpose, keys, store_id};
use crate::raft::types::{self, Members};
use crate::storage::marker::MarkedTree;

/// How long another node has to answer.
const ASK: Duration = Duration::from_secs(1);

/// What became of a question.
#[derive(Debug)]
pub(super) enum Outcome {
    /// An answer, what the other holds with this node's cosignature, and the replicas as it knows them.
    Answered(Box<(Answer, Option<MarkedTree>, Members)>),
    /// The other has met another store under this node's id.
    OtherStore,
    /// No answer.
    Silent,
}

/// Asks one node.
pub(super) async fn ask(peers: &Peers, own_key: &VerifierKey, to: u64, address: &str) -> Outcome {
    let Ok(mut client) = peers.client(to, address, Purpose::Other) else {
        return Outcome::Silent;
    };
    let mut request = peers.request(to, wire::GetRecoveryStateRequest {});
    request.set_timeout(ASK);
    match tokio::time::timeout(ASK, client.get_recovery_state(request)).await {
        Ok(Ok(answer)) => read(own_key, &answer.into_inner()),
        Ok(Err(status)) => {
            let known = store_id(status.metadata(), keys::KNOWN_STORE);
            let is_refused = status.code() == Code::FailedPrecondition;
            if is_refused && known.is_some_and(|known| known != peers.memory.own()) {
                Outcome::OtherStore
            } else {
                tracing::debug!(node_id = to, %status, "no answer about this node's promises");
                Outcome::Silent
            }
        }
        Err(_) => Outcome::Silent,
    }
}

fn read(own_key: &VerifierKey, message: &wire::GetRecoveryStateResponse) -> Outcome {
    let Some(members) = read_members(message) else {
        return Outcome::Silent;
    };
    let vote = |vote: &Option<wire::Vote>| {
        let vote = vote.as_ref()?;
        Some(marked_vote(&types::vote(vote)))
    };
    let id = |id: &Option<wire::LogId>| {
        let id = id.as_ref()?;
        Some(marked_id(&types::log_id(id)))
    };
    let answer = Answer {
        remembers: message.remembers,
        takes_part: message.takes_part,
        granted: vote(&message.granted),
        acknowledged_in_term: message.acknowledged_in_term,
        acknowledged: id(&message.acknowledged),
        cosigned: None,
        vote: vote(&message.vote),
        last_log: id(&message.last_log_id),
    };
    let held = held(own_key, &message.cosigned_checkpoint);
    Outcome::Answered(Box::new((answer, held, members)))
}

/// The tree of a checkpoint, if this node has cosigned it.
fn held(own_key: &VerifierKey, note: &str) -> Option<MarkedTree> {
    let note = Note::parse(note.as_bytes()).ok()?;
    let opened = note.open(&[own_key]).ok()?;
    if opened.verified.is_empty() {
        return None;
    }
    let checkpoint = Checkpoint::parse(note.text()).ok()?;
    Some(MarkedTree {
        size: checkpoint.size(),
        root: checkpoint.root(),
    })
}
