//! Who said it, on real processes: an agent's own word opens nothing that others' would.

use countersign_tests::cluster::Cluster;
use countersign_tests::cluster::cli::Cli;
use countersign_tests::kit::{
    Ask, authorize_body, bundle, decision_of, input_digest, outcome_of, session_of_entry,
};
use ledger_core::id::{Identity, SessionId};
use ledger_proto::v1::{self, CompartmentKind, Notice, Verdict, command::Body};
use prost::Message;

use super::commands::{fails, one_agent};

const RULES: &str = r#"
@id("by-olive") permit (principal, action == Countersign::Action::"bank/read", resource)
when { context.session.issuer has operator && context.session.issuer.operator == Countersign::Operator::"olive" };
@id("payout") permit (principal, action == Countersign::Action::"bank/pay", resource)
when { context.session has purpose && context.session.purpose == "month-end payout" };
@id("approve") permit (principal, action == Countersign::Action::"bank/approve", resource);
@id("deploy") permit (principal, action == Countersign::Action::"bank/deploy", resource)
when temporal { formerly within 1h Countersign::Action::"bank/approve"::response{ output.ok: true } };
"#;

const TICKET: &str = r#"{"ticket":"T"}"#;

async fn open(cluster: &Cluster, by: Identity, agent: &str) -> SessionId {
    let context = v1::SessionContext {
        purpose: "month-end payout".to_owned(),
        ..v1::SessionContext::default()
    };
    let opening = v1::OpenSession {
        agent: agent.to_owned(),
        scope: vec!["*".to_owned()],
        ..v1::OpenSession::default()
    };
    let ask = Ask::new(by, Body::OpenSession(opening))
        .with(CompartmentKind::Context, &context.encode_to_vec());
    session_of_entry(&cluster.must(ask).await)
}

async fn asks(
    cluster: &Cluster,
    agent: &str,
    session: SessionId,
    action: &str,
    input: &str,
) -> v1::Entry {
    let author = Identity::Agent(agent.to_owned());
    let ask = Ask::new(author, authorize_body(agent, session, action));
    cluster
        .must(ask.with(CompartmentKind::Input, input.as_bytes()))
        .await
}

async fn allows(cluster: &Cluster, agent: &str, session: SessionId, action: &str) -> bool {
    let input = match action {
        "bank/read" => r#"{"doc":"a"}"#,
        "bank/pay" => r#"{"to":"bob","amount":1}"#,
        _ => TICKET,
    };
    let entry = asks(cluster, agent, session, action, input).await;
    decision_of(&entry).verdict() == Verdict::Allow
}

async fn records(cluster: &Cluster, by: Identity, decision: &v1::Entry) -> v1::Outcome {
    let record = v1::Record {
        decision_index: decision.index,
        status: v1::ExecutionStatus::Succeeded.into(),
        executed_input_digest: input_digest(decision),
        ..v1::Record::default()
    };
    let ask = Ask::new(by, Body::Record(record)).with(CompartmentKind::Output, br#"{"ok":true}"#);
    outcome_of(&cluster.must(ask).await).clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agents_name_purpose_and_reports_are_its_own_word() {
    let (cluster, cli, actor) = one_agent().await;
    cluster.activate(&bundle("agent", RULES)).await;
    let olive = || Identity::Operator("olive".to_owned());
    let namesake = cluster.actor("olive").await.agent;
    for agent in [namesake.as_str(), actor.agent.as_str()] {
        let by_owner = open(&cluster, olive(), agent).await;
        let by_itself = open(&cluster, Identity::Agent(agent.to_owned()), agent).await;
        for action in ["bank/read", "bank/pay"] {
            assert!(allows(&cluster, agent, by_owner, action).await, "{action}");
            assert!(
                !allows(&cluster, agent, by_itself, action).await,
                "{action}"
            );
        }
    }

    let agent = actor.agent.as_str();
    register_gateway(&cli, agent);
    let approval = asks(&cluster, agent, actor.session, "bank/approve", TICKET).await;
    let own = records(&cluster, Identity::Agent(agent.to_owned()), &approval).await;
    assert_eq!(own.notices, [i32::from(Notice::SelfReported)]);
    assert!(!allows(&cluster, agent, actor.session, "bank/deploy").await);
    let gate = Identity::Gateway("gate".to_owned());
    let recorded = records(&cluster, gate, &approval).await;
    assert_eq!((recorded.drift, recorded.observed), (vec![], true));
    assert!(allows(&cluster, agent, actor.session, "bank/deploy").await);
}

fn register_gateway(cli: &Cli, agent: &str) {
    let _ = cli.key_file("gate.key", &Identity::Gateway("gate".to_owned()));
    let enrolment = cli.must(&["key", "enrol", "gate.key"]).out;
    std::fs::write(cli.folder.join("gate.json"), enrolment).expect("an enrolment");
    cli.must(&[
        "gateway",
        "register",
        "gate.json",
        "--namespace",
        "team",
        "--owner",
        "olive",
        "--agent",
        agent,
        "--may",
        "record",
    ]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_whose_sessions_others_open_cannot_open_one() {
    let (_cluster, cli, _) = one_agent().await;
    let _ = cli.key_file("tame.key", &Identity::Agent("tame".to_owned()));
    let enrolment = cli.must(&["key", "enrol", "tame.key"]).out;
    std::fs::write(cli.folder.join("tame.json"), enrolment).expect("an enrolment");
    let register = [
        "agent",
        "register",
        "tame.json",
        "--namespace",
        "team",
        "--owner",
        "olive",
    ];
    cli.must(&[&register[..], &["--session-issuers", "others-only"]].concat());
    let shown = cli.must(&["agent", "show", "tame", "--json"]).json();
    assert_eq!(shown["session_issuers"], "OTHERS_ONLY");
    let open = ["session", "open", "--agent", "tame", "--scope", "*"];
    let by_itself = [&open[..], &["--key", "tame.key", "--by-key"]].concat();
    fails(&cli, &by_itself, 2, "SESSION_ISSUER_NOT_PERMITTED");
    cli.must(&open);
}
