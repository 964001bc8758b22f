//! Whoever audits a ledger makes each entry again and gets the same, whatever content has been erased since; and notices
//! whatever was changed.

use countersign_tests::kit::{World, input_digest, trust_policy};
use ledger_core::audit::{Auditor, CheckedCheckpoint, Flaw};
use ledger_core::compartment;
use ledger_core::entry;
use ledger_core::hash::{LeafIndex, TreeHash, TreeSize};
use ledger_core::ledger;
use ledger_core::machine;
use ledger_core::note::tlog_policy::TlogPolicy;
use ledger_core::state::{Key, MemoryState, State};
use ledger_proto::v1::{self, CompartmentKind, entry::Body};
use proptest::prelude::*;
use prost::Message;

use super::determinism;

/// One entry with what is kept beside it.
type Recorded = (Vec<u8>, Vec<v1::Compartment>);

/// All entries of a state, with their compartments as far as they are still there.
fn recorded(state: &MemoryState) -> Vec<Recorded> {
    let size = machine::tip(state).expect("sound").size;
    (0..size.0)
        .map(|index| {
            let leaf = LeafIndex(index);
            let bytes = ledger::entry_bytes(state, leaf).expect("sound");
            let bytes = bytes.expect("indexes are contiguous");
            let stored = entry::decode(&bytes).expect("canonical").stored;
            let kept = stored.iter().filter_map(|kind| {
                let kind = CompartmentKind::try_from(*kind).expect("a kind");
                let found = state.get(Key::compartment(leaf, kind).as_bytes());
                let found = found.expect("sound")?;
                Some(v1::Compartment::decode(found.as_slice()).expect("a compartment"))
            });
            (bytes, kept.collect())
        })
        .collect()
}

/// Reads a ledger to its end, and says how many entries had to be believed.
fn audit(entries: &[Recorded]) -> Result<(Auditor, usize), (usize, Flaw)> {
    let mut auditor = Auditor::new();
    let mut believed = 0;
    for (at, (bytes, compartments)) in entries.iter().enumerate() {
        let sound = auditor.read(bytes, compartments.clone());
        let sound = sound.map_err(|flaw| (at, flaw))?;
        believed += usize::from(sound.believed);
    }
    Ok((auditor, believed))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: super::cases(2), max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_ledger_is_made_again_with_and_without_what_was_erased(
        numbers in prop::collection::vec(any::<u64>(), 2_000..2_500), blake3 in any::<bool>(), lost in any::<u64>(),
    ) {
        let tree_hash = if blake3 { TreeHash::Blake3 } else { TreeHash::Sha256 };
        let state = determinism::ledger(tree_hash, &numbers);
        let tip = machine::tip(&state).expect("sound");
        let mut entries = recorded(&state);
        let decisions = entries.iter().filter(|(bytes, _)| reached_rules(bytes)).count();

        // With all that the run has left.
        let (auditor, believed) = audit(&entries).expect("sound");
        prop_assert_eq!((auditor.size(), auditor.root().expect("a root")), (tip.size, tip.root));

        // With some of it gone that no entry has erased, as if erasures came later.
        let mut dice = countersign_tests::stream::Dice::new(lost);
        for (_, compartments) in &mut entries {
            compartments.retain(|_| !dice.percent(5));
        }
        let (auditor, more) = audit(&entries).expect("sound");
        prop_assert_eq!(auditor.root().expect("a root"), tip.root);
        prop_assert!(more >= believed);

        // With nothing but the entries.
        for (_, compartments) in &mut entries {
            compartments.clear();
        }
        let (auditor, all) = audit(&entries).expect("sound");
        prop_assert_eq!(auditor.root().expect("a root"), tip.root);
        prop_assert!(all >= decisions && all > believed, "{} and {} of {}", believed, all, decisions);
    }
}

/// True for a decision that rests on the arguments.
fn reached_rules(bytes: &[u8]) -> bool {
    matches!(entry::decode(bytes).expect("canonical").body, Some(Body::Decision(decision)) if !decision.bundle_digest.is_empty())
}

/// Changes one entry and gives the flaw that is found there.
fn flaw(entries: &[Recorded], at: usize, change: impl FnOnce(&mut v1::Entry)) -> Flaw {
    let mut entries = entries.to_vec();
    let mut changed = entry::decode(&entries[at].0).expect("canonical");
    change(&mut changed);
    entries[at].0 = changed.encode_to_vec();
    let (found_at, flaw) = audit(&entries).expect_err("a changed ledger");
    assert_eq!(found_at, at, "{flaw}");
    flaw
}

fn position(entries: &[Recorded], wanted: impl Fn(&Body) -> bool) -> usize {
    let found = entries.iter().position(|(bytes, _)| {
        let body = entry::decode(bytes).expect("canonical").body;
        wanted(&body.expect("a body"))
    });
    found.expect("the run has such an entry")
}

#[test]
fn whatever_is_changed_is_found_where_it_is() {
    let state = determinism::ledger(TreeHash::Sha256, &determinism::numbers(7, 1_500));
    let entries = recorded(&state);
    audit(&entries).expect("sound");
    // What was decided on content that is gone has to be believed.
    let mut auditor = Auditor::new();
    let allowed = entries.iter().position(|(bytes, compartments)| {
        let body = entry::decode(bytes).expect("canonical").body;
        let is_allow = matches!(&body, Some(Body::Decision(decision)) if decision.verdict() == v1::Verdict::Allow);
        let sound = auditor.read(bytes, compartments.clone()).expect("sound");
        is_allow && !sound.believed
    });
    let allowed = allowed.expect("the run allows something that can be decided again");
    let decision = |entry: &mut v1::Entry, change: fn(&mut v1::Decision)| {
        let Some(Body::Decision(decision)) = &mut entry.body else {
            panic!("not a decision")
        };
        change(decision);
    };

    let other = flaw(&entries, allowed, |entry| {
        decision(entry, |decision| {
            decision.verdict = v1::Verdict::Deny.into();
            decision.reason = v1::DecisionReason::NoMatchingPermit.into();
        });
    });
    assert!(matches!(other, Flaw::Decision { .. }), "{other}");
    assert!(
        other
            .to_string()
            .contains("the rules say ALLOW: ALLOWED_BY_POLICY by ")
    );
    let chain = flaw(&entries, allowed, |entry| {
        decision(entry, |decision| {
            decision.chain.as_mut().expect("a chain").number += 1
        });
    });
    assert_eq!(chain, Flaw::Different("place in its session's chain"));
    let permit = flaw(&entries, allowed, |entry| {
        decision(entry, |decision| decision.permit_expires_at_us += 1);
    });
    assert_eq!(permit, Flaw::Different("permit"));
    let signature = flaw(&entries, allowed, |entry| {
        entry.signed.as_mut().expect("signed").signatures[0].signature[0] ^= 1;
    });
    assert_eq!(signature, Flaw::Refused(machine::Refusal::BadSignature));
    let late = flaw(&entries, allowed, |entry| entry.time_us -= 3_600_000_000);
    assert_eq!(late, Flaw::Different("time"));
    let version = flaw(&entries, allowed, |entry| entry.engine_version += 1);
    assert_eq!(version, Flaw::Different("engine version"));

    let drifted = position(
        &entries,
        |body| matches!(body, Body::Outcome(outcome) if !outcome.drift.is_empty()),
    );
    let drift = flaw(&entries, drifted, |entry| {
        let Some(Body::Outcome(outcome)) = &mut entry.body else {
            panic!("not an outcome")
        };
        outcome.drift.clear();
    });
    assert_eq!(drift, Flaw::Different("drift"));

    // An entry left out, one put in twice, and another beginning.
    let mut shorter = entries.clone();
    shorter.remove(allowed);
    let (at, gap) = audit(&shorter).expect_err("a gap");
    assert_eq!((at, gap), (allowed, Flaw::OutOfOrder(allowed as u64 + 1)));
    let again = flaw(&entries, allowed + 1, |second| {
        let index = second.index;
        *second = entry::decode(&entries[allowed].0).expect("canonical");
        second.index = index;
    });
    assert_eq!(again, Flaw::Repeated(LeafIndex(allowed as u64)));
    let (at, no_genesis) = audit(&entries[1..]).expect_err("no genesis");
    assert_eq!((at, no_genesis), (0, Flaw::OutOfOrder(1)));
    assert_eq!(Auditor::new().size(), TreeSize(0));
    assert!(matches!(Auditor::new().root(), Err(Flaw::State(_))));
}

#[test]
fn content_that_is_not_what_was_committed_to_is_not_believed() {
    let state = determinism::ledger(TreeHash::Blake3, &determinism::numbers(8, 800));
    let mut entries = recorded(&state);
    let at = entries
        .iter()
        .position(|(bytes, kept)| reached_rules(bytes) && !kept.is_empty())
        .expect("a decision with its arguments");
    let bytes = entries[at].0.clone();
    let found = entry::decode(&bytes).expect("canonical");
    let input = entries[at].1.first_mut().expect("the arguments");
    input.content.push(b' ');
    let salt = input.salt.as_slice().try_into().expect("32 bytes");
    let digest = compartment::commitment_digest(&salt, &input.content);
    assert_ne!(digest.as_bytes().to_vec(), input_digest(&found));
    let (found_at, flaw) = audit(&entries).expect_err("another input");
    assert_eq!(found_at, at);
    assert_eq!(flaw, Flaw::Different("list of what is stored beside it"));
}

/// Entries of a fork may say that another trust policy was in force: what an auditor has from elsewhere is compared all the same.
#[test]
fn a_checkpoint_under_a_policy_of_the_auditors_is_compared_with_the_entries() {
    let (mut world, mut fork) = (World::new(), World::new());
    world.operator("one", &[]);
    fork.operator("another", &[]);
    let (mut auditor, _) = audit(&recorded(&world.state)).expect("sound");
    let policy = trust_policy(&world.origin, &[7, 8, 9]);
    let policy = TlogPolicy::parse(policy.as_bytes()).expect("a policy");
    let is_proven = |checked: Result<CheckedCheckpoint, Flaw>| {
        checked.map(|checked| matches!(checked, CheckedCheckpoint::Proven(_)))
    };
    let size = auditor.size();
    for (nodes, proven, proven_under) in
        [([1, 2], Ok(true), Ok(false)), ([7, 8], Ok(false), Ok(true))]
    {
        let note = world.checkpoint(&nodes);
        assert_eq!(is_proven(auditor.verify_checkpoint(&note)), proven);
        let under = auditor.verify_checkpoint_under(&note, &policy);
        assert_eq!(is_proven(under), proven_under);
        let forked = fork.checkpoint(&nodes);
        let is_fork = |proven: Result<bool, Flaw>| match proven {
            Ok(true) => Err(Flaw::Forked(size)),
            other => other,
        };
        let found = is_proven(auditor.verify_checkpoint(&forked));
        assert_eq!(found, is_fork(proven));
        let found = is_proven(auditor.verify_checkpoint_under(&forked, &policy));
        assert_eq!(found, is_fork(proven_under));
    }
}
