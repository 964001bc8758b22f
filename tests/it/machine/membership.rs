//! Replicas: trust epochs, ids and keys that are never used again, and geneses that could not be trusted.

use countersign_tests::kit::{Ask, World, genesis_message, node_card, trust_policy};
use ledger_core::hash::TreeHash;
use ledger_core::id::Identity;
use ledger_core::limits::MAX_TIME_US;
use ledger_core::machine::{ENGINE_VERSION, GenesisError, genesis};
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

#[test]
fn a_nodes_card_proves_that_the_node_holds_its_key() {
    let mut world = World::new();
    let elsewhere = node_card("ledger.test/other", 4).proof_of_possession;
    let of_another_id = node_card(&world.origin, 5).proof_of_possession;
    for proof in [Vec::new(), elsewhere, of_another_id] {
        let mut unproven = update(&world, &[1, 2, 4]);
        unproven.nodes[2].proof_of_possession = proof.clone();
        assert_eq!(result(&mut world, unproven), v1::Result::KeyRefused);
        let mut message = genesis_message(TreeHash::Sha256);
        message.nodes[2].proof_of_possession = proof;
        assert_eq!(refused(&message), GenesisError::NodeKey(3));
    }
    let proven = update(&world, &[1, 2, 4]);
    assert_eq!(result(&mut world, proven), v1::Result::Applied);
}

fn refused(message: &v1::Genesis) -> GenesisError {
    genesis(&mut Txn::new(&MemoryState::new()), message).expect_err("a genesis that cannot be")
}

#[test]
fn every_way_in_which_a_genesis_cannot_be_has_its_error() {
    let unproven = |mut enrolment: v1::KeyEnrolment| {
        enrolment.proof_of_possession[0] ^= 1;
        enrolment
    };
    type Change<'a> = &'a dyn Fn(&mut v1::Genesis);
    let cases: [(Change<'_>, GenesisError); 18] = [
        (
            &|g| g.origin = "https://a.test".into(),
            GenesisError::Origin,
        ),
        (&|g| g.origin = "a b".into(), GenesisError::Origin),
        (&|g| g.origin.push_str("/blake3"), GenesisError::Origin),
        (&|g| g.tree_hash = "md5".into(), GenesisError::Origin),
        (&|g| g.engine_version += 1, GenesisError::Version),
        (&|g| g.cluster_version = 0, GenesisError::Version),
        (&|g| g.created_at_us = 0, GenesisError::Time),
        (&|g| g.created_at_us = MAX_TIME_US, GenesisError::Time),
        (&|g| g.nodes.clear(), GenesisError::Membership),
        (&|g| g.nodes.reverse(), GenesisError::Membership),
        (&|g| g.trust_policy.push('\n'), GenesisError::Membership),
        (
            &|g| g.nodes[0].engine_versions = vec![ENGINE_VERSION + 1],
            GenesisError::Membership,
        ),
        (
            &|g| g.operators[0].keys.clear(),
            GenesisError::Operator("root".into()),
        ),
        (
            &|g| g.operators.push(g.operators[0].clone()),
            GenesisError::Operator("root".into()),
        ),
        (
            &|g| g.operators[0].keys[0] = unproven(g.operators[0].keys[0].clone()),
            GenesisError::Operator("root".into()),
        ),
        (&|g| g.admin_threshold = 0, GenesisError::Admins),
        (&|g| g.admin_threshold = 2, GenesisError::Admins),
        (
            &|g| g.recovery_key = g.recovery_key.take().map(unproven),
            GenesisError::RecoveryKey,
        ),
    ];
    for (number, (change, expected)) in cases.into_iter().enumerate() {
        let mut message = genesis_message(TreeHash::Sha256);
        change(&mut message);
        assert_eq!(refused(&message), expected, "case {number}");
    }
    let world = World::new();
    let again = genesis(
        &mut Txn::new(&world.state),
        &genesis_message(TreeHash::Sha256),
    );
    assert_eq!(again.expect_err("there is a ledger"), GenesisError::Exists);
}

#[test]
fn a_policy_that_is_met_without_cosignatures_is_refused() {
    let mut world = World::new();
    let mut update = update(&world, &[1, 2, 3]);
    update.trust_policy = update.trust_policy.replace("quorum nodes", "quorum none");
    assert_eq!(result(&mut world, update), v1::Result::InvalidArgument);
    let mut message = genesis_message(TreeHash::Sha256);
    message.trust_policy = message.trust_policy.replace("quorum nodes", "quorum none");
    assert_eq!(refused(&message), GenesisError::Membership);
}
