//! Keys: overlapping, expiring to the microsecond, proven for one identity of one ledger, and never used a second time.

use countersign_tests::kit::{
    Ask, DAY, GENESIS_US, World, authorize_body, enrolment, key, operator_message, public_key,
};
use ed25519_dalek::SigningKey;
use ledger_core::id::{Identity, SessionId};
use ledger_core::limits::MAX_KEYS_PER_IDENTITY;
use ledger_core::machine::{Applied, Refusal};
use ledger_core::signature::{SignatureDomain, sign_one};
use ledger_core::signer::Signer;
use ledger_proto::v1::{self, IdentityStatus, Result as R, command::Body};

fn bot() -> Identity {
    Identity::Agent("bot".to_owned())
}

fn root() -> Identity {
    Identity::Operator("root".to_owned())
}

/// What the machine says to a request of the agent that this key signs: none if it makes an entry.
fn refusal(world: &mut World, signer: &SigningKey) -> Option<Refusal> {
    let body = authorize_body("bot", SessionId::from_bytes([9; 16]), "bank/read");
    let mut submission = world.sign(Ask::new(bot(), body));
    let signed = submission.signed.take().expect("a command");
    let signers = [(public_key(signer).key_id(), signer as &dyn Signer)];
    let domain = SignatureDomain::of(&bot());
    let resigned = sign_one(domain, &world.origin, signed.command, &signers).expect("signs");
    submission.signed = Some(resigned);
    match world.apply(&submission) {
        Applied::Appended(_) => None,
        Applied::Refused(refusal) => Some(refusal),
        other => panic!("neither entry nor refusal: {other:?}"),
    }
}

fn add(world: &mut World, identity: &Identity, enrolment: v1::KeyEnrolment) -> R {
    let body = Body::AddKey(v1::AddKey {
        identity: Some(identity.to_message()),
        key: Some(enrolment),
    });
    world.result(Ask::new(root(), body))
}

fn retire(world: &mut World, signer: &SigningKey) -> R {
    let key_id = public_key(signer).key_id().as_bytes().to_vec();
    world.result(Ask::new(root(), Body::RetireKey(v1::RetireKey { key_id })))
}

/// An enrolment for the agent with this validity.
fn valid(world: &World, name: &str, not_before_us: u64, not_after_us: u64) -> v1::KeyEnrolment {
    let mut enrolment = enrolment(&world.origin, &bot(), &key(name), not_after_us);
    let message = enrolment.key.as_mut().expect("a key");
    message.not_before_us = not_before_us;
    enrolment
}

fn world() -> World {
    let mut world = World::new();
    world.agent("bot");
    world
}

#[test]
fn rotation_overlaps_and_a_retired_key_signs_nothing_more() {
    let mut world = world();
    let (old, new) = (key(&bot().to_string()), key("new"));
    assert_eq!(refusal(&mut world, &new), Some(Refusal::UnknownKey));
    let enrolment = enrolment(&world.origin, &bot(), &new, world.now_us + DAY);
    assert_eq!(add(&mut world, &bot(), enrolment), R::Applied);
    assert_eq!(refusal(&mut world, &old), None);
    assert_eq!(refusal(&mut world, &new), None);
    assert_eq!(retire(&mut world, &old), R::Applied);
    assert_eq!(refusal(&mut world, &old), Some(Refusal::KeyNotActive));
    assert_eq!(refusal(&mut world, &new), None);
    assert_eq!(retire(&mut world, &old), R::FailedPrecondition);
    assert_eq!(retire(&mut world, &key("nobody's")), R::NotFound);
}

#[test]
fn a_key_is_valid_from_its_beginning_until_just_before_its_end() {
    let mut world = world();
    let (begin, end) = (world.now_us + DAY, world.now_us + 2 * DAY);
    let enrolment = valid(&world, "later", begin, end);
    assert_eq!(add(&mut world, &bot(), enrolment), R::Applied);
    let later = key("later");
    for (now_us, expected) in [
        (begin - 1, Some(Refusal::KeyNotActive)),
        (begin, None),
        (end - 1, None),
        (end, Some(Refusal::KeyNotActive)),
    ] {
        world.now_us = now_us;
        assert_eq!(refusal(&mut world, &later), expected, "{now_us}");
    }
}

#[test]
fn possession_is_proven_for_this_identity_of_this_ledger() {
    let mut world = world();
    let end = world.now_us + DAY;
    let new = key("new");
    let elsewhere = enrolment("ledger.test/other", &bot(), &new, end);
    assert_eq!(add(&mut world, &bot(), elsewhere), R::KeyRefused);
    for other in [
        Identity::Agent("other".to_owned()),
        Identity::Gateway("bot".to_owned()),
    ] {
        let for_other = enrolment(&world.origin, &other, &new, end);
        assert_eq!(add(&mut world, &bot(), for_other), R::KeyRefused);
    }
    let mut unproven = enrolment(&world.origin, &bot(), &new, end);
    unproven.proof_of_possession.clear();
    assert_eq!(add(&mut world, &bot(), unproven), R::KeyRefused);
    let mut by_another = enrolment(&world.origin, &bot(), &key("thief"), end);
    let right = enrolment(&world.origin, &bot(), &new, end);
    by_another.key.clone_from(&right.key);
    assert_eq!(add(&mut world, &bot(), by_another), R::KeyRefused);
    assert_eq!(add(&mut world, &bot(), right), R::Applied);
}

#[test]
fn a_key_is_used_once_for_ever() {
    let mut world = world();
    let other = world.agent("other");
    let end = world.now_us + DAY;
    let signer = key("new");
    let (origin, mine) = (
        world.origin.clone(),
        enrolment(&world.origin, &bot(), &signer, end),
    );
    let theirs = enrolment(&origin, &other, &signer, end);
    let operators = enrolment(&origin, &root(), &signer, 0);
    assert_eq!(add(&mut world, &bot(), mine.clone()), R::Applied);
    assert_eq!(add(&mut world, &bot(), mine.clone()), R::KeyRefused);
    assert_eq!(add(&mut world, &other, theirs.clone()), R::KeyRefused);
    assert_eq!(add(&mut world, &root(), operators), R::KeyRefused);
    assert_eq!(retire(&mut world, &signer), R::Applied);
    assert_eq!(add(&mut world, &bot(), mine), R::KeyRefused);
    assert_eq!(add(&mut world, &other, theirs), R::KeyRefused);
    assert_eq!(refusal(&mut world, &signer), Some(Refusal::KeyNotActive));
}

#[test]
fn one_registration_cannot_bring_a_key_twice() {
    let mut world = World::new();
    let twin = world.enrol(&bot());
    let body = Body::RegisterAgent(v1::RegisterAgent {
        id: "bot".to_owned(),
        namespace: "team".to_owned(),
        owner: "olive".to_owned(),
        keys: vec![twin.clone(), twin],
        ..v1::RegisterAgent::default()
    });
    assert_eq!(world.result(Ask::new(root(), body)), R::KeyRefused);
    // Nothing of the rejected registration stays, so that the agent can be registered as it should have been.
    world.agent("bot");
}

#[test]
fn weak_and_non_canonical_keys_are_refused() {
    let mut world = world();
    let end = world.now_us + DAY;
    let mut identity_point = [0; 32];
    identity_point[0] = 1;
    // 2^255 - 19 + 3: a second spelling of a point whose y coordinate is 3.
    let mut second_spelling = [0xff; 32];
    second_spelling[0] = 0xf0;
    second_spelling[31] = 0x7f;
    for bytes in [
        [0; 32].to_vec(),
        identity_point.to_vec(),
        second_spelling.to_vec(),
        vec![2; 31],
        Vec::new(),
    ] {
        let mut enrolment = enrolment(&world.origin, &bot(), &key("new"), end);
        enrolment.key.as_mut().expect("a key").bytes = bytes;
        assert_eq!(add(&mut world, &bot(), enrolment), R::KeyRefused);
    }
    let mut without_algorithm = enrolment(&world.origin, &bot(), &key("new"), end);
    without_algorithm.key.as_mut().expect("a key").algorithm = 0;
    assert_eq!(add(&mut world, &bot(), without_algorithm), R::KeyRefused);
}

#[test]
fn an_agents_key_ends_within_400_days_and_an_operators_need_not() {
    let mut world = world();
    let begin = GENESIS_US;
    for (name, not_before_us, not_after_us, expected) in [
        ("endless", 0, 0, R::KeyRefused),
        ("too long", begin, begin + 400 * DAY + 1, R::KeyRefused),
        ("empty", begin, begin, R::KeyRefused),
        ("backwards", begin + 1, begin, R::KeyRefused),
        ("just right", begin, begin + 400 * DAY, R::Applied),
    ] {
        let enrolment = valid(&world, name, not_before_us, not_after_us);
        assert_eq!(add(&mut world, &bot(), enrolment), expected, "{name}");
    }
    let endless = enrolment(&world.origin, &root(), &key("endless"), 0);
    assert_eq!(add(&mut world, &root(), endless), R::Applied);
}

#[test]
fn eight_keys_count_and_neither_expired_nor_retired_ones_do() {
    let mut world = world();
    let (begin, soon) = (world.now_us, world.now_us + DAY);
    let late = begin + 300 * DAY;
    for n in 1..MAX_KEYS_PER_IDENTITY {
        let end = if n == 1 { soon } else { late };
        let enrolment = valid(&world, &format!("{n}"), begin, end);
        assert_eq!(add(&mut world, &bot(), enrolment), R::Applied, "{n}");
    }
    let ninth = valid(&world, "ninth", begin, late);
    assert_eq!(add(&mut world, &bot(), ninth.clone()), R::LimitExceeded);
    world.now_us = soon - 1;
    assert_eq!(add(&mut world, &bot(), ninth.clone()), R::LimitExceeded);
    world.now_us = soon;
    assert_eq!(add(&mut world, &bot(), ninth), R::Applied);
    let tenth = valid(&world, "tenth", begin, late);
    assert_eq!(add(&mut world, &bot(), tenth.clone()), R::LimitExceeded);
    assert_eq!(retire(&mut world, &key("2")), R::Applied);
    assert_eq!(add(&mut world, &bot(), tenth), R::Applied);
}

#[test]
fn revocation_retires_every_key() {
    let mut world = world();
    let end = world.now_us + DAY;
    let second = enrolment(&world.origin, &bot(), &key("second"), end);
    assert_eq!(add(&mut world, &bot(), second), R::Applied);
    world.govern(Body::SetStatus(v1::SetStatus {
        identity: Some(bot().to_message()),
        status: IdentityStatus::Revoked.into(),
    }));
    for signer in [key(&bot().to_string()), key("second")] {
        assert_eq!(refusal(&mut world, &signer), Some(Refusal::KeyNotActive));
    }
    let third = enrolment(&world.origin, &bot(), &key("third"), end);
    assert_eq!(add(&mut world, &bot(), third), R::FailedPrecondition);
    let keys = [key(&bot().to_string()), key("second")];
    for signer in keys {
        assert_eq!(retire(&mut world, &signer), R::FailedPrecondition);
    }
}

#[test]
fn keys_of_nodes_and_recovery_stay_what_they_are() {
    let mut world = world();
    for identity in [Identity::Node(1), Identity::Recovery] {
        let new = enrolment(&world.origin, &identity, &key("new"), 0);
        assert_eq!(add(&mut world, &identity, new), R::FailedPrecondition);
        let known = key(&identity.to_string());
        assert_eq!(retire(&mut world, &known), R::FailedPrecondition);
    }
}

#[test]
fn the_last_admins_last_key_stays() {
    let mut world = World::new();
    assert_eq!(retire(&mut world, &key(&root().to_string())), R::LastAdmin);
    let second = operator_message(&world.origin, "second", &[(v1::Role::Admin, "*")]);
    world.govern(Body::RegisterOperator(second));
    assert_eq!(retire(&mut world, &key(&root().to_string())), R::Applied);
}
