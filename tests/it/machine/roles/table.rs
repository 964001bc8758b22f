//! The role table as data: every command, who may give it, and a test of every combination.

use std::collections::BTreeSet;

use countersign_tests::kit::{Ask, SECOND, operator_message, result_of};
use ledger_core::id::Identity;
use ledger_core::machine::Applied;
use ledger_proto::DESCRIPTORS;
use ledger_proto::v1::halt_scope::Target as Halt;
use ledger_proto::v1::{self, CompartmentKind, IdentityStatus, Role, command::Body};
use prost::Message;

use super::stage::{
    GRANTS, ROLES, Stage, Target, acts_for_agent, candidate, open_session, operator_id,
    register_agent, register_gateway, retire_key, set_halt, set_status, unpublished,
};

/// Where a role must be granted so that it covers the command.
#[derive(Clone, Copy, PartialEq)]
enum Reach {
    /// In the namespace of what the command concerns, or in "*".
    Namespace,
    /// Only in "*".
    Whole,
}
use Reach::{Namespace, Whole};

/// Who else may give a command, besides operators.
#[derive(Clone, Copy, PartialEq)]
enum Other {
    Agent,
    Gateway,
    Node,
    Recovery,
}

struct Row {
    what: &'static str,
    by: &'static [Role],
    reach: Reach,
    /// True if the owner of the agent or gateway may, without any role.
    owner: bool,
    others: &'static [Other],
    body: fn(&Stage, &Target) -> Body,
}

const fn row(
    what: &'static str,
    by: &'static [Role],
    reach: Reach,
    body: fn(&Stage, &Target) -> Body,
) -> Row {
    Row {
        what,
        by,
        reach,
        owner: false,
        others: &[],
        body,
    }
}

impl Row {
    const fn or_owner(mut self) -> Self {
        self.owner = true;
        self
    }

    const fn or(mut self, others: &'static [Other]) -> Self {
        self.others = others;
        self
    }
}

const ADMIN: &[Role] = &[Role::Admin];
const ADMIN_RESPONDER: &[Role] = &[Role::Admin, Role::Responder];
const POLICY: &[Role] = &[Role::Policy];
const PRIVACY: &[Role] = &[Role::Privacy];
const NOBODY: &[Role] = &[];

fn agent(target: &Target) -> Identity {
    Identity::Agent(target.agent.clone())
}

fn gateway(target: &Target) -> Identity {
    Identity::Gateway(target.gateway.clone())
}

fn olive() -> Identity {
    Identity::Operator("olive".to_owned())
}

#[rustfmt::skip]
const TABLE: &[Row] = &[
    row("create_namespace", ADMIN, Whole, |_, _| Body::CreateNamespace(v1::CreateNamespace { name: "new".to_owned(), owners: vec![], single_use: false })),
    row("update_namespace", ADMIN, Whole, |_, _| Body::UpdateNamespace(v1::UpdateNamespace { name: "team".to_owned(), owners: vec![], single_use: false })),
    row("register_agent, plain", ADMIN, Namespace, |stage, target| {
        register_agent("new", &target.owner, vec![stage.new_key(&Identity::Agent("new".to_owned()))])
    }).or_owner(),
    row("register_agent with groups", ADMIN, Namespace, |stage, target| Body::RegisterAgent(v1::RegisterAgent {
        id: "new".to_owned(), namespace: "team".to_owned(), owner: target.owner.clone(), groups: vec!["approvers".to_owned()],
        keys: vec![stage.new_key(&Identity::Agent("new".to_owned()))], ..Default::default()
    })),
    row("update_agent", ADMIN, Namespace, |_, target| Body::UpdateAgent(v1::UpdateAgent {
        id: target.agent.clone(), owner: target.owner.clone(), ..Default::default()
    })),
    row("register_gateway", ADMIN, Namespace, |stage, target| {
        register_gateway("new", "team", &target.owner, "x", vec![stage.new_key(&Identity::Gateway("new".to_owned()))])
    }),
    row("register_gateway for all namespaces", ADMIN, Whole, |stage, target| {
        register_gateway("new", "*", &target.owner, "x", vec![stage.new_key(&Identity::Gateway("new".to_owned()))])
    }),
    row("update_gateway", ADMIN, Namespace, |_, target| Body::UpdateGateway(v1::UpdateGateway {
        id: target.gateway.clone(), owner: target.owner.clone(), acts_for: acts_for_agent("x"), may: vec![]
    })),
    row("set_status: suspend an agent", ADMIN_RESPONDER, Namespace, |_, target| set_status(agent(target), IdentityStatus::Suspended)).or_owner(),
    row("set_status: suspend a gateway", ADMIN_RESPONDER, Namespace, |_, target| set_status(gateway(target), IdentityStatus::Suspended)).or_owner(),
    row("set_status: resume what an admin suspended", ADMIN, Namespace, |_, target| {
        set_status(Identity::Agent(target.sleeper.clone()), IdentityStatus::Active)
    }),
    row("set_status: revoke an agent", ADMIN, Namespace, |_, target| set_status(agent(target), IdentityStatus::Revoked)),
    row("set_status: revoke a gateway", ADMIN, Namespace, |_, target| set_status(gateway(target), IdentityStatus::Revoked)),
    row("set_status: suspend an operator", ADMIN, Whole, |_, _| set_status(olive(), IdentityStatus::Suspended)),
    row("set_status: revoke an operator", ADMIN, Whole, |_, _| set_status(olive(), IdentityStatus::Revoked)),
    row("add_key of an agent", ADMIN, Namespace, |stage, target| stage.add_key(&agent(target))).or_owner(),
    row("add_key of a gateway", ADMIN, Namespace, |stage, target| stage.add_key(&gateway(target))).or_owner(),
    row("add_key of an operator", ADMIN, Whole, |stage, _| stage.add_key(&olive())),
    row("retire_key of an agent", ADMIN, Namespace, |_, target| retire_key(&agent(target))).or_owner(),
    row("retire_key of a gateway", ADMIN, Namespace, |_, target| retire_key(&gateway(target))).or_owner(),
    row("retire_key of an operator", ADMIN, Whole, |_, _| retire_key(&olive())),
    row("register_operator", ADMIN, Whole, |stage, _| Body::RegisterOperator(operator_message(&stage.world.origin, "new", &[]))),
    row("update_operator", ADMIN, Whole, |_, _| Body::UpdateOperator(v1::UpdateOperator { id: "olive".to_owned(), ..Default::default() })),
    row("open_session", ADMIN, Namespace, |_, target| open_session(&target.agent, 60)).or_owner().or(&[Other::Agent, Other::Gateway]),
    row("close_session", ADMIN_RESPONDER, Namespace, |_, target| Body::CloseSession(v1::CloseSession { session_id: target.session.to_vec() }))
        .or_owner().or(&[Other::Agent]),
    row("seal", NOBODY, Whole, |stage, _| Body::Seal(v1::Seal { session_id: stage.expired.to_vec() })).or(&[Other::Node]),
    row("set_halt of a namespace", ADMIN_RESPONDER, Namespace, |_, _| set_halt(Halt::Namespace("team".to_owned()))),
    row("set_halt of an agent", ADMIN_RESPONDER, Namespace, |_, target| set_halt(Halt::Agent(target.agent.clone()))),
    row("set_halt of everything", ADMIN_RESPONDER, Whole, |_, _| set_halt(Halt::Everything(true))),
    row("set_halt of a group", ADMIN_RESPONDER, Whole, |_, _| set_halt(Halt::Group("approvers".to_owned()))),
    row("set_halt of an action", ADMIN_RESPONDER, Whole, |_, _| set_halt(Halt::Action("bank/*".to_owned()))),
    row("clear_halt of an agent", ADMIN, Namespace, |_, _| Body::ClearHalt(v1::ClearHalt { id: "agent".to_owned() })),
    row("clear_halt of an action", ADMIN, Whole, |_, _| Body::ClearHalt(v1::ClearHalt { id: "everything".to_owned() })),
    row("publish_bundle", POLICY, Namespace, |_, _| Body::PublishBundle(v1::PublishBundle {
        namespace: "team".to_owned(), digest: unpublished().digest().0.to_vec(), chunk_index: 0, chunk_count: 1,
        chunk: unpublished().chunks().remove(0),
    })),
    row("activate_bundle", POLICY, Namespace, |_, _| Body::ActivateBundle(v1::ActivateBundle {
        namespace: "team".to_owned(), digest: candidate().digest().0.to_vec(), accept_short_history: false,
    })),
    row("erase in a namespace", PRIVACY, Namespace, |stage, _| erase(stage.decision, CompartmentKind::Input)),
    row("erase in the whole ledger", PRIVACY, Whole, |stage, _| erase(stage.of_whole_ledger, CompartmentKind::Reason)),
    row("update_membership", ADMIN, Whole, |stage, _| stage.membership()),
    row("activate_engine", ADMIN, Whole, |_, _| Body::ActivateEngine(v1::ActivateEngine { version: 2 })),
    row("activate_cluster", ADMIN, Whole, |_, _| Body::ActivateCluster(v1::ActivateCluster { version: 2 })),
    row("adjust_time", ADMIN, Whole, |stage, _| stage.world.adjust_time()),
    row("declare_support", NOBODY, Whole, |_, _| Body::DeclareSupport(v1::DeclareSupport {
        engine_versions: vec![1], cluster_versions: vec![1]
    })).or(&[Other::Node]),
    row("attest_state", NOBODY, Whole, |_, _| Body::AttestState(v1::AttestState { tree_size: 1, digest: vec![7; 32], copied: false })).or(&[Other::Node]),
    row("replace_admins", NOBODY, Whole, |stage, _| Body::ReplaceAdmins(v1::ReplaceAdmins {
        admins: vec![operator_message(&stage.world.origin, "new", &[(Role::Admin, "*")])]
    })).or(&[Other::Recovery]),
];

fn erase(index: u64, kind: CompartmentKind) -> Body {
    Body::Erase(v1::Erase {
        compartments: vec![v1::CompartmentRef {
            index,
            kind: kind.into(),
        }],
    })
}

/// The result that a command would have now.
fn result(stage: &mut Stage, author: Identity, body: Body) -> v1::Result {
    let now_us = stage.world.now_us;
    if matches!(body, Body::AdjustTime(_)) {
        // There is only something to adjust while the ledger is ahead.
        stage.world.now_us -= 60 * SECOND;
    }
    let found = stage.world.peek(Ask::new(author, body));
    stage.world.now_us = now_us;
    match found {
        Applied::Appended(appended) => result_of(&appended.entry),
        other => panic!("no entry: {other:?}"),
    }
}

fn expected(permitted: bool) -> v1::Result {
    if permitted {
        v1::Result::Applied
    } else {
        v1::Result::NotPermitted
    }
}

#[test]
fn every_role_may_what_the_table_says_and_nothing_else() {
    let mut stage = Stage::new();
    for row in TABLE {
        for role in ROLES {
            for grant in GRANTS {
                let author = operator_id(role, grant);
                for owns in [true, false] {
                    let owner = if owns { &author } else { "olive" };
                    let target = stage.target(owner);
                    let holds = role.is_some_and(|role| row.by.contains(&role))
                        && (grant == "*" || (grant == "team" && row.reach == Namespace));
                    let body = (row.body)(&stage, &target);
                    assert_eq!(
                        result(&mut stage, Identity::Operator(author.clone()), body),
                        expected(holds || (owns && row.owner)),
                        "{} by {author}, which {} it",
                        row.what,
                        if owns { "owns" } else { "does not own" },
                    );
                }
            }
        }
    }
}

#[test]
fn agents_gateways_nodes_and_the_recovery_key_govern_nothing_else() {
    let mut stage = Stage::new();
    let target = stage.target("olive");
    let others = [
        (Other::Agent, agent(&target)),
        (Other::Gateway, gateway(&target)),
        (Other::Node, Identity::Node(1)),
        (Other::Recovery, Identity::Recovery),
    ];
    for row in TABLE {
        for (other, author) in &others {
            let body = (row.body)(&stage, &target);
            assert_eq!(
                result(&mut stage, author.clone(), body),
                expected(row.others.contains(other)),
                "{} by {author}",
                row.what
            );
        }
    }
}

#[test]
fn a_suspended_operator_may_nothing_whatever_it_holds_or_owns() {
    let mut stage = Stage::new();
    let roles = [
        Role::Admin,
        Role::Policy,
        Role::Responder,
        Role::Approver,
        Role::Auditor,
        Role::Privacy,
    ];
    let mighty = stage
        .world
        .operator("mighty", &roles.map(|role| (role, "*")));
    for id in ["mighty", "nobody@team"] {
        let identity = Identity::Operator(id.to_owned());
        stage
            .world
            .govern(set_status(identity, IdentityStatus::Suspended));
    }
    let (own, olives) = (stage.target("nobody@team"), stage.target("olive"));
    for row in TABLE {
        let body = (row.body)(&stage, &olives);
        assert_eq!(
            result(&mut stage, mighty.clone(), body),
            v1::Result::NotPermitted,
            "{} by a suspended holder of all roles",
            row.what
        );
        let body = (row.body)(&stage, &own);
        let owner = Identity::Operator(own.owner.clone());
        let by_owner = result(&mut stage, owner, body);
        assert_eq!(
            by_owner,
            v1::Result::NotPermitted,
            "{} by a suspended owner",
            row.what
        );
    }
}

/// The commands that the table leaves out, because other rules than roles decide about them.
const NOT_GOVERNANCE: [&str; 3] = ["authorize", "record", "redeem"];

#[test]
fn every_kind_of_command_has_a_row() {
    let files = prost_types::FileDescriptorSet::decode(DESCRIPTORS).expect("descriptors");
    let messages = files.file.iter().flat_map(|file| &file.message_type);
    let command = messages
        .clone()
        .find(|message| message.name() == "Command")
        .expect("the message Command");
    let kinds: BTreeSet<&str> = command
        .field
        .iter()
        .filter(|field| field.oneof_index.is_some())
        .map(|field| field.name())
        .collect();
    let word = |row: &Row| {
        row.what
            .split([' ', ',', ':'])
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let mut rows: BTreeSet<String> = TABLE.iter().map(word).collect();
    rows.extend(NOT_GOVERNANCE.map(str::to_owned));
    let rows: BTreeSet<&str> = rows.iter().map(String::as_str).collect();
    assert_eq!(kinds, rows);
}
