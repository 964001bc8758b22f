//! Which key an entry gave to whom.

use ledger_proto::v1::{self, command::Body, entry::Body as Answer};

use crate::id::{Identity, KeyId};
use crate::keys::PublicKey;

/// A key that an entry gave to somebody.
pub(super) struct Enrolled {
    pub(super) identity: Identity,
    pub(super) key: PublicKey,
    not_before_us: u64,
    /// 0 if it has no end.
    not_after_us: u64,
}

impl Enrolled {
    /// True if the key may sign at this time of the ledger, as far as its enrolment says. It can have been retired before.
    pub(super) const fn is_of(&self, time_us: u64) -> bool {
        self.not_before_us <= time_us && (self.not_after_us == 0 || time_us < self.not_after_us)
    }
}

/// Who got this key through this entry, if the entry took effect and holds it.
pub(super) fn enrolled(
    entry: &v1::Entry,
    command: Option<&v1::Command>,
    key_id: KeyId,
) -> Option<Enrolled> {
    let candidates = match (
        entry.body.as_ref()?,
        command.and_then(|command| command.body.as_ref()),
    ) {
        (Answer::Genesis(genesis), _) => of_genesis(genesis),
        (Answer::Governance(governance), Some(body))
            if governance.result() == v1::Result::Applied =>
        {
            of_command(body)
        }
        _ => Vec::new(),
    };
    candidates.into_iter().find_map(|candidate| {
        let key = PublicKey::from_bytes(candidate.bytes).ok()?;
        (key.key_id() == key_id).then_some(Enrolled {
            identity: candidate.identity,
            key,
            not_before_us: candidate.not_before_us,
            not_after_us: candidate.not_after_us,
        })
    })
}

struct Candidate<'a> {
    identity: Identity,
    bytes: &'a [u8],
    not_before_us: u64,
    not_after_us: u64,
}

type Candidates<'a> = Vec<Candidate<'a>>;

fn of_genesis(genesis: &v1::Genesis) -> Candidates<'_> {
    let recovery = genesis
        .recovery_key
        .iter()
        .filter_map(|enrolment| enrolment.key.as_ref())
        .map(|key| candidate(Identity::Recovery, key));
    let operators = genesis.operators.iter().flat_map(of_operator);
    recovery
        .chain(operators)
        .chain(of_nodes(&genesis.nodes))
        .collect()
}

fn of_command(body: &Body) -> Candidates<'_> {
    match body {
        Body::RegisterAgent(ask) => keys(&ask.keys, &Identity::Agent(ask.id.clone())),
        Body::RegisterGateway(ask) => keys(&ask.keys, &Identity::Gateway(ask.id.clone())),
        Body::RegisterOperator(ask) => of_operator(ask),
        Body::ReplaceAdmins(ask) => ask.admins.iter().flat_map(of_operator).collect(),
        Body::UpdateMembership(ask) => of_nodes(&ask.nodes).collect(),
        Body::AddKey(ask) => {
            let identity = ask
                .identity
                .as_ref()
                .and_then(|identity| Identity::parse(identity).ok());
            let enrolments = ask.key.as_slice();
            identity
                .map(|identity| keys(enrolments, &identity))
                .unwrap_or_default()
        }
        Body::Authorize(_)
        | Body::Record(_)
        | Body::Redeem(_)
        | Body::OpenSession(_)
        | Body::CloseSession(_)
        | Body::Seal(_)
        | Body::UpdateAgent(_)
        | Body::UpdateGateway(_)
        | Body::SetStatus(_)
        | Body::RetireKey(_)
        | Body::UpdateOperator(_)
        | Body::CreateNamespace(_)
        | Body::UpdateNamespace(_)
        | Body::SetHalt(_)
        | Body::ClearHalt(_)
        | Body::PublishBundle(_)
        | Body::ActivateBundle(_)
        | Body::Erase(_)
        | Body::ActivateEngine(_)
        | Body::ActivateCluster(_)
        | Body::AdjustTime(_)
        | Body::DeclareSupport(_)
        | Body::AttestState(_) => Vec::new(),
    }
}

fn of_operator(operator: &v1::RegisterOperator) -> Candidates<'_> {
    keys(&operator.keys, &Identity::Operator(operator.id.clone()))
}

/// The keys of nodes have no times.
fn of_nodes(nodes: &[v1::NodeCard]) -> impl Iterator<Item = Candidate<'_>> {
    nodes.iter().map(|card| Candidate {
        identity: Identity::Node(card.node_id),
        bytes: &card.public_key,
        not_before_us: 0,
        not_after_us: 0,
    })
}

fn candidate(identity: Identity, key: &v1::PublicKey) -> Candidate<'_> {
    Candidate {
        identity,
        bytes: &key.bytes,
        not_before_us: key.not_before_us,
        not_after_us: key.not_after_us,
    }
}

fn keys<'a>(enrolments: &'a [v1::KeyEnrolment], identity: &Identity) -> Candidates<'a> {
    enrolments
        .iter()
        .filter_map(|enrolment| enrolment.key.as_ref())
        .map(|key| candidate(identity.clone(), key))
        .collect()
}
