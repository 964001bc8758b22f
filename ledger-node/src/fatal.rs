//! The switch that stops a node for good.
//!
//! Whoever finds that going on could break a promise throws it, from any thread, with a message that says what to do. The
//! first message counts. The node then answers nothing more and its process ends.

use std::io;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::worker::{Worker, strikes};

/// How an operator finds out which disk holds the truth, before any is given up.
pub const FIND_OUT: &str = "keep this disk: it may be the one that is right. To find out, compare the newest checkpoint of each \
                            node, and `ledger-node fsck` of each, with the checkpoints that clients and evidence remember";

/// What to do with a store that something was found in.
pub const ADVICE: &str = "do not start this node on this data, and keep it until it is known that no other node has lost \
                          anything: compare their newest checkpoints with those that clients and evidence remember. Then make \
                          a key for a new node id with `ledger-node key new`, let an admin add it with `ledger-client \
                          cluster add` and remove this one with `ledger-client cluster remove`, and `ledger-node init` an \
                          empty data directory without --first";

/// What cannot be done because of what is on the disk, or because of the disk itself, why, and what to do about it.
#[must_use]
pub fn disk(what: &str, error: &io::Error) -> String {
    let (what, kind) = (format!("{what}: {error}"), error.kind());
    if kind == io::ErrorKind::InvalidData {
        damaged(&what)
    } else if kind == io::ErrorKind::Unsupported {
        // It names the build that is needed.
        what
    } else if kind == io::ErrorKind::StorageFull {
        format!(
            "{what}. Make room on the disk and start this node again; nothing that it acknowledged is lost"
        )
    } else {
        format!(
            "{what}. Check the disk; if it is sound, start this node again. If it is not, keep it until it is known that no other node has lost anything, and let this one join under a new node id with a new key"
        )
    }
}

/// What is wrong with the data of a node, and what to do about it.
#[must_use]
pub fn damaged(what: &str) -> String {
    format!("{what}. Run `ledger-node fsck` to see what is damaged; {ADVICE}")
}

/// A handle on the switch.
#[derive(Debug, Clone)]
pub struct Fatal {
    message: watch::Sender<Option<String>>,
}

impl Default for Fatal {
    fn default() -> Self {
        Self {
            message: watch::Sender::new(None),
        }
    }
}

impl Fatal {
    /// Stops the node.
    pub fn stop(&self, message: impl Into<String>) {
        let message = message.into();
        let first = self.message.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(message.clone());
            }
            first
        });
        if first {
            tracing::error!(%message, "stopping");
        }
    }

    /// Watches over a thread or a task, which holds what this returns.
    #[must_use]
    pub fn guard(&self, worker: Worker) -> Guard {
        Guard {
            fatal: self.clone(),
            worker,
        }
    }

    /// Watches over a thread or a task that must live as long as the node. It holds what this returns, and says so before it
    /// ends in good order.
    #[must_use]
    pub fn lifetime(&self, worker: Worker) -> LifetimeGuard {
        LifetimeGuard {
            guard: self.guard(worker),
            may_end: CancellationToken::new(),
        }
    }

    /// A task that may end only once `ended` is cancelled: an earlier end stops the node.
    pub fn supervised<F>(
        &self,
        worker: Worker,
        ended: CancellationToken,
        task: F,
    ) -> impl Future<Output = ()> + Send + use<F>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let lifetime = LifetimeGuard {
            guard: self.guard(worker),
            may_end: ended,
        };
        async move {
            tokio::select! {
                biased;
                () = strikes(worker) => {}
                () = task => {}
            }
            drop(lifetime);
        }
    }

    /// Why the node stops, if it does.
    #[must_use]
    pub fn message(&self) -> Option<String> {
        self.message.borrow().clone()
    }

    /// Returns when somebody stops the node.
    pub async fn stopped(&self) -> String {
        let mut watching = self.message.subscribe();
        let stopped = watching.wait_for(Option::is_some).await;
        match stopped.map(|message| message.clone()) {
            Ok(message) => message.unwrap_or_default(),
            // This handle holds a sender, so the channel cannot close.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Stops the node if the thread or task that holds it panics: what others wait for would never come.
#[derive(Debug)]
pub struct Guard {
    fatal: Fatal,
    worker: Worker,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.fatal.stop(format!(
                "a defect of this program: {} has panicked. Nothing acknowledged is lost: start this node again, and report the lines before this one",
                self.worker.name()
            ));
        }
    }
}

/// Stops the node if the thread or task that holds it ends before it has said that it may.
#[derive(Debug)]
pub struct LifetimeGuard {
    guard: Guard,
    may_end: CancellationToken,
}

impl LifetimeGuard {
    /// The thread or task ends in good order.
    pub fn release(self) {
        self.may_end.cancel();
    }
}

impl Drop for LifetimeGuard {
    fn drop(&mut self) {
        if !self.may_end.is_cancelled() && !std::thread::panicking() {
            self.guard.fatal.stop(format!(
                "a defect of this program: {} has ended while the node runs. Nothing acknowledged is lost: start this node again, and report the lines before this one",
                self.guard.worker.name()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_before_the_node_stops_it() {
        for is_ended in [false, true] {
            let (fatal, ended) = (Fatal::default(), CancellationToken::new());
            if is_ended {
                ended.cancel();
            }
            let task = fatal.supervised(Worker::Patrol, ended, std::future::ready(()));
            tokio::spawn(task).await.unwrap();
            let message = fatal.message();
            assert_eq!(message.is_none(), is_ended, "{message:?}");
            assert!(message.is_none_or(|it| it.contains("the patrol has ended")));
        }
        let (fatal, ended) = (Fatal::default(), CancellationToken::new());
        let fails = async { panic!("a defect") };
        let task = tokio::spawn(fatal.supervised(Worker::Eraser, ended, fails));
        assert!(task.await.is_err());
        let message = fatal.message().unwrap();
        assert!(message.contains("the eraser has panicked"), "{message}");
    }

    #[tokio::test]
    async fn a_task_that_is_dropped_before_the_node_ends_stops_it() {
        let (fatal, ended) = (Fatal::default(), CancellationToken::new());
        let task = tokio::spawn(fatal.supervised(Worker::Keeper, ended, std::future::pending()));
        task.abort();
        assert!(task.await.is_err());
        let message = fatal.message().unwrap();
        assert!(message.contains("the keeper has ended"), "{message}");
    }

    #[test]
    fn a_thread_that_ends_before_it_may_stops_the_node() {
        for is_released in [false, true] {
            let fatal = Fatal::default();
            let lifetime = fatal.lifetime(Worker::Applier);
            let thread = std::thread::spawn(move || {
                if is_released {
                    lifetime.release();
                }
            });
            thread.join().unwrap();
            assert_eq!(fatal.message().is_none(), is_released);
        }
    }

    #[tokio::test]
    async fn a_panic_of_a_guarded_thread_or_task_stops_the_node() {
        for is_task in [false, true] {
            let fatal = Fatal::default();
            drop(fatal.guard(Worker::Applier));
            assert_eq!(fatal.message(), None);
            let guard = fatal.guard(Worker::Eraser);
            let fails = move || {
                let _guard = guard;
                panic!("a defect");
            };
            if is_task {
                let task = tokio::spawn(async move {
                    tokio::task::yield_now().await;
                    fails();
                });
                assert!(task.await.is_err());
            } else {
                assert!(std::thread::spawn(fails).join().is_err());
            }
            let message = fatal.message().unwrap();
            assert!(message.contains("the eraser has panicked"), "{message}");
        }
    }
}
