//! `simulate --explain` on a real cluster: what it says, to whom, and that it leaves nothing behind.

use countersign_tests::cluster::cli::{Cli, Said};
use countersign_tests::cluster::people::Actor;
use countersign_tests::cluster::{Cluster, Options};
use countersign_tests::kit::operator_message;
use ledger_core::id::Identity;
use ledger_proto::v1::{Role, command::Body};
use serde_json::{Value, json};

/// Asks for a payment as a command with these words before and after.
fn pays(cli: &Cli, actor: &Actor, command: &[&str], to: &str) -> Said {
    let session = hex::encode(actor.session.to_vec());
    let input = json!({"to": to, "amount": 1}).to_string();
    let asked = [
        "--session",
        &session,
        "--action",
        "bank/pay",
        "--input",
        &input,
    ];
    cli.run(&[command, &asked, &["--agent", &actor.agent]].concat())
}

fn explained(cli: &Cli, actor: &Actor, to: &str, operator: &str) -> Said {
    let command = ["simulate", "--explain", "--json", "--operator", operator];
    pays(cli, actor, &command, to)
}

/// The value under these names and places.
fn at<'a>(said: &'a Value, path: &str) -> &'a Value {
    said.pointer(path)
        .unwrap_or_else(|| panic!("{path} of {said:#}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_simulation_says_why_to_those_who_may_simulate_and_leaves_nothing() {
    let (cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    let actor = actors.first().expect("an actor");
    let cli = Cli::of_admin(&cluster);
    for (id, roles) in [
        ("writer", &[(Role::Policy, "team")][..]),
        ("auditor", &[(Role::Auditor, "team")]),
        ("elsewhere", &[(Role::Policy, "other")]),
    ] {
        let message = operator_message(&cluster.origin, id, roles);
        cluster.govern(Body::RegisterOperator(message)).await;
        let _ = cli.key_file(id, &Identity::Operator(id.to_owned()));
    }
    let _ = cli.key_file("agent.key", &Identity::Agent(actor.agent.clone()));
    for _ in 0..3 {
        let command = ["authorize", "--key", "agent.key", "--knows", "notify"];
        let said = pays(&cli, actor, &command, "bob");
        assert_eq!(said.code, 0, "{said:?}");
    }
    let size = || cli.must(&["checkpoint", "--json"]).json()["size"].clone();
    let before = size();

    let said = explained(&cli, actor, "bob", "auditor");
    assert_eq!(said.code, 3, "{said:?}");
    let told = said.json();
    assert_eq!(told["reason"], "NO_MATCHING_PERMIT");
    let near = at(&told, "/explanation/nearest_permits/0");
    assert_eq!(
        (&near["rule"], &near["failing"]),
        (&json!("pay-cap"), &json!(1))
    );
    assert_eq!(
        (&near["file"], &near["line"]),
        (&json!("rules/bank.dw"), &json!(5))
    );
    assert_eq!(near["clauses"].as_array().map(Vec::len), Some(1));
    let clause = at(near, "/clauses/0");
    assert_eq!(clause["result"], "FAILS");
    let text = clause["text"].as_str().expect("a text");
    assert!(text.contains("count_within(1h,"), "{text}");
    assert_eq!(
        *at(&told, "/explanation/history"),
        json!([{"rule": "pay-cap", "text": text, "reach_s": 3_600, "holds": false, "measured": [
            {"measure": "COUNT", "action": "bank/pay", "event": "allowed", "window_s": 3_600, "value": 3}]}])
    );

    let said = explained(&cli, actor, "mallory", "auditor").json();
    assert_eq!(said["rules"], json!(["never-mallory"]));
    let fact = at(&said, "/explanation/facts/0");
    let expected = json!({"name": "context.input.to", "value": "\"mallory\"", "voucher": "AGENT",
        "voucher_id": "", "rules": ["never-mallory"]});
    assert_eq!(*fact, expected);

    // Who writes rules sees what they read and who vouches for it; what the sessions contain is for auditors.
    let said = explained(&cli, actor, "mallory", "writer").json();
    assert_eq!(*at(&said, "/explanation/values_withheld"), true);
    assert_eq!(*at(&said, "/explanation/facts/0/name"), "context.input.to");
    assert_eq!(*at(&said, "/explanation/facts/0/value"), Value::Null);
    assert_eq!(
        *at(&said, "/explanation/history/0/measured/0/value"),
        Value::Null
    );
    for stranger in ["elsewhere"] {
        let said = explained(&cli, actor, "bob", stranger);
        assert_eq!((said.code, said.out.as_str()), (8, ""), "{said:?}");
    }

    // Without being asked, it says no more than it always did.
    let said = pays(&cli, actor, &["simulate", "--json"], "bob").json();
    assert_eq!(said.get("explanation"), None);
    let shown = pays(&cli, actor, &["simulate", "--explain"], "bob").out;
    assert!(
        shown.contains("no permit: pay-cap (rules/bank.dw:5)"),
        "{shown}"
    );
    assert!(
        shown.contains("count of bank/pay::allowed within 3600 s: 3"),
        "{shown}"
    );
    assert_eq!(size(), before, "nothing was recorded");
}
