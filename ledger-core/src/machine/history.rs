//! The history partitions that rules read: found, stepped, expired.
//!
//! A namespace keeps history for its active bundle and for the candidates published beside it, so that a candidate's rules
//! have a past on the day they are activated. Deciding reads; stepping happens once the decision is made.

use std::borrow::{Borrow, BorrowMut};
use std::collections::BTreeMap;
use std::sync::Arc;

use ledger_proto::v1;
use policy_engine::{
    BundleDigest, Compiled, Event, HistoryScope, NotCanonical, Record, Records, RecordsMut, Starts,
};

use super::context::Context;
use crate::limits::{MAX_WINDOW_US, SWEEP_PER_COMMAND, SWEEP_RECORDS_PER_COMMAND};
use crate::state::{Family, Key, State, StateError, Txn, split_expiry};

/// What precedes issuer and subject in the hash that names a subject's history.
const SUBJECT_DOMAIN: &[u8] = b"countersign-subject-v1\0";
/// The key, inside a partition, of the time until which events that are gone can count. The engine's keys begin otherwise.
const UNKNOWN: &[u8] = &[0xff];

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

/// The records of one partition, as a transaction sees them.
#[derive(Debug)]
pub(super) struct InState<T> {
    txn: T,
    partition: Key,
}

impl<'s, T: Borrow<Txn<'s>>> Records for InState<T> {
    type Error = StateError;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        let key = self.partition.in_partition(key);
        self.txn.borrow().get(key.as_bytes())
    }

    fn scan(&self, prefix: &[u8], limit: usize) -> Result<Vec<Record>, StateError> {
        let prefix = self.partition.in_partition(prefix);
        let length = self.partition.as_bytes().len();
        let found = self.txn.borrow().scan(prefix.as_bytes(), None, limit)?;
        let inside = found.into_iter().map(|(mut key, record)| {
            key.drain(..length);
            (key, record)
        });
        // Whether events are gone is not for rules to read.
        Ok(inside.filter(|(key, _)| key != UNKNOWN).collect())
    }

    fn damaged(&self, key: &[u8]) -> StateError {
        StateError::damaged(self.partition.in_partition(key), NotCanonical.to_string())
    }
}

impl<'s, T: BorrowMut<Txn<'s>>> RecordsMut for InState<T> {
    fn put(&mut self, key: Vec<u8>, record: Option<Vec<u8>>) {
        let key = self.partition.in_partition(&key);
        match record {
            Some(record) => self.txn.borrow_mut().put(key, record),
            None => self.txn.borrow_mut().delete(key),
        }
    }
}

/// The past that a bundle's rules read.
pub(super) fn past<'t, 's>(
    txn: &'t Txn<'s>,
    whose: Whose<'_>,
    scope: HistoryScope,
) -> InState<&'t Txn<'s>> {
    InState {
        txn,
        partition: whose.key(scope),
    }
}

/// True if every event that can count is there. It always is on a replica: only whoever applies recorded commands again meets
/// events that are gone.
pub(super) fn is_known(
    context: &Context<'_, '_>,
    whose: Whose<'_>,
    scope: HistoryScope,
) -> Result<bool, StateError> {
    let mut until = unknown_until_us(context.txn, &whose.key(scope))?;
    if scope == HistoryScope::Subject {
        until = until.max(unknown_until_us(context.txn, &anybody(whose.namespace))?);
    }
    Ok(until <= context.now_us)
}

/// Until when events that are gone can count; 0 if none are.
fn unknown_until_us(txn: &Txn<'_>, partition: &Key) -> Result<u64, StateError> {
    let key = partition.in_partition(UNKNOWN);
    match txn.get(key.as_bytes())? {
        None => Ok(0),
        Some(bytes) => <[u8; 8]>::try_from(bytes.as_slice())
            .map(u64::from_be_bytes)
            .map_err(|_| StateError::damaged(&key, "is no time")),
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
        let partition = whose.key(scope);
        let was = expires_at_us(context.txn, &partition)?;
        let mut records = InState {
            txn: &mut *context.txn,
            partition: partition.clone(),
        };
        let known = policy_engine::step(&mut records, &readers, events)?;
        let at = known.max(unknown_until(context.txn, &partition)?);
        expire_at(context.txn, &partition, was, at);
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
            let was = expires_at_us(context.txn, &key)?;
            let unknown = key.in_partition(UNKNOWN);
            context.txn.put(unknown, until.to_be_bytes().to_vec());
            let at = expires_at_us(context.txn, &key)?;
            expire_at(context.txn, &key, was, at);
        }
    }
    Ok(())
}

/// From when on nothing in a partition can matter; none if there is nothing.
fn expires_at_us(txn: &Txn<'_>, partition: &Key) -> Result<Option<u64>, StateError> {
    let header = partition.in_partition(policy_engine::HEADER);
    let known = match txn.get(header.as_bytes())? {
        None => None,
        Some(bytes) => policy_engine::check_record(policy_engine::HEADER, &bytes)
            .map_err(|error| StateError::damaged(&header, error.to_string()))?,
    };
    Ok(known.max(unknown_until(txn, partition)?))
}

/// Until when events that are gone can count, if any are.
fn unknown_until(txn: &Txn<'_>, partition: &Key) -> Result<Option<u64>, StateError> {
    Ok(Some(unknown_until_us(txn, partition)?).filter(|until| *until > 0))
}

/// Puts a partition in its place in the order of expiry.
fn expire_at(txn: &mut Txn<'_>, partition: &Key, was: Option<u64>, at: Option<u64>) {
    if at != was {
        if let Some(was) = was {
            txn.delete(Key::partition_expiry(was, partition));
        }
        if let Some(at) = at {
            txn.put(Key::partition_expiry(at, partition), Vec::new());
        }
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
        // The header and the place in this order stay until all else is gone.
        let records = txn.scan(partition.as_bytes(), None, SWEEP_RECORDS_PER_COMMAND)?;
        let is_rest = records.len() < SWEEP_RECORDS_PER_COMMAND;
        let header = partition.in_partition(policy_engine::HEADER);
        for (key, _) in records {
            if is_rest || key != header.as_bytes() {
                txn.delete_raw(key);
            }
        }
        if is_rest {
            txn.delete(Key::partition_expiry(expires_at_us, &partition));
        }
    }
    Ok(())
}
