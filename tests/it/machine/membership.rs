//! Replicas: trust epochs, ids and keys that are never used again, and geneses that could not be trusted.

use countersign_tests::kit::{Ask, World, genesis_message, node_card, trust_policy};
use ledger_core::hash::TreeHash;
use ledger_core::id::Identity;
use ledger_core::machine::{GenesisError, genesis};
use ledger_core::state::{MemoryState, Txn};
use ledger_proto::v1::{self, command::Body};

fn update(world: &World, nodes: &[u64]) -> v1::UpdateMembership {
    v1::UpdateMembership {
        nodes: nodes
            .iter()
            .map(|node| node_card(&world.origin, *node))
            .collect(),
        trust_policy: trust_policy(&world.origin, nodes),
    }
}

fn result(world: &mut World, update: v1::UpdateMembership) -> v1::Result {
    world.result(Ask::new(
        Identity::Operator("root".to_owned()),
        Body::UpdateMembership(update),
    ))
}

#[test]
fn a_removed_node_never_comes_back() {
    let mut world = World::new();
    let without_3 = update(&world, &[1, 2]);
    assert_eq!(result(&mut world, without_3), v1::Result::Applied);
    let with_3 = update(&world, &[1, 2, 3]);
    assert_eq!(result(&mut world, with_3), v1::Result::FailedPrecondition);
    let with_4 = update(&world, &[1, 2, 4]);
    assert_eq!(result(&mut world, with_4), v1::Result::Applied);
}

#[test]
fn two_replicas_share_neither_key_nor_name() {
    let mut world = World::new();
    let mut shared = update(&world, &[1, 2, 4]);
    let mut twin = shared.nodes[2].clone();
    twin.node_id = 5;
    shared.nodes.push(twin);
    assert_eq!(result(&mut world, shared), v1::Result::InvalidArgument);
}

#[test]
fn every_replica_is_a_witness_of_the_policy() {
    let mut world = World::new();
    let mut mismatched = update(&world, &[1, 2, 4]);
    mismatched.trust_policy = trust_policy(&world.origin, &[1, 2, 3]);
    assert_eq!(result(&mut world, mismatched), v1::Result::InvalidArgument);
}

#[test]
fn a_genesis_whose_admins_have_no_valid_key_begins_nothing() {
    let mut message = genesis_message(TreeHash::Sha256);
    let key = message.operators[0].keys[0].key.as_mut().expect("a key");
    key.not_after_us = message.created_at_us;
    let state = MemoryState::new();
    let error = genesis(&mut Txn::new(&state), &message).expect_err("no admin can act");
    assert_eq!(error, GenesisError::Admins);
}

#[test]
fn a_genesis_fits_an_entry() {
    let mut message = genesis_message(TreeHash::Sha256);
    for n in 0..600 {
        let operator =
            countersign_tests::kit::operator_message(&message.origin, &format!("{n}"), &[]);
        message.operators.push(operator);
    }
    let state = MemoryState::new();
    let error = genesis(&mut Txn::new(&state), &message).expect_err("too many operators");
    assert_eq!(error, GenesisError::TooLong);
}
