//! The bytes of a snapshot on their way to a peer: only what the peer lacks, so that an interrupted transfer goes on.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use ledger_proto::peer::v1 as wire;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::watch;

use super::snapshot::SnapshotDir;

/// Bytes of a snapshot in one message.
const CHUNK_LEN: usize = 512 << 10;

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
