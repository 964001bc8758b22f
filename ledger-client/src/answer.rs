//! Answers that were checked: an entry is what was asked for, is in the tree, and the tree is vouched for.

use ledger_core::evidence::{verify_provisional, verify_receipt};
use ledger_core::note::checkpoint::Checkpoint;
use ledger_core::note::tlog_policy::TlogPolicy;
use ledger_proto::v1;

use crate::error::Error;

/// Who vouches for a receipt's checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The node that answered, and nobody else: provisional.
    Committed,
    /// Enough cosigners for the trust policy: proof.
    Cosigned,
}

impl Level {
    /// As JSON shows it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Committed => "COMMITTED",
            Self::Cosigned => "COSIGNED",
        }
    }
}

/// An entry that is in the ledger.
#[derive(Debug, Clone)]
pub struct Proven {
    /// The leaf index.
    pub index: u64,
    /// The entry.
    pub entry: v1::Entry,
    /// Who vouches for it.
    pub level: Level,
    /// The tree that it was proven to be in.
    pub checkpoint: Checkpoint,
}

impl Proven {
    /// The command of the entry; none in the genesis.
    #[must_use]
    pub fn command(&self) -> Option<v1::Command> {
        ledger_core::entry::command(&self.entry).ok().flatten()
    }

    /// Checks a receipt with a policy.
    pub(crate) fn verify(receipt: &v1::Receipt, policy: &TlogPolicy) -> Result<Self, Error> {
        let (level, (entry, checkpoint)) = match verify_receipt(receipt, policy) {
            Ok(proven) => (Level::Cosigned, proven),
            Err(error) if Error::lacks_quorum(&error) => {
                (Level::Committed, verify_provisional(receipt, policy)?)
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Self {
            index: entry.index,
            entry,
            level,
            checkpoint,
        })
    }

    /// The same for a receipt that is worth nothing below a level.
    pub(crate) fn verify_at(
        receipt: &v1::Receipt,
        policy: &TlogPolicy,
        wanted: Level,
    ) -> Result<Self, Error> {
        if wanted == Level::Cosigned {
            verify_receipt(receipt, policy)?;
        }
        Self::verify(receipt, policy)
    }

    /// Checks that the entry answers this command and no other.
    pub(crate) fn answers(&self, command: &[u8]) -> Result<(), Error> {
        let signed = self.entry.signed.as_ref();
        if signed.is_some_and(|signed| signed.command == command) {
            return Ok(());
        }
        Err(Error::contradiction(format!(
            "entry {} answers another request than the one that was sent",
            self.index
        )))
    }
}
