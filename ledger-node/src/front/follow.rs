//! Entries as they come: one task for each follower, which waits while the follower does not take what it has.

use std::pin::pin;
use std::time::{Duration, Instant};

use ledger_core::hash::TreeSize;
use ledger_proto::v1::{self, ReceiptLevel};
use prost::Message;
use tokio::sync::mpsc;

use super::failure::{Answer, Failure};
use super::gate::{Gate, Proving};
use super::listing::{Filter, find};
use super::paging::{MAX_LOOKED_AT, MAX_PAGE_BYTES};
use super::proving::prove;
use super::read_auth::invalid;
use super::rights::Reader;
use crate::index::Span;
use crate::storage::Direction;

/// Most entries of one response.
const MAX_ENTRIES: usize = 256;
/// A response comes at least this often; below the 10 s that are promised, because it takes time to arrive.
const HEARTBEAT: Duration = Duration::from_secs(8);
/// Responses made and not taken yet.
pub(super) const BUFFER: usize = 2;

/// Somebody who follows the ledger.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) gate: Gate,
    pub(super) reader: Reader,
    pub(super) filter: Filter,
    pub(super) level: ReceiptLevel,
    pub(super) next: u64,
}

impl Follower {
    /// Follows until nobody listens, the ledger cannot be read, or this node stops.
    pub(super) async fn run(
        mut self,
        answers: mpsc::Sender<Result<v1::FollowResponse, tonic::Status>>,
    ) {
        let ledger = self.gate.ledger.clone();
        let mut stopping = pin!(ledger.stopping());
        loop {
            let step = tokio::select! {
                () = answers.closed() => return,
                failure = &mut stopping => Err(failure),
                step = self.step() => step,
            };
            let failed = step.is_err();
            if answers.send(step.map_err(Into::into)).await.is_err() || failed {
                return;
            }
        }
    }

    /// Waits for something to send, or for the time at which silence would be too long.
    async fn step(&mut self) -> Answer<v1::FollowResponse> {
        let until = Instant::now() + HEARTBEAT;
        while let Some(proving) = self.more(until).await {
            let response = self.look(proving).await?;
            self.next = response.next_index;
            if !response.entries.is_empty() || Instant::now() >= until {
                return Ok(response);
            }
        }
        // A follower whose key or status has changed hears of it here, also when nothing else happens.
        self.look_reader().await?;
        Ok(v1::FollowResponse {
            next_index: self.next,
            ..v1::FollowResponse::default()
        })
    }

    /// A checkpoint that covers the next leaf, as soon as there is one of the level asked for.
    async fn more(&self, until: Instant) -> Option<Proving> {
        let (ledger, min) = (&self.gate.ledger, TreeSize(self.next.saturating_add(1)));
        // Waiting past the heartbeat is not a failure, nor is a node that has lost its quorum: it may find it again.
        let wait = async {
            ledger.at_least(min, until).await.ok()?;
            let (note, size) = ledger.checkpoint(min, self.level, until).await.ok()?;
            ledger.at_least(size, until).await.ok()?;
            Some(Proving {
                view: ledger.view(),
                note,
                size,
                level: self.level,
            })
        };
        let found = tokio::time::timeout_at(until.into(), wait)
            .await
            .ok()
            .flatten();
        if found.is_none() {
            tokio::time::sleep_until(until.into()).await;
        }
        found
    }

    async fn look_reader(&self) -> Answer<()> {
        let (view, identity) = (self.gate.ledger.view(), self.reader.identity.clone());
        let until = Instant::now() + HEARTBEAT;
        let load = move || Reader::load(&view, identity)?.ok_or_else(invalid).map(drop);
        self.gate.work(until, load).await
    }

    /// Looks at what the checkpoint covers, with the rights that the follower has now.
    async fn look(&self, proving: Proving) -> Answer<v1::FollowResponse> {
        let (filter, identity) = (self.filter.clone(), self.reader.identity.clone());
        let origin = self.gate.ledger.origin().to_owned();
        let (now_us, next) = (self.gate.ledger.now_us(), self.next);
        let work = move || respond(&proving, identity, &filter, &origin, now_us, next);
        self.gate.work(Instant::now() + HEARTBEAT, work).await
    }
}

fn respond(
    proving: &Proving,
    identity: ledger_core::id::Identity,
    filter: &Filter,
    origin: &str,
    now_us: u64,
    next: u64,
) -> Result<v1::FollowResponse, Failure> {
    let reader = Reader::load(&proving.view, identity)?.ok_or_else(invalid)?;
    let span = Span {
        from: next,
        until: proving.size.0,
        direction: Direction::Ascending,
    };
    let (view, size) = (&proving.view, proving.size);
    let found = find(
        view,
        &reader,
        filter,
        span,
        MAX_ENTRIES,
        MAX_LOOKED_AT,
        now_us,
    )?;
    let mut next_index = found.rest.map_or(size.0, |rest| rest.from).max(next);
    let mut entries = prove(view, origin, size, &found.leaves)?;
    let fits = fitting(&entries);
    if let Some(cut) = entries.get(fits) {
        next_index = cut.index;
        entries.truncate(fits);
    }
    let checkpoint = if entries.is_empty() {
        String::new()
    } else {
        proving.note.to_string()
    };
    Ok(v1::FollowResponse {
        entries,
        checkpoint,
        next_index,
    })
}

/// How many of these entries fit into one message.
#[must_use]
pub(super) fn fitting(entries: &[v1::ProvenEntry]) -> usize {
    let mut bytes = 0;
    entries
        .iter()
        .take_while(|entry| {
            bytes += entry.encoded_len() + 8;
            bytes <= MAX_PAGE_BYTES
        })
        .count()
}
