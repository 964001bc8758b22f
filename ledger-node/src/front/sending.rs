//! Answers that are sent in parts, and the room that they take until whoever asked has them.
//!
//! A reader that reads nothing holds what was made for it. Each part has a time in which it must be taken, and what is large has a
//! share of a room that all large answers have together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ledger_proto::v1::ErrorReason;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::workers::BUSY;
use crate::failure::{Answer, Failure, Pieces};
use crate::limits::EVIDENCE_ROOM;

/// Most bytes of a part.
const PIECE_LEN: usize = 256 * 1024;
/// Time in which a part must be taken: 256 KiB in a minute is 4 KiB a second, which every line can do.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// What the room is counted in.
const UNIT: usize = 1024 * 1024;
/// The room in units.
const ROOM: usize = EVIDENCE_ROOM / UNIT;
/// How many times its length the making of a file takes: what it is made of, and its bytes.
const MAKING: usize = 2;

/// The room for evidence. Clones are the same room.
#[derive(Debug, Clone)]
pub(super) struct Room(Arc<Semaphore>);

/// A share of the room; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Share(OwnedSemaphorePermit);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ROOM)))
    }
}

impl Room {
    /// Room for making a file of about this length.
    ///
    /// # Errors
    /// `QUEUE_FULL` if there is none by the deadline.
    pub(super) async fn take(&self, len: usize, deadline: Instant) -> Answer<Share> {
        let full = || {
            let message = "this node has as much evidence in memory as it may; ask again in a while, or another node";
            Failure::new(ErrorReason::QueueFull, message).after(BUSY)
        };
        let units = MAKING.saturating_mul(len.div_ceil(UNIT).max(1));
        let units = u32::try_from(units.min(ROOM)).map_err(|_| full())?;
        let waiting = Arc::clone(&self.0).acquire_many_owned(units);
        let permit = tokio::time::timeout_at(deadline.into(), waiting).await;
        permit.map_err(|_| full())?.map(Share).map_err(|_| full())
    }
}

/// Bytes to be sent, with the room that they take.
#[derive(Debug)]
pub(super) struct File {
    bytes: Vec<u8>,
    share: Share,
}

impl File {
    /// A file that was made in a share of the room, of which it keeps only what it is long.
    pub(super) fn within(bytes: Vec<u8>, share: Share) -> Self {
        let Share(mut permit) = share;
        // One that is longer than its share keeps all of it.
        let kept = permit.split(bytes.len().div_ceil(UNIT));
        let share = Share(kept.unwrap_or(permit));
        Self { bytes, share }
    }
}

/// Bytes in parts, made one at a time as they are taken.
pub(super) fn pieces<T: Send + 'static>(
    file: File,
    make: impl FnMut(Vec<u8>) -> T + Send + 'static,
) -> Pieces<T> {
    let (answers, receiver) = mpsc::channel(1);
    tokio::spawn(send(file, make, answers, PATIENCE));
    Box::pin(ReceiverStream::new(receiver))
}

/// Sends a file in a task of its own: nobody asks an answer for its next part while the reader's window is closed, so that it could
/// not tell the time itself.
async fn send<T>(
    file: File,
    mut make: impl FnMut(Vec<u8>) -> T,
    answers: mpsc::Sender<Result<T, Status>>,
    patience: Duration,
) {
    let File { bytes, share } = file;
    let mut rest = Bytes::from(bytes);
    while !rest.is_empty() {
        let part = rest.split_to(PIECE_LEN.min(rest.len()));
        match tokio::time::timeout(patience, answers.reserve()).await {
            Ok(Ok(place)) => place.send(Ok(make(part.to_vec()))),
            // Nobody listens any more.
            Ok(Err(_)) => return,
            Err(_) => {
                // Room for others; what is said of it takes none.
                drop((share, rest, part));
                let message = "the answer was not read in time; ask again, and read it as it comes";
                let late = Failure::new(ErrorReason::Undetermined, message);
                let _ = answers.send(Err(late.into())).await;
                return;
            }
        }
    }
    // The last part is on its way when there is room for another.
    let _ = tokio::time::timeout(patience, answers.reserve()).await;
    drop(share);
}

#[cfg(test)]
mod tests {
    use ledger_core::evidence::MAX_EVIDENCE_LEN;
    use tokio_stream::StreamExt as _;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[tokio::test]
    async fn a_file_comes_whole_and_gives_its_room_back() {
        let room = Room::default();
        let share = room.take(3 * UNIT, soon()).await.unwrap();
        assert_eq!(room.0.available_permits(), ROOM - 6, "while it is made");
        let bytes: Vec<u8> = (0..=250).cycle().take(3 * UNIT + 7).collect();
        let file = File::within(bytes.clone(), share);
        assert_eq!(room.0.available_permits(), ROOM - 4, "what it is long");
        let mut pieces = pieces(file, |part| part);
        let mut came = Vec::new();
        while let Some(part) = pieces.next().await {
            let part = part.unwrap();
            assert!(part.len() <= PIECE_LEN);
            came.extend(part);
        }
        assert!(came == bytes, "the same bytes");
        let _all = room.take(MAX_EVIDENCE_LEN, soon()).await.unwrap();
    }

    #[tokio::test]
    async fn readers_that_never_read_do_not_lock_out_one_that_does() {
        let room = Room::default();
        let mut asleep = Vec::new();
        for _ in 0..2 {
            let share = Share(Arc::clone(&room.0).acquire_many_owned(64).await.unwrap());
            let file = File::within(vec![7; MAX_EVIDENCE_LEN], share);
            let (answers, receiver) = mpsc::channel(1);
            let patience = Duration::from_millis(20);
            asleep.push((file, answers, patience, receiver));
        }
        let refused = room.take(MAX_EVIDENCE_LEN, Instant::now()).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.reason, ErrorReason::QueueFull, "no room at once");
        assert!(refused.retry_after.is_some());
        let mut streams = Vec::new();
        for (file, answers, patience, receiver) in asleep {
            tokio::spawn(send(file, |part| part, answers, patience));
            streams.push(ReceiverStream::new(receiver));
        }
        // Nobody reads, and there is room again.
        drop(room.take(MAX_EVIDENCE_LEN, soon()).await.unwrap());
        for mut pieces in streams {
            let mut last = None;
            while let Some(part) = pieces.next().await {
                last = Some(part);
            }
            let late = last.unwrap().unwrap_err();
            let expected = tonic::Code::DeadlineExceeded;
            assert_eq!(late.code(), expected, "never cut short in silence");
        }
    }

    #[tokio::test]
    async fn a_reader_that_leaves_gives_its_room_back() {
        let room = Room::default();
        let share = room.take(MAX_EVIDENCE_LEN, soon()).await.unwrap();
        let file = File::within(vec![7; MAX_EVIDENCE_LEN], share);
        drop(pieces(file, |part| part));
        let _all = room.take(MAX_EVIDENCE_LEN, soon()).await.unwrap();
    }

    #[tokio::test]
    async fn a_short_file_takes_room_until_it_is_read() {
        let room = Room::default();
        let share = room.take(100, soon()).await.unwrap();
        let file = File::within(vec![7; 100], share);
        let mut pieces = pieces(file, |part| part);
        // The part is made, and waits.
        tokio::task::yield_now().await;
        assert_eq!(room.0.available_permits(), ROOM - 1);
        assert_eq!(pieces.next().await.unwrap().unwrap().len(), 100);
        assert!(pieces.next().await.is_none());
        assert_eq!(room.0.available_permits(), ROOM);
    }

    #[test]
    fn there_is_room_to_make_the_longest_file() {
        const { assert!(MAKING * MAX_EVIDENCE_LEN <= ROOM * UNIT) };
    }
}
