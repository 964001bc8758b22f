//! One snapshot on disk: a folder with the files of a store and a manifest that names each with its digest.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ledger_proto::peer::v1 as wire;
use prost::Message;

use super::incoming::digest_file;
use super::types::{self, SnapshotMeta, invalid};

/// The manifest of a snapshot, beside its files.
pub(super) const MANIFEST: &str = "snapshot.manifest";

/// A snapshot on disk. It is removed when it is neither the newest nor in use.
#[derive(Debug)]
pub struct SnapshotDir {
    path: PathBuf,
    manifest: wire::SnapshotManifest,
    superseded: AtomicBool,
    /// True once files of it were seen not to be what they were: it is of no use to anybody.
    damaged: AtomicBool,
    /// Which copy of this process it is; 0 for one that was found, or received.
    number: u64,
}

impl SnapshotDir {
    /// Makes a folder that holds the files of a store a snapshot: writes the manifest, and renames it to `path`, when all is durable.
    pub(super) fn finish(
        building: &Path,
        path: PathBuf,
        manifest: wire::SnapshotManifest,
        number: u64,
    ) -> io::Result<Self> {
        let mut file = File::create(building.join(MANIFEST))?;
        file.write_all(&manifest.encode_to_vec())?;
        file.sync_all()?;
        File::open(building)?.sync_all()?;
        fs::rename(building, &path)?;
        if let Some(dir) = path.parent() {
            File::open(dir)?.sync_all()?;
        }
        Ok(Self::new(path, manifest, number))
    }

    /// Finds a snapshot that an earlier process has left.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let bytes = fs::read(path.join(MANIFEST))?;
        let manifest = wire::SnapshotManifest::decode(bytes.as_slice())
            .map_err(|error| invalid(format!("{}: {error}", path.display())))?;
        Ok(Self::new(path.to_owned(), manifest, 0))
    }

    const fn new(path: PathBuf, manifest: wire::SnapshotManifest, number: u64) -> Self {
        Self {
            path,
            manifest,
            superseded: AtomicBool::new(false),
            damaged: AtomicBool::new(false),
            number,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Says whether the folder goes when nobody holds it any more.
    pub(super) fn set_superseded(&self, superseded: bool) {
        self.superseded.store(superseded, Ordering::Release);
    }

    /// What the snapshot holds.
    #[must_use]
    pub const fn manifest(&self) -> &wire::SnapshotManifest {
        &self.manifest
    }

    /// What the snapshot covers.
    ///
    /// # Errors
    /// The manifest holds no valid membership.
    pub fn meta(&self) -> io::Result<SnapshotMeta> {
        self.manifest
            .meta
            .as_ref()
            .ok_or_else(|| invalid("a snapshot without meta"))
            .and_then(types::meta)
    }

    /// True if it was made here, and began after `after` others had.
    #[must_use]
    pub const fn is_newer_than(&self, after: u64) -> bool {
        self.number > after
    }

    /// True if it cannot be sent to anybody.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Acquire)
    }

    /// Reads it all again, because somebody who got it found it damaged, or it could not be read. Another one takes its place if it
    /// is.
    pub fn check(&self) {
        let files = digest_files(&self.path);
        let why = match files {
            Ok(files) if files == self.manifest.files => return,
            Ok(_) => "its files are not what they were".to_owned(),
            Err(error) => error.to_string(),
        };
        let path = self.path.display();
        tracing::error!(%path, why, "a snapshot of this node is damaged and another one is made; check the disk, and run fsck on this node");
        self.damaged.store(true, Ordering::Release);
    }

    /// The path of a file of the manifest.
    #[must_use]
    pub fn file(&self, number: usize) -> Option<PathBuf> {
        let file = self.manifest.files.get(number)?;
        Some(self.path.join(&file.name))
    }
}

impl Drop for SnapshotDir {
    fn drop(&mut self) {
        if self.superseded.load(Ordering::Acquire) {
            // What stays behind is removed at the next start.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// BLAKE3 of a manifest: the name of the snapshot.
#[must_use]
pub fn snapshot_name(manifest: &wire::SnapshotManifest) -> [u8; 32] {
    *blake3::hash(&manifest.encode_to_vec()).as_bytes()
}

/// True if a folder holds no whole snapshot, and false if the disk does not say.
pub(super) fn is_no_snapshot(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::NotFound
    )
}

/// The files of a store in a folder, each with its digest, by name.
pub(super) fn digest_files(dir: &Path) -> io::Result<Vec<wire::SnapshotFile>> {
    let mut files = Vec::new();
    for item in fs::read_dir(dir)? {
        let item = item?;
        let name = item
            .file_name()
            .into_string()
            .map_err(|_| invalid("a file with an odd name"))?;
        // RocksDB's own diary says nothing that a reader needs.
        if name == MANIFEST || name.starts_with("LOG") || name == "LOCK" {
            continue;
        }
        let (size, digest) = digest_file(&item.path())?;
        files.push(wire::SnapshotFile { name, size, digest });
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(files)
}
