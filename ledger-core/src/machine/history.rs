//! The history partitions that rules read: found, stepped, expired.
//!
//! A namespace keeps history for its active bundle and for the candidates published beside it, so that a candidate's rules
//! have a past on the day they are activated. Deciding reads; stepping happens once the decision is made.

use std::collections::BTreeMap;
use std::sync::Arc;

use ledger_proto::v1;
use policy_engine::{BundleDigest, Compiled, Event, HistoryScope, NotCanonical, Partition, Starts};

use super::context::Context;
use crate::limits::{MAX_WINDOW_US, SWEEP_PER_COMMAND};
use crate::state::{Family, Key, State, StateError, Txn, split_expiry};

/// What precedes issuer and subject in the hash that names a subject's history.
const SUBJECT_DOMAIN: &[u8] = b"countersign-subject-v1\0";
/// What a past begins with of which events are gone. The bytes of a partition begin with the tag of a field.
const UNKNOWN: u8 = 0xff;

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

/// A partition as the state holds it.
#[derive(Debug, Default)]
pub(super) struct Past {
    pub(super) partition: Partition,
    /// Events that are gone can count until then. 0 on every replica: only whoever applies recorded commands again meets events
    /// that are gone.
    unknown_until_us: u64,
}

impl Past {
    /// True if every event that can count is there.
    pub(super) const fn is_known(&self, now_us: u64) -> bool {
        self.unknown_until_us <= now_us
    }

    fn expires_at_us(&self) -> Option<u64> {
        let unknown = (self.unknown_until_us > 0).then_some(self.unknown_until_us);
        self.partition.expires_at_us().max(unknown)
    }

    /// The partition's bytes; before them, if events are gone, a byte that no partition begins with and until when they count.
    fn to_bytes(&self) -> Vec<u8> {
        let partition = self.partition.to_bytes();
        if self.unknown_until_us == 0 {
            return partition;
        }
        let until = self.unknown_until_us.to_be_bytes();
        [[UNKNOWN].as_slice(), &until, &partition].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, NotCanonical> {
        let unknown = bytes
            .strip_prefix(&[UNKNOWN])
            .and_then(|rest| rest.split_first_chunk());
        let (until, partition) = match unknown {
            Some((until, partition)) => (u64::from_be_bytes(*until), partition),
            None => (0, bytes),
        };
        Ok(Self {
            partition: Partition::from_bytes(partition)?,
            unknown_until_us: until,
        })
    }
}

/// The past that a bundle's rules read.
pub(super) fn load(
    context: &Context<'_, '_>,
    whose: Whose<'_>,
    scope: HistoryScope,
) -> Result<Past, StateError> {
    let mut past = load_key(context.txn, &whose.key(scope))?;
    if scope == HistoryScope::Subject {
        let anybody = load_key(context.txn, &anybody(whose.namespace))?;
        past.unknown_until_us = past.unknown_until_us.max(anybody.unknown_until_us);
    }
    Ok(past)
}

fn load_key(txn: &Txn<'_>, key: &Key) -> Result<Past, StateError> {
    match txn.get(key.as_bytes())? {
        Some(bytes) => {
            Past::from_bytes(&bytes).map_err(|error| StateError::new(key, error.to_string()))
        }
        None => Ok(Past::default()),
    }
}

/// Where it is noted that events of a subject are gone of whom nobody knows any more who it was.
fn anybody(namespace: &str) -> Key {
    Key::partition(namespace, HistoryScope::Subject, b"")
}

/// The compiled bundles of a namespace whose rules read a past, by whose past it is.
fn readers(
    context: &Context<'_, '_>,
    name: &str,
    namespace: &v1::NamespaceRecord,
) -> Result<BTreeMap<HistoryScope, Vec<Arc<Compiled>>>, StateError> {
    let mut readers: BTreeMap<HistoryScope, Vec<Arc<Compiled>>> = BTreeMap::new();
    for bundle in &namespace.tracked {
        let Some(digest) = digest(&bundle.digest) else {
            continue;
        };
        let compiled = context.policies.get(context.txn, name, digest)?;
        if !compiled.temporal_rules().is_empty() {
            let scope = compiled.history_scope();
            readers.entry(scope).or_default().push(compiled);
        }
    }
    Ok(readers)
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
    for (scope, readers) in readers(context, whose.namespace, namespace)? {
        let readers: Vec<&Compiled> = readers.iter().map(Arc::as_ref).collect();
        let key = whose.key(scope);
        let mut past = load_key(context.txn, &key)?;
        let expired_at = past.expires_at_us();
        for event in events {
            past.partition.step(&readers, event.clone());
        }
        store(context.txn, key, expired_at, &past);
    }
    Ok(())
}

/// Notes that events which should be added now are gone: rules that read this past cannot be asked while they could count.
pub(super) fn forget(
    context: &mut Context<'_, '_>,
    namespace: &v1::NamespaceRecord,
    whose: Whose<'_>,
) -> Result<(), StateError> {
    let until = context.now_us.saturating_add(MAX_WINDOW_US);
    for scope in readers(context, whose.namespace, namespace)?.into_keys() {
        let mut keys = vec![whose.key(scope)];
        if scope == HistoryScope::Subject {
            keys.push(anybody(whose.namespace));
        }
        for key in keys {
            let mut past = load_key(context.txn, &key)?;
            let expired_at = past.expires_at_us();
            past.unknown_until_us = until;
            store(context.txn, key, expired_at, &past);
        }
    }
    Ok(())
}

/// Writes a partition and its place in the order of expiry; an empty one is not kept.
fn store(txn: &mut Txn<'_>, key: Key, expired_at: Option<u64>, past: &Past) {
    if let Some(at) = expired_at {
        txn.delete(Key::partition_expiry(at, &key));
    }
    match past.expires_at_us() {
        Some(at) => {
            txn.put(Key::partition_expiry(at, &key), Vec::new());
            txn.put(key, past.to_bytes());
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
