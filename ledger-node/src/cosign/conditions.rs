//! What must hold before a node looks at its own tree for a checkpoint that it is asked to cosign.

use ledger_core::evidence::utc;
use ledger_core::hash::{LeafIndex, TreeSize};
use ledger_core::ledger;
use ledger_core::note::checkpoint::Checkpoint;
use ledger_core::note::signed_note::Note;

use super::{Cosigner, PATIENCE, TrustPolicies};
use crate::raft::clocks::MAX_OFFSET_US;
use crate::raft::standing::Leading;
use crate::storage::view::StoreState;

impl Cosigner {
    /// Waits until this node follows the one that asks, or is it. A cosignature is of the largest tree so far: a node that does not lead
    /// could have a larger tree cosigned, each time just before the leader asks for its own.
    pub(super) async fn must_be_followed(&self, asked_by: u64) -> Result<(), String> {
        if asked_by == self.parts.peers.node_id {
            return Ok(());
        }
        let mut standing = self.parts.standing.clone();
        let follows = standing.wait_for(|standing| {
            matches!(&standing.leading, Leading::Other { node_id, .. } if *node_id == asked_by)
        });
        match tokio::time::timeout(PATIENCE, follows).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(format!("node {asked_by} is not followed here")),
        }
    }

    /// While this node doubts its tree, its word counts only for another node that has computed the same tree by itself, and not for
    /// the one that said something else of it.
    pub(super) fn must_be_another_leader(&self, asked_by: u64) -> Result<(), String> {
        match self.parts.suspicion.current() {
            Some(void) if void.proposer == Some(asked_by) => Err(void.to_string()),
            Some(_) | None => Ok(()),
        }
    }

    /// Refuses a tree whose last entry is dated ahead of this node's clock by more than clocks may differ.
    pub(super) fn must_be_of_now(&self, size: TreeSize) -> Result<(), String> {
        let parts = &self.parts;
        let tip = *parts.tip.borrow();
        let latest = parts
            .clock
            .now_us()
            .saturating_add(tip.time_offset_us)
            .saturating_add(MAX_OFFSET_US.unsigned_abs());
        if tip.time_us <= latest {
            return Ok(());
        }
        let Some(last) = size.0.checked_sub(1).map(LeafIndex) else {
            return Ok(());
        };
        let entry = ledger::entry(&StoreState(&*parts.store), last);
        let entry = entry.map_err(|error| error.to_string())?;
        match entry {
            Some(entry) if entry.time_us <= latest => Ok(()),
            Some(entry) => Err(format!(
                "the last entry is of {}, which is ahead of this node's clock",
                utc(entry.time_us)
            )),
            None => Err("the last entry is not here".to_owned()),
        }
    }

    /// A checkpoint that the log has signed, and that says nothing but size and root.
    pub(super) fn check_log_signature(&self, note: &str) -> Result<Checkpoint, String> {
        let parsed = Note::parse(note.as_bytes()).map_err(|error| error.to_string())?;
        let checkpoint = Checkpoint::parse(parsed.text()).map_err(|error| error.to_string())?;
        let size = self.parts.tip.borrow().size;
        let state = StoreState(&*self.parts.store);
        let policy = TrustPolicies::read(&state, size)
            .and_then(|policies| policies.in_force())
            .map_err(|error| error.to_string())?;
        let ours = policy
            .logs()
            .iter()
            .map(|log| &log.key)
            .filter(|key| key.name() == checkpoint.origin());
        let keys: Vec<_> = ours.collect();
        if checkpoint.extensions().next().is_some() {
            return Err("extension lines say what this node has not computed".to_owned());
        }
        let opened = parsed.open(&keys).map_err(|error| error.to_string())?;
        if opened.verified.is_empty() {
            return Err("the log has not signed this".to_owned());
        }
        Ok(checkpoint)
    }
}
