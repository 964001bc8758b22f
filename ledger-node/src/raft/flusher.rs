//! The one thread that makes writes durable.
//!
//! Many appends wait for one sync. They are answered in their order, after it: this is the point from which an entry counts
//! towards a quorum on this replica. After a failed sync nobody knows what the disk holds, so nothing is tried again.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use openraft::storage::IOFlushed;
use tokio::sync::{oneshot, watch};

use super::types::{LogId, Types};
use crate::fatal::{Fatal, disk};
use crate::storage::Store;
use crate::worker::{self, Worker};

enum Job {
    Appended(IOFlushed<Types>, Option<LogId>),
    Barrier(oneshot::Sender<io::Result<()>>),
    Truncated(Option<LogId>),
}

/// Hands writes to the thread. The thread ends when all handles are gone.
#[derive(Clone)]
pub struct Flusher {
    jobs: Sender<Job>,
    durable: watch::Receiver<Option<LogId>>,
    fatal: Fatal,
}

impl std::fmt::Debug for Flusher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Flusher")
    }
}

impl Flusher {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(store: Arc<dyn Store>, fatal: Fatal) -> io::Result<Self> {
        let (jobs, waiting) = channel();
        let (written, durable) = watch::channel(None);
        let switch = fatal.clone();
        let lifetime = fatal.lifetime(Worker::Flusher);
        std::thread::Builder::new()
            .name("flusher".to_owned())
            .spawn(move || {
                run(&*store, &waiting, &written, &switch);
                // Its handles are gone, or it has stopped the node.
                lifetime.release();
            })?;
        Ok(Self {
            jobs,
            durable,
            fatal,
        })
    }

    /// Stops the node because something cannot be written that others would rely on.
    pub fn stop(&self, what: &str, error: &io::Error) {
        self.fatal.stop(disk(what, error));
    }

    /// Answers once everything written before is durable. `last` is the end of the log then.
    pub fn appended(&self, callback: IOFlushed<Types>, last: Option<LogId>) {
        if let Err(unsent) = self.jobs.send(Job::Appended(callback, last))
            && let Job::Appended(callback, _) = unsent.0
        {
            callback.io_completed(Err(stopped()));
        }
    }

    /// The log ends here now: what was durable behind it counts no more.
    pub fn truncated(&self, last: Option<LogId>) {
        // A thread that has ended makes nothing durable either.
        let _ = self.jobs.send(Job::Truncated(last));
    }

    /// Returns once everything written before is durable.
    ///
    /// # Errors
    /// The sync failed; the node must stop.
    pub async fn barrier(&self) -> io::Result<()> {
        let (done, waiting) = oneshot::channel();
        self.jobs.send(Job::Barrier(done)).map_err(|_| stopped())?;
        waiting.await.map_err(|_| stopped())?
    }

    /// The end of the log that is durable on this replica.
    #[must_use]
    pub fn durable(&self) -> Option<LogId> {
        *self.durable.borrow()
    }
}

fn sync(store: &dyn Store, fatal: &Fatal) -> io::Result<()> {
    // Before those who wait learn that there is no answer: their words would be the ones that are told.
    let _guard = fatal.guard(Worker::Flusher);
    worker::strike(Worker::Flusher);
    store.sync()
}

fn run(
    store: &dyn Store,
    waiting: &Receiver<Job>,
    durable: &watch::Sender<Option<LogId>>,
    fatal: &Fatal,
) {
    while let Ok(first) = waiting.recv() {
        let mut jobs = vec![first];
        jobs.extend(waiting.try_iter());
        // The commit point of this replica.
        let synced = sync(store, fatal);
        if let Err(error) = &synced {
            fatal.stop(disk(
                "a sync of the store failed, so that nothing after the last one counts",
                error,
            ));
        }
        for job in jobs {
            let result = match &synced {
                Ok(()) => Ok(()),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            };
            match job {
                Job::Appended(callback, last) => {
                    if result.is_ok() && last.is_some() {
                        durable.send_replace(last);
                    }
                    callback.io_completed(result);
                }
                Job::Barrier(done) => {
                    let _ = done.send(result);
                }
                Job::Truncated(last) => {
                    durable.send_if_modified(|durable| {
                        let lower = *durable > last;
                        if lower {
                            *durable = last;
                        }
                        lower
                    });
                }
            }
        }
        if synced.is_err() {
            return;
        }
    }
}

fn stopped() -> io::Error {
    io::Error::other("the flusher has stopped")
}
