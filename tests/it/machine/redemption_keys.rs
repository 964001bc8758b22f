//! Redeem and keys: a decision rests on the keys that signed its request, and ends with the first of them.

use countersign_tests::kit::{
    Ask, DAY, SECOND, authorize_body, decision_of, enrolment, key, public_key, redemption_of,
};
use ed25519_dalek::SigningKey;
use ledger_core::id::Identity;
use ledger_core::machine::{Appended, Applied};
use ledger_core::signature::{SignatureDomain, sign_one};
use ledger_core::signer::Signer;
use ledger_proto::v1::{self, RedemptionReason as Reason, StateDrift, Verdict, command::Body};

use super::redemptions::{READ, Stage, bot, gate, redeem_body};

/// Asks to read, signed by the agent with this key and by these gateways.
fn asked_with(stage: &mut Stage, signer: &SigningKey, cosigners: &[Identity]) -> Appended {
    let body = authorize_body("bot", stage.session, "bank/read");
    let mut ask = Ask::new(bot(), body).with(v1::CompartmentKind::Input, READ.as_bytes());
    for cosigner in cosigners {
        ask = ask.cosigned(cosigner.clone());
    }
    let decision = apply_with(stage, ask, signer);
    assert_eq!(decision_of(&decision.entry).verdict(), Verdict::Allow);
    decision
}

/// Applies a command of the agent that it signs with this key, and each cosigner with its own.
fn apply_with(stage: &mut Stage, ask: Ask, signer: &SigningKey) -> Appended {
    let domain = SignatureDomain::of(&ask.author);
    let others: Vec<SigningKey> = ask
        .cosigners
        .iter()
        .map(|by| key(&by.to_string()))
        .collect();
    let mut submission = stage.world.sign(ask);
    let command = submission.signed.take().expect("a command").command;
    let signers = others.iter().chain([signer]);
    let signers: Vec<_> = signers
        .map(|one| (public_key(one).key_id(), one as &dyn Signer))
        .collect();
    let signed = sign_one(domain, &stage.world.origin, command, &signers);
    submission.signed = Some(signed.expect("one command signs"));
    match stage.world.apply(&submission) {
        Applied::Appended(appended) => *appended,
        other => panic!("no entry: {other:?}"),
    }
}

/// Gives the agent one more key, which ends then.
fn add_key(stage: &mut Stage, name: &str, not_after_us: u64) -> SigningKey {
    let signer = key(name);
    let enrolment = enrolment(&stage.world.origin, &bot(), &signer, not_after_us);
    stage.world.govern(Body::AddKey(v1::AddKey {
        identity: Some(bot().to_message()),
        key: Some(enrolment),
    }));
    signer
}

fn retire(stage: &mut Stage, signer: &SigningKey) {
    let key_id = public_key(signer).key_id().as_bytes().to_vec();
    let retired = Body::RetireKey(v1::RetireKey { key_id });
    stage.world.govern(retired);
}

const KEY_NOT_ACTIVE: &[StateDrift] = &[StateDrift::KeyNotActive];

#[test]
fn a_key_that_was_retired_since_takes_its_permits_along_whichever_key_redeems() {
    let mut stage = Stage::new();
    let first = key(&bot().to_string());
    let end_us = stage.world.now_us + DAY;
    let (second, unused) = (
        add_key(&mut stage, "second", end_us),
        add_key(&mut stage, "unused", end_us),
    );
    let by_first = asked_with(&mut stage, &first, &[]);
    let by_second = asked_with(&mut stage, &second, &[]);
    let redeemed = asked_with(&mut stage, &second, &[]);
    stage.must(bot(), &redeemed, Reason::Redeemed, &[]);

    // A key that signed nothing of it is nothing that a decision rests on.
    retire(&mut stage, &unused);
    retire(&mut stage, &second);
    stage.must(bot(), &by_second, Reason::StateDrift, KEY_NOT_ACTIVE);
    stage.must(gate(), &by_second, Reason::StateDrift, KEY_NOT_ACTIVE);
    assert_eq!(stage.redeemed_by(&by_second), None);
    // Rotation is no exception: who has a new key asks again with it.
    let third = add_key(&mut stage, "third", end_us);
    retire(&mut stage, &first);
    let rotated = Ask::new(bot(), redeem_body(&by_first));
    let answer = apply_with(&mut stage, rotated, &third);
    let redemption = redemption_of(&answer.entry);
    assert_eq!(redemption.reason(), Reason::StateDrift);
    let drift: Vec<StateDrift> = redemption.state_drift().collect();
    assert_eq!(drift, KEY_NOT_ACTIVE);
    let again = asked_with(&mut stage, &third, &[]);
    let redeem = Ask::new(bot(), redeem_body(&again));
    let answer = apply_with(&mut stage, redeem, &third);
    assert_eq!(redemption_of(&answer.entry).reason(), Reason::Redeemed);
}

#[test]
fn a_key_that_ended_since_and_that_of_a_cosigning_gateway_count_too() {
    let mut stage = Stage::new();
    let first = key(&bot().to_string());
    let end_us = stage.world.now_us + 30 * SECOND;
    let short = add_key(&mut stage, "short", end_us);
    let by_short = asked_with(&mut stage, &short, &[]);
    let in_time = asked_with(&mut stage, &short, &[]);
    stage.world.now_us = end_us - SECOND;
    stage.must(bot(), &in_time, Reason::Redeemed, &[]);
    stage.world.now_us = end_us;
    stage.must(bot(), &by_short, Reason::StateDrift, KEY_NOT_ACTIVE);

    let cosigned = asked_with(&mut stage, &first, &[gate()]);
    retire(&mut stage, &key(&gate().to_string()));
    stage.must(bot(), &cosigned, Reason::StateDrift, KEY_NOT_ACTIVE);
}
