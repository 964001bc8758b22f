//! Reasons that the order of checks does not show, and what each kind of decision carries.

use countersign_tests::kit::{
    Ask, SECOND, World, authorize_body, bank, bundle, decision_of, public_key,
};
use ledger_core::id::{Identity, SessionId};
use ledger_proto::v1::{
    self, Assurance, CompartmentKind, DecisionReason as Reason, IdentityStatus, Verdict,
    command::Body,
};

use super::{READ, agent, asked, read, reason};

const EVERYTHING: &str = "@id(\"all\") permit (principal, action, resource);";

fn world_with(rules: &str) -> (World, SessionId) {
    let mut world = World::new();
    world.agent("bot");
    world.policy("team", &bundle("agent", rules));
    let session = world.session("bot");
    (world, session)
}

#[test]
fn an_agent_nobody_registered_is_unknown() {
    let (mut world, session) = world_with(EVERYTHING);
    let body = authorize_body("nobody", session, "bank/read");
    let ask = Ask::new(agent("bot"), body).with(CompartmentKind::Input, READ.as_bytes());
    let denied = world.must(ask);
    let decision = decision_of(&denied.entry);
    assert_eq!(decision.reason(), Reason::AgentUnknown);
    assert_eq!((decision.namespace.as_str(), &decision.chain), ("", &None));
}

#[test]
fn a_revoked_agent_is_denied_even_through_a_gateway() {
    let (mut world, session) = world_with(EVERYTHING);
    world.gateway("gate", "bot", &[v1::GatewayPermission::Authorize]);
    world.govern(Body::SetStatus(v1::SetStatus {
        identity: Some(agent("bot").to_message()),
        status: IdentityStatus::Revoked.into(),
    }));
    let ask = read(super::gateway("gate"), session);
    assert_eq!(asked(&mut world, ask), Reason::AgentRevoked);
}

#[test]
fn every_malformed_field_is_an_invalid_request_with_an_entry() {
    let (mut world, session) = world_with(EVERYTHING);
    let faults: [(&str, fn(&mut v1::Authorize)); 12] = [
        ("no tool", |ask| ask.tool = None),
        ("no name", |ask| ask.tool.as_mut().unwrap().name.clear()),
        ("long name", |ask| {
            ask.tool.as_mut().unwrap().name = "x".repeat(257);
        }),
        ("slash in the server", |ask| {
            ask.tool.as_mut().unwrap().server = "a/b".to_owned();
        }),
        ("control character", |ask| {
            ask.tool.as_mut().unwrap().name = "a\nb".to_owned();
        }),
        ("definition digest", |ask| {
            ask.tool.as_mut().unwrap().definition_digest = vec![1; 31];
        }),
        ("trace id", |ask| ask.trace_id = vec![1; 15]),
        ("span id", |ask| ask.span_id = vec![1; 9]),
        ("parent request", |ask| ask.parent_request_id = vec![1; 17]),
        ("approval", |ask| ask.approval_ref = Some(3)),
        ("no agent", |ask| ask.agent.clear()),
        ("long agent", |ask| ask.agent = "x".repeat(257)),
    ];
    for (what, fault) in faults {
        let Body::Authorize(mut authorize) = authorize_body("bot", session, "bank/read") else {
            panic!("not an Authorize");
        };
        fault(&mut authorize);
        let ask = Ask::new(agent("bot"), Body::Authorize(authorize))
            .with(CompartmentKind::Input, READ.as_bytes());
        assert_eq!(asked(&mut world, ask), Reason::InvalidRequest, "{what}");
    }
    for author in [Identity::Operator("olive".to_owned()), Identity::Node(1)] {
        let denied = world.must(read(author, session));
        assert_eq!(reason(&denied), Reason::InvalidRequest);
        assert_eq!(decision_of(&denied.entry).chain, None);
    }
}

#[test]
fn a_request_without_input_or_with_another_input_is_no_request() {
    let (mut world, session) = world_with(EVERYTHING);
    let bare = Ask::new(agent("bot"), authorize_body("bot", session, "bank/read"));
    assert_eq!(asked(&mut world, bare), Reason::CommitmentMismatch);
    let mut submission = world.sign(read(agent("bot"), session));
    submission.compartments[0].content = br#"{"doc": "b"}"#.to_vec();
    assert_eq!(
        super::applied(&mut world, &submission),
        Reason::CommitmentMismatch
    );
    let mut submission = world.sign(read(agent("bot"), session));
    submission.compartments[0].salt[0] ^= 1;
    assert_eq!(
        super::applied(&mut world, &submission),
        Reason::CommitmentMismatch
    );
}

#[test]
fn no_permit_no_allow() {
    let (mut world, session) =
        world_with("@id(\"no\") forbid (principal, action, resource) when { false };");
    let ask = read(agent("bot"), session);
    assert_eq!(asked(&mut world, ask), Reason::NoMatchingPermit);
}

#[test]
fn a_forbid_that_errs_denies() {
    let rules = format!(
        "{EVERYTHING}\n@id(\"errs\") forbid (principal, action == Countersign::Action::\"bank/pay\", resource) \
         when {{ context.input.amount + 9223372036854775807 < 0 }};"
    );
    let (mut world, session) = world_with(&rules);
    let denied = world.authorize("bot", session, "bank/pay", r#"{"to": "a", "amount": 1}"#);
    let decision = decision_of(&denied.entry);
    assert_eq!(decision.reason(), Reason::EvaluationError);
    assert_eq!(decision.rules.as_ref().unwrap().ids, ["errs"]);
    assert_eq!(decision.permit_expires_at_us, 0);
}

#[test]
fn an_approval_that_is_missing_escalates() {
    let rules = "@id(\"asked\") @approvers(\"finance:2,legal\") permit (principal, action, resource) \
         when { resource != Countersign::Resource::\"prod\" };";
    let (mut world, session) = world_with(rules);
    let first = world.authorize("bot", session, "bank/read", READ);
    let decision = decision_of(&first.entry);
    assert_eq!(
        (decision.verdict(), decision.reason()),
        (Verdict::Escalate, Reason::ApprovalRequired)
    );
    assert_eq!(decision.permit_expires_at_us, 0);
    let escalation = decision.escalation.as_ref().unwrap();
    let approvers: Vec<(&str, u32)> = escalation
        .approvers
        .iter()
        .map(|approver| (approver.group.as_str(), approver.count))
        .collect();
    assert_eq!(approvers, [("finance", 2), ("legal", 1)]);
    assert_eq!(
        escalation.expires_at_us,
        first.entry.time_us + 3_600 * SECOND
    );
    // Another input is another action to approve.
    let second = world.authorize("bot", session, "bank/read", r#"{"doc": "b"}"#);
    let digest = &decision_of(&second.entry)
        .escalation
        .as_ref()
        .unwrap()
        .action_digest;
    assert_ne!(*digest, escalation.action_digest);
}

#[test]
fn a_history_past_its_limit_denies() {
    // Windows inside windows are answered from events, which take room; the common forms do not.
    let rules = "@id(\"once\") permit (principal, action == Countersign::Action::\"bank/read\", resource) when temporal \
         { !(formerly within 1h (Countersign::Action::\"bank/read\"::allowed{ input.doc: \"x\" } \
         && formerly within 1h Countersign::Action::\"bank/read\"::denied{})) };";
    let (mut world, session) = world_with(rules);
    let mut reasons = Vec::new();
    for letter in 'a'..='z' {
        let doc = letter.to_string().repeat(250_000);
        let input = format!(r#"{{"doc": "{doc}"}}"#);
        reasons.push(reason(&world.authorize(
            "bot",
            session,
            "bank/read",
            &input,
        )));
    }
    assert_eq!(reasons[0], Reason::AllowedByPolicy);
    assert_eq!(reasons[25], Reason::HistoryLimit);
    assert!(reasons.is_sorted_by_key(|reason| *reason == Reason::HistoryLimit));
}

#[test]
fn a_permit_ends_after_its_time_and_with_its_session() {
    let (mut world, session) = world_with(EVERYTHING);
    let allowed = world.authorize("bot", session, "bank/read", READ);
    let ends = decision_of(&allowed.entry).permit_expires_at_us;
    assert_eq!(ends, allowed.entry.time_us + 60 * SECOND);

    let opening = world.entry(
        decision_of(&allowed.entry)
            .rests_on
            .as_ref()
            .unwrap()
            .session(),
    );
    let Some(v1::entry::Body::SessionOpening(opening)) = opening.body else {
        panic!("not an opening");
    };
    world.now_us = opening.expires_at_us - 20 * SECOND;
    let late = world.authorize("bot", session, "bank/read", READ);
    assert_eq!(
        decision_of(&late.entry).permit_expires_at_us,
        opening.expires_at_us
    );
}

#[test]
fn a_decision_names_every_leaf_it_rests_on() {
    let mut world = World::new();
    world.agent("bot");
    world.gateway("gate", "bot", &[v1::GatewayPermission::Authorize]);
    world.policy("team", &bank());
    let session = world.session("bot");
    let both = read(agent("bot"), session).cosigned(super::gateway("gate"));
    let allowed = world.must(both);
    let decision = decision_of(&allowed.entry);
    assert_eq!(decision.assurance(), Assurance::BothSigned);
    let rests_on = decision.rests_on.clone().unwrap();
    let made_by = |leaf: Option<u64>| {
        let entry = world.entry(leaf.expect("a leaf"));
        let command = ledger_core::entry::command(&entry).unwrap().unwrap();
        command.body.unwrap()
    };
    assert!(matches!(made_by(rests_on.agent), Body::RegisterAgent(_)));
    assert!(matches!(
        made_by(rests_on.gateway),
        Body::RegisterGateway(_)
    ));
    assert!(matches!(made_by(rests_on.session), Body::OpenSession(_)));
    assert!(matches!(
        made_by(rests_on.activation),
        Body::ActivateBundle(_)
    ));
    assert_eq!(rests_on.approval, None);
    // The keys are named in the order of the signatures.
    let signed = allowed.entry.signed.as_ref().unwrap();
    let of_agent = public_key(&countersign_tests::kit::key(&agent("bot").to_string())).key_id();
    let leaves: Vec<u64> = signed
        .signatures
        .iter()
        .map(|signature| {
            let by_agent = signature.key_id == of_agent.to_vec();
            if by_agent {
                rests_on.agent()
            } else {
                rests_on.gateway()
            }
        })
        .collect();
    assert_eq!(rests_on.keys, leaves);
    assert_eq!(decision.bundle_digest, bank().digest().0);
}
