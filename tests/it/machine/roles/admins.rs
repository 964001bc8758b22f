//! How many admins it takes, what the recovery key can do, and that the last admins stay.

use countersign_tests::kit::{
    Ask, SECOND, World, enrolment, genesis_message, key, operator_message, public_key, result_of,
};
use ledger_core::hash::TreeHash;
use ledger_core::id::Identity;
use ledger_core::machine::{Applied, Refusal};
use ledger_proto::v1::{self, IdentityStatus, Role, command::Body};

use super::stage::{retire_key, set_status};

fn operator(id: &str) -> Identity {
    Identity::Operator(id.to_owned())
}

/// A ledger of two admins, in which admin commands need both.
fn two_admins() -> World {
    let mut genesis = genesis_message(TreeHash::Sha256);
    genesis.admin_threshold = 2;
    let second = operator_message(&genesis.origin, "second", &[(Role::Admin, "*")]);
    genesis.operators.push(second);
    World::from_genesis(genesis)
}

fn namespace(name: &str) -> Body {
    Body::CreateNamespace(v1::CreateNamespace {
        name: name.to_owned(),
        owners: Vec::new(),
        single_use: false,
    })
}

fn by_both(body: Body) -> Ask {
    Ask::new(operator("root"), body).cosigned(operator("second"))
}

#[test]
fn an_admin_command_needs_as_many_admins_as_the_genesis_says() {
    let mut world = two_admins();
    let alone = Ask::new(operator("root"), namespace("a"));
    assert_eq!(world.result(alone), v1::Result::NotPermitted);
    assert_eq!(world.result(by_both(namespace("a"))), v1::Result::Applied);

    let message = operator_message(&world.origin, "local", &[(Role::Admin, "a")]);
    world.must(by_both(Body::RegisterOperator(message)));
    let message = operator_message(&world.origin, "officer", &[(Role::Responder, "*")]);
    world.must(by_both(Body::RegisterOperator(message)));

    for cosigner in ["local", "officer"] {
        let ask = Ask::new(operator("root"), namespace("b")).cosigned(operator(cosigner));
        assert_eq!(world.result(ask), v1::Result::NotPermitted, "{cosigner}");
    }
    // The author must be an admin, however many admins sign beside it.
    let ask = Ask::new(operator("officer"), namespace("b"))
        .cosigned(operator("root"))
        .cosigned(operator("second"));
    assert_eq!(world.result(ask), v1::Result::NotPermitted);
    // An admin of one namespace counts there.
    let halt = || {
        Body::SetHalt(v1::SetHalt {
            id: "h".to_owned(),
            scope: Some(v1::HaltScope {
                target: Some(v1::halt_scope::Target::Namespace("a".to_owned())),
            }),
            expires_at_us: 0,
        })
    };
    let ask = Ask::new(operator("local"), halt());
    assert_eq!(world.result(ask), v1::Result::NotPermitted);
    // The other roles act alone.
    let ask = Ask::new(operator("officer"), halt());
    assert_eq!(world.result(ask), v1::Result::Applied);
    let clear = Body::ClearHalt(v1::ClearHalt { id: "h".to_owned() });
    let ask = Ask::new(operator("local"), clear).cosigned(operator("root"));
    assert_eq!(world.result(ask), v1::Result::Applied);
}

#[test]
fn a_suspended_admin_does_not_count() {
    let mut world = two_admins();
    let message = operator_message(&world.origin, "third", &[(Role::Admin, "*")]);
    world.must(by_both(Body::RegisterOperator(message)));
    world.must(by_both(set_status(
        operator("third"),
        IdentityStatus::Suspended,
    )));
    let ask = Ask::new(operator("root"), namespace("a")).cosigned(operator("third"));
    assert_eq!(world.result(ask), v1::Result::NotPermitted);
    assert_eq!(world.result(by_both(namespace("a"))), v1::Result::Applied);
}

#[test]
fn the_last_admins_stay() {
    let without_roles = |id: &str| {
        Body::UpdateOperator(v1::UpdateOperator {
            id: id.to_owned(),
            ..v1::UpdateOperator::default()
        })
    };
    let removals = [
        set_status(operator("second"), IdentityStatus::Suspended),
        set_status(operator("second"), IdentityStatus::Revoked),
        without_roles("second"),
        retire_key(&operator("second")),
    ];
    let mut world = two_admins();
    for removal in &removals {
        let before = world.state.clone();
        assert_eq!(
            world.result(by_both(removal.clone())),
            v1::Result::LastAdmin
        );
        for id in ["root", "second"] {
            let record = ledger_core::state::Key::operator(id);
            assert_eq!(
                ledger_core::state::State::get(&world.state, record.as_bytes()),
                ledger_core::state::State::get(&before, record.as_bytes()),
                "a rejected removal changed {id}"
            );
        }
    }
    // With a third admin, each of them can be done.
    let message = operator_message(&world.origin, "third", &[(Role::Admin, "*")]);
    world.must(by_both(Body::RegisterOperator(message)));
    for removal in removals {
        let Applied::Appended(appended) = world.peek(by_both(removal)) else {
            panic!("no entry");
        };
        assert_eq!(result_of(&appended.entry), v1::Result::Applied);
    }
    // An admin without a key that may sign is no admin.
    world.must(by_both(retire_key(&operator("third"))));
    assert_eq!(
        world.result(by_both(without_roles("second"))),
        v1::Result::LastAdmin
    );
}

fn replacement(world: &World, id: &str, key_name: &str) -> v1::RegisterOperator {
    let mut message = operator_message(&world.origin, id, &[(Role::Admin, "*")]);
    message.keys = vec![enrolment(&world.origin, &operator(id), &key(key_name), 0)];
    message
}

fn replace(admins: Vec<v1::RegisterOperator>) -> Ask {
    Ask::new(
        Identity::Recovery,
        Body::ReplaceAdmins(v1::ReplaceAdmins { admins }),
    )
}

#[test]
fn recovery_replaces_the_admins_and_shuts_out_whoever_stole_their_keys() {
    let mut world = World::new();
    let admins = vec![
        replacement(&world, "root", "a fresh key of root"),
        replacement(&world, "rescue", "the key of rescue"),
    ];
    world.operator("rogue", &[(Role::Admin, "*"), (Role::Policy, "*")]);
    assert_eq!(world.result(replace(admins)), v1::Result::Applied);

    // The old key of root is the stolen one.
    let stolen = world.ask(Ask::new(operator("root"), namespace("theirs")));
    assert_eq!(stolen, Applied::Refused(Refusal::KeyNotActive));
    let ask = Ask::new(operator("rogue"), namespace("theirs"));
    assert_eq!(world.result(ask), v1::Result::NotPermitted);
    let fresh = public_key(&key("a fresh key of root")).key_id();
    let record = ledger_core::state::Key::public_key(fresh);
    let record: v1::KeyRecord = ledger_core::state::read(&world.state, &record)
        .expect("sound")
        .expect("enrolled");
    assert_eq!(record.retired_at_us, 0);
}

#[test]
fn recovery_is_bounded() {
    let mut world = World::new();
    let none = replace(Vec::new());
    assert_eq!(world.result(none), v1::Result::InvalidArgument);
    let mut without_role = replacement(&world, "rescue", "k");
    without_role.roles.clear();
    let ask = replace(vec![without_role]);
    assert_eq!(world.result(ask), v1::Result::InvalidArgument);
    let twice = replace(vec![
        replacement(&world, "rescue", "k1"),
        replacement(&world, "rescue", "k2"),
    ]);
    assert_eq!(world.result(twice), v1::Result::InvalidArgument);
    let many = (0..17)
        .map(|n| replacement(&world, &format!("r{n}"), &format!("k{n}")))
        .collect();
    assert_eq!(world.result(replace(many)), v1::Result::InvalidArgument);
    world.operator("gone", &[]);
    world.govern(set_status(operator("gone"), IdentityStatus::Revoked));
    let revoked = replace(vec![replacement(&world, "gone", "k")]);
    assert_eq!(world.result(revoked), v1::Result::FailedPrecondition);
    // A suspended operator is active again: whoever suspended it may have been the thief.
    world.operator("sleepy", &[]);
    world.govern(set_status(operator("sleepy"), IdentityStatus::Suspended));
    let sleepy = replace(vec![replacement(&world, "sleepy", "k")]);
    assert_eq!(world.result(sleepy), v1::Result::Applied);
    // After all that, the world goes on: root is an admin no more.
    world.now_us += SECOND;
    let ask = Ask::new(operator("root"), namespace("late"));
    assert_eq!(world.result(ask), v1::Result::NotPermitted);
}
