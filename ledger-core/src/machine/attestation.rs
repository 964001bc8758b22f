//! What replicas say about their state, and what follows when two of them say different things.
//!
//! Equal logs make equal states, so a replica whose state has another digest at the same size was damaged, or began with a
//! copy of one that was. The entries of both can still be equal: this finds what the root of the tree does not show.

use std::collections::BTreeMap;

use ledger_proto::v1::{self, command::Body};

use super::context::{Context, Stop, applied};
use super::membership::nodes;
use super::validate;
use crate::command::Command;
use crate::hash::{HASH_LEN, Hash, LeafIndex, TreeSize};
use crate::id::Identity;
use crate::keys::PublicKey;
use crate::ledger;
use crate::signature::{SignatureDomain, parse_signatures};
use crate::state::{Key, State, StateError, Txn, read};

pub(super) fn attest_state(
    context: &mut Context<'_, '_>,
    ask: &v1::AttestState,
) -> Result<v1::Governance, Stop> {
    let Identity::Node(id) = context.command.author else {
        return Err(v1::Result::NotPermitted.into());
    };
    let made_here = (1..=context.leaf.0).contains(&ask.tree_size);
    validate::valid(ask.digest.len() == HASH_LEN && made_here)?;
    let key = Key::attestation(id);
    let last: Option<v1::AttestationRecord> = context.txn.read(&key)?;
    if last.is_some_and(|last| last.tree_size >= ask.tree_size) {
        return Err(v1::Result::FailedPrecondition.into());
    }
    context.txn.write(
        key,
        &v1::AttestationRecord {
            tree_size: ask.tree_size,
            digest: ask.digest.clone(),
            copied: ask.copied,
            leaf: context.leaf.0,
        },
    );
    Ok(applied(""))
}

/// One member's last attestation beside those of the others, at the same size of the tree.
///
/// A copy says nothing about the state that it was copied from. So members whose state is an unconfirmed copy are left out,
/// unless all are such: then there is nobody else to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// The size.
    pub size: TreeSize,
    /// What the member attested.
    pub digest: Hash,
    /// The others who attested the same.
    pub same: Vec<u64>,
    /// The others who attested something else.
    pub different: BTreeMap<Hash, Vec<u64>>,
    /// The others who have attested nothing for this size.
    pub silent: Vec<u64>,
    /// All members, this one and those that are left out included.
    members: usize,
}

impl Comparison {
    /// True if most of the others have the same state: it cannot have come from one damaged member. A member that is alone
    /// has nobody to ask.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        let different: usize = self.different.values().map(Vec::len).sum();
        let asked = self.same.len() + different + self.silent.len();
        self.same.len() * 2 > asked || self.members == 1
    }

    /// The state that most of all members have, if it is another one than this member's.
    #[must_use]
    pub fn outvoted_by(&self) -> Option<Hash> {
        let mut most = self
            .different
            .iter()
            .filter(|(_, nodes)| nodes.len() * 2 > self.members);
        most.next().map(|(digest, _)| *digest)
    }
}

/// Compares what a member attested last with what the others did; none if it has attested nothing.
///
/// # Errors
/// [`StateError`] if the state is damaged.
pub fn compare(state: &dyn State, node: u64) -> Result<Option<Comparison>, StateError> {
    let txn = Txn::new(state);
    let mut attested = BTreeMap::new();
    for (id, record) in nodes(&txn)? {
        if record.member {
            let last: Option<v1::AttestationRecord> = txn.read(&Key::attestation(id))?;
            attested.insert(id, last);
        }
    }
    let members = attested.len();
    let is_copy = |last: &Option<v1::AttestationRecord>| last.as_ref().is_some_and(|l| l.copied);
    let all_are_copies = attested.values().all(is_copy);
    let Some(own) = attested.remove(&node).flatten() else {
        return Ok(None);
    };
    let mut comparison = Comparison {
        size: TreeSize(own.tree_size),
        digest: digest_of(node, &own)?,
        same: Vec::new(),
        different: BTreeMap::new(),
        silent: Vec::new(),
        members,
    };
    for (id, last) in attested {
        if is_copy(&last) && !all_are_copies {
            continue;
        }
        match last.filter(|last| last.tree_size == own.tree_size) {
            None => comparison.silent.push(id),
            Some(last) if last.digest == own.digest => comparison.same.push(id),
            Some(last) => {
                let digest = digest_of(id, &last)?;
                comparison.different.entry(digest).or_default().push(id);
            }
        }
    }
    Ok(Some(comparison))
}

/// What a member has attested last, if its entry carries a signature of this key. What a state says of its own members, their
/// keys and their words counts for nothing while that state itself is in doubt.
///
/// # Errors
/// [`StateError`] if the state cannot be read.
pub fn attested_with(
    state: &dyn State,
    origin: &str,
    node: u64,
    key: &PublicKey,
) -> Result<Option<v1::AttestState>, StateError> {
    let record: Option<v1::AttestationRecord> = read(state, &Key::attestation(node))?;
    let Some(record) = record else {
        return Ok(None);
    };
    let entry = ledger::entry(state, LeafIndex(record.leaf))?;
    let Some(signed) = entry.and_then(|entry| entry.signed) else {
        return Ok(None);
    };
    let said = Command::parse(&signed)
        .ok()
        .filter(|command| command.author == Identity::Node(node));
    let domain = SignatureDomain::of(&Identity::Node(node));
    let is_signed = parse_signatures(domain, origin, &signed)
        .is_ok_and(|signatures| signatures.iter().any(|signature| signature.verify(key)));
    Ok(match said.map(|command| command.body) {
        Some(Body::AttestState(attested)) if is_signed => Some(attested),
        _ => None,
    })
}

fn digest_of(node: u64, record: &v1::AttestationRecord) -> Result<Hash, StateError> {
    Hash::from_slice(&record.digest).ok_or_else(|| {
        StateError::damaged(
            Key::attestation(node),
            "an attested digest does not have 32 bytes",
        )
    })
}
