//! Engine versions, and what a node asks of the machine beside apply: questions that are not asked, bundles compiled early.

use countersign_tests::kit::{
    Ask, World, authorize_body, bank, bundle, node_card, result_of, trust_policy,
};
use ledger_core::id::{Identity, SessionId};
use ledger_core::machine::{ENGINE_VERSION, Machine, Refusal, SignatureChecks};
use ledger_core::state::Txn;
use ledger_proto::v1::{self, Assurance, CompartmentKind, command::Body};

fn root() -> Identity {
    Identity::Operator("root".to_owned())
}

fn bot() -> Identity {
    Identity::Agent("bot".to_owned())
}

fn read(session: SessionId) -> Ask {
    Ask::new(bot(), authorize_body("bot", session, "bank/read"))
        .with(CompartmentKind::Input, br#"{"doc": "a"}"#)
}

#[test]
fn a_replica_stops_after_the_activation_of_an_engine_that_it_cannot_run() {
    let mut world = World::new();
    world.agent("bot");
    let session = world.session("bot");
    let next = ENGINE_VERSION + 1;
    for node in 1..=3 {
        let declare = Body::DeclareSupport(v1::DeclareSupport {
            engine_versions: vec![ENGINE_VERSION, next],
            cluster_versions: vec![1],
        });
        let declared = world.must(Ask::new(Identity::Node(node), declare));
        assert_eq!(result_of(&declared.entry), v1::Result::Applied);
    }
    let activated = world.govern(Body::ActivateEngine(v1::ActivateEngine { version: next }));
    assert_eq!(activated.entry.engine_version, ENGINE_VERSION);

    let submission = world.sign(read(session));
    let mut txn = Txn::new(&world.state);
    let checks = SignatureChecks::default();
    let error = Machine::new()
        .apply(&mut txn, world.now_us, &submission, &checks)
        .expect_err("other rules are in force");
    assert!(error.to_string().contains("start a build that supports it"));
    assert!(txn.into_writes().is_empty());
    let asked = Machine::new().simulate(&world.state, world.now_us, &submission);
    assert_eq!(asked, Err(error));
}

#[test]
fn a_simulation_is_of_those_who_are_named_and_of_requests_only() {
    let mut world = World::new();
    world.agent("bot");
    let gate = world.gateway("gate", "bot", &[v1::GatewayPermission::Authorize]);
    world.policy("team", &bank());
    let session = world.session("bot");
    let before = world.state.clone();
    for (ask, assurance) in [
        (read(session), Assurance::AgentSigned),
        (read(session).cosigned(gate), Assurance::BothSigned),
    ] {
        let mut submission = world.sign(ask);
        let signed = submission.signed.as_mut().expect("signed");
        signed.signatures.clear();
        let asked = world
            .machine
            .simulate(&world.state, world.now_us, &submission);
        let decision = asked.expect("sound").expect("a request");
        assert_eq!(decision.verdict(), v1::Verdict::Allow);
        assert_eq!(decision.assurance(), assurance);
    }
    let publish = Body::PublishBundle(v1::PublishBundle::default());
    let submission = world.sign(Ask::new(root(), publish));
    let asked = world
        .machine
        .simulate(&world.state, world.now_us, &submission);
    assert_eq!(asked, Ok(Err(Refusal::Undecodable)));
    assert!(world.state == before);
}

#[test]
fn what_was_compiled_early_gives_the_same_entries() {
    let invalid = {
        let rules = r#"@id("a") permit (principal, action, resource) when { context.nothing };"#;
        bundle("agent", rules)
    };
    let long = bundle(
        "agent",
        &format!(
            "{}@id(\"a\") permit (principal, action, resource);",
            "// x\n".repeat(25_000)
        ),
    );
    for (bundle, expected) in [
        (bank(), v1::Result::Applied),
        (invalid, v1::Result::BundleInvalid),
        (long, v1::Result::Applied),
    ] {
        let mut early = World::new();
        let mut late = World::new();
        let chunks = bundle.chunks();
        let count = u32::try_from(chunks.len()).expect("few");
        let publish = |(index, chunk): (u32, Vec<u8>)| {
            Body::PublishBundle(v1::PublishBundle {
                namespace: "team".to_owned(),
                digest: bundle.digest().0.to_vec(),
                chunk_index: index,
                chunk_count: count,
                chunk,
            })
        };
        let asks: Vec<Body> = (0..count).zip(chunks).map(publish).collect();
        let submissions: Vec<v1::Submission> = asks
            .into_iter()
            .map(|body| early.sign(Ask::new(root(), body)))
            .collect();
        let pending: Vec<&v1::Submission> = submissions.iter().collect();
        let but_last = &pending[..pending.len() - 1];
        let prepare = |pending: &[&v1::Submission]| {
            let prepared = early.machine.prepare(&early.state, pending);
            prepared.expect("sound")
        };
        assert!(!prepare(but_last), "a chunk is missing");
        assert!(prepare(&pending));
        for submission in &submissions {
            assert_eq!(early.apply(submission), late.apply(submission));
        }
        assert_eq!(early.root(), late.root());
        let last = ledger_core::machine::tip(&early.state)
            .expect("sound")
            .size
            .0
            - 1;
        assert_eq!(result_of(&early.entry(last)), expected);
        Machine::new().warm(&early.state).expect("all compile");
        let activate = Body::ActivateBundle(v1::ActivateBundle {
            namespace: "team".to_owned(),
            digest: bundle.digest().0.to_vec(),
            ..v1::ActivateBundle::default()
        });
        let activation = early.sign(Ask::new(root(), activate));
        let prepared = Machine::new().prepare(&early.state, &[&activation]);
        let published = expected == v1::Result::Applied;
        assert_eq!(prepared, Ok(published), "what was withdrawn has no chunks");
    }
}

#[test]
fn a_membership_of_a_build_that_runs_another_engine_is_not_supported() {
    let mut world = World::new();
    let mut nodes: Vec<v1::NodeCard> = [1, 2, 3, 4]
        .map(|node| node_card(&world.origin, node))
        .to_vec();
    nodes[3].engine_versions = vec![ENGINE_VERSION + 1];
    let update = v1::UpdateMembership {
        nodes,
        trust_policy: trust_policy(&world.origin, &[1, 2, 3, 4]),
    };
    let result = world.result(Ask::new(root(), Body::UpdateMembership(update)));
    assert_eq!(result, v1::Result::NotSupported);
}
