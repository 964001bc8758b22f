//! What a witness has cosigned: for each log the largest tree, on the disk before its signature leaves.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use ledger_core::hash::TreeHash;
use ledger_core::note::checkpoint::Checkpoint;
use ledger_core::note::signed_note::{MAX_NOTE_LEN, Note};

use crate::error::Error;
use crate::files;

/// The folder of the memory, in the witness's folder: one file for each log.
const COSIGNED: &str = "cosigned";
/// Locked while a process serves with this memory.
const LOCK: &str = "lock";
/// The end of a file's name that is being written.
const PARTIAL: &str = ".partial";

/// The memory of a witness. Only one process has it.
#[derive(Debug)]
pub(super) struct Memory {
    folder: PathBuf,
    last: BTreeMap<String, Checkpoint>,
    /// Held for as long as this lives.
    _lock: File,
}

impl Memory {
    /// Makes a memory of nothing.
    pub(super) fn create(folder: &Path) -> io::Result<()> {
        let cosigned = folder.join(COSIGNED);
        fs::create_dir(&cosigned)?;
        sync_folder(&cosigned)?;
        sync_folder(folder)
    }

    /// Opens the memory in a witness's folder. There must be one: a witness that has forgotten would cosign anything.
    pub(super) fn open(folder: &Path) -> Result<Self, Error> {
        let cosigned = folder.join(COSIGNED);
        let bad = |path: &Path, what: &dyn std::fmt::Display| {
            Error::Configuration(format!(
                "{}: {what}; a witness that has forgotten what it cosigned must not serve again under its key: make a new one",
                path.display()
            ))
        };
        let entries = fs::read_dir(&cosigned).map_err(|error| bad(&cosigned, &error))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join(LOCK))
            .map_err(|error| bad(folder, &error))?;
        if lock.try_lock().is_err() {
            return Err(Error::Configuration(format!(
                "{} is in use by another process",
                folder.display()
            )));
        }
        let mut last = BTreeMap::new();
        for entry in entries {
            let path = entry.map_err(|error| bad(&cosigned, &error))?.path();
            if path.to_string_lossy().ends_with(PARTIAL) {
                // Its rename never was: what it says was not signed.
                continue;
            }
            let bytes = files::read(&path, MAX_NOTE_LEN)?;
            let note = Note::parse(&bytes).map_err(|error| bad(&path, &error))?;
            let checkpoint = Checkpoint::parse(note.text()).map_err(|error| bad(&path, &error))?;
            if path != cosigned.join(file_name(checkpoint.origin())) {
                return Err(bad(&path, &"is not named after its log"));
            }
            last.insert(checkpoint.origin().to_owned(), checkpoint);
        }
        Ok(Self {
            folder: cosigned,
            last,
            _lock: lock,
        })
    }

    /// The largest tree of a log that was cosigned.
    pub(super) fn last(&self, origin: &str) -> Option<&Checkpoint> {
        self.last.get(origin)
    }

    /// Remembers a larger tree, durably.
    ///
    /// # Errors
    /// [`Error::Internal`]; what is on the disk is then the old or the new.
    pub(super) fn remember(&mut self, note: &Note, checkpoint: &Checkpoint) -> Result<(), Error> {
        let path = self.folder.join(file_name(checkpoint.origin()));
        let mut partial = path.clone();
        partial.as_mut_os_string().push(PARTIAL);
        let written = File::create(&partial)
            .and_then(|mut file| {
                file.write_all(note.to_string().as_bytes())?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&partial, &path))
            .and_then(|()| sync_folder(&self.folder));
        written.map_err(|error| {
            Error::Internal(format!(
                "{} cannot be written, so that nothing is cosigned: {error}",
                path.display()
            ))
        })?;
        self.last
            .insert(checkpoint.origin().to_owned(), checkpoint.clone());
        Ok(())
    }
}

/// The name of a log's file: origins are URLs, and may be longer than a file's name.
fn file_name(origin: &str) -> String {
    TreeHash::Sha256.leaf(origin.as_bytes()).to_string()
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
