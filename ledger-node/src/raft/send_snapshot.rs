//! The bytes of a snapshot on their way to a peer: only what the peer lacks, so that an interrupted transfer goes on.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use ledger_proto::peer::v1 as wire;
use openraft::errors::{StreamingError, Unreachable};
use openraft::raft::SnapshotResponse;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::watch;
use tonic::{Code, Status};

use super::answers::{near, steps_back};
use super::network::Connection;
use super::snapshot_dir::{SnapshotDir, snapshot_name};
use super::types::{self, Types, Vote};

/// Bytes of a snapshot in one message.
const CHUNK_LEN: usize = 512 << 10;

/// How long a peer may take none of a snapshot until the sending is given up; it goes on where it broke off.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(60);

impl Connection {
    /// Offers a snapshot, sends what the peer lacks of it, and has it installed.
    pub(super) async fn send_snapshot(
        &self,
        vote: &Vote,
        snapshot: &Arc<SnapshotDir>,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let failed = |status: Status| StreamingError::from(streaming_error(&status));
        let mut client = self
            .client()
            .map_err(|error| StreamingError::Unreachable(Unreachable::new(&error)))?;
        let name = snapshot_name(snapshot.manifest());
        let offer = wire::OfferSnapshotRequest {
            vote: Some(types::vote_to_wire(vote)),
            manifest: Some(snapshot.manifest().clone()),
            election: self.peers.election(vote),
        };
        let mut offer = self.peers.request(self.to, offer);
        offer.set_timeout(SNAPSHOT_PATIENCE);
        let offered = client
            .offer_snapshot(offer)
            .await
            .map_err(failed)?
            .into_inner();
        if let Some(higher) = offered.higher_vote {
            let term = vote.leader_id.term;
            let higher = near(&higher, term).map_err(failed)?;
            if !steps_back(&self.peers, self.to, term) {
                return Err(failed(Status::unavailable("the peer is in a later term")));
            }
            return Ok(SnapshotResponse::new(higher));
        }
        let (sent, sending) = watch::channel(0);
        let chunks = chunks(Arc::clone(snapshot), name, offered.have, sent);
        let taken = client.send_snapshot(self.peers.request(self.to, chunks));
        tokio::select! {
            taken = taken => drop(taken.map_err(failed)?),
            () = stalled(sending, SNAPSHOT_PATIENCE) => {
                return Err(failed(Status::deadline_exceeded("it takes no more of the snapshot")));
            }
        }
        let install = wire::InstallSnapshotRequest {
            vote: Some(types::vote_to_wire(vote)),
            snapshot: name.to_vec(),
        };
        // It reads and checks all of it first, however large it is.
        let installed = client
            .install_snapshot(self.peers.request(self.to, install))
            .await;
        if installed
            .as_ref()
            .is_err_and(|status| status.code() == Code::Aborted)
        {
            let snapshot = Arc::clone(snapshot);
            let _ = tokio::task::spawn_blocking(move || snapshot.check()).await;
        }
        let installed = installed.map_err(failed)?.into_inner();
        let answer = installed
            .vote
            .ok_or_else(|| failed(Status::internal("an answer without a vote")))?;
        let term = vote.leader_id.term;
        let answer = near(&answer, term).map_err(failed)?;
        if answer.leader_id.term > term && !steps_back(&self.peers, self.to, term) {
            return Err(failed(Status::unavailable("the peer is in a later term")));
        }
        Ok(SnapshotResponse::new(answer))
    }
}

fn streaming_error(status: &Status) -> Unreachable<Types> {
    tracing::info!(%status, "a snapshot was not taken; it will be offered again");
    Unreachable::new(status)
}

/// The bytes that the receiver lacks, in parts, which `sent` counts. A file that cannot be read ends the stream early; the receiver
/// then finds files incomplete.
pub(super) fn chunks(
    snapshot: Arc<SnapshotDir>,
    name: [u8; 32],
    have: Vec<u64>,
    sent: watch::Sender<u64>,
) -> impl Stream<Item = wire::SendSnapshotRequest> {
    let files = snapshot.manifest().files.len();
    let (parts, receiver) = tokio::sync::mpsc::channel(4);
    tokio::spawn(async move {
        for number in 0..files {
            let mut offset = have.get(number).copied().unwrap_or_default();
            let Some(path) = snapshot.file(number) else {
                return;
            };
            // The receiver misses the rest, and says so.
            let Ok(mut file) = open_at(&path, offset).await else {
                return;
            };
            loop {
                let mut part = Vec::with_capacity(CHUNK_LEN);
                let limit = u64::try_from(CHUNK_LEN).unwrap_or(u64::MAX);
                let len = match (&mut file).take(limit).read_to_end(&mut part).await {
                    Ok(0) => break,
                    Ok(len) => len,
                    Err(_) => return,
                };
                let message = wire::SendSnapshotRequest {
                    snapshot: name.to_vec(),
                    file: u32::try_from(number).unwrap_or(u32::MAX),
                    offset,
                    bytes: Bytes::from(part),
                };
                offset += u64::try_from(len).unwrap_or_default();
                if parts.send(message).await.is_err() {
                    return;
                }
                sent.send_modify(|parts| *parts += 1);
            }
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(receiver)
}

/// Returns once nothing has been taken for so long.
pub(super) async fn stalled(mut sent: watch::Receiver<u64>, patience: Duration) {
    loop {
        match tokio::time::timeout(patience, sent.changed()).await {
            Ok(Ok(())) => {}
            // All is sent: this is how long the answer may take.
            Ok(Err(_)) => return tokio::time::sleep(patience).await,
            Err(_) => return,
        }
    }
}

async fn open_at(path: &Path, offset: u64) -> io::Result<tokio::fs::File> {
    let mut file = tokio::fs::File::open(path).await?;
    file.seek(io::SeekFrom::Start(offset)).await?;
    Ok(file)
}
