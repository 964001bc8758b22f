//! Actions of real agents through a cluster of three processes: each gets one entry of its own, and the ledger that comes of
//! it is made again from its first entry on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use countersign_tests::agentdojo::sessions::Openings;
use countersign_tests::cluster::cli::Cli;
use countersign_tests::cluster::{Cluster, Options, admin};
use countersign_tests::examples::{agentdojo, examples};
use countersign_tests::kit::Ask;
use countersign_tests::shared_data::shared_data;
use ledger_core::hash::TreeHash;
use ledger_proto::v1::{self, CompartmentKind, command::Body};
use serde_json::Value;

/// Recorded actions of our own: repeats, a malformed call, a tool that nobody knows, names that repeat and are empty.
const OWN: &str = r#"
{"suite":"shop","agent":"bot","session":"monday","tool":"shop/lookup","args":{"order":"A-1"},"label":"benign","call_id":""}
{"suite":"shop","agent":"bot","session":"monday","tool":"shop/lookup","args":{"order":"A-1"},"label":"benign","call_id":""}
{"suite":"shop","agent":"bot","session":"monday","tool":"shop/refund","args":{"order":"A-1","amount":20},"label":"benign","call_id":"c1","result_sha256":"9792e4325b1950b2e30583c0dea991c93b25bb7e69cdc27caae289b585e731b7"}
{"suite":"shop","agent":"bot","session":"tuesday","tool":"shop/refund","args":{"order":"A-2","amount":500},"label":"attack","call_id":"c1"}
{"suite":"shop","agent":"bot","session":"monday","tool":"shop/refund","args":{"order":"A-1"},"label":"benign"}
{"suite":"shop","agent":"arn:aws:iam::1:user/eve","session":"monday","tool":"shop/drop","args":{},"label":"attack"}
{"suite":"shop","agent":"bot","session":"monday","tool":"shop/refund","args":["A-1",20.5],"label":"benign"}
{"suite":"shop","agent":"bot","session":"monday","tool":"shop/lookup","args":{"order":"ä\u0000\n"},"label":"benign","tool_error":"no such order"}
"#;

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("what replay wrote");
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON on each line"))
        .collect()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

/// Replays a file and demands one entry for each of its lines; gives the lines and the summary.
fn replays(cli: &Cli, trace: &Path, more: &[&str]) -> (Vec<Value>, Value) {
    let out = cli.folder.join("answers.jsonl");
    let mut arguments = vec!["--json", "replay", text(trace), "--out", text(&out)];
    arguments.extend(more);
    let summary = cli.must(&arguments).json();
    let asked = std::fs::read_to_string(trace).expect("the trace");
    let asked = asked.lines().count();
    let answers = lines(&out);
    assert_eq!(answers.len(), asked);
    assert_eq!(summary["actions"], asked);
    let indexes: BTreeSet<u64> = answers
        .iter()
        .map(|answer| answer["index"].as_u64().expect("an index"))
        .collect();
    assert_eq!(indexes.len(), asked, "one entry for each line");
    for (number, answer) in (1..).zip(&answers) {
        assert_eq!(answer["line"], number);
        assert_eq!(answer["level"], "COSIGNED");
    }
    (answers, summary)
}

fn audits(cli: &Cli) -> Value {
    let audit = cli.must(&["audit", "--replay", "--json"]).json();
    assert_eq!(audit["sound"], true);
    audit
}

async fn real_agents(tree_hash: TreeHash) {
    let options = Options {
        tree_hash,
        ..Options::default()
    };
    let (Some(data), Some(_)) = (shared_data(""), shared_data("context/agentdojo_tools.json"))
    else {
        return;
    };
    let cluster = Cluster::start(options).await;
    let cli = Cli::of_admin(&cluster);
    let dojo = cli.folder.join("agentdojo");
    agentdojo(&data, &dojo).expect("the bundles for AgentDojo");
    let sessions = cli.folder.join("agentdojo-sessions.jsonl");
    let opened = Openings::read(&data).and_then(|read| read.lines(&data));
    std::fs::write(&sessions, opened.expect("sessions")).expect("a file");
    let replayed: [(&str, PathBuf); 3] = [
        ("agentdojo-gt", dojo),
        ("tau-bench-runs", examples().join("service")),
        ("cloudtrail-stratus", examples().join("cloudtrail")),
    ];
    let mut decisions = 0;
    for (name, bundle) in replayed {
        let trace = data.join(format!("traces/{name}.jsonl"));
        let mut more = vec!["--bundle", text(&bundle)];
        if name.starts_with("agentdojo") {
            more.extend(["--sessions", text(&sessions)]);
        }
        let (answers, summary) = replays(&cli, &trace, &more);
        decisions += answers.len();
        let allowed = answers.iter().filter(|answer| answer["verdict"] == "ALLOW");
        assert_eq!(summary["outcomes"], allowed.count());
        for answer in &answers {
            let reason = answer["reason"].as_str().expect("a reason");
            assert_ne!(reason, "EVALUATION_ERROR", "{name}: {answer}");
            let by_rule = matches!(reason, "ALLOWED_BY_POLICY" | "FORBIDDEN_BY_POLICY");
            let rules = answer["rules"].as_array().expect("rules");
            assert_eq!(by_rule, !rules.is_empty(), "{name}: {answer}");
        }
    }
    let audit = audits(&cli);
    assert_eq!(audit["decisions"], decisions);
    assert_eq!(audit["re_evaluated"], decisions);
    assert_eq!(audit["drifted"], 0);
    let root = audit["root"].clone();
    // Whoever reads without asking the rules again finds the same ledger.
    let read = cli.must(&["audit", "--json"]).json();
    assert_eq!(
        (&read["root"], &read["re_evaluated"]),
        (&root, &Value::from(0))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_agents_get_one_entry_for_each_action_with_sha256() {
    real_agents(TreeHash::Sha256).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_agents_get_one_entry_for_each_action_with_blake3() {
    real_agents(TreeHash::Blake3).await;
}

/// A cluster with the recorded actions of our own in a file. They are all there is where `../shared` is missing, so that they go
/// through both tree hashes.
async fn own(tree_hash: TreeHash) -> (Cluster, Cli, PathBuf) {
    let options = Options {
        tree_hash,
        ..Options::default()
    };
    let cluster = Cluster::start(options).await;
    let cli = Cli::of_admin(&cluster);
    let trace = cli.folder.join("own.jsonl");
    std::fs::write(&trace, OWN.trim_start()).expect("a file");
    (cluster, cli, trace)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_answers_every_line() {
    let (_cluster, cli, trace) = own(TreeHash::Blake3).await;
    let refunds = examples().join("refunds");
    let (answers, summary) = replays(&cli, &trace, &["--bundle", text(&refunds)]);
    let said: Vec<(&str, &str)> = answers
        .iter()
        .map(|answer| {
            let field = |name: &str| answer[name].as_str().expect("text");
            (field("verdict"), field("reason"))
        })
        .collect();
    assert_eq!(
        said,
        [
            ("ALLOW", "ALLOWED_BY_POLICY"),
            ("ALLOW", "ALLOWED_BY_POLICY"),
            ("ALLOW", "ALLOWED_BY_POLICY"),
            ("DENY", "FORBIDDEN_BY_POLICY"),
            ("DENY", "SCHEMA_MISMATCH"),
            ("DENY", "UNKNOWN_ACTION"),
            ("DENY", "SCHEMA_MISMATCH"),
            ("ALLOW", "ALLOWED_BY_POLICY"),
        ]
    );
    let rules = serde_json::json!(["small-refunds-only"]);
    assert_eq!(answers[3]["rules"], rules);
    let counted = ["agents", "sessions", "outcomes"].map(|name| summary[name].clone());
    assert_eq!(counted, [2, 3, 4].map(Value::from));

    // Sessions that are narrower than their actions.
    let sessions = cli.folder.join("sessions.jsonl");
    let narrow = r#"{"suite":"shop","session":"monday","agent":"bot","purpose":"look","scope":["shop/lookup"]}"#;
    std::fs::write(&sessions, narrow).expect("a file");
    let more = ["--bundle", text(&refunds), "--sessions", text(&sessions)];
    let (narrowed, _) = replays(&cli, &trace, &more);
    assert_eq!(narrowed[0]["verdict"], "ALLOW");
    assert_eq!(narrowed[2]["reason"], "OUT_OF_SCOPE");
    let audit = audits(&cli);
    let counted = ["decisions", "re_evaluated"].map(|name| audit[name].clone());
    assert_eq!(counted, [16, 16].map(Value::from));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_actions_again_are_other_actions_of_the_same_agents() {
    let (_cluster, cli, trace) = own(TreeHash::Sha256).await;
    let refunds = examples().join("refunds");
    let bundle = ["--bundle", text(&refunds)];
    let (first, _) = replays(&cli, &trace, &bundle);
    let (again, summary) = replays(&cli, &trace, &bundle);
    assert!(again[0]["index"].as_u64() > first[7]["index"].as_u64());
    assert_eq!(again[2]["verdict"], "ALLOW", "the hour's second refund");
    assert_eq!(summary["agents"], 2);
    let (third, _) = replays(&cli, &trace, &bundle);
    let refused = &third[2]["reason"];
    assert_eq!(refused, "NO_MATCHING_PERMIT", "caps count across sessions");

    // Whoever lost the keys is told so, and no key is made in their place.
    let state = cli.folder.join("elsewhere");
    let state = ["--state", text(&state)];
    let lost = [["replay", text(&trace)], bundle, state].concat();
    let said = cli.run(&lost);
    assert_eq!(said.code, 64, "{said:?}");
    assert!(said.err.contains("give --state the folder"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_believes_what_was_erased_and_nothing_else() {
    let (cluster, cli, trace) = own(TreeHash::Sha256).await;
    let refunds = examples().join("refunds");
    let (answers, _) = replays(&cli, &trace, &["--bundle", text(&refunds)]);
    assert_eq!(audits(&cli)["re_evaluated"], 8);
    let erase = v1::Erase {
        compartments: vec![v1::CompartmentRef {
            index: answers[2]["index"].as_u64().expect("an index"),
            kind: CompartmentKind::Input.into(),
        }],
    };
    let entry = cluster.must(Ask::new(admin(), Body::Erase(erase))).await;
    assert_eq!(
        countersign_tests::kit::result_of(&entry),
        v1::Result::Applied
    );
    let audit = audits(&cli);
    // The refund itself, and what the same agent asked for after it: rules that count refunds cannot be asked without it.
    let believed = audit["not_re_evaluated"].as_u64().expect("a number");
    assert!((1..=6).contains(&believed), "{audit}");
    assert_eq!(audit["decisions"], 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_is_for_those_who_may_read_everything() {
    let (_cluster, cli, trace) = own(TreeHash::Sha256).await;
    let refunds = examples().join("refunds");
    let _ = replays(&cli, &trace, &["--bundle", text(&refunds)]);
    let keys = std::fs::read_dir(cli.folder.join("state"))
        .expect("the state")
        .map(|item| item.expect("an item").path().join("replay"))
        .next()
        .expect("a ledger");
    let key = std::fs::read_dir(keys).expect("keys").next();
    let key = key.expect("a key").expect("an item").path();
    let output = cli
        .command(&["audit"])
        .env_remove("COUNTERSIGN_OPERATOR")
        .env("COUNTERSIGN_KEY", &key)
        .output();
    let output = output.expect("ledger-client runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(8), "{said}");
    assert!(
        said.contains("entry 0 is not shown to this identity"),
        "{said}"
    );
}
