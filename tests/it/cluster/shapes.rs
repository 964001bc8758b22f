//! The JSON of the command line is what `docs/cli.md` says, field by field.

use std::collections::{BTreeMap, BTreeSet};

use countersign_tests::cluster::cli::Cli;
use countersign_tests::cluster::{ADMIN, Cluster, Options};
use countersign_tests::examples::examples;
use ledger_core::id::Identity;
use serde_json::Value;

/// The table of shapes: fields by command.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let page = include_str!("../../../docs/cli.md");
    let (_, table) = page.split_once("## Shapes").expect("the section");
    let rows = table.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| `")?.split(" | ").collect();
        let [command, fields] = cells.as_slice() else {
            panic!("a row of two cells: {line}");
        };
        let fields = fields.split('`').skip(1).step_by(2).map(str::to_owned);
        Some((command.trim_end_matches('`').to_owned(), fields.collect()))
    });
    rows.collect()
}

/// The paths of all fields of a document.
fn fields(value: &Value, prefix: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields_of) => {
            for (name, value) in fields_of {
                let path = format!("{prefix}{name}");
                fields(value, &format!("{path}."), found);
                found.insert(path);
            }
        }
        Value::Array(items) => {
            let path = prefix.trim_end_matches('.');
            for item in items {
                fields(item, &format!("{path}[]."), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The files that commands of the table read.
fn inputs(cli: &Cli) {
    let trace = cli.folder.join("one.jsonl");
    let action =
        r#"{"suite":"shop","agent":"a","session":"1","tool":"shop/lookup","args":{"order":"A-1"}}"#;
    std::fs::write(trace, action).expect("a file");
    std::fs::write(cli.folder.join("cases.json"), CASES).expect("a file");
}

/// Runs every command of the table, in an order in which each has something to show.
fn said(cli: &Cli, agent: &str, session: &str) -> BTreeMap<String, Value> {
    inputs(cli);
    let refunds = examples().join("refunds");
    let refunds = refunds.to_str().expect("a plain path");
    let mut said = BTreeMap::new();
    let mut run = |command: &str, more: &[&str]| -> Value {
        let words: Vec<&str> = command.split(' ').collect();
        let ran = cli.run(&[&words, more, &["--json"]].concat());
        // What there is to explain was denied.
        let expected = if command.contains("explain") { 3 } else { 0 };
        assert_eq!(ran.code, expected, "{command} {more:?}: {ran:?}");
        let json = ran.json();
        said.insert(command.to_owned(), json.clone());
        json
    };
    let asked = [
        "--agent",
        agent,
        "--session",
        session,
        "--action",
        "bank/pay",
        "--input",
        r#"{"to":"bob","amount":1}"#,
    ];
    let of_agent = [
        asked.as_slice(),
        &["--key", "agent.key", "--knows", "notify"],
    ]
    .concat();
    let decision = run("authorize", &of_agent)["index"].to_string();
    let redeem = [&[decision.as_str(), "--key", "agent.key"], &asked[6..]].concat();
    run("redeem", &[&redeem[..], &["--knows", "notify"]].concat());
    run("simulate", &asked);
    // Three an hour are allowed, so that from now on there is something to explain.
    run("authorize", &of_agent);
    run("authorize", &of_agent);
    let mallory = [&asked[..7], &[r#"{"to":"mallory","amount":1}"#]].concat();
    run("simulate --explain", &mallory);
    let input = [
        "--status",
        "succeeded",
        "--input",
        r#"{"to":"bob","amount":2}"#,
    ];
    run(
        "record",
        &[&[decision.as_str(), "--key", "agent.key"], input.as_slice()].concat(),
    );
    identities(cli, agent, &mut run);
    run("policy list", &["--namespace", "team"]);
    run("policy show", &["--namespace", "team"]);
    run("halt set", &["h", "--agent", agent, "--ttl", "3600"]);
    run("halt list", &[]);
    run("halt clear", &["h"]);
    run("entry show", &[&decision]);
    run("entry list", &[]);
    run("payload show", &[&decision]);
    run("prove", &[&decision, "--out", "evidence"]);
    run("verify", &["evidence", "--trust", "trust-policy"]);
    run("payload erase", &[&decision]);
    run("checkpoint", &[]);
    run("audit", &["--replay"]);
    run("cluster status", &[]);
    run("cluster policy", &[]);
    run("cluster transfer", &[]);
    run("replay", &["one.jsonl", "--bundle", refunds]);
    run("agent suspend", &[agent]);
    offline(refunds, &mut run);
    said
}

/// A refund that is too large, after two that were allowed.
const CASES: &str = r#"{"cases": [{"name": "three", "steps": [
  {"at_s": 0, "request": {"action": "shop/refund", "input": {"order": "A-1", "amount": 1}}},
  {"at_s": 1, "request": {"action": "shop/refund", "input": {"order": "A-2", "amount": 1}}},
  {"at_s": 2, "request": {"action": "shop/refund", "input": {"order": "A-3", "amount": 500}}}]}]}"#;

fn identities(cli: &Cli, agent: &str, run: &mut impl FnMut(&str, &[&str]) -> Value) {
    let of_gateway = ["--identity", "gateway:gate", "--out", "gate.key"];
    let enrolment = run("key new", &of_gateway).to_string();
    std::fs::write(cli.folder.join("gate.json"), enrolment).expect("a file");
    let owned = [
        "gate.json",
        "--namespace",
        "team",
        "--owner",
        ADMIN,
        "--agent",
        agent,
        "--may",
        "record",
    ];
    run("gateway register", &owned);
    run("gateway list", &[]);
    run("key list", &["gateway:gate"]);
    run("agent show", &[agent]);
    run("agent list", &[]);
    let opened = run("session open", &["--agent", agent, "--scope", "*"]);
    let opened = opened["session"].as_str().expect("an id").to_owned();
    run("session close", &[&opened]);
    run("session list", &[]);
    run("operator list", &[]);
    run("namespace list", &[]);
}

/// What authors of rules run, on bundles that give each command something to say.
fn offline(refunds: &str, run: &mut impl FnMut(&str, &[&str]) -> Value) {
    let tools = format!("{refunds}/tools.json");
    run(
        "policy new",
        &["mine", "--manifest", &tools, "--server", "shop"],
    );
    run("policy check", &["mine"]);
    run("witness new", &["witness", "--name", "witness.test/1"]);
    run("policy explain", &[refunds, "--cases", "cases.json"]);
    run("policy pack", &["mine", "--out", "packed"]);
    let past = ["--traces", "one.jsonl"];
    run(
        "policy diff",
        &[&["mine", refunds], past.as_slice()].concat(),
    );
    run("policy unused", &[&[refunds], past.as_slice()].concat());
    // The ledger's own past: the replay before has asked in the namespace `shop`.
    let ledger = ["--ledger", "--namespace", "shop"];
    let from_ledger = run(
        "policy diff",
        &[&["mine", refunds], ledger.as_slice()].concat(),
    );
    assert_eq!(from_ledger["changes"][0]["after"], "ALLOW");
    assert_eq!(from_ledger["changes"][0]["after_rules"][0], "look-up");
    assert_eq!(from_ledger["actions"], 1);
    let unused = run("policy unused", &[&[refunds], ledger.as_slice()].concat());
    assert_eq!(unused["namespaces"][0]["scope"][0], "shop/lookup");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_has_the_documented_fields() {
    let options = Options {
        witnesses: 1,
        ..Options::default()
    };
    let (cluster, actors) = Cluster::with_actors(options, 1).await;
    let actor = actors.first().expect("an actor");
    let cli = Cli::of_admin(&cluster);
    let _ = cli.key_file("agent.key", &Identity::Agent(actor.agent.clone()));
    let session = hex::encode(actor.session.to_vec());
    let said = said(&cli, &actor.agent, &session);
    let documented = documented();
    let commands: Vec<&String> = documented.keys().collect();
    assert_eq!(said.keys().collect::<Vec<_>>(), commands);
    for (command, json) in &said {
        let mut found = BTreeSet::new();
        fields(json, "", &mut found);
        assert_eq!(found, documented[command], "{command}");
    }
}
