//! Snapshots: hard-linked copies of the store with a manifest that names every file and its digest.
//!
//! A folder `snap-<index>` is complete by construction: it gets that name by a rename after its manifest and its files are
//! durable.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ledger_proto::peer::v1 as wire;
use prost::Message;

use super::incoming::{self, Incoming, digest_file};
use super::own::own;
use super::received;
use super::types::{self, SnapshotMeta, invalid};
use crate::apply::Applier;
use crate::storage::Store;
use crate::storage::folders::copy_linked;
use crate::storage::marker::Marker;

/// The manifest of a snapshot, beside its files.
const MANIFEST: &str = "snapshot.manifest";

/// A snapshot on disk. It is removed when it is neither the newest nor in use.
#[derive(Debug)]
pub struct SnapshotDir {
    path: PathBuf,
    manifest: wire::SnapshotManifest,
    superseded: AtomicBool,
    /// True once files of it were seen not to be what they were: it is of no use to anybody.
    damaged: AtomicBool,
    /// Which copy of this process it is; 0 for one that was found, or received.
    number: AtomicU64,
}

impl SnapshotDir {
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
    pub fn is_newer_than(&self, after: u64) -> bool {
        self.number.load(Ordering::Acquire) > after
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

/// The snapshots of a node.
#[derive(Debug)]
pub struct Snapshots {
    dir: PathBuf,
    /// Opens what is received.
    store: Arc<dyn Store>,
    /// Knows what this node has promised, which no copy may take back.
    marker: Arc<Marker>,
    /// The last copy that was refused for what it holds, and why: it is not sent again.
    refused: Mutex<Option<([u8; 32], String)>>,
    current: Mutex<Option<Arc<SnapshotDir>>>,
    /// How many copies this process has begun to make.
    begun: AtomicU64,
    /// How many copies have become this node's store.
    installed: AtomicU64,
}

impl Snapshots {
    /// Finds the newest complete snapshot and removes what is left of others. Copies being received stay.
    ///
    /// # Errors
    /// The folder cannot be read or written.
    pub fn open(dir: &Path, store: Arc<dyn Store>, marker: Arc<Marker>) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut complete = Vec::new();
        for item in fs::read_dir(dir)? {
            let path = item?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            match name {
                Some(name) if name.starts_with("snap-") => complete.push(path),
                Some(name) if incoming::is_one(name) => {}
                _ => fs::remove_dir_all(&path)?,
            }
        }
        complete.sort();
        let newest = complete.pop();
        for older in complete {
            fs::remove_dir_all(older)?;
        }
        let current = match newest.as_deref().map(read_dir).transpose() {
            // What it was made of is in the store: openraft makes another one.
            Err(error) if is_no_snapshot(&error) => {
                tracing::error!(%error, "a snapshot is damaged and removed; run fsck on this node");
                newest.map(fs::remove_dir_all).transpose()?;
                None
            }
            read => read?,
        };
        Ok(Self {
            dir: dir.to_owned(),
            store,
            marker,
            refused: Mutex::default(),
            current: Mutex::new(current.map(Arc::new)),
            begun: AtomicU64::new(0),
            installed: AtomicU64::new(0),
        })
    }

    /// The newest snapshot.
    #[must_use]
    pub fn current(&self) -> Option<Arc<SnapshotDir>> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }

    /// Where in the log the newest snapshot ends; 0 if there is none.
    ///
    /// # Errors
    /// Its manifest holds no valid membership.
    pub fn end(&self) -> io::Result<u64> {
        let meta = self.current().map(|snapshot| snapshot.meta()).transpose()?;
        Ok(meta
            .and_then(|meta| meta.last_log_id)
            .map_or(0, |id| id.index()))
    }

    /// Makes a snapshot of what is applied now.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn build(&self, applier: &Applier) -> io::Result<Arc<SnapshotDir>> {
        let building = self.dir.join("building");
        if building.exists() {
            fs::remove_dir_all(&building)?;
        }
        let number = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
        let (applied, tip) = applier.checkpoint(building.clone()).await?;
        let meta = SnapshotMeta {
            last_log_id: applied.last,
            last_membership: applied.members,
        };
        let dir = self.dir.clone();
        let built = tokio::task::spawn_blocking(move || {
            let manifest = wire::SnapshotManifest {
                meta: Some(types::meta_to_wire(&meta)),
                files: digest_files(&building)?,
                tree_size: tip.size.0,
                root: tip.root.as_bytes().to_vec(),
            };
            finish(&dir, &building, manifest)
        });
        let built = Arc::new(built.await.map_err(io::Error::other)??);
        built.number.store(number, Ordering::Release);
        self.replace(Arc::clone(&built));
        Ok(built)
    }

    /// How many copies have begun until now.
    #[must_use]
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    /// How many copies have become this node's store.
    #[must_use]
    pub fn installed(&self) -> u64 {
        self.installed.load(Ordering::Acquire)
    }

    /// True if the only copy on disk is one that began after `after` others had. Transfers that never ended are removed.
    ///
    /// # Errors
    /// The folder cannot be read or written.
    pub fn only_newer_than(&self, after: u64) -> io::Result<bool> {
        let Some(current) = self.current() else {
            return Ok(false);
        };
        if !current.is_newer_than(after) {
            return Ok(false);
        }
        let mut alone = true;
        for item in fs::read_dir(&self.dir)? {
            let path = item?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            if name.is_some_and(incoming::is_one) {
                // A transfer that is on its way begins again.
                fs::remove_dir_all(&path)?;
            } else if path != current.path {
                alone = false;
            }
        }
        Ok(alone)
    }

    fn refused(&self) -> MutexGuard<'_, Option<([u8; 32], String)>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace(&self, newer: Arc<SnapshotDir>) {
        newer.superseded.store(false, Ordering::Release);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = current.replace(newer)
            && current.as_ref().is_some_and(|new| new.path != old.path)
        {
            old.superseded.store(true, Ordering::Release);
        }
    }

    /// The copy that is being received. A manifest that names odd files is refused.
    ///
    /// # Errors
    /// The manifest is not acceptable, or the folder cannot be written.
    pub fn receive(&self, manifest: &wire::SnapshotManifest) -> io::Result<Incoming> {
        let name = snapshot_name(manifest);
        if let Some((_, why)) = self.refused().as_ref().filter(|(known, _)| *known == name) {
            return Err(invalid(why.clone()));
        }
        Incoming::open(&self.dir, manifest, name)
    }

    /// Checks a received copy against its manifest and makes it a snapshot of this node.
    ///
    /// # Errors
    /// A file is not what the manifest says; it is removed, to be sent again. Or the copy is what was sent, and holds entries or
    /// content that are not what was committed; then it is refused for good. Or [`is_of_disk`] says that this node must stop.
    ///
    /// [`is_of_disk`]: super::incoming::is_of_disk
    pub fn complete(&self, incoming: &Incoming) -> io::Result<Arc<SnapshotDir>> {
        self.check(incoming)
            .and_then(|()| finish(&self.dir, incoming.path(), incoming.manifest().clone()))
            .map(|complete| {
                // Unless it is installed, nobody wants it.
                complete.superseded.store(true, Ordering::Release);
                Arc::new(complete)
            })
            .map_err(|error| incoming.abandoned(error))
    }

    fn check(&self, incoming: &Incoming) -> io::Result<()> {
        incoming.make_durable()?;
        let began = Instant::now();
        // Only read, so that nothing of it can be lost here; what cannot be opened is sent again.
        let copy = self.store.open_copy(incoming.path());
        let copy = copy.map_err(|error| invalid(error.to_string()))?;
        let checked = received::check(&*copy, incoming.manifest(), &self.marker.read());
        drop(copy);
        if let Err(error) = checked {
            // Unless it is this node that can no longer read what came, or has removed it, it came like this.
            incoming.make_durable()?;
            let why = format!(
                "a snapshot is refused: {error}. Run fsck on the node that sent it, and replace it if it is damaged"
            );
            tracing::error!("{why}");
            fs::remove_dir_all(incoming.path())?;
            *self.refused() = Some((*incoming.name(), why.clone()));
            return Err(invalid(why));
        }
        let (entries, took) = (incoming.manifest().tree_size, began.elapsed());
        tracing::info!(entries, ?took, "what a snapshot holds was checked");
        Ok(())
    }

    /// Makes a snapshot the state of this node.
    ///
    /// # Errors
    /// It cannot be installed; the node must stop.
    pub async fn install(
        &self,
        applier: &Applier,
        covers: &SnapshotMeta,
        snapshot: &Arc<SnapshotDir>,
    ) -> io::Result<()> {
        let last = covers
            .last_log_id
            .ok_or_else(|| invalid("a snapshot of nothing"))?;
        let copy = self.dir.join("installing");
        if copy.exists() {
            fs::remove_dir_all(&copy)?;
        }
        copy_linked(&snapshot.path, &copy, Some(MANIFEST))?;
        self.installed.fetch_add(1, Ordering::AcqRel);
        let size = snapshot.manifest.tree_size;
        applier
            .install(copy, Box::new(move |old| own(old, &last, size)))
            .await?;
        self.replace(Arc::clone(snapshot));
        Ok(())
    }
}

/// Writes the manifest and gives the folder its final name.
fn finish(
    dir: &Path,
    building: &Path,
    manifest: wire::SnapshotManifest,
) -> io::Result<SnapshotDir> {
    let index = manifest
        .meta
        .as_ref()
        .and_then(|meta| meta.last_log_id.as_ref())
        .map_or(0, |id| id.index);
    let mut file = File::create(building.join(MANIFEST))?;
    file.write_all(&manifest.encode_to_vec())?;
    file.sync_all()?;
    File::open(building)?.sync_all()?;
    let path = dir.join(format!(
        "snap-{index:020}-{}",
        hex::encode(&snapshot_name(&manifest)[..8])
    ));
    // The same snapshot can come twice. Each copy has a folder of its own, which goes with it.
    let path = (1_u64..)
        .map(|number| path.with_extension(number.to_string()))
        .find(|path| !path.exists())
        .unwrap_or(path);
    fs::rename(building, &path)?;
    File::open(dir)?.sync_all()?;
    Ok(SnapshotDir {
        path,
        manifest,
        superseded: AtomicBool::new(false),
        damaged: AtomicBool::new(false),
        number: AtomicU64::new(0),
    })
}

/// True if a folder holds no whole snapshot, and false if the disk does not say.
fn is_no_snapshot(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::NotFound
    )
}

fn read_dir(path: &Path) -> io::Result<SnapshotDir> {
    let bytes = fs::read(path.join(MANIFEST))?;
    let manifest = wire::SnapshotManifest::decode(bytes.as_slice())
        .map_err(|error| invalid(format!("{}: {error}", path.display())))?;
    Ok(SnapshotDir {
        path: path.to_owned(),
        manifest,
        superseded: AtomicBool::new(false),
        damaged: AtomicBool::new(false),
        number: AtomicU64::new(0),
    })
}

fn digest_files(dir: &Path) -> io::Result<Vec<wire::SnapshotFile>> {
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
