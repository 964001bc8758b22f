//! Compiling ahead: a bundle is compiled by a quorum before the command that needs it is proposed.
//!
//! Applying the last chunk of a bundle, or its activation, needs the compiled bundle, and compiling can take seconds in which
//! a replica would decide nothing. What compiles is the same everywhere and changes nothing, so it can happen before anything
//! is in the log: apply then finds it done.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use ledger_core::hash::TreeSize;
use ledger_core::limits::MAX_SUBMISSION_LEN;
use ledger_core::machine::{Machine, Precheck, Refusal, precheck};
use ledger_proto::peer::v1 as wire;
use ledger_proto::v1::{self, ErrorReason};
use prost::Message as _;
use tokio::sync::Semaphore;

use crate::apply::prepare::needs_bundle;
use crate::failure::{Answer, Failure};
use crate::raft::peers::Purpose;
use crate::reads::Reads;
use crate::storage::view::StoreState;

/// How long a replica may take to get at the chunks before.
const CATCH_UP: Duration = Duration::from_secs(5);
/// How long the others have once a quorum has compiled.
const GRACE: Duration = Duration::from_secs(2);
/// What is left of a caller's time for the ledger itself.
const RESERVE: Duration = Duration::from_millis(500);
/// Bundles compiled ahead at a time. Others wait: compiling needs memory and a processor.
const AT_A_TIME: usize = 1;

/// Compiles ahead.
#[derive(Debug)]
pub struct Compiler {
    machine: Arc<Machine>,
    /// What is applied here, and who the others are.
    pub reads: Arc<Reads>,
    turns: Arc<Semaphore>,
}

impl Compiler {
    /// On a machine and what it has applied.
    #[must_use]
    pub fn new(machine: Arc<Machine>, reads: Arc<Reads>) -> Self {
        Self {
            machine,
            reads,
            turns: Arc::new(Semaphore::new(AT_A_TIME)),
        }
    }

    /// Compiles here what the command needs, once the tree has a size. False if chunks are missing, or nothing is needed.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn compile(&self, submission: &v1::Submission, size: TreeSize) -> io::Result<bool> {
        let deadline = Instant::now() + CATCH_UP;
        if self.reads.at_least(size, deadline).await.is_err() {
            return Ok(false);
        }
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let turn = turn.map_err(io::Error::other)?;
        let machine = Arc::clone(&self.machine);
        let store = Arc::clone(&self.reads.store);
        let submission = submission.clone();
        // Goes on when the caller has gone: who asks again finds it done.
        let compiled = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            machine.prepare(&StoreState(&*store), &[&submission])
        });
        Ok(compiled.await.map_err(io::Error::other)??)
    }

    /// The same for another node, whose word is not taken: only a command that this node would admit as well is compiled. Compiling
    /// takes a processor and a place among the compiled bundles, which strangers' bundles must not have.
    ///
    /// # Errors
    /// The store cannot be read. The inner error is why the command is refused.
    pub async fn compile_for_peer(
        &self,
        submission: &v1::Submission,
        size: TreeSize,
    ) -> io::Result<Result<bool, Refusal>> {
        let deadline = Instant::now() + CATCH_UP;
        if self.reads.at_least(size, deadline).await.is_err() {
            return Ok(Ok(false));
        }
        if submission.encoded_len() > MAX_SUBMISSION_LEN {
            return Ok(Err(Refusal::Undecodable));
        }
        let now_us = self.reads.peers.now_us();
        let found = tokio::task::block_in_place(|| {
            precheck(&StoreState(&*self.reads.store), now_us, submission)
        });
        match found? {
            Precheck::Refused(refusal) => Ok(Err(refusal)),
            Precheck::Admissible { .. } | Precheck::Known { .. } => {
                self.compile(submission, size).await.map(Ok)
            }
        }
    }

    /// Returns once a quorum has compiled what the command needs, and whoever else could soon.
    ///
    /// # Errors
    /// Too few have until shortly before the deadline. Nothing happened.
    pub async fn compile_on_quorum(
        &self,
        submission: &v1::Submission,
        deadline: Instant,
    ) -> Answer<()> {
        if !needs_bundle(submission) {
            return Ok(());
        }
        self.reads.fully_consistent(deadline).await?;
        let size = self.reads.applier.tip().borrow().size;
        let until = deadline.checked_sub(RESERVE).unwrap_or(deadline);
        let own = tokio::time::timeout_at(until.into(), self.compile(submission, size)).await;
        match own {
            Ok(Ok(true)) => {}
            // Chunks are missing: the ledger will say so, or more will come.
            Ok(Ok(false)) => return Ok(()),
            Ok(Err(error)) => {
                return Err(Failure::new(ErrorReason::DataDamaged, error.to_string()));
            }
            Err(_) => return Err(not_yet()),
        }
        let voters: BTreeSet<u64> = self.reads.raft.voter_ids().collect();
        let mut compiled = BTreeSet::from([self.reads.peers.node_id]);
        let mut asked: FuturesUnordered<_> = self
            .reads
            .others()
            .into_iter()
            .map(|(id, address)| self.ask(id, address, submission, size, until))
            .collect();
        let mut until = until;
        while let Ok(Some(answer)) = tokio::time::timeout_at(until.into(), asked.next()).await {
            compiled.extend(answer);
            if is_quorum(&compiled, &voters) {
                until = until.min(Instant::now() + GRACE);
            }
        }
        if is_quorum(&compiled, &voters) {
            Ok(())
        } else {
            Err(not_yet())
        }
    }

    /// Asks another replica. Its id, if it has compiled.
    async fn ask(
        &self,
        id: u64,
        address: String,
        submission: &v1::Submission,
        size: TreeSize,
        until: Instant,
    ) -> Option<u64> {
        let peers = &self.reads.peers;
        let mut client = peers.client(id, &address, Purpose::Other).ok()?;
        let message = wire::CompileAheadRequest {
            submission: Some(submission.clone()),
            tree_size: size.0,
        };
        let mut request = peers.request(id, message);
        request.set_timeout(until.saturating_duration_since(Instant::now()));
        let answer = client.compile_ahead(request).await.ok()?;
        answer.into_inner().compiled.then_some(id)
    }
}

fn is_quorum(compiled: &BTreeSet<u64>, voters: &BTreeSet<u64>) -> bool {
    2 * compiled.intersection(voters).count() > voters.len()
}

fn not_yet() -> Failure {
    let what =
        "a quorum has not compiled the bundle yet; nothing was done, send the same command again";
    Failure::new(ErrorReason::NoQuorum, what).after(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quorum_is_more_than_half_of_the_voters() {
        let voters = BTreeSet::from([1, 2, 3]);
        assert!(!is_quorum(&BTreeSet::from([1]), &voters));
        assert!(
            !is_quorum(&BTreeSet::from([1, 4, 5]), &voters),
            "learners do not count"
        );
        assert!(is_quorum(&BTreeSet::from([1, 3]), &voters));
        assert!(is_quorum(&BTreeSet::from([7]), &BTreeSet::from([7])));
    }
}
