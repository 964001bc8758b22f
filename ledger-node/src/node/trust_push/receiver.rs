//! The receiving end of pushed trust steps. It is open to anybody who reaches the port, so that each of its limits is for all senders
//! together.
//!
//! What a flood can do. A connection holds one of [`MAX_PUSHES`] places for [`PATIENCE`](super::PATIENCE) at most, and up to 256 KiB. When all places are
//! taken, the oldest connection gives way to the newest. So a sender that needs some milliseconds, as an honest one does, is kept out only
//! while eight others come within each such moment, which takes hundreds of handshakes a second and ends when they end. Steps are verified
//! one connection's after the other by the [`TrustFollower`](crate::node::trust_follower::TrustFollower), which rests nine times as long as
//! it worked, so that verification takes a tenth of a processor at most. Nothing is remembered of a sender, and nothing but a proven step
//! changes anything. Whoever floods the port itself, with handshakes that never end, keeps out members as well: its places are those of
//! all connections of peers.

use std::collections::VecDeque;
use std::io::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use ledger_core::hash::Hash;
use ledger_proto::peer::v1 as wire;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{read_steps, write_message};
use crate::limits::MAX_TRUST_PUSHES as MAX_PUSHES;

/// The steps of one connection, as they came.
#[derive(Debug)]
pub(in crate::node) struct Pushed {
    /// Each is said to be a `TrustStep`. They are gone when the connection is.
    pub(in crate::node) steps: Weak<Vec<Vec<u8>>>,
    /// Dropped when they were looked at.
    pub(in crate::node) done: oneshot::Sender<()>,
}

/// Says which epoch of the trust policy this node has followed to; none if its state cannot be read.
pub(in crate::node) type FollowedEpoch = Arc<dyn Fn() -> Option<u64> + Send + Sync>;

/// The receiver of pushed trust steps.
#[derive(Clone)]
pub(in crate::node) struct PushReceiver {
    genesis: Hash,
    followed: FollowedEpoch,
    /// How long a connection may take.
    patience: Duration,
    places: Arc<Places>,
    steps: mpsc::Sender<Pushed>,
}

impl PushReceiver {
    /// The receiver of a ledger's steps, and what it receives.
    pub(in crate::node) fn new(
        genesis: Hash,
        followed: FollowedEpoch,
        patience: Duration,
    ) -> (Self, mpsc::Receiver<Pushed>) {
        let (steps, pushed) = mpsc::channel(MAX_PUSHES);
        let receiver = Self {
            genesis,
            followed,
            patience,
            places: Arc::default(),
            steps,
        };
        (receiver, pushed)
    }

    /// Serves one connection, which ends with this.
    ///
    /// # Errors
    /// The other end says what is no step, or too much, or nothing in time; or newer connections have taken all places.
    pub(in crate::node) async fn serve(
        &self,
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
    ) -> Result<()> {
        let place = self.places.take();
        tokio::select! {
            served = tokio::time::timeout(self.patience, self.exchange(&mut stream)) => {
                served.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
            }
            () = place.given_way.cancelled() => {
                Err(Error::other("newer connections with trust steps have taken its place"))
            }
        }
    }

    async fn exchange(&self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<()> {
        write_message(stream, &self.wanted()?).await?;
        let steps = read_steps(stream).await?;
        if !steps.is_empty() {
            let (done, looked_at) = oneshot::channel();
            let steps = Arc::new(steps);
            let pushed = Pushed {
                steps: Arc::downgrade(&steps),
                done,
            };
            let full =
                |_| Error::other("as many trust steps as may be wait for their verification");
            self.steps.try_send(pushed).map_err(full)?;
            let _ = looked_at.await;
        }
        write_message(stream, &self.wanted()?).await?;
        stream.shutdown().await
    }

    fn wanted(&self) -> Result<wire::TrustStepsWanted> {
        let after_epoch = (self.followed)();
        Ok(wire::TrustStepsWanted {
            genesis_digest: self.genesis.as_bytes().to_vec(),
            after_epoch: after_epoch.ok_or_else(|| Error::other("the state cannot be read"))?,
        })
    }
}

/// The places of connections, the oldest first.
#[derive(Debug, Default)]
struct Places(Mutex<VecDeque<CancellationToken>>);

/// A place of a connection. It is free again when this is dropped.
#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    /// Cancelled when a newer connection has taken it.
    given_way: CancellationToken,
}

impl Places {
    fn taken(&self) -> MutexGuard<'_, VecDeque<CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place, if need be that of the oldest connection.
    fn take(self: &Arc<Self>) -> Place {
        let given_way = CancellationToken::new();
        let mut taken = self.taken();
        // Those that have given way are on their way out.
        taken.retain(|token| !token.is_cancelled());
        if taken.len() >= MAX_PUSHES
            && let Some(oldest) = taken.pop_front()
        {
            oldest.cancel();
        }
        taken.push_back(given_way.clone());
        Place {
            places: Arc::clone(self),
            given_way,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.given_way.cancel();
        self.places.taken().retain(|token| !token.is_cancelled());
    }
}
