//! openraft's state machine: hands committed entries to the applier, and snapshots to and from it.

use std::io;
use std::sync::Arc;

use futures_util::{Stream, TryStreamExt};
use openraft::OptionalSend;
use openraft::storage::{
    ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot,
};

use super::snapshot::Snapshots;
use super::snapshot_dir::SnapshotDir;
use super::types::{self, LogId, Members, Peer, SnapshotMeta, Term, Types};
use crate::apply::Applier;
use crate::fatal::{Fatal, Guard, disk};
use crate::limits::APPLY_LEN;
use crate::worker::{self, Worker};

/// A snapshot as openraft passes it around.
pub type RaftSnapshot = Snapshot<Term, u64, Peer, Arc<SnapshotDir>>;

/// The state machine.
#[derive(Debug)]
pub struct StateMachine {
    applier: Applier,
    snapshots: Arc<Snapshots>,
    fatal: Fatal,
    /// openraft's worker holds the state machine, and can end alone.
    _guard: Guard,
}

impl Clone for StateMachine {
    fn clone(&self) -> Self {
        let snapshots = Arc::clone(&self.snapshots);
        Self::new(self.applier.clone(), snapshots, self.fatal.clone())
    }
}

impl StateMachine {
    /// On an applier.
    #[must_use]
    pub fn new(applier: Applier, snapshots: Arc<Snapshots>, fatal: Fatal) -> Self {
        Self {
            applier,
            snapshots,
            _guard: fatal.guard(Worker::RaftMachine),
            fatal,
        }
    }

    /// Stops the node in plain words, before openraft, which stops too, puts its own around them.
    fn stopping(&self, what: &str, error: io::Error) -> io::Error {
        self.fatal.stop(disk(what, &error));
        error
    }
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotData = Arc<SnapshotDir>;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Members), io::Error> {
        let applied = self.applier.applied();
        Ok((applied.last, applied.members))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let _guard = self.fatal.guard(Worker::RaftMachine);
        worker::strike(Worker::RaftMachine);
        let (mut page, mut responders, mut len) = (Vec::new(), Vec::new(), 0);
        while let Some((entry, responder)) = entries.try_next().await? {
            len += types::entry_len(&entry);
            page.push(entry);
            responders.extend(responder);
            if len >= APPLY_LEN {
                self.apply_page(&mut page, &mut responders).await?;
                len = 0;
            }
        }
        self.apply_page(&mut page, &mut responders).await
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Self::SnapshotData,
    ) -> Result<(), io::Error> {
        let installed = self.snapshots.install(&self.applier, meta, &snapshot).await;
        installed.map_err(|error| self.stopping("a snapshot cannot be installed", error))
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<RaftSnapshot>, io::Error> {
        self.snapshots.current().map(as_raft).transpose()
    }
}

impl StateMachine {
    async fn apply_page(
        &self,
        page: &mut Vec<types::Entry>,
        responders: &mut Vec<ApplyResponder<Types>>,
    ) -> io::Result<()> {
        if !page.is_empty() {
            self.applier.apply(std::mem::take(page)).await?;
        }
        for responder in responders.drain(..) {
            responder.send(());
        }
        Ok(())
    }
}

impl RaftSnapshotBuilder<Types> for StateMachine {
    type SnapshotData = Arc<SnapshotDir>;

    async fn build_snapshot(&mut self) -> Result<RaftSnapshot, io::Error> {
        let built = self.snapshots.build(&self.applier).await;
        as_raft(built.map_err(|error| self.stopping("a snapshot cannot be made", error))?)
    }
}

fn as_raft(snapshot: Arc<SnapshotDir>) -> io::Result<RaftSnapshot> {
    Ok(Snapshot {
        meta: snapshot.meta()?,
        snapshot,
    })
}
