//! Which key an entry gave to whom.

use ledger_proto::v1::{self, command::Body, entry::Body as Answer};

use crate::id::{Identity, KeyId};
use crate::keys::PublicKey;

/// The identity that got this key through this entry, if the entry took effect and holds it.
pub(super) fn enrolled(
    entry: &v1::Entry,
    command: Option<&v1::Command>,
    key_id: KeyId,
) -> Option<(Identity, PublicKey)> {
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
    candidates.into_iter().find_map(|(identity, bytes)| {
        let key = PublicKey::from_bytes(bytes).ok()?;
        (key.key_id() == key_id).then_some((identity, key))
    })
}

type Candidates<'a> = Vec<(Identity, &'a [u8])>;

fn of_genesis(genesis: &v1::Genesis) -> Candidates<'_> {
    let recovery = genesis
        .recovery_key
        .iter()
        .filter_map(|enrolment| enrolment.key.as_ref())
        .map(|key| (Identity::Recovery, key.bytes.as_slice()));
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

fn of_nodes(nodes: &[v1::NodeCard]) -> impl Iterator<Item = (Identity, &[u8])> {
    nodes
        .iter()
        .map(|card| (Identity::Node(card.node_id), card.public_key.as_slice()))
}

fn keys<'a>(enrolments: &'a [v1::KeyEnrolment], identity: &Identity) -> Candidates<'a> {
    enrolments
        .iter()
        .filter_map(|enrolment| enrolment.key.as_ref())
        .map(|key| (identity.clone(), key.bytes.as_slice()))
        .collect()
}
