//! How far this node may take part: not before it knows that it has forgotten nothing of what it promised.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

/// How long a call of a peer waits for a node that still asks: an ordinary start takes less.
const PATIENCE: Duration = Duration::from_secs(1);

/// The stages of a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// The node asks the others what it has promised them. It answers none of Raft's calls; the text says what it waits for.
    Asking(String),
    /// The node follows, and neither votes nor cosigns, until it holds what the others held when it asked; the text says why.
    CatchingUp(String),
    /// The node takes part.
    Full,
}

/// The stage that a node is in. Everything that could break a promise looks at it.
#[derive(Debug)]
pub struct Participation {
    stage: watch::Sender<Stage>,
    /// This node has forgotten nothing, as far as it can know: its word on what others promised counts.
    remembers: AtomicBool,
}

impl Participation {
    /// Begins with a stage.
    #[must_use]
    pub fn new(stage: Stage) -> Self {
        Self {
            remembers: AtomicBool::new(stage == Stage::Full),
            stage: watch::Sender::new(stage),
        }
    }

    /// Goes on to a stage.
    pub fn set(&self, stage: Stage) {
        if stage == Stage::Full {
            self.set_remembers();
        }
        self.stage.send_if_modified(|current| {
            let changed = *current != stage;
            if changed {
                *current = stage;
            }
            changed
        });
    }

    /// The data directory is the one that this node wrote last, so that what it remembers of others is whole.
    pub fn set_remembers(&self) {
        self.remembers.store(true, Ordering::Release);
    }

    /// True if this node has forgotten nothing, as far as it can know.
    #[must_use]
    pub fn remembers(&self) -> bool {
        self.remembers.load(Ordering::Acquire)
    }

    /// True if the node takes part in everything.
    #[must_use]
    pub fn is_full(&self) -> bool {
        *self.stage.borrow() == Stage::Full
    }

    /// What the node waits for before it answers any call of Raft, if it does.
    #[must_use]
    pub fn asking(&self) -> Option<String> {
        match &*self.stage.borrow() {
            Stage::Asking(why) => Some(why.clone()),
            Stage::CatchingUp(_) | Stage::Full => None,
        }
    }

    /// Why the node neither votes nor cosigns, if it does not.
    #[must_use]
    pub fn why_not(&self) -> Option<String> {
        match &*self.stage.borrow() {
            Stage::Asking(why) | Stage::CatchingUp(why) => Some(why.clone()),
            Stage::Full => None,
        }
    }

    /// Returns once the node may follow a leader.
    ///
    /// # Errors
    /// It still asks, and for what it waits.
    pub async fn may_follow(&self) -> Result<(), String> {
        let mut stage = self.stage.subscribe();
        let asks = |stage: &Stage| matches!(stage, Stage::Asking(_));
        let follows = stage.wait_for(|stage| !asks(stage));
        // Whoever holds this also holds the sender.
        let _ = tokio::time::timeout(PATIENCE, follows).await;
        self.asking().map_or(Ok(()), Err)
    }

    /// Returns once the node may vote.
    ///
    /// # Errors
    /// It may not yet, and why.
    pub async fn may_vote(&self) -> Result<(), String> {
        self.may_follow().await?;
        self.why_not().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_promised_before_it_is_known_what_was() {
        let why = || "it waits".to_owned();
        let participation = Participation::new(Stage::Asking(why()));
        assert_eq!(participation.may_follow().await, Err(why()));
        assert_eq!(participation.may_vote().await, Err(why()));
        assert!(!participation.remembers() && !participation.is_full());
        participation.set(Stage::CatchingUp(why()));
        assert_eq!(participation.may_follow().await, Ok(()));
        assert_eq!(participation.may_vote().await, Err(why()));
        assert_eq!(participation.asking(), None);
        assert!(!participation.remembers());
        participation.set(Stage::Full);
        assert_eq!(participation.may_vote().await, Ok(()));
        assert!(participation.remembers() && participation.is_full());
    }
}
