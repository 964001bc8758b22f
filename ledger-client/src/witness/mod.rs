//! A witness: it cosigns the newest tree of each log that it knows, after it has seen that a quorum of the log's nodes has, and a
//! proof that this tree contains the one that it has cosigned before (C2SP tlog-witness).
//!
//! A ledger whose trust policy asks for a witness outside cannot have two trees proven, whoever of its nodes lies, and whatever
//! disk of theirs was put back: the witness has seen the first and refuses the second. It holds only as far as the witness's own
//! memory does, so key and memory are in one folder, which is never made anew under an old key.

mod memory;
mod serve;
mod watched;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use http::StatusCode;
use ledger_core::hash::TreeSize;
use ledger_core::note::checkpoint::Checkpoint;
use ledger_core::note::cosignature::{CosignatureTime, cosign};
use ledger_core::note::signed_note::Note;
use ledger_core::note::tlog_witness::{AddCheckpoint, SIZE_MEDIA_TYPE};
use ledger_core::note::verify::CheckpointVerifyError;
use ledger_core::note::vkey::{KeyType, VerifierKey};
use ledger_core::tree::verify::verify_consistency;

use crate::error::Error;
use crate::files;
use crate::key_file::KeyFile;
use memory::Memory;
pub use serve::serve;
use watched::WatchedLog;

/// The private key, in the witness's folder.
const KEY: &str = "witness.key";
/// The public key with the witness's name, in the witness's folder.
const VKEY: &str = "witness.vkey";
/// Longest file with a vkey in bytes.
const MAX_VKEY_LEN: usize = 4 * 1024;
/// The media type of cosignatures and of words.
const TEXT: &str = "text/plain; charset=utf-8";

/// A witness that is ready to be asked.
#[derive(Debug)]
pub struct Witness {
    key: KeyFile,
    vkey: VerifierKey,
    /// The logs that it knows, by origin.
    logs: BTreeMap<String, WatchedLog>,
    /// Held from the comparison with what was cosigned before until the new tree is on the disk.
    memory: Mutex<Memory>,
}

/// An answer to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessReply {
    /// The HTTP status.
    pub status: StatusCode,
    /// The media type of the body.
    pub content_type: &'static str,
    /// Cosignature lines, a size, or words.
    pub body: String,
    /// The origin of a log that has signed, and whose nodes have not as its trust policy demands: they may be others by now.
    lacks_nodes_of: Option<String>,
}

impl WitnessReply {
    fn refused(status: StatusCode, why: impl std::fmt::Display) -> Self {
        Self {
            status,
            content_type: TEXT,
            body: format!("{why}\n"),
            lacks_nodes_of: None,
        }
    }

    /// What is said to whoever brings a tree that the nodes have not vouched for.
    fn lacks_nodes(origin: &str) -> Self {
        let why = "the log's nodes have not cosigned as the trust policy in force here demands";
        Self {
            lacks_nodes_of: Some(origin.to_owned()),
            ..Self::refused(StatusCode::FORBIDDEN, why)
        }
    }

    fn other_size(size: TreeSize) -> Self {
        Self {
            status: StatusCode::CONFLICT,
            content_type: SIZE_MEDIA_TYPE,
            body: format!("{size}\n"),
            lacks_nodes_of: None,
        }
    }
}

/// Makes a new witness: a folder with a key and a memory of nothing. Gives its vkey.
///
/// # Errors
/// [`Error::Configuration`] for a name that no key can have or a folder that exists, [`Error::Internal`] if it cannot be written.
pub fn create(folder: &Path, name: &str) -> Result<VerifierKey, Error> {
    let internal = |error: std::io::Error| {
        Error::Internal(format!("{} cannot be made: {error}", folder.display()))
    };
    // Before anything is written.
    if !ledger_core::note::vkey::is_key_name(name) {
        return Err(Error::Configuration(format!(
            "`{name}` cannot name a key: take a schema-less URL without spaces and plus signs"
        )));
    }
    fs::create_dir(folder).map_err(|error| {
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            Error::Configuration(format!(
                "{} exists already; a new witness needs a folder of its own",
                folder.display()
            ))
        } else {
            internal(error)
        }
    })?;
    let key = KeyFile::create_nameless(&folder.join(KEY))?;
    let vkey = VerifierKey::new(name, KeyType::CosignatureV1, *key.public())
        .map_err(|error| Error::Configuration(error.to_string()))?;
    files::write_new(&folder.join(VKEY), format!("{vkey}\n").as_bytes(), 0o644)?;
    Memory::create(folder).map_err(internal)?;
    Ok(vkey)
}

impl Witness {
    /// Opens a witness for the logs of these trust policies. `endpoints` has, for each of them in their order, nodes that show how the
    /// policy has changed since; if it is empty, the policies stay as they are.
    ///
    /// # Errors
    /// [`Error::Configuration`]: something is missing, damaged, or in use by another process.
    pub fn open(
        folder: &Path,
        policies: &[PathBuf],
        endpoints: &[Vec<String>],
    ) -> Result<Self, Error> {
        let bad =
            |path: &Path, what: String| Error::Configuration(format!("{}: {what}", path.display()));
        let key = KeyFile::open(&folder.join(KEY))?;
        let path = folder.join(VKEY);
        let text = String::from_utf8(files::read(&path, MAX_VKEY_LEN)?)
            .map_err(|error| bad(&path, error.to_string()))?;
        let vkey =
            VerifierKey::parse(text.trim_end()).map_err(|error| bad(&path, error.to_string()))?;
        if vkey.key_type() != KeyType::CosignatureV1 || vkey.public_key() != key.public() {
            return Err(bad(&path, format!("is not the vkey of {KEY}")));
        }
        if !endpoints.is_empty() && endpoints.len() != policies.len() {
            return Err(Error::Configuration(
                "give --endpoints once for each --trust, in the same order, or not at all"
                    .to_owned(),
            ));
        }
        let mut logs = BTreeMap::new();
        for (at, path) in policies.iter().enumerate() {
            let log = WatchedLog::open(path, endpoints.get(at))?;
            logs.insert(log.origin().to_owned(), log);
        }
        if logs.is_empty() {
            return Err(Error::Configuration(
                "no log is known; name the trust policy of each ledger to be witnessed".to_owned(),
            ));
        }
        Ok(Self {
            key,
            vkey,
            logs,
            memory: Mutex::new(Memory::open(folder)?),
        })
    }

    /// Its public key with its name.
    #[must_use]
    pub const fn vkey(&self) -> &VerifierKey {
        &self.vkey
    }

    /// The log of an origin, if this witness knows it.
    fn log(&self, origin: &str) -> Option<&WatchedLog> {
        self.logs.get(origin)
    }

    /// Answers `add-checkpoint`. Writes to disk.
    ///
    /// # Errors
    /// [`Error::Internal`] if the new tree cannot be remembered: then nothing was signed, and the witness must end.
    pub fn add_checkpoint(&self, body: &[u8], now_s: u64) -> Result<WitnessReply, Error> {
        let refused = |status, why: &dyn std::fmt::Display| Ok(WitnessReply::refused(status, why));
        let parsed = AddCheckpoint::parse(body)
            .map_err(|error| error.to_string())
            .and_then(|asked| {
                let note = Note::parse(asked.checkpoint.as_bytes());
                let note = note.map_err(|error| error.to_string())?;
                let checkpoint =
                    Checkpoint::parse(note.text()).map_err(|error| error.to_string())?;
                Ok((asked, note, checkpoint))
            });
        let (asked, note, checkpoint) = match parsed {
            Ok(parsed) => parsed,
            Err(why) => return refused(StatusCode::BAD_REQUEST, &why),
        };
        let Some(log) = self.log(checkpoint.origin()) else {
            return refused(StatusCode::NOT_FOUND, &"this witness does not know the log");
        };
        // Whoever has the log's key could otherwise have a tree of its own making cosigned, and this witness refuse the ledger from
        // then on.
        match log.verify(&asked.checkpoint) {
            Ok(()) => {}
            Err(CheckpointVerifyError::QuorumNotMet { .. }) => {
                return Ok(WitnessReply::lacks_nodes(checkpoint.origin()));
            }
            Err(error) => return refused(StatusCode::FORBIDDEN, &error),
        }
        if asked.old > checkpoint.size() {
            return refused(
                StatusCode::BAD_REQUEST,
                &"the old size is larger than the checkpoint's",
            );
        }
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let last = memory.last(checkpoint.origin());
        let size = last.map_or(TreeSize(0), Checkpoint::size);
        if asked.old != size {
            return Ok(WitnessReply::other_size(size));
        }
        if let Err(why) = must_extend(last, &checkpoint, &asked) {
            return refused(StatusCode::UNPROCESSABLE_ENTITY, &why);
        }
        if checkpoint.size() > size || last.is_none() {
            // The commit point: after it no other tree is cosigned.
            memory.remember(&note, &checkpoint)?;
        }
        drop(memory);
        let time = CosignatureTime::from_seconds(now_s)
            .map_err(|error| Error::Internal(error.to_string()))?;
        let line = cosign(&checkpoint, time, self.vkey.name(), &self.key)
            .map_err(|error| Error::Internal(error.to_string()))?;
        Ok(WitnessReply {
            status: StatusCode::OK,
            content_type: TEXT,
            body: format!("{line}\n"),
            lacks_nodes_of: None,
        })
    }
}

/// Checks that a tree contains the one that was cosigned last.
fn must_extend(
    last: Option<&Checkpoint>,
    new: &Checkpoint,
    asked: &AddCheckpoint,
) -> Result<(), String> {
    match last.filter(|last| last.size().0 > 0) {
        Some(last) => verify_consistency(
            new.tree_hash(),
            last.size(),
            &last.root(),
            new.size(),
            &new.root(),
            &asked.proof,
        )
        .map_err(|error| error.to_string()),
        None if !asked.proof.is_empty() => {
            Err("nothing was cosigned before, so that the proof must be empty".to_owned())
        }
        None if new.size().0 == 0 && new.root() != new.tree_hash().empty() => {
            Err("the root of an empty tree is another one".to_owned())
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
