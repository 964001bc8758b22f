//! Freshness, request ids, replays, and batches under one signature.

use countersign_tests::kit::{Ask, DAY, SECOND, World, key, public_key};
use ledger_core::limits::FRESHNESS_US;
use ledger_core::machine::{Applied, Liveness, Refusal};
use ledger_core::signature::{SignatureDomain, sign_batch};
use ledger_proto::v1::{self, IdentityStatus, command::Body};

use super::{agent, command, read, refused, root, world};

#[test]
fn a_command_is_fresh_for_five_minutes_both_ways() {
    let (mut world, session) = world();
    let now = world.now_us + 3_600 * SECOND / 2;
    world.now_us = now;
    let cases = [
        (now - FRESHNESS_US - 1, false),
        (now + FRESHNESS_US + 1, false),
        (now - FRESHNESS_US, true),
        // Entry time has moved on by a microsecond.
        (now + FRESHNESS_US + 1, true),
    ];
    for (id, (issued_at_us, fresh)) in (0_u8..).zip(cases) {
        let submission = world.sign_as(read(session), vec![id; 16], issued_at_us);
        if fresh {
            assert!(matches!(world.apply(&submission), Applied::Appended(_)));
        } else {
            assert_eq!(refused(&mut world, &submission), Refusal::Stale);
        }
    }
}

#[test]
fn a_request_id_names_one_command_for_ever() {
    let (mut world, session) = world();
    let first = world.sign_as(read(session), vec![5; 16], world.now_us);
    let Applied::Appended(appended) = world.apply(&first) else {
        panic!("no entry");
    };
    let other = world.sign_as(read(session), vec![5; 16], world.now_us + 1);
    assert_eq!(refused(&mut world, &other), Refusal::RequestIdReused);
    // Under another author it is another id.
    let ask = Ask::new(
        root(),
        Body::CreateNamespace(v1::CreateNamespace {
            name: "a".to_owned(),
            owners: Vec::new(),
            single_use: false,
        }),
    );
    let by_root = world.sign_as(ask, vec![5; 16], world.now_us);
    assert!(matches!(world.apply(&by_root), Applied::Appended(_)));
    // Thirty days later the answer is still the same leaf, and stale is no word for it.
    world.now_us += 30 * DAY;
    let before = world.state.clone();
    assert!(matches!(
        world.apply(&first),
        Applied::Replayed { index, .. } if index == appended.index
    ));
    assert!(world.state == before);
}

#[test]
fn a_replay_says_what_holds_now() {
    let (mut world, session) = world();
    let request = world.sign(read(session));
    let Applied::Appended(appended) = world.apply(&request) else {
        panic!("no entry");
    };
    let now = |world: &mut World| -> Liveness {
        match world.apply(&request) {
            Applied::Replayed { index, now } => {
                assert_eq!(index, appended.index);
                now
            }
            other => panic!("not replayed: {other:?}"),
        }
    };
    let live = now(&mut world);
    assert!(live.permits() && live.permit_lives && live.agent_active && live.session_open);
    let halt = Body::SetHalt(v1::SetHalt {
        id: "h".to_owned(),
        scope: Some(v1::HaltScope {
            target: Some(v1::halt_scope::Target::Action("bank/*".to_owned())),
        }),
        expires_at_us: 0,
    });
    world.govern(halt);
    let halted = now(&mut world);
    assert!(halted.halted && !halted.permits());
    world.govern(Body::ClearHalt(v1::ClearHalt { id: "h".to_owned() }));
    for (status, active) in [
        (IdentityStatus::Suspended, false),
        (IdentityStatus::Active, true),
    ] {
        world.govern(Body::SetStatus(v1::SetStatus {
            identity: Some(agent().to_message()),
            status: status.into(),
        }));
        let live = now(&mut world);
        assert_eq!((live.agent_active, live.permits()), (active, active));
    }
    world.now_us += 60 * SECOND;
    let expired = now(&mut world);
    assert!(!expired.permit_lives && !expired.permits() && expired.session_open);
    world.must(Ask::new(
        agent(),
        Body::CloseSession(v1::CloseSession {
            session_id: session.to_vec(),
        }),
    ));
    assert!(!now(&mut world).session_open);
}

#[test]
fn a_batch_of_any_size_stands_under_one_signature() {
    for size in [2_usize, 3, 31, 64] {
        let (mut world, session) = world();
        let submissions: Vec<v1::Submission> =
            (0..size).map(|_| world.sign(read(session))).collect();
        let commands: Vec<Vec<u8>> = submissions.iter().map(command).collect();
        let slices: Vec<&[u8]> = commands.iter().map(Vec::as_slice).collect();
        let signer = key(&agent().to_string());
        let id = public_key(&signer).key_id();
        let domain = SignatureDomain::Command;
        let signatures = sign_batch(domain, &world.origin, &slices, id, &signer).expect("signs");
        let batch = |at: usize, signature: usize| {
            let mut submission = submissions[at].clone();
            submission.signed.as_mut().unwrap().signatures = vec![signatures[signature].clone()];
            submission
        };
        for at in 0..size {
            let moved = batch(at, (at + 1) % size);
            let refusal = refused(&mut world, &moved);
            assert_eq!(refusal, Refusal::BadSignature, "{at} of {size}");
            let mut bent = batch(at, at);
            bent.signed.as_mut().unwrap().signatures[0].path[0][0] ^= 1;
            assert_eq!(refused(&mut world, &bent), Refusal::BadSignature);
            assert!(matches!(world.apply(&batch(at, at)), Applied::Appended(_)));
        }
    }
}
