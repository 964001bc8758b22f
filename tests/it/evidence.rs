//! Evidence, from the ledger to the verifier and everything that can go wrong in between (P4).

use countersign_tests::kit::{
    Ask, SECOND, World, bank, key, node_card, public_key, session_of, trust_policy,
};
use ledger_core::evidence::{
    self, EvidenceError, FileError, Sources, TrustPosition, session_leaves,
};
use ledger_core::hash::{LeafIndex, TreeHash};
use ledger_core::id::{Identity, SessionId};
use ledger_core::note::tlog_policy::TlogPolicy;
use ledger_core::note::verify::CheckpointVerifyError;
use ledger_core::state::{Key, Txn, read};
use ledger_proto::v1::{self, CompartmentKind, command::Body};
use prost::Message;

fn policy(text: &str) -> TlogPolicy {
    TlogPolicy::parse(text.as_bytes()).unwrap()
}

fn sources<'a>(world: &'a World, checkpoint: &'a str) -> Sources<'a> {
    Sources {
        state: &world.state,
        checkpoint,
        trust_checkpoints: &[],
        compartments: &[CompartmentKind::Input],
    }
}

/// A ledger with one allowed, recorded payment; its index, and the session.
fn paid(tree_hash: TreeHash) -> (World, LeafIndex, SessionId) {
    let mut world = World::with_tree(tree_hash);
    world.agent("bot");
    world.policy("team", &bank());
    let session = world.session("bot");
    let decision = world.authorize(
        "bot",
        session,
        "bank/pay",
        r#"{"to": "alice", "amount": 5}"#,
    );
    world.record("bot", &decision, None);
    (world, decision.index, session)
}

fn evidence_of(world: &World, index: LeafIndex) -> v1::Evidence {
    let checkpoint = world.checkpoint(&[1, 2]);
    evidence::decision(sources(world, &checkpoint), index).unwrap()
}

#[test]
fn a_decision_is_proven_offline_and_explained() {
    for tree_hash in [TreeHash::Sha256, TreeHash::Blake3] {
        let (world, index, session) = paid(tree_hash);
        let file = evidence::encode(&evidence_of(&world, index));
        let decoded = evidence::decode(&file).unwrap();
        let report = evidence::verify(&decoded, &policy(&world.trust_policy())).unwrap();
        assert_eq!(report.get("ledger"), Some(world.origin.as_str()));
        assert_eq!(report.get("decision"), Some("ALLOW: ALLOWED_BY_POLICY"));
        assert_eq!(report.get("agent"), Some("bot"));
        assert_eq!(report.get("owner"), Some("olive"));
        assert_eq!(report.get("action"), Some("bank/pay"));
        assert_eq!(
            report.get("session"),
            Some(format!("{session}, number 2").as_str())
        );
        assert_eq!(report.get("opened by"), Some("operator `olive`"));
        assert_eq!(report.get("input"), Some(r#"{"to": "alice", "amount": 5}"#));
        assert_eq!(
            report.get("outcome"),
            Some("SUCCEEDED, as authorized; recorded by agent `bot`; notices: SELF_REPORTED")
        );
        let rule = report.get("rule").unwrap();
        assert!(rule.starts_with("pay-cap (rules/bank.dw:"), "{rule}");
        assert!(rule.contains("count_within(1h"), "{rule}");
    }
}

#[test]
fn evidence_without_an_outcome_says_that_there_may_be_one() {
    let (world, index, _) = paid(TreeHash::Sha256);
    let trusted = policy(&world.trust_policy());
    let mut evidence = evidence_of(&world, index);
    // Whoever hands evidence on can leave the outcome out: nothing else rests on it.
    let recorded = world.entry(index.0 + 1);
    assert!(matches!(recorded.body, Some(v1::entry::Body::Outcome(_))));
    let kept = |entry: &v1::ProvenEntry| entry.index != recorded.index;
    evidence.entries.retain(kept);
    let report = evidence::verify(&evidence, &trusted).unwrap();
    let expected = Some("none in this evidence; one may exist");
    assert_eq!(report.get("outcome"), expected);
}

#[test]
fn a_scope_that_the_agent_gave_itself_is_its_claim() {
    let (mut world, ..) = paid(TreeHash::Sha256);
    let opened = world.must(Ask::new(
        Identity::Agent("bot".to_owned()),
        Body::OpenSession(v1::OpenSession {
            agent: "bot".to_owned(),
            scope: vec!["*".to_owned()],
            ..v1::OpenSession::default()
        }),
    ));
    let session = session_of(&opened);
    let denied = world.authorize("bot", session, "bank/read", r#"{"doc": "a"}"#);
    let report = evidence::verify(
        &evidence_of(&world, denied.index),
        &policy(&world.trust_policy()),
    );
    let facts = report.unwrap().facts;
    let scope = facts.iter().find(|fact| fact.name == "scope").unwrap();
    assert_eq!(scope.basis.to_string(), "claimed by agent `bot`");
}

#[test]
fn the_json_form_holds_the_same_and_its_digest_finds_damage() {
    let (world, index, _) = paid(TreeHash::Sha256);
    let evidence = evidence_of(&world, index);
    let json = evidence::to_json(&evidence);
    assert_eq!(evidence::from_json(&json).unwrap(), evidence);
    let changed = json.replacen(&format!("\"decision\": {index}"), "\"decision\": 1", 1);
    assert_ne!(json, changed);
    assert_eq!(evidence::from_json(&changed), Err(FileError::Damaged));
}

#[test]
fn no_changed_byte_is_accepted() {
    let (world, index, _) = paid(TreeHash::Sha256);
    let trusted = policy(&world.trust_policy());
    let evidence = evidence_of(&world, index);
    let file = evidence::encode(&evidence);
    for position in 0..file.len() {
        let mut changed = file.clone();
        changed[position] ^= 1;
        assert!(
            evidence::decode(&changed).is_err(),
            "byte {position} of the file"
        );
    }
    // Whoever changes a byte can compute the digest again; then the proof itself must fail.
    let body = evidence.encode_to_vec();
    let mut accepted: Vec<usize> = Vec::new();
    for position in 0..body.len() {
        let mut changed = body.clone();
        changed[position] ^= 1;
        let Ok(changed) = v1::Evidence::decode(changed.as_slice()) else {
            continue;
        };
        if evidence::verify(&changed, &trusted).is_ok() {
            accepted.push(position);
        }
    }
    assert_eq!(
        accepted,
        Vec::<usize>::new(),
        "changed bytes after which the evidence still verifies"
    );
}

#[test]
fn provisional_is_not_proof() {
    let (world, index, _) = paid(TreeHash::Sha256);
    let trusted = policy(&world.trust_policy());
    let checkpoint = world.checkpoint(&[3]);
    let one = evidence::decision(sources(&world, &checkpoint), index).unwrap();
    let quorum = |error| match error {
        EvidenceError::Checkpoint(CheckpointVerifyError::QuorumNotMet { witnesses }) => witnesses,
        other => panic!("another error: {other}"),
    };
    assert_eq!(
        quorum(evidence::verify(&one, &trusted).unwrap_err()),
        ["node-3"]
    );

    let receipt = evidence::receipt(
        &world.state,
        index,
        &checkpoint,
        v1::ReceiptLevel::Committed,
    )
    .unwrap();
    assert_eq!(
        quorum(evidence::verify_receipt(&receipt, &trusted).unwrap_err()),
        ["node-3"]
    );
    let cosigned = world.checkpoint(&[1, 3]);
    let receipt =
        evidence::receipt(&world.state, index, &cosigned, v1::ReceiptLevel::Cosigned).unwrap();
    let (entry, _) = evidence::verify_receipt(&receipt, &trusted).unwrap();
    assert_eq!(entry, world.entry(index.0));
}

#[test]
fn what_is_left_out_is_missed() {
    let (world, index, _) = paid(TreeHash::Sha256);
    let trusted = policy(&world.trust_policy());
    let evidence = evidence_of(&world, index);
    let mut refused = 0;
    for position in 0..evidence.entries.len() {
        let mut without = evidence.clone();
        let removed = without.entries.remove(position);
        let optional = matches!(
            ledger_core::entry::decode(&removed.entry).unwrap().body,
            Some(v1::entry::Body::Outcome(_) | v1::entry::Body::Redemption(_))
        );
        match evidence::verify(&without, &trusted) {
            Ok(_) => assert!(optional, "entry {} is not needed", removed.index),
            Err(EvidenceError::Missing { .. }) => refused += 1,
            Err(other) => panic!("another error: {other}"),
        }
    }
    assert!(refused >= 5, "only {refused} entries are needed");
}

#[test]
fn content_must_be_what_was_committed_to() {
    let (world, index, _) = paid(TreeHash::Sha256);
    let trusted = policy(&world.trust_policy());
    let mut evidence = evidence_of(&world, index);
    let compartment = evidence.compartments[0].compartment.as_mut().unwrap();
    compartment.content = br#"{"to": "alice", "amount": 6}"#.to_vec();
    let error = evidence::verify(&evidence, &trusted).unwrap_err();
    assert_eq!(error, EvidenceError::Compartment { index: index.0 });
}

#[test]
fn another_ledger_is_not_this_one() {
    let (world, index, _) = paid(TreeHash::Sha256);
    let other = trust_policy("ledger.test/other", &[1, 2, 3]);
    let error = evidence::verify(&evidence_of(&world, index), &policy(&other)).unwrap_err();
    assert_eq!(
        error,
        EvidenceError::Checkpoint(CheckpointVerifyError::UnknownOrigin(world.origin))
    );
}

#[test]
fn an_ended_session_is_proven_complete() {
    let (mut world, _, session) = paid(TreeHash::Sha256);
    let trusted = policy(&world.trust_policy());
    world.authorize(
        "bot",
        session,
        "bank/pay",
        r#"{"to": "mallory", "amount": 5}"#,
    );
    let close = Body::CloseSession(v1::CloseSession {
        session_id: session.to_vec(),
    });
    world.must(Ask::new(Identity::Agent("bot".to_owned()), close));
    // A late denial names the session and is outside the count.
    world.authorize("bot", session, "bank/read", r#"{"doc": "a"}"#);

    let checkpoint = world.checkpoint(&[2, 3]);
    let leaves = session_leaves(&world.state, session).unwrap();
    assert_eq!(leaves.len(), 6);
    let evidence = evidence::session(sources(&world, &checkpoint), session, &leaves).unwrap();
    let report = evidence::verify(&evidence, &trusted).unwrap();
    assert_eq!(
        report.get("complete"),
        Some("all 4 entries: 1 allowed, 1 denied or escalated, 1 outcomes")
    );
    assert_eq!(report.get("ended"), Some("CLOSED"));
    for position in 0..evidence.entries.len() {
        let mut without = evidence.clone();
        without.entries.remove(position);
        assert!(
            evidence::verify(&without, &trusted).is_err(),
            "entry {position} can be left out"
        );
    }
}

/// Node 4 replaces node 1. A verifier that pinned the first policy follows the change; without it, it does not.
#[test]
fn trust_is_handed_on_by_those_who_have_it() {
    let (mut world, index, _) = paid(TreeHash::Sha256);
    let pinned = policy(&world.trust_policy());
    let after = trust_policy(&world.origin, &[2, 3, 4]);
    world.govern(Body::UpdateMembership(v1::UpdateMembership {
        nodes: [2, 3, 4]
            .map(|node| node_card(&world.origin, node))
            .to_vec(),
        trust_policy: after.clone(),
    }));
    let step = (1, world.checkpoint(&[2, 3]));
    world.agent("later");
    let latest = world.checkpoint(&[3, 4]);

    let steps = [step];
    let with = Sources {
        trust_checkpoints: &steps,
        ..sources(&world, &latest)
    };
    let evidence = evidence::decision(with, index).unwrap();
    evidence::verify(&evidence, &pinned).unwrap();
    // Whoever pinned the new policy needs no steps.
    let short = evidence::decision(sources(&world, &latest), index).unwrap();
    evidence::verify(&short, &policy(&after)).unwrap();
    assert!(
        evidence::verify(&short, &pinned).is_err(),
        "node 4 is not trusted by the first policy"
    );

    // A step that only the new nodes cosigned hands on nothing.
    let usurped = [(1, world.checkpoint(&[3, 4]))];
    let with = Sources {
        trust_checkpoints: &usurped,
        ..sources(&world, &latest)
    };
    let evidence = evidence::decision(with, index).unwrap();
    let error = evidence::verify(&evidence, &pinned).unwrap_err();
    assert!(
        matches!(
            error,
            EvidenceError::Checkpoint(CheckpointVerifyError::QuorumNotMet { .. })
        ),
        "{error}"
    );
}

/// Node 4 was added while node 3 was lost, and never answered: three of four nobody could meet. Then it was removed again.
#[test]
fn changes_that_were_taken_back_hand_trust_on_together() {
    let (mut world, index, _) = paid(TreeHash::Sha256);
    let pinned = policy(&world.trust_policy());
    for nodes in [&[1, 2, 3, 4][..], &[1, 2, 3]] {
        let card = |node: &u64| node_card(&world.origin, *node);
        let update = v1::UpdateMembership {
            nodes: nodes.iter().map(card).collect(),
            trust_policy: trust_policy(&world.origin, nodes),
        };
        world.govern(Body::UpdateMembership(update));
    }
    let both = world.checkpoint(&[1, 2]);
    world.agent("later");
    let latest = world.checkpoint(&[1, 2]);
    let verify = |steps: &[(u64, &String)]| {
        let steps: Vec<_> = steps
            .iter()
            .map(|(epoch, note)| (*epoch, (*note).clone()))
            .collect();
        let with = Sources {
            trust_checkpoints: &steps,
            ..sources(&world, &latest)
        };
        evidence::verify(&evidence::decision(with, index).unwrap(), &pinned)
    };
    let report = verify(&[(1, &both), (2, &both)]).unwrap();
    let shown = report.get("checkpoint").expect("a checkpoint");
    assert!(shown.contains("trust epoch 2"), "{shown}");

    // One of them alone leads to a policy that nobody meets, and so do two that are not carried together.
    let by_newcomers = world.checkpoint(&[3, 4]);
    for steps in [
        &[(1, &both)][..],
        &[(1, &both), (2, &latest)],
        &[(1, &by_newcomers), (2, &by_newcomers)],
    ] {
        let error = verify(steps).unwrap_err();
        assert!(
            matches!(
                error,
                EvidenceError::Checkpoint(CheckpointVerifyError::QuorumNotMet { .. })
            ),
            "{error}"
        );
    }
    let error = verify(&[(2, &both)]).unwrap_err();
    assert!(
        matches!(error, EvidenceError::Contradiction { what, .. } if what.contains("replaces another policy")),
        "{error}"
    );
}

/// Nodes 1 and 2 were trusted once. Whoever pinned a later policy cannot be led back to them by an old change.
#[test]
fn trust_does_not_go_back() {
    let (mut world, index, _) = paid(TreeHash::Sha256);
    let change = |world: &mut World, nodes: [u64; 3]| {
        world.govern(Body::UpdateMembership(v1::UpdateMembership {
            nodes: nodes.map(|node| node_card(&world.origin, node)).to_vec(),
            trust_policy: trust_policy(&world.origin, &nodes),
        }));
    };
    change(&mut world, [2, 3, 4]);
    change(&mut world, [3, 4, 5]);
    let pinned = policy(&trust_policy(&world.origin, &[3, 4, 5]));

    let old_change = [(1, world.checkpoint(&[1, 2, 3, 4]))];
    let by_the_retired = world.checkpoint(&[2, 3]);
    let with = Sources {
        trust_checkpoints: &old_change,
        ..sources(&world, &by_the_retired)
    };
    let evidence = evidence::decision(with, index).unwrap();
    let error = evidence::verify(&evidence, &pinned).unwrap_err();
    assert!(
        matches!(error, EvidenceError::Contradiction { what, .. } if what.contains("replaces another policy")),
        "{error}"
    );
}

/// Node 4 joins and leaves again, so that the policy is what it was at first. The change with which it joined fits that policy once
/// more, and does not follow it.
#[test]
fn a_step_is_followed_once() {
    let (mut world, _, _) = paid(TreeHash::Sha256);
    let start = TrustPosition {
        epoch: 0,
        policy: policy(&world.trust_policy()),
    };
    let mut steps = Vec::new();
    for nodes in [&[1, 2, 3, 4][..], &[1, 2, 3], &[2, 3, 5]] {
        let card = |node: &u64| node_card(&world.origin, *node);
        let update = v1::UpdateMembership {
            nodes: nodes.iter().map(card).collect(),
            trust_policy: trust_policy(&world.origin, nodes),
        };
        world.govern(Body::UpdateMembership(update));
        let carried = (steps.len() as u64 + 1, world.checkpoint(&[1, 2, 3, 4, 5]));
        steps.extend(evidence::trust_steps(&world.state, &[carried]).unwrap());
    }
    let mut passed = Vec::new();
    let mut position = start.clone();
    position
        .advance(&world.origin, &steps[..2], &mut passed)
        .unwrap();
    assert_eq!(passed.iter().map(|at| at.epoch).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(position.epoch, 2);
    assert_eq!(position.policy.to_string(), start.policy.to_string());
    let again = position
        .advance(&world.origin, &steps[..1], &mut passed)
        .unwrap_err();
    assert!(
        matches!(again, EvidenceError::Contradiction { what, .. } if what.contains("is missing")),
        "{again}"
    );
    assert_eq!(position.epoch, 2);
    position
        .advance(&world.origin, &steps[2..], &mut passed)
        .unwrap();
    assert_eq!(position.epoch, 3);

    // What is proven counts although what comes after it is not.
    let mut bad = steps.clone();
    bad[2].checkpoint = world.checkpoint(&[4, 5]);
    let mut position = start.clone();
    position
        .advance(&world.origin, &bad, &mut passed)
        .unwrap_err();
    assert_eq!(position.epoch, 2);
    let mut start = start;
    start
        .advance("ledger.example.com/another", &steps, &mut passed)
        .unwrap_err();
}

/// A record that names the decision before it is made speaks of nothing, and cannot stand in for the real outcome.
#[test]
fn an_outcome_does_not_come_before_its_decision() {
    let mut world = World::new();
    world.agent("bot");
    world.agent("other");
    world.policy("team", &bank());
    let session = world.session("bot");
    let next = ledger_core::machine::tip(&world.state).unwrap().size.0 + 1;
    let early = world.must(Ask::new(
        Identity::Agent("other".to_owned()),
        Body::Record(v1::Record {
            decision_index: next,
            status: v1::ExecutionStatus::NotExecuted.into(),
            ..v1::Record::default()
        }),
    ));
    let decision = world.authorize(
        "bot",
        session,
        "bank/pay",
        r#"{"to": "alice", "amount": 5}"#,
    );
    assert_eq!(decision.index.0, next);

    let mut evidence = evidence_of(&world, decision.index);
    let checkpoint = world.checkpoint(&[1, 2]);
    let level = v1::ReceiptLevel::Cosigned;
    let receipt = evidence::receipt(&world.state, early.index, &checkpoint, level).unwrap();
    evidence.entries.extend(receipt.entry);
    evidence.entries.sort_by_key(|entry| entry.index);
    let error = evidence::verify(&evidence, &policy(&world.trust_policy())).unwrap_err();
    assert!(
        matches!(error, EvidenceError::Contradiction { what, .. } if what == "an outcome of another decision"),
        "{error}"
    );
}

/// Replicas that lie can take what a key signs when its time is over: its enrolment is in the evidence.
#[test]
fn a_key_that_has_ended_signs_no_evidence() {
    let mut world = World::new();
    let bot = world.agent("bot");
    world.policy("team", &bank());
    let key_id = public_key(&key(&bot.to_string())).key_id();
    let key = Key::public_key(key_id);
    let mut record: v1::KeyRecord = read(&world.state, &key).unwrap().unwrap();
    let enrolled = record.key.as_mut().unwrap();
    let ends_at_us = std::mem::take(&mut enrolled.not_after_us);
    let mut txn = Txn::new(&world.state);
    txn.write(key, &record);
    let writes = txn.into_writes();
    world.state.commit(writes);
    let mut verified = |before_us: u64| {
        world.now_us = ends_at_us - before_us;
        let session = world.session("bot");
        world.now_us += SECOND;
        let decision = world.authorize("bot", session, "bank/read", r#"{"doc": "a"}"#);
        let evidence = evidence_of(&world, decision.index);
        evidence::verify(&evidence, &policy(&world.trust_policy()))
    };
    let report = verified(10 * SECOND).unwrap();
    let retired = report.get("retired keys").unwrap();
    assert!(retired.contains("does not show"), "{retired}");
    let error = verified(0).unwrap_err();
    let words = "a key that was not valid yet, or not any more, when it signed";
    assert!(
        matches!(error, EvidenceError::Contradiction { what, .. } if what == words),
        "{error}"
    );
}

/// Changes come in pages, and a page ends wherever it does, also between changes that one checkpoint carries.
#[test]
fn trust_that_is_followed_in_pages_leads_where_it_leads_at_once() {
    let (mut world, _, _) = paid(TreeHash::Sha256);
    let pinned = policy(&world.trust_policy());
    let mut steps = Vec::new();
    // The policy of the second change is never met: nodes 4 to 7 do not answer.
    let changes = [
        (&[1, 2, 3, 4][..], true),
        (&[1, 2, 3, 4, 5, 6, 7], false),
        (&[1, 2, 3, 4], true),
    ];
    let mut epoch = 0;
    let mut open = Vec::new();
    for (nodes, is_carried) in changes {
        let card = |node: &u64| node_card(&world.origin, *node);
        let update = v1::UpdateMembership {
            nodes: nodes.iter().map(card).collect(),
            trust_policy: trust_policy(&world.origin, nodes),
        };
        world.govern(Body::UpdateMembership(update));
        epoch += 1;
        open.push(epoch);
        if is_carried {
            let note = world.checkpoint(&[1, 2, 3]);
            let carried: Vec<_> = open.drain(..).map(|epoch| (epoch, note.clone())).collect();
            steps.extend(evidence::trust_steps(&world.state, &carried).unwrap());
        }
    }
    assert_eq!(steps.len(), 3);
    assert_eq!(steps[1].checkpoint, steps[2].checkpoint);
    let at_once = evidence::follow_trust(&world.origin, &pinned, &steps).unwrap();
    for ends in [&[][..], &[1], &[2], &[1, 2]] {
        let mut follower = evidence::TrustFollower::new(&world.origin, &pinned);
        let mut from = 0;
        for end in ends.iter().copied().chain([3]) {
            follower.add(&steps[from..end]).unwrap();
            from = end;
        }
        assert_eq!(follower.finish().unwrap(), at_once, "{ends:?}");
    }
    // A page that leads nowhere is the last, and so is one that ends where nobody vouches for what it led to.
    let mut follower = evidence::TrustFollower::new(&world.origin, &pinned);
    follower.add(&steps[..1]).unwrap();
    let again = follower.add(&steps[..1]).unwrap_err();
    assert!(
        matches!(again, EvidenceError::Contradiction { .. }),
        "{again}"
    );
    let mut follower = evidence::TrustFollower::new(&world.origin, &pinned);
    follower.add(&steps[..2]).unwrap();
    let open = follower.finish().unwrap_err();
    assert!(matches!(open, EvidenceError::Checkpoint(_)), "{open}");
}
