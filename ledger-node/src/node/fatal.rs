//! The switch that stops a node for good.
//!
//! Whoever finds that going on could break a promise throws it, from any thread, with a message that says what to do. The
//! first message counts. The node then answers nothing more and its process ends.

use std::io;

use tokio::sync::watch;

/// What cannot be done because of the disk, why, and what to do about it.
#[must_use]
pub fn disk(what: &str, error: &io::Error) -> String {
    let advice = if error.kind() == io::ErrorKind::StorageFull {
        "Make room on the disk and start this node again; nothing that it acknowledged is lost"
    } else {
        "Check the disk; if it is sound, start this node again, else let it rejoin under a new node id with a new key"
    };
    format!("{what}: {error}. {advice}")
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

    /// Why the node stops, if it does.
    #[must_use]
    pub fn message(&self) -> Option<String> {
        self.message.borrow().clone()
    }

    /// Returns when somebody stops the node.
    pub async fn stopped(&self) -> String {
        let mut watching = self.message.subscribe();
        match watching.wait_for(Option::is_some).await {
            Ok(message) => message.clone().unwrap_or_default(),
            // This handle holds a sender, so the channel cannot close.
            Err(_) => std::future::pending().await,
        }
    }
}
