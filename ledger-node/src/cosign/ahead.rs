//! Checkpoints of trees that are not here yet: kept until they are, two at most.
//!
//! A replica that is steadily behind gets the checkpoint of each tree before it has the tree. If it let all of them go by, it
//! would never have one. So it keeps the first, which it will reach soonest, and the newest, which is the first of the next
//! time; those between are of no use to anybody who gets the newest.

use ledger_core::hash::TreeSize;

use super::{Cosigned, Cosigner};

/// Checkpoints ahead of what is applied.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    first: Option<Cosigned>,
    newest: Option<Cosigned>,
}

impl Ahead {
    /// Keeps a checkpoint, or lets it go by.
    fn add(&mut self, note: Cosigned) {
        let is_first = |first: &Cosigned| note.size < first.size;
        let is_newest = |newest: &Cosigned| note.size > newest.size;
        if self.first.as_ref().is_none_or(is_first) {
            let later = self.first.replace(note);
            self.newest = self.newest.take().or(later);
        } else if self.newest.as_ref().is_none_or(is_newest) {
            self.newest = Some(note);
        }
    }

    /// The size at which there is something to take.
    pub(super) fn next(&self) -> Option<TreeSize> {
        self.first.as_ref().map(|first| first.size)
    }

    /// The size of the largest.
    fn largest(&self) -> Option<TreeSize> {
        let all = self.first.iter().chain(&self.newest);
        all.map(|note| note.size).max()
    }

    /// Takes the largest that a tree of this size has reached.
    fn take(&mut self, there: TreeSize) -> Option<Cosigned> {
        let is_there = |note: &mut Cosigned| note.size <= there;
        let first = self.first.take_if(is_there)?;
        if let Some(newest) = self.newest.take_if(is_there) {
            return Some(newest);
        }
        self.first = self.newest.take();
        Some(first)
    }
}

impl Cosigner {
    /// Keeps a checkpoint that meets the trust policy as it is here. One that a change of the policy comes before may not, and
    /// is let go by: later ones are.
    ///
    /// # Errors
    /// It does not meet the policy: anybody could have made up its size.
    pub(super) fn put_off(&self, note: &str, size: TreeSize) -> Result<(), String> {
        let there = self.parts.tip.borrow().size;
        self.must_meet_policy(note, there)?;
        self.parts.suspicion.went_on();
        let note = Cosigned {
            size,
            note: note.into(),
        };
        self.ahead.send_modify(|ahead| ahead.add(note));
        Ok(())
    }

    /// The size of the largest tree that a quorum has cosigned and that is not here.
    #[must_use]
    pub fn ahead_size(&self) -> Option<TreeSize> {
        self.ahead.borrow().largest()
    }

    /// Takes what was kept when the tree is there. Runs until the node ends.
    pub(super) async fn take_ahead(&self) {
        let mut tip = self.parts.tip.clone();
        let mut ahead = self.ahead.subscribe();
        loop {
            let next = ahead.borrow_and_update().next();
            let reached = async {
                match next {
                    Some(size) => tip.wait_for(|tip| tip.size >= size).await.is_ok(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                runs = reached => {
                    if !runs {
                        return;
                    }
                    self.take_reached();
                }
                changed = ahead.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn take_reached(&self) {
        let there = self.parts.tip.borrow().size;
        let mut taken = None;
        self.ahead.send_modify(|ahead| taken = ahead.take(there));
        if let Some(taken) = taken
            && let Err(refused) = self.put(&taken.note)
        {
            tracing::debug!(%refused, "a checkpoint that came early was not taken");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(size: u64) -> Cosigned {
        Cosigned {
            size: TreeSize(size),
            note: size.to_string().into(),
        }
    }

    fn take(ahead: &mut Ahead, there: u64) -> Option<u64> {
        ahead.take(TreeSize(there)).map(|taken| taken.size.0)
    }

    fn with(sizes: &[u64]) -> Ahead {
        let mut ahead = Ahead::default();
        for size in sizes {
            ahead.add(note(*size));
        }
        ahead
    }

    #[test]
    fn the_first_and_the_newest_are_kept() {
        let mut ahead = with(&[5, 7, 9, 8]);
        assert_eq!(ahead.next(), Some(TreeSize(5)));
        assert_eq!(take(&mut ahead, 4), None);
        assert_eq!(take(&mut ahead, 6), Some(5));
        assert_eq!(ahead.next(), Some(TreeSize(9)));
        ahead.add(note(12));
        assert_eq!(take(&mut ahead, 9), Some(9));
        assert_eq!(take(&mut ahead, 11), None);
        assert_eq!(take(&mut ahead, 12), Some(12));
        assert_eq!(ahead.next(), None);
        assert_eq!(take(&mut ahead, u64::MAX), None);
    }

    #[test]
    fn a_nearer_one_takes_the_place_of_the_first() {
        let mut ahead = with(&[9, 5]);
        assert_eq!(take(&mut ahead, 5), Some(5));
        assert_eq!(take(&mut ahead, 9), Some(9));
        let mut ahead = with(&[9, 12, 5, 5]);
        assert_eq!(take(&mut ahead, 5), Some(5));
        assert_eq!(ahead.next(), Some(TreeSize(12)));
    }

    #[test]
    fn who_has_reached_both_takes_the_newest() {
        let mut ahead = with(&[5, 9]);
        assert_eq!(take(&mut ahead, 9), Some(9));
        assert_eq!(ahead.next(), None);
    }
}
