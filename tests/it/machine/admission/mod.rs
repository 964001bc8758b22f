//! Bad input: what is refused leaves no trace at all, and every refusal is the one that DESIGN 4 names.

mod form;
mod replays;

use countersign_tests::kit::{Ask, World, bank, key, public_key};
use ed25519_dalek::SigningKey;
use ledger_core::id::{Identity, SessionId};
use ledger_core::machine::{Applied, Refusal};
use ledger_core::signature::{SignatureDomain, sign_one};
use ledger_core::signer::Signer;
use ledger_proto::v1::{self, CompartmentKind};

const READ: &str = r#"{"doc": "a"}"#;

fn agent() -> Identity {
    Identity::Agent("bot".to_owned())
}

fn root() -> Identity {
    Identity::Operator("root".to_owned())
}

fn world() -> (World, SessionId) {
    let mut world = World::new();
    world.agent("bot");
    world.policy("team", &bank());
    let session = world.session("bot");
    (world, session)
}

fn read(session: SessionId) -> Ask {
    let body = countersign_tests::kit::authorize_body("bot", session, "bank/read");
    Ask::new(agent(), body).with(CompartmentKind::Input, READ.as_bytes())
}

/// Applies what must be refused, and sees that nothing at all has changed.
fn refused(world: &mut World, submission: &v1::Submission) -> Refusal {
    let before = world.state.clone();
    let applied = world.apply(submission);
    assert!(world.state == before, "a refused command changed the state");
    match applied {
        Applied::Refused(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

/// Signs command bytes with keys by name.
fn signed(world: &World, command: Vec<u8>, names: &[Identity]) -> v1::Submission {
    let keys: Vec<SigningKey> = names.iter().map(|name| key(&name.to_string())).collect();
    resigned(&world.origin, SignatureDomain::Command, command, &keys)
}

fn resigned(
    origin: &str,
    domain: SignatureDomain,
    command: Vec<u8>,
    keys: &[SigningKey],
) -> v1::Submission {
    let keys: Vec<_> = keys
        .iter()
        .map(|key| (public_key(key).key_id(), key as &dyn Signer))
        .collect();
    v1::Submission {
        signed: Some(sign_one(domain, origin, command, &keys).expect("one command signs")),
        compartments: Vec::new(),
    }
}

fn command(submission: &v1::Submission) -> Vec<u8> {
    submission.signed.as_ref().expect("signed").command.clone()
}
