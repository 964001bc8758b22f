//! Snapshots: hard-linked copies of the store with a manifest that names every file and its digest.
//!
//! A folder `snap-<index>-<number>` is complete by construction: it gets that name by a rename after its manifest and its files are
//! durable.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ledger_proto::peer::v1 as wire;

use super::incoming::{self, Incoming};
use super::own::own;
use super::received;
use super::snapshot_dir::{MANIFEST, SnapshotDir, digest_files, is_no_snapshot, snapshot_name};
use super::types::{self, SnapshotMeta, invalid};
use crate::apply::Applier;
use crate::seldom::Seldom;
use crate::storage::folders::copy_linked;
use crate::storage::marker::Marker;
use crate::storage::{Read, Store};

/// How the names of complete snapshots begin; an index and a number follow, so that they sort by age.
const PREFIX: &str = "snap-";

/// Between two lines on copies that are not received: their leader offers them again and again.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// A check of the cosigned checkpoints in a copy of another node's store, which takes the trust policies.
pub type CheckCheckpoints = fn(&dyn Read) -> io::Result<()>;

/// The snapshots of a node.
#[derive(Debug)]
pub struct Snapshots {
    dir: PathBuf,
    /// Opens what is received.
    store: Arc<dyn Store>,
    /// Knows what this node has promised, which no copy may take back.
    marker: Arc<Marker>,
    /// Checks the cosigned checkpoints in a copy.
    check_checkpoints: CheckCheckpoints,
    /// The last copy that was refused for what it holds, and why: it is not sent again.
    refused: Mutex<Option<([u8; 32], String)>>,
    /// When an offered copy was last said not to be received.
    not_received: Seldom,
    current: Mutex<Option<Arc<SnapshotDir>>>,
    /// How many folders have been named. The same snapshot can come twice, and each copy has a folder of its own, which goes with it.
    named: AtomicU64,
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
    pub fn open(
        dir: &Path,
        store: Arc<dyn Store>,
        marker: Arc<Marker>,
        check_checkpoints: CheckCheckpoints,
    ) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut complete = Vec::new();
        for item in fs::read_dir(dir)? {
            let path = item?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            match name {
                Some(name) if name.starts_with(PREFIX) => complete.push(path),
                Some(name) if incoming::is_one(name) => {}
                _ => fs::remove_dir_all(&path)?,
            }
        }
        complete.sort();
        let named = complete.iter().filter_map(|path| number(path)).max();
        let named = named.unwrap_or(0);
        let newest = complete.pop();
        for older in complete {
            fs::remove_dir_all(older)?;
        }
        let current = match newest.as_deref().map(SnapshotDir::open).transpose() {
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
            check_checkpoints,
            refused: Mutex::default(),
            not_received: Seldom::new(SAY_AGAIN),
            current: Mutex::new(current.map(Arc::new)),
            named: AtomicU64::new(named),
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
        let path = self.name(meta.last_log_id.map_or(0, |id| id.index()));
        let built = tokio::task::spawn_blocking(move || {
            let manifest = wire::SnapshotManifest {
                meta: Some(types::meta_to_wire(&meta)),
                files: digest_files(&building)?,
                tree_size: tip.size.0,
                root: tip.root.as_bytes().to_vec(),
            };
            SnapshotDir::finish(&building, path, manifest, number)
        });
        let built = Arc::new(built.await.map_err(io::Error::other)??);
        self.replace(Arc::clone(&built));
        Ok(built)
    }

    /// Where a snapshot goes that ends at an index of the log.
    fn name(&self, index: u64) -> PathBuf {
        let number = self.named.fetch_add(1, Ordering::AcqRel) + 1;
        self.dir.join(format!("{PREFIX}{index:020}-{number:010}"))
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
            } else if path != current.path() {
                alone = false;
            }
        }
        Ok(alone)
    }

    fn refused(&self) -> MutexGuard<'_, Option<([u8; 32], String)>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace(&self, newer: Arc<SnapshotDir>) {
        newer.set_superseded(false);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = current.replace(newer)
            && current.as_ref().is_some_and(|new| new.path() != old.path())
        {
            old.set_superseded(true);
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
        let incoming = Incoming::open(&self.dir, manifest, name);
        incoming.inspect_err(|error| {
            if self.not_received.may_say() {
                tracing::error!(%error, "a snapshot that the leader offers is not received");
            }
        })
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
            .and_then(|()| {
                let manifest = incoming.manifest().clone();
                let last = manifest.meta.as_ref().and_then(|meta| meta.last_log_id);
                let path = self.name(last.map_or(0, |id| id.index));
                SnapshotDir::finish(incoming.path(), path, manifest, 0)
            })
            .map(|complete| {
                // Unless it is installed, nobody wants it.
                complete.set_superseded(true);
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
        let checked = received::check(&*copy, incoming.manifest(), &self.marker.read())
            .and_then(|()| (self.check_checkpoints)(&*copy));
        drop(copy);
        if let Err(error) = checked {
            // Unless it is this node that can no longer read what came, or has removed it, it came like this.
            incoming.make_durable()?;
            let why = format!(
                "a snapshot is refused: {error}. Keep this node's disk: the others may have lost what it holds. Run fsck on the node that sent it, and compare its newest checkpoint with those that clients and evidence remember"
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
        copy_linked(snapshot.path(), &copy, Some(MANIFEST))?;
        self.installed.fetch_add(1, Ordering::AcqRel);
        let size = snapshot.manifest().tree_size;
        applier
            .install(copy, Box::new(move |old| own(old, &last, size)))
            .await?;
        self.replace(Arc::clone(snapshot));
        Ok(())
    }
}

/// The last part of a snapshot's name.
fn number(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    name.rsplit_once('-')?.1.parse().ok()
}
