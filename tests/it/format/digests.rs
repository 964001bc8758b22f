//! The digests inside entries and state, computed once more as the document says, with nothing but a hash.

use countersign_tests::kit::{Story, decision_of, story_context, tell_story};
use ledger_core::hash::TreeHash;
use ledger_core::state::{Key, State};
use ledger_proto::v1::{self, command::Body};
use prost::Message;
use sha2::Digest as _;

/// A length in two bytes and the text.
fn str16(text: &str) -> Vec<u8> {
    let len = u16::try_from(text.len()).expect("short");
    [&len.to_be_bytes()[..], text.as_bytes()].concat()
}

fn blake3_of(parts: &[&[u8]]) -> Vec<u8> {
    blake3::hash(&parts.concat()).as_bytes().to_vec()
}

fn decision<'a>(story: &'a Story, name: &str) -> (&'a v1::Entry, &'a v1::Decision) {
    let told = story.told.iter().find(|told| told.name == name);
    let entry = &told.expect("told").appended.entry;
    (entry, decision_of(entry))
}

#[test]
fn the_digest_of_rules_is_over_their_ids() {
    let story = tell_story(TreeHash::Sha256);
    for (name, rule) in [
        ("authorize", "pay-cap"),
        ("authorize_denied", "never-mallory"),
        ("authorize_escalated", "pay-much"),
    ] {
        let (_, decision) = decision(&story, name);
        let rules = decision.rules.as_ref().expect("rules");
        assert_eq!(rules.ids, [rule], "{name}");
        let expected = blake3_of(&[b"countersign-rules-v1\0", &str16(rule)]);
        assert_eq!(rules.digest, expected, "{name}");
    }
}

#[test]
fn the_digest_that_approvals_name_is_over_agent_session_action_and_commitments() {
    let story = tell_story(TreeHash::Sha256);
    let (entry, decision) = decision(&story, "authorize_escalated");
    let command = ledger_core::entry::command(entry).expect("decodes");
    let command = command.expect("a command");
    let Some(Body::Authorize(ask)) = &command.body else {
        panic!("not an Authorize");
    };
    let commitments: Vec<u8> = command
        .commitments
        .iter()
        .flat_map(|commitment| {
            let bytes = commitment.encode_to_vec();
            // One byte of varint is enough below 128.
            let len = u8::try_from(bytes.len()).expect("short");
            assert!(len < 128);
            [&[len][..], &bytes].concat()
        })
        .collect();
    let expected = blake3_of(&[
        b"countersign-action-v1\0",
        &str16("bot"),
        &ask.session_id,
        &str16("bank/pay"),
        &commitments,
    ]);
    let escalation = decision.escalation.as_ref().expect("an escalation");
    assert_eq!(escalation.action_digest, expected);
}

#[test]
fn the_digest_of_a_subject_is_over_issuer_and_subject() {
    let story = tell_story(TreeHash::Sha256);
    let key = Key::session(story.open_session);
    let record = story.world.state.get(key.as_bytes()).expect("sound");
    let record = v1::SessionRecord::decode(record.expect("a record").as_slice());
    let subject = story_context().subject.expect("a subject");
    let len = u32::try_from(subject.iss.len()).expect("short");
    let expected = blake3_of(&[
        b"countersign-subject-v1\0",
        &len.to_be_bytes(),
        subject.iss.as_bytes(),
        subject.sub.as_bytes(),
    ]);
    assert_eq!(record.expect("decodes").subject_digest, expected);
}

#[test]
fn the_digest_of_the_state_is_over_its_pairs() {
    let story = tell_story(TreeHash::Sha256);
    let mut bytes = b"countersign-state-v1\0".to_vec();
    for (key, value) in story.world.state.pairs() {
        if key[0] >= 0x40 {
            continue;
        }
        for part in [key, value] {
            bytes.extend_from_slice(&u32::try_from(part.len()).expect("short").to_be_bytes());
            bytes.extend_from_slice(part);
        }
    }
    let digest = ledger_core::state::state_digest(&story.world.state).expect("sound");
    assert_eq!(digest.as_bytes().to_vec(), blake3_of(&[&bytes]));
}

#[test]
fn a_chain_is_linked_by_leaf_hashes() {
    let story = tell_story(TreeHash::Sha256);
    let chain: Vec<_> = story
        .told
        .iter()
        .filter_map(|told| {
            let link = ledger_core::entry::chain(&told.appended.entry)?;
            (link.session_id == story.open_session.to_vec() && !link.late)
                .then_some((link, &told.appended.bytes))
        })
        .collect();
    assert!(chain.len() > 5, "a short story");
    let mut previous = Vec::new();
    for (number, (link, bytes)) in (1_u64..).zip(chain) {
        assert_eq!((link.number, &link.previous_hash), (number, &previous));
        let leaf = sha2::Sha256::digest([&[0][..], bytes.as_slice()].concat());
        previous = leaf.to_vec();
    }
}
