//! The history partitions that rules read: found, stepped, expired.
//!
//! A namespace keeps history for its active bundle and for the candidates published beside it, so that a candidate's rules
//! have a past on the day they are activated. Deciding reads; stepping happens once the decision is made.

use std::collections::BTreeSet;
use std::sync::Arc;

use ledger_proto::v1;
use policy_engine::{BundleDigest, Compiled, Event, HistoryScope, Partition, Starts};

use super::context::Context;
use crate::limits::SWEEP_PER_COMMAND;
use crate::state::{Family, Key, State, StateError, Txn, split_expiry};

/// What precedes issuer and subject in the hash that names a subject's history.
const SUBJECT_DOMAIN: &[u8] = b"countersign-subject-v1\0";

/// `BLAKE3("countersign-subject-v1\0" || u32be(len iss) || iss || sub)`.
pub(super) fn subject_digest(subject: &v1::Subject) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    let len = u32::try_from(subject.iss.len()).unwrap_or(u32::MAX);
    hasher.update(SUBJECT_DOMAIN).update(&len.to_be_bytes());
    hasher
        .update(subject.iss.as_bytes())
        .update(subject.sub.as_bytes());
    hasher.finalize().as_bytes().to_vec()
}

/// Whose history: what picks the partition under each scope.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whose<'a> {
    pub(super) namespace: &'a str,
    pub(super) agent: &'a str,
    pub(super) owner: &'a str,
    pub(super) session_id: &'a [u8],
    pub(super) subject_digest: &'a [u8],
}

impl Whose<'_> {
    /// The key of the partition. A session without a subject shares its agent's own partition under the subject scope, told
    /// apart from subjects by its first byte.
    fn key(&self, scope: HistoryScope) -> Key {
        match scope {
            HistoryScope::Agent => Key::partition(self.namespace, scope, self.agent.as_bytes()),
            HistoryScope::Session => Key::partition(self.namespace, scope, self.session_id),
            HistoryScope::Subject if self.subject_digest.is_empty() => Key::partition(
                self.namespace,
                scope,
                &[&[0], self.agent.as_bytes()].concat(),
            ),
            HistoryScope::Subject => {
                Key::partition(self.namespace, scope, &[&[1], self.subject_digest].concat())
            }
            HistoryScope::Owner => Key::partition(self.namespace, scope, self.owner.as_bytes()),
            HistoryScope::Namespace => Key::partition(self.namespace, scope, b""),
        }
    }
}

/// When the rules of a tracked bundle begin.
pub(super) fn starts(tracked: &v1::TrackedBundle) -> Starts {
    tracked
        .starts
        .iter()
        .filter_map(|start| {
            let fingerprint = start.fingerprint.as_slice().try_into().ok()?;
            Some((policy_engine::Fingerprint(fingerprint), start.start_us))
        })
        .collect()
}

/// The digest inside a record.
pub(super) fn digest(bytes: &[u8]) -> Option<BundleDigest> {
    bytes.try_into().ok().map(BundleDigest)
}

/// The partition that a bundle's rules read.
pub(super) fn load(
    context: &Context<'_, '_>,
    whose: Whose<'_>,
    scope: HistoryScope,
) -> Result<Partition, StateError> {
    load_key(context.txn, &whose.key(scope))
}

fn load_key(txn: &Txn<'_>, key: &Key) -> Result<Partition, StateError> {
    match txn.get(key.as_bytes())? {
        Some(bytes) => {
            Partition::from_bytes(&bytes).map_err(|error| StateError::new(key, error.to_string()))
        }
        None => Ok(Partition::default()),
    }
}

/// Adds events to every partition that some tracked bundle of the namespace reads.
pub(super) fn step(
    context: &mut Context<'_, '_>,
    namespace: &v1::NamespaceRecord,
    whose: Whose<'_>,
    events: &[Event],
) -> Result<(), StateError> {
    if events.is_empty() {
        return Ok(());
    }
    let mut tracked: Vec<Arc<Compiled>> = Vec::with_capacity(namespace.tracked.len());
    for bundle in &namespace.tracked {
        let Some(digest) = digest(&bundle.digest) else {
            continue;
        };
        let compiled = context.policies.get(context.txn, whose.namespace, digest)?;
        if !compiled.temporal_rules().is_empty() {
            tracked.push(compiled);
        }
    }
    let scopes: BTreeSet<HistoryScope> = tracked
        .iter()
        .map(|compiled| compiled.history_scope())
        .collect();
    for scope in scopes {
        let readers: Vec<&Compiled> = tracked
            .iter()
            .map(Arc::as_ref)
            .filter(|compiled| compiled.history_scope() == scope)
            .collect();
        let key = whose.key(scope);
        let mut partition = load_key(context.txn, &key)?;
        let expired_at = partition.expires_at_us();
        for event in events {
            partition.step(&readers, event.clone());
        }
        store(context.txn, key, expired_at, &partition);
    }
    Ok(())
}

/// Writes a partition and its place in the order of expiry; an empty one is not kept.
fn store(txn: &mut Txn<'_>, key: Key, expired_at: Option<u64>, partition: &Partition) {
    if let Some(at) = expired_at {
        txn.delete(Key::partition_expiry(at, &key));
    }
    match partition.expires_at_us() {
        Some(at) => {
            txn.put(Key::partition_expiry(at, &key), Vec::new());
            txn.put(key, partition.to_bytes());
        }
        None => txn.delete(key),
    }
}

/// Removes a few partitions that nothing can read any more. Every command pays for a few, so that idle partitions go away
/// without anybody's clock deciding when.
pub(super) fn sweep(txn: &mut Txn<'_>, now_us: u64) -> Result<(), StateError> {
    let prefix = Key::family(Family::PartitionExpiry);
    for (key, _) in txn.scan(prefix.as_bytes(), None, SWEEP_PER_COMMAND)? {
        let Some((expires_at_us, partition)) = split_expiry(&key) else {
            continue;
        };
        if expires_at_us > now_us {
            break;
        }
        txn.delete(Key::partition_expiry(expires_at_us, &partition));
        txn.delete(partition);
    }
    Ok(())
}
