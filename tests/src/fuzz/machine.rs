//! Commands: what comes from the wire, and what somebody with a key could sign.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use ed25519_dalek::SigningKey;
use ledger_core::canonical;
use ledger_core::command::{allowed_kinds, decode_submission};
use ledger_core::compartment::{SALT_LEN, commit};
use ledger_core::hash::TreeHash;
use ledger_core::id::Identity;
use ledger_core::limits::{FRESHNESS_US, MAX_ENTRY_LEN, MAX_TIME_US};
use ledger_core::machine::{Applied, Machine, SignatureChecks, check_signatures, tip};
use ledger_core::signature::{SignatureDomain, sign_one};
use ledger_core::signer::Signer;
use ledger_core::state::{State, Txn};
use ledger_proto::v1;
use prost::Message;

use crate::kit::{Story, key, public_key, tell_story};

/// Most commands of one input.
const MAX_COMMANDS: usize = 6;
/// The first byte of the request ids made here, which no command of the story has.
const ID_MARK: u8 = 0xf0;

/// The story, told once per process.
pub(super) fn story() -> &'static Story {
    static STORY: OnceLock<Story> = OnceLock::new();
    STORY.get_or_init(|| tell_story(TreeHash::Sha256))
}

/// Bytes from the wire: whatever they are, applying them neither fails nor writes without an entry.
///
/// # Panics
/// If it does.
pub fn target_submission(data: &[u8]) {
    let story = story();
    if let Ok(submission) = decode_submission(data) {
        assert_eq!(submission.encode_to_vec(), data, "canonical");
        let mut txn = Txn::new(&story.before_the_end);
        apply(
            &story.world.machine,
            &mut txn,
            story.world.now_us,
            &submission,
        );
    }
    // A batch from a peer need not be canonical, only harmless.
    if let Ok(batch) = v1::Batch::decode(data) {
        let mut txn = Txn::new(&story.before_the_end);
        for submission in batch.submissions.iter().take(MAX_COMMANDS) {
            apply(&story.world.machine, &mut txn, batch.time_us, submission);
        }
    }
}

/// Commands that somebody with a key signs, however strange: the bytes are a batch of submissions whose commands get fresh
/// ids and good signatures here, because no fuzzer finds those by itself.
///
/// # Panics
/// If the machine does, or if something it must hold does not.
pub fn target_command(data: &[u8]) {
    let Ok(batch) = v1::Batch::decode(data) else {
        return;
    };
    let story = story();
    let mut now_us = story.world.now_us;
    let mut txn = Txn::new(&story.before_the_end);
    for (number, submission) in batch.submissions.into_iter().take(MAX_COMMANDS).enumerate() {
        // A few steps of time, from a batch that can say anything.
        now_us = now_us
            .saturating_add(batch.time_us % (40 * 86_400_000_000))
            .min(MAX_TIME_US);
        let number = u8::try_from(number).expect("few commands");
        if let Some(submission) = sign(&story.world.origin, now_us, number, submission) {
            apply(&story.world.machine, &mut txn, now_us, &submission);
        }
    }
}

/// The submission with an author who exists, an id of its own, commitments to its compartments, and signatures.
fn sign(
    origin: &str,
    now_us: u64,
    number: u8,
    submission: v1::Submission,
) -> Option<v1::Submission> {
    let signed = submission.signed?;
    let mut command = v1::Command::decode(signed.command.as_slice()).ok()?;
    let body = command.body.as_ref()?;
    if command.commitments.is_empty() {
        let mut compartments: Vec<&v1::Compartment> = submission
            .compartments
            .iter()
            .filter(|compartment| allowed_kinds(body).contains(&compartment.kind()))
            .collect();
        compartments.sort_by_key(|compartment| compartment.kind);
        compartments.dedup_by_key(|compartment| compartment.kind);
        command.commitments = compartments
            .into_iter()
            .filter_map(|compartment| {
                let salt = <&[u8; SALT_LEN]>::try_from(compartment.salt.as_slice()).ok()?;
                Some(commit(compartment.kind(), salt, &compartment.content))
            })
            .collect();
    }
    let author = command
        .author
        .as_ref()
        .and_then(|author| Identity::parse(author).ok())
        .unwrap_or_else(|| Identity::Operator("root".to_owned()));
    command.author = Some(author.to_message());
    command.request_id = [[ID_MARK; 15].as_slice(), &[number]].concat();
    if command.issued_at_us.abs_diff(now_us) > FRESHNESS_US {
        command.issued_at_us = now_us;
    }
    let cosigners: BTreeSet<Identity> = signed
        .signatures
        .iter()
        .skip(1)
        .filter_map(|signature| {
            Some(match signature.batch_size % 5 {
                0 => Identity::Gateway("gate".to_owned()),
                1 => Identity::Agent("bot".to_owned()),
                2 => Identity::Operator("olive".to_owned()),
                3 => Identity::Operator("root".to_owned()),
                _ => return None,
            })
        })
        .filter(|identity| *identity != author)
        .take(3)
        .collect();
    // What the command says of its cosigners itself is kept now and then: others sign then than it names.
    if command.cosigners.is_empty() || number.is_multiple_of(2) {
        command.cosigners = cosigners.iter().map(Identity::to_message).collect();
    }
    let keys: Vec<SigningKey> = std::iter::once(author.clone())
        .chain(cosigners)
        .map(|identity| key(&identity.to_string()))
        .collect();
    let signers: Vec<_> = keys
        .iter()
        .map(|key| (public_key(key).key_id(), key as &dyn Signer))
        .collect();
    let domain = SignatureDomain::of(&author);
    let signed = sign_one(domain, origin, command.encode_to_vec(), &signers).ok()?;
    Some(v1::Submission {
        signed: Some(signed),
        compartments: submission.compartments,
    })
}

/// Applies a submission twice, the second time with signatures checked beforehand: the same must come of it. Then it is
/// committed into the transaction.
fn apply(machine: &Machine, txn: &mut Txn<'_>, time_us: u64, submission: &v1::Submission) {
    let before = tip(txn).expect("sound state");
    let origin = story().world.origin.as_str();
    let checks = check_signatures(txn, origin, submission).expect("sound state");
    let (applied, writes) = once(
        machine,
        txn,
        time_us,
        submission,
        &SignatureChecks::default(),
    );
    assert_eq!(
        once(machine, txn, time_us, submission, &checks),
        (applied.clone(), writes.clone()),
        "the same command gave another entry or other writes"
    );
    let Applied::Appended(appended) = applied else {
        assert!(writes.is_empty(), "no entry, but writes");
        return;
    };
    txn.absorb(writes);
    let after = tip(txn).expect("sound state");
    assert_eq!(after.size.0, before.size.0 + 1);
    assert_eq!(appended.index.0, before.size.0);
    assert!(after.time_us > before.time_us || after.time_us == MAX_TIME_US);
    assert!(
        appended.bytes.len() <= MAX_ENTRY_LEN,
        "an entry over its limit"
    );
    assert_eq!(
        canonical::decode::<v1::Entry>(&appended.bytes, MAX_ENTRY_LEN).as_ref(),
        Ok(&appended.entry)
    );
    assert_eq!(appended.leaf_hash, TreeHash::Sha256.leaf(&appended.bytes));
}

fn once(
    machine: &Machine,
    below: &dyn State,
    time_us: u64,
    submission: &v1::Submission,
    checks: &SignatureChecks,
) -> (Applied, ledger_core::state::Writes) {
    let mut txn = Txn::new(below);
    let applied = machine
        .apply(&mut txn, time_us, submission, checks)
        .expect("no command damages the state");
    (applied, txn.into_writes())
}
