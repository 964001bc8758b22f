//! Authorize: every reason, the order of the checks, who may present, and what rules get to see.

mod facts;
mod order;
mod presenters;
mod reasons;

use countersign_tests::kit::{Ask, World, authorize_body, decision_of};
use ledger_core::id::{Identity, SessionId};
use ledger_core::machine::{Appended, Applied};
use ledger_proto::v1::{self, CompartmentKind, DecisionReason, command::Body};

/// Arguments that fit the tool "bank/read".
const READ: &str = r#"{"doc": "a"}"#;

fn agent(id: &str) -> Identity {
    Identity::Agent(id.to_owned())
}

fn gateway(id: &str) -> Identity {
    Identity::Gateway(id.to_owned())
}

/// A request for "bank/read" by the agent "bot", not yet signed.
fn read(author: Identity, session: SessionId) -> Ask {
    Ask::new(author, authorize_body("bot", session, "bank/read"))
        .with(CompartmentKind::Input, READ.as_bytes())
}

fn reason(appended: &Appended) -> DecisionReason {
    decision_of(&appended.entry).reason()
}

/// The reason of the decision on a request.
fn asked(world: &mut World, ask: Ask) -> DecisionReason {
    reason(&world.must(ask))
}

/// The reason of the decision on a submission.
fn applied(world: &mut World, submission: &v1::Submission) -> DecisionReason {
    match world.apply(submission) {
        Applied::Appended(appended) => reason(&appended),
        other => panic!("no entry: {other:?}"),
    }
}

fn register_gateway(world: &mut World, id: &str, namespace: &str, may: &[v1::GatewayPermission]) {
    let keys = vec![world.enrol(&gateway(id))];
    world.govern(Body::RegisterGateway(v1::RegisterGateway {
        id: id.to_owned(),
        namespace: namespace.to_owned(),
        owner: "olive".to_owned(),
        acts_for: vec![v1::ActsFor {
            target: Some(v1::acts_for::Target::Agent("bot".to_owned())),
        }],
        may: may.iter().map(|may| i32::from(*may)).collect(),
        keys,
    }));
}
