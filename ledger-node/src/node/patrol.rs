//! Reads everything that is stored, once a week. A disk that has lost bytes says so only to whoever reads them; if nobody does
//! for long, the other nodes may have lost theirs by then. The store compares what it reads with its checksums.

use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use crate::fatal::{Fatal, disk};
use crate::storage::{Direction, Store, Table};

/// From the start to the first round: a start has enough to read.
const FIRST: Duration = Duration::from_secs(3_600);
/// From the end of a round to the next.
const BETWEEN: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Pairs read at once; with values of at most 640 KiB, 40 MiB at the very most, and some 10 KiB as a rule.
const PAGE: usize = 64;
/// Between two pages: a thousand million pairs take a day, and whoever waits for the disk waits for one page.
const PAUSE: Duration = Duration::from_millis(5);

/// Reads.
pub(super) struct Patrol {
    pub(super) store: Arc<dyn Store>,
    pub(super) fatal: Fatal,
}

impl Patrol {
    /// Reads until the node ends.
    pub(super) async fn run(self) {
        tokio::time::sleep(FIRST).await;
        loop {
            match self.round(PAUSE).await {
                Ok(pairs) => tracing::info!(pairs, "everything that is stored could be read"),
                Err(error) => {
                    let what = "what was stored before cannot be read any more";
                    self.fatal.stop(disk(what, &error));
                    return;
                }
            }
            tokio::time::sleep(BETWEEN).await;
        }
    }

    /// All tables, page by page; how many pairs there were. Nothing is held from one page to the next, so that neither an erasure
    /// nor a compaction waits for it.
    async fn round(&self, pause: Duration) -> io::Result<u64> {
        let mut pairs = 0;
        for table in Table::ALL {
            let mut after: Option<Vec<u8>> = None;
            loop {
                let store = Arc::clone(&self.store);
                let page = tokio::task::spawn_blocking(move || {
                    let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
                    store.range(table, (from, Bound::Unbounded), Direction::Ascending, PAGE)
                });
                let page = page.await.map_err(io::Error::other)??;
                pairs += u64::try_from(page.len()).unwrap_or_default();
                match page.into_iter().last() {
                    Some((last, _)) => after = Some(last),
                    None => break,
                }
                tokio::time::sleep(pause).await;
            }
        }
        Ok(pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Batch;
    use crate::storage::memory::{MemoryStore, Operation};

    #[tokio::test]
    async fn a_round_reads_every_pair_and_finds_what_cannot_be_read() {
        let store = Arc::new(MemoryStore::new());
        let mut batch = Batch::new();
        for number in 0..1_000_u32 {
            let table = Table::ALL[number as usize % 4];
            batch.put(table, number.to_be_bytes(), b"v");
        }
        store.write(&batch).unwrap();
        let patrol = Patrol {
            store: Arc::<MemoryStore>::clone(&store),
            fatal: Fatal::default(),
        };
        assert_eq!(patrol.round(Duration::ZERO).await.unwrap(), 1_000);
        store.set_script(Arc::new(|operation| {
            if operation == Operation::Range(Table::Index) {
                return Err(io::Error::from_raw_os_error(5));
            }
            Ok(())
        }));
        let error = patrol.round(Duration::ZERO).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(5));
    }
}
