//! A copy of another node's store, as it arrives.
//!
//! It is kept in a folder under the snapshot's name, the digest of its manifest, so that a transfer goes on where it broke off,
//! even after the node has died. Only a copy of which every file is what the manifest says, and durable, becomes a snapshot.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use ledger_proto::peer::v1 as wire;

use super::types::invalid;

/// How the names of these folders begin.
const PREFIX: &str = "incoming-";
/// Most files in a snapshot.
const MAX_FILES: usize = 100_000;
/// Most bytes of a snapshot, 4 TiB: what a thousand decisions a second take in more than a month, and more than one disk of most
/// machines has.
const MAX_LEN: u64 = 4 << 40;
/// Bytes of the disk that a snapshot leaves free: what the store itself writes while a snapshot is received.
const LEFT_FREE: u64 = 256 << 20;
/// The longest name of a file in a snapshot, in bytes.
const MAX_FILE_NAME: usize = 64;

/// True if a folder of this name holds a copy that is being received.
pub(super) fn is_one(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// The system's codes for a process, or a machine, that has too many files open.
const TOO_MANY_OPEN: [i32; 2] = [24, 23];

/// True if receiving failed because of this node's disk, which must then stop. Otherwise it is enough that the sender begins
/// again, which it does by itself: what it sent was not what it had announced, the copy is being removed, because there is a
/// newer one or something was erased, or too many files are open at the moment.
#[must_use]
pub fn is_of_disk(error: &io::Error) -> bool {
    let passes = error
        .raw_os_error()
        .is_some_and(|code| TOO_MANY_OPEN.contains(&code));
    !passes
        && !matches!(
            error.kind(),
            io::ErrorKind::InvalidData
                | io::ErrorKind::NotFound
                | io::ErrorKind::AlreadyExists
                | io::ErrorKind::DirectoryNotEmpty
        )
}

/// A copy that is being received.
#[derive(Debug, Clone)]
pub struct Incoming {
    path: PathBuf,
    manifest: wire::SnapshotManifest,
    name: [u8; 32],
}

impl Incoming {
    /// Goes on with a copy, or begins it. Others are removed: only one transfer is worth going on with, the leader's newest.
    pub(super) fn open(
        dir: &Path,
        manifest: &wire::SnapshotManifest,
        name: [u8; 32],
    ) -> io::Result<Self> {
        if !is_acceptable(manifest) {
            return Err(invalid("a manifest with impossible files"));
        }
        let len = total_len(manifest).filter(|len| *len <= MAX_LEN);
        let len = len.ok_or_else(|| invalid("a snapshot that is longer than any may be"))?;
        let path = dir.join(format!("{PREFIX}{}", hex::encode(name)));
        for item in fs::read_dir(dir)? {
            let other = item?.path();
            let other_name = other.file_name().and_then(|name| name.to_str());
            if other_name.is_some_and(is_one) && other != path {
                fs::remove_dir_all(other)?;
            }
        }
        fs::create_dir_all(&path)?;
        let incoming = Self {
            path,
            manifest: manifest.clone(),
            name,
        };
        incoming.has_room(len)?;
        // No part is ever sent of an empty file, such as the write-ahead log of a store that has just been flushed.
        for file in manifest.files.iter().filter(|file| file.size == 0) {
            File::create(incoming.path.join(&file.name))?;
        }
        Ok(incoming)
    }

    /// An error if the disk has no room for what is missing. This node goes on: it is told again and again until there is.
    fn has_room(&self, len: u64) -> io::Result<()> {
        let here = self.have()?.into_iter().fold(0, u64::saturating_add);
        let missing = len.saturating_sub(here);
        let disk = rustix::fs::statvfs(&self.path)?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if missing.saturating_add(LEFT_FREE) <= free {
            return Ok(());
        }
        Err(invalid(format!(
            "a snapshot of {len} bytes is not received: it needs {missing} more, and {LEFT_FREE} are to stay free of the {free} that the disk has; make room"
        )))
    }

    /// The name of the snapshot.
    #[must_use]
    pub const fn name(&self) -> &[u8; 32] {
        &self.name
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) const fn manifest(&self) -> &wire::SnapshotManifest {
        &self.manifest
    }

    /// For each file, how many bytes are there. Files that are too long begin again.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn have(&self) -> io::Result<Vec<u64>> {
        self.manifest
            .files
            .iter()
            .map(|file| {
                let path = self.path.join(&file.name);
                match fs::metadata(&path) {
                    Ok(found) if found.len() <= file.size => Ok(found.len()),
                    Ok(_) => fs::remove_file(&path).map(|()| 0),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
                    Err(error) => Err(error),
                }
            })
            .collect()
    }

    /// Appends bytes to a file.
    ///
    /// # Errors
    /// They do not continue the file, or are past its end, or cannot be written.
    pub fn write(&self, number: u32, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let file = usize::try_from(number)
            .ok()
            .and_then(|number| self.manifest.files.get(number))
            .ok_or_else(|| invalid("no such file in the manifest"))?;
        let out = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.path.join(&file.name))?;
        let have = out.metadata()?.len();
        let len = u64::try_from(bytes.len()).map_err(io::Error::other)?;
        if have != offset || have.saturating_add(len) > file.size {
            return Err(invalid(
                "a part of a snapshot that does not continue its file",
            ));
        }
        out.write_all_at(bytes, offset)
    }

    /// Compares every file with the manifest and makes it durable. One that arrived damaged is removed, to be sent again.
    pub(super) fn make_durable(&self) -> io::Result<()> {
        for file in &self.manifest.files {
            let path = self.path.join(&file.name);
            let (size, digest) = digest_file(&path).map_err(|error| {
                if error.kind() == io::ErrorKind::NotFound {
                    invalid(format!("{} did not arrive", file.name))
                } else {
                    error
                }
            })?;
            if size != file.size || digest.as_slice() != file.digest {
                fs::remove_file(&path)?;
                return Err(invalid(format!(
                    "{} arrived damaged and will be sent again",
                    file.name
                )));
            }
            File::open(&path)?.sync_all()?;
        }
        Ok(())
    }

    /// Hands an error on, after removing the copy if it is the disk's. The system says only once that a sync has failed: a
    /// process that found these files later would read them from memory, sync them again, be told that all is well, and lose
    /// what never reached the disk with the next loss of power.
    pub(super) fn abandoned(&self, error: io::Error) -> io::Error {
        if is_of_disk(&error) {
            let _ = fs::remove_dir_all(&self.path);
        }
        error
    }
}

/// True if all files of a manifest can be in one folder, and nowhere else.
fn is_acceptable(manifest: &wire::SnapshotManifest) -> bool {
    let mut names = HashSet::new();
    let plain = |name: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        !name.is_empty()
            && name.len() <= MAX_FILE_NAME
            && !name.starts_with('.')
            && name.bytes().all(allowed)
    };
    manifest.files.len() <= MAX_FILES
        && manifest
            .files
            .iter()
            .all(|file| plain(&file.name) && names.insert(&file.name))
}

/// The length of all files together.
fn total_len(manifest: &wire::SnapshotManifest) -> Option<u64> {
    let mut files = manifest.files.iter();
    files.try_fold(0_u64, |len, file| len.checked_add(file.size))
}

/// The length and the BLAKE3 digest of a file.
pub(super) fn digest_file(path: &Path) -> io::Result<(u64, Vec<u8>)> {
    let mut hasher = blake3::Hasher::new();
    let size = io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok((size, hasher.finalize().as_bytes().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest_of(sizes: &[u64]) -> wire::SnapshotManifest {
        let files = (0_u32..)
            .zip(sizes)
            .map(|(number, size)| wire::SnapshotFile {
                name: format!("{number}.sst"),
                size: *size,
                digest: vec![0; 32],
            });
        wire::SnapshotManifest {
            files: files.collect(),
            ..wire::SnapshotManifest::default()
        }
    }

    #[test]
    fn a_snapshot_that_the_disk_has_no_room_for_is_refused_before_a_byte_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let open = |sizes: &[u64]| Incoming::open(folder.path(), &manifest_of(sizes), [7; 32]);
        let half = MAX_LEN / 2;
        for (sizes, says) in [
            (&[half, half + 1][..], "longer than any"),
            (&[u64::MAX, 1], "longer than any"),
            (&[half, half], "make room"),
        ] {
            let refused = open(sizes).unwrap_err();
            assert!(refused.to_string().contains(says), "{refused}");
            assert!(!is_of_disk(&refused), "the node goes on");
        }
        assert!(open(&[1, 2]).is_ok());
    }

    #[test]
    fn a_copy_goes_only_if_the_disk_failed_under_it() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = wire::SnapshotManifest::default();
        let incoming = Incoming::open(folder.path(), &manifest, [7; 32]).unwrap();
        let too_many = io::Error::from_raw_os_error(TOO_MANY_OPEN[0]);
        for stays in [invalid("damaged"), io::ErrorKind::NotFound.into(), too_many] {
            let stays = incoming.abandoned(stays);
            assert!(!is_of_disk(&stays), "{stays}");
            assert!(incoming.path.exists(), "{stays}");
        }
        let failed = io::Error::from_raw_os_error(5);
        assert!(is_of_disk(&incoming.abandoned(failed)));
        assert!(!incoming.path.exists());
    }
}
