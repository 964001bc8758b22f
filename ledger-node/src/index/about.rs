//! Whom and what an entry is about, which lists and rights to read ask for.

use ledger_core::hash::LeafIndex;
use ledger_core::id::{Identity, SessionId};
use ledger_core::ledger;
use ledger_core::state::{Key, State, StateError, read};
use ledger_proto::v1::{self, EntryKind, command::Body as Ask, entry::Body};

/// What an entry says of whom, as far as lists and rights ask for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// Whom it is about: an agent for decisions, outcomes and sessions; an identity of any kind for governance.
    pub whom: Option<Identity>,
    /// Who presented the request, redeemed its permit or recorded its outcome.
    pub presenter: Option<Identity>,
    /// Who made the command.
    pub author: Option<Identity>,
    /// The action id, for decisions, their redemptions and their outcomes.
    pub action: Option<String>,
}

/// Finds out whom an entry is about. Redemptions, outcomes and session ends name no agent: what they refer to is read from the state.
///
/// # Errors
/// [`StateError`] if the state is damaged.
pub fn about(state: &dyn State, entry: &v1::Entry) -> Result<About, StateError> {
    let parse = |identity: &v1::Identity| Identity::parse(identity).ok();
    // The genesis has no command, and the machine only writes commands that decode.
    let Some(command) = ledger_core::entry::command(entry).ok().flatten() else {
        return Ok(About::default());
    };
    let mut about = About {
        author: command.author.as_ref().and_then(parse),
        ..About::default()
    };
    match &entry.body {
        Some(Body::Decision(decision)) => {
            about.presenter = decision.presenter.as_ref().and_then(parse);
        }
        Some(Body::Outcome(outcome)) => {
            about.presenter = outcome.recorder.as_ref().and_then(parse);
        }
        Some(Body::Redemption(redemption)) => {
            about.presenter = redemption.presenter.as_ref().and_then(parse);
        }
        Some(
            Body::Genesis(_) | Body::SessionOpening(_) | Body::SessionEnd(_) | Body::Governance(_),
        )
        | None => {}
    }
    match command.body {
        Some(Ask::Authorize(ask)) => of_request(&mut about, &ask),
        Some(
            Ask::Record(v1::Record { decision_index, .. })
            | Ask::Redeem(v1::Redeem { decision_index, .. }),
        ) => {
            let decision = ledger::entry(state, LeafIndex(decision_index))?;
            let request = decision
                .filter(|decision| decision.index < entry.index)
                .and_then(|decision| ledger_core::entry::command(&decision).ok().flatten());
            if let Some(Ask::Authorize(ask)) = request.and_then(|request| request.body) {
                of_request(&mut about, &ask);
            }
        }
        Some(
            Ask::CloseSession(v1::CloseSession { session_id }) | Ask::Seal(v1::Seal { session_id }),
        ) => {
            about.whom = session(state, &session_id)?.map(|session| Identity::Agent(session.agent));
        }
        Some(Ask::RetireKey(ask)) => {
            if let Ok(id) = ledger_core::id::KeyId::from_slice(&ask.key_id) {
                let key: Option<v1::KeyRecord> = read(state, &Key::public_key(id))?;
                about.whom = key.and_then(|key| key.identity).as_ref().and_then(parse);
            }
        }
        Some(ask) => about.whom = named(ask),
        None => {}
    }
    Ok(about)
}

fn of_request(about: &mut About, ask: &v1::Authorize) {
    about.whom = Some(Identity::Agent(ask.agent.clone()));
    about.action = ask.tool.as_ref().map(action_id);
}

/// The identity that a command names by itself.
fn named(ask: Ask) -> Option<Identity> {
    let parse = |identity: Option<v1::Identity>| {
        identity.and_then(|identity| Identity::parse(&identity).ok())
    };
    match ask {
        Ask::OpenSession(ask) => Some(Identity::Agent(ask.agent)),
        Ask::RegisterAgent(ask) => Some(Identity::Agent(ask.id)),
        Ask::UpdateAgent(ask) => Some(Identity::Agent(ask.id)),
        Ask::RegisterGateway(ask) => Some(Identity::Gateway(ask.id)),
        Ask::UpdateGateway(ask) => Some(Identity::Gateway(ask.id)),
        Ask::RegisterOperator(ask) => Some(Identity::Operator(ask.id)),
        Ask::UpdateOperator(ask) => Some(Identity::Operator(ask.id)),
        Ask::SetStatus(ask) => parse(ask.identity),
        Ask::AddKey(ask) => parse(ask.identity),
        Ask::Authorize(_)
        | Ask::Record(_)
        | Ask::Redeem(_)
        | Ask::CloseSession(_)
        | Ask::Seal(_)
        | Ask::RetireKey(_)
        | Ask::CreateNamespace(_)
        | Ask::UpdateNamespace(_)
        | Ask::SetHalt(_)
        | Ask::ClearHalt(_)
        | Ask::PublishBundle(_)
        | Ask::ActivateBundle(_)
        | Ask::Erase(_)
        | Ask::UpdateMembership(_)
        | Ask::ActivateEngine(_)
        | Ask::ActivateCluster(_)
        | Ask::AdjustTime(_)
        | Ask::DeclareSupport(_)
        | Ask::AttestState(_)
        | Ask::ReplaceAdmins(_) => None,
    }
}

/// The id of the action that a tool is: "server/name", or "name".
#[must_use]
pub fn action_id(tool: &v1::Tool) -> String {
    if tool.server.is_empty() {
        tool.name.clone()
    } else {
        format!("{}/{}", tool.server, tool.name)
    }
}

pub(super) fn session(
    state: &dyn State,
    id: &[u8],
) -> Result<Option<v1::SessionRecord>, StateError> {
    SessionId::from_slice(id).map_or(Ok(None), |id| read(state, &Key::session(id)))
}

/// The kind of an entry.
#[must_use]
pub const fn kind(entry: &v1::Entry) -> EntryKind {
    match entry.body {
        Some(Body::Genesis(_)) => EntryKind::Genesis,
        Some(Body::Decision(_)) => EntryKind::Decision,
        Some(Body::Outcome(_)) => EntryKind::Outcome,
        Some(Body::Redemption(_)) => EntryKind::Redemption,
        Some(Body::SessionOpening(_)) => EntryKind::SessionOpening,
        Some(Body::SessionEnd(_)) => EntryKind::SessionEnd,
        Some(Body::Governance(_)) => EntryKind::Governance,
        None => EntryKind::Unspecified,
    }
}
