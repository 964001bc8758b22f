//! The acts of the story, in the order in which they are told.

use ledger_core::hash::LeafIndex;
use ledger_core::id::{Identity, SessionId};
use ledger_proto::v1::{self, CompartmentKind, command::Body};
use prost::Message;

use super::{Teller, bot, gate, olive, open_body, story_bundle, story_context};
use crate::kit::*;

pub(super) fn govern_identities(teller: &mut Teller) {
    let origin = teller.world.origin.clone();
    let mut ruth = operator_message(&origin, "ruth", &[(v1::Role::Approver, "team")]);
    ruth.groups = vec!["finance".to_owned()];
    teller.root("register_operator", Body::RegisterOperator(ruth));
    teller.root(
        "update_operator",
        Body::UpdateOperator(v1::UpdateOperator {
            id: "ruth".to_owned(),
            name: "Ruth".to_owned(),
            groups: vec!["finance".to_owned(), "legal".to_owned()],
            roles: Vec::new(),
        }),
    );
    let name = "lab".to_owned();
    let owners = vec!["olive".to_owned()];
    let create = v1::CreateNamespace {
        name: name.clone(),
        owners: Vec::new(),
        single_use: false,
    };
    teller.root("create_namespace", Body::CreateNamespace(create));
    let update = v1::UpdateNamespace {
        name,
        owners,
        single_use: false,
    };
    teller.root("update_namespace", Body::UpdateNamespace(update));

    let attribute = v1::Attribute {
        name: "tier".to_owned(),
        value: "gold".to_owned(),
    };
    let keys = vec![teller.world.enrol(&bot())];
    let register = Body::RegisterAgent(v1::RegisterAgent {
        id: "bot".to_owned(),
        namespace: "team".to_owned(),
        owner: "olive".to_owned(),
        groups: vec!["payers".to_owned()],
        attributes: Vec::new(),
        minimum_assurance: v1::Assurance::Unspecified.into(),
        keys,
        session_issuers: v1::SessionIssuers::Unspecified.into(),
    });
    teller.root("register_agent", register);
    let update = Body::UpdateAgent(v1::UpdateAgent {
        id: "bot".to_owned(),
        owner: "olive".to_owned(),
        groups: vec!["approvers".to_owned(), "payers".to_owned()],
        attributes: vec![attribute],
        minimum_assurance: v1::Assurance::GatewayAsserted.into(),
        session_issuers: v1::SessionIssuers::OthersOnly.into(),
    });
    teller.root("update_agent", update);
}

pub(super) fn govern_gateways(teller: &mut Teller) {
    let target = |target| v1::ActsFor {
        target: Some(target),
    };
    let keys = vec![teller.world.enrol(&gate())];
    let register = Body::RegisterGateway(v1::RegisterGateway {
        id: "gate".to_owned(),
        namespace: "team".to_owned(),
        owner: "olive".to_owned(),
        acts_for: vec![target(v1::acts_for::Target::Agent("bot".to_owned()))],
        may: vec![v1::GatewayPermission::Authorize.into()],
        keys,
    });
    teller.root("register_gateway", register);
    let update = Body::UpdateGateway(v1::UpdateGateway {
        id: "gate".to_owned(),
        owner: "olive".to_owned(),
        acts_for: vec![target(v1::acts_for::Target::Group("payers".to_owned()))],
        may: (1..=5).collect(),
    });
    teller.root("update_gateway", update);
}

pub(super) fn govern_keys(teller: &mut Teller) {
    let second = key("agent `bot`, second key");
    let ends = teller.world.now_us + 90 * DAY;
    let add = Body::AddKey(v1::AddKey {
        identity: Some(bot().to_message()),
        key: Some(enrolment(&teller.world.origin, &bot(), &second, ends)),
    });
    teller.tell("add_key", Ask::new(olive(), add));
    let retire = Body::RetireKey(v1::RetireKey {
        key_id: public_key(&second).key_id().to_vec(),
    });
    teller.tell("retire_key", Ask::new(olive(), retire));
    for (name, status) in [
        ("set_status", v1::IdentityStatus::Suspended),
        ("set_status_back", v1::IdentityStatus::Active),
    ] {
        let set = Body::SetStatus(v1::SetStatus {
            identity: Some(bot().to_message()),
            status: status.into(),
        });
        teller.root(name, set);
    }
}

pub(super) fn govern_policy(teller: &mut Teller) {
    let bundle = story_bundle();
    let digest = bundle.digest().0.to_vec();
    let publish = Body::PublishBundle(v1::PublishBundle {
        namespace: "team".to_owned(),
        digest: digest.clone(),
        chunk_index: 0,
        chunk_count: 1,
        chunk: bundle.pack(),
    });
    teller.root("publish_bundle", publish);
    let activate = Body::ActivateBundle(v1::ActivateBundle {
        namespace: "team".to_owned(),
        digest,
        accept_short_history: true,
    });
    teller.root("activate_bundle", activate);
}

/// A session of a day; in it an allowed, a denied and an escalated request, one denied before the rules, and outcomes.
pub(super) fn act(teller: &mut Teller) -> (SessionId, LeafIndex) {
    let context = story_context().encode_to_vec();
    let open = Ask::new(olive(), open_body(86_400, &["*"], Vec::new()));
    teller.tell(
        "open_session",
        open.with(CompartmentKind::Context, &context),
    );
    let session = teller.session();
    let facts = v1::ResourceFacts {
        id: "account-1".to_owned(),
        r#type: "account".to_owned(),
        parents: vec!["bank".to_owned()],
        attributes: Vec::new(),
    };
    let mut body = authorize_body("bot", session, "bank/pay");
    if let Body::Authorize(ask) = &mut body {
        ask.tool_call_id = "call-1".to_owned();
        ask.trace_id = vec![1; 16];
        ask.span_id = vec![2; 8];
        ask.parent_request_id = vec![3; 16];
    }
    let ask = Ask::new(bot(), body)
        .cosigned(gate())
        .with(CompartmentKind::Input, br#"{"to": "alice", "amount": 5}"#)
        .with(CompartmentKind::Resource, &facts.encode_to_vec());
    let allowed = teller.tell("authorize", ask);
    let digest = input_digest(&teller.told.last().expect("told").appended.entry);
    let redeem = Body::Redeem(v1::Redeem {
        decision_index: allowed.0,
        input_digest: digest.clone(),
    });
    let redemption = teller.tell("redeem", Ask::new(bot(), redeem.clone()));
    teller.tell("redeem_again", Ask::new(gate(), redeem));
    teller.pay("authorize_denied", session, "mallory", 5);
    teller.pay("authorize_escalated", session, "alice", 5000);
    let unknown = Ask::new(bot(), authorize_body("bot", session, "bank/burn"));
    let unknown = unknown.with(CompartmentKind::Input, b"{}");
    teller.tell("authorize_unknown_action", unknown);

    let record = Body::Record(v1::Record {
        decision_index: allowed.0,
        status: v1::ExecutionStatus::Succeeded.into(),
        started_at_us: teller.world.now_us,
        finished_at_us: teller.world.now_us + 5,
        result_digest: Some(v1::ResultDigest {
            algorithm: v1::DigestAlgorithm::Sha256.into(),
            bytes: vec![4; 32],
        }),
        executed_input_digest: digest,
        redemption_index: Some(redemption.0),
    });
    let record = Ask::new(gate(), record).with(CompartmentKind::Output, b"{}");
    teller.tell("record", record);
    let changed = Body::Record(v1::Record {
        decision_index: allowed.0,
        status: v1::ExecutionStatus::Partial.into(),
        executed_input_digest: vec![5; 32],
        ..v1::Record::default()
    });
    let changed = Ask::new(bot(), changed).with(CompartmentKind::ExecutedInput, b"{}");
    teller.tell("record_drift", changed);

    let halt = v1::SetHalt {
        id: "freeze".to_owned(),
        scope: Some(v1::HaltScope {
            target: Some(v1::halt_scope::Target::Action("bank/*".to_owned())),
        }),
        expires_at_us: teller.world.now_us + DAY,
    };
    teller.root("set_halt", Body::SetHalt(halt));
    let clear = v1::ClearHalt {
        id: "freeze".to_owned(),
    };
    teller.root("clear_halt", Body::ClearHalt(clear));
    let stays = v1::SetHalt {
        id: "lab closed".to_owned(),
        scope: Some(v1::HaltScope {
            target: Some(v1::halt_scope::Target::Namespace("lab".to_owned())),
        }),
        expires_at_us: 0,
    };
    teller.root("set_halt_that_stays", Body::SetHalt(stays));
    (session, allowed)
}

pub(super) fn govern_replicas(teller: &mut Teller) {
    let origin = teller.world.origin.clone();
    let update = Body::UpdateMembership(v1::UpdateMembership {
        nodes: [1, 2, 3, 4].map(|node| node_card(&origin, node)).to_vec(),
        trust_policy: trust_policy(&origin, &[1, 2, 3, 4]),
    });
    teller.root("update_membership", update);
    let support = Body::DeclareSupport(v1::DeclareSupport {
        engine_versions: vec![1],
        cluster_versions: vec![1],
    });
    teller.tell("declare_support", Ask::new(Identity::Node(1), support));
    let attest = Body::AttestState(v1::AttestState {
        tree_size: 3,
        digest: vec![6; 32],
        copied: false,
    });
    teller.tell("attest_state", Ask::new(Identity::Node(1), attest));
    let engine = Body::ActivateEngine(v1::ActivateEngine { version: 1 });
    teller.root("activate_engine", engine);
    let cluster = Body::ActivateCluster(v1::ActivateCluster { version: 1 });
    teller.root("activate_cluster", cluster);
}

/// A child session is closed, another expires and is sealed, and an input is erased.
pub(super) fn end_sessions(
    teller: &mut Teller,
    parent: SessionId,
    allowed: LeafIndex,
) -> SessionId {
    let child = Ask::new(bot(), open_body(600, &["bank/read"], parent.to_vec()));
    let told = v1::SessionContext {
        grants: Vec::new(),
        ..story_context()
    };
    let child = child.with(CompartmentKind::Context, &told.encode_to_vec());
    teller.tell("open_session_child", child);
    let session_id = teller.session().to_vec();
    let close = Body::CloseSession(v1::CloseSession { session_id });
    teller.tell("close_session", Ask::new(bot(), close));

    let short = Ask::new(
        olive(),
        open_body(60, &["bank/pay", "bank/read"], Vec::new()),
    );
    teller.tell("open_session_short", short);
    let sealed = teller.session();
    teller.world.now_us += 61 * SECOND;
    let session_id = sealed.to_vec();
    let seal = Body::Seal(v1::Seal { session_id });
    teller.tell("seal", Ask::new(Identity::Node(2), seal));

    let erase = Body::Erase(v1::Erase {
        compartments: vec![v1::CompartmentRef {
            index: allowed.0,
            kind: CompartmentKind::Input.into(),
        }],
    });
    teller.root("erase", erase);
    let wide = Ask::new(bot(), open_body(600, &["*"], vec![1; 16]));
    teller.tell("open_session_rejected", wide);
    sealed
}
