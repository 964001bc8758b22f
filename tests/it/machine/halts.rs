//! Halts at their edges: the last moment, what each scope covers, and who comes first.

use countersign_tests::kit::{Ask, SECOND, World, authorize_body, bank, decision_of};
use ledger_core::id::{Identity, SessionId};
use ledger_proto::v1::{
    self, CompartmentKind, DecisionReason as Reason, command::Body, halt_scope::Target,
};

fn world() -> (World, SessionId) {
    let mut world = World::new();
    world.agent("bot");
    world.policy("team", &bank());
    let session = world.session("bot");
    (world, session)
}

fn halt(id: &str, target: Target, expires_at_us: u64) -> Body {
    Body::SetHalt(v1::SetHalt {
        id: id.to_owned(),
        scope: Some(v1::HaltScope {
            target: Some(target),
        }),
        expires_at_us,
    })
}

fn reason(world: &mut World, session: SessionId) -> Reason {
    let decided = world.authorize("bot", session, "bank/read", r#"{"doc": "a"}"#);
    decision_of(&decided.entry).reason()
}

#[test]
fn a_halt_is_over_at_its_very_end_and_not_a_moment_sooner() {
    let (mut world, session) = world();
    let root = Identity::Operator("root".to_owned());
    let now = halt("now", Target::Everything(true), world.now_us);
    let result = world.result(Ask::new(root, now));
    assert_eq!(result, v1::Result::InvalidArgument);
    let end_us = world.now_us + 10 * SECOND;
    world.govern(halt("short", Target::Everything(true), end_us));
    world.now_us = end_us - 1;
    assert_eq!(reason(&mut world, session), Reason::Halted);
    world.now_us = end_us;
    assert_eq!(reason(&mut world, session), Reason::AllowedByPolicy);
    // The name of a halt that is over is free.
    let again_us = world.now_us + SECOND;
    world.govern(halt("short", Target::Everything(true), again_us));
}

#[test]
fn a_halt_covers_what_its_scope_says() {
    let cases = [
        (Target::Everything(true), true),
        (Target::Action("bank/read".to_owned()), true),
        (Target::Action("bank/*".to_owned()), true),
        (Target::Action("*".to_owned()), true),
        (Target::Action("bank/rea".to_owned()), false),
        (Target::Action("bank/pay".to_owned()), false),
        (Target::Namespace("team".to_owned()), true),
        (Target::Agent("bot".to_owned()), true),
        (Target::Group("others".to_owned()), false),
    ];
    for (target, covers) in cases {
        let (mut world, session) = world();
        world.govern(halt("h", target.clone(), 0));
        let expected = if covers {
            Reason::Halted
        } else {
            Reason::AllowedByPolicy
        };
        assert_eq!(reason(&mut world, session), expected, "{target:?}");
    }
}

#[test]
fn a_tool_without_a_server_has_no_slash() {
    let (mut world, session) = world();
    let Body::Authorize(mut ask) = authorize_body("bot", session, "bank/read") else {
        panic!("not an Authorize");
    };
    ask.tool = Some(v1::Tool {
        name: "bank/read".to_owned(),
        ..v1::Tool::default()
    });
    let ask = Ask::new(Identity::Agent("bot".to_owned()), Body::Authorize(ask))
        .with(CompartmentKind::Input, br#"{"doc": "a"}"#);
    let decided = world.must(ask);
    assert_eq!(decision_of(&decided.entry).reason(), Reason::InvalidRequest);
}
