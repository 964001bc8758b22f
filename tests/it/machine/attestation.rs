//! What replicas attest about their state, and who is believed when two say different things.

use countersign_tests::kit::{Ask, World, genesis_message, node_card, trust_policy};
use ledger_core::hash::{Hash, TreeHash, TreeSize};
use ledger_core::id::Identity;
use ledger_core::machine::{Comparison, compare};
use ledger_core::state::{Key, State, read};
use ledger_node::node::vouched::is_vouched_for;
use ledger_node::storage::memory::MemoryStore;
use ledger_node::storage::meta::trust_step_key;
use ledger_node::storage::view::StoreState;
use ledger_node::storage::{Batch, Read, Store, Table};
use ledger_node::submit::membership::may_change;
use ledger_proto::v1::{self, ErrorReason, command::Body};

/// A ledger with these members.
fn world(nodes: &[u64]) -> World {
    let mut world = World::new();
    world.govern(Body::UpdateMembership(v1::UpdateMembership {
        nodes: nodes
            .iter()
            .map(|node| node_card(&world.origin, *node))
            .collect(),
        trust_policy: trust_policy(&world.origin, nodes),
    }));
    world
}

fn attest(world: &mut World, node: u64, tree_size: u64, digest: &[u8], copied: bool) -> v1::Result {
    let digest = digest.to_vec();
    let ask = v1::AttestState {
        tree_size,
        digest,
        copied,
    };
    world.result(Ask::new(Identity::Node(node), Body::AttestState(ask)))
}

fn say(world: &mut World, node: u64, digest: u8, copied: bool) {
    let said = attest(world, node, 1, &[digest; 32], copied);
    assert_eq!(said, v1::Result::Applied);
}

fn comparison(world: &World, node: u64) -> Comparison {
    let found = compare(&world.state, node).expect("sound state");
    found.expect("the node has attested")
}

#[test]
fn a_node_attests_larger_and_larger_trees_that_there_have_been() {
    let mut world = world(&[1, 2, 3]);
    let size = world.log.len() as u64 + 1;
    let good = [7; 32];
    for (tree_size, digest, expected) in [
        (0, &good[..], v1::Result::InvalidArgument),
        (size + 100, &good[..], v1::Result::InvalidArgument),
        (1, &good[..31], v1::Result::InvalidArgument),
        (2, &good[..], v1::Result::Applied),
        (2, &good[..], v1::Result::FailedPrecondition),
        (2, &[8; 32][..], v1::Result::FailedPrecondition),
        (1, &good[..], v1::Result::FailedPrecondition),
        (3, &[8; 32][..], v1::Result::Applied),
    ] {
        let said = attest(&mut world, 1, tree_size, digest, false);
        assert_eq!(said, expected, "{tree_size} {digest:?}");
    }
    let kept: Option<v1::AttestationRecord> =
        read(&world.state, &Key::attestation(1)).expect("sound state");
    let kept = kept.expect("the last one is kept");
    assert_eq!((kept.tree_size, kept.digest), (3, vec![8; 32]));
}

#[test]
fn who_differs_from_most_is_outvoted_and_who_differs_from_few_is_not() {
    let mut world = world(&[1, 2, 3]);
    assert_eq!(
        compare(&world.state, 1),
        Ok(None),
        "it has attested nothing"
    );
    say(&mut world, 1, 1, false);
    assert_eq!(comparison(&world, 1).silent, [2, 3]);
    say(&mut world, 2, 2, false);
    // One against one: nobody knows who is right.
    assert_eq!(comparison(&world, 1).outvoted_by(), None);
    assert_eq!(comparison(&world, 2).outvoted_by(), None);
    say(&mut world, 3, 2, false);
    let lonely = comparison(&world, 1);
    assert_eq!(lonely.outvoted_by(), Some(comparison(&world, 2).digest));
    assert!(!lonely.is_confirmed());
    let other = comparison(&world, 2);
    assert_eq!(
        (other.same.as_slice(), other.outvoted_by()),
        (&[3][..], None)
    );
    let dissenters: Vec<&[u64]> = other.different.values().map(Vec::as_slice).collect();
    assert_eq!(dissenters, [[1]], "who differs is named");
}

#[test]
fn most_must_have_one_and_the_same_other_state() {
    let mut world = world(&[1, 2, 3, 4, 5]);
    for (node, digest) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)] {
        say(&mut world, node, digest, false);
    }
    assert_eq!(comparison(&world, 1).outvoted_by(), None);
}

#[test]
fn only_words_about_the_same_size_are_compared() {
    let mut world = world(&[1, 2, 3]);
    say(&mut world, 1, 1, true);
    for node in [2, 3] {
        let said = attest(&mut world, node, 2, &[2; 32], false);
        assert_eq!(said, v1::Result::Applied);
    }
    let found = comparison(&world, 1);
    assert_eq!(
        (found.size, found.silent.as_slice()),
        (TreeSize(1), &[2, 3][..])
    );
    assert!(!found.is_confirmed() && found.outvoted_by().is_none());
}

#[test]
fn a_copy_is_confirmed_by_most_others_and_confirms_nobody() {
    let mut world = world(&[1, 2, 3, 4]);
    say(&mut world, 4, 1, true);
    say(&mut world, 1, 1, false);
    assert!(!comparison(&world, 4).is_confirmed(), "one of three others");
    // Another copy may come from the same damaged node.
    say(&mut world, 2, 1, true);
    assert!(!comparison(&world, 4).is_confirmed(), "nor by a copy");
    say(&mut world, 3, 1, false);
    assert!(comparison(&world, 4).is_confirmed());
    assert!(comparison(&world, 2).is_confirmed());
}

#[test]
fn a_sound_node_is_not_outvoted_by_a_damaged_one_and_its_copies() {
    let mut world = world(&[1, 2, 3, 4]);
    say(&mut world, 1, 1, false);
    say(&mut world, 2, 2, false);
    for copy in [3, 4] {
        say(&mut world, copy, 2, true);
    }
    assert_eq!(comparison(&world, 1).outvoted_by(), None);
    assert!(
        !comparison(&world, 3).is_confirmed(),
        "two have not the same"
    );
}

#[test]
fn copies_ask_each_other_if_nobody_else_is_left() {
    let mut world = world(&[1, 2, 3]);
    for node in [1, 2] {
        say(&mut world, node, 1, true);
    }
    assert!(!comparison(&world, 1).is_confirmed());
    say(&mut world, 3, 1, true);
    assert!(comparison(&world, 1).is_confirmed());
}

#[test]
fn who_is_no_member_any_more_is_not_asked() {
    let mut world = world(&[1, 2, 3]);
    for (node, digest, copied) in [(1, 1, true), (2, 1, false), (3, 2, false)] {
        say(&mut world, node, digest, copied);
    }
    assert!(!comparison(&world, 1).is_confirmed());
    world.govern(Body::UpdateMembership(v1::UpdateMembership {
        nodes: [1, 2].map(|node| node_card(&world.origin, node)).to_vec(),
        trust_policy: trust_policy(&world.origin, &[1, 2]),
    }));
    assert!(comparison(&world, 1).is_confirmed());
    let gone: Option<v1::AttestationRecord> =
        read(&world.state, &Key::attestation(3)).expect("sound state");
    assert_eq!(gone, None, "what it said is not kept");
}

/// The state of a world as a node has it in its store.
fn stored(world: &World) -> MemoryStore {
    let store = MemoryStore::new();
    let mut batch = Batch::new();
    for (key, value) in world
        .state
        .scan(&[], None, usize::MAX)
        .expect("sound state")
    {
        batch.put(Table::State, key, value);
    }
    store.write(&batch).expect("is written");
    store
}

#[test]
fn what_a_copy_says_of_its_members_counts_only_with_signatures_that_the_genesis_leads_to() {
    let mut world = World::new();
    let (size, digest) = (TreeSize(1), Hash::from_bytes([7; 32]));
    let genesis = genesis_message(TreeHash::Sha256);
    let vouched = |store: &MemoryStore| {
        let found = is_vouched_for(store, &genesis, 3, (size, digest));
        found.expect("sound state").expect("the chain holds")
    };
    assert_eq!(genesis.nodes.len(), 3);
    say(&mut world, 1, 7, false);
    assert!(!vouched(&stored(&world)), "one of two others");
    let before = stored(&world);
    say(&mut world, 2, 7, false);
    assert!(vouched(&stored(&world)));

    // A copy that says of node 2 what only node 1 has signed.
    let mut lie = Batch::new();
    let of_one = before.get(Table::State, Key::attestation(1).as_bytes());
    let of_one = of_one.expect("reads").expect("it has attested");
    lie.put(Table::State, Key::attestation(2).as_bytes(), of_one);
    before.write(&lie).expect("is written");
    assert!(compare(&StoreState(&before), 1).expect("reads").is_some());
    assert!(!vouched(&before));

    // Two new members in the copy's own words confirm nothing either: no cosigned step leads to them.
    let mut world = self::world(&[3, 8, 9]);
    say(&mut world, 3, 7, true);
    say(&mut world, 8, 7, false);
    say(&mut world, 9, 7, false);
    assert!(comparison(&world, 3).is_confirmed());
    assert!(!vouched(&stored(&world)));
}

#[test]
fn nodes_are_not_removed_while_somebody_still_needs_their_word() {
    let change = |nodes: &[u64]| {
        let origin = World::new().origin;
        v1::UpdateMembership {
            nodes: nodes.iter().map(|node| node_card(&origin, *node)).collect(),
            trust_policy: trust_policy(&origin, nodes),
        }
    };
    let asked = |store: &MemoryStore, nodes: &[u64]| {
        let answer = may_change(store, &change(nodes));
        answer.map_err(|failure| failure.reason)
    };
    let mut world = world(&[1, 2, 3, 4]);
    for node in [1, 2, 3, 4] {
        say(&mut world, node, 7, node == 4);
    }
    let store = stored(&world);
    assert_eq!(asked(&store, &[1, 2, 3, 4, 5]), Ok(()), "nobody leaves");
    let waits = Err(ErrorReason::NotReady);
    assert_eq!(
        asked(&store, &[1, 2, 4]),
        waits,
        "no checkpoint carries the change before"
    );
    assert_eq!(
        asked(&store, &[1, 2, 3]),
        Ok(()),
        "what no checkpoint carries is taken back"
    );
    assert_eq!(
        asked(&store, &[1, 2, 3, 5]),
        waits,
        "one thing after the other"
    );
    let mut carried = Batch::new();
    carried.put(Table::Meta, trust_step_key(1), b"a note");
    store.write(&carried).expect("is written");
    assert_eq!(asked(&store, &[1, 2, 4]), waits, "4 is a copy yet");
    assert_eq!(
        asked(&store, &[1, 2, 3]),
        Ok(()),
        "who leaves itself need not wait"
    );
    assert_eq!(asked(&store, &[1, 2, 3, 5]), Ok(()));
    let too_many = Err(ErrorReason::ArgumentInvalid);
    assert_eq!(asked(&store, &[1, 2, 5, 6]), too_many, "half of four stay");

    // It says that it is confirmed; and node 5 has said nothing yet.
    let said = attest(&mut world, 4, 2, &[8; 32], false);
    assert_eq!(said, v1::Result::Applied);
    world.govern(Body::UpdateMembership(change(&[1, 2, 3, 4, 5])));
    let store = stored(&world);
    carried.put(Table::Meta, trust_step_key(2), b"a note");
    store.write(&carried).expect("is written");
    assert_eq!(asked(&store, &[1, 2, 4, 5]), waits);
    assert_eq!(asked(&store, &[1, 2, 4]), Ok(()));
}
