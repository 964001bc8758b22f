//! A ledger whose time got ahead of all clocks: what admins say ends the wait, and nothing else does.

use countersign_tests::kit::{
    Ask, SECOND, World, authorize_body, bank, decision_of, genesis_message, input_digest,
    operator_message, result_of,
};
use ledger_core::audit::Auditor;
use ledger_core::hash::{LeafIndex, TreeHash};
use ledger_core::id::{Identity, SessionId};
use ledger_core::ledger;
use ledger_core::machine::{self, Appended, Applied, Refusal};
use ledger_proto::v1::{
    self, CompartmentKind, DecisionReason as Reason, Role, command::Body, entry,
    governance::Detail, halt_scope::Target,
};

/// How far all clocks were ahead.
const AHEAD_US: u64 = 25 * 3_600 * SECOND;

fn operator(id: &str) -> Identity {
    Identity::Operator(id.to_owned())
}

fn namespace(name: &str) -> Body {
    Body::CreateNamespace(v1::CreateNamespace {
        name: name.to_owned(),
        owners: Vec::new(),
        single_use: false,
    })
}

/// Dates an entry so far ahead, and puts the clock right again.
fn date_ahead(world: &mut World, by_us: u64) {
    world.now_us += by_us;
    world.operator(&format!("of-{}", world.now_us), &[]);
    world.now_us -= by_us;
}

/// A ledger with an agent and a session, which is ahead.
fn ahead() -> (World, SessionId) {
    let mut world = World::new();
    world.agent("bot");
    world.policy("team", &bank());
    let session = world.session("bot");
    date_ahead(&mut world, AHEAD_US);
    (world, session)
}

fn adjust(world: &mut World) -> Appended {
    let body = world.adjust_time();
    world.govern(body)
}

fn offset_us(world: &World) -> u64 {
    machine::tip(&world.state).expect("sound").time_offset_us
}

fn reason(world: &mut World, session: SessionId) -> Reason {
    let ask = Ask::new(
        Identity::Agent("bot".to_owned()),
        authorize_body("bot", session, "bank/read"),
    );
    let decided = world.must(ask.with(CompartmentKind::Input, br#"{"doc": "a"}"#));
    decision_of(&decided.entry).reason()
}

fn refusal(world: &mut World, ask: Ask) -> Option<Refusal> {
    match world.ask(ask) {
        Applied::Refused(refusal) => Some(refusal),
        Applied::Appended(_) | Applied::Replayed { .. } => None,
    }
}

#[test]
fn an_adjustment_has_the_ledger_go_on_with_clocks_from_its_end() {
    let (mut world, session) = ahead();
    let ask = Ask::new(operator("root"), namespace("early"));
    assert_eq!(refusal(&mut world, ask), Some(Refusal::Stale));
    let last_us = machine::tip(&world.state).expect("sound").time_us;
    let adjusted_us = world.now_us;
    let adjusted = adjust(&mut world);
    assert_eq!(adjusted.entry.time_us, last_us + 1, "time goes on");
    let Some(entry::Body::Governance(governance)) = &adjusted.entry.body else {
        panic!("{adjusted:?}");
    };
    let expected = v1::TimeAdjustment {
        time_offset_us: last_us - adjusted_us,
        previous_time_offset_us: 0,
    };
    assert_eq!(governance.detail, Some(Detail::TimeAdjustment(expected)));
    assert_eq!(offset_us(&world), last_us - adjusted_us);
    // Everything that is asked now is of now, and time passes as clocks do.
    for seconds in [1, 3_600] {
        world.now_us = adjusted_us + seconds * SECOND;
        let made = world.govern(namespace(&format!("after-{seconds}")));
        assert_eq!(made.entry.time_us, last_us + seconds * SECOND);
    }
    // What had ended by the ledger's time stays ended, and what is opened now lasts as long as it says.
    assert_eq!(reason(&mut world, session), Reason::SessionExpired);
    let session = world.session("bot");
    world.now_us += 3_599 * SECOND;
    assert_eq!(reason(&mut world, session), Reason::AllowedByPolicy);
    world.now_us += SECOND;
    assert_eq!(reason(&mut world, session), Reason::SessionExpired);
}

#[test]
fn only_as_many_admins_as_the_genesis_says_adjust_the_time() {
    let mut genesis = genesis_message(TreeHash::Sha256);
    genesis.admin_threshold = 2;
    for (id, roles) in [
        ("second", vec![(Role::Admin, "*")]),
        ("officer", vec![(Role::Responder, "*")]),
    ] {
        let operator = operator_message(&genesis.origin, id, &roles);
        genesis.operators.push(operator);
    }
    genesis.operators.sort_by(|one, next| one.id.cmp(&next.id));
    let mut world = World::from_genesis(genesis);
    world.now_us += AHEAD_US;
    let by_both = Ask::new(operator("root"), namespace("a")).cosigned(operator("second"));
    world.must(by_both);
    world.now_us -= AHEAD_US;
    let before = machine::tip(&world.state).expect("sound");
    for (author, cosigner) in [
        ("root", None),
        ("second", None),
        ("officer", Some("root")),
        ("root", Some("officer")),
    ] {
        let mut ask = Ask::new(operator(author), world.adjust_time());
        if let Some(cosigner) = cosigner {
            ask = ask.cosigned(operator(cosigner));
        }
        let refused = refusal(&mut world, ask);
        assert_eq!(refused, Some(Refusal::Stale), "{author} {cosigner:?}");
    }
    let node = Ask::new(Identity::Node(1), world.adjust_time());
    assert_eq!(refusal(&mut world, node), Some(Refusal::Stale));
    // Nobody can move the end that admins have signed for.
    assert_eq!(machine::tip(&world.state), Ok(before));
    let ask = Ask::new(operator("root"), world.adjust_time());
    let ask = ask.cosigned(operator("second"));
    assert_eq!(world.result(ask), v1::Result::Applied);
}

#[test]
fn an_adjustment_is_of_one_end_of_the_ledger_and_of_no_other() {
    let (mut world, _) = ahead();
    let Body::AdjustTime(right) = world.adjust_time() else {
        panic!("an adjustment");
    };
    for other in [
        v1::AdjustTime {
            tree_size: right.tree_size + 1,
            ..right
        },
        v1::AdjustTime {
            last_entry_time_us: right.last_entry_time_us + 1,
            ..right
        },
        v1::AdjustTime {
            last_entry_time_us: right.last_entry_time_us - 1,
            ..right
        },
    ] {
        let ask = Ask::new(operator("root"), Body::AdjustTime(other));
        assert_eq!(refusal(&mut world, ask), Some(Refusal::Stale), "{other:?}");
    }
    // Signed, and held back while somebody else's was taken.
    let held = world.sign(Ask::new(operator("root"), Body::AdjustTime(right)));
    let taken = world.sign(Ask::new(operator("root"), Body::AdjustTime(right)));
    assert!(matches!(world.apply(&taken), Applied::Appended(_)));
    let offset = offset_us(&world);
    let Applied::Appended(appended) = world.apply(&held) else {
        panic!("it is of now");
    };
    let result = result_of(&appended.entry);
    assert_eq!(result, v1::Result::FailedPrecondition);
    world.now_us += 600 * SECOND;
    assert!(matches!(world.apply(&taken), Applied::Replayed { .. }));
    let late = world.sign_as(
        Ask::new(operator("root"), Body::AdjustTime(right)),
        vec![9; 16],
        world.now_us - 600 * SECOND,
    );
    assert_eq!(world.apply(&late), Applied::Refused(Refusal::Stale));
    assert_eq!(offset_us(&world), offset);
}

#[test]
fn the_offset_grows_by_what_clocks_are_behind_and_never_becomes_less() {
    let mut world = World::new();
    let result = |world: &mut World| {
        let body = world.adjust_time();
        world.result(Ask::new(operator("root"), body))
    };
    // Clocks are not behind, or by less than a node waits for.
    assert_eq!(result(&mut world), v1::Result::FailedPrecondition);
    date_ahead(&mut world, 4 * SECOND);
    assert_eq!(result(&mut world), v1::Result::FailedPrecondition);
    date_ahead(&mut world, AHEAD_US);
    assert_eq!(result(&mut world), v1::Result::Applied);
    let first = offset_us(&world);
    // Less would have time stand still.
    world.now_us += 3_600 * SECOND;
    assert_eq!(result(&mut world), v1::Result::FailedPrecondition);
    assert_eq!(offset_us(&world), first);
    // Clocks were wrong once more.
    date_ahead(&mut world, AHEAD_US);
    assert_eq!(result(&mut world), v1::Result::Applied);
    let second = offset_us(&world);
    assert!(second > first + AHEAD_US - SECOND && second < first + AHEAD_US + SECOND);
    // An admin's clock in 1970.
    assert_eq!(made_at(&mut world, 0), v1::Result::InvalidArgument);
    assert_eq!(offset_us(&world), second);
}

/// What becomes of an adjustment to the ledger's end that was signed at this time.
fn made_at(world: &mut World, issued_at_us: u64) -> v1::Result {
    let ask = Ask::new(operator("root"), world.adjust_time());
    let request_id = world.next_request_id();
    let signed = world.sign_as(ask, request_id, issued_at_us);
    let Applied::Appended(appended) = world.apply(&signed) else {
        panic!("it names the ledger's end");
    };
    result_of(&appended.entry)
}

/// A node names an end that is to come, has admins sign for it, and holds their command back until the ledger has come to it.
#[test]
fn an_adjustment_that_was_held_back_moves_a_sound_ledger_nowhere() {
    for hold_s in [60, 600, 90_000] {
        let mut world = World::new();
        let signed_us = world.now_us;
        world.now_us += hold_s * SECOND;
        world.operator("last", &[]);
        // In the batch of the last entry, and in the next.
        for later_us in [0, SECOND] {
            world.now_us += later_us;
            let result = made_at(&mut world, signed_us);
            assert_eq!(result, v1::Result::FailedPrecondition, "{hold_s} s");
        }
        assert_eq!(offset_us(&world), 0);
    }
}

#[test]
fn an_admins_clock_that_is_behind_moves_a_ledger_no_further_than_clocks_show() {
    let mut world = World::new();
    world.operator("last", &[]);
    let now_us = world.now_us;
    let result = made_at(&mut world, now_us - 60 * SECOND);
    assert_eq!(result, v1::Result::FailedPrecondition);
    date_ahead(&mut world, AHEAD_US);
    let (now_us, last_us) = (
        world.now_us,
        machine::tip(&world.state).expect("sound").time_us,
    );
    let result = made_at(&mut world, now_us - 60 * SECOND);
    assert_eq!(result, v1::Result::Applied);
    assert_eq!(offset_us(&world), last_us - now_us);
    // Nor does a proposer's.
    date_ahead(&mut world, AHEAD_US);
    let (now_us, last_us) = (
        world.now_us,
        machine::tip(&world.state).expect("sound").time_us,
    );
    world.now_us -= 60 * SECOND;
    assert_eq!(made_at(&mut world, now_us), v1::Result::Applied);
    assert_eq!(offset_us(&world), last_us - now_us);
    // Entries say nothing of the proposer's clock, and whoever audits them gets the same.
    let mut auditor = Auditor::new();
    for leaf in 0..machine::tip(&world.state).expect("sound").size.0 {
        let bytes = ledger::entry_bytes(&world.state, LeafIndex(leaf)).expect("sound");
        let read = auditor.read(&bytes.expect("an entry"), Vec::new());
        read.expect("sound");
    }
    assert_eq!(auditor.root(), Ok(world.root()));
}

#[test]
fn halts_end_when_their_authors_clocks_say_whatever_time_did() {
    let mut world = World::new();
    world.agent("bot");
    world.policy("team", &bank());
    let halt = |id: &str, expires_at_us: u64| {
        Body::SetHalt(v1::SetHalt {
            id: id.to_owned(),
            scope: Some(v1::HaltScope {
                target: Some(Target::Everything(true)),
            }),
            expires_at_us,
        })
    };
    let begun_us = world.now_us;
    for (id, seconds) in [("over", 10), ("short", 7_200)] {
        world.govern(halt(id, begun_us + seconds * SECOND));
    }
    world.now_us = begun_us + 600 * SECOND;
    date_ahead(&mut world, AHEAD_US);
    adjust(&mut world);
    let halted = |world: &mut World| {
        let opening = Body::OpenSession(v1::OpenSession {
            agent: "bot".to_owned(),
            scope: vec!["*".to_owned()],
            ..v1::OpenSession::default()
        });
        let Applied::Appended(appended) = world.peek(Ask::new(operator("olive"), opening)) else {
            panic!("an opening");
        };
        result_of(&appended.entry) == v1::Result::Halted
    };
    assert!(halted(&mut world), "time has jumped, and the halt holds");
    world.now_us = begun_us + 7_190 * SECOND;
    assert!(halted(&mut world));
    world.now_us = begun_us + 7_210 * SECOND;
    assert!(!halted(&mut world));
}

#[test]
fn what_authors_say_of_their_clocks_is_read_with_the_offset() {
    let (mut world, _) = ahead();
    adjust(&mut world);
    let session = world.session("bot");
    let body = Body::SetHalt(v1::SetHalt {
        id: "short".to_owned(),
        scope: Some(v1::HaltScope {
            target: Some(Target::Everything(true)),
        }),
        expires_at_us: world.now_us + 10 * SECOND,
    });
    let made_us = world.now_us;
    world.govern(body);
    world.now_us = made_us + 9 * SECOND;
    assert_eq!(reason(&mut world, session), Reason::Halted);
    world.now_us = made_us + 11 * SECOND;
    let bot = Identity::Agent("bot".to_owned());
    let ask = Ask::new(bot.clone(), authorize_body("bot", session, "bank/read"));
    let decided = world.must(ask.with(CompartmentKind::Input, br#"{"doc": "a"}"#));
    let decision = decision_of(&decided.entry);
    assert_eq!(decision.reason(), Reason::AllowedByPolicy);
    // A permit lives for a minute of the recorder's clock.
    for (begun_after_s, drifts) in [(59, false), (61, true)] {
        let record = Body::Record(v1::Record {
            decision_index: decided.index.0,
            status: v1::ExecutionStatus::Succeeded.into(),
            started_at_us: made_us + (11 + begun_after_s) * SECOND,
            ..v1::Record::default()
        });
        let Applied::Appended(appended) = world.peek(Ask::new(bot.clone(), record)) else {
            panic!("an outcome");
        };
        let Some(entry::Body::Outcome(outcome)) = &appended.entry.body else {
            panic!("{appended:?}");
        };
        let found = outcome
            .drift()
            .any(|drift| drift == v1::Drift::PermitExpired);
        assert_eq!(found, drifts, "begun after {begun_after_s} s");
    }
}

/// What was given by clocks that were ahead would live on from the repair to the adjustment, and on.
#[test]
fn sessions_and_permits_from_before_an_adjustment_have_ended() {
    let mut world = World::new();
    world.agent("bot");
    world.policy("team", &bank());
    let bot = Identity::Agent("bot".to_owned());
    world.now_us += AHEAD_US;
    let parent = world.session("bot");
    let child = open_child(&mut world, parent);
    let ask = Ask::new(bot.clone(), authorize_body("bot", parent, "bank/read"));
    let asked = world.sign(ask.with(CompartmentKind::Input, br#"{"doc": "a"}"#));
    let Applied::Appended(decided) = world.apply(&asked) else {
        panic!("a decision");
    };
    let decision = decision_of(&decided.entry);
    assert_eq!(decision.reason(), Reason::AllowedByPolicy);
    // Clocks are right again, and hours go by.
    world.now_us -= AHEAD_US;
    world.now_us += 3 * 3_600 * SECOND;
    adjust(&mut world);
    let body = Body::Redeem(v1::Redeem {
        decision_index: decided.index.0,
        input_digest: input_digest(&decided.entry),
    });
    let redeemed = world.must(Ask::new(bot.clone(), body));
    assert!(redeemed.entry.time_us < decision.permit_expires_at_us);
    let Some(entry::Body::Redemption(redemption)) = &redeemed.entry.body else {
        panic!("{redeemed:?}");
    };
    let drift: Vec<_> = redemption.state_drift().collect();
    let expected = [
        v1::StateDrift::PermitExpired,
        v1::StateDrift::SessionExpired,
    ];
    assert_eq!(drift, expected);
    let Applied::Replayed { now, .. } = world.apply(&asked) else {
        panic!("the same answer");
    };
    assert!(!now.permit_lives && !now.session_open, "{now:?}");
    for session in [parent, child] {
        assert_eq!(reason(&mut world, session), Reason::SessionExpired);
    }
    let record = Body::Record(v1::Record {
        decision_index: decided.index.0,
        status: v1::ExecutionStatus::Succeeded.into(),
        ..v1::Record::default()
    });
    let recorded = world.must(Ask::new(bot, record));
    let Some(entry::Body::Outcome(outcome)) = &recorded.entry.body else {
        panic!("{recorded:?}");
    };
    assert!(
        outcome
            .drift()
            .any(|drift| drift == v1::Drift::PermitExpired)
    );
    // A node ends them, and what is opened now is of now.
    let seal = Body::Seal(v1::Seal {
        session_id: child.to_vec(),
    });
    let sealed = world.result(Ask::new(Identity::Node(1), seal));
    assert_eq!(sealed, v1::Result::Applied);
    let session = world.session("bot");
    assert_eq!(reason(&mut world, session), Reason::AllowedByPolicy);
}

fn open_child(world: &mut World, parent: SessionId) -> SessionId {
    let opening = Body::OpenSession(v1::OpenSession {
        agent: "bot".to_owned(),
        parent: parent.to_vec(),
        scope: vec!["*".to_owned()],
        ..v1::OpenSession::default()
    });
    let opened = world.must(Ask::new(operator("olive"), opening));
    let Some(entry::Body::SessionOpening(opening)) = &opened.entry.body else {
        panic!("{opened:?}");
    };
    assert_eq!(opening.result(), v1::Result::Applied);
    let chain = opening.chain.as_ref().expect("a chain");
    SessionId::from_slice(&chain.session_id).expect("an id")
}
