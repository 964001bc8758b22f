//! Every kind of command, where it is handled, and how its rejection looks.

use ledger_proto::v1::{self, command::Body as Ask, entry::Body};

use super::context::{Context, Stop};
use super::{
    attestation, authorize, bundle, erase, halt, keyring, membership, operator, record, redeem,
    registry, session, status, time,
};

/// Every kind of command and where it is handled.
pub(super) fn dispatch(context: &mut Context<'_, '_>, body: &Ask) -> Result<Body, Stop> {
    match body {
        Ask::Authorize(ask) => authorize::authorize(context, ask).map(Body::Decision),
        Ask::Record(ask) => record::record(context, ask).map(Body::Outcome),
        Ask::Redeem(ask) => redeem::redeem(context, ask).map(Body::Redemption),
        Ask::OpenSession(ask) => session::open(context, ask).map(Body::SessionOpening),
        Ask::CloseSession(ask) => session::close(context, ask).map(Body::SessionEnd),
        Ask::Seal(ask) => session::seal(context, ask).map(Body::SessionEnd),
        Ask::RegisterAgent(ask) => govern(context, ask, registry::register_agent),
        Ask::UpdateAgent(ask) => govern(context, ask, registry::update_agent),
        Ask::RegisterGateway(ask) => govern(context, ask, registry::register_gateway),
        Ask::UpdateGateway(ask) => govern(context, ask, registry::update_gateway),
        Ask::SetStatus(ask) => govern(context, ask, status::set_status),
        Ask::AddKey(ask) => govern(context, ask, keyring::add_key),
        Ask::RetireKey(ask) => govern(context, ask, keyring::retire_key),
        Ask::RegisterOperator(ask) => govern(context, ask, operator::register_operator),
        Ask::UpdateOperator(ask) => govern(context, ask, operator::update_operator),
        Ask::ReplaceAdmins(ask) => govern(context, ask, operator::replace_admins),
        Ask::CreateNamespace(ask) => govern(context, ask, registry::create_namespace),
        Ask::UpdateNamespace(ask) => govern(context, ask, registry::update_namespace),
        Ask::SetHalt(ask) => govern(context, ask, halt::set_halt),
        Ask::ClearHalt(ask) => govern(context, ask, halt::clear_halt),
        Ask::PublishBundle(ask) => govern(context, ask, bundle::publish),
        Ask::ActivateBundle(ask) => govern(context, ask, bundle::activate),
        Ask::Erase(ask) => govern(context, ask, erase::erase),
        Ask::UpdateMembership(ask) => govern(context, ask, membership::update),
        Ask::ActivateEngine(ask) => govern(context, ask, membership::activate_engine),
        Ask::ActivateCluster(ask) => govern(context, ask, membership::activate_cluster),
        Ask::AdjustTime(ask) => govern(context, ask, time::adjust),
        Ask::DeclareSupport(ask) => govern(context, ask, membership::declare_support),
        Ask::AttestState(ask) => govern(context, ask, attestation::attest_state),
    }
}

/// Runs a governance handler. A REASON that is committed to must be there.
fn govern<'a, 's, A>(
    context: &mut Context<'a, 's>,
    ask: &A,
    handler: fn(&mut Context<'a, 's>, &A) -> Result<v1::Governance, Stop>,
) -> Result<Body, Stop> {
    context.require_reason()?;
    handler(context, ask).map(Body::Governance)
}

/// The body of the entry of a command that had no effect.
pub(super) fn rejection(body: &Ask, result: v1::Result) -> Body {
    if matches!(body, Ask::OpenSession(_)) {
        return Body::SessionOpening(v1::SessionOpening {
            result: result.into(),
            ..v1::SessionOpening::default()
        });
    }
    if let Ask::CloseSession(v1::CloseSession { session_id }) | Ask::Seal(v1::Seal { session_id }) =
        body
    {
        return Body::SessionEnd(v1::SessionEnd {
            result: result.into(),
            session_id: session_id.clone(),
            ..v1::SessionEnd::default()
        });
    }
    Body::Governance(v1::Governance {
        result: result.into(),
        ..v1::Governance::default()
    })
}
