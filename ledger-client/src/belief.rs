//! What the client believes: receipts with a proof, checkpoints that meet the pinned trust policy, and a ledger that only grows.

use std::time::{Duration, Instant};

use ledger_core::hash::{Hash, TreeSize};
use ledger_core::note::checkpoint::Checkpoint;
use ledger_core::note::tlog_policy::TlogPolicy;
use ledger_core::tree::verify::verify_consistency;
use ledger_proto::v1;

use crate::answer::{Level, Proven};
use crate::client::Client;
use crate::error::Error;
use crate::paths;
use crate::transport::Answer;

/// How long a ledger that looks shorter than before may take to show that it is not.
const CATCH_UP: Duration = Duration::from_secs(3);
/// Steps of the trust policy asked for at a time.
const STEPS: u32 = 100;

impl Client {
    /// Checks a receipt: its entry, its proof, and who vouches for it. A provisional one must be of a tree that is consistent
    /// with what this client has seen a quorum vouch for, and is itself vouched for in the background.
    ///
    /// # Errors
    /// [`Error::Unproven`], [`Error::Inconsistent`]
    pub async fn prove(&self, receipt: Option<v1::Receipt>) -> Result<Proven, Error> {
        let receipt = receipt.ok_or_else(|| Error::contradiction("there is no receipt"))?;
        let mut proven = Proven::verify(&receipt, &self.0.trust.policy())?;
        let promised = receipt.level() == v1::ReceiptLevel::Cosigned;
        if promised && proven.level == Level::Committed {
            // The trust policy may have changed since it was pinned.
            self.follow_trust().await?;
            proven = Proven::verify(&receipt, &self.0.trust.policy())?;
        }
        match proven.level {
            Level::Cosigned => {
                self.observe(&receipt.checkpoint, &proven.checkpoint)
                    .await?;
            }
            Level::Committed => {
                self.must_fit(&receipt.checkpoint, &proven.checkpoint)
                    .await?;
                self.0.upgrading.add(self, &proven.checkpoint);
            }
        }
        Ok(proven)
    }

    /// The newest checkpoint that meets the trust policy and covers a tree of at least this size, as text and parsed.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn checkpoint(&self, min_size: u64) -> Result<(String, Checkpoint), Error> {
        self.checkpoint_by(min_size, self.deadline()).await
    }

    pub(crate) async fn checkpoint_by(
        &self,
        min_size: u64,
        deadline: Instant,
    ) -> Result<(String, Checkpoint), Error> {
        let message = v1::GetCheckpointRequest {
            min_tree_size: min_size,
            receipt_level: v1::ReceiptLevel::Cosigned.into(),
        };
        let Answer { answer, by }: Answer<v1::GetCheckpointResponse> = self
            .open_read_by(paths::GET_CHECKPOINT, message, deadline)
            .await?;
        let note = answer.checkpoint;
        let checkpoint = self.vouched(&note).await.map_err(|error| error.of(&by))?;
        if checkpoint.size().0 < min_size {
            let what = format!(
                "a checkpoint of size {} was given where {min_size} was asked for",
                checkpoint.size()
            );
            return Err(Error::contradiction(what).of(&by));
        }
        Ok((note, checkpoint))
    }

    /// The checkpoint of a note that meets the trust policy, which may have changed since it was pinned.
    async fn vouched(&self, note: &str) -> Result<Checkpoint, Error> {
        match self.0.trust.verify(note) {
            Err(Error::Unproven { error, .. }) if Error::lacks_quorum(&error) => {
                self.follow_trust().await?;
                self.0.trust.verify(note)
            }
            verified => verified,
        }
    }

    /// Demands that the cluster shows the ledger of the trust policy, and compares it with what this client has seen before. A
    /// ledger that was cut short, rewritten or put back from an old copy is found out here.
    ///
    /// # Errors
    /// [`Error::Inconsistent`], or why the question could not be answered.
    pub async fn check(&self) -> Result<(), Error> {
        let (note, newest) = self.checkpoint(0).await?;
        let Some(seen) = self.0.trust.seen() else {
            return self.observe(&note, &newest).await;
        };
        if newest.size() >= seen.size() {
            return self.observe(&note, &newest).await;
        }
        match self.later_checkpoint(seen.size()).await {
            Ok((note, later)) => self.observe(&note, &later).await,
            Err(_) => Err(Error::Inconsistent(format!(
                "the cluster vouches for {} entries, and this client has seen {} of them with a quorum's signatures: \
                 the ledger was put back from an old copy, or the nodes that answer lag far behind; \
                 find out which before you go on",
                newest.size(),
                seen.size()
            ))),
        }
    }

    /// A checkpoint of a tree at least this large, from a cluster that has just shown a smaller one.
    pub(crate) async fn later_checkpoint(
        &self,
        size: TreeSize,
    ) -> Result<(String, Checkpoint), Error> {
        let deadline = Instant::now() + CATCH_UP.min(self.0.settings.timeout);
        self.checkpoint_by(size.0, deadline).await
    }

    /// Demands that a cosigned checkpoint is consistent with the one seen before, and remembers the larger one.
    pub(crate) async fn observe(&self, note: &str, checkpoint: &Checkpoint) -> Result<(), Error> {
        if let Some(seen) = self.0.trust.seen() {
            let (old, new) = if seen.size() <= checkpoint.size() {
                (&seen, checkpoint)
            } else {
                (checkpoint, &seen)
            };
            let extends = self.must_extend(old, new, self.deadline()).await;
            extends.map_err(|error| self.0.trust.keep_proof(error, note))?;
        }
        self.0.trust.remember(note, checkpoint)
    }

    /// Demands that one tree is the beginning of another.
    pub(crate) async fn must_extend(
        &self,
        old: &Checkpoint,
        new: &Checkpoint,
        deadline: Instant,
    ) -> Result<(), Error> {
        let forked = |why: &str| {
            Error::Inconsistent(format!(
                "the ledger of {} entries with root {} is not shown to contain the ledger of {} entries with root {} that was seen before ({why}): \
                 it was rewritten or forked; stop, and ask whoever runs it",
                new.size(),
                new.root(),
                old.size(),
                old.root()
            ))
        };
        if old.size() == new.size() {
            return if old.root() == new.root() {
                Ok(())
            } else {
                Err(forked("two roots for one size"))
            };
        }
        let message = v1::GetConsistencyProofRequest {
            old_tree_size: old.size().0,
            new_tree_size: new.size().0,
        };
        let answer: v1::GetConsistencyProofResponse = self
            .open_read_by(paths::GET_CONSISTENCY_PROOF, message, deadline)
            .await?
            .answer;
        let path: Option<Vec<Hash>> = answer
            .path
            .iter()
            .map(|hash| Hash::from_slice(hash))
            .collect();
        let path = path.ok_or_else(|| forked("its proof holds something that is no hash"))?;
        verify_consistency(
            new.tree_hash(),
            old.size(),
            &old.root(),
            new.size(),
            &new.root(),
            &path,
        )
        .map_err(|error| forked(&error.to_string()))
    }

    /// Demands that a tree that one node vouches for is consistent with the largest one that this client has seen a quorum vouch
    /// for. A node that makes up a ledger of its own is found out before anybody acts on it; what it could still make up is the
    /// end of the real one.
    async fn must_fit(&self, note: &str, checkpoint: &Checkpoint) -> Result<(), Error> {
        self.contradicts_seen(note, checkpoint)?;
        if self.0.trust.seen().is_none() {
            self.check().await?;
        }
        let seen = self.0.trust.seen().ok_or_else(|| {
            Error::Internal("the checkpoint that was seen is not remembered".to_owned())
        })?;
        if self.0.trust.is_known_to_fit(checkpoint) {
            return Ok(());
        }
        let (old, new) = if seen.size() <= checkpoint.size() {
            (&seen, checkpoint)
        } else {
            (checkpoint, &seen)
        };
        let fits = self.must_extend(old, new, self.deadline()).await;
        fits.map_err(|error| self.0.trust.keep_proof(error, note))?;
        self.0.trust.note_fitting(checkpoint);
        Ok(())
    }

    /// Two roots for one size are a fork, whoever signed them.
    pub(crate) fn contradicts_seen(
        &self,
        note: &str,
        checkpoint: &Checkpoint,
    ) -> Result<(), Error> {
        let seen = self.0.trust.seen();
        match seen.filter(|seen| seen.size() == checkpoint.size()) {
            Some(seen) if seen.root() != checkpoint.root() => {
                let forked = Error::Inconsistent(format!(
                    "a node vouches for the root {} at {} entries, and this client has seen the root {}: the ledger is forked; stop, and ask whoever runs it",
                    checkpoint.root(),
                    checkpoint.size(),
                    seen.root()
                ));
                Err(self.0.trust.keep_proof(forked, note))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The trust policy in force, as far as cosigned steps lead to it from the pinned one.
    ///
    /// # Errors
    /// [`Error`]
    pub(crate) async fn trust_in_force(&self) -> Result<TlogPolicy, Error> {
        self.follow_trust().await?;
        Ok(self.0.trust.policy())
    }

    /// Fetches and checks the changes of the trust policy since the pinned one, in the time of one call. Each page is followed as
    /// it comes, so that nobody can send more of them than lead on, nor more than a follower takes.
    pub(crate) async fn follow_trust(&self) -> Result<(), Error> {
        let deadline = self.deadline();
        let mut follower = self.0.trust.follower();
        let mut page_token = String::new();
        loop {
            let message = v1::ListTrustStepsRequest {
                after_epoch: 0,
                page_size: STEPS,
                page_token,
            };
            let Answer { answer, by }: Answer<v1::ListTrustStepsResponse> = self
                .open_read_by(paths::LIST_TRUST_STEPS, message, deadline)
                .await?;
            let followed = follower.add(&answer.trust_steps);
            followed.map_err(|error| Error::from(error).of(&by))?;
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                return self.0.trust.take(follower).map_err(|error| error.of(&by));
            }
            if answer.trust_steps.is_empty() {
                let what = "a page without a change of the trust policy says that there are more";
                return Err(Error::contradiction(what).of(&by));
            }
        }
    }
}
