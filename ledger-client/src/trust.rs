//! Whom this client believes: a pinned trust policy, and the last checkpoint that it has seen.
//!
//! The policy says whose signatures make a checkpoint believable. The checkpoint seen last is what catches a ledger that was
//! cut short or rewritten: every later one must contain it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ledger_core::evidence::{EvidenceError, TrustFollower};
use ledger_core::hash::{Hash, TreeSize};
use ledger_core::note::checkpoint::Checkpoint;
use ledger_core::note::signed_note::Note;
use ledger_core::note::tlog_policy::TlogPolicy;
use ledger_core::note::verify::verify_checkpoint;

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

    /// What follows changes of the trust policy from the pinned one on.
    pub(crate) fn follower(&self) -> TrustFollower {
        TrustFollower::new(&self.origin, &self.pinned)
    }

    /// Takes the policy that was followed from the pinned one for the one in force.
    ///
    /// # Errors
    /// [`Error::Unproven`] if its last change is not vouched for.
    pub(crate) fn take(&self, follower: TrustFollower) -> Result<(), Error> {
        self.known().policy = follower.finish()?;
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
    /// [`Error::Internal`] if it cannot be written, [`Error::Inconsistent`] if another process has seen another tree of this size.
    pub(crate) fn remember(&self, note: &str, checkpoint: &Checkpoint) -> Result<(), Error> {
        let mut known = self.known();
        let newer = known
            .seen
            .as_ref()
            .is_none_or(|seen| seen.size() < checkpoint.size());
        if !newer {
            return Ok(());
        }
        // It was compared with what was seen before.
        known.fitting = None;
        let Some(path) = &self.memory else {
            known.seen = Some(checkpoint.clone());
            return Ok(());
        };
        // Other processes remember beside this one, and may have seen more.
        let _lock = files::lock(path)?;
        let by_others = if path.exists() {
            Some(remembered(path, &self.origin)?)
        } else {
            None
        };
        match by_others {
            Some(seen) if seen.size() > checkpoint.size() => known.seen = Some(seen),
            Some(seen) if seen.size() == checkpoint.size() && seen.root() != checkpoint.root() => {
                known.seen = Some(seen);
                drop(known);
                let what = format!(
                    "another process has seen another root at {} entries: the ledger is forked; stop, and ask whoever runs it",
                    checkpoint.size()
                );
                return Err(self.keep_proof(Error::Inconsistent(what), note));
            }
            Some(_) | None => {
                known.seen = Some(checkpoint.clone());
                files::replace(path, note.as_bytes())?;
            }
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use ledger_core::keys::PublicKey;
    use ledger_core::note::vkey::{KeyType, VerifierKey};

    use super::*;

    const ORIGIN: &str = "example.com/ledger";

    /// A trust policy that asks for nobody: what is remembered is not verified here.
    fn trust(memory: Option<PathBuf>) -> Trust {
        let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key();
        let key = PublicKey::from_bytes(key.as_bytes()).unwrap();
        let key = VerifierKey::new(ORIGIN, KeyType::Ed25519, key).unwrap();
        let policy = TlogPolicy::parse(format!("log {key}\nquorum none\n").as_bytes());
        Trust::new(policy.unwrap(), memory).unwrap()
    }

    fn tree(size: u64, root: u8) -> Checkpoint {
        Checkpoint::new(ORIGIN, TreeSize(size), Hash::from_bytes([root; 32])).unwrap()
    }

    fn remember(trust: &Trust, tree: &Checkpoint) -> Result<(), Error> {
        trust.remember(&tree.to_string(), tree)
    }

    #[test]
    fn a_tree_that_fitted_what_was_seen_is_compared_again_with_what_is_seen_then() {
        let trust = trust(None);
        remember(&trust, &tree(90, 1)).unwrap();
        trust.note_fitting(&tree(100, 2));
        assert!(trust.is_known_to_fit(&tree(100, 2)));
        remember(&trust, &tree(90, 1)).unwrap();
        assert!(trust.is_known_to_fit(&tree(100, 2)), "nothing new was seen");
        remember(&trust, &tree(120, 3)).unwrap();
        assert!(!trust.is_known_to_fit(&tree(100, 2)));
    }

    #[test]
    fn what_one_process_remembers_no_other_makes_smaller() {
        let folder = tempfile::tempdir().unwrap();
        let memory = folder.path().join("checkpoint");
        let (one, other) = (trust(Some(memory.clone())), trust(Some(memory.clone())));
        remember(&one, &tree(120, 1)).unwrap();
        remember(&other, &tree(90, 2)).unwrap();
        let kept = remembered(&memory, ORIGIN).unwrap();
        assert_eq!(kept.size(), TreeSize(120));
        assert_eq!(other.seen().unwrap().size(), TreeSize(120));
        remember(&other, &tree(130, 3)).unwrap();
        let forked = remember(&one, &tree(130, 4));
        assert!(matches!(forked, Err(Error::Inconsistent(_))), "{forked:?}");
        assert_eq!(
            remembered(&memory, ORIGIN).unwrap().root(),
            tree(130, 3).root()
        );
    }
}
