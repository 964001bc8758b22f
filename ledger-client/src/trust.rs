//! Whom this client believes: a pinned trust policy, and the last checkpoint that it has seen.
//!
//! The policy says whose signatures make a checkpoint believable. The checkpoint seen last is what catches a ledger that was
//! cut short or rewritten: every later one must contain it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ledger_core::evidence::{EvidenceError, follow_trust};
use ledger_core::hash::{Hash, TreeSize};
use ledger_core::note::checkpoint::Checkpoint;
use ledger_core::note::signed_note::Note;
use ledger_core::note::tlog_policy::TlogPolicy;
use ledger_core::note::verify::verify_checkpoint;
use ledger_proto::v1;

use crate::error::Error;
use crate::files;

/// Longest trust policy or checkpoint file in bytes.
const MAX_TRUST_LEN: usize = 1024 * 1024;

/// A pinned trust policy with its memory.
#[derive(Debug)]
pub struct Trust {
    origin: String,
    pinned: TlogPolicy,
    memory: Option<PathBuf>,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    /// The policy in force, as far as it was followed from the pinned one.
    policy: TlogPolicy,
    seen: Option<Checkpoint>,
    /// The provisional tree that was found consistent with what was seen, last: many answers are proven to one tree.
    fitting: Option<(TreeSize, Hash)>,
}

impl Trust {
    /// Reads a trust policy, and the checkpoint remembered in `memory` if there is one. Without `memory` nothing outlives the
    /// process.
    ///
    /// # Errors
    /// [`Error::Configuration`]
    pub fn open(policy: &Path, memory: Option<PathBuf>) -> Result<Self, Error> {
        let bytes = files::read(policy, MAX_TRUST_LEN)?;
        let bad = |what: String| Error::Configuration(format!("{}: {what}", policy.display()));
        let pinned = TlogPolicy::parse(&bytes).map_err(|error| bad(error.to_string()))?;
        Self::new(pinned, memory).map_err(|error| bad(error.to_string()))
    }

    /// The same for a policy that is read already.
    ///
    /// # Errors
    /// [`Error::Configuration`] if it does not name exactly one log, or the memory is damaged.
    pub fn new(pinned: TlogPolicy, memory: Option<PathBuf>) -> Result<Self, Error> {
        let [log] = pinned.logs() else {
            return Err(Error::Configuration(
                "a trust policy must name one log: that of the ledger".to_owned(),
            ));
        };
        let origin = log.key.name().to_owned();
        let seen = match &memory {
            Some(path) if path.exists() => Some(remembered(path, &origin)?),
            Some(_) | None => None,
        };
        Ok(Self {
            known: Mutex::new(Known {
                policy: pinned.clone(),
                seen,
                fitting: None,
            }),
            origin,
            pinned,
            memory,
        })
    }

    /// The ledger's name.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The policy that was pinned.
    #[must_use]
    pub const fn pinned(&self) -> &TlogPolicy {
        &self.pinned
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> TlogPolicy {
        self.known().policy.clone()
    }

    /// The largest checkpoint seen so far.
    #[must_use]
    pub fn seen(&self) -> Option<Checkpoint> {
        self.known().seen.clone()
    }

    /// Follows changes of the trust policy from the pinned one on.
    ///
    /// # Errors
    /// [`Error::Unproven`] if one is not vouched for by the policy before it.
    pub(crate) fn follow(&self, steps: &[v1::TrustStep]) -> Result<(), Error> {
        let policy = follow_trust(&self.origin, &self.pinned, steps)?;
        self.known().policy = policy;
        Ok(())
    }

    /// Checks a checkpoint against the policy in force.
    ///
    /// # Errors
    /// [`Error::Unproven`]
    pub(crate) fn verify(&self, note: &str) -> Result<Checkpoint, Error> {
        let verified = verify_checkpoint(note.as_bytes(), &self.policy())
            .map_err(|error| Error::from(EvidenceError::from(error)))?;
        Ok(verified.checkpoint().clone())
    }

    /// Remembers a checkpoint that was checked, and found to contain the one seen before, with the signatures of its note: they
    /// are the proof should the ledger ever show another history.
    ///
    /// # Errors
    /// [`Error::Internal`] if it cannot be written.
    pub(crate) fn remember(&self, note: &str, checkpoint: &Checkpoint) -> Result<(), Error> {
        let mut known = self.known();
        let newer = known
            .seen
            .as_ref()
            .is_none_or(|seen| seen.size() < checkpoint.size());
        if !newer {
            return Ok(());
        }
        known.seen = Some(checkpoint.clone());
        match &self.memory {
            Some(path) => files::replace(path, note.as_bytes()),
            None => Ok(()),
        }
    }

    /// True if this tree is the one that was last found consistent with what was seen.
    pub(crate) fn is_known_to_fit(&self, checkpoint: &Checkpoint) -> bool {
        self.known().fitting == Some((checkpoint.size(), checkpoint.root()))
    }

    /// Remembers a tree that was found consistent with what was seen.
    pub(crate) fn note_fitting(&self, checkpoint: &Checkpoint) {
        self.known().fitting = Some((checkpoint.size(), checkpoint.root()));
    }

    /// Keeps a note that contradicts what was seen before beside the memory, which stays as it is, and adds to the error where
    /// both are.
    pub(crate) fn keep_proof(&self, error: Error, note: &str) -> Error {
        let (Error::Inconsistent(what), Some(seen)) = (&error, &self.memory) else {
            return error;
        };
        let mut other = seen.clone();
        other.as_mut_os_string().push(".contradicted");
        let (seen, shown) = (seen.display(), other.display());
        Error::Inconsistent(match files::replace(&other, note.as_bytes()) {
            Ok(()) => format!("{what}; the proof is in {seen} and {shown}, keep both"),
            Err(error) => format!("{what}; keep {seen} and this as proof, for {error}: {note:?}"),
        })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remembered(path: &Path, origin: &str) -> Result<Checkpoint, Error> {
    let bytes = files::read(path, MAX_TRUST_LEN)?;
    let bad = |what: String| {
        Error::Configuration(format!(
            "{}: {what}; it is what this client remembers of the ledger, remove it only if you know why it is damaged",
            path.display()
        ))
    };
    let text = String::from_utf8(bytes).map_err(|error| bad(error.to_string()))?;
    // A checkpoint without signatures is believed too: somebody may have written down no more.
    let note = Note::parse(text.as_bytes());
    let text = note.as_ref().map_or(text.as_str(), Note::text);
    let checkpoint = Checkpoint::parse(text).map_err(|error| bad(error.to_string()))?;
    if checkpoint.origin() != origin {
        return Err(bad(format!(
            "is about the ledger {}, the trust policy about {origin}",
            checkpoint.origin()
        )));
    }
    Ok(checkpoint)
}
