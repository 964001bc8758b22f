//! Sizes add up: no entry is longer than 60,000 bytes, no Raft entry longer than 2 MiB.

use countersign_tests::kit::{Ask, World, bundle, decision_of, result_of};
use ledger_core::batch::BatchBuilder;
use ledger_core::id::Identity;
use ledger_core::limits::{
    BUNDLE_CHUNK_LEN, MAX_APPROVERS, MAX_BATCH_LEN, MAX_BATCH_SUBMISSIONS, MAX_CONDITION_LEN,
    MAX_CONDITIONS, MAX_ENTRY_LEN, MAX_ID_LEN, MAX_NAMESPACE_LEN, MAX_RULES_IN_ENTRY,
    MAX_SIGNATURES, MAX_SIGNED_CHUNK_LEN, MAX_SIGNED_COMMAND_LEN, MAX_SUBMISSION_LEN,
};
use ledger_core::machine::Applied;
use ledger_proto::v1::{self, CompartmentKind, command::Body, entry};
use prost::Message;

/// The longest `@id` of a rule.
const MAX_RULE_ID_LEN: usize = 128;

fn link() -> v1::ChainLink {
    v1::ChainLink {
        session_id: vec![1; 16],
        number: u64::MAX,
        previous_hash: vec![1; 32],
        late: true,
    }
}

fn identity() -> v1::Identity {
    v1::Identity {
        kind: v1::IdentityKind::Gateway.into(),
        id: "x".repeat(MAX_ID_LEN),
    }
}

/// The bytes of an entry whose command is as long as commands get, and everything the machine adds to it.
fn entry_len(signed_len: usize, body: entry::Body) -> usize {
    let rest = v1::Entry {
        index: u64::MAX,
        time_us: u64::MAX,
        engine_version: u32::MAX,
        signed: None,
        stored: (1..=6).collect(),
        body: Some(body),
    };
    // A tag and a length of three bytes precede the signed command.
    rest.encoded_len() + 4 + signed_len
}

/// A decision in which everything is there at its greatest, even what excludes each other.
fn longest_decision() -> v1::Decision {
    let kind = "x".repeat(MAX_CONDITION_LEN / 2);
    v1::Decision {
        verdict: v1::Verdict::Escalate.into(),
        reason: v1::DecisionReason::EvaluationError.into(),
        rules: Some(v1::DeterminingRules {
            ids: vec!["x".repeat(MAX_RULE_ID_LEN); MAX_RULES_IN_ENTRY],
            count: u32::MAX,
            digest: vec![1; 32],
        }),
        conditions: vec![
            v1::Condition {
                value: kind.clone(),
                r#type: kind,
                critical: true,
            };
            MAX_CONDITIONS
        ],
        namespace: "x".repeat(MAX_NAMESPACE_LEN),
        bundle_digest: vec![1; 32],
        rests_on: Some(v1::RestsOn {
            agent: Some(u64::MAX),
            session: Some(u64::MAX),
            activation: Some(u64::MAX),
            approval: Some(u64::MAX),
            gateway: Some(u64::MAX),
            keys: vec![u64::MAX; MAX_SIGNATURES],
        }),
        chain: Some(link()),
        presenter: Some(identity()),
        assurance: v1::Assurance::BothSigned.into(),
        permit_expires_at_us: u64::MAX,
        escalation: Some(v1::Escalation {
            approvers: vec![
                v1::Approver {
                    group: "x".repeat(MAX_CONDITION_LEN),
                    count: u32::MAX,
                };
                MAX_APPROVERS
            ],
            action_digest: vec![1; 32],
            expires_at_us: u64::MAX,
        }),
        single_use: true,
    }
}

#[test]
fn no_entry_is_longer_than_60_000_bytes() {
    let namespace = "x".repeat(MAX_NAMESPACE_LEN);
    let outcome = v1::Outcome {
        drift: (1..=5).collect(),
        notices: (1..=7).collect(),
        chain: Some(link()),
        recorder: Some(identity()),
        namespace: namespace.clone(),
        observed: true,
    };
    let opening = v1::SessionOpening {
        result: v1::Result::NotSupported.into(),
        namespace: namespace.clone(),
        chain: Some(link()),
        expires_at_us: u64::MAX,
        depth: u32::MAX,
        subject_assurance: 3,
        agent_leaf: Some(u64::MAX),
        parent_leaf: Some(u64::MAX),
    };
    let end = v1::SessionEnd {
        result: v1::Result::NotSupported.into(),
        session_id: vec![1; 16],
        kind: 3,
        count: u64::MAX,
        head: vec![1; 32],
        namespace: namespace.clone(),
    };
    let redemption = v1::Redemption {
        reason: v1::RedemptionReason::StateDrift.into(),
        state_drift: (1..=11).collect(),
        chain: longest_decision().chain,
        presenter: longest_decision().presenter,
        assurance: v1::Assurance::BothSigned.into(),
        namespace: namespace.clone(),
        permit_expires_at_us: u64::MAX,
        redeemed_by: Some(u64::MAX),
        keys: vec![u64::MAX; MAX_SIGNATURES],
    };
    let governance = |detail| v1::Governance {
        result: v1::Result::NotSupported.into(),
        namespace: namespace.clone(),
        detail: Some(detail),
    };
    let activation = v1::governance::Detail::Activation(v1::Activation {
        previous_digest: vec![1; 32],
        short_history: vec!["x".repeat(MAX_RULE_ID_LEN); MAX_RULES_IN_ENTRY],
    });
    let erasure = v1::governance::Detail::Erasure(v1::Erasure {
        erased: u32::MAX,
        values_until_us: u64::MAX,
    });
    let publication = v1::governance::Detail::Publication(v1::Publication { complete: true });
    let (command, chunk) = (MAX_SIGNED_COMMAND_LEN, MAX_SIGNED_CHUNK_LEN);
    let lengths = [
        entry_len(command, entry::Body::Decision(longest_decision())),
        entry_len(command, entry::Body::Outcome(outcome)),
        entry_len(command, entry::Body::Redemption(redemption)),
        entry_len(command, entry::Body::SessionOpening(opening)),
        entry_len(command, entry::Body::SessionEnd(end)),
        entry_len(command, entry::Body::Governance(governance(activation))),
        entry_len(command, entry::Body::Governance(governance(erasure))),
        entry_len(chunk, entry::Body::Governance(governance(publication))),
    ];
    for length in lengths {
        assert!(length <= MAX_ENTRY_LEN, "{length}");
    }
    // The limits leave no more than reserve: the longest decision comes close.
    assert!(lengths[0] > MAX_ENTRY_LEN - 2_000, "{}", lengths[0]);
}

#[test]
fn the_machine_makes_no_longer_decision_than_that() {
    let rules: String = (0..70)
        .map(|n| {
            let id = format!("{n:0>128}");
            let condition = match n {
                0..32 => format!("@obligation(\"{n:0>256}:{n:0>255}\")"),
                _ => String::new(),
            };
            format!("@id(\"{id}\") {condition} permit (principal, action, resource);\n")
        })
        .collect();
    let mut world = World::new();
    let name = "b".repeat(MAX_ID_LEN);
    world.agent(&name);
    world.policy("team", &bundle("agent", &rules));
    let session = world.session(&name);
    let mut body = countersign_tests::kit::authorize_body(&name, session, "bank/read");
    if let Body::Authorize(authorize) = &mut body {
        authorize.tool_call_id = "x".repeat(1_024);
    }
    let ask = Ask::new(Identity::Agent(name), body)
        .with(CompartmentKind::Input, br#"{"doc": "a"}"#)
        .cosigned(Identity::Operator("olive".to_owned()))
        .cosigned(Identity::Operator("root".to_owned()));
    let allowed = world.must(ask);
    let decision = decision_of(&allowed.entry);
    assert_eq!(decision.verdict(), v1::Verdict::Allow);
    let rules = decision.rules.as_ref().expect("rules");
    assert_eq!((rules.ids.len(), rules.count), (MAX_RULES_IN_ENTRY, 70));
    assert_eq!(decision.conditions.len(), MAX_CONDITIONS);
    assert!(decision.encoded_len() <= longest_decision().encoded_len());
    assert!(allowed.bytes.len() <= MAX_ENTRY_LEN);
}

#[test]
fn the_longest_chunk_fits_its_command_whoever_signs() {
    let mut world = World::new();
    let publish = Body::PublishBundle(v1::PublishBundle {
        namespace: "team".to_owned(),
        digest: vec![1; 32],
        chunk_index: 0,
        chunk_count: 171,
        chunk: vec![0xff; BUNDLE_CHUNK_LEN],
    });
    let mut ask = Ask::new(Identity::Operator("root".to_owned()), publish)
        .with(CompartmentKind::Reason, &[b'r'; 4_096]);
    for n in 0..MAX_SIGNATURES - 1 {
        ask = ask.cosigned(world.operator(&format!("{n:0>256}"), &[]));
    }
    let published = world.must(ask);
    assert_eq!(result_of(&published.entry), v1::Result::Applied);
    assert!(published.bytes.len() <= MAX_ENTRY_LEN);
}

fn submission_of(len: usize) -> v1::Submission {
    let mut submission = v1::Submission {
        signed: None,
        compartments: vec![v1::Compartment {
            kind: CompartmentKind::Input.into(),
            salt: vec![1; 32],
            content: vec![1; len],
        }],
    };
    let excess = submission.encoded_len() - len;
    submission.compartments[0].content.truncate(len - excess);
    submission
}

#[test]
fn no_raft_entry_is_longer_than_2_mib() {
    for len in [
        200,
        1_000,
        70_000,
        MAX_SUBMISSION_LEN - 100,
        MAX_SUBMISSION_LEN,
    ] {
        let submission = submission_of(len);
        let mut builder = BatchBuilder::new(u64::MAX, u64::MAX, &[1; 32]);
        let mut pushed = 0;
        while builder.push(submission.clone()).is_ok() {
            pushed += 1;
        }
        let batch = builder.finish();
        assert!(pushed >= 1, "an empty batch takes every submission");
        assert_eq!(batch.submissions.len(), pushed);
        let room = MAX_BATCH_LEN - batch.encoded_len();
        // It stops at its limit, and not long before it.
        assert!(
            pushed == MAX_BATCH_SUBMISSIONS || room < len + 64 + 6 * pushed,
            "{len}: {pushed} with {room} left"
        );
    }
}

#[test]
fn the_longest_authorize_with_the_longest_input_is_one_submission() {
    let mut world = World::new();
    world.agent("bot");
    let session = world.session("bot");
    let body = countersign_tests::kit::authorize_body("bot", session, "bank/read");
    let ask = Ask::new(Identity::Agent("bot".to_owned()), body)
        .with(CompartmentKind::Input, &[b' '; 262_144])
        .with(CompartmentKind::Resource, &[0; 16_384]);
    let submission = world.sign(ask);
    assert!(submission.encoded_len() <= MAX_SUBMISSION_LEN);
    assert!(matches!(world.apply(&submission), Applied::Appended(_)));
}
