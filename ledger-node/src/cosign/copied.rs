//! The check of the cosigned checkpoints in a copy of another node's store. The digest of the state does not cover them, so that the sender
//! could have put anything there: what this node would believe of them is what the copy's own ledger bears out.

use std::io;
use std::ops::RangeInclusive;

use ledger_core::evidence::StateTiles;
use ledger_core::hash::{TreeHash, TreeSize};
use ledger_core::ledger::Head;
use ledger_core::note::checkpoint::Checkpoint;
use ledger_core::note::tlog_policy::TlogPolicy;
use ledger_core::note::verify::verify_checkpoint;
use ledger_core::state::{Key, read};
use ledger_core::tree::proof::Prover;
use ledger_proto::v1;

use super::TrustPolicies;
use super::kept::carried_together;
use crate::storage::view::StoreState;
use crate::storage::{Direction, Read, Table, meta, scan};

/// Notes that are read at once; each has at most 512 KiB.
const PAGE: usize = 16;

/// Checks that each cosigned checkpoint of a copy is of a tree of the copy and meets the trust policy in force for it, and that each step of
/// the trust policy carries its changes.
///
/// # Errors
/// What is wrong, naming the checkpoint, as invalid data; or the copy cannot be read.
pub fn check_copied(copy: &dyn Read) -> io::Result<()> {
    let state = StoreState(copy);
    let ledger: v1::LedgerRecord = read(&state, &Key::ledger())?.unwrap_or_default();
    let hash = TreeHash::parse(&ledger.tree_hash).map_err(|error| invalid(&error.to_string()))?;
    let there = Head::read(&state, hash)?.size();
    let copied = Copied { copy, hash, there };
    copied.each(meta::CHECKPOINT, |size, note| {
        copied.check_checkpoint(TreeSize(size), note)
    })?;
    let mut after: u64 = 0;
    copied.each(meta::TRUST_STEP, |epoch, _| {
        // Those that are carried together are checked once.
        if epoch <= after {
            return Ok(());
        }
        let carried = carried_together(copy, epoch)?;
        let carried = carried.ok_or_else(|| invalid("a step of the trust policy is gone"))?;
        after = *carried.epochs.end();
        copied.check_step(carried.epochs, &carried.note)
    })
}

struct Copied<'c> {
    copy: &'c dyn Read,
    hash: TreeHash,
    there: TreeSize,
}

impl Copied<'_> {
    /// Hands on every note under a prefix with its number, ascending.
    fn each(
        &self,
        prefix: &[u8],
        mut check: impl FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let (table, direction) = (Table::Meta, Direction::Ascending);
            let page = scan(self.copy, table, prefix, after.as_deref(), direction, PAGE)?;
            for (key, note) in &page {
                let number = key
                    .strip_prefix(prefix)
                    .and_then(|rest| rest.try_into().ok());
                let number =
                    number.ok_or_else(|| invalid("a cosigned checkpoint has no number"))?;
                check(u64::from_be_bytes(number), note)?;
            }
            match page.into_iter().last() {
                Some((last, _)) => after = Some(last),
                None => return Ok(()),
            }
        }
    }

    fn check_checkpoint(&self, size: TreeSize, note: &[u8]) -> io::Result<()> {
        let state = StoreState(self.copy);
        let policy = TrustPolicies::read(&state, size)?.in_force()?;
        let checkpoint = verified(note, &policy)
            .map_err(|why| invalid(&format!("the cosigned checkpoint of {size} entries: {why}")))?;
        if checkpoint.size() != size {
            return Err(invalid(&format!(
                "the cosigned checkpoint of {size} entries is of {}",
                checkpoint.size()
            )));
        }
        self.must_have_root(&checkpoint)
    }

    fn check_step(&self, epochs: RangeInclusive<u64>, note: &[u8]) -> io::Result<()> {
        let state = StoreState(self.copy);
        let (first, last) = (*epochs.start(), *epochs.end());
        let wrong = |why: &str| {
            invalid(&format!(
                "the step of the trust policy to the epochs {first} to {last}: {why}"
            ))
        };
        let step = TrustPolicies::read(&state, self.there)?.step(epochs)?;
        let step = step.ok_or_else(|| wrong("there is no such change"))?;
        let note = std::str::from_utf8(note).map_err(|error| wrong(&error.to_string()))?;
        let checkpoint = step.must_be_carried_by(note).map_err(|why| wrong(&why))?;
        self.must_have_root(&checkpoint)
    }

    /// The checkpoint is of a tree of the copy.
    fn must_have_root(&self, checkpoint: &Checkpoint) -> io::Result<()> {
        let size = checkpoint.size();
        let state = StoreState(self.copy);
        let tiles = StateTiles(&state);
        let root = (size <= self.there)
            .then(|| Prover::new(&tiles, self.hash, size).root())
            .transpose()?;
        if root == Some(checkpoint.root()) {
            Ok(())
        } else {
            Err(invalid(&format!(
                "a cosigned checkpoint of {size} entries is not of this tree"
            )))
        }
    }
}

/// The checkpoint of a note that meets a policy.
fn verified(note: &[u8], policy: &TlogPolicy) -> Result<Checkpoint, String> {
    let verified = verify_checkpoint(note, policy).map_err(|error| error.to_string())?;
    Ok(verified.checkpoint().clone())
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
