//! Entries as they come: one task for each follower, which waits while the follower does not take what it has.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ledger_core::hash::TreeSize;
use ledger_core::id::Identity;
use ledger_proto::v1::{self, ErrorReason, ReceiptLevel};
use prost::Message;
use tokio::sync::mpsc;

use super::gate::{Gate, Proving};
use super::listing::{Filter, find};
use super::paging::MAX_PAGE_BYTES;
use super::proving::prove;
use super::read_auth::invalid;
use super::rights::Reader;
use super::sending::PATIENCE;
use crate::failure::{Answer, Failure};
use crate::index::Span;
use crate::limits::{MAX_FOLLOW_RESPONSE, MAX_FOLLOWERS, MAX_FOLLOWERS_OF_ONE};
use crate::storage::Direction;

/// Most entries of one response.
const MAX_ENTRIES: usize = 256;
/// Most entries that are looked at for one response. 64 followers who may read none of them share four workers: each waits for
/// 16 others who look at so many in about 10 ms, far less than the time of a heartbeat.
const MAX_LOOKED_AT: usize = 2_000;
/// A response comes at least this often; below the 10 s that are promised, because it takes time to arrive.
const HEARTBEAT: Duration = Duration::from_secs(8);
/// Responses made and not taken yet.
pub(super) const BUFFER: usize = 1;

/// Who follows now. Clones are the same followers.
#[derive(Debug, Clone, Default)]
pub(super) struct Follows(Arc<Mutex<BTreeMap<Identity, usize>>>);

/// The place of one follower; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    follows: Follows,
    who: Identity,
}

impl Follows {
    /// A place for one more.
    ///
    /// # Errors
    /// `QUOTA_EXCEEDED` or `QUEUE_FULL`
    pub(super) fn enter(&self, who: &Identity) -> Answer<Place> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody knows when another one leaves.
        let full = |reason, message: &str| Failure::new(reason, message).after(HEARTBEAT);
        let of_one = all.get(who).copied().unwrap_or_default();
        if of_one >= MAX_FOLLOWERS_OF_ONE {
            return Err(full(
                ErrorReason::QuotaExceeded,
                "this identity follows as often as it may; end one, or ask another node",
            ));
        }
        if all.values().sum::<usize>() >= MAX_FOLLOWERS {
            return Err(full(
                ErrorReason::QueueFull,
                "this node has as many followers as it may; ask another one",
            ));
        }
        all.insert(who.clone(), of_one + 1);
        Ok(Place {
            follows: self.clone(),
            who: who.clone(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self
            .follows
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let left = all.remove(&self.who).and_then(|open| open.checked_sub(1));
        if let Some(left @ 1..) = left {
            all.insert(self.who.clone(), left);
        }
    }
}

/// Somebody who follows the ledger.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) gate: Gate,
    pub(super) reader: Reader,
    pub(super) filter: Filter,
    pub(super) level: ReceiptLevel,
    pub(super) next: u64,
    /// Given back when it ends.
    pub(super) _place: Place,
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
            // Whoever takes nothing for so long gives its place to others.
            let sent = answers.send(step.map_err(Into::into));
            match tokio::time::timeout(PATIENCE, sent).await {
                Ok(Ok(())) if !failed => {}
                Ok(Ok(()) | Err(_)) => return,
                Err(_) => {
                    let late = Failure::new(
                        ErrorReason::Undetermined,
                        "the answers were not read in time; follow again from where you are",
                    );
                    drop(self);
                    let _ = answers.send(Err(late.into())).await;
                    return;
                }
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
        self.gate.work_following(until, load).await
    }

    /// Looks at what the checkpoint covers, with the rights that the follower has now.
    async fn look(&self, proving: Proving) -> Answer<v1::FollowResponse> {
        let (filter, identity) = (self.filter.clone(), self.reader.identity.clone());
        let origin = self.gate.ledger.origin().to_owned();
        let (now_us, next) = (self.gate.ledger.now_us(), self.next);
        let work = move || respond(&proving, identity, &filter, &origin, now_us, next);
        let until = Instant::now() + HEARTBEAT;
        self.gate.work_following(until, work).await
    }
}

fn respond(
    proving: &Proving,
    identity: Identity,
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
    let fits = within(&entries, MAX_FOLLOW_RESPONSE);
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
    within(entries, MAX_PAGE_BYTES)
}

fn within(entries: &[v1::ProvenEntry], most: usize) -> usize {
    let mut bytes = 0;
    entries
        .iter()
        .take_while(|entry| {
            bytes += entry.encoded_len() + 8;
            bytes <= most
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(number: usize) -> Identity {
        Identity::Agent(format!("agent-{number}"))
    }

    #[test]
    fn one_follower_leaves_room_to_others_and_all_together_are_bounded() {
        let follows = Follows::default();
        let mut places: Vec<Place> = (0..MAX_FOLLOWERS_OF_ONE)
            .map(|_| follows.enter(&agent(0)).unwrap())
            .collect();
        let refused = follows.enter(&agent(0)).unwrap_err();
        assert_eq!(refused.reason, ErrorReason::QuotaExceeded);
        assert!(refused.retry_after.is_some());
        places.pop();
        places.push(follows.enter(&agent(0)).unwrap());

        for number in places.len()..MAX_FOLLOWERS {
            places.push(follows.enter(&agent(number)).unwrap());
        }
        let refused = follows.enter(&agent(MAX_FOLLOWERS)).unwrap_err();
        assert_eq!(refused.reason, ErrorReason::QueueFull);
        drop(places);
        assert!(follows.0.lock().unwrap().is_empty(), "nobody is left");
    }

    #[test]
    fn the_longest_entry_fits_into_a_response() {
        let entry = v1::ProvenEntry {
            index: u64::MAX,
            entry: vec![7; ledger_core::limits::MAX_ENTRY_LEN],
            path: vec![vec![7; 32]; 64],
        };
        assert!(within(&vec![entry; 8], MAX_FOLLOW_RESPONSE) >= 2);
    }
}
