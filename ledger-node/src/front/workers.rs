//! Places for work that reads the store: so many of a kind, so that no kind of caller takes those of another.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ledger_proto::v1::ErrorReason;
use tokio::sync::Semaphore;

use crate::failure::{Answer, Failure};

/// When somebody for whom there was no room comes again: reads take less than a second, so by then most of them have ended.
pub(super) const BUSY: Duration = Duration::from_secs(1);

/// The places of one kind. Clones are the same places.
#[derive(Debug, Clone)]
pub(super) struct Workers(Arc<Semaphore>);

impl Workers {
    /// So many places.
    pub(super) fn new(places: usize) -> Self {
        Self(Arc::new(Semaphore::new(places)))
    }

    /// Runs what reads the store on a thread that may block.
    ///
    /// # Errors
    /// `QUEUE_FULL` if no place becomes free, `INTERNAL` if the work does not end, and those of the work.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        deadline: Instant,
        work: impl FnOnce() -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        let full = || {
            Failure::new(
                ErrorReason::QueueFull,
                "this node has too many reads to answer; ask again in a while, or another node",
            )
            .after(BUSY)
        };
        let waiting = Arc::clone(&self.0).acquire_owned();
        let place = tokio::time::timeout_at(deadline.into(), waiting)
            .await
            .map_err(|_| full())?
            .map_err(|_| full())?;
        let done = tokio::task::spawn_blocking(move || {
            let _place = place;
            work()
        });
        done.await.map_err(|error| {
            tracing::error!(%error, "a read did not end");
            Failure::new(
                ErrorReason::Internal,
                "a defect of this node; ask another one",
            )
        })?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_read_that_finds_no_worker_is_refused_and_one_that_fails_gives_its_place_back() {
        let workers = Workers::new(1);
        let soon = || Instant::now() + Duration::from_secs(60);
        let (release, held) = std::sync::mpsc::channel::<()>();
        let first = {
            let workers = workers.clone();
            let work = move || Ok(held.recv());
            tokio::spawn(async move { workers.run(soon(), work).await })
        };
        while workers.0.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let refused = workers.run(Instant::now(), || Ok(())).await;
        let refused = refused.expect_err("the only worker is busy");
        assert_eq!(refused.reason, ErrorReason::QueueFull);
        assert_eq!(
            refused.retry_after,
            Some(BUSY),
            "it hears when to come again"
        );
        release.send(()).expect("it waits");
        first
            .await
            .expect("ends")
            .expect("is answered")
            .expect("was released");

        let broken = workers.run::<()>(soon(), || panic!("a defect")).await;
        let broken = broken.expect_err("it never answered");
        assert_eq!(broken.reason, ErrorReason::Internal);
        let next = workers.run(soon(), || Ok(7)).await;
        assert_eq!(next.expect("is answered"), 7);
    }
}
