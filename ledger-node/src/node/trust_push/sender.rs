//! The sending end of pushed trust steps: whoever refuses this node's key is told how the members have changed.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io::{Error, Result};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use ledger_core::hash::Hash;
use ledger_core::limits::MAX_NODES;
use ledger_proto::peer::v1 as wire;
use ledger_proto::v1;
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::{MAX_STEP_LEN, MAX_STEPS, MAX_WANTED_LEN, PATIENCE};
use super::{read_message, write_frame};
use crate::front::ledger::trust_steps;
use crate::ledger::Ledger;
use crate::raft::peers::Peers;
use crate::transport::{Refusals, RefusedDial};

/// Between two pushes to one node: it may refuse as often as this node dials.
const PAUSE: Duration = Duration::from_secs(3);

/// Most connections to one node after each other: some hundred changes of the members.
const MAX_ROUNDS: usize = 64;

/// Most nodes that are pushed to at once: as many as a ledger has.
const MAX_PUSHES: usize = MAX_NODES;

/// The task that pushes trust steps to nodes that refuse this node's key.
pub(in crate::node) struct PushSender {
    ledger: Ledger,
    peers: Arc<Peers>,
}

impl PushSender {
    /// The task of a node.
    pub(in crate::node) const fn new(ledger: Ledger, peers: Arc<Peers>) -> Self {
        Self { ledger, peers }
    }

    /// Pushes to each node that refuses, until the node ends.
    pub(in crate::node) async fn run(self) {
        let refusals = self.peers.transport.refusals();
        push_side_by_side(refusals, |refused| self.push_all(refused)).await;
    }

    /// Pushes to one node, on one connection after the other.
    async fn push_all(&self, refused: RefusedDial) {
        let mut followed = 0;
        // One that has learned this node's key refuses it no more, and may still lack what came later.
        for _ in 0..MAX_ROUNDS {
            let pushed = tokio::time::timeout(PATIENCE, self.push(&refused, followed)).await;
            let pushed = pushed.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
            let next = match &pushed {
                Ok(Outcome::Followed { to }) => Some(*to),
                Ok(Outcome::NothingToTell) | Err(_) => None,
            };
            tell(refused.node_id, pushed);
            let Some(to) = next else { return };
            followed = to;
        }
    }

    async fn push(&self, refused: &RefusedDial, followed: u64) -> Result<Outcome> {
        let mut stream = self.peers.transport.connect_to_push(refused).await?;
        let provable = |after_epoch| {
            let request = v1::ListTrustStepsRequest {
                after_epoch,
                ..v1::ListTrustStepsRequest::default()
            };
            let steps = tokio::task::block_in_place(|| trust_steps(&self.ledger, &request));
            let steps = steps.map_err(|failure| Error::other(tonic::Status::from(failure)))?;
            Ok(steps.trust_steps)
        };
        push_on(&mut stream, self.peers.genesis, followed, provable).await
    }
}

/// Pushes to nodes that have refused, to all of them side by side: one that makes its push last keeps no other waiting. It returns
/// only with the node.
pub(super) async fn push_side_by_side<P: Future<Output = ()>>(
    refusals: &Refusals,
    push: impl Fn(RefusedDial) -> P,
) {
    let mut pushes = FuturesUnordered::new();
    let mut under_way = BTreeSet::new();
    let mut pushed_at: BTreeMap<u64, Instant> = BTreeMap::new();
    loop {
        tokio::select! {
            refused = refusals.next(), if under_way.len() < MAX_PUSHES => {
                pushed_at.retain(|_, at| at.elapsed() < PAUSE);
                let node_id = refused.node_id;
                if pushed_at.contains_key(&node_id) || !under_way.insert(node_id) {
                    continue;
                }
                pushed_at.insert(node_id, Instant::now());
                let push = push(refused);
                pushes.push(async move {
                    push.await;
                    node_id
                });
            }
            Some(node_id) = pushes.next(), if !under_way.is_empty() => {
                under_way.remove(&node_id);
            }
        }
    }
}

fn tell(node_id: u64, pushed: Result<Outcome>) {
    match pushed {
        Ok(Outcome::Followed { to }) => {
            tracing::info!(
                node_id,
                epoch = to,
                "a node that did not know the members of now has followed changes of the trust policy"
            );
        }
        Ok(Outcome::NothingToTell) => {
            tracing::debug!(
                node_id,
                "a node knows every change of the trust policy that can be proven here"
            );
        }
        Err(error) => {
            tracing::debug!(node_id, %error, "no trust steps could be pushed to a node that does not know the members of now");
        }
    }
}

/// What has become of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The receiver has followed to this epoch.
    Followed { to: u64 },
    /// The receiver lacks nothing that can be proven here.
    NothingToTell,
}

/// Pushes on a connection what is provable after the epoch that the receiver says, which has said before that it had followed to an
/// epoch.
///
/// # Errors
/// The receiver is of another ledger, does not speak so, has not followed the steps, or wants again what it has followed.
pub(super) async fn push_on(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    genesis: Hash,
    followed: u64,
    provable: impl FnOnce(u64) -> Result<Vec<v1::TrustStep>>,
) -> Result<Outcome> {
    let wanted: wire::TrustStepsWanted = read_message(stream, MAX_WANTED_LEN).await?;
    if wanted.genesis_digest != genesis.as_bytes() {
        return Err(Error::other("it belongs to another ledger"));
    }
    if wanted.after_epoch < followed {
        return Err(Error::other("it wants again what it has followed"));
    }
    let steps = frames(&provable(wanted.after_epoch)?);
    if steps.is_empty() {
        return Ok(Outcome::NothingToTell);
    }
    for step in &steps {
        write_frame(stream, step).await?;
    }
    write_frame(stream, &[]).await?;
    stream.flush().await?;
    let after: wire::TrustStepsWanted = read_message(stream, MAX_WANTED_LEN).await?;
    if after.after_epoch <= wanted.after_epoch {
        return Err(Error::other("it has not followed them"));
    }
    Ok(Outcome::Followed {
        to: after.after_epoch,
    })
}

/// As many of the steps as one connection takes. Those that one checkpoint carries prove nothing apart, so that the cut is between two
/// checkpoints.
fn frames(steps: &[v1::TrustStep]) -> Vec<Vec<u8>> {
    let mut frames: Vec<Vec<u8>> = Vec::new();
    for carried in steps.chunk_by(|one, next| one.checkpoint == next.checkpoint) {
        let fits = carried
            .iter()
            .all(|step| step.encoded_len() <= MAX_STEP_LEN);
        if !fits || frames.len().saturating_add(carried.len()) > MAX_STEPS {
            break;
        }
        frames.extend(carried.iter().map(v1::TrustStep::encode_to_vec));
    }
    frames
}
