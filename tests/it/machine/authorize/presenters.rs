//! Who may present a request: the agent, a gateway, or both; and what is believed of each.

use countersign_tests::kit::{Ask, World, bundle, decision_of};
use ledger_core::id::{Identity, SessionId};
use ledger_core::state::{Key, read as read_record};
use ledger_proto::v1::{
    self, Assurance, DecisionReason as Reason, GatewayPermission, IdentityStatus, command::Body,
};

use super::{agent, asked, gateway, read, register_gateway};

fn world() -> (World, SessionId) {
    let mut world = World::new();
    world.agent("bot");
    world.agent("other");
    world.policy(
        "team",
        &bundle(
            "agent",
            "@id(\"all\") permit (principal, action, resource);",
        ),
    );
    world.govern(Body::CreateNamespace(v1::CreateNamespace {
        name: "elsewhere".to_owned(),
        owners: Vec::new(),
        single_use: false,
    }));
    let authorize = &[GatewayPermission::Authorize];
    register_gateway(&mut world, "gate", "team", authorize);
    register_gateway(&mut world, "global", "*", authorize);
    register_gateway(&mut world, "foreign", "elsewhere", authorize);
    register_gateway(&mut world, "scribe", "team", &[GatewayPermission::Record]);
    register_gateway(&mut world, "asleep", "team", authorize);
    world.govern(Body::SetStatus(v1::SetStatus {
        identity: Some(gateway("asleep").to_message()),
        status: IdentityStatus::Suspended.into(),
    }));
    world.gateway("stranger", "other", authorize);
    let session = world.session("bot");
    (world, session)
}

#[test]
fn the_presenter_and_the_assurance_follow_from_the_signatures() {
    let (mut world, session) = world();
    let cases: [(&str, Ask, Option<(Identity, Assurance)>); 13] = [
        (
            "the agent",
            read(agent("bot"), session),
            Some((agent("bot"), Assurance::AgentSigned)),
        ),
        (
            "a gateway",
            read(gateway("gate"), session),
            Some((gateway("gate"), Assurance::GatewayAsserted)),
        ),
        (
            "a gateway of all",
            read(gateway("global"), session),
            Some((gateway("global"), Assurance::GatewayAsserted)),
        ),
        (
            "the agent, with a gateway",
            read(agent("bot"), session).cosigned(gateway("gate")),
            Some((gateway("gate"), Assurance::BothSigned)),
        ),
        (
            "a gateway, with the agent",
            read(gateway("gate"), session).cosigned(agent("bot")),
            Some((gateway("gate"), Assurance::BothSigned)),
        ),
        (
            "a gateway, with another: the author presents",
            read(gateway("global"), session).cosigned(gateway("gate")),
            Some((gateway("global"), Assurance::GatewayAsserted)),
        ),
        (
            "the agent, with its owner",
            read(agent("bot"), session).cosigned(Identity::Operator("olive".to_owned())),
            Some((agent("bot"), Assurance::AgentSigned)),
        ),
        (
            "a gateway of elsewhere",
            read(gateway("foreign"), session),
            None,
        ),
        (
            "a gateway that only records",
            read(gateway("scribe"), session),
            None,
        ),
        (
            "a suspended gateway",
            read(gateway("asleep"), session),
            None,
        ),
        (
            "a gateway of another agent",
            read(gateway("stranger"), session),
            None,
        ),
        ("another agent", read(agent("other"), session), None),
        (
            "another agent, with a gateway that may",
            read(agent("other"), session).cosigned(gateway("gate")),
            None,
        ),
    ];
    for (what, ask, expected) in cases {
        let answered = world.must(ask);
        let decision = decision_of(&answered.entry);
        match expected {
            Some((presenter, assurance)) => {
                assert_eq!(decision.reason(), Reason::AllowedByPolicy, "{what}");
                assert_eq!(decision.presenter, Some(presenter.to_message()), "{what}");
                assert_eq!(decision.assurance(), assurance, "{what}");
            }
            None => assert_eq!(decision.reason(), Reason::PresenterNotPermitted, "{what}"),
        }
    }
}

#[test]
fn every_gateway_that_signs_must_be_one_that_may() {
    let (mut world, session) = world();
    for bad in ["foreign", "scribe", "asleep", "stranger"] {
        let beside_agent = read(agent("bot"), session).cosigned(gateway(bad));
        assert_eq!(
            asked(&mut world, beside_agent),
            Reason::PresenterNotPermitted,
            "{bad}"
        );
        let beside_gateway = read(gateway("gate"), session).cosigned(gateway(bad));
        assert_eq!(
            asked(&mut world, beside_gateway),
            Reason::PresenterNotPermitted,
            "{bad}"
        );
    }
}

#[test]
fn nobody_writes_into_the_chain_of_a_session_it_may_not_present_for() {
    let (mut world, session) = world();
    let record = |world: &World| -> v1::SessionRecord {
        read_record(&world.state, &Key::session(session))
            .expect("sound")
            .expect("open")
    };
    let before = record(&world);
    for author in [agent("other"), gateway("stranger"), gateway("asleep")] {
        let denied = world.must(read(author, session));
        let decision = decision_of(&denied.entry);
        assert_eq!(decision.chain, None);
        assert_eq!(decision.rests_on.as_ref().unwrap().session, None);
    }
    assert_eq!(record(&world), before);
    // The agent's own denials are part of its story, whoever signed beside it.
    let denied = world.must(read(agent("bot"), session).cosigned(gateway("asleep")));
    let link = decision_of(&denied.entry).chain.clone().unwrap();
    assert_eq!((link.number, link.late), (2, false));
    assert_eq!(record(&world).count, 2);
}

#[test]
fn less_than_the_agents_minimum_is_too_low() {
    let minimums = [
        (Assurance::Unspecified, [true, true, true]),
        (Assurance::GatewayAsserted, [true, true, true]),
        (Assurance::AgentSigned, [false, true, true]),
        (Assurance::BothSigned, [false, false, true]),
    ];
    let (mut world, session) = world();
    for (minimum, suffices) in minimums {
        world.govern(Body::UpdateAgent(v1::UpdateAgent {
            id: "bot".to_owned(),
            owner: "olive".to_owned(),
            minimum_assurance: minimum.into(),
            ..v1::UpdateAgent::default()
        }));
        let asks = [
            read(gateway("gate"), session),
            read(agent("bot"), session),
            read(agent("bot"), session).cosigned(gateway("gate")),
        ];
        for (ask, suffices) in asks.into_iter().zip(suffices) {
            let expected = if suffices {
                Reason::AllowedByPolicy
            } else {
                Reason::AssuranceTooLow
            };
            assert_eq!(asked(&mut world, ask), expected, "{minimum:?}");
        }
    }
}

#[test]
fn a_gateway_of_a_group_acts_for_its_members_while_they_are_in_it() {
    let (mut world, _) = world();
    let keys = vec![world.enrol(&gateway("herd"))];
    world.govern(Body::RegisterGateway(v1::RegisterGateway {
        id: "herd".to_owned(),
        namespace: "team".to_owned(),
        owner: "olive".to_owned(),
        acts_for: vec![v1::ActsFor {
            target: Some(v1::acts_for::Target::Group("sheep".to_owned())),
        }],
        may: vec![GatewayPermission::Authorize.into()],
        keys,
    }));
    let session = world.session("bot");
    let expected = [
        (&["sheep"][..], Reason::AllowedByPolicy),
        (&[], Reason::PresenterNotPermitted),
    ];
    for (groups, expected) in expected {
        world.govern(Body::UpdateAgent(v1::UpdateAgent {
            id: "bot".to_owned(),
            owner: "olive".to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            ..v1::UpdateAgent::default()
        }));
        let ask = read(gateway("herd"), session);
        assert_eq!(asked(&mut world, ask), expected);
    }
}
