//! What rules get to see, and who must have said it: resources, grants, claims, scopes, conditions.

use countersign_tests::kit::{Ask, World, authorize_body, bundle, decision_of, session_of};
use ledger_core::id::{Identity, SessionId};
use ledger_core::machine::scope_holds;
use ledger_proto::v1::{
    self, CompartmentKind, DecisionReason as Reason, GatewayPermission, command::Body,
};
use prost::Message;

use super::{READ, agent, asked, gateway, read, register_gateway};

/// Denied only if a gateway said that the resource is of type "vault".
const VAULT: &str = r#"
@id("all") permit (principal, action, resource);
@id("vault") forbid (principal, action, resource) when { resource has type && resource.type == "vault" };
@id("gold") forbid (principal, action, resource) when { resource.hasTag("metal") && resource.getTag("metal") == "gold" };
@id("safe") forbid (principal, action, resource) when { resource in Countersign::Resource::"safe" };
@id("named") forbid (principal, action, resource == Countersign::Resource::"secret");
"#;

fn resource(facts: &v1::ResourceFacts, ask: Ask) -> Ask {
    ask.with(CompartmentKind::Resource, &facts.encode_to_vec())
}

fn vault() -> v1::ResourceFacts {
    v1::ResourceFacts {
        id: "doc-1".to_owned(),
        r#type: "vault".to_owned(),
        ..v1::ResourceFacts::default()
    }
}

fn world(rules: &str) -> (World, SessionId) {
    let mut world = World::new();
    world.agent("bot");
    world.policy("team", &bundle("agent", rules));
    let may = [
        GatewayPermission::Authorize,
        GatewayPermission::AssertResource,
    ];
    register_gateway(&mut world, "knows", "team", &may);
    register_gateway(&mut world, "guesses", "team", &may[..1]);
    let session = world.session("bot");
    (world, session)
}

#[test]
fn facts_about_a_resource_count_only_from_a_gateway_that_may_assert_them() {
    let (mut world, session) = world(VAULT);
    let facts = [
        vault(),
        v1::ResourceFacts {
            parents: vec!["safe".to_owned()],
            ..v1::ResourceFacts::default()
        },
        v1::ResourceFacts {
            attributes: vec![v1::Attribute {
                name: "metal".to_owned(),
                value: "gold".to_owned(),
            }],
            ..v1::ResourceFacts::default()
        },
    ];
    for facts in &facts {
        for (author, expected) in [
            (gateway("knows"), Reason::ForbiddenByPolicy),
            (gateway("guesses"), Reason::AllowedByPolicy),
            (agent("bot"), Reason::AllowedByPolicy),
        ] {
            let ask = resource(facts, read(author.clone(), session));
            assert_eq!(asked(&mut world, ask), expected, "{author} on {facts:?}");
        }
        let both = resource(facts, read(agent("bot"), session)).cosigned(gateway("knows"));
        assert_eq!(asked(&mut world, both), Reason::ForbiddenByPolicy);
    }
}

#[test]
fn the_id_of_the_resource_is_the_request_itself() {
    let (mut world, session) = world(VAULT);
    let facts = v1::ResourceFacts {
        id: "secret".to_owned(),
        ..v1::ResourceFacts::default()
    };
    let ask = resource(&facts, read(agent("bot"), session));
    assert_eq!(asked(&mut world, ask), Reason::ForbiddenByPolicy);
    // Without one it is the action's own.
    let rules =
        r#"@id("own") permit (principal, action, resource == Countersign::Resource::"bank/read");"#;
    let (mut world, session) = self::world(rules);
    let ask = read(agent("bot"), session);
    assert_eq!(asked(&mut world, ask), Reason::AllowedByPolicy);
}

#[test]
fn resource_facts_that_are_malformed_fit_no_schema() {
    let (mut world, session) = world(VAULT);
    let unsorted = v1::ResourceFacts {
        parents: vec!["b".to_owned(), "a".to_owned()],
        ..v1::ResourceFacts::default()
    };
    let long = v1::ResourceFacts {
        id: "x".repeat(1_025),
        ..v1::ResourceFacts::default()
    };
    let mut contents: Vec<Vec<u8>> = [unsorted, long]
        .iter()
        .map(Message::encode_to_vec)
        .collect();
    contents.push(vec![0xff; 9]);
    let mut unknown_field = vault().encode_to_vec();
    unknown_field.extend_from_slice(&[0x78, 1]);
    contents.push(unknown_field);
    for content in contents {
        let ask = read(agent("bot"), session).with(CompartmentKind::Resource, &content);
        assert_eq!(asked(&mut world, ask), Reason::SchemaMismatch);
    }
    let too_large = read(agent("bot"), session).with(CompartmentKind::Resource, &[0; 16_385]);
    assert_eq!(asked(&mut world, too_large), Reason::InputTooLarge);
}

#[test]
fn grants_come_from_the_issuer_and_claims_are_only_claims() {
    let rules = r#"
@id("granted") permit (principal, action == Countersign::Action::"bank/read", resource)
when { context.session.grants.hasTag("docs") && context.session.grants.getTag("docs").contains(context.input.doc) };"#;
    let (mut world, _) = world(rules);
    let docs = vec![v1::StringSet {
        name: "docs".to_owned(),
        values: vec!["a".to_owned()],
    }];
    let granted = world.session_with(
        "bot",
        &v1::SessionContext {
            grants: docs.clone(),
            ..v1::SessionContext::default()
        },
    );
    let claimed = world.session_with(
        "bot",
        &v1::SessionContext {
            claims: docs,
            ..v1::SessionContext::default()
        },
    );
    let ask = read(agent("bot"), granted);
    assert_eq!(asked(&mut world, ask), Reason::AllowedByPolicy);
    let ask = read(agent("bot"), claimed);
    assert_eq!(asked(&mut world, ask), Reason::NoMatchingPermit);
}

#[test]
fn a_scope_holds_exact_names_and_prefixes() {
    let cases = [
        (&["*"][..], "anything/at-all", true),
        (&["bank/read"], "bank/read", true),
        (&["bank/read"], "bank/reader", false),
        (&["bank/read"], "bank/rea", false),
        (&["bank/*"], "bank/read", true),
        (&["bank/*"], "bank/", true),
        (&["bank/*"], "bank", false),
        (&["bank/*"], "banks/read", false),
        (&["bank/re*"], "bank/read", true),
        (&["a", "bank/*"], "bank/read", true),
        (&[], "bank/read", false),
        (&["Bank/*"], "bank/read", false),
    ];
    for (scope, action, holds) in cases {
        let scope: Vec<String> = scope.iter().map(|pattern| (*pattern).to_owned()).collect();
        assert_eq!(scope_holds(&scope, action), holds, "{scope:?} {action}");
    }
    let (mut world, _) = world("@id(\"all\") permit (principal, action, resource);");
    let opening = world.must(Ask::new(
        Identity::Operator("olive".to_owned()),
        Body::OpenSession(v1::OpenSession {
            agent: "bot".to_owned(),
            scope: vec!["bank/read".to_owned()],
            ..v1::OpenSession::default()
        }),
    ));
    let session = session_of(&opening);
    let ask = read(agent("bot"), session);
    assert_eq!(asked(&mut world, ask), Reason::AllowedByPolicy);
    let ask = Ask::new(agent("bot"), authorize_body("bot", session, "bank/deploy"))
        .with(CompartmentKind::Input, br#"{"ticket": "T"}"#);
    assert_eq!(asked(&mut world, ask), Reason::OutOfScope);
}

#[test]
fn conditions_are_sorted_and_a_decision_that_cannot_hold_them_denies() {
    let rules = r#"
@id("b") @obligation("notify:finance") permit (principal, action, resource);
@id("a") @advice("log:verbose") permit (principal, action, resource);"#;
    let (mut world, session) = world(rules);
    let allowed = world.authorize("bot", session, "bank/read", READ);
    let decision = decision_of(&allowed.entry);
    let conditions: Vec<(&str, &str, bool)> = decision
        .conditions
        .iter()
        .map(|condition| {
            (
                condition.r#type.as_str(),
                condition.value.as_str(),
                condition.critical,
            )
        })
        .collect();
    assert_eq!(
        conditions,
        [("log", "verbose", false), ("notify", "finance", true)]
    );
    assert_eq!(decision.rules.as_ref().unwrap().ids, ["a", "b"]);

    let many: String = (0..33)
        .map(|n| {
            format!(
                "@id(\"r{n}\") @obligation(\"call:{n}\") permit (principal, action, resource);\n"
            )
        })
        .collect();
    let (mut world, session) = self::world(&many);
    let denied = world.authorize("bot", session, "bank/read", READ);
    let decision = decision_of(&denied.entry);
    assert_eq!(decision.reason(), Reason::EvaluationError);
    assert_eq!(decision.conditions, []);
    assert_eq!(decision.rules.as_ref().unwrap().count, 33);
}
