//! What a handler sees: one command, at one place in the ledger, at one time.

use ledger_proto::v1::{self, CompartmentKind, IdentityStatus, entry::Body};

use super::admission::Signer;
use super::authority::WHOLE_LEDGER;
use super::policies::Policies;
use super::recorded::Found;
use crate::command::{Command, Compartments};
use crate::hash::LeafIndex;
use crate::id::{Identity, SessionId};
use crate::state::{Key, StateError, Txn};

/// Why a handler gives no effect.
#[derive(Debug)]
pub(super) enum Stop {
    /// The command is answered with this result, and nothing it wrote is kept.
    Rejected(v1::Result),
    /// The state cannot be read: this replica must stop.
    Damaged(StateError),
}

impl From<StateError> for Stop {
    fn from(error: StateError) -> Self {
        Self::Damaged(error)
    }
}

impl From<v1::Result> for Stop {
    fn from(result: v1::Result) -> Self {
        Self::Rejected(result)
    }
}

/// One command, where and when it is applied.
#[derive(Debug)]
pub(super) struct Context<'a, 's> {
    pub(super) txn: &'a mut Txn<'s>,
    pub(super) ledger: &'a v1::LedgerRecord,
    /// The leaf that this command's entry will be.
    pub(super) leaf: LeafIndex,
    /// Entry time.
    pub(super) now_us: u64,
    /// The time that the batch carries: what its proposer's clock shows.
    pub(super) clock_us: u64,
    pub(super) command: &'a Command,
    /// The author among them; all with active keys and valid signatures.
    pub(super) signers: &'a [Signer],
    pub(super) compartments: &'a Compartments,
    pub(super) policies: &'a Policies,
    /// What the entry of this command said, if it is applied again.
    pub(super) recorded: Option<&'a Body>,
    /// True if somebody wants to know why.
    pub(super) explains: bool,
    /// What is found besides the answer.
    pub(super) found: Found,
}

impl Context<'_, '_> {
    /// True if this identity signed.
    pub(super) fn signed_by(&self, identity: &Identity) -> bool {
        self.signers
            .iter()
            .any(|signer| signer.identity == *identity)
    }

    /// True if this identity may act. Nodes and the recovery key cannot be suspended; their keys say whether they may.
    pub(super) fn is_active(&self, identity: &Identity) -> Result<bool, StateError> {
        let status = match identity {
            Identity::Operator(id) => self.operator(id)?.map(|record| record.status()),
            Identity::Agent(id) => self.agent(id)?.map(|record| record.status()),
            Identity::Gateway(id) => self.gateway(id)?.map(|record| record.status()),
            Identity::Node(_) | Identity::Recovery => Some(IdentityStatus::Active),
        };
        Ok(status == Some(IdentityStatus::Active))
    }

    /// Who brings the command: a gateway if one signed, before all the author, else the author.
    pub(super) fn presenter(&self) -> &Identity {
        let is_gateway = |identity: &&Identity| matches!(identity, Identity::Gateway(_));
        let gateway = std::iter::once(&self.command.author)
            .chain(self.signers.iter().map(|signer| &signer.identity))
            .find(is_gateway);
        gateway.unwrap_or(&self.command.author)
    }

    /// Reads an agent.
    pub(super) fn agent(&self, id: &str) -> Result<Option<v1::AgentRecord>, StateError> {
        self.txn.read(&Key::agent(id))
    }

    /// Reads a gateway.
    pub(super) fn gateway(&self, id: &str) -> Result<Option<v1::GatewayRecord>, StateError> {
        self.txn.read(&Key::gateway(id))
    }

    /// Reads an operator.
    pub(super) fn operator(&self, id: &str) -> Result<Option<v1::OperatorRecord>, StateError> {
        self.txn.read(&Key::operator(id))
    }

    /// Reads a namespace.
    pub(super) fn namespace(&self, name: &str) -> Result<Option<v1::NamespaceRecord>, StateError> {
        self.txn.read(&Key::namespace(name))
    }

    /// Reads a session.
    pub(super) fn session(&self, id: SessionId) -> Result<Option<v1::SessionRecord>, StateError> {
        self.txn.read(&Key::session(id))
    }

    /// A governance command's REASON must be there if it is committed to.
    pub(super) fn require_reason(&self) -> Result<(), Stop> {
        if self.compartments.is_complete() {
            Ok(())
        } else {
            Err(v1::Result::CommitmentMismatch.into())
        }
    }

    /// The content of a compartment of this command.
    pub(super) fn content(&self, kind: CompartmentKind) -> Option<&[u8]> {
        self.compartments.content(kind)
    }
}

/// The answer to a governance command that took effect. What concerns the whole ledger concerns no namespace.
pub(super) fn applied(namespace: &str) -> v1::Governance {
    let namespace = if namespace == WHOLE_LEDGER {
        ""
    } else {
        namespace
    };
    v1::Governance {
        result: v1::Result::Applied.into(),
        namespace: namespace.to_owned(),
        detail: None,
    }
}
