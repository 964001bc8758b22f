//! Which changes of the nodes are taken at what time.
//!
//! A node that began with a copy of another's store cosigns once most of the others of a trust policy, to which cosigned steps lead
//! from the genesis, have signed the state that it computed. A node that is removed signs no more. So whoever removes nodes while a
//! step is open, or while a node that stays waits for the others' word, could leave a newcomer that nobody can vouch for, and with
//! it a ledger that nobody can cosign. The machine takes such a change, because replicas cannot know what another one keeps; so it is
//! looked at before it gets into the log.

use std::collections::BTreeSet;
use std::time::Duration;

use ledger_core::hash::LeafIndex;
use ledger_core::ledger;
use ledger_core::state::{Key, StateError, read};
use ledger_proto::v1::{self, ErrorReason, entry};

use crate::failure::{Answer, Failure, argument};
use crate::storage::view::{StoreState, nodes};
use crate::storage::{Read, Table, meta};

/// How long whoever waits for cosignatures may wait until it asks again.
const AGAIN: Duration = Duration::from_secs(1);

/// Looks at a change before it is proposed.
///
/// # Errors
/// `NOT_READY` while others must first say something, `ARGUMENT_INVALID` for a change that is to be made in two.
pub fn may_change(store: &dyn Read, ask: &v1::UpdateMembership) -> Answer<()> {
    let state = StoreState(store);
    let members = nodes(&state)?.into_iter().filter(|node| node.member);
    let before: BTreeSet<u64> = members
        .filter_map(|node| Some(node.card?.node_id))
        .collect();
    let after: BTreeSet<u64> = ask.nodes.iter().map(|card| card.node_id).collect();
    let stay: BTreeSet<u64> = before.intersection(&after).copied().collect();
    if stay == before {
        return Ok(());
    }
    if after != stay && stay.len() * 2 <= before.len() {
        return Err(argument(
            "more than half of the nodes must stay when others join: add the new ones, wait until they cosign, then remove the old ones",
        ));
    }
    let ledger: v1::LedgerRecord = read(&state, &Key::ledger())?.unwrap_or_default();
    for epoch in 1..=ledger.trust_epoch {
        let key = meta::trust_step_key(epoch);
        let step = store.get(Table::Meta, &key);
        if step
            .map_err(|error| StateError::unreadable(&key, &error))?
            .is_none()
        {
            return Err(not_yet(
                "an earlier change of the nodes is not cosigned yet; send the same command again in a moment",
            ));
        }
    }
    let first = first_members(&state)?;
    for id in &stay {
        let word: Option<v1::AttestationRecord> = read(&state, &Key::attestation(*id))?;
        // Those of the genesis began with nothing, and may have been down since.
        if word.map_or_else(|| !first.contains(id), |word| word.copied) {
            return Err(not_yet(&format!(
                "node {id} waits until the others confirm the state that it got as a copy, and whoever is removed can confirm nothing; send the same command again when `cluster status` says that it cosigns"
            )));
        }
    }
    Ok(())
}

fn not_yet(what: &str) -> Failure {
    Failure::new(ErrorReason::NotReady, what).after(AGAIN)
}

/// The nodes that the genesis names.
fn first_members(state: &StoreState<'_>) -> Result<BTreeSet<u64>, StateError> {
    let first = ledger::entry(state, LeafIndex(0))?.and_then(|first| first.body);
    Ok(match first {
        Some(entry::Body::Genesis(genesis)) => {
            genesis.nodes.iter().map(|card| card.node_id).collect()
        }
        _ => BTreeSet::new(),
    })
}
