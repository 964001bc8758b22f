//! A request as the rules see it, each fact from the party that vouches for it.
//!
//! The machine fills this in: the registry vouches for the agent, the issuer for the session, a gateway for the resource.
//! What only the agent says is in [`Request::claims`] and nowhere else.

use std::collections::{BTreeMap, BTreeSet};

use crate::decision::Approver;

/// Named sets of strings: grants and claims.
pub type StringSets = BTreeMap<String, BTreeSet<String>>;

/// Who stands behind the request's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assurance {
    /// A gateway signed for the agent.
    GatewayAsserted,
    /// The agent signed.
    AgentSigned,
    /// Both signed.
    BothSigned,
}

impl Assurance {
    /// The name that rules compare with `context.request.assurance`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GatewayAsserted => "GATEWAY_ASSERTED",
            Self::AgentSigned => "AGENT_SIGNED",
            Self::BothSigned => "BOTH_SIGNED",
        }
    }
}

/// The agent, as the registry has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// Its id: 1 to 256 bytes, any characters but control characters.
    pub id: String,
    /// The operator who owns it.
    pub owner: String,
    /// Its groups.
    pub groups: BTreeSet<String>,
    /// Its attributes; rules read them as tags.
    pub attributes: BTreeMap<String, String>,
}

/// The identity that opened a session. An operator and an agent of the same id are different issuers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Issuer {
    /// An operator: the agent's owner or an admin.
    Operator(String),
    /// A gateway that may open sessions.
    Gateway(String),
    /// An agent: the session's own, or the one of the session above it.
    Agent(String),
}

impl Issuer {
    /// Its kind, as rules name it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Operator(_) => "operator",
            Self::Gateway(_) => "gateway",
            Self::Agent(_) => "agent",
        }
    }

    /// Its id, which says little without the kind.
    pub fn id(&self) -> &str {
        match self {
            Self::Operator(id) | Self::Gateway(id) | Self::Agent(id) => id,
        }
    }
}

/// The identity that recorded an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorder {
    /// The gateway of this id, which may record for the agent.
    Gateway(String),
    /// The agent itself, whose word unlocks nothing that does not ask for it.
    Agent,
}

/// On whose behalf the session runs, in the words of an issuer who may say so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The issuer of the subject's identity.
    pub iss: String,
    /// The subject at that issuer.
    pub sub: String,
    /// `ISSUER_ASSERTED`; `TOKEN_VERIFIED` is reserved. What is only claimed is among the claims.
    pub assurance: String,
}

/// The session, as its opening has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The session id in lowercase hex.
    pub id: String,
    /// What the session is for, in the words of an issuer that is no agent; none if it says nothing.
    pub purpose: Option<String>,
    /// Who opened it.
    pub issuer: Issuer,
    /// True if the session has a parent.
    pub delegated: bool,
    /// The number of this decision in the session's chain, from 1.
    pub seq: u64,
    /// When it was opened, in microseconds since 1970.
    pub opened_at_us: u64,
    /// On whose behalf, if anybody vouches for that.
    pub subject: Option<Subject>,
    /// What an issuer other than the agent granted.
    pub grants: StringSets,
}

/// The resource an action is about, and facts about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// The id; the machine puts `server/tool` here when the request names none.
    pub id: String,
    /// Its type as a gateway asserted it (`resource.type`), if one did.
    pub kind: Option<String>,
    /// Ids of the resources it is in, as a gateway asserted them.
    pub parents: BTreeSet<String>,
    /// Attributes as a gateway asserted them; rules read them as tags.
    pub attributes: BTreeMap<String, String>,
}

/// Approvals that accompany the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// Groups that approved, and how many of each; rules read the names.
    pub groups: BTreeMap<String, u32>,
    /// How many approvals there are.
    pub count: u32,
}

impl Approval {
    /// The fewest approvals that meet a demand, each by somebody else.
    pub(crate) fn meeting(demand: &[Approver]) -> Self {
        let groups = demand.iter().map(|of| (of.group.clone(), of.count));
        let count = demand
            .iter()
            .fold(0, |sum: u32, of| sum.saturating_add(of.count));
        Self {
            groups: groups.collect(),
            count,
        }
    }

    /// True if each group of the demand has approved as often as it demands.
    pub(crate) fn meets(&self, demand: &[Approver]) -> bool {
        demand.iter().all(|of| {
            self.groups
                .get(&of.group)
                .is_some_and(|count| *count >= of.count)
        })
    }
}

/// One request to decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The entry time in microseconds since 1970; the only clock rules can see.
    pub time_us: u64,
    /// The request id in lowercase hex.
    pub request_id: String,
    /// Who acts.
    pub agent: Agent,
    /// In which session.
    pub session: Session,
    /// The gateway that presented the request, if one signed it.
    pub presenter: Option<String>,
    /// Who signed.
    pub assurance: Assurance,
    /// The action id: `server/name`, or `name`.
    pub action: String,
    /// What it acts on.
    pub resource: Resource,
    /// The tool's arguments: the bytes of a JSON object, as sent.
    pub input: Vec<u8>,
    /// What only the agent says.
    pub claims: StringSets,
    /// Approvals, if there are any.
    pub approval: Option<Approval>,
}
