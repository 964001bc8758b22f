//! Auditing a ledger: every entry is made again from its signed command, and must come out as it stands there.
//!
//! That checks everything an entry says at once: its place and time, who signed with which keys, that its request id is new,
//! its number in its session's chain, its drift and notices, and, where the content is at hand, its verdict. The root over
//! what was read is then compared with a checkpoint that is trusted.

pub mod times;

use ledger_proto::v1::{self, entry::Body};
use policy_engine::Request;
use thiserror::Error;

use crate::entry;
use crate::hash::{Hash, LeafIndex, TreeSize};
use crate::machine::{self, Appended, Applied, Machine, Refusal, SignatureChecks, genesis};
use crate::note::tlog_policy::TlogPolicy;
use crate::note::verify::{CheckpointVerifyError, VerifiedCheckpoint, verify_checkpoint};
use crate::state::{Key, MemoryState, StateError, Txn, read};

/// Why an entry cannot be what the ledger's rules made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Flaw {
    /// The bytes are no entry.
    #[error("these bytes are no entry: {0}")]
    Undecodable(String),
    /// Entries come in order, without gaps.
    #[error("this is entry {0}; entries come in order, without gaps")]
    OutOfOrder(u64),
    /// Leaf 0 is the genesis, and nothing else is.
    #[error("the ledger cannot begin with it: {0}")]
    Genesis(String),
    /// Its command would have been refused.
    #[error("its command could not have been accepted: {0}")]
    Refused(Refusal),
    /// Its command has an entry already.
    #[error("its request was answered by entry {0} already")]
    Repeated(LeafIndex),
    /// The same rules decide otherwise.
    #[error("it says {recorded}, and the rules say {found}")]
    Decision {
        /// Verdict, reason and rules of the entry.
        recorded: String,
        /// Verdict, reason and rules that come out.
        found: String,
    },
    /// Something else comes out otherwise.
    #[error("its {0} is not what its command gives")]
    Different(&'static str),
    /// A checkpoint that meets the trust policy vouches for other entries.
    #[error("a cosigned checkpoint of {0} entries has another root: the ledger was forked")]
    Forked(TreeSize),
    /// What came before does not fit together, or this build cannot run the ledger's engine version.
    #[error("{0}")]
    State(StateError),
}

/// What was found about an entry that is as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sound {
    /// True if something in it rests on content that is gone, and was believed.
    pub believed: bool,
    /// For a decision: what the rules were asked, if they were and its content is at hand.
    pub asked: Option<Box<Request>>,
}

/// A checkpoint that was compared with the entries under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckedCheckpoint {
    /// It meets the trust policy in force for its tree, and its root is that of the entries.
    Proven(VerifiedCheckpoint),
    /// It does not meet the trust policy, and says nothing.
    Unproven(CheckpointVerifyError),
}

/// Reads a ledger from its first entry on.
#[derive(Debug, Default)]
pub struct Auditor {
    machine: Machine,
    state: MemoryState,
    size: TreeSize,
    /// The trust policy in force after what was read, and its epoch.
    policy: Option<(u64, TlogPolicy)>,
}

impl Auditor {
    /// An auditor who has read nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many entries were read.
    #[must_use]
    pub const fn size(&self) -> TreeSize {
        self.size
    }

    /// How far the ledger's time is ahead of clocks after what was read, in microseconds.
    ///
    /// # Errors
    /// [`StateError`] if nothing was read.
    pub fn time_offset_us(&self) -> Result<u64, StateError> {
        Ok(machine::tip(&self.state)?.time_offset_us)
    }

    /// The root over what was read.
    ///
    /// # Errors
    /// [`Flaw::State`] if nothing was read.
    pub fn root(&self) -> Result<Hash, Flaw> {
        Ok(machine::tip(&self.state).map_err(Flaw::State)?.root)
    }

    /// The trust policy that is in force after what was read.
    ///
    /// # Errors
    /// [`Flaw::State`] if nothing was read.
    pub fn trust_policy(&mut self) -> Result<&TlogPolicy, Flaw> {
        let ledger: v1::LedgerRecord = read_record(&self.state, &Key::ledger())?;
        let epoch = ledger.trust_epoch;
        // Each is parsed once: there are many checkpoints, and few policies.
        let (_, policy) = match self.policy.take() {
            Some(known) if known.0 == epoch => self.policy.insert(known),
            Some(_) | None => {
                let policy = read_policy(&self.state, epoch)?;
                self.policy.insert((epoch, policy))
            }
        };
        Ok(policy)
    }

    /// Checks a checkpoint of as many entries as were read against their root, and against the trust policy that was in force then.
    ///
    /// # Errors
    /// [`Flaw::Forked`] if it meets the policy and has another root, [`Flaw::State`] if the policy of the entries cannot be read.
    pub fn verify_checkpoint(&mut self, note: &str) -> Result<CheckedCheckpoint, Flaw> {
        let verified = verify_checkpoint(note.as_bytes(), self.trust_policy()?);
        self.compare_root(verified)
    }

    /// The same against a trust policy that the auditor has from elsewhere: what meets it vouches for the entries, whatever policy they
    /// say was in force.
    ///
    /// # Errors
    /// [`Flaw::Forked`] if it meets the policy and has another root, [`Flaw::State`] if nothing was read.
    pub fn verify_checkpoint_under(
        &self,
        note: &str,
        policy: &TlogPolicy,
    ) -> Result<CheckedCheckpoint, Flaw> {
        self.compare_root(verify_checkpoint(note.as_bytes(), policy))
    }

    fn compare_root(
        &self,
        verified: Result<VerifiedCheckpoint, CheckpointVerifyError>,
    ) -> Result<CheckedCheckpoint, Flaw> {
        let verified = match verified {
            Ok(verified) => verified,
            Err(error) => return Ok(CheckedCheckpoint::Unproven(error)),
        };
        let checkpoint = verified.checkpoint();
        if checkpoint.size() != self.size || checkpoint.root() != self.root()? {
            return Err(Flaw::Forked(checkpoint.size()));
        }
        Ok(CheckedCheckpoint::Proven(verified))
    }

    /// Reads the next entry, with those of its compartments that are at hand. Call it on a thread with at least
    /// [`MIN_STACK_LEN`](crate::limits::MIN_STACK_LEN) bytes of free stack.
    ///
    /// # Errors
    /// [`Flaw`]: the first thing that is wrong. There is no going on after it.
    pub fn read(
        &mut self,
        bytes: &[u8],
        compartments: Vec<v1::Compartment>,
    ) -> Result<Sound, Flaw> {
        let recorded =
            entry::decode(bytes).map_err(|error| Flaw::Undecodable(error.to_string()))?;
        if recorded.index != self.size.0 {
            return Err(Flaw::OutOfOrder(recorded.index));
        }
        let mut txn = Txn::new(&self.state);
        let (appended, believed, asked) = if let Some(Body::Genesis(message)) = &recorded.body {
            let appended =
                genesis(&mut txn, message).map_err(|error| Flaw::Genesis(error.to_string()))?;
            (appended, false, None)
        } else if recorded.index == 0 {
            return Err(Flaw::Genesis("it is another kind of entry".to_owned()));
        } else {
            let checks = SignatureChecks::default();
            let made = self
                .machine
                .reapply(&mut txn, &recorded, compartments, &checks)
                .map_err(Flaw::State)?;
            match made.applied {
                Applied::Appended(appended) => (*appended, made.adopted, made.asked),
                Applied::Replayed { index, .. } => return Err(Flaw::Repeated(index)),
                Applied::Refused(refusal) => return Err(Flaw::Refused(refusal)),
            }
        };
        if appended.bytes != bytes {
            return Err(difference(&recorded, &appended));
        }
        let writes = txn.into_writes();
        self.state.commit(writes);
        self.size = TreeSize(self.size.0 + 1);
        Ok(Sound { believed, asked })
    }
}

fn read_policy(state: &MemoryState, epoch: u64) -> Result<TlogPolicy, Flaw> {
    let key = Key::trust(epoch);
    let record: v1::TrustRecord = read_record(state, &key)?;
    TlogPolicy::parse(record.trust_policy.as_bytes())
        .map_err(|error| Flaw::State(StateError::damaged(&key, error.to_string())))
}

fn read_record<M: prost::Message + Default>(state: &MemoryState, key: &Key) -> Result<M, Flaw> {
    let record = read(state, key).map_err(Flaw::State)?;
    record.ok_or_else(|| Flaw::State(StateError::damaged(key, "it is missing".to_owned())))
}

/// Names what differs between what an entry says and what comes out.
fn difference(recorded: &v1::Entry, made: &Appended) -> Flaw {
    if recorded.time_us != made.entry.time_us {
        return Flaw::Different("time");
    }
    if recorded.engine_version != made.entry.engine_version {
        return Flaw::Different("engine version");
    }
    if recorded.stored != made.entry.stored {
        return Flaw::Different("list of what is stored beside it");
    }
    match (&recorded.body, &made.entry.body) {
        (Some(Body::Decision(recorded)), Some(Body::Decision(found))) => {
            decision_difference(recorded, found)
        }
        (Some(Body::Outcome(recorded)), Some(Body::Outcome(found))) => {
            outcome_difference(recorded, found)
        }
        (Some(Body::Redemption(recorded)), Some(Body::Redemption(found))) => {
            redemption_difference(recorded, found)
        }
        _ => Flaw::Different("answer"),
    }
}

fn decision_difference(recorded: &v1::Decision, found: &v1::Decision) -> Flaw {
    let said = |decision: &v1::Decision| {
        let verdict = decision.verdict().as_str_name();
        let reason = decision.reason().as_str_name();
        let rules = decision.rules.clone().unwrap_or_default().ids.join(", ");
        let verdict = verdict.strip_prefix("VERDICT_").unwrap_or(verdict);
        let reason = reason.strip_prefix("DECISION_REASON_").unwrap_or(reason);
        if rules.is_empty() {
            format!("{verdict}: {reason}")
        } else {
            format!("{verdict}: {reason} by {rules}")
        }
    };
    let by_rules = |decision: &v1::Decision| {
        let rules = decision.rules.clone();
        (decision.verdict, decision.reason, rules)
    };
    if by_rules(recorded) != by_rules(found) {
        return Flaw::Decision {
            recorded: said(recorded),
            found: said(found),
        };
    }
    Flaw::Different(if recorded.chain != found.chain {
        "place in its session's chain"
    } else if recorded.rests_on != found.rests_on {
        "list of what it rests on"
    } else if recorded.presenter != found.presenter || recorded.assurance != found.assurance {
        "presenter or assurance"
    } else if recorded.permit_expires_at_us != found.permit_expires_at_us
        || recorded.single_use != found.single_use
    {
        "permit"
    } else {
        "decision"
    })
}

fn outcome_difference(recorded: &v1::Outcome, found: &v1::Outcome) -> Flaw {
    Flaw::Different(if recorded.drift != found.drift {
        "drift"
    } else if recorded.notices != found.notices {
        "list of notices"
    } else if recorded.chain != found.chain {
        "place in its session's chain"
    } else {
        "outcome"
    })
}

fn redemption_difference(recorded: &v1::Redemption, found: &v1::Redemption) -> Flaw {
    Flaw::Different(if recorded.reason != found.reason {
        "reason of a redemption"
    } else if recorded.state_drift != found.state_drift {
        "list of what changed before a redemption"
    } else if recorded.chain != found.chain {
        "place in its session's chain"
    } else {
        "redemption"
    })
}
