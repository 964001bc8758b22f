//! Who said it: a fact reaches rules as the word of whoever vouches for it, and an agent's own word only as that.

use countersign_tests::kit::{
    Ask, World, bank, bundle, decision_of, input_digest, outcome_of, result_of, session_of,
};
use ledger_core::id::{Identity, SessionId};
use ledger_core::machine::Appended;
use ledger_proto::v1::{
    self, CompartmentKind, DecisionReason as Reason, Drift, ExecutionStatus, GatewayPermission,
    Notice, Verdict, command::Body,
};
use prost::Message;

const READ: &str = r#"{"doc": "a"}"#;
const TICKET: &str = r#"{"ticket": "T-1"}"#;

fn agent(id: &str) -> Identity {
    Identity::Agent(id.to_owned())
}

fn gateway(id: &str) -> Identity {
    Identity::Gateway(id.to_owned())
}

fn operator(id: &str) -> Identity {
    Identity::Operator(id.to_owned())
}

/// An agent "bot", and a gateway "gate" that may do everything for it, under these rules.
fn world(rules: &str) -> World {
    let mut world = World::new();
    world.agent("bot");
    let may = [
        GatewayPermission::Record,
        GatewayPermission::OpenSession,
        GatewayPermission::AssertSubject,
    ];
    world.gateway("gate", "bot", &may);
    world.policy("team", &bundle("agent", rules));
    world
}

fn open(by: &Identity, agent: &str, parent: Option<SessionId>) -> Ask {
    Ask::new(
        by.clone(),
        Body::OpenSession(v1::OpenSession {
            agent: agent.to_owned(),
            parent: parent.map(SessionId::to_vec).unwrap_or_default(),
            scope: vec!["*".to_owned()],
            ..v1::OpenSession::default()
        }),
    )
}

fn told(ask: Ask, context: &v1::SessionContext) -> Ask {
    ask.with(CompartmentKind::Context, &context.encode_to_vec())
}

fn reason(world: &mut World, agent: &str, session: SessionId) -> Reason {
    let answer = world.authorize(agent, session, "bank/read", READ);
    decision_of(&answer.entry).reason()
}

/// What becomes of a reading in a session that this identity opens with a context.
fn asked_in(world: &mut World, by: &Identity, agent: &str, context: &v1::SessionContext) -> Reason {
    let opened = world.must(told(open(by, agent, None), context));
    assert_eq!(result_of(&opened.entry), v1::Result::Applied, "{by}");
    reason(world, agent, session_of(&opened))
}

#[test]
fn an_agent_or_gateway_of_an_operators_name_is_not_that_operator() {
    let rules = r#"@id("by-olive") permit (principal, action, resource)
when { context.session.issuer has operator && context.session.issuer.operator == Countersign::Operator::"olive" };"#;
    let mut world = world(rules);
    world.agent("olive");
    world.gateway("olive", "bot", &[GatewayPermission::OpenSession]);
    let nothing = v1::SessionContext::default();
    let by_olive = asked_in(&mut world, &operator("olive"), "bot", &nothing);
    assert_eq!(by_olive, Reason::AllowedByPolicy);
    for (other, of) in [
        (agent("olive"), "olive"),
        (gateway("olive"), "bot"),
        (operator("root"), "bot"),
        (agent("bot"), "bot"),
    ] {
        let found = asked_in(&mut world, &other, of, &nothing);
        assert_eq!(found, Reason::NoMatchingPermit, "{other}");
    }
}

#[test]
fn the_purpose_that_an_agent_gives_itself_is_a_claim() {
    let rules = r#"@id("payout") permit (principal, action, resource)
when { context.session has purpose && context.session.purpose == "month-end payout" };
@id("claimed") permit (principal, action == Countersign::Action::"bank/deploy", resource)
when { context.request.claims.hasTag("purpose") && context.request.claims.getTag("purpose") == ["month-end payout"] };"#;
    let mut world = world(rules);
    world.agent("child");
    let payout = v1::SessionContext {
        purpose: "month-end payout".to_owned(),
        ..v1::SessionContext::default()
    };
    for by in [operator("olive"), gateway("gate")] {
        let found = asked_in(&mut world, &by, "bot", &payout);
        assert_eq!(found, Reason::AllowedByPolicy, "{by}");
    }
    let own = asked_in(&mut world, &agent("bot"), "bot", &payout);
    assert_eq!(own, Reason::NoMatchingPermit);
    // A child of a session that others opened narrows it, and its purpose is its opener's word all the same.
    let parent = world.session_with("bot", &payout);
    for of in ["bot", "child"] {
        let child = world.must(told(open(&agent("bot"), of, Some(parent)), &payout));
        let child = session_of(&child);
        assert_eq!(reason(&mut world, of, child), Reason::NoMatchingPermit);
        let deploy = world.authorize(of, child, "bank/deploy", TICKET);
        let rules = decision_of(&deploy.entry).rules.as_ref().unwrap();
        assert_eq!(rules.ids, ["claimed"]);
    }
}

#[test]
fn a_subject_that_nobody_vouches_for_is_a_claim() {
    let rules = r#"@id("carol") permit (principal, action, resource)
when { context.session has subject && context.session.subject.sub == "carol" };
@id("claimed") permit (principal, action == Countersign::Action::"bank/deploy", resource)
when { context.request.claims.hasTag("subject.sub") && context.request.claims.getTag("subject.sub").contains("carol")
    && context.request.claims.hasTag("subject.iss") && context.request.claims.getTag("subject.iss").contains("idp") };"#;
    let mut world = world(rules);
    world.gateway("guess", "bot", &[GatewayPermission::OpenSession]);
    let carol = v1::SessionContext {
        subject: Some(v1::Subject {
            iss: "idp".to_owned(),
            sub: "carol".to_owned(),
        }),
        ..v1::SessionContext::default()
    };
    for by in [operator("olive"), gateway("gate")] {
        let found = asked_in(&mut world, &by, "bot", &carol);
        assert_eq!(found, Reason::AllowedByPolicy, "{by}");
    }
    for by in [agent("bot"), gateway("guess")] {
        let opened = world.must(told(open(&by, "bot", None), &carol));
        let session = session_of(&opened);
        let found = reason(&mut world, "bot", session);
        assert_eq!(found, Reason::NoMatchingPermit, "{by}");
        let deploy = world.authorize("bot", session, "bank/deploy", TICKET);
        let rules = decision_of(&deploy.entry).rules.as_ref().unwrap();
        assert_eq!(rules.ids, ["claimed"], "{by}");
    }
}

/// Records that the action of a decision succeeded, as authorized.
fn record(
    world: &mut World,
    by: Identity,
    decision: &Appended,
    status: ExecutionStatus,
) -> v1::Outcome {
    let record = v1::Record {
        decision_index: decision.index.0,
        status: status.into(),
        executed_input_digest: input_digest(&decision.entry),
        ..v1::Record::default()
    };
    let ask = Ask::new(by, Body::Record(record)).with(CompartmentKind::Output, br#"{"ok": true}"#);
    outcome_of(&world.must(ask).entry).clone()
}

/// An approver "boss" for whom "gate" records, a deployer "bot", and an approval that was allowed.
fn approval(policy: &policy_engine::Bundle) -> (World, SessionId, Appended) {
    let mut world = World::new();
    world.agent_in("team", "boss", &["approvers"]);
    world.agent("bot");
    world.gateway("gate", "boss", &[GatewayPermission::Record]);
    world.policy("team", policy);
    let (boss, bot) = (world.session("boss"), world.session("bot"));
    let allowed = world.authorize("boss", boss, "bank/approve", TICKET);
    assert_eq!(decision_of(&allowed.entry).verdict(), Verdict::Allow);
    (world, bot, allowed)
}

fn is_unlocked(world: &mut World, bot: SessionId) -> bool {
    let answer = world.authorize("bot", bot, "bank/deploy", TICKET);
    decision_of(&answer.entry).verdict() == Verdict::Allow
}

#[test]
fn an_outcome_that_the_agent_recorded_itself_unlocks_nothing_and_keeps_nobody_from_recording() {
    let (mut world, bot, allowed) = approval(&bank());
    let own = record(
        &mut world,
        agent("boss"),
        &allowed,
        ExecutionStatus::Succeeded,
    );
    assert_eq!((own.drift, own.observed), (vec![], true));
    assert_eq!(own.notices, [i32::from(Notice::SelfReported)]);
    assert!(!is_unlocked(&mut world, bot));
    let again = record(
        &mut world,
        agent("boss"),
        &allowed,
        ExecutionStatus::Succeeded,
    );
    assert_eq!(again.drift, [i32::from(Drift::AlreadyRecorded)]);
    let recorded = record(
        &mut world,
        gateway("gate"),
        &allowed,
        ExecutionStatus::Succeeded,
    );
    assert_eq!((recorded.drift, recorded.observed), (vec![], true));
    assert!(is_unlocked(&mut world, bot));
    // The gateway's word stands.
    for by in [agent("boss"), gateway("gate")] {
        let late = record(&mut world, by, &allowed, ExecutionStatus::Failed);
        assert_eq!(late.drift, [i32::from(Drift::AlreadyRecorded)]);
        assert!(!late.observed);
    }
}

#[test]
fn a_rule_that_names_the_agents_own_word_or_the_recorder_gets_what_it_asks_for() {
    use ExecutionStatus::{Failed, Succeeded};
    let rule = |event: &str| {
        let rules = format!(
            "@id(\"approve\") permit (principal, action == Countersign::Action::\"bank/approve\", resource);
             @id(\"deploy\") permit (principal, action == Countersign::Action::\"bank/deploy\", resource)
             when temporal {{ formerly within 1h Countersign::Action::\"bank/approve\"::{event} }};"
        );
        bundle("namespace", &rules)
    };
    let gate = "recorder: Countersign::Gateway::\"gate\"";
    let door = "recorder: Countersign::Gateway::\"door\"";
    let boss = "recorder: Countersign::Agent::\"boss\"";
    for (event, by, status, unlocks) in [
        (
            "self_reported_response{}".to_owned(),
            agent("boss"),
            Succeeded,
            true,
        ),
        (
            format!("self_reported_response{{ {boss} }}"),
            agent("boss"),
            Succeeded,
            true,
        ),
        (
            "self_reported_response{}".to_owned(),
            gateway("gate"),
            Succeeded,
            false,
        ),
        (
            "self_reported_error{}".to_owned(),
            agent("boss"),
            Failed,
            true,
        ),
        ("error{}".to_owned(), agent("boss"), Failed, false),
        ("error{}".to_owned(), gateway("gate"), Failed, true),
        (
            "response{ output.ok: true }".to_owned(),
            agent("boss"),
            Succeeded,
            false,
        ),
        (
            format!("response{{ {gate} }}"),
            gateway("gate"),
            Succeeded,
            true,
        ),
        (
            format!("response{{ {door} }}"),
            gateway("gate"),
            Succeeded,
            false,
        ),
    ] {
        let (mut world, bot, allowed) = approval(&rule(&event));
        let outcome = record(&mut world, by.clone(), &allowed, status);
        assert!(outcome.observed);
        assert_eq!(is_unlocked(&mut world, bot), unlocks, "{event} by {by}");
    }
}

fn others_only(world: &mut World, id: &str) {
    world.govern(Body::UpdateAgent(v1::UpdateAgent {
        id: id.to_owned(),
        owner: "olive".to_owned(),
        session_issuers: v1::SessionIssuers::OthersOnly.into(),
        ..v1::UpdateAgent::default()
    }));
}

#[test]
fn an_agent_whose_sessions_others_open_opens_none_but_children_of_theirs() {
    let mut world = world("@id(\"all\") permit (principal, action, resource);");
    world.agent("boss");
    let before = session_of(&world.must(open(&agent("bot"), "bot", None)));
    let inside = session_of(&world.must(open(&agent("bot"), "bot", Some(before))));
    assert_eq!(reason(&mut world, "bot", before), Reason::AllowedByPolicy);
    others_only(&mut world, "bot");
    let refused = v1::Result::SessionIssuerNotPermitted;
    assert_eq!(world.result(open(&agent("bot"), "bot", None)), refused);
    let child = open(&agent("bot"), "bot", Some(before));
    assert_eq!(world.result(child), refused);
    // What it had opened before gives it nothing any more.
    for session in [before, inside] {
        assert_eq!(
            reason(&mut world, "bot", session),
            Reason::SessionIssuerNotPermitted
        );
    }
    // Another agent's word is no better.
    let boss = session_of(&world.must(open(&agent("boss"), "boss", None)));
    assert_eq!(
        world.result(open(&agent("boss"), "bot", Some(boss))),
        refused
    );
    for by in [operator("olive"), gateway("gate")] {
        let opened = session_of(&world.must(open(&by, "bot", None)));
        assert_eq!(reason(&mut world, "bot", opened), Reason::AllowedByPolicy);
        let child = session_of(&world.must(open(&agent("bot"), "bot", Some(opened))));
        assert_eq!(reason(&mut world, "bot", child), Reason::AllowedByPolicy);
    }
    let given = world.session("boss");
    let child = session_of(&world.must(open(&agent("boss"), "bot", Some(given))));
    assert_eq!(reason(&mut world, "bot", child), Reason::AllowedByPolicy);
}

#[test]
fn who_may_open_sessions_is_one_of_what_there_is() {
    let mut world = world("@id(\"all\") permit (principal, action, resource);");
    let update = Body::UpdateAgent(v1::UpdateAgent {
        id: "bot".to_owned(),
        owner: "olive".to_owned(),
        session_issuers: 2,
        ..v1::UpdateAgent::default()
    });
    let result = world.result(Ask::new(operator("root"), update));
    assert_eq!(result, v1::Result::InvalidArgument);
}
