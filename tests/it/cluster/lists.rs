//! What a ledger shows: its entries by filter and by page, the bundles that decide, and evidence for others. And what spares its
//! users the typing: contexts and completions.

use std::process::Command;

use countersign_tests::cluster::cli::{self, Cli, Said};
use countersign_tests::cluster::people::Actor;
use countersign_tests::cluster::{Cluster, Options};
use countersign_tests::kit::TOOLS;
use ledger_core::evidence;
use ledger_core::id::Identity;
use ledger_proto::v1::{self, command::Body, evidence::Subject};
use policy_engine::Bundle;
use serde_json::{Value, json};

use super::commands::{asking, asks, fails, list, one_agent};
use super::people::{one_node, write};

/// Has an agent ask with its own key, and gives the index of the decision.
fn asks_as(cli: &Cli, actor: &Actor, action: &str, input: &str) -> u64 {
    let key = format!("{}.key", actor.agent);
    let _ = cli.key_file(&key, &Identity::Agent(actor.agent.clone()));
    let session = hex::encode(actor.session.to_vec());
    let who = ["authorize", "--key", &key, "--session", &session];
    let what = ["--action", action, "--input", input, "--json"];
    let decision = cli.run(&[&who[..], &what].concat()).json();
    decision["index"].as_u64().expect("an index")
}

fn index_of(value: &Value) -> u64 {
    value["index"].as_u64().expect("an index")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_filter_lists_what_it_names_and_nothing_else() {
    let (cluster, actors) = Cluster::with_actors(Options::default(), 2).await;
    let cli = Cli::of_admin(&cluster);
    let (one, other) = (&actors[0], &actors[1]);
    let (to_bob, to_mallory) = (
        r#"{"to":"bob","amount":1}"#,
        r#"{"to":"mallory","amount":1}"#,
    );
    let read = asks_as(&cli, one, "bank/read", r#"{"doc":"a"}"#);
    let denied = asks_as(&cli, one, "bank/pay", to_mallory);
    let paid = asks_as(&cli, other, "bank/pay", to_bob);
    let more = asks_as(&cli, other, "bank/read", r#"{"doc":"b"}"#);
    let decision = read.to_string();
    let record = ["record", &decision, "--key", "agent-0.key", "--json"];
    let done = ["--status", "succeeded", "--input", r#"{"doc":"c"}"#];
    let drifted = index_of(&cli.must(&[&record[..], &done].concat()).json());

    let show = |what: &str, id: &str| cli.must(&[what, "show", id, "--json"]).json();
    let registered = index_of(&show("agent", "agent-0"));
    let sessions = ["session", "list", "--agent", "agent-0", "--json"];
    let opened = index_of(&cli.must(&sessions).json()["sessions"][0]);
    let time = |index: u64| {
        let entry = show("entry", &index.to_string());
        entry["time"].as_str().expect("a time").to_owned()
    };
    let session = hex::encode(one.session.to_vec());
    let (from, to) = (time(denied), time(more));
    let filters: [(&[&str], &[u64]); 17] = [
        (
            &["--agent", "agent-0"],
            &[registered, opened, read, denied, drifted],
        ),
        (&["--agent", "agent-1", "--verdict", "allow"], &[paid, more]),
        (&["--agent", "agent-2"], &[]),
        (&["--session", &session], &[opened, read, denied, drifted]),
        (&["--action", "bank/pay"], &[denied, paid]),
        (&["--action", "bank/read"], &[read, more, drifted]),
        (&["--rule", "never-mallory"], &[denied]),
        (&["--rule", "read"], &[read, more]),
        (&["--rule", "read", "--agent", "agent-1"], &[more]),
        (&["--verdict", "allow"], &[read, paid, more]),
        (&["--verdict", "allow", "--descending"], &[more, paid, read]),
        (&["--verdict", "deny"], &[denied]),
        (&["--verdict", "escalate"], &[]),
        (&["--drifted"], &[drifted]),
        (&["--drifted", "--agent", "agent-1"], &[]),
        // From then on, and before.
        (&["--from", &from, "--verdict", "allow"], &[paid, more]),
        (&["--from", &from, "--to", &to], &[denied, paid]),
    ];
    for (filter, expected) in filters {
        assert_eq!(list(&cli, filter), expected, "{filter:?}");
    }
    let outcome = show("entry", &drifted.to_string());
    assert_eq!(outcome["reason"], json!(["INPUT_CHANGED"]));
    let before = list(&cli, &["--to", &from]);
    assert_eq!(before, (0..denied).collect::<Vec<_>>());
}

/// One page of a list, and where the next one begins.
fn page(cli: &Cli, filter: &[&str], token: &str) -> (Vec<u64>, String) {
    let command = ["entry", "list", "--json", "--page-token", token];
    let page = cli.must(&[&command[..], filter].concat()).json();
    let entries = page["entries"].as_array().expect("entries");
    let next = page["next_page_token"].as_str().expect("a token");
    (entries.iter().map(index_of).collect(), next.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_the_list_that_there_was_when_the_first_was_asked_for() {
    let (_cluster, cli, actor) = one_agent().await;
    let read = || asks(&cli, &actor, "bank/read", r#"{"doc":"a"}"#);
    for _ in 0..4 {
        read();
    }
    for order in [&["--limit", "3"][..], &["--limit", "3", "--descending"]] {
        let whole = list(&cli, &order[2..]);
        let mut pages: Vec<Vec<u64>> = Vec::new();
        let mut token = String::new();
        loop {
            let (entries, next) = page(&cli, order, &token);
            pages.push(entries);
            if next.is_empty() {
                break;
            }
            token = next;
            // What comes now comes after the list.
            read();
        }
        assert!(pages.len() > 3, "{pages:?}");
        let (_, full) = pages.split_last().expect("a page");
        assert!(full.iter().all(|page| page.len() == 3), "{pages:?}");
        assert_eq!(pages.concat(), whole, "{order:?}");
    }

    // A token goes with its question, whatever the length of a page.
    let (first, token) = page(&cli, &["--limit", "3", "--agent", "agent-0"], "");
    let whole = list(&cli, &["--agent", "agent-0"]);
    let (rest, end) = page(&cli, &["--limit", "100", "--agent", "agent-0"], &token);
    assert_eq!([first, rest].concat(), whole);
    assert_eq!(end, "");
    for other in [
        &["--agent", "agent-1"][..],
        &["--agent", "agent-0", "--descending"],
    ] {
        let command = ["entry", "list", "--page-token", &token];
        fails(
            &cli,
            &[&command[..], other].concat(),
            2,
            "PAGE_TOKEN_INVALID",
        );
    }
    // One in 64 tokens begins as a flag does.
    for damaged in ["x", "-x"] {
        let list = ["entry", "list", "--page-token", damaged];
        fails(&cli, &list, 2, "PAGE_TOKEN_INVALID");
    }
}

/// Reading is free but for secrets, and whoever pays has to be approved of.
const APPROVED: &str = r#"
@id("read-most")
permit (principal, action == Countersign::Action::"bank/read", resource)
when { context.input.doc != "secret" };

@id("pay-approved")
@approvers("finance:2,legal")
permit (principal, action == Countersign::Action::"bank/pay", resource);
"#;

const HEADER: &str = r#"
name = "approved"
history = "agent"

[[manifest]]
file = "tools.json"
server = "bank"
"#;

/// The bundles of the namespace: digest, state, and whether it decides.
fn bundles(cli: &Cli) -> Vec<(String, String, bool)> {
    let all = cli
        .must(&["policy", "list", "--namespace", "team", "--json"])
        .json();
    let bundles = all["bundles"].as_array().expect("bundles");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let one = |bundle: &Value| {
        let active = bundle["active"].as_bool().expect("yes or no");
        (text(&bundle["digest"]), text(&bundle["state"]), active)
    };
    bundles.iter().map(one).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_published_bundle_decides_once_it_is_activated_and_can_ask_for_approval() {
    let (_cluster, cli, actor) = one_agent().await;
    let _ = cli.key_file("olive.key", &Identity::Operator("olive".to_owned()));
    std::fs::create_dir_all(cli.folder.join("approved/rules")).expect("a folder");
    write(&cli, "approved/bundle.toml", HEADER);
    write(&cli, "approved/tools.json", TOOLS);
    write(&cli, "approved/rules/rules.dw", APPROVED);

    let session = hex::encode(actor.session.to_vec());
    let ask = |action: &str, input: &str| {
        let more = ["--knows", "notify", "--json"];
        cli.run(&[&asking(&session, action, input)[..], &more].concat())
    };
    let pays = || ask("bank/pay", r#"{"to":"bob","amount":1}"#);
    let reads = |doc: &str| ask("bank/read", &json!({ "doc": doc }).to_string());
    let decided = |said: &Said, code: i32, reason: &str, rules: &[&str]| {
        assert_eq!(said.code, code, "{said:?}");
        let decision = said.json();
        assert_eq!(decision["reason"], reason, "{said:?}");
        assert_eq!(decision["rules"], json!(rules), "{said:?}");
        index_of(&decision)
    };
    let old = bundles(&cli)[0].0.clone();
    let publish = ["policy", "publish", "approved", "--namespace", "team"];
    let by_owner = [&publish[..], &["--operator", "olive.key"]].concat();
    fails(&cli, &by_owner, 8, "NOT_PERMITTED");
    let new = cli.must(&[&publish[..], &["--json"]].concat()).json()["digest"].clone();
    let packed = cli.must(&["policy", "pack", "approved", "--out", "packed", "--json"]);
    assert_eq!(packed.json()["digest"], new);
    let new = new.as_str().expect("a digest").to_owned();
    let there = |active: &str| {
        let mut both = [&old, &new].map(|one| (one.clone(), "READY".to_owned(), one == active));
        both.sort();
        both
    };
    assert_eq!(bundles(&cli), there(&old));
    decided(&pays(), 0, "ALLOWED_BY_POLICY", &["pay-cap"]);
    decided(&reads("secret"), 0, "ALLOWED_BY_POLICY", &["read"]);

    let unknown = "00".repeat(32);
    let activate = ["policy", "activate", "--namespace", "team"];
    fails(
        &cli,
        &[&activate[..], &[unknown.as_str()]].concat(),
        2,
        "NOT_FOUND",
    );
    cli.must(&[&activate[..], &[new.as_str()]].concat());
    assert_eq!(bundles(&cli), there(&new));
    let escalated = pays();
    let index = decided(&escalated, 4, "APPROVAL_REQUIRED", &["pay-approved"]);
    let decision = escalated.json();
    assert_eq!(decision["verdict"], "ESCALATE");
    assert_eq!(decision["permitted"], false);
    decided(&reads("secret"), 3, "NO_MATCHING_PERMIT", &[]);
    decided(&reads("a"), 0, "ALLOWED_BY_POLICY", &["read-most"]);
    assert_eq!(list(&cli, &["--verdict", "escalate"]), [index]);
    assert_eq!(list(&cli, &["--rule", "pay-approved"]), [index]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_that_is_there_as_a_whole_or_in_part_can_be_published_and_activated() {
    let (cluster, cli, _actor) = one_agent().await;
    std::fs::create_dir_all(cli.folder.join("long/rules")).expect("a folder");
    write(&cli, "long/bundle.toml", HEADER);
    write(&cli, "long/tools.json", TOOLS);
    // Noise, so that packing does not make one chunk of it.
    let noise: Vec<String> = (0u64..4_000)
        .map(|n| format!("// {}\n", blake3::hash(&n.to_be_bytes())))
        .collect();
    let rules = format!("{}{APPROVED}", noise.concat());
    write(&cli, "long/rules/rules.dw", &rules);
    cli.must(&["policy", "pack", "long", "--out", "packed"]);
    let packed = std::fs::read(cli.folder.join("packed")).expect("a bundle");
    let bundle = Bundle::from_packed(&packed).expect("a bundle");
    let chunks = bundle.chunks();
    assert!(chunks.len() > 1, "{} bytes", packed.len());

    // Somebody began, and was interrupted.
    let begun = v1::PublishBundle {
        namespace: "team".to_owned(),
        digest: bundle.digest().0.to_vec(),
        chunk_index: 0,
        chunk_count: u32::try_from(chunks.len()).expect("few"),
        chunk: chunks[0].clone(),
    };
    cluster.govern(Body::PublishBundle(begun)).await;
    let publish = ["policy", "publish", "long", "--namespace", "team"];
    cli.must(&publish);
    fails(&cli, &publish, 2, "has the bundle");
    let activate = ["policy", "activate", "long", "--namespace", "team"];
    cli.must(&activate);
    let newest = ["entry", "list", "--descending", "--limit", "1", "--json"];
    let newest = cli.must(&newest).json()["entries"][0].clone();
    assert_eq!(newest["command"], "ActivateBundle");
    let about = format!("team {}", &bundle.digest().to_string()[..8]);
    assert_eq!(newest["about"], about);
    fails(&cli, &activate, 2, "ALREADY_EXISTS");
}

/// The command that checks a file offline.
const fn verifying(file: &str) -> [&str; 4] {
    ["verify", file, "--trust", "trust-policy"]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ended_session_is_proven_whole_and_nothing_can_be_taken_out_of_it() {
    type Change = fn(&mut v1::Evidence);
    let (_cluster, cli, actor) = one_agent().await;
    let _ = cli.key_file("olive.key", &Identity::Operator("olive".to_owned()));
    for doc in ["a", "b"] {
        asks(
            &cli,
            &actor,
            "bank/read",
            &json!({ "doc": doc }).to_string(),
        );
    }
    asks(&cli, &actor, "bank/pay", r#"{"to":"mallory","amount":1}"#);
    let session = hex::encode(actor.session.to_vec());
    let prove = ["prove", "--session", &session, "--out", "evidence"];
    fails(&cli, &prove, 2, "the session has not ended");
    assert!(!cli.folder.join("evidence").exists());
    cli.must(&["session", "close", &session, "--operator", "olive.key"]);
    cli.must(&prove);
    let proven = cli.must(&verifying("evidence")).out;
    let counts = "all 4 entries: 2 allowed, 1 denied or escalated, 0 outcomes  (verified here)";
    for words in [session.as_str(), counts, "ended          CLOSED"] {
        assert!(proven.contains(words), "{words:?} is not in: {proven}");
    }

    // Whoever changes a file can make its digest fit again.
    let forgeries: [(Change, i32, &str); 6] = [
        (
            |it| *it.entries[1].entry.last_mut().expect("a byte") ^= 1,
            11,
            "is not in the ledger",
        ),
        (
            |it| drop(it.entries.remove(1)),
            14,
            "an entry of the session is missing before",
        ),
        (|it| drop(it.entries.pop()), 14, "the end of the session"),
        (
            |it| it.subject = Some(Subject::Session(vec![0; 16])),
            14,
            "not an entry of this session",
        ),
        (
            |it| it.checkpoint = it.checkpoint.replacen('\n', "\n1", 1),
            10,
            "is invalid",
        ),
        (
            |it| it.checkpoint = it.checkpoint.split_inclusive('\n').take(5).collect(),
            12,
            "a quorum",
        ),
    ];
    let file = std::fs::read(cli.folder.join("evidence")).expect("a file");
    for (change, code, says) in forgeries {
        let mut forged = evidence::decode(&file).expect("evidence");
        change(&mut forged);
        std::fs::write(cli.folder.join("forged"), evidence::encode(&forged)).expect("a file");
        fails(&cli, &verifying("forged"), code, says);
    }
    std::fs::write(cli.folder.join("cut"), &file[..file.len() - 1]).expect("a file");
    fails(&cli, &verifying("cut"), 14, "not proven");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_as_json_proves_the_same_and_fails_the_same() {
    let (_cluster, cli, actor) = one_node().await;
    let index = asks(&cli, &actor, "bank/read", r#"{"doc":"a"}"#);
    let decision = index.to_string();
    let out = ["--format", "json", "--out", "evidence.json"];
    cli.must(&[&["prove", &decision], &out[..]].concat());
    let text = std::fs::read_to_string(cli.folder.join("evidence.json")).expect("a file");
    let json: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(json["format"], "countersign-evidence-v1");
    assert_eq!(json["decision"], index);
    let proven = cli.must(&verifying("evidence.json")).out;
    for words in [
        "ALLOW: ALLOWED_BY_POLICY",
        "agent          agent-0",
        "@id(\"read\")",
    ] {
        assert!(proven.contains(words), "{words:?} is not in: {proven}");
    }

    let subject = format!("\"decision\": {index}");
    let changed = text.replacen(&subject, "\"decision\": 0", 1);
    assert_ne!(changed, text);
    write(&cli, "changed.json", &changed);
    fails(
        &cli,
        &verifying("changed.json"),
        14,
        "its digest does not match",
    );
    let cut = text.trim_end().strip_suffix('}').expect("an object");
    write(&cli, "cut.json", cut);
    fails(
        &cli,
        &verifying("cut.json"),
        14,
        "the JSON form is not evidence",
    );
    let mut forged = evidence::from_json(&text).expect("evidence");
    let mut entries = forged.entries.iter_mut();
    let entry = entries
        .find(|entry| entry.index == index)
        .expect("the decision");
    *entry.entry.last_mut().expect("a byte") ^= 1;
    write(&cli, "forged.json", &evidence::to_json(&forged));
    let not_there = format!("entry {index} is not in the ledger");
    fails(&cli, &verifying("forged.json"), 11, &not_there);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_context_in_use_says_where_and_who_until_a_flag_says_otherwise() {
    let (_cluster, cli, _) = one_node().await;
    let endpoints = cli.endpoints();
    let run = |arguments: &[&str]| -> Said {
        let mut command = cli.command(arguments);
        let output = command.env_clear().env("HOME", &cli.folder).output();
        output.expect("ledger-client runs").into()
    };
    for (name, key) in [("admin", "admin.key"), ("owner", "olive.key")] {
        let set = ["context", "set", name, "--operator", key];
        let at = ["--endpoints", &endpoints, "--trust", "trust-policy"];
        let said = run(&[&set[..], &at].concat());
        assert_eq!(said.code, 0, "{said:?}");
    }
    // Files are named so that they are found from any folder.
    let folder = cli.folder.canonicalize().expect("a folder");
    let lists = |current: &str| {
        let row = |name: &str, key: &str| {
            json!({
                "name": name, "current": name == current, "endpoints": [endpoints], "key": null,
                "trust": folder.join("trust-policy"), "operator": folder.join(key),
            })
        };
        let rows = [row("admin", "admin.key"), row("owner", "olive.key")];
        let said = run(&["context", "list", "--json"]);
        assert_eq!(said.json(), json!({ "contexts": rows }), "{current}");
    };
    // An owner does not see rules.
    let sees = |more: &[&str]| run(&[&["policy", "list", "--namespace", "team"], more].concat());
    lists("owner");
    assert_eq!(sees(&[]).code, 8);
    assert_eq!(sees(&["--context", "admin"]).code, 0);
    assert_eq!(sees(&["--operator", "admin.key"]).code, 0);
    assert_eq!(run(&["context", "use", "admin"]).code, 0);
    lists("admin");
    assert_eq!(sees(&[]).code, 0);
    assert_eq!(sees(&["--context", "owner"]).code, 8);

    let unknown = run(&["context", "use", "prod"]);
    assert_eq!(unknown.code, 64, "{unknown:?}");
    assert!(
        unknown.err.contains("there are admin, owner"),
        "{unknown:?}"
    );
    let bare = run(&["context", "set", "bare"]);
    assert_eq!(bare.code, 64, "{bare:?}");
    assert!(
        bare.err.contains("at least --endpoints and --trust"),
        "{bare:?}"
    );
    lists("admin");
}

/// What bash completes the last of some words to.
const COMPLETE: &str = r#"
eval "$("$0" completions bash)"
name="$(complete -p ledger-client)"
name="${name#*-F }"
COMP_WORDS=(ledger-client "$@")
COMP_CWORD=$#
"${name%% *}" ledger-client "${!#}" "${COMP_WORDS[$# - 1]}"
echo "${COMPREPLY[@]}"
"#;

#[test]
fn completions_are_there_for_every_shell_and_bash_uses_them() {
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(cli::client())
            .args(["completions", shell])
            .output();
        let said: Said = output.expect("ledger-client runs").into();
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{shell}");
        for word in ["gateway", "enrol", "minimum-assurance", "escalate"] {
            assert!(said.out.contains(word), "{shell}: {word}");
        }
    }
    let unknown = Command::new(cli::client())
        .args(["completions", "cmd"])
        .output();
    let unknown: Said = unknown.expect("ledger-client runs").into();
    assert_eq!((unknown.code, unknown.out.as_str()), (2, ""), "{unknown:?}");

    for (begun, completed) in [
        (&["ha"][..], "halt\n"),
        (&["rec"], "record\n"),
        (&["halt", "c"], "clear\n"),
        (&["entry", "list", "--verdict", "a"], "allow\n"),
    ] {
        let mut bash = Command::new("bash");
        let output = bash
            .args(["-euc", COMPLETE])
            .arg(cli::client())
            .args(begun)
            .output();
        let said: Said = output.expect("bash runs").into();
        assert_eq!((said.code, said.out.as_str()), (0, completed), "{said:?}");
    }
}
