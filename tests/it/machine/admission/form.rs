//! Commands, signatures and keys that are not what they must be.

use countersign_tests::kit::{Ask, DAY, World, enrolment, key, public_key};
use ledger_core::id::Identity;
use ledger_core::limits::MAX_SIGNED_COMMAND_LEN;
use ledger_core::machine::{Applied, Refusal};
use ledger_core::signature::SignatureDomain;
use ledger_proto::v1::{self, CompartmentKind, command::Body};
use prost::Message;

use super::{agent, command, read, refused, resigned, root, signed, world};

#[test]
fn bytes_that_are_no_canonical_command_are_undecodable() {
    let (mut world, session) = world();
    let good = world.sign(read(session));
    let bytes = command(&good);
    let header = |change: fn(&mut v1::Command)| {
        let mut message = v1::Command::decode(bytes.as_slice()).expect("decodes");
        change(&mut message);
        message.encode_to_vec()
    };
    let appended = |tail: &[u8]| [bytes.as_slice(), tail].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("truncated", bytes[..bytes.len() - 1].to_vec()),
        ("an unknown field", appended(&[0xf8, 0x07, 1])),
        ("a field twice", appended(&bytes[..18])),
        ("a default spelled out", appended(&[0x10, 0])),
        (
            "an overlong number",
            [&bytes[..18], &[0x10, 0x80, 0x80, 0], &bytes[18..]].concat(),
        ),
        (
            "a group that never ends",
            appended(&[0xf3, 0x07].repeat(10_000)),
        ),
        ("invalid UTF-8", appended(&[0x1a, 4, 0x12, 2, 0xff, 0xfe])),
        ("no body", header(|command| command.body = None)),
        ("no author", header(|command| command.author = None)),
        (
            "an author without a kind",
            header(|command| command.author.as_mut().unwrap().kind = 0),
        ),
        (
            "an author of an unknown kind",
            header(|command| command.author.as_mut().unwrap().kind = 9),
        ),
        (
            "an author without an id",
            header(|command| command.author.as_mut().unwrap().id.clear()),
        ),
        (
            "a short request id",
            header(|command| command.request_id.truncate(15)),
        ),
        (
            "a time past all time",
            header(|command| command.issued_at_us = u64::MAX),
        ),
        (
            "a commitment twice",
            header(|command| command.commitments.push(command.commitments[0].clone())),
        ),
        (
            "a commitment of another kind",
            header(|command| command.commitments[0].kind = CompartmentKind::Output.into()),
        ),
        (
            "a commitment of no kind",
            header(|command| command.commitments[0].kind = 0),
        ),
        (
            "the author as its own cosigner",
            header(|command| command.cosigners = vec![agent().to_message()]),
        ),
        (
            "a cosigner twice",
            header(|command| command.cosigners = vec![root().to_message(); 2]),
        ),
        (
            "cosigners out of order",
            header(|command| {
                let gate = Identity::Gateway("gate".to_owned());
                command.cosigners = vec![gate.to_message(), root().to_message()];
            }),
        ),
        (
            "four cosigners",
            header(|command| {
                let names = ["a", "b", "c", "d"].map(|name| Identity::Operator(name.to_owned()));
                command.cosigners = names.iter().map(Identity::to_message).collect();
            }),
        ),
        (
            "a node beside others",
            header(|command| command.cosigners = vec![Identity::Node(1).to_message()]),
        ),
        (
            "the recovery key beside others",
            header(|command| command.cosigners = vec![Identity::Recovery.to_message()]),
        ),
        (
            "a node with a cosigner",
            header(|command| {
                command.author = Some(Identity::Node(1).to_message());
                command.cosigners = vec![root().to_message()];
            }),
        ),
        (
            "a short commitment",
            header(|command| command.commitments[0].digest.truncate(31)),
        ),
    ];
    for (what, bytes) in cases {
        let submission = signed(&world, bytes, &[agent()]);
        assert_eq!(
            refused(&mut world, &submission),
            Refusal::Undecodable,
            "{what}"
        );
    }
    let unsigned = v1::Submission::default();
    assert_eq!(refused(&mut world, &unsigned), Refusal::Undecodable);
    assert!(matches!(world.apply(&good), Applied::Appended(_)));
}

#[test]
fn the_longest_command_is_accepted_and_one_byte_more_is_not() {
    let (mut world, session) = world();
    let with_padding = |world: &World, padding: usize| {
        let Body::Authorize(mut authorize) =
            countersign_tests::kit::authorize_body("bot", session, "bank/read")
        else {
            panic!("not an Authorize");
        };
        authorize.tool_call_id = "x".repeat(padding);
        let ask = Ask::new(agent(), Body::Authorize(authorize));
        world.sign_as(ask, vec![9; 16], world.now_us)
    };
    let len = |submission: &v1::Submission| submission.signed.as_ref().unwrap().encoded_len();
    let at_20k = len(&with_padding(&world, 20_000)) - 20_000;
    let longest = with_padding(&world, MAX_SIGNED_COMMAND_LEN - at_20k);
    assert_eq!(len(&longest), MAX_SIGNED_COMMAND_LEN);
    let longer = with_padding(&world, MAX_SIGNED_COMMAND_LEN - at_20k + 1);
    assert_eq!(refused(&mut world, &longer), Refusal::Undecodable);
    assert!(matches!(world.apply(&longest), Applied::Appended(_)));
}

#[test]
fn signatures_must_be_well_formed() {
    let (mut world, session) = world();
    let good = world.sign(read(session).cosigned(root()));
    let changes: [(&str, fn(&mut Vec<v1::Signature>)); 11] = [
        ("none", Vec::clear),
        ("unsorted", |all| all.reverse()),
        ("twice the same", |all| all[1] = all[0].clone()),
        ("five", |all| all.extend(vec![all[1].clone(); 3])),
        ("a short key id", |all| all[0].key_id.truncate(15)),
        ("a short signature", |all| all[0].signature.truncate(63)),
        ("an index past the size", |all| all[0].batch_index = 1),
        ("size 0", |all| all[0].batch_size = 0),
        ("size 65", |all| all[0].batch_size = 65),
        ("a path that is too long", |all| {
            all[0].path.push(vec![0; 32])
        }),
        ("a path of short hashes", |all| {
            all[0].batch_size = 2;
            all[0].path.push(vec![0; 31]);
        }),
    ];
    for (what, change) in changes {
        let mut bad = good.clone();
        change(&mut bad.signed.as_mut().unwrap().signatures);
        assert_eq!(refused(&mut world, &bad), Refusal::SignatureForm, "{what}");
    }
}

#[test]
fn signatures_must_be_over_this_command_in_this_ledger_in_this_domain() {
    let (mut world, session) = world();
    let good = world.sign(read(session));
    let keys = [key(&agent().to_string())];
    let elsewhere = resigned(
        "ledger.test/other",
        SignatureDomain::Command,
        command(&good),
        &keys,
    );
    assert_eq!(refused(&mut world, &elsewhere), Refusal::BadSignature);
    let as_node = resigned(&world.origin, SignatureDomain::Node, command(&good), &keys);
    assert_eq!(refused(&mut world, &as_node), Refusal::BadSignature);
    let other = world.sign(read(session));
    let mut swapped = good.clone();
    swapped.signed.as_mut().unwrap().signatures = other.signed.unwrap().signatures;
    assert_eq!(refused(&mut world, &swapped), Refusal::BadSignature);
    for position in [0, 31, 32, 63] {
        let mut bad = good.clone();
        bad.signed.as_mut().unwrap().signatures[0].signature[position] ^= 1;
        assert_eq!(refused(&mut world, &bad), Refusal::BadSignature);
    }
    // A node's own command, signed as clients sign.
    let ask = Ask::new(
        Identity::Node(1),
        Body::AttestState(v1::AttestState {
            tree_size: 1,
            digest: vec![1; 32],
            copied: false,
        }),
    );
    let attest = world.sign(ask);
    let keys = [key(&Identity::Node(1).to_string())];
    let as_client = resigned(
        &world.origin,
        SignatureDomain::Command,
        command(&attest),
        &keys,
    );
    assert_eq!(refused(&mut world, &as_client), Refusal::BadSignature);
    assert!(matches!(world.apply(&attest), Applied::Appended(_)));
}

#[test]
fn exactly_the_author_and_its_cosigners_sign() {
    let (mut world, session) = world();
    let gate = world.gateway("gate", "bot", &[v1::GatewayPermission::Authorize]);
    let both = world.sign(read(session).cosigned(gate.clone()));
    // Taking a signature off would turn BOTH_SIGNED into less, and drop what the gateway vouches for.
    for stays in [agent(), gate.clone()] {
        let mut stripped = both.clone();
        let signatures = &mut stripped.signed.as_mut().expect("signed").signatures;
        let key_id = public_key(&key(&stays.to_string())).key_id().to_vec();
        signatures.retain(|signature| signature.key_id == key_id);
        assert_eq!(signatures.len(), 1);
        let expected = if stays == gate {
            Refusal::NotByAuthor
        } else {
            Refusal::SignersMismatch
        };
        assert_eq!(refused(&mut world, &stripped), expected, "only {stays}");
    }
    // Nor does anybody stand beside a command that does not name it, even if it signed.
    let alone = world.sign(read(session));
    let joined = signed(&world, command(&alone), &[agent(), gate]);
    assert_eq!(refused(&mut world, &joined), Refusal::SignersMismatch);
    let exchanged = signed(&world, command(&both), &[agent(), root()]);
    assert_eq!(refused(&mut world, &exchanged), Refusal::SignersMismatch);
    assert!(matches!(world.apply(&both), Applied::Appended(_)));
}

#[test]
fn keys_must_be_known_active_and_the_authors() {
    let (mut world, session) = world();
    let good = world.sign(read(session));
    let stranger = Identity::Agent("stranger".to_owned());
    let by_stranger = signed(&world, command(&good), std::slice::from_ref(&stranger));
    assert_eq!(refused(&mut world, &by_stranger), Refusal::UnknownKey);
    let beside = signed(&world, command(&good), &[agent(), stranger]);
    assert_eq!(refused(&mut world, &beside), Refusal::UnknownKey);
    let by_root = signed(&world, command(&good), &[root()]);
    assert_eq!(refused(&mut world, &by_root), Refusal::NotByAuthor);

    let second = key("the second key of bot");
    world.govern(Body::AddKey(v1::AddKey {
        identity: Some(agent().to_message()),
        key: Some(enrolment(
            &world.origin,
            &agent(),
            &second,
            world.now_us + DAY,
        )),
    }));
    let good = world.sign(read(session));
    let both = [key(&agent().to_string()), second.clone()];
    let twice = resigned(
        &world.origin,
        SignatureDomain::Command,
        command(&good),
        &both,
    );
    assert_eq!(refused(&mut world, &twice), Refusal::NotByAuthor);

    world.govern(Body::RetireKey(v1::RetireKey {
        key_id: public_key(&both[0]).key_id().to_vec(),
    }));
    assert_eq!(refused(&mut world, &good), Refusal::KeyNotActive);
    // The second key ends in a day, to the microsecond.
    world.now_us += DAY;
    let late = world.sign(read(session));
    let by_second = resigned(
        &world.origin,
        SignatureDomain::Command,
        command(&late),
        &[second],
    );
    assert_eq!(refused(&mut world, &by_second), Refusal::KeyNotActive);
}
