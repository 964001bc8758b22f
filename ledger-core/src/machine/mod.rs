//! The replicated machine: the only writer of state.
//!
//! One committed command in, at most one entry out. The same commands at the same times give the same entries, state and
//! root on every replica, because nothing here looks at anything but the command, the state and the time it is given.
//!
//! A command passes admission first (form, signatures, request id, freshness). What fails there is *refused*: no entry, as
//! if it had never been sent. Everything else gets an entry, denials, rejections and malformed bodies included.

mod admission;
mod attestation;
mod authority;
mod authorize;
mod bundle;
mod context;
mod decide;
mod delegation;
mod dispatch;
mod erase;
mod genesis;
mod halt;
mod history;
mod kept;
mod keyring;
mod liveness;
mod membership;
mod observe;
mod operator;
mod policies;
mod precheck;
mod record;
mod recorded;
mod redeem;
mod registry;
mod session;
mod status;
mod subject;
mod time;
mod tip;
mod validate;

use ledger_proto::v1::{self, command::Body as Ask, entry::Body};

pub use admission::{Refusal, SignatureChecks, check_signatures};
pub use attestation::{Comparison, attested_with, compare};
pub use authority::{Duty, roles};
pub use genesis::{GenesisError, genesis, genesis_digest};
pub use halt::ends_at as halt_ends_at;
pub use liveness::Liveness;
use policies::Policies;
pub(crate) use policies::chunk_leaves;
pub use precheck::{Precheck, precheck};
use recorded::Found;
pub use recorded::Reapplied;
pub use session::scope_holds;
pub use tip::{Tip, find_request, tip};

use crate::command::{Command, Compartments};
use crate::explanation;
use crate::hash::{Hash, LeafIndex};
use crate::state::{State, StateError, Txn};
use context::{Context, Stop};
use dispatch::{dispatch, rejection};
use kept::settle;
use tip::{read_head, read_ledger};

/// The version of these rules: what the machine does, how entries are encoded, every limit, and the exact versions of the
/// policy crates. Entries name it. Any change that could give another entry for the same log needs the next number.
pub const ENGINE_VERSION: u32 = 1;

/// Every version of the rules that this build can run, ascending: what its node declares to support.
pub const ENGINE_VERSIONS: [u32; 1] = [ENGINE_VERSION];

/// The version of the command kinds and of the wire between replicas.
pub const CLUSTER_VERSION: u32 = 1;

/// An entry that a command made.
#[derive(Debug, Clone, PartialEq)]
pub struct Appended {
    /// Where it is.
    pub index: LeafIndex,
    /// The entry.
    pub entry: v1::Entry,
    /// Its canonical bytes: the leaf.
    pub bytes: Vec<u8>,
    /// The hash of the leaf.
    pub leaf_hash: Hash,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq)]
pub enum Applied {
    /// It made an entry.
    Appended(Box<Appended>),
    /// It had been applied before, with the same bytes: the entry it made then is the answer.
    Replayed {
        /// Where that entry is.
        index: LeafIndex,
        /// What holds now, of what the entry said then.
        now: Liveness,
    },
    /// It made no entry and changed nothing.
    Refused(Refusal),
}

/// Applies commands. Holds compiled bundles between commands, which are a function of the state, and nothing else.
#[derive(Debug, Default)]
pub struct Machine {
    policies: Policies,
}

impl Machine {
    /// A machine that has compiled nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Compiles the bundles that these submissions complete, together with the chunks in the state, or activate, so that applying
    /// them finds the result. True if there was such a bundle and none is left to compile. Meant for a thread beside apply, with
    /// submissions that passed admission: signatures are not looked at. Changes nothing that any replica could see.
    ///
    /// # Errors
    /// [`StateError`] if the state is damaged.
    pub fn prepare(
        &self,
        state: &dyn State,
        pending: &[&v1::Submission],
    ) -> Result<bool, StateError> {
        self.policies.prepare(state, pending)
    }

    /// Compiles the bundles that decide now and the candidates beside them: what the first requests after a start need.
    ///
    /// # Errors
    /// [`StateError`] if the state is damaged, or there is no thread to compile on.
    pub fn warm(&self, state: &dyn State) -> Result<(), StateError> {
        self.policies.warm(state)
    }

    /// Applies one command. Its batch carries a clock's time, in microseconds since 1970. Writes go into the transaction;
    /// the caller commits them together and answers afterwards.
    ///
    /// Call it on a thread with at least [`MIN_STACK_LEN`](crate::limits::MIN_STACK_LEN) bytes of free stack: whether a rule can be evaluated must not
    /// depend on who calls.
    ///
    /// `checks` are signature checks made earlier, off the apply path; those that are missing are made here. Whether a key
    /// may sign is looked up here in any case, at this command's own position.
    ///
    /// # Errors
    /// [`StateError`] if the state is damaged, or if the ledger is at an engine version that this build cannot run: this
    /// replica must stop. The command that activates such a version is still applied; what follows it is not.
    pub fn apply(
        &self,
        txn: &mut Txn<'_>,
        batch_time_us: u64,
        submission: &v1::Submission,
        checks: &SignatureChecks,
    ) -> Result<Applied, StateError> {
        let (applied, _) = self.run(txn, batch_time_us, submission, checks, None)?;
        Ok(applied)
    }

    /// Applies a command. With the entry that it made before, what cannot be found again because content is gone is taken
    /// from there; the second value then says so, and what the rules were asked.
    fn run(
        &self,
        txn: &mut Txn<'_>,
        batch_time_us: u64,
        submission: &v1::Submission,
        checks: &SignatureChecks,
        recorded: Option<&v1::Entry>,
    ) -> Result<(Applied, Found), StateError> {
        let ledger = read_ledger(txn)?;
        let mut head = read_head(txn, &ledger)?;
        // Entry time is replicated state: it never goes back, whatever clock the batch was stamped with.
        let now_us = time::next_entry(&ledger, &head, batch_time_us);

        let admitted = match admission::admit(txn, &ledger.origin, now_us, submission, checks)? {
            Ok(admitted) => admitted,
            Err(refusal) => return Ok((Applied::Refused(refusal), Found::default())),
        };
        if let Some(index) = admission::replayed(txn, &admitted.command)? {
            let applied = match index {
                Ok(index) => Applied::Replayed {
                    index,
                    now: liveness::now(txn, index, now_us)?,
                },
                Err(refusal) => Applied::Refused(refusal),
            };
            return Ok((applied, Found::default()));
        }
        if let Err(refusal) = admission::fresh(txn, &ledger, &head, &admitted, now_us)? {
            return Ok((Applied::Refused(refusal), Found::default()));
        }

        let leaf = head.size().next_index();
        let compartments = match recorded {
            Some(entry) => Compartments::reopen(&admitted.command, &submission.compartments, entry),
            None => Compartments::open(&admitted.command, &submission.compartments),
        };
        let place = Place {
            ledger: &ledger,
            leaf,
            now_us,
            clock_us: batch_time_us,
            recorded: recorded.and_then(|entry| entry.body.as_ref()),
            explains: false,
        };
        let (body, found) = self.answer(txn, &place, &admitted, &compartments)?;
        let entry = v1::Entry {
            index: leaf.0,
            time_us: now_us,
            engine_version: ledger.engine_version,
            signed: submission.signed.clone(),
            stored: compartments.kept().into_iter().map(i32::from).collect(),
            body: Some(body),
        };
        let (bytes, leaf_hash) = head.append(txn, &entry)?;
        settle(
            txn,
            &entry,
            leaf,
            leaf_hash,
            &admitted.command,
            compartments,
        )?;
        history::sweep(txn, now_us)?;
        let appended = Appended {
            index: leaf,
            entry,
            bytes,
            leaf_hash,
        };
        Ok((Applied::Appended(Box::new(appended)), found))
    }

    /// Decides a request on a copy of the state and leaves no trace, at this time of a clock. Signatures are not looked at: the answer is
    /// what the author and the cosigners that the command names would get.
    ///
    /// # Errors
    /// [`StateError`] if the state is damaged. The inner error is a command that could not even be admitted, or one that asks
    /// for something else than a decision.
    pub fn simulate(
        &self,
        state: &dyn State,
        clock_us: u64,
        submission: &v1::Submission,
    ) -> Result<Result<v1::Decision, Refusal>, StateError> {
        let simulated = self.simulated(state, clock_us, submission, false)?;
        Ok(simulated.map(|(decision, _)| decision))
    }

    /// The same, and why, if the request comes as far as the rules.
    ///
    /// # Errors
    /// As [`Machine::simulate`].
    pub fn explain(
        &self,
        state: &dyn State,
        clock_us: u64,
        submission: &v1::Submission,
    ) -> Result<Result<Explained, Refusal>, StateError> {
        self.simulated(state, clock_us, submission, true)
    }

    fn simulated(
        &self,
        state: &dyn State,
        clock_us: u64,
        submission: &v1::Submission,
        explains: bool,
    ) -> Result<Result<Explained, Refusal>, StateError> {
        let mut txn = Txn::new(state);
        let ledger = read_ledger(&txn)?;
        let head = read_head(&txn, &ledger)?;
        let now_us = time::next_entry(&ledger, &head, clock_us);
        let Some(signed) = &submission.signed else {
            return Ok(Err(Refusal::Undecodable));
        };
        let command = match Command::parse(signed) {
            Ok(command) => command,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if !matches!(command.body, Ask::Authorize(_)) {
            return Ok(Err(Refusal::Undecodable));
        }
        let signers = command
            .signers()
            .map(|identity| admission::Signer {
                identity: identity.clone(),
                leaf: None,
            })
            .collect();
        let admitted = admission::Admitted { command, signers };
        let place = Place {
            ledger: &ledger,
            leaf: head.size().next_index(),
            now_us,
            clock_us,
            recorded: None,
            explains,
        };
        let compartments = Compartments::open(&admitted.command, &submission.compartments);
        let (body, found) = self.answer(&mut txn, &place, &admitted, &compartments)?;
        match body {
            Body::Decision(decision) => {
                let told = found.explanation.as_deref().map(explanation::to_message);
                Ok(Ok((decision, told)))
            }
            Body::Genesis(_)
            | Body::Outcome(_)
            | Body::Redemption(_)
            | Body::SessionOpening(_)
            | Body::SessionEnd(_)
            | Body::Governance(_) => Ok(Err(Refusal::Undecodable)),
        }
    }

    /// Runs the handler of a command in a transaction of its own, which is dropped if the command is rejected. The second value
    /// is true if something was taken from the entry that was recorded.
    fn answer(
        &self,
        txn: &mut Txn<'_>,
        place: &Place<'_>,
        admitted: &admission::Admitted,
        compartments: &Compartments,
    ) -> Result<(Body, Found), StateError> {
        let command = &admitted.command;
        let (answer, writes, found) = {
            let mut inner = Txn::new(&*txn);
            let mut context = Context {
                txn: &mut inner,
                ledger: place.ledger,
                leaf: place.leaf,
                now_us: place.now_us,
                clock_us: place.clock_us,
                command,
                signers: &admitted.signers,
                compartments,
                policies: &self.policies,
                recorded: place.recorded,
                explains: place.explains,
                found: Found::default(),
            };
            let answer = dispatch(&mut context, &command.body);
            let found = std::mem::take(&mut context.found);
            (answer, inner.into_writes(), found)
        };
        let body = match answer {
            Ok(body) => {
                txn.absorb(writes);
                body
            }
            Err(Stop::Rejected(result)) => rejection(&command.body, result),
            Err(Stop::Damaged(error)) => return Err(error),
        };
        Ok((body, found))
    }
}

/// A decision that nobody made, and why it would be made.
pub type Explained = (v1::Decision, Option<v1::Explanation>);

/// Where and when a command is applied, and what its entry said before, if it is applied again.
struct Place<'a> {
    ledger: &'a v1::LedgerRecord,
    leaf: LeafIndex,
    now_us: u64,
    clock_us: u64,
    recorded: Option<&'a Body>,
    explains: bool,
}
