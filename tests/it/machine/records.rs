//! Record: kept whatever it says, flagged where it departs, and part of the rules' history only if it is faithful.

use countersign_tests::kit::{
    Ask, SECOND, World, authorize_body, bank, bundle, decision_of, input_digest, outcome_of,
};
use ledger_core::compartment::commitment_digest;
use ledger_core::id::{Identity, SessionId};
use ledger_core::machine::{Appended, SignatureChecks};
use ledger_core::state::{Key, Txn, read};
use ledger_proto::v1::{
    self, CompartmentKind, DecisionReason as Reason, Drift, ExecutionStatus, GatewayPermission,
    IdentityStatus, Notice, Verdict, command::Body,
};

const APPROVE: &str = r#"{"ticket": "T-1"}"#;
const OK: &str = r#"{"ok": true}"#;

/// A ledger with the bank's rules, an approver "boss", an agent "bot", and a gateway "gate" that records for "boss".
struct Bank {
    world: World,
    boss: SessionId,
    bot: SessionId,
}

fn agent(id: &str) -> Identity {
    Identity::Agent(id.to_owned())
}

fn gate() -> Identity {
    Identity::Gateway("gate".to_owned())
}

impl Bank {
    fn new() -> Self {
        let mut world = World::new();
        world.agent_in("team", "boss", &["approvers"]);
        world.agent("bot");
        world.gateway("gate", "boss", &[GatewayPermission::Record]);
        world.gateway("reader", "boss", &[GatewayPermission::Authorize]);
        world.policy("team", &bank());
        let boss = world.session("boss");
        let bot = world.session("bot");
        Self { world, boss, bot }
    }

    fn approve(&mut self) -> Appended {
        let allowed = self
            .world
            .authorize("boss", self.boss, "bank/approve", APPROVE);
        assert_eq!(decision_of(&allowed.entry).verdict(), Verdict::Allow);
        allowed
    }

    /// True if a deployment of the ticket is allowed: some approval of it counts.
    fn is_unlocked(&mut self) -> bool {
        let answer = self
            .world
            .authorize("bot", self.bot, "bank/deploy", APPROVE);
        decision_of(&answer.entry).verdict() == Verdict::Allow
    }

    fn record(&mut self, by: Identity, record: v1::Record) -> v1::Outcome {
        let ask = Ask::new(by, Body::Record(record)).with(CompartmentKind::Output, OK.as_bytes());
        outcome_of(&self.world.must(ask).entry).clone()
    }
}

/// What a faithful recorder says of an allowed decision.
fn faithful(decision: &Appended) -> v1::Record {
    v1::Record {
        decision_index: decision.index.0,
        status: ExecutionStatus::Succeeded.into(),
        executed_input_digest: input_digest(&decision.entry),
        ..v1::Record::default()
    }
}

fn flags(outcome: &v1::Outcome) -> (Vec<Drift>, Vec<Notice>) {
    (outcome.drift().collect(), outcome.notices().collect())
}

#[test]
fn a_faithful_record_by_a_gateway_has_no_flags_and_unlocks() {
    let mut bank = Bank::new();
    assert!(!bank.is_unlocked());
    let approval = bank.approve();
    assert!(!bank.is_unlocked(), "an approval that was not executed");
    let outcome = bank.record(gate(), faithful(&approval));
    assert_eq!(flags(&outcome), (vec![], vec![]));
    assert!(outcome.observed);
    assert_eq!(outcome.recorder, Some(gate().to_message()));
    assert!(bank.is_unlocked());
}

#[test]
fn a_denied_approval_approves_nothing() {
    let mut bank = Bank::new();
    // The agent is no approver: it is denied, and says that it approved all the same.
    let denied = bank
        .world
        .authorize("bot", bank.bot, "bank/approve", APPROVE);
    assert_eq!(decision_of(&denied.entry).verdict(), Verdict::Deny);
    let outcome = bank.record(agent("bot"), faithful(&denied));
    assert_eq!(
        flags(&outcome),
        (vec![Drift::NotAuthorized], vec![Notice::SelfReported])
    );
    assert!(!outcome.observed);
    assert!(!bank.is_unlocked());
}

type Change = fn(&mut v1::Record);

#[test]
fn a_record_that_departs_is_flagged_and_unlocks_nothing() {
    let changes: [(&str, Change, &[Drift], &[Notice]); 7] = [
        (
            "another input",
            |record| record.executed_input_digest = vec![7; 32],
            &[Drift::InputChanged],
            &[],
        ),
        (
            "no input stated",
            |record| record.executed_input_digest.clear(),
            &[],
            &[Notice::InputNotStated],
        ),
        (
            "begun after the permit",
            |record| record.started_at_us = u64::MAX >> 12,
            &[Drift::PermitExpired],
            &[],
        ),
        (
            "not executed",
            |record| record.status = ExecutionStatus::NotExecuted.into(),
            &[],
            &[],
        ),
        (
            "nobody knows",
            |record| record.status = ExecutionStatus::Unknown.into(),
            &[],
            &[],
        ),
        (
            "failed",
            |record| record.status = ExecutionStatus::Failed.into(),
            &[],
            &[],
        ),
        (
            "no status",
            |record| record.status = 99,
            &[],
            &[Notice::ContentNotKept],
        ),
    ];
    for (what, change, drift, notices) in changes {
        let mut bank = Bank::new();
        let approval = bank.approve();
        let mut record = faithful(&approval);
        change(&mut record);
        let outcome = bank.record(gate(), record);
        assert_eq!(
            flags(&outcome),
            (drift.to_vec(), notices.to_vec()),
            "{what}"
        );
        assert!(!bank.is_unlocked(), "{what}");
        // The second record comes too late, however faithful it is.
        let outcome = bank.record(gate(), faithful(&approval));
        assert_eq!(flags(&outcome).0, [Drift::AlreadyRecorded], "{what}");
        assert!(!outcome.observed && !bank.is_unlocked(), "{what}");
    }
}

#[test]
fn an_executed_input_must_be_what_is_stated() {
    let other = br#"{"ticket": "T-2"}"#;
    let changed = vec![Drift::InputChanged];
    let not_stated = vec![Notice::InputNotStated];
    let record = |bank: &mut Bank, record: v1::Record, content: &[u8]| {
        let ask = Ask::new(gate(), Body::Record(record))
            .with(CompartmentKind::Output, OK.as_bytes())
            .with(CompartmentKind::ExecutedInput, content);
        let outcome = bank.world.must(ask);
        flags(outcome_of(&outcome.entry))
    };
    let input_of = |bank: &Bank, approval: &Appended| {
        let key = Key::compartment(approval.index, CompartmentKind::Input);
        let stored: Option<v1::Compartment> = read(&bank.world.state, &key).expect("sound");
        stored.expect("kept")
    };

    // Other content beside the authorized digest, and other content under its own digest.
    let mut bank = Bank::new();
    let approval = bank.approve();
    let flags = record(&mut bank, faithful(&approval), other);
    assert_eq!(flags, (changed.clone(), not_stated.clone()));
    assert!(!bank.is_unlocked());
    let mut bank = Bank::new();
    let approval = bank.approve();
    let salt = input_of(&bank, &approval)
        .salt
        .try_into()
        .expect("32 bytes");
    let mut stated = faithful(&approval);
    stated.executed_input_digest = commitment_digest(&salt, other).as_bytes().to_vec();
    assert_eq!(record(&mut bank, stated, other), (changed, vec![]));
    assert!(!bank.is_unlocked());

    // What was authorized, sent once more under a salt of its own.
    let mut bank = Bank::new();
    let approval = bank.approve();
    let same = input_of(&bank, &approval).content;
    let flags = record(&mut bank, faithful(&approval), &same);
    assert_eq!(flags, (vec![], vec![]));
    assert!(bank.is_unlocked());

    // Once INPUT is erased, nobody can see whether it is.
    let mut bank = Bank::new();
    let approval = bank.approve();
    let same = input_of(&bank, &approval).content;
    bank.world.govern(Body::Erase(v1::Erase {
        compartments: vec![v1::CompartmentRef {
            index: approval.index.0,
            kind: CompartmentKind::Input.into(),
        }],
    }));
    let flags = record(&mut bank, faithful(&approval), &same);
    assert_eq!(flags, (vec![], not_stated));
    assert!(!bank.is_unlocked());
}

/// Replaces a stored compartment by one that nobody committed to, as a snapshot from a liar would bring it.
fn alter(bank: &mut Bank, key: &Key) {
    let stored: Option<v1::Compartment> = read(&bank.world.state, key).expect("sound");
    let mut altered = stored.expect("kept");
    altered.content = br#"{"ticket": "T-9"}"#.to_vec();
    let mut txn = Txn::new(&bank.world.state);
    txn.write(key.clone(), &altered);
    let writes = txn.into_writes();
    bank.world.state.commit(writes);
}

#[test]
fn an_altered_compartment_stops_the_replica_that_would_read_it() {
    let mut bank = Bank::new();
    let approval = bank.approve();
    let key = Key::compartment(approval.index, CompartmentKind::Input);
    alter(&mut bank, &key);
    let ask = Ask::new(gate(), Body::Record(faithful(&approval)))
        .with(CompartmentKind::Output, OK.as_bytes());
    let submission = bank.world.sign(ask);
    let mut txn = Txn::new(&bank.world.state);
    let applied = bank.world.machine.apply(
        &mut txn,
        bank.world.now_us,
        &submission,
        &SignatureChecks::default(),
    );
    let error = applied.expect_err("it must stop");
    assert_eq!(error.key, key.as_bytes());
}

#[test]
fn a_permit_ends_at_its_last_moment() {
    for (after_us, expected) in [(0, vec![Drift::PermitExpired]), (1, vec![])] {
        let mut bank = Bank::new();
        let approval = bank.approve();
        let mut record = faithful(&approval);
        record.started_at_us = decision_of(&approval.entry).permit_expires_at_us - after_us;
        let outcome = bank.record(gate(), record);
        assert_eq!(flags(&outcome).0, expected);
    }
    // Without a time stated, the time of the record counts.
    let mut bank = Bank::new();
    let approval = bank.approve();
    bank.world.now_us += 61 * SECOND;
    let outcome = bank.record(gate(), faithful(&approval));
    assert_eq!(flags(&outcome).0, [Drift::PermitExpired]);
    assert!(!bank.is_unlocked());
}

#[test]
fn a_forged_record_unlocks_nothing_touches_no_chain_and_takes_nobodys_place() {
    let mut bank = Bank::new();
    let approval = bank.approve();
    let forgers = [
        agent("bot"),
        Identity::Gateway("reader".to_owned()),
        Identity::Operator("olive".to_owned()),
        Identity::Node(1),
    ];
    for forger in forgers {
        let outcome = bank.record(forger.clone(), faithful(&approval));
        assert_eq!(outcome.drift().collect::<Vec<_>>(), [Drift::WrongRecorder]);
        assert_eq!((outcome.observed, outcome.chain), (false, None), "{forger}");
    }
    assert!(!bank.is_unlocked());
    let outcome = bank.record(gate(), faithful(&approval));
    assert_eq!(flags(&outcome), (vec![], vec![]));
    assert_eq!(outcome.chain.as_ref().map(|link| link.number), Some(3));
    assert!(bank.is_unlocked());
}

#[test]
fn a_stranger_learns_nothing_about_a_decision_by_recording_for_it() {
    let mut bank = Bank::new();
    let approval = bank.approve();
    let denied = bank
        .world
        .authorize("boss", bank.boss, "bank/approve", APPROVE);
    bank.world.govern(Body::SetStatus(v1::SetStatus {
        identity: Some(agent("boss").to_message()),
        status: IdentityStatus::Suspended.into(),
    }));
    let right = faithful(&approval);
    let wrong = v1::Record {
        executed_input_digest: vec![1; 32],
        ..right.clone()
    };
    let of_denial = faithful(&denied);
    let learned: Vec<_> = [right, wrong, of_denial]
        .map(|guess| {
            let outcome = bank.record(agent("bot"), guess);
            let (drift, notices) = flags(&outcome);
            (drift, notices, outcome.chain, outcome.observed)
        })
        .into();
    let told = (
        vec![Drift::WrongRecorder],
        vec![Notice::SelfReported],
        None,
        false,
    );
    assert_eq!(learned, vec![told; 3]);
}

#[test]
fn a_record_of_no_decision_is_kept() {
    let mut bank = Bank::new();
    for index in [0, 2, 1_000_000, u64::MAX] {
        let outcome = bank.record(
            gate(),
            v1::Record {
                decision_index: index,
                status: ExecutionStatus::Succeeded.into(),
                ..v1::Record::default()
            },
        );
        assert_eq!(
            flags(&outcome),
            (
                vec![Drift::NotAuthorized, Drift::WrongRecorder],
                vec![Notice::InputNotStated]
            )
        );
        assert_eq!((outcome.observed, outcome.chain), (false, None));
    }
}

#[test]
fn every_notice_at_once_and_every_drift_but_one() {
    let mut bank = Bank::new();
    let approval = bank.approve();
    bank.record(gate(), faithful(&approval));
    let everything = bundle(
        "agent",
        "@id(\"all\") permit (principal, action, resource);",
    );
    bank.world.policy("team", &everything);
    bank.world.govern(Body::SetStatus(v1::SetStatus {
        identity: Some(agent("boss").to_message()),
        status: IdentityStatus::Suspended.into(),
    }));
    bank.world.govern(Body::SetHalt(v1::SetHalt {
        id: "stop".to_owned(),
        scope: Some(v1::HaltScope {
            target: Some(v1::halt_scope::Target::Action("bank/*".to_owned())),
        }),
        expires_at_us: 0,
    }));
    bank.world.now_us += 2 * 3_600 * SECOND;
    let ask = Ask::new(
        agent("boss"),
        Body::Record(v1::Record {
            executed_input_digest: Vec::new(),
            ..faithful(&approval)
        }),
    )
    .with(CompartmentKind::Output, &[b'x'; 65_537]);
    let late = bank.world.must(ask);
    assert_eq!(
        flags(outcome_of(&late.entry)),
        (
            vec![Drift::PermitExpired, Drift::AlreadyRecorded],
            vec![
                Notice::SuspendedSince,
                Notice::PolicyChangedSince,
                Notice::HaltedSince,
                Notice::SelfReported,
                Notice::Late,
                Notice::InputNotStated,
                Notice::ContentNotKept,
            ]
        )
    );
    assert_eq!(late.entry.stored, Vec::<i32>::new());
    // Of a denial, changed: the rest. A stranger's word is compared with nothing.
    let denied = bank
        .world
        .authorize("boss", bank.boss, "bank/approve", APPROVE);
    let mut record = faithful(&denied);
    record.executed_input_digest = vec![1; 32];
    let outcome = bank.record(agent("bot"), record.clone());
    assert_eq!(flags(&outcome).0, [Drift::WrongRecorder]);
    let outcome = bank.record(agent("boss"), record);
    assert_eq!(
        flags(&outcome).0,
        [Drift::InputChanged, Drift::NotAuthorized]
    );
    // Halt and suspension were there before that decision.
    assert!(!flags(&outcome).1.contains(&Notice::SuspendedSince));
    assert!(!flags(&outcome).1.contains(&Notice::HaltedSince));
}

#[test]
fn the_word_of_a_suspended_agent_or_gateway_unlocks_nothing() {
    for suspended in [agent("boss"), gate()] {
        let mut bank = Bank::new();
        let approval = bank.approve();
        bank.world.govern(Body::SetStatus(v1::SetStatus {
            identity: Some(suspended.to_message()),
            status: IdentityStatus::Suspended.into(),
        }));
        let outcome = bank.record(suspended.clone(), faithful(&approval));
        assert!(!outcome.observed && !bank.is_unlocked(), "{suspended}");
    }
}

#[test]
fn a_thousand_requests_against_a_cap_allow_exactly_the_cap() {
    let rules = r#"
@id("cap") permit (principal, action == Countersign::Action::"bank/pay", resource)
when temporal { count_within(1h, Countersign::Action::"bank/pay"::allowed{}) < 17 };"#;
    let mut world = World::new();
    let sessions = ["a", "b", "c"].map(|id| {
        world.agent(id);
        (id, world.session(id))
    });
    world.policy("team", &bundle("namespace", rules));
    let mut allowed = 0;
    for round in 0..1_000 {
        let (id, session) = sessions[round % 3];
        let input = format!(r#"{{"to": "x", "amount": {round}}}"#);
        let answer = world.authorize(id, session, "bank/pay", &input);
        let decision = decision_of(&answer.entry);
        allowed += usize::from(decision.verdict() == Verdict::Allow);
    }
    assert_eq!(allowed, 17);
    // The cap is a window, not a life sentence.
    world.now_us += 3_000 * SECOND;
    let answer = world.authorize(
        "a",
        sessions[0].1,
        "bank/pay",
        r#"{"to": "x", "amount": 1}"#,
    );
    assert_eq!(decision_of(&answer.entry).verdict(), Verdict::Deny);
    world.now_us += 601 * SECOND;
    let session = world.session("a");
    let answer = world.authorize("a", session, "bank/pay", r#"{"to": "x", "amount": 1}"#);
    assert_eq!(decision_of(&answer.entry).verdict(), Verdict::Allow);
}

#[test]
fn a_denied_request_consumes_nothing() {
    let mut bank = Bank::new();
    let pay = |bank: &mut Bank, input: &str| {
        let answer = bank.world.authorize("bot", bank.bot, "bank/pay", input);
        decision_of(&answer.entry).reason()
    };
    let alice = r#"{"to": "alice", "amount": 1}"#;
    for _ in 0..5 {
        let mallory = r#"{"to": "mallory", "amount": 1}"#;
        assert_eq!(pay(&mut bank, mallory), Reason::ForbiddenByPolicy);
        assert_eq!(pay(&mut bank, r#"{"to": 1}"#), Reason::SchemaMismatch);
        let foreign = Ask::new(agent("boss"), authorize_body("bot", bank.bot, "bank/pay"))
            .with(CompartmentKind::Input, alice.as_bytes());
        bank.world.must(foreign);
    }
    let reasons: Vec<Reason> = (0..4).map(|_| pay(&mut bank, alice)).collect();
    let yes = Reason::AllowedByPolicy;
    assert_eq!(reasons, [yes, yes, yes, Reason::NoMatchingPermit]);
}
