//! What others were promised: cosigned checkpoints, steps of the trust policy, and the marker.

use ledger_core::evidence::StateTiles;
use ledger_core::hash::{Hash, TreeSize};
use ledger_core::note::checkpoint::Checkpoint;
use ledger_core::note::signed_note::Note;
use ledger_core::note::tlog_policy::TlogPolicy;
use ledger_core::note::verify::verify_checkpoint;
use ledger_core::state::Key;
use ledger_core::tree::proof::Prover;
use ledger_proto::peer::v1 as wire;
use ledger_proto::v1;
use prost::Message as _;

use super::log::{Standing, number_after, order};
use super::{Check, Go, Ground, Place};
use crate::cosign::carried_together;
use crate::storage::marker::{
    MarkedLogId, MarkedVote, MarkerRecord, Recovered, RecoveredTree, behind,
};
use crate::storage::view::StoreState;
use crate::storage::{Table, meta};

/// The trust policy of an epoch, and the leaf that it began with.
struct Policy {
    epoch: u64,
    leaf: u64,
    policy: TlogPolicy,
}

impl Policy {
    const fn covers(&self, size: TreeSize) -> bool {
        self.epoch == 0 || self.leaf < size.0
    }
}

pub(super) fn check(
    check: &mut Check<'_>,
    ground: &Ground,
    standing: &Standing,
    marker: Option<&MarkerRecord>,
) -> Go {
    let policies = policies(check, ground)?;
    let ends = [meta::CHECKPOINT, meta::TRUST_STEP];
    for prefix in ends {
        check.look(Table::Meta, prefix, |check, key, note| {
            let Some(number) = number_after(prefix, key) else {
                return Ok(());
            };
            let result = if prefix == meta::CHECKPOINT {
                checkpoint(check, ground, &policies, number, note)
            } else {
                step(check, ground, &policies, number, note)
            };
            match result {
                Ok(()) => Ok(()),
                Err(what) => check.found(Table::Meta, key, what),
            }
        })?;
    }
    match marker {
        Some(marker) => check_marker(check, ground, standing, marker),
        None => Ok(()),
    }
}

fn policies(check: &mut Check<'_>, ground: &Ground) -> Go<Vec<Policy>> {
    let mut policies = Vec::new();
    for epoch in 0..=ground.ledger.trust_epoch {
        let record: Option<v1::TrustRecord> = check.record(&Key::trust(epoch))?;
        let Some(record) = record else { break };
        let Ok(policy) = TlogPolicy::parse(record.trust_policy.as_bytes()) else {
            break;
        };
        policies.push(Policy {
            epoch,
            leaf: record.leaf,
            policy,
        });
    }
    Ok(policies)
}

/// A note over this ledger's tree.
fn open(check: &Check<'_>, ground: &Ground, note: &[u8]) -> Result<TreeSize, String> {
    let parsed = Note::parse(note).map_err(|error| error.to_string())?;
    let checkpoint = Checkpoint::parse(parsed.text()).map_err(|error| error.to_string())?;
    let size = checkpoint.size();
    if checkpoint.origin() != ground.ledger.origin {
        return Err("is a checkpoint of another ledger".to_owned());
    }
    if size > ground.size() {
        let found = ground.size();
        return Err(format!(
            "a quorum cosigned {size} entries, and there are {found}"
        ));
    }
    let root = root_at(check, ground, size)?;
    if root == checkpoint.root() {
        Ok(size)
    } else {
        let cosigned = checkpoint.root();
        Err(format!(
            "a quorum cosigned the root {cosigned}, and the tree has {root}"
        ))
    }
}

fn root_at(check: &Check<'_>, ground: &Ground, size: TreeSize) -> Result<Hash, String> {
    let state = StoreState(check.read);
    let tiles = StateTiles(&state);
    Prover::new(&tiles, ground.hash, size)
        .root()
        .map_err(|error| error.to_string())
}

fn checkpoint(
    check: &Check<'_>,
    ground: &Ground,
    policies: &[Policy],
    number: u64,
    note: &[u8],
) -> Result<(), String> {
    let size = open(check, ground, note)?;
    if size.0 != number {
        return Err(format!("the checkpoint is of size {size}"));
    }
    let in_force = policies.iter().rev().find(|policy| policy.covers(size));
    let in_force = in_force.ok_or("there is no trust policy for this checkpoint")?;
    verify_checkpoint(note, &in_force.policy)
        .map(drop)
        .map_err(|error| error.to_string())
}

fn step(
    check: &Check<'_>,
    ground: &Ground,
    policies: &[Policy],
    number: u64,
    note: &[u8],
) -> Result<(), String> {
    let size = open(check, ground, note)?;
    let together = carried_together(check.read, number).map_err(|error| error.to_string())?;
    let (first, last) = together.map_or((number, number), |found| found.epochs.into_inner());
    let find = |epoch: Option<u64>| policies.iter().find(|policy| Some(policy.epoch) == epoch);
    let (Some(before), Some(after)) = (find(first.checked_sub(1)), find(Some(last))) else {
        return Err("there is no such change of the trust policy".to_owned());
    };
    if !after.covers(size) {
        return Err("the checkpoint does not cover the change of the trust policy".to_owned());
    }
    for policy in [before, after] {
        verify_checkpoint(note, &policy.policy).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// The store is the marker's, and not older than what it promises.
fn check_marker(
    check: &mut Check<'_>,
    ground: &Ground,
    standing: &Standing,
    marker: &MarkerRecord,
) -> Go {
    let node = check.get(Table::Meta, meta::NODE)?;
    if node.is_some_and(|node| node != marker.node_id.to_be_bytes()) {
        check.at(Place::Marker, "is of another node than the store")?;
    }
    let store = check.get(Table::Meta, meta::STORE)?;
    if store.is_some_and(|store| store != marker.store_id.as_bytes()) {
        check.at(Place::Marker, "is of another store than this one")?;
    }
    if ground.ledger.genesis_digest != marker.genesis_digest.as_bytes() {
        check.at(Place::Marker, "is of another ledger than the store")?;
    }
    let vote = check.get(Table::Meta, meta::VOTE)?;
    let vote = vote.and_then(|bytes| wire::Vote::decode(bytes.as_slice()).ok());
    let last = [standing.last, standing.applied].into_iter().flatten();
    let last = last.max_by_key(order);
    let tree = RecoveredTree {
        size: ground.size(),
        root_at_cosigned: marker
            .cosigned
            .filter(|cosigned| cosigned.size <= ground.size())
            .and_then(|cosigned| root_at(check, ground, cosigned.size).ok()),
    };
    let recovered = Recovered {
        vote: vote.map(|vote| MarkedVote {
            term: vote.term,
            node: vote.node_id,
            committed: vote.committed,
        }),
        last_log: last.map(|id| MarkedLogId {
            term: id.term,
            index: id.index,
        }),
        tree,
    };
    match behind(marker, &recovered) {
        Ok(()) => Ok(()),
        Err(error) => check.at(Place::Marker, error),
    }
}
