//! One request that fails every check, mended one fault at a time: each time the next check decides.

use countersign_tests::kit::{Ask, SECOND, World, authorize_body, bank, session_of};
use ledger_core::id::{Identity, SessionId};
use ledger_core::limits::MAX_INPUT_LEN;
use ledger_proto::v1::{
    self, Assurance, CompartmentKind, DecisionReason as Reason, GatewayPermission, IdentityStatus,
    command::Body,
};

use super::{agent, applied, gateway, register_gateway};

/// What of the request is still wrong.
struct Request {
    call_id: String,
    session: SessionId,
    tool: &'static str,
    by_agent_too: bool,
    input: Vec<u8>,
    input_comes: bool,
}

impl Request {
    fn ask(&self, world: &mut World) -> Reason {
        let mut body = authorize_body("bot", self.session, self.tool);
        if let Body::Authorize(authorize) = &mut body {
            authorize.tool_call_id.clone_from(&self.call_id);
        }
        let mut ask = Ask::new(gateway("gate"), body).with(CompartmentKind::Input, &self.input);
        if self.by_agent_too {
            ask = ask.cosigned(agent("bot"));
        }
        let mut submission = world.sign(ask);
        if !self.input_comes {
            submission.compartments.clear();
        }
        applied(world, &submission)
    }
}

fn set_status(world: &mut World, status: IdentityStatus) {
    world.govern(Body::SetStatus(v1::SetStatus {
        identity: Some(agent("bot").to_message()),
        status: status.into(),
    }));
}

fn open(world: &mut World, scope: &str, ttl_s: u32) -> SessionId {
    session_of(&world.must(Ask::new(
        Identity::Operator("olive".to_owned()),
        Body::OpenSession(v1::OpenSession {
            agent: "bot".to_owned(),
            scope: vec![scope.to_owned()],
            ttl_s,
            ..v1::OpenSession::default()
        }),
    )))
}

/// A ledger with "bot", which must both sign and be vouched for, three sessions of it, and a halt.
fn prepare(world: &mut World) -> [SessionId; 3] {
    world.agent("bot");
    world.govern(Body::UpdateAgent(v1::UpdateAgent {
        id: "bot".to_owned(),
        owner: "olive".to_owned(),
        minimum_assurance: Assurance::BothSigned.into(),
        ..v1::UpdateAgent::default()
    }));
    register_gateway(world, "gate", "team", &[]);
    let sessions = [("other/*", 600), ("other/*", 1), ("bank/*", 600)]
        .map(|(scope, ttl_s)| open(world, scope, ttl_s));
    world.must(Ask::new(
        Identity::Operator("olive".to_owned()),
        Body::CloseSession(v1::CloseSession {
            session_id: sessions[0].to_vec(),
        }),
    ));
    set_status(world, IdentityStatus::Suspended);
    world.govern(Body::SetHalt(v1::SetHalt {
        id: "stop".to_owned(),
        scope: Some(v1::HaltScope {
            target: Some(v1::halt_scope::Target::Everything(true)),
        }),
        expires_at_us: 0,
    }));
    world.now_us += SECOND;
    sessions
}

#[test]
fn the_first_check_that_fails_decides() {
    let mut world = World::new();
    let [closed, expired, open_session] = prepare(&mut world);
    let mut request = Request {
        call_id: "x".repeat(1_025),
        session: SessionId::from_bytes([9; 16]),
        tool: "bank/nothing",
        by_agent_too: false,
        input: vec![b'['; usize::try_from(MAX_INPUT_LEN).unwrap() + 1],
        input_comes: false,
    };
    assert_eq!(request.ask(&mut world), Reason::InvalidRequest);
    request.call_id.clear();
    assert_eq!(request.ask(&mut world), Reason::Halted);
    world.govern(Body::ClearHalt(v1::ClearHalt {
        id: "stop".to_owned(),
    }));
    assert_eq!(request.ask(&mut world), Reason::AgentSuspended);
    set_status(&mut world, IdentityStatus::Active);
    assert_eq!(request.ask(&mut world), Reason::PresenterNotPermitted);
    world.govern(Body::UpdateGateway(v1::UpdateGateway {
        id: "gate".to_owned(),
        owner: "olive".to_owned(),
        acts_for: vec![v1::ActsFor {
            target: Some(v1::acts_for::Target::Agent("bot".to_owned())),
        }],
        may: vec![GatewayPermission::Authorize.into()],
    }));
    assert_eq!(request.ask(&mut world), Reason::SessionUnknown);
    request.session = closed;
    assert_eq!(request.ask(&mut world), Reason::SessionClosed);
    request.session = expired;
    assert_eq!(request.ask(&mut world), Reason::SessionExpired);
    request.session = open_session;
    request.tool = "banks/nothing";
    assert_eq!(request.ask(&mut world), Reason::OutOfScope);
    request.tool = "bank/nothing";
    assert_eq!(request.ask(&mut world), Reason::AssuranceTooLow);
    request.by_agent_too = true;
    assert_eq!(request.ask(&mut world), Reason::InputTooLarge);
    request.input = b"[]".to_vec();
    assert_eq!(request.ask(&mut world), Reason::CommitmentMismatch);
    request.input_comes = true;
    assert_eq!(request.ask(&mut world), Reason::NoActivePolicy);
    world.policy("team", &bank());
    assert_eq!(request.ask(&mut world), Reason::UnknownAction);
    request.tool = "bank/pay";
    assert_eq!(request.ask(&mut world), Reason::SchemaMismatch);
    request.input = br#"{"to": "mallory", "amount": 1}"#.to_vec();
    assert_eq!(request.ask(&mut world), Reason::ForbiddenByPolicy);
    request.input = br#"{"to": "alice", "amount": 1}"#.to_vec();
    assert_eq!(request.ask(&mut world), Reason::AllowedByPolicy);
}

#[test]
fn a_session_both_expired_and_closed_is_closed() {
    let mut world = World::new();
    world.agent("bot");
    let session = open(&mut world, "*", 1);
    world.must(Ask::new(
        agent("bot"),
        Body::CloseSession(v1::CloseSession {
            session_id: session.to_vec(),
        }),
    ));
    world.now_us += 2 * SECOND;
    let denied = world.authorize("bot", session, "bank/read", super::READ);
    assert_eq!(super::reason(&denied), Reason::SessionClosed);
}
