//! What can be done with a log entry before its turn: decoding, and checking signatures.
//!
//! It begins when the entry is appended, so that the work runs while the entry is replicated and synced. Whether a key may
//! sign is still looked up at the command's own position; here only the arithmetic is done.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use ledger_core::command::Command;
use ledger_core::machine::{Machine, SignatureChecks, check_signatures};
use ledger_proto::v1::{self, command::Body};
use openraft::EntryPayload;
use prost::Message;

use crate::fatal::Fatal;
use crate::limits::MAX_PREPARED_LEN;
use crate::raft::types::{Entry, LogId, Proposal, invalid};
use crate::storage::Store;
use crate::storage::view::StoreState;
use crate::worker::{self, Worker};

/// Most entries prepared ahead of the applier. Past it the applier prepares for itself.
const MAX_PREPARED: usize = 256;
/// Most signature checks remembered from admission until their entry comes by.
const MAX_CHECKED: usize = 16_384;
/// Threads that prepare.
const WORKERS: usize = 2;

/// BLAKE3 of a `SignedCommand`'s encoding: which call an entry answers, its signatures included.
pub type CallKey = [u8; 32];

/// The key of a submission.
#[must_use]
pub fn call_key(submission: &v1::Submission) -> CallKey {
    let signed = submission.signed.as_ref();
    let bytes = signed.map(Message::encode_to_vec).unwrap_or_default();
    *blake3::hash(&bytes).as_bytes()
}

/// A batch, decoded, with what is known of its signatures.
#[derive(Debug)]
pub struct Prepared {
    /// The batch.
    pub batch: v1::Batch,
    /// For each submission, in order.
    pub checks: Vec<SignatureChecks>,
    /// For each submission, in order.
    pub keys: Vec<CallKey>,
}

#[derive(Default)]
struct Slot {
    /// Bytes of the entry.
    len: usize,
    prepared: Mutex<Option<io::Result<Prepared>>>,
    ready: Condvar,
}

type Job = (Proposal, Arc<Slot>);

/// Checks made by admission, by call, the oldest first to go.
#[derive(Default)]
struct Checked {
    by_call: HashMap<CallKey, SignatureChecks>,
    order: VecDeque<CallKey>,
}

/// The workers and what they have done.
pub struct Preparer {
    store: Arc<dyn Store>,
    machine: Arc<Machine>,
    origin: String,
    jobs: Sender<Job>,
    slots: Mutex<BTreeMap<u64, (LogId, Arc<Slot>)>>,
    checked: Mutex<Checked>,
}

impl std::fmt::Debug for Preparer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Preparer")
    }
}

impl Preparer {
    /// Starts the workers.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(
        store: Arc<dyn Store>,
        origin: &str,
        machine: Arc<Machine>,
        fatal: &Fatal,
    ) -> io::Result<Arc<Self>> {
        let (jobs, waiting) = channel::<Job>();
        let preparer = Arc::new(Self {
            store,
            machine,
            origin: origin.to_owned(),
            jobs,
            slots: Mutex::default(),
            checked: Mutex::default(),
        });
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 0..WORKERS {
            let waiting = Arc::clone(&waiting);
            let weak = Arc::downgrade(&preparer);
            // The applier waits for what a worker has begun.
            let lifetime = fatal.lifetime(Worker::Preparer);
            std::thread::Builder::new()
                .name(format!("prepare-{number}"))
                .spawn(move || {
                    while let Some((proposal, slot)) = next(&waiting) {
                        let Some(preparer) = weak.upgrade() else {
                            break;
                        };
                        worker::strike(Worker::Preparer);
                        let prepared = preparer.work(&proposal);
                        *slot.prepared.lock().unwrap_or_else(PoisonError::into_inner) =
                            Some(prepared);
                        slot.ready.notify_all();
                    }
                    lifetime.release();
                })?;
        }
        Ok(preparer)
    }

    /// Begins to prepare an entry, if there is room.
    pub fn prepare(&self, entry: &Entry) {
        let EntryPayload::Normal(proposal) = &entry.payload else {
            return;
        };
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let len = proposal.0.len();
        let ahead: usize = slots.values().map(|(_, slot)| slot.len).sum();
        if slots.len() >= MAX_PREPARED || ahead + len > MAX_PREPARED_LEN {
            return;
        }
        let slot = Arc::new(Slot {
            len,
            ..Slot::default()
        });
        if self
            .jobs
            .send((proposal.clone(), Arc::clone(&slot)))
            .is_ok()
        {
            slots.insert(entry.log_id.index(), (entry.log_id, slot));
        }
    }

    /// The prepared form of an entry, waiting for a worker that is at it.
    ///
    /// # Errors
    /// The batch does not decode, or the store cannot be read.
    pub fn take(&self, id: &LogId, proposal: &Proposal) -> io::Result<Prepared> {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            let later = slots.split_off(&id.index().saturating_add(1));
            let earlier = std::mem::replace(&mut *slots, later);
            earlier
                .into_values()
                .next_back()
                .filter(|(prepared, _)| prepared == id)
                .map(|(_, slot)| slot)
        };
        let Some(slot) = slot else {
            return self.work(proposal);
        };
        let prepared = slot.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        let mut prepared = slot
            .ready
            .wait_while(prepared, |prepared| prepared.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        prepared
            .take()
            .unwrap_or_else(|| Err(io::Error::other("nothing was prepared")))
    }

    /// Remembers checks that admission made, so that they are not made again.
    pub fn remember(&self, key: CallKey, checks: SignatureChecks) {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked.by_call.insert(key, checks).is_none() {
            checked.order.push_back(key);
        }
        while checked.order.len() > MAX_CHECKED {
            if let Some(oldest) = checked.order.pop_front() {
                checked.by_call.remove(&oldest);
            }
        }
    }

    fn work(&self, proposal: &Proposal) -> io::Result<Prepared> {
        let batch = v1::Batch::decode(proposal.0.clone())
            .map_err(|error| invalid(format!("a committed batch does not decode: {error}")))?;
        let keys: Vec<CallKey> = batch.submissions.iter().map(call_key).collect();
        let bundles: Vec<&v1::Submission> = batch
            .submissions
            .iter()
            .filter(|submission| needs_bundle(submission))
            .collect();
        if !bundles.is_empty() {
            // A quorum has compiled them before they were proposed; this replica may have been away.
            self.machine.prepare(&StoreState(&*self.store), &bundles)?;
        }
        let checks = batch
            .submissions
            .iter()
            .zip(&keys)
            .map(|(submission, key)| {
                let known = self
                    .checked
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .by_call
                    .remove(key);
                match known {
                    Some(checks) => Ok(checks),
                    None => check_signatures(&StoreState(&*self.store), &self.origin, submission)
                        .map_err(io::Error::from),
                }
            })
            .collect::<io::Result<_>>()?;
        Ok(Prepared {
            batch,
            checks,
            keys,
        })
    }
}

fn next(waiting: &Mutex<Receiver<Job>>) -> Option<Job> {
    let waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    waiting.recv().ok()
}

/// True if applying the command can need a compiled bundle.
#[must_use]
pub fn needs_bundle(submission: &v1::Submission) -> bool {
    let signed = submission.signed.as_ref();
    let command = signed.and_then(|signed| Command::parse(signed).ok());
    command.is_some_and(|command| {
        matches!(
            command.body,
            Body::PublishBundle(_) | Body::ActivateBundle(_)
        )
    })
}
