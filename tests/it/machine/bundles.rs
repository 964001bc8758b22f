//! Bundles: published in chunks, activated when complete, with the history that their rules deserve.

use countersign_tests::kit::{Ask, SECOND, World, bundle, decision_of};
use ledger_core::id::{Identity, SessionId};
use ledger_core::limits::MAX_PENDING_BUNDLES;
use ledger_proto::v1::{self, Result as R, Verdict, command::Body, entry, governance::Detail};
use policy_engine::Bundle;

const READ: &str =
    r#"@id("read") permit (principal, action == Countersign::Action::"bank/read", resource);"#;

fn root() -> Identity {
    Identity::Operator("root".to_owned())
}

/// A cap on payments per hour, beside a rule about reading that differs by its id.
fn capped(read: &str, most: u32) -> Bundle {
    let rules = format!(
        r#"@id("{read}") permit (principal, action == Countersign::Action::"bank/read", resource);
@id("cap") permit (principal, action == Countersign::Action::"bank/pay", resource)
when temporal {{ count_within(1h, Countersign::Action::"bank/pay"::allowed{{}}) < {most} }};"#
    );
    bundle("namespace", &rules)
}

/// A bundle of several chunks.
fn long() -> Bundle {
    let bundle = bundle("namespace", &format!("{}{READ}", "// x\n".repeat(25_000)));
    assert_eq!(bundle.chunks().len(), 3);
    bundle
}

fn chunk(world: &mut World, digest: [u8; 32], index: u32, count: u32, bytes: &[u8]) -> R {
    let body = Body::PublishBundle(v1::PublishBundle {
        namespace: "team".to_owned(),
        digest: digest.to_vec(),
        chunk_index: index,
        chunk_count: count,
        chunk: bytes.to_vec(),
    });
    world.result(Ask::new(root(), body))
}

fn activation(namespace: &str, digest: [u8; 32], accept_short_history: bool) -> Body {
    Body::ActivateBundle(v1::ActivateBundle {
        namespace: namespace.to_owned(),
        digest: digest.to_vec(),
        accept_short_history,
    })
}

fn activate(world: &mut World, digest: [u8; 32], accept: bool) -> R {
    world.result(Ask::new(root(), activation("team", digest, accept)))
}

fn pay(world: &mut World, session: SessionId) -> bool {
    let decided = world.authorize("bot", session, "bank/pay", r#"{"to": "a", "amount": 1}"#);
    decision_of(&decided.entry).verdict() == Verdict::Allow
}

fn world() -> World {
    let mut world = World::new();
    world.agent("bot");
    world
}

#[test]
fn chunks_come_in_any_order_and_each_once() {
    let mut world = world();
    let (long, digest) = (long(), long().digest().0);
    let chunks = long.chunks();
    assert_eq!(activate(&mut world, digest, true), R::NotFound);
    assert_eq!(chunk(&mut world, digest, 2, 3, &chunks[2]), R::Applied);
    assert_eq!(
        chunk(&mut world, digest, 2, 3, &chunks[2]),
        R::AlreadyExists
    );
    assert_eq!(
        chunk(&mut world, digest, 1, 2, &chunks[2]),
        R::InvalidArgument
    );
    assert_eq!(
        chunk(&mut world, digest, 3, 3, &chunks[2]),
        R::InvalidArgument
    );
    assert_eq!(
        chunk(&mut world, digest, 0, 3, &chunks[2]),
        R::InvalidArgument
    );
    assert_eq!(chunk(&mut world, digest, 0, 3, &chunks[0]), R::Applied);
    assert_eq!(activate(&mut world, digest, true), R::BundleIncomplete);
    assert_eq!(chunk(&mut world, digest, 1, 3, &chunks[1]), R::Applied);
    assert_eq!(activate(&mut world, digest, true), R::Applied);
    assert_eq!(activate(&mut world, digest, true), R::AlreadyExists);
}

#[test]
fn wrong_bytes_are_taken_back_so_that_the_right_ones_can_follow() {
    let mut world = world();
    let (long, digest) = (long(), long().digest().0);
    let mut chunks = long.chunks();
    chunks[1][7] ^= 1;
    assert_eq!(chunk(&mut world, digest, 0, 3, &chunks[0]), R::Applied);
    assert_eq!(chunk(&mut world, digest, 1, 3, &chunks[1]), R::Applied);
    assert_eq!(
        chunk(&mut world, digest, 2, 3, &chunks[2]),
        R::BundleInvalid
    );
    assert_eq!(activate(&mut world, digest, true), R::NotFound);
    world.policy("team", &long);
}

#[test]
fn a_bundle_that_does_not_compile_is_not_published() {
    let mut world = world();
    let broken = bundle("namespace", "permit (principal, action, resource);");
    let digest = broken.digest().0;
    let chunks = broken.chunks();
    assert_eq!(
        chunk(&mut world, digest, 0, 1, &chunks[0]),
        R::BundleInvalid
    );
    assert_eq!(activate(&mut world, digest, true), R::NotFound);
}

#[test]
fn sixteen_publications_can_be_pending() {
    let mut world = world();
    let chunks = long().chunks();
    for n in 0..=MAX_PENDING_BUNDLES {
        let digest = [u8::try_from(n).expect("few"); 32];
        let expected = if n < MAX_PENDING_BUNDLES {
            R::Applied
        } else {
            R::LimitExceeded
        };
        assert_eq!(chunk(&mut world, digest, 0, 3, &chunks[0]), expected, "{n}");
    }
}

#[test]
fn a_short_history_is_accepted_only_by_saying_so_and_recorded() {
    let mut world = world();
    let cap = capped("read", 1);
    world.publish("team", &cap);
    assert_eq!(activate(&mut world, cap.digest().0, false), R::ShortHistory);
    let activated = world.govern(activation("team", cap.digest().0, true));
    let Some(entry::Body::Governance(governance)) = activated.entry.body else {
        panic!("no governance");
    };
    let Some(Detail::Activation(detail)) = governance.detail else {
        panic!("no activation");
    };
    assert_eq!(detail.short_history, ["cap"]);

    let later = capped("read", 2);
    world.publish("team", &later);
    world.now_us += 3_601 * SECOND;
    assert_eq!(activate(&mut world, later.digest().0, false), R::Applied);
}

#[test]
fn a_candidate_counts_from_its_publication() {
    let mut world = world();
    let open = bundle(
        "namespace",
        "@id(\"all\") permit (principal, action, resource);",
    );
    world.policy("team", &open);
    let session = world.session("bot");
    assert!(pay(&mut world, session));
    let cap = capped("read", 2);
    world.publish("team", &cap);
    assert!(pay(&mut world, session));
    assert_eq!(activate(&mut world, cap.digest().0, true), R::Applied);
    assert!(pay(&mut world, session));
    assert!(!pay(&mut world, session));
}

#[test]
fn an_unchanged_rule_keeps_its_count_and_a_changed_one_starts_afresh() {
    let mut world = world();
    world.policy("team", &capped("read", 2));
    let session = world.session("bot");
    assert!(pay(&mut world, session));
    world.policy("team", &capped("read-2", 2));
    assert!(pay(&mut world, session));
    assert!(!pay(&mut world, session));
    world.policy("team", &capped("read-2", 1));
    assert!(pay(&mut world, session));
    assert!(!pay(&mut world, session));
}

#[test]
fn namespaces_have_bundles_of_their_own() {
    let mut world = world();
    world.govern(Body::CreateNamespace(v1::CreateNamespace {
        name: "other".to_owned(),
        owners: Vec::new(),
        single_use: false,
    }));
    let cap = capped("read", 2);
    world.policy("team", &cap);
    let elsewhere = Ask::new(root(), activation("other", cap.digest().0, true));
    assert_eq!(world.result(elsewhere), R::NotFound);
    world.policy("other", &cap);
}

#[test]
fn going_back_to_the_bundle_before_keeps_its_count() {
    let mut world = world();
    let session = world.session("bot");
    let (first, second) = (capped("read", 2), capped("other", 5));
    world.policy("team", &first);
    assert!(pay(&mut world, session));
    world.policy("team", &second);
    assert!(pay(&mut world, session));
    assert_eq!(activate(&mut world, first.digest().0, true), R::Applied);
    assert!(!pay(&mut world, session));
}

#[test]
fn a_fifth_candidate_pushes_the_oldest_out_and_never_the_active_bundle() {
    let mut world = world();
    let active = capped("read", 1);
    world.policy("team", &active);
    let candidates: Vec<Bundle> = (0..5).map(|n| capped(&format!("c{n}"), 9)).collect();
    for candidate in &candidates {
        world.publish("team", candidate);
    }
    let key = ledger_core::state::Key::namespace("team");
    let record: Option<v1::NamespaceRecord> =
        ledger_core::state::read(&world.state, &key).expect("sound");
    let tracked: Vec<Vec<u8>> = record
        .expect("the namespace")
        .tracked
        .into_iter()
        .map(|tracked| tracked.digest)
        .collect();
    let expected: Vec<Vec<u8>> = std::iter::once(&active)
        .chain(&candidates[2..])
        .map(|bundle| bundle.digest().0.to_vec())
        .collect();
    assert_eq!(tracked, expected);
}
