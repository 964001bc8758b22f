//! Who may read what.
//!
//! Roles and ownership count only while their operator is active. A suspended identity still reads what is its own, so that
//! it can find out that it is suspended; a revoked one reads nothing.

use ledger_core::id::Identity;
use ledger_core::state::{Key, State, read};
use ledger_proto::v1::{self, ErrorReason, IdentityStatus, Role, Verdict, entry::Body};

use super::read_auth::{ReadRequest, ReadSignature, invalid};
use crate::failure::{Answer, Failure};
use crate::index::About;

/// In a role grant: the whole ledger.
const WHOLE_LEDGER: &str = "*";

/// Somebody whose signature has been checked, as the state has them.
#[derive(Debug, Clone, PartialEq)]
pub struct Reader {
    /// Who.
    pub identity: Identity,
    active: bool,
    groups: Vec<String>,
    roles: Vec<v1::RoleGrant>,
}

impl Reader {
    /// Looks an identity up; none if it is revoked or unknown.
    ///
    /// # Errors
    /// Damaged state.
    pub fn load(state: &dyn State, identity: Identity) -> Answer<Option<Self>> {
        let mut reader = Self {
            identity,
            active: true,
            groups: Vec::new(),
            roles: Vec::new(),
        };
        let status = match &reader.identity {
            Identity::Operator(id) => {
                let record: Option<v1::OperatorRecord> = read(state, &Key::operator(id))?;
                let record = record.unwrap_or_default();
                let status = record.status();
                if status == IdentityStatus::Active {
                    (reader.groups, reader.roles) = (record.groups, record.roles);
                }
                status
            }
            Identity::Agent(id) => read::<v1::AgentRecord>(state, &Key::agent(id))?
                .unwrap_or_default()
                .status(),
            Identity::Gateway(id) => read::<v1::GatewayRecord>(state, &Key::gateway(id))?
                .unwrap_or_default()
                .status(),
            Identity::Node(id) => {
                let record: Option<v1::NodeRecord> = read(state, &Key::node(*id))?;
                match record {
                    Some(record) if record.member => IdentityStatus::Active,
                    Some(_) | None => IdentityStatus::Revoked,
                }
            }
            Identity::Recovery => IdentityStatus::Active,
        };
        reader.active = status == IdentityStatus::Active;
        let known = reader.active || status == IdentityStatus::Suspended;
        Ok(known.then_some(reader))
    }

    /// The reader who signed a request, in this state.
    ///
    /// # Errors
    /// `READ_SIGNATURE_INVALID`
    pub fn identify<R: ReadRequest>(
        state: &dyn State,
        origin: &str,
        now_us: u64,
        signature: &ReadSignature,
        request: &R,
    ) -> Answer<Self> {
        let identity = signature.authenticate(state, origin, now_us, request)?;
        Self::load(state, identity)?.ok_or_else(invalid)
    }

    /// True if the reader holds one of these roles in the namespace, or in the whole ledger. What belongs to no namespace
    /// takes a role in the whole ledger.
    #[must_use]
    pub fn holds(&self, roles: &[Role], namespace: &str) -> bool {
        self.roles.iter().any(|grant| {
            let here = !namespace.is_empty() && grant.namespace == namespace;
            roles.contains(&grant.role()) && (here || grant.namespace == WHOLE_LEDGER)
        })
    }

    /// True if the reader is this operator and active.
    #[must_use]
    pub fn is_owner(&self, owner: &str) -> bool {
        self.active && matches!(&self.identity, Identity::Operator(id) if id == owner)
    }

    /// True if the reader answers for this agent or gateway.
    ///
    /// # Errors
    /// Damaged state.
    pub fn owns(&self, state: &dyn State, identity: &Identity) -> Answer<bool> {
        let owner = match identity {
            Identity::Agent(id) => {
                read::<v1::AgentRecord>(state, &Key::agent(id))?.map(|agent| agent.owner)
            }
            Identity::Gateway(id) => {
                read::<v1::GatewayRecord>(state, &Key::gateway(id))?.map(|gateway| gateway.owner)
            }
            Identity::Operator(_) | Identity::Node(_) | Identity::Recovery => None,
        };
        Ok(owner.is_some_and(|owner| self.is_owner(&owner)))
    }

    /// True if the reader may read this entry: it is about the reader, made, presented or recorded by the reader, about an
    /// agent or gateway of the reader, in a namespace that the reader audits, or waits for the reader's approval.
    ///
    /// # Errors
    /// Damaged state.
    pub fn may_read_entry(
        &self,
        state: &dyn State,
        entry: &v1::Entry,
        about: &About,
        now_us: u64,
    ) -> Answer<bool> {
        let parties = [&about.whom, &about.presenter, &about.author];
        let is_party = parties
            .into_iter()
            .flatten()
            .any(|party| *party == self.identity);
        if is_party {
            return Ok(true);
        }
        self.may_read_content(state, entry, about, now_us)
    }

    /// True if the reader may read the compartments of this entry: auditors, the owner, and approvers while they are asked.
    ///
    /// # Errors
    /// Damaged state.
    pub fn may_read_content(
        &self,
        state: &dyn State,
        entry: &v1::Entry,
        about: &About,
        now_us: u64,
    ) -> Answer<bool> {
        let namespace = ledger_core::entry::namespace(entry);
        if self.holds(&[Role::Auditor], namespace) || self.is_asked(entry, namespace, now_us) {
            return Ok(true);
        }
        match &about.whom {
            Some(whom) => self.owns(state, whom),
            None => Ok(false),
        }
    }

    /// True while the reader's approval would count for an escalated request.
    fn is_asked(&self, entry: &v1::Entry, namespace: &str, now_us: u64) -> bool {
        let Some(Body::Decision(decision)) = &entry.body else {
            return false;
        };
        let asked = decision.escalation.as_ref().is_some_and(|escalation| {
            let of_group = |approver: &v1::Approver| self.groups.contains(&approver.group);
            now_us < escalation.expires_at_us && escalation.approvers.iter().any(of_group)
        });
        asked && decision.verdict() == Verdict::Escalate && self.holds(&[Role::Approver], namespace)
    }

    /// True if the reader may read this session: its agent, its issuer, the agent's owner, auditors.
    ///
    /// # Errors
    /// Damaged state.
    pub fn may_read_session(&self, state: &dyn State, session: &v1::SessionRecord) -> Answer<bool> {
        let agent = Identity::Agent(session.agent.clone());
        let is_party =
            self.identity == agent || session.issuer.as_ref() == Some(&self.identity.to_message());
        if is_party || self.holds(&[Role::Auditor], &session.namespace) {
            return Ok(true);
        }
        self.owns(state, &agent)
    }

    /// True if the reader may read the record and keys of this identity, which belongs to this namespace and owner, if any.
    #[must_use]
    pub fn may_read_identity(&self, identity: &Identity, namespace: &str, owner: &str) -> bool {
        self.identity == *identity
            || self.is_owner(owner)
            || self.holds(&[Role::Admin, Role::Auditor], namespace)
    }

    /// True if the reader may read this namespace: its owners, and whoever has a role in it.
    #[must_use]
    pub fn may_read_namespace(&self, name: &str, record: &v1::NamespaceRecord) -> bool {
        let any = [
            Role::Admin,
            Role::Policy,
            Role::Responder,
            Role::Approver,
            Role::Auditor,
            Role::Privacy,
        ];
        self.holds(&any, name) || record.owners.iter().any(|owner| self.is_owner(owner))
    }

    /// Refuses whoever holds none of these roles in the namespace.
    ///
    /// # Errors
    /// `READ_NOT_PERMITTED`
    pub fn require(&self, roles: &[Role], namespace: &str) -> Answer<()> {
        permitted(self.holds(roles, namespace))
    }

    /// Refuses a suspended identity.
    ///
    /// # Errors
    /// `READ_NOT_PERMITTED`
    pub fn require_active(&self) -> Answer<()> {
        permitted(self.active)
    }
}

/// Refuses what is not permitted.
///
/// # Errors
/// `READ_NOT_PERMITTED`
pub fn permitted(may: bool) -> Answer<()> {
    if may {
        Ok(())
    } else {
        Err(Failure::new(
            ErrorReason::ReadNotPermitted,
            "this identity may not read this; ask its owner or an auditor",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::test_world::{NOW, TestWorld};
    use crate::index;
    use ledger_proto::v1::{Decision, Escalation};

    fn world(status: IdentityStatus) -> TestWorld {
        let mut world = TestWorld::new();
        world.agent("bot", "team", "olive", IdentityStatus::Active);
        world.agent("other", "team", "olga", IdentityStatus::Active);
        world.operator("olive", &[], status);
        world.operator("here", &[(Role::Auditor, "team")], status);
        world.operator("there", &[(Role::Auditor, "elsewhere")], status);
        world.operator("all", &[(Role::Auditor, "*")], status);
        world.operator("lead", &[(Role::Approver, "team")], status);
        world
    }

    /// Who of everybody may read the entry, and who its content.
    fn readers(world: &mut TestWorld, decision: Decision) -> (Vec<String>, Vec<String>) {
        let entry = world.decide("bot", "pay", decision);
        let view = world.view();
        let about = index::about(&view, &entry).unwrap();
        let agents = ["bot", "other"].map(|id| Identity::Agent(id.to_owned()));
        let operators = ["olive", "here", "there", "all", "lead", "nobody"];
        let operators = operators.map(|id| Identity::Operator(id.to_owned()));
        let (mut entries, mut contents) = (Vec::new(), Vec::new());
        for identity in agents.into_iter().chain(operators) {
            let Some(reader) = Reader::load(&view, identity.clone()).unwrap() else {
                continue;
            };
            if reader.may_read_entry(&view, &entry, &about, NOW).unwrap() {
                entries.push(identity.id());
            }
            if reader.may_read_content(&view, &entry, &about, NOW).unwrap() {
                contents.push(identity.id());
            }
        }
        (entries, contents)
    }

    fn in_team() -> Decision {
        Decision {
            namespace: "team".to_owned(),
            ..Decision::default()
        }
    }

    #[test]
    fn entries_are_for_the_agent_its_owner_and_auditors() {
        let (entries, contents) = readers(&mut world(IdentityStatus::Active), in_team());
        assert_eq!(entries, ["bot", "olive", "here", "all"]);
        assert_eq!(contents, ["olive", "here", "all"]);
    }

    #[test]
    fn what_has_no_namespace_takes_a_role_in_the_whole_ledger() {
        let (entries, _) = readers(&mut world(IdentityStatus::Active), Decision::default());
        assert_eq!(entries, ["bot", "olive", "all"]);
    }

    #[test]
    fn suspended_operators_have_no_rights_and_revoked_ones_are_nobody() {
        let (entries, _) = readers(&mut world(IdentityStatus::Suspended), in_team());
        assert_eq!(entries, ["bot"]);
        let world = world(IdentityStatus::Revoked);
        let olive = Identity::Operator("olive".to_owned());
        assert_eq!(Reader::load(&world.view(), olive), Ok(None));
    }

    #[test]
    fn approvers_read_while_they_are_asked() {
        let asked = |group: &str, expires_at_us| Decision {
            verdict: Verdict::Escalate.into(),
            escalation: Some(Escalation {
                approvers: vec![v1::Approver {
                    group: group.to_owned(),
                    count: 1,
                }],
                expires_at_us,
                ..Escalation::default()
            }),
            ..in_team()
        };
        let mut world = world(IdentityStatus::Active);
        let lead = "lead".to_owned();
        assert!(
            readers(&mut world, asked("leads", NOW + 1))
                .1
                .contains(&lead)
        );
        assert!(!readers(&mut world, asked("leads", NOW)).1.contains(&lead));
        assert!(
            !readers(&mut world, asked("others", NOW + 1))
                .1
                .contains(&lead)
        );
    }
}
