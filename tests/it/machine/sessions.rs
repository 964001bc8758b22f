//! Sessions: who opens them, how children narrow, how the chain is numbered, how they end.

use countersign_tests::kit::{
    Ask, SECOND, World, authorize_body, bank, decision_of, outcome_of, result_of, session_of,
};
use ledger_core::id::{Identity, SessionId};
use ledger_core::machine::Appended;
use ledger_proto::v1::{
    self, CompartmentKind, DecisionReason as Reason, GatewayPermission, IdentityStatus, Notice,
    SessionEndKind, SubjectAssurance, Verdict, command::Body, entry,
};
use prost::Message;

const READ: &str = r#"{"doc": "a"}"#;

fn agent(id: &str) -> Identity {
    Identity::Agent(id.to_owned())
}

fn olive() -> Identity {
    Identity::Operator("olive".to_owned())
}

fn gate() -> Identity {
    Identity::Gateway("gate".to_owned())
}

fn opening(appended: &Appended) -> &v1::SessionOpening {
    match appended.entry.body.as_ref() {
        Some(entry::Body::SessionOpening(opening)) => opening,
        other => panic!("no opening but {other:?}"),
    }
}

fn ending(appended: &Appended) -> &v1::SessionEnd {
    match appended.entry.body.as_ref() {
        Some(entry::Body::SessionEnd(end)) => end,
        other => panic!("no end but {other:?}"),
    }
}

fn open(by: Identity, agent: &str, scope: &[&str], parent: Option<SessionId>) -> Ask {
    open_for(by, agent, scope, parent, 0)
}

fn open_for(
    by: Identity,
    agent: &str,
    scope: &[&str],
    parent: Option<SessionId>,
    ttl_s: u32,
) -> Ask {
    Ask::new(
        by,
        Body::OpenSession(v1::OpenSession {
            agent: agent.to_owned(),
            parent: parent.map(SessionId::to_vec).unwrap_or_default(),
            scope: scope.iter().map(|pattern| (*pattern).to_owned()).collect(),
            ttl_s,
            ..v1::OpenSession::default()
        }),
    )
}

fn told(ask: Ask, context: &v1::SessionContext) -> Ask {
    ask.with(CompartmentKind::Context, &context.encode_to_vec())
}

fn grants(values: &[&str]) -> v1::SessionContext {
    v1::SessionContext {
        grants: vec![v1::StringSet {
            name: "docs".to_owned(),
            values: values.iter().map(|value| (*value).to_owned()).collect(),
        }],
        ..v1::SessionContext::default()
    }
}

fn on_behalf() -> v1::SessionContext {
    v1::SessionContext {
        subject: Some(v1::Subject {
            iss: "https://id.test".to_owned(),
            sub: "alice".to_owned(),
        }),
        ..v1::SessionContext::default()
    }
}

fn close(by: Identity, session: SessionId) -> Ask {
    let session_id = session.to_vec();
    Ask::new(by, Body::CloseSession(v1::CloseSession { session_id }))
}

fn seal(session: SessionId) -> Ask {
    let session_id = session.to_vec();
    Ask::new(Identity::Node(2), Body::Seal(v1::Seal { session_id }))
}

fn world() -> World {
    let mut world = World::new();
    world.agent("bot");
    world.agent("child");
    world.policy("team", &bank());
    world
}

#[test]
fn only_an_issuer_other_than_the_agent_grants_and_only_some_assert_a_subject() {
    let mut world = world();
    let may = [
        GatewayPermission::OpenSession,
        GatewayPermission::AssertSubject,
    ];
    world.gateway("gate", "bot", &may);
    world.gateway("plain", "bot", &may[..1]);
    let plain = Identity::Gateway("plain".to_owned());
    let root = Identity::Operator("root".to_owned());
    let cases = [
        (
            agent("bot"),
            v1::Result::InvalidArgument,
            SubjectAssurance::Claimed,
        ),
        (
            olive(),
            v1::Result::Applied,
            SubjectAssurance::IssuerAsserted,
        ),
        (root, v1::Result::Applied, SubjectAssurance::IssuerAsserted),
        (
            gate(),
            v1::Result::Applied,
            SubjectAssurance::IssuerAsserted,
        ),
        (plain, v1::Result::Applied, SubjectAssurance::Claimed),
        (
            agent("child"),
            v1::Result::NotPermitted,
            SubjectAssurance::Unspecified,
        ),
    ];
    for (issuer, with_grants, assurance) in cases {
        let ask = told(open(issuer.clone(), "bot", &["*"], None), &grants(&["a"]));
        assert_eq!(world.result(ask), with_grants, "{issuer}");
        let opened = world.must(told(
            open(issuer.clone(), "bot", &["*"], None),
            &on_behalf(),
        ));
        assert_eq!(opening(&opened).subject_assurance(), assurance, "{issuer}");
    }
}

#[test]
fn fields_out_of_range_open_nothing() {
    let mut world = world();
    for scope in [&[][..], &["b", "a"], &["a", "a"], &["a*b"], &["**"], &[""]] {
        let ask = open(olive(), "bot", scope, None);
        assert_eq!(world.result(ask), v1::Result::InvalidArgument, "{scope:?}");
    }
    let long = open_for(olive(), "bot", &["*"], None, 86_401);
    assert_eq!(world.result(long), v1::Result::InvalidArgument);
    let longest = world.must(open_for(olive(), "bot", &["*"], None, 86_400));
    let ends = longest.entry.time_us + 86_400 * SECOND;
    assert_eq!(opening(&longest).expires_at_us, ends);
    let default = world.must(open(olive(), "bot", &["*"], None));
    let ends = default.entry.time_us + 3_600 * SECOND;
    assert_eq!(opening(&default).expires_at_us, ends);
    let unknown = open(olive(), "bot", &["*"], Some(SessionId::from_bytes([3; 16])));
    assert_eq!(world.result(unknown), v1::Result::NotFound);
}

#[test]
fn a_child_may_only_narrow() {
    let mut world = world();
    let mut context = grants(&["a", "b"]);
    context.subject = on_behalf().subject;
    let ask = open_for(olive(), "bot", &["bank/*", "mail/send"], None, 600);
    let parent = world.must(told(ask, &context));
    let (id, ends) = (session_of(&parent), opening(&parent).expires_at_us);
    let same = |values: &[&str]| v1::SessionContext {
        subject: context.subject.clone(),
        ..grants(values)
    };
    let cases: [(&[&str], v1::SessionContext, v1::Result); 9] = [
        (&["bank/*"], same(&["a"]), v1::Result::Applied),
        (
            &["bank/read", "mail/send"],
            same(&["a", "b"]),
            v1::Result::Applied,
        ),
        (&["bank/re*"], same(&[]), v1::Result::Applied),
        (&["*"], same(&["a"]), v1::Result::NotNarrower),
        (&["ban*"], same(&["a"]), v1::Result::NotNarrower),
        (&["mail/send*"], same(&["a"]), v1::Result::NotNarrower),
        (&["bank/*"], same(&["a", "c"]), v1::Result::NotNarrower),
        (&["bank/*"], grants(&["a"]), v1::Result::NotNarrower),
        (&["bank/*"], on_behalf(), v1::Result::Applied),
    ];
    for (scope, context, expected) in cases {
        let ask = open(agent("bot"), "child", scope, Some(id));
        assert_eq!(world.result(told(ask, &context)), expected, "{scope:?}");
    }
    let child = world.must(told(
        open(agent("bot"), "child", &["bank/*"], Some(id)),
        &same(&["a"]),
    ));
    let child = opening(&child);
    assert_eq!((child.expires_at_us, child.depth), (ends, 1));
    assert_eq!(child.subject_assurance(), SubjectAssurance::IssuerAsserted);
    assert_eq!(child.parent_leaf, Some(parent.index.0));
}

#[test]
fn the_parents_agent_or_issuer_signs_and_is_active() {
    let mut world = world();
    world.gateway("gate", "bot", &[GatewayPermission::OpenSession]);
    let parent = session_of(&world.must(open(gate(), "bot", &["*"], None)));
    let child = || open(agent("child"), "child", &["*"], Some(parent));
    assert_eq!(world.result(child()), v1::Result::NotPermitted);
    let by_owner = open(olive(), "child", &["*"], Some(parent));
    assert_eq!(world.result(by_owner), v1::Result::NotPermitted);
    for consents in [agent("bot"), gate()] {
        let ask = child().cosigned(consents.clone());
        assert_eq!(world.result(ask), v1::Result::Applied, "{consents}");
        world.govern(Body::SetStatus(v1::SetStatus {
            identity: Some(consents.to_message()),
            status: IdentityStatus::Suspended.into(),
        }));
        let ask = child().cosigned(consents.clone());
        assert_eq!(world.result(ask), v1::Result::NotPermitted, "{consents}");
    }
}

#[test]
fn depth_is_bounded_and_children_end_with_their_parents() {
    let mut world = world();
    let mut chain = vec![world.session("bot")];
    for depth in 1..=8 {
        let ask = open(agent("bot"), "bot", &["*"], chain.last().copied());
        let child = world.must(ask);
        assert_eq!(opening(&child).depth, depth);
        chain.push(session_of(&child));
    }
    let ninth = open(agent("bot"), "bot", &["*"], chain.last().copied());
    assert_eq!(world.result(ninth), v1::Result::FailedPrecondition);

    let deepest = chain[8];
    let allowed = world.authorize("bot", deepest, "bank/read", READ);
    assert_eq!(decision_of(&allowed.entry).verdict(), Verdict::Allow);
    assert_eq!(world.result(seal(deepest)), v1::Result::FailedPrecondition);
    assert_eq!(
        world.result(close(agent("bot"), chain[0])),
        v1::Result::Applied
    );
    let denied = world.authorize("bot", deepest, "bank/read", READ);
    assert_eq!(decision_of(&denied.entry).reason(), Reason::SessionClosed);
    let sealed = world.must(seal(deepest));
    assert_eq!(ending(&sealed).kind(), SessionEndKind::Expired);
    assert_eq!(
        (ending(&sealed).count, &ending(&sealed).head[..]),
        (2, &allowed.leaf_hash.as_bytes()[..])
    );
}

#[test]
fn the_chain_numbers_every_entry_and_its_end_freezes_it() {
    let mut world = world();
    let first = world.must(open(olive(), "bot", &["*"], None));
    let session = session_of(&first);
    let allowed = world.authorize("bot", session, "bank/read", READ);
    let denied = world.authorize("bot", session, "bank/nothing", READ);
    let outcome = world.record("bot", &allowed, None);
    let links = [
        opening(&first).chain.clone(),
        decision_of(&allowed.entry).chain.clone(),
        decision_of(&denied.entry).chain.clone(),
        outcome_of(&outcome.entry).chain.clone(),
    ];
    let mut previous = Vec::new();
    for ((number, link), entry) in (1..).zip(links).zip([&first, &allowed, &denied, &outcome]) {
        let expected = v1::ChainLink {
            session_id: session.to_vec(),
            number,
            previous_hash: previous,
            late: false,
        };
        assert_eq!(link, Some(expected));
        previous = entry.leaf_hash.as_bytes().to_vec();
    }
    let end = world.must(close(Identity::Operator("root".to_owned()), session));
    assert_eq!(ending(&end).kind(), SessionEndKind::Revoked);
    assert_eq!((ending(&end).count, &ending(&end).head), (4, &previous));

    // What comes later names the session, and changes neither count nor head.
    let late = world.authorize("bot", session, "bank/read", READ);
    let late_outcome = world.record("bot", &denied, None);
    let outcome = outcome_of(&late_outcome.entry);
    assert!(outcome.notices().any(|notice| notice == Notice::Late) && !outcome.observed);
    for link in [&decision_of(&late.entry).chain, &outcome.chain] {
        let link = link.as_ref().expect("the session is named");
        assert_eq!((link.number, link.late), (0, true));
        assert!(link.previous_hash.is_empty());
    }
    assert_eq!(decision_of(&late.entry).verdict(), Verdict::Deny);
    for again in [close(agent("bot"), session), seal(session)] {
        assert_eq!(world.result(again), v1::Result::FailedPrecondition);
    }
}

#[test]
fn only_a_node_seals_and_only_what_has_expired() {
    let mut world = world();
    let opened = world.must(open_for(olive(), "bot", &["*"], None, 10));
    let session = session_of(&opened);
    world.now_us = opening(&opened).expires_at_us - 1;
    assert_eq!(world.result(seal(session)), v1::Result::FailedPrecondition);
    let allowed = world.peek(
        Ask::new(agent("bot"), authorize_body("bot", session, "bank/read"))
            .with(CompartmentKind::Input, READ.as_bytes()),
    );
    assert!(matches!(
        allowed,
        ledger_core::machine::Applied::Appended(_)
    ));
    world.now_us = opening(&opened).expires_at_us;
    let denied = world.authorize("bot", session, "bank/read", READ);
    let decision = decision_of(&denied.entry);
    assert_eq!(decision.reason(), Reason::SessionExpired);
    assert!(decision.chain.as_ref().is_some_and(|link| link.late));
    let by_owner = Ask::new(
        olive(),
        Body::Seal(v1::Seal {
            session_id: session.to_vec(),
        }),
    );
    assert_eq!(world.result(by_owner), v1::Result::NotPermitted);
    let sealed = world.must(seal(session));
    assert_eq!(result_of(&sealed.entry), v1::Result::Applied);
    assert_eq!(
        (ending(&sealed).kind(), ending(&sealed).count),
        (SessionEndKind::Expired, 1)
    );
}

#[test]
fn another_agents_session_is_unknown_and_a_colliding_id_opens_nothing() {
    let mut world = world();
    let session = world.session("bot");
    let theirs = world.authorize("child", session, "bank/read", READ);
    let decision = decision_of(&theirs.entry);
    assert_eq!(
        (decision.reason(), &decision.chain),
        (Reason::SessionUnknown, &None)
    );
    // The same request id by another author is another request, but not another session.
    let ask = open(agent("child"), "child", &["*"], None);
    let colliding = world.sign_as(ask, session.to_vec(), world.now_us);
    let ledger_core::machine::Applied::Appended(collided) = world.apply(&colliding) else {
        panic!("no entry");
    };
    assert_eq!(result_of(&collided.entry), v1::Result::AlreadyExists);
    world.now_us += 1_000;
    let ours = world.authorize("bot", session, "bank/read", READ);
    assert_eq!(
        decision_of(&ours.entry)
            .chain
            .as_ref()
            .map(|link| link.number),
        Some(2)
    );
}

#[test]
fn an_altered_or_lost_context_stops_the_replica_that_would_read_it() {
    use ledger_core::state::{Key, Txn};
    let mut world = World::new();
    world.agent("bot");
    let session = world.session("bot");
    let opening: v1::SessionRecord = ledger_core::state::read(&world.state, &Key::session(session))
        .expect("sound")
        .expect("the session");
    let key = Key::compartment(
        ledger_core::hash::LeafIndex(opening.leaf),
        CompartmentKind::Context,
    );
    let altered = v1::Compartment {
        kind: CompartmentKind::Context.into(),
        salt: vec![1; 32],
        content: Vec::new(),
    };
    let body = authorize_body("bot", session, "bank/read");
    let ask = Ask::new(Identity::Agent("bot".to_owned()), body).with(CompartmentKind::Input, b"{}");
    let submission = world.sign(ask);
    for lost in [false, true] {
        let mut txn = Txn::new(&world.state);
        if lost {
            txn.delete(key.clone());
        } else {
            txn.write(key.clone(), &altered);
        }
        let checks = ledger_core::machine::SignatureChecks::default();
        let applied = world
            .machine
            .apply(&mut txn, world.now_us, &submission, &checks);
        assert_eq!(applied.expect_err("it must stop").key, key.as_bytes());
    }
}
