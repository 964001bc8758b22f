//! One command of every kind, in an order in which nearly all of them take effect.
//!
//! Golden bytes and the seeds of fuzzing are made from it: a new kind of command that is not told here fails their tests.

mod acts;

use acts::{
    act, end_sessions, govern_gateways, govern_identities, govern_keys, govern_policy,
    govern_replicas,
};
use ledger_core::hash::{LeafIndex, TreeHash};
use ledger_core::id::{Identity, SessionId};
use ledger_core::machine::{Appended, Applied};
use ledger_core::state::MemoryState;
use ledger_proto::v1::{self, CompartmentKind, command::Body};
use policy_engine::Bundle;

use super::*;

/// One command of the story and the entry it made.
#[derive(Debug, Clone)]
pub struct Told {
    /// What the command shows; unique within the story.
    pub name: &'static str,
    /// What was sent.
    pub submission: v1::Submission,
    /// What it made.
    pub appended: Appended,
}

/// The whole story.
#[derive(Debug)]
pub struct Story {
    /// The ledger after the last command.
    pub world: World,
    /// Every command, in order.
    pub told: Vec<Told>,
    /// The state before the admins were replaced, with a session open: what most commands can still act on.
    pub before_the_end: MemoryState,
    /// The session that is still open.
    pub open_session: SessionId,
    /// The session that was sealed.
    pub sealed_session: SessionId,
    /// An allowed decision.
    pub allowed: LeafIndex,
}

/// The kind of a command, as its field in the oneof is called. Exhaustive, so that a new kind does not compile unnamed.
#[must_use]
pub const fn kind_of(body: &Body) -> &'static str {
    match body {
        Body::Authorize(_) => "authorize",
        Body::Record(_) => "record",
        Body::Redeem(_) => "redeem",
        Body::OpenSession(_) => "open_session",
        Body::CloseSession(_) => "close_session",
        Body::Seal(_) => "seal",
        Body::RegisterAgent(_) => "register_agent",
        Body::UpdateAgent(_) => "update_agent",
        Body::RegisterGateway(_) => "register_gateway",
        Body::UpdateGateway(_) => "update_gateway",
        Body::SetStatus(_) => "set_status",
        Body::AddKey(_) => "add_key",
        Body::RetireKey(_) => "retire_key",
        Body::RegisterOperator(_) => "register_operator",
        Body::UpdateOperator(_) => "update_operator",
        Body::CreateNamespace(_) => "create_namespace",
        Body::UpdateNamespace(_) => "update_namespace",
        Body::SetHalt(_) => "set_halt",
        Body::ClearHalt(_) => "clear_halt",
        Body::PublishBundle(_) => "publish_bundle",
        Body::ActivateBundle(_) => "activate_bundle",
        Body::Erase(_) => "erase",
        Body::UpdateMembership(_) => "update_membership",
        Body::ActivateEngine(_) => "activate_engine",
        Body::ActivateCluster(_) => "activate_cluster",
        Body::DeclareSupport(_) => "declare_support",
        Body::AttestState(_) => "attest_state",
        Body::ReplaceAdmins(_) => "replace_admins",
        Body::AdjustTime(_) => "adjust_time",
    }
}

/// The rules of the story: a capped payment, one that needs approvals, and nothing for mallory.
#[must_use]
pub fn story_bundle() -> Bundle {
    let rules = r#"
@id("read")
permit (principal, action == Countersign::Action::"bank/read", resource);

@id("pay-cap")
@permit_ttl("120")
@obligation("notify:finance")
permit (principal, action == Countersign::Action::"bank/pay", resource)
when { context.input.amount < 1000 }
when temporal { count_within(1h, Countersign::Action::"bank/pay"::allowed{}) < 3 };

@id("pay-much")
@approvers("finance:2,legal")
permit (principal, action == Countersign::Action::"bank/pay", resource)
when { context.input.amount >= 1000 };

@id("never-mallory")
forbid (principal, action == Countersign::Action::"bank/pay", resource)
when { context.input.to == "mallory" };
"#;
    bundle("subject", rules)
}

/// Commands that the machine rejects, each with an entry that says so.
const REJECTED: &[&str] = &[
    "activate_cluster",
    "activate_engine",
    "open_session_rejected",
];

struct Teller {
    world: World,
    told: Vec<Told>,
}

impl Teller {
    fn tell(&mut self, name: &'static str, ask: Ask) -> LeafIndex {
        let submission = self.world.sign(ask);
        let applied = self.world.apply(&submission);
        self.world.now_us += 1_000;
        let Applied::Appended(appended) = applied else {
            panic!("{name}: no entry but {applied:?}");
        };
        let expected = match &appended.entry.body {
            Some(
                v1::entry::Body::Decision(_)
                | v1::entry::Body::Outcome(_)
                | v1::entry::Body::Redemption(_),
            ) => true,
            _ => (result_of(&appended.entry) == v1::Result::Applied) != REJECTED.contains(&name),
        };
        assert!(expected, "{name}: {:?}", appended.entry.body);
        let index = appended.index;
        self.told.push(Told {
            name,
            submission,
            appended: *appended,
        });
        index
    }

    fn root(&mut self, name: &'static str, body: Body) -> LeafIndex {
        self.tell(
            name,
            Ask::new(root(), body).with(CompartmentKind::Reason, b"a reason"),
        )
    }

    fn pay(&mut self, name: &'static str, session: SessionId, to: &str, amount: u32) -> LeafIndex {
        let input = format!(r#"{{"to": "{to}", "amount": {amount}}}"#);
        let ask = Ask::new(bot(), authorize_body("bot", session, "bank/pay"));
        self.tell(name, ask.with(CompartmentKind::Input, input.as_bytes()))
    }

    fn session(&self) -> SessionId {
        session_of(&self.told.last().expect("something was told").appended)
    }
}

fn root() -> Identity {
    Identity::Operator("root".to_owned())
}

fn olive() -> Identity {
    Identity::Operator("olive".to_owned())
}

fn bot() -> Identity {
    Identity::Agent("bot".to_owned())
}

fn gate() -> Identity {
    Identity::Gateway("gate".to_owned())
}

fn open_body(ttl_s: u32, scope: &[&str], parent: Vec<u8>) -> Body {
    Body::OpenSession(v1::OpenSession {
        agent: "bot".to_owned(),
        parent,
        scope: scope.iter().map(|pattern| (*pattern).to_owned()).collect(),
        ttl_s,
        runtime: Some(v1::Runtime {
            model: "model-1".to_owned(),
            framework: "framework 2.0".to_owned(),
            build_digest: vec![7; 32],
        }),
        label: "nightly run".to_owned(),
    })
}

/// What the sessions of the story are for.
#[must_use]
pub fn story_context() -> v1::SessionContext {
    let subject = |sub: &str| v1::Subject {
        iss: "https://idp.example.com".to_owned(),
        sub: sub.to_owned(),
    };
    v1::SessionContext {
        purpose: "pay the invoices of November".to_owned(),
        subject: Some(subject("user-17")),
        act: vec![subject("scheduler")],
        grants: vec![v1::StringSet {
            name: "recipients".to_owned(),
            values: vec!["alice".to_owned(), "bob".to_owned()],
        }],
        claims: Vec::new(),
        token_digest: vec![9; 32],
    }
}

/// Tells the story.
///
/// # Panics
/// If a command makes no entry.
#[must_use]
pub fn tell_story(tree_hash: TreeHash) -> Story {
    let mut teller = Teller {
        world: World::with_tree(tree_hash),
        told: Vec::new(),
    };
    govern_identities(&mut teller);
    govern_gateways(&mut teller);
    govern_keys(&mut teller);
    govern_policy(&mut teller);
    let (open_session, allowed) = act(&mut teller);
    govern_replicas(&mut teller);
    let sealed_session = end_sessions(&mut teller, open_session, allowed);
    let before_the_end = teller.world.state.clone();
    let rescue = operator_message(&teller.world.origin, "rescue", &[(v1::Role::Admin, "*")]);
    let body = Body::ReplaceAdmins(v1::ReplaceAdmins {
        admins: vec![rescue],
    });
    teller.tell("replace_admins", Ask::new(Identity::Recovery, body));
    // All clocks were an hour ahead, and are right again.
    teller.world.now_us -= 3_600 * SECOND;
    let rescue = Identity::Operator("rescue".to_owned());
    let body = teller.world.adjust_time();
    teller.tell("adjust_time", Ask::new(rescue, body));
    Story {
        world: teller.world,
        told: teller.told,
        before_the_end,
        open_session,
        sealed_session,
        allowed,
    }
}
