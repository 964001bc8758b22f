//! Who may do what: one table, for every governance command.
//!
//! A duty is held by roles, and some duties also by the owner of the agent or gateway they concern. Admins act in the number
//! that the genesis demands; the other roles act alone.

use ledger_proto::v1::{self, IdentityStatus, Role};

use super::admission::Signer;
use super::context::{Context, Stop};
use crate::id::Identity;
use crate::state::{Key, StateError, Txn};

/// The namespace of things that concern the whole ledger. Only a role granted for it covers them.
pub(super) const WHOLE_LEDGER: &str = "*";

/// A kind of thing that somebody must be permitted to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Duty {
    /// Register and change operators, their roles and their keys.
    ManageOperators,
    /// Create namespaces and change their owners.
    ManageNamespaces,
    /// Change replicas and trust policy.
    ManageMembership,
    /// Activate engine and cluster versions.
    ManageVersions,
    /// Adjust the ledger's time.
    AdjustTime,
    /// Register agents, for others too.
    RegisterAgent,
    /// Change an agent's owner, groups, attributes, minimum assurance.
    ChangeAgent,
    /// Register and change gateways.
    ManageGateways,
    /// Add and retire keys of agents and gateways.
    ManageKeys,
    /// Suspend an agent or gateway.
    Suspend,
    /// Resume what anybody suspended.
    Resume,
    /// Revoke an agent or gateway.
    Revoke,
    /// Open a session for an agent.
    OpenSession,
    /// Close a session.
    CloseSession,
    /// Set a halt.
    SetHalt,
    /// Clear a halt.
    ClearHalt,
    /// Publish and activate bundles.
    ManagePolicy,
    /// Erase compartments.
    Erase,
}

impl Duty {
    /// Every duty.
    pub const ALL: [Self; 18] = [
        Self::ManageOperators,
        Self::ManageNamespaces,
        Self::ManageMembership,
        Self::ManageVersions,
        Self::AdjustTime,
        Self::RegisterAgent,
        Self::ChangeAgent,
        Self::ManageGateways,
        Self::ManageKeys,
        Self::Suspend,
        Self::Resume,
        Self::Revoke,
        Self::OpenSession,
        Self::CloseSession,
        Self::SetHalt,
        Self::ClearHalt,
        Self::ManagePolicy,
        Self::Erase,
    ];
}

/// The roles that hold a duty. Ownership, where it counts, is said by the handlers.
#[must_use]
pub const fn roles(duty: Duty) -> &'static [Role] {
    match duty {
        Duty::ManageOperators
        | Duty::ManageNamespaces
        | Duty::ManageMembership
        | Duty::ManageVersions
        | Duty::AdjustTime
        | Duty::RegisterAgent
        | Duty::ChangeAgent
        | Duty::ManageGateways
        | Duty::ManageKeys
        | Duty::Resume
        | Duty::Revoke
        | Duty::OpenSession
        | Duty::ClearHalt => &[Role::Admin],
        Duty::Suspend | Duty::CloseSession | Duty::SetHalt => &[Role::Admin, Role::Responder],
        Duty::ManagePolicy => &[Role::Policy],
        Duty::Erase => &[Role::Privacy],
    }
}

impl Context<'_, '_> {
    /// The author, if it is an operator who may act.
    pub(super) fn acting_operator(&self) -> Result<Option<(&str, v1::OperatorRecord)>, StateError> {
        let Identity::Operator(id) = &self.command.author else {
            return Ok(None);
        };
        let record = self
            .operator(id)?
            .filter(|record| record.status() == IdentityStatus::Active);
        Ok(record.map(|record| (id.as_str(), record)))
    }

    /// True if the author is this operator and may act.
    pub(super) fn is_owner(&self, owner: &str) -> Result<bool, StateError> {
        Ok(self.acting_operator()?.is_some_and(|(id, _)| id == owner))
    }

    /// True if the author holds the duty in the namespace, through a role, alone or with enough other admins.
    pub(super) fn holds(&self, duty: Duty, namespace: &str) -> Result<bool, StateError> {
        let Some((_, author)) = self.acting_operator()? else {
            return Ok(false);
        };
        let mut by_admin = false;
        for role in roles(duty) {
            if !has_role(&author, *role, namespace) {
                continue;
            }
            if *role != Role::Admin {
                return Ok(true);
            }
            by_admin = true;
        }
        Ok(by_admin && self.enough_admins(namespace)?)
    }

    /// Rejects unless the author holds the duty.
    pub(super) fn require(&self, duty: Duty, namespace: &str) -> Result<(), Stop> {
        if self.holds(duty, namespace)? {
            Ok(())
        } else {
            Err(v1::Result::NotPermitted.into())
        }
    }

    /// Rejects unless the author holds the duty or owns what it concerns.
    pub(super) fn require_or_owner(
        &self,
        duty: Duty,
        namespace: &str,
        owner: &str,
    ) -> Result<(), Stop> {
        if self.is_owner(owner)? {
            Ok(())
        } else {
            self.require(duty, namespace)
        }
    }

    fn enough_admins(&self, namespace: &str) -> Result<bool, StateError> {
        enough_admins(self.txn, self.ledger, self.signers, namespace)
    }
}

/// True if as many admins signed as the genesis demands.
pub(super) fn enough_admins(
    txn: &Txn<'_>,
    ledger: &v1::LedgerRecord,
    signers: &[Signer],
    namespace: &str,
) -> Result<bool, StateError> {
    let mut admins: u32 = 0;
    for signer in signers {
        let Identity::Operator(id) = &signer.identity else {
            continue;
        };
        let record: Option<v1::OperatorRecord> = txn.read(&Key::operator(id))?;
        if record.is_some_and(|record| {
            record.status() == IdentityStatus::Active && has_role(&record, Role::Admin, namespace)
        }) {
            admins += 1;
        }
    }
    Ok(admins >= ledger.admin_threshold)
}

/// True if the operator has the role in the namespace, or in the whole ledger.
pub(super) fn has_role(operator: &v1::OperatorRecord, role: Role, namespace: &str) -> bool {
    operator.roles.iter().any(|grant| {
        grant.role() == role && (grant.namespace == WHOLE_LEDGER || grant.namespace == namespace)
    })
}
