//! Looking at a submission before it is replicated, as a node does at its door.

use ledger_proto::v1;

use super::admission::{self, Refusal, SignatureChecks, check_signatures};
use super::{Liveness, liveness, read_head, read_ledger, time};
use crate::command::Command;
use crate::hash::LeafIndex;
use crate::state::{State, StateError, Txn};

/// What a replica knows of a submission before it is replicated.
#[derive(Debug)]
pub enum Precheck {
    /// Nothing speaks against it here; the log has the last word.
    Admissible {
        /// The command.
        command: Box<Command>,
        /// Signature checks, to be used again when its turn comes.
        checks: SignatureChecks,
    },
    /// It has been applied, with these bytes.
    Known {
        /// Where its entry is.
        index: LeafIndex,
        /// What holds now.
        now: Liveness,
    },
    /// It would make no entry.
    Refused(Refusal),
}

/// Looks at a submission as [`Machine::apply`](super::Machine::apply) would, and changes nothing. `clock_us` is the caller's clock; a state that lags
/// behind the log can be wrong about keys and request ids.
///
/// # Errors
/// [`StateError`] if the state is damaged.
pub fn precheck(
    state: &dyn State,
    clock_us: u64,
    submission: &v1::Submission,
) -> Result<Precheck, StateError> {
    let txn = Txn::new(state);
    let ledger = read_ledger(&txn)?;
    let head = read_head(&txn, &ledger)?;
    let now_us = time::next_entry(&ledger, &head, clock_us);
    let checks = check_signatures(state, &ledger.origin, submission)?;
    let admitted = match admission::admit(&txn, &ledger.origin, now_us, submission, &checks)? {
        Ok(admitted) => admitted,
        Err(refusal) => return Ok(Precheck::Refused(refusal)),
    };
    Ok(match admission::replayed(&txn, &admitted.command)? {
        Some(Ok(index)) => Precheck::Known {
            index,
            now: liveness::now(&txn, index, now_us)?,
        },
        Some(Err(refusal)) => Precheck::Refused(refusal),
        None => match admission::fresh(&txn, &ledger, &head, &admitted, now_us)? {
            Ok(()) => Precheck::Admissible {
                command: Box::new(admitted.command),
                checks,
            },
            Err(refusal) => Precheck::Refused(refusal),
        },
    })
}
