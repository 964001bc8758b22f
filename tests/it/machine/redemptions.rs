//! Redeem: the first redemption of a decision is the only one, and says yes only while everything that the decision rests on
//! is as it was.

use countersign_tests::kit::{
    Ask, SECOND, World, bank, bundle, decision_of, input_digest, outcome_of, redemption_of,
    result_of,
};
use ledger_core::evidence::{self, EvidenceError, Sources};
use ledger_core::hash::LeafIndex;
use ledger_core::id::{Identity, SessionId};
use ledger_core::machine::{Appended, Applied};
use ledger_core::note::tlog_policy::TlogPolicy;
use ledger_core::state::{Key, read};
use ledger_proto::v1::{
    self, Assurance, Drift, ExecutionStatus, GatewayPermission, IdentityStatus,
    RedemptionReason as Reason, StateDrift, Verdict, command::Body,
};

pub(super) const READ: &str = r#"{"doc": "a"}"#;

/// A ledger whose agent "bot" has a gateway "gate" that may authorize for it, and one, "recorder", that may not.
pub(super) struct Stage {
    pub(super) world: World,
    pub(super) session: SessionId,
}

pub(super) fn bot() -> Identity {
    Identity::Agent("bot".to_owned())
}

pub(super) fn gate() -> Identity {
    Identity::Gateway("gate".to_owned())
}

fn root() -> Identity {
    Identity::Operator("root".to_owned())
}

impl Stage {
    pub(super) fn new() -> Self {
        Self::with(bank())
    }

    fn with(bundle: policy_engine::Bundle) -> Self {
        let mut world = World::new();
        world.agent("bot");
        world.agent("other");
        world.gateway("gate", "bot", &[GatewayPermission::Authorize]);
        world.gateway("recorder", "bot", &[GatewayPermission::Record]);
        world.policy("team", &bundle);
        let session = world.session("bot");
        Self { world, session }
    }

    fn reads(&mut self) -> Appended {
        let allowed = self.world.authorize("bot", self.session, "bank/read", READ);
        assert_eq!(decision_of(&allowed.entry).verdict(), Verdict::Allow);
        allowed
    }

    fn redeem(&mut self, by: Identity, decision: &Appended) -> Appended {
        let body = redeem_body(decision);
        self.world.must(Ask::new(by, body))
    }

    /// Demands that redeeming this is answered so, and that a refusal leaves no trace but its entry.
    pub(super) fn must(
        &mut self,
        by: Identity,
        decision: &Appended,
        reason: Reason,
        drift: &[StateDrift],
    ) -> Appended {
        let answer = self.redeem(by, decision);
        let redemption = redemption_of(&answer.entry);
        assert_eq!(redemption.reason(), reason, "{redemption:?}");
        assert_eq!(redemption.state_drift().collect::<Vec<_>>(), drift);
        assert_eq!(
            redemption.permit_expires_at_us != 0,
            reason == Reason::Redeemed
        );
        answer
    }

    pub(super) fn redeemed_by(&self, decision: &Appended) -> Option<u64> {
        let key = Key::redemption_of(decision.index);
        let record: Option<v1::LeafRecord> = read(&self.world.state, &key).expect("sound");
        record.map(|record| record.leaf)
    }

    fn record(&mut self, decision: &Appended, redemption: Option<u64>) -> Vec<Drift> {
        let record = Body::Record(v1::Record {
            decision_index: decision.index.0,
            status: ExecutionStatus::Succeeded.into(),
            executed_input_digest: input_digest(&decision.entry),
            redemption_index: redemption,
            ..v1::Record::default()
        });
        let outcome = self.world.must(Ask::new(bot(), record));
        outcome_of(&outcome.entry).drift().collect()
    }
}

pub(super) fn redeem_body(decision: &Appended) -> Body {
    Body::Redeem(v1::Redeem {
        decision_index: decision.index.0,
        input_digest: input_digest(&decision.entry),
    })
}

#[test]
fn the_first_redemption_is_the_only_one() {
    let mut stage = Stage::new();
    let decision = stage.reads();
    assert_eq!(stage.redeemed_by(&decision), None);
    let first = stage.must(bot(), &decision, Reason::Redeemed, &[]);
    let redemption = redemption_of(&first.entry);
    let found = decision_of(&decision.entry);
    assert_eq!(
        redemption.permit_expires_at_us, found.permit_expires_at_us,
        "as long as the decision says"
    );
    assert_eq!(redemption.assurance(), Assurance::AgentSigned);
    assert_eq!(redemption.namespace, "team");
    // It is in the session's chain.
    let link = redemption.chain.clone().expect("a link");
    let before = found.chain.clone().expect("a link");
    assert_eq!(link.number, before.number + 1);
    assert_eq!(link.previous_hash, decision.leaf_hash.as_bytes());
    assert_eq!(stage.redeemed_by(&decision), Some(first.index.0));

    for by in [bot(), gate()] {
        let later = stage.must(by, &decision, Reason::AlreadyRedeemed, &[]);
        let told = redemption_of(&later.entry).redeemed_by;
        assert_eq!(told, Some(first.index.0));
    }
    assert_eq!(stage.redeemed_by(&decision), Some(first.index.0));
    // Another decision about the same has a redemption of its own, by a gateway too.
    let other = stage.reads();
    let by_gateway = stage.must(gate(), &other, Reason::Redeemed, &[]);
    let redemption = redemption_of(&by_gateway.entry);
    assert_eq!(redemption.assurance(), Assurance::GatewayAsserted);
    assert_eq!(redemption.presenter, Some(gate().to_message()));
}

#[test]
fn only_who_may_present_for_the_agent_redeems_and_nobody_else_gets_into_the_chain() {
    let mut stage = Stage::new();
    let decision = stage.reads();
    let strangers = [
        Identity::Agent("other".to_owned()),
        Identity::Gateway("recorder".to_owned()),
        root(),
    ];
    for by in strangers {
        let answer = stage.must(by, &decision, Reason::PresenterNotPermitted, &[]);
        let redemption = redemption_of(&answer.entry);
        assert_eq!(redemption.chain, None);
        assert_eq!(redemption.assurance(), Assurance::Unspecified);
    }
    let malformed = Body::Redeem(v1::Redeem {
        decision_index: decision.index.0,
        input_digest: vec![7; 31],
    });
    let answer = stage.world.must(Ask::new(bot(), malformed));
    assert_eq!(
        redemption_of(&answer.entry).reason(),
        Reason::InvalidRequest
    );
    for leaf in [0, 10_000, answer.index.0] {
        let nothing = Body::Redeem(v1::Redeem {
            decision_index: leaf,
            input_digest: vec![7; 32],
        });
        let answer = stage.world.must(Ask::new(bot(), nothing));
        let redemption = redemption_of(&answer.entry);
        assert_eq!(redemption.reason(), Reason::DecisionUnknown, "{leaf}");
    }
    let denied = stage.world.authorize(
        "bot",
        stage.session,
        "bank/pay",
        r#"{"to": "mallory", "amount": 1}"#,
    );
    let answer = stage.must(bot(), &denied, Reason::NotAllowed, &[]);
    assert!(redemption_of(&answer.entry).chain.is_some());
    stage.must(bot(), &decision, Reason::Redeemed, &[]);
}

type Change = fn(&mut Stage);

fn set_status(stage: &mut Stage, identity: &Identity, status: IdentityStatus) {
    stage.world.govern(Body::SetStatus(v1::SetStatus {
        identity: Some(identity.to_message()),
        status: status.into(),
    }));
}

fn halt(stage: &mut Stage) {
    stage.world.govern(Body::SetHalt(v1::SetHalt {
        id: "stop".to_owned(),
        scope: Some(v1::HaltScope {
            target: Some(v1::halt_scope::Target::Action("bank/*".to_owned())),
        }),
        expires_at_us: 0,
    }));
}

fn close(stage: &mut Stage) {
    let body = Body::CloseSession(v1::CloseSession {
        session_id: stage.session.to_vec(),
    });
    let answer = stage.world.must(Ask::new(root(), body));
    assert_eq!(result_of(&answer.entry), v1::Result::Applied);
}

#[test]
fn whatever_changed_since_the_decision_is_named_and_is_never_a_yes() {
    let changes: [(&str, Change, &[StateDrift]); 9] = [
        ("nothing", |_| (), &[]),
        (
            "the permit's time is over",
            |stage| stage.world.now_us += 60 * SECOND,
            &[StateDrift::PermitExpired],
        ),
        ("a halt", halt, &[StateDrift::Halted]),
        (
            "a suspension",
            |stage| set_status(stage, &bot(), IdentityStatus::Suspended),
            &[StateDrift::AgentSuspended],
        ),
        (
            "a suspension that was lifted",
            |stage| {
                set_status(stage, &bot(), IdentityStatus::Suspended);
                set_status(stage, &bot(), IdentityStatus::Active);
            },
            &[StateDrift::AgentChanged],
        ),
        (
            "another group",
            |stage| {
                stage.world.govern(Body::UpdateAgent(v1::UpdateAgent {
                    id: "bot".to_owned(),
                    owner: "olive".to_owned(),
                    groups: vec!["approvers".to_owned()],
                    ..v1::UpdateAgent::default()
                }));
            },
            &[StateDrift::AgentChanged],
        ),
        ("the session's end", close, &[StateDrift::SessionClosed]),
        (
            "the session's time is over",
            |stage| stage.world.now_us += 3_600 * SECOND,
            &[StateDrift::PermitExpired, StateDrift::SessionExpired],
        ),
        (
            "another bundle",
            |stage| {
                let rules = "@id(\"none\") permit (principal, action, resource);";
                stage.world.policy("team", &bundle("agent", rules));
            },
            &[StateDrift::PolicyChanged],
        ),
    ];
    for (what, change, drift) in changes {
        let mut stage = Stage::new();
        let decision = stage.reads();
        change(&mut stage);
        let reason = if drift.is_empty() {
            Reason::Redeemed
        } else {
            Reason::StateDrift
        };
        stage.must(bot(), &decision, reason, drift);
        let redeemed = stage.redeemed_by(&decision).is_some();
        assert_eq!(redeemed, drift.is_empty(), "{what}");
    }
}

#[test]
fn what_will_run_is_what_was_authorized_and_a_refusal_uses_nothing_up() {
    let mut stage = Stage::new();
    let decision = stage.reads();
    let changed = Body::Redeem(v1::Redeem {
        decision_index: decision.index.0,
        input_digest: vec![7; 32],
    });
    let answer = stage.world.must(Ask::new(bot(), changed.clone()));
    let redemption = redemption_of(&answer.entry);
    assert_eq!(redemption.reason(), Reason::StateDrift);
    let drift: Vec<StateDrift> = redemption.state_drift().collect();
    assert_eq!(drift, [StateDrift::InputChanged]);
    halt(&mut stage);
    let answer = stage.world.must(Ask::new(bot(), changed));
    let drift: Vec<StateDrift> = redemption_of(&answer.entry).state_drift().collect();
    assert_eq!(drift, [StateDrift::Halted, StateDrift::InputChanged]);
    stage.world.govern(Body::ClearHalt(v1::ClearHalt {
        id: "stop".to_owned(),
    }));
    stage.must(bot(), &decision, Reason::Redeemed, &[]);
}

#[test]
fn a_gateway_that_presented_and_was_suspended_since_takes_its_permits_along() {
    let mut stage = Stage::new();
    let body = countersign_tests::kit::authorize_body("bot", stage.session, "bank/read");
    let ask = Ask::new(gate(), body).with(v1::CompartmentKind::Input, READ.as_bytes());
    let decision = stage.world.must(ask);
    assert_eq!(decision_of(&decision.entry).verdict(), Verdict::Allow);
    set_status(&mut stage, &gate(), IdentityStatus::Suspended);
    stage.must(gate(), &decision, Reason::PresenterNotPermitted, &[]);
    let drift = &[StateDrift::PresenterChanged];
    stage.must(bot(), &decision, Reason::StateDrift, drift);
}

#[test]
fn the_same_redemption_again_is_the_same_entry_and_the_decision_is_no_yes_any_more() {
    let mut stage = Stage::new();
    let question = Ask::new(
        bot(),
        countersign_tests::kit::authorize_body("bot", stage.session, "bank/read"),
    )
    .with(v1::CompartmentKind::Input, READ.as_bytes());
    let asked = stage.world.sign(question);
    let Applied::Appended(decision) = stage.world.apply(&asked) else {
        panic!("no entry");
    };
    let lives = |stage: &mut Stage| match stage.world.apply(&asked) {
        Applied::Replayed { now, .. } => now.permits(),
        other => panic!("not replayed: {other:?}"),
    };
    assert!(lives(&mut stage));
    let redeem = Ask::new(bot(), redeem_body(&decision));
    let submission = stage.world.sign(redeem);
    let Applied::Appended(first) = stage.world.apply(&submission) else {
        panic!("no entry");
    };
    assert_eq!(redemption_of(&first.entry).reason(), Reason::Redeemed);
    let again = stage.world.apply(&submission);
    assert!(matches!(again, Applied::Replayed { index, .. } if index == first.index));
    assert!(!lives(&mut stage));
}

#[test]
fn a_rule_or_a_namespace_demands_the_redemption_and_a_record_without_it_is_flagged() {
    let rules = "@id(\"once\") @single_use permit (principal, action == Countersign::Action::\"bank/read\", resource);";
    let mut stage = Stage::with(bundle("agent", rules));
    let decision = stage.reads();
    assert!(decision_of(&decision.entry).single_use);
    assert_eq!(stage.record(&decision, None), [Drift::NotRedeemed]);

    let decision = stage.reads();
    let redemption = stage.must(bot(), &decision, Reason::Redeemed, &[]);
    // Somebody who lost the race, or makes up a redemption.
    let other = decision.index.0;
    assert_eq!(stage.record(&decision, Some(other)), [Drift::NotRedeemed]);
    let decision = stage.reads();
    let own = stage.must(bot(), &decision, Reason::Redeemed, &[]);
    let another = Some(redemption.index.0);
    assert_eq!(stage.record(&decision, another), [Drift::NotRedeemed]);
    let named = Some(own.index.0);
    assert_eq!(stage.record(&decision, named), [Drift::AlreadyRecorded]);

    let mut stage = Stage::new();
    let free = stage.reads();
    assert!(!decision_of(&free.entry).single_use);
    assert_eq!(stage.record(&free, None), []);
    let free = stage.reads();
    let made_up = Some(free.index.0);
    assert_eq!(stage.record(&free, made_up), [Drift::NotRedeemed]);
    stage
        .world
        .govern(Body::UpdateNamespace(v1::UpdateNamespace {
            name: "team".to_owned(),
            owners: vec!["olive".to_owned()],
            single_use: true,
        }));
    let decision = stage.reads();
    assert!(decision_of(&decision.entry).single_use);
    assert_eq!(stage.record(&decision, None), [Drift::NotRedeemed]);
    // What was not executed needed no redemption.
    let decision = stage.reads();
    let record = Body::Record(v1::Record {
        decision_index: decision.index.0,
        status: ExecutionStatus::NotExecuted.into(),
        ..v1::Record::default()
    });
    let outcome = stage.world.must(Ask::new(bot(), record));
    assert_eq!(outcome_of(&outcome.entry).drift, Vec::<i32>::new());
    let denied = stage.world.authorize(
        "bot",
        stage.session,
        "bank/pay",
        r#"{"to": "mallory", "amount": 1}"#,
    );
    assert!(!decision_of(&denied.entry).single_use);
    let leaf = Key::redemption_of(LeafIndex(u64::MAX));
    let none: Option<v1::LeafRecord> = read(&stage.world.state, &leaf).expect("sound");
    assert_eq!(none, None);
}

fn evidence_of(world: &World, index: LeafIndex) -> v1::Evidence {
    let checkpoint = world.checkpoint(&[1, 2]);
    let sources = Sources {
        state: &world.state,
        checkpoint: &checkpoint,
        trust_checkpoints: &[],
        compartments: &[],
    };
    evidence::decision(sources, index).expect("evidence")
}

#[test]
fn a_redemption_is_proven_with_its_decision_and_another_ones_is_not_taken_for_it() {
    let rules = "@id(\"once\") @single_use permit (principal, action == Countersign::Action::\"bank/read\", resource);";
    let mut stage = Stage::with(bundle("agent", rules));
    let (first, second) = (stage.reads(), stage.reads());
    let trusted = TlogPolicy::parse(stage.world.trust_policy().as_bytes()).expect("a policy");
    let before = evidence_of(&stage.world, first.index);
    let report = evidence::verify(&before, &trusted).expect("it verifies");
    let none = report.get("redemption").expect("it is said");
    assert!(none.starts_with("none in this evidence"), "{none}");

    stage.must(bot(), &first, Reason::Redeemed, &[]);
    let other = stage.must(gate(), &second, Reason::Redeemed, &[]);
    let redeemed = evidence_of(&stage.world, first.index);
    let report = evidence::verify(&redeemed, &trusted).expect("it verifies");
    assert_eq!(report.get("redeemed by"), Some("agent `bot`"));
    let elsewhere = evidence_of(&stage.world, second.index);
    let report = evidence::verify(&elsewhere, &trusted).expect("it verifies");
    assert_eq!(report.get("redeemed by"), Some("gateway `gate`"));

    let mut forged = redeemed;
    forged.entries.pop();
    let redemption = elsewhere
        .entries
        .iter()
        .find(|entry| entry.index == other.index.0);
    forged
        .entries
        .push(redemption.expect("it is there").clone());
    let error = evidence::verify(&forged, &trusted).expect_err("of another decision");
    let what = "a redemption of another decision";
    assert!(
        matches!(error, EvidenceError::Contradiction { what: found, .. } if found == what),
        "{error}"
    );
}
