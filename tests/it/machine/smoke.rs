//! The life of a request, once through.

use countersign_tests::kit::{World, bank, decision_of, outcome_of};
use ledger_proto::v1::{DecisionReason, Drift, Notice, Verdict};

#[test]
fn a_request_is_decided_recorded_and_remembered() {
    let mut world = World::new();
    world.agent("bot");
    world.policy("team", &bank());
    let session = world.session("bot");

    let allowed = world.authorize(
        "bot",
        session,
        "bank/pay",
        r#"{"to": "alice", "amount": 5}"#,
    );
    let decision = decision_of(&allowed.entry);
    assert_eq!(
        (decision.verdict(), decision.reason()),
        (Verdict::Allow, DecisionReason::AllowedByPolicy)
    );
    assert_eq!(decision.rules.as_ref().unwrap().ids, ["pay-cap"]);
    assert_eq!(decision.conditions[0].value, "finance");
    assert_eq!(
        decision.permit_expires_at_us,
        allowed.entry.time_us + 120_000_000
    );

    let outcome = world.record("bot", &allowed, None);
    let outcome = outcome_of(&outcome.entry);
    assert_eq!(outcome.drift().collect::<Vec<Drift>>(), []);
    assert_eq!(
        outcome.notices().collect::<Vec<_>>(),
        [Notice::SelfReported]
    );
    assert!(outcome.observed);

    let denied = world.authorize(
        "bot",
        session,
        "bank/pay",
        r#"{"to": "mallory", "amount": 5}"#,
    );
    let decision = decision_of(&denied.entry);
    assert_eq!(
        (decision.verdict(), decision.reason()),
        (Verdict::Deny, DecisionReason::ForbiddenByPolicy)
    );
    assert_eq!(decision.rules.as_ref().unwrap().ids, ["never-mallory"]);
    assert_eq!(decision.chain.as_ref().unwrap().number, 4);
}
