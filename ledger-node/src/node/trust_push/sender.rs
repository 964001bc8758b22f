//! The sending end of pushed trust steps: whoever refuses this node's key is told how the members have changed.

use std::collections::BTreeMap;
use std::io::{Error, Result};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ledger_core::hash::Hash;
use ledger_proto::peer::v1 as wire;
use ledger_proto::v1;
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::{MAX_STEP_LEN, MAX_STEPS, MAX_WANTED_LEN, PATIENCE};
use super::{read_message, write_frame};
use crate::front::ledger::trust_steps;
use crate::ledger::Ledger;
use crate::raft::peers::Peers;
use crate::transport::RefusedDial;

/// Between two pushes to one node: it may refuse as often as this node dials.
const PAUSE: Duration = Duration::from_secs(3);

/// Most connections to one node after each other: some hundred changes of the members.
const MAX_ROUNDS: usize = 64;

/// The task that pushes trust steps to nodes that refuse this node's key.
pub(in crate::node) struct PushSender {
    ledger: Ledger,
    peers: Arc<Peers>,
    pushed_at: BTreeMap<u64, Instant>,
}

impl PushSender {
    /// The task of a node.
    pub(in crate::node) const fn new(ledger: Ledger, peers: Arc<Peers>) -> Self {
        Self {
            ledger,
            peers,
            pushed_at: BTreeMap::new(),
        }
    }

    /// Pushes to one node after the other, until the node ends.
    pub(in crate::node) async fn run(mut self) {
        loop {
            let refused = self.peers.transport.refusals().next().await;
            self.pushed_at.retain(|_, at| at.elapsed() < PAUSE);
            if self.pushed_at.contains_key(&refused.node_id) {
                continue;
            }
            self.pushed_at.insert(refused.node_id, Instant::now());
            // One that has learned this node's key refuses it no more, and may still lack what came later.
            for _ in 0..MAX_ROUNDS {
                let pushed = tokio::time::timeout(PATIENCE, self.push(&refused)).await;
                let pushed = pushed.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
                let is_done = !matches!(pushed, Ok(Outcome::Followed { .. }));
                tell(refused.node_id, pushed);
                if is_done {
                    break;
                }
            }
        }
    }

    async fn push(&self, refused: &RefusedDial) -> Result<Outcome> {
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
        push_on(&mut stream, self.peers.genesis, provable).await
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

/// Pushes on a connection what is provable after the epoch that the receiver says.
///
/// # Errors
/// The receiver is of another ledger, does not speak so, or has not followed the steps.
pub(super) async fn push_on(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    genesis: Hash,
    provable: impl FnOnce(u64) -> Result<Vec<v1::TrustStep>>,
) -> Result<Outcome> {
    let wanted: wire::TrustStepsWanted = read_message(stream, MAX_WANTED_LEN).await?;
    if wanted.genesis_digest != genesis.as_bytes() {
        return Err(Error::other("it belongs to another ledger"));
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
