//! Who vouches for the state that this node got as a copy: nodes that the genesis names, or that others whom it names have
//! handed trust on to.
//!
//! The copy comes from one node, which may lie. What the copy says of members, of their keys and of what they attested proves
//! nothing about the copy. So the chain begins with this node's own genesis: the steps of the trust policy are followed from
//! there as an auditor follows them, and only attestations that those nodes have signed with those keys count.

use ledger_core::evidence::{BuildError, follow_trust, trust_steps};
use ledger_core::hash::{Hash, TreeSize};
use ledger_core::machine::attested_with;
use ledger_core::note::tlog_policy::TlogPolicy;
use ledger_core::state::{Key, StateError, read};
use ledger_proto::v1;

use crate::storage::view::StoreState;
use crate::storage::{Read, Table, meta};

/// True if most of the other nodes of the trust policy have attested this state at this size. The policy is the last one to
/// which a chain of steps leads from the genesis. Alone in it, a node has nobody to ask.
///
/// # Errors
/// [`StateError`] if the store cannot be read. The inner error is a chain of steps that leads nowhere.
pub fn is_vouched_for(
    read: &dyn Read,
    genesis: &v1::Genesis,
    node: u64,
    (size, digest): (TreeSize, Hash),
) -> Result<Result<bool, String>, StateError> {
    let policy = match policy(read, genesis)? {
        Ok(policy) => policy,
        Err(why) => return Ok(Err(why)),
    };
    let (mut others, mut same) = (0_usize, 0_usize);
    for witness in policy.witnesses() {
        let Some(id) = node_id(&genesis.origin, witness.key.name()).filter(|id| *id != node) else {
            continue;
        };
        others += 1;
        let key = witness.key.public_key();
        let attested = attested_with(&StoreState(read), &genesis.origin, id, key)?;
        let is_same = attested.is_some_and(|attested| {
            attested.tree_size == size.0 && attested.digest == digest.as_bytes()
        });
        same += usize::from(is_same);
    }
    Ok(Ok(same * 2 > others || others == 0))
}

/// The trust policy to which the steps in a store lead from the genesis.
fn policy(
    store: &dyn Read,
    genesis: &v1::Genesis,
) -> Result<Result<TlogPolicy, String>, StateError> {
    let state = StoreState(store);
    let ledger: v1::LedgerRecord = read(&state, &Key::ledger())?.unwrap_or_default();
    let mut checkpoints = Vec::new();
    for epoch in 1..=ledger.trust_epoch {
        let key = meta::trust_step_key(epoch);
        let note = store.get(Table::Meta, &key);
        let note = note.map_err(|error| StateError::unreadable(&key, &error))?;
        // A change that no checkpoint carries yet hands nothing on.
        let Some(note) = note else { break };
        let note = String::from_utf8(note)
            .map_err(|error| StateError::damaged(&key, error.to_string()))?;
        checkpoints.push((epoch, note));
    }
    let steps = match trust_steps(&state, &checkpoints) {
        Ok(steps) => steps,
        Err(BuildError::State(error)) => return Err(error),
        Err(error) => return Ok(Err(error.to_string())),
    };
    let pinned = TlogPolicy::parse(genesis.trust_policy.as_bytes());
    Ok(pinned
        .map_err(|error| error.to_string())
        .and_then(|pinned| {
            let followed = follow_trust(&genesis.origin, &pinned, &steps);
            followed.map_err(|error| error.to_string())
        }))
}

/// The node whose cosigner's name this is.
pub(super) fn node_id(origin: &str, name: &str) -> Option<u64> {
    let node = name.strip_prefix(origin)?.strip_prefix("/node-")?;
    node.parse().ok()
}
