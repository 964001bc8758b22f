//! State attestation: this node's word on its state at every point, and what it does about the others' words.
//!
//! A digest is computed from a view, on a thread of its own; nothing that decides waits for it. If the node ends before its
//! word is in the ledger, nothing is lost: the next point says as much. The ledger keeps each node's last word, so that a
//! node that most others contradict does not start again either.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ledger_core::hash::TreeSize;
use ledger_core::machine::{CLUSTER_VERSION, ENGINE_VERSIONS};
use ledger_core::state::{Key, Pair, State, StateError, read, state_digest};
use ledger_proto::v1::{self, command::Body};
use tokio_util::sync::CancellationToken;

use super::own_commands::OwnCommands;
use super::vouched::is_vouched_for;
use crate::apply::points::{Point, Points, StoreNumber};
use crate::cosign::attested::{comparison, copied_at, differing, outvoted};
use crate::fatal::{Fatal, disk};
use crate::storage::view::StoreState;
use crate::storage::{Batch, Read, Store, Table, meta};

/// Between two looks at what the others have said.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long a node that waits for the others' word on its state waits until it asks for another point, at first and at most.
/// Each time it waits twice as long, because digests of large states take their time.
const FIRST_PATIENCE: Duration = Duration::from_secs(5);
const MAX_PATIENCE: Duration = Duration::from_secs(320);

/// What an attester works with.
pub(super) struct Parts {
    pub(super) store: Arc<dyn Store>,
    pub(super) points: Arc<Points>,
    /// Where trust begins.
    pub(super) genesis: v1::Genesis,
    pub(super) own: OwnCommands,
    pub(super) fatal: Fatal,
    pub(super) ended: CancellationToken,
}

/// Attests and compares.
pub(super) struct Attester {
    parts: Parts,
    /// What was computed and is not in the ledger yet.
    unsaid: Option<(v1::AttestState, StoreNumber)>,
    /// When it last asked for a point, and how long it then waits.
    asked: Option<(Instant, Duration)>,
    /// What was last logged.
    logged: String,
}

impl Attester {
    pub(super) const fn new(parts: Parts) -> Self {
        Self {
            parts,
            unsaid: None,
            asked: None,
            logged: String::new(),
        }
    }

    /// Attests until the node ends.
    pub(super) async fn run(mut self) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                point = self.parts.points.take() => self.digest(point).await,
                _ = ticks.tick() => {}
            }
            if let Err(error) = self.step().await {
                self.parts.fatal.stop(not_attested(error));
                return;
            }
        }
    }

    async fn step(&mut self) -> Result<(), StateError> {
        if self.is_member()? {
            self.say().await?;
            self.compare()?;
            self.ask_for_a_point().await?;
        }
        Ok(())
    }

    fn is_member(&self) -> Result<bool, StateError> {
        let key = Key::node(self.parts.own.ledger.node_id());
        let record: Option<v1::NodeRecord> = read(&StoreState(&*self.parts.store), &key)?;
        Ok(record.is_some_and(|record| record.member))
    }

    /// Computes the digest of a point; that may take long.
    async fn digest(&mut self, point: Point) {
        let Point { size, view, store } = point;
        let (points, ended) = (Arc::clone(&self.parts.points), self.parts.ended.clone());
        let computed = tokio::task::spawn_blocking(move || {
            let copied = copied_at(&*view)?.is_some();
            let state = Interruptible {
                view: &*view,
                is_wanted: &|| !ended.is_cancelled() && points.store() == store,
            };
            Ok::<_, StateError>((state_digest(&state)?, copied))
        });
        let began = Instant::now();
        match computed.await {
            Ok(Ok((digest, copied))) => {
                tracing::info!(%size, %digest, took = ?began.elapsed(), "a digest of the state");
                let ask = v1::AttestState {
                    tree_size: size.0,
                    digest: digest.as_bytes().to_vec(),
                    copied,
                };
                self.unsaid = Some((ask, store));
            }
            Ok(Err(_)) if self.parts.ended.is_cancelled() || self.parts.points.store() != store => {
            }
            Ok(Err(error)) => self.parts.fatal.stop(not_attested(error)),
            Err(error) => self.parts.fatal.stop(error.to_string()),
        }
    }

    /// Brings what was computed into the ledger; tried again until it is there, or there is something newer to say.
    async fn say(&mut self) -> Result<(), StateError> {
        let Some((ask, store)) = self.unsaid.take() else {
            return Ok(());
        };
        let key = Key::attestation(self.parts.own.ledger.node_id());
        let last: Option<v1::AttestationRecord> = read(&StoreState(&*self.parts.store), &key)?;
        let is_said = last.is_some_and(|last| last.tree_size >= ask.tree_size);
        if is_said || self.parts.points.store() != store {
            return Ok(());
        }
        if let Err(error) = self.parts.own.submit(Body::AttestState(ask.clone())).await {
            tracing::debug!(%error, "the state is attested later");
            self.unsaid = Some((ask, store));
        }
        Ok(())
    }

    /// Looks at what the others have said about the state that this node attested last.
    fn compare(&mut self) -> Result<(), StateError> {
        let (points, store) = (&self.parts.points, &self.parts.store);
        let number = points.store();
        let view = store.view();
        let Some(found) = comparison(&*view, self.parts.own.ledger.node_id())? else {
            return Ok(());
        };
        if let Some(why) = outvoted(&found) {
            self.parts.fatal.stop(why);
            return Ok(());
        }
        if !found.different.is_empty() {
            let what = format!(
                "at {} entries this node's state is {}; {}",
                found.size,
                found.digest,
                differing(&found.different)
            );
            if self.logged != what {
                tracing::error!(%what, "replicas have different states; run fsck on them and replace the one that differs from most");
                self.logged = what;
            }
        }
        let node = self.parts.own.ledger.node_id();
        let what = (found.size, found.digest);
        if copied_at(&*view)?.is_none() || !found.is_confirmed() {
            return Ok(());
        }
        match is_vouched_for(&*view, &self.parts.genesis, node, what)? {
            Ok(true) => self.confirm(number, found.size),
            // Not yet: the genesis, or whoever it handed trust on to, names nodes that have not said so.
            Ok(false) => Ok(()),
            Err(why) => {
                if self.logged != why {
                    tracing::error!(%why, "the trust policy of the copy that this node got does not follow from its genesis: it cosigns nothing. Run fsck on the node that sent it");
                    self.logged = why;
                }
                Ok(())
            }
        }
    }

    /// From now on this node vouches for its state.
    fn confirm(&mut self, number: StoreNumber, size: TreeSize) -> Result<(), StateError> {
        let (points, store) = (&self.parts.points, &self.parts.store);
        let confirmed = points.while_it_is(number, || {
            let mut batch = Batch::new();
            batch.delete(Table::Meta, meta::COPIED);
            store.write(&batch)
        });
        let confirmed = confirmed.map_err(|error| StateError::unreadable(meta::COPIED, &error))?;
        if confirmed.is_some() {
            self.asked = None;
            tracing::info!(%size, "the others have the state that this node got as a copy; it cosigns from now on");
        }
        Ok(())
    }

    /// While the others have not confirmed this node's state, it asks for points, at which they attest theirs; and once more, to say
    /// that it is confirmed.
    async fn ask_for_a_point(&mut self) -> Result<(), StateError> {
        let state = StoreState(&*self.parts.store);
        let key = Key::attestation(self.parts.own.ledger.node_id());
        let last: Option<v1::AttestationRecord> = read(&state, &key)?;
        let is_copy = copied_at(&*self.parts.store)?.is_some();
        // Its last word may still say that it is one.
        let says_so = last.is_some_and(|last| last.copied);
        if self.unsaid.is_some() || !(is_copy || says_so) {
            return Ok(());
        }
        let patience = match self.asked {
            Some((at, patience)) if at.elapsed() < patience => return Ok(()),
            Some((_, patience)) => MAX_PATIENCE.min(patience * 2),
            None => FIRST_PATIENCE,
        };
        let ask = v1::DeclareSupport {
            engine_versions: ENGINE_VERSIONS.to_vec(),
            cluster_versions: vec![CLUSTER_VERSION],
        };
        match self.parts.own.submit(Body::DeclareSupport(ask)).await {
            Ok(()) => self.asked = Some((Instant::now(), patience)),
            Err(error) => tracing::debug!(%error, "the others are asked for their digests later"),
        }
        Ok(())
    }
}

/// A state that stops being read when nobody wants the digest any more.
struct Interruptible<'v> {
    view: &'v dyn Read,
    is_wanted: &'v dyn Fn() -> bool,
}

impl State for Interruptible<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        StoreState(self.view).get(key)
    }

    fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Pair>, StateError> {
        if !(self.is_wanted)() {
            let what = "nobody wants this digest any more";
            return Err(StateError::unable(prefix, io::ErrorKind::Interrupted, what));
        }
        StoreState(self.view).scan(prefix, after, limit)
    }
}

/// Why the node stops, and what to do.
fn not_attested(error: StateError) -> String {
    disk("the state cannot be attested", &error.into())
}
