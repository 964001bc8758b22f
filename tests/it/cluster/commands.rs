//! The command line on a real cluster: what it shows, what it erases, and what it says about bad input.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use countersign_tests::cluster::cli::{Cli, Said};
use countersign_tests::cluster::people::Actor;
use countersign_tests::cluster::{Cluster, Options};
use ledger_core::evidence;
use ledger_core::id::Identity;
use serde_json::Value;

/// A cluster with one agent who has a key file.
pub(super) async fn one_agent() -> (Cluster, Cli, Actor) {
    one_agent_of(Options::default()).await
}

/// The same on a cluster of one node, where nothing depends on how many there are.
pub(super) async fn one_agent_of_one_node() -> (Cluster, Cli, Actor) {
    one_agent_of(Options {
        nodes: 1,
        ..Options::default()
    })
    .await
}

pub(super) async fn one_agent_of(options: Options) -> (Cluster, Cli, Actor) {
    let (cluster, actors) = Cluster::with_actors(options, 1).await;
    let cli = Cli::of_admin(&cluster);
    let actor = actors.into_iter().next().expect("an actor");
    let _ = cli.key_file("agent.key", &Identity::Agent(actor.agent.clone()));
    (cluster, cli, actor)
}

/// The command that asks for an action as the agent.
pub(super) const fn asking<'a>(session: &'a str, action: &'a str, input: &'a str) -> [&'a str; 9] {
    [
        "authorize",
        "--key",
        "agent.key",
        "--session",
        session,
        "--action",
        action,
        "--input",
        input,
    ]
}

/// Asks for an action as the agent and gives the index of the decision.
pub(super) fn asks(cli: &Cli, actor: &Actor, action: &str, input: &str) -> u64 {
    let session = hex::encode(actor.session.to_vec());
    let asked = asking(&session, action, input);
    let said = cli.run(&[&asked[..], &["--json"]].concat());
    said.json()["index"].as_u64().expect("an index")
}

pub(super) fn list(cli: &Cli, more: &[&str]) -> Vec<u64> {
    let arguments = [&["entry", "list", "--json"], more].concat();
    let entries = cli.must(&arguments).json()["entries"].clone();
    let entries = entries.as_array().expect("entries").clone();
    let index = |entry: &Value| entry["index"].as_u64().expect("an index");
    entries.iter().map(index).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_is_shown_until_it_is_erased() {
    let (_cluster, cli, actor) = one_agent().await;
    let index = asks(&cli, &actor, "bank/read", r#"{"doc":"secret"}"#);
    let later = asks(&cli, &actor, "bank/read", r#"{"doc":"other"}"#);
    assert_eq!(list(&cli, &["--unrecorded"]), [index, later]);
    let first = ["entry", "list", "--unrecorded", "--limit", "1"];
    let page = cli.must(&[&first[..], &["--json"]].concat()).json();
    let token = page["next_page_token"].as_str().expect("there is more");
    assert!(
        cli.must(&first)
            .err
            .contains(&format!("--page-token {token}"))
    );
    let rest = ["--unrecorded", "--limit", "1", "--page-token", token];
    assert_eq!(list(&cli, &rest), [later]);
    let no_token = ["entry", "list", "--unrecorded", "--page-token", "x"];
    fails(&cli, &no_token, 2, "is not where a page");
    let recorded = index.to_string();
    let record = [
        "record",
        &recorded,
        "--key",
        "agent.key",
        "--status",
        "succeeded",
        "--input",
        r#"{"doc":"secret"}"#,
    ];
    cli.must(&record);
    assert_eq!(list(&cli, &["--unrecorded"]), [later]);
    assert_eq!(list(&cli, &["--verdict", "allow"]), [index, later]);

    let shown = cli.must(&["payload", "show", &recorded]).out;
    assert_eq!(shown, "INPUT: {\"doc\":\"secret\"}\n");
    let said = cli.must(&["payload", "erase", &recorded, "--json"]).json();
    assert_eq!(said["erased"], 1);
    let shown = cli.must(&["payload", "show", &recorded]).out;
    assert_eq!(shown, "INPUT: erased\n");
    let entry = said["index"].to_string();
    let status = cli.must(&["payload", "status", &entry, "--json"]).json();
    assert_eq!(status["nodes"].as_array().expect("nodes").len(), 3);
    let again = cli.must(&["payload", "erase", &recorded, "--json"]).json();
    assert_eq!(again["erased"], 0);

    let followed = cli.must(&["follow", "--start", "0", "--count", "3", "--json"]);
    let indexes: Vec<u64> = followed
        .out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["index"].as_u64())
        .map(|index| index.expect("an index"))
        .collect();
    assert_eq!(indexes, [0, 1, 2]);
    let decisions = cli.must(&[
        "follow",
        "--start",
        "0",
        "--count",
        "2",
        "--verdict",
        "allow",
    ]);
    assert!(
        decisions.out.lines().all(|line| line.contains("  ALLOW  ")),
        "{decisions:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_convinces_a_machine_that_has_nothing_else_and_no_changed_byte_does() {
    let (_cluster, cli, actor) = one_agent().await;
    let index = asks(&cli, &actor, "bank/read", r#"{"doc":"a"}"#).to_string();
    cli.must(&["prove", &index, "--out", "evidence", "--with", "input"]);
    let elsewhere = tempfile::tempdir().expect("a folder");
    for file in ["evidence", "trust-policy"] {
        std::fs::copy(cli.folder.join(file), elsewhere.path().join(file)).expect("a copy");
    }
    let verify = |cli: &Cli| -> Said {
        let output = cli
            .command(&["verify", "evidence", "--trust", "trust-policy"])
            .env_clear()
            .current_dir(elsewhere.path())
            .output();
        output.expect("ledger-client runs").into()
    };
    let said = verify(&cli);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("ALLOW: ALLOWED_BY_POLICY"), "{said:?}");

    let path = elsewhere.path().join("evidence");
    let bytes = std::fs::read(&path).expect("the evidence");
    let policy = std::fs::read(cli.trust()).expect("the policy");
    let policy = ledger_core::note::tlog_policy::TlogPolicy::parse(&policy).expect("a policy");
    // A simple generator: each run changes the same thousand bytes.
    let mut word: u64 = 0x9e37_79b9_7f4a_7c15;
    for round in 0..1_000 {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        let place = usize::try_from(word % bytes.len() as u64).expect("small");
        let flip = u8::try_from(word >> 56).expect("a byte") | 1;
        let mut changed = bytes.clone();
        changed[place] ^= flip;
        let believed = evidence::decode(&changed)
            .ok()
            .and_then(|decoded| evidence::verify(&decoded, &policy).ok());
        assert!(
            believed.is_none(),
            "round {round}: byte {place} ^ {flip:#x}"
        );
        if round % 100 == 0 {
            std::fs::write(&path, &changed).expect("a file");
            let said = verify(&cli);
            assert!((10..=14).contains(&said.code), "{said:?}");
            assert!(said.err.contains("not proven: "), "{said:?}");
        }
    }
}

/// A command that must fail with this code, and say this.
pub(super) fn fails(cli: &Cli, arguments: &[&str], code: i32, says: &str) {
    let said = cli.run(arguments);
    assert_eq!(said.code, code, "{arguments:?}: {said:?}");
    assert!(
        said.err.contains(says),
        "{arguments:?}: {says:?} is not in: {said:?}"
    );
    assert_eq!(said.out, "", "{arguments:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_is_told_in_a_sentence_with_its_exit_code() {
    let (_cluster, cli, _) = one_agent().await;
    let file =
        |name: &str, content: &str| std::fs::write(cli.folder.join(name), content).expect("a file");
    file("garbage", "no key");
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(cli.folder.join("garbage"), private).expect("a mode");
    file("empty", "");
    file("cut.jsonl", "{\"suite\":\"s\"");
    let huge = std::fs::File::create(cli.folder.join("huge")).expect("a file");
    huge.set_len(1 << 30).expect("a sparse file");
    let open = cli.folder.join("open.key");
    std::fs::copy(cli.folder.join("agent.key"), &open).expect("a copy");
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).expect("a mode");

    let close = |key: &'static str| ["session", "close", "00", "--by-key", "--key", key];
    fails(&cli, &close("agent.key"), 2, "32 hexadecimal digits");
    let list = |operator: &'static str| ["agent", "list", "--operator", operator];
    fails(
        &cli,
        &list("garbage"),
        64,
        "is not an Ed25519 private key in PKCS#8 PEM",
    );
    fails(&cli, &list("absent"), 64, "cannot be read");
    fails(&cli, &list("open.key"), 64, "chmod 600");
    fails(&cli, &["agent", "list", "--trust", "empty"], 64, "empty: ");
    fails(
        &cli,
        &["agent", "list", "--trust", "garbage"],
        64,
        "garbage: ",
    );
    fails(&cli, &["verify", "empty"], 14, "not proven");
    fails(&cli, &["verify", "huge"], 14, "is longer than");
    fails(&cli, &["halt", "set", "h"], 2, "required");
    fails(
        &cli,
        &["halt", "set", "h", "--everything", "--agent", "a"],
        2,
        "cannot be used with",
    );
    fails(
        &cli,
        &["entry", "list", "--unrecorded", "--drifted"],
        2,
        "cannot be used with",
    );
    fails(
        &cli,
        &["agent", "show", "nobody"],
        2,
        "there is no such agent",
    );
    let replay = |trace: &'static str| ["replay", trace, "--bundle", "nowhere"];
    fails(&cli, &replay("empty"), 64, "holds no actions");
    fails(&cli, &replay("cut.jsonl"), 64, "line 1: ");
    fails(&cli, &replay("huge"), 64, "is longer than");
    file(
        "one.jsonl",
        r#"{"suite":"s","agent":"a","session":"1","tool":"t","args":{}}"#,
    );
    fails(
        &cli,
        &replay("one.jsonl"),
        64,
        "there is no bundle for the suite or namespace `s`",
    );
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for item in std::fs::read_dir(from).expect("a folder") {
        let item = item.expect("an item");
        let target = to.join(item.file_name());
        if item.file_type().expect("a type").is_dir() {
            copy(&item.path(), &target);
        } else {
            std::fs::copy(item.path(), target).expect("a copy");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_was_put_back_from_an_old_copy_is_refused() {
    let (mut cluster, cli, actor) = one_agent().await;
    asks(&cli, &actor, "bank/read", r#"{"doc":"a"}"#);
    let nodes = cluster.nodes();
    for node in &nodes {
        cluster.stop(*node).await;
    }
    for node in &nodes {
        let data = cluster.file(*node).data();
        copy(&data, &data.with_extension("old"));
    }
    for node in &nodes {
        cluster.restart(*node);
    }
    cluster.leader().await;
    for _ in 0..5 {
        asks(&cli, &actor, "bank/read", r#"{"doc":"b"}"#);
    }
    let size = cluster.converge().await;
    let seen = cli.must(&["checkpoint", "--json"]).json();
    assert_eq!(seen["size"], size);
    for node in &nodes {
        cluster.stop(*node).await;
    }
    for node in &nodes {
        let data = cluster.file(*node).data();
        std::fs::remove_dir_all(&data).expect("removed");
        std::fs::rename(data.with_extension("old"), &data).expect("moved");
        // All of them at once, on an operator's word: only clients can tell.
        cluster.restart_with(*node, &["--accept-data"]);
    }
    cluster.leader().await;
    fails(
        &cli,
        &["checkpoint"],
        13,
        "the ledger was put back from an old copy",
    );
    fails(
        &cli,
        &["agent", "list"],
        13,
        "find out which before you go on",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_context_stands_in_for_flags_and_variables() {
    let (_cluster, cli, _) = one_agent().await;
    let endpoints = cli.endpoints();
    let run = |arguments: &[&str]| -> Said {
        let output = cli
            .command(arguments)
            .env_clear()
            .env("HOME", &cli.folder)
            .output();
        output.expect("ledger-client runs").into()
    };
    let none = run(&["agent", "list"]);
    assert_eq!(none.code, 64, "{none:?}");
    let set = [
        "context",
        "set",
        "test",
        "--endpoints",
        &endpoints,
        "--trust",
        "trust-policy",
        "--operator",
        "admin.key",
    ];
    assert_eq!(run(&set).code, 0);
    let agents = run(&["agent", "list"]);
    assert!(
        agents.code == 0 && agents.out.contains("agent-0"),
        "{agents:?}"
    );
    let contexts = run(&["context", "list", "--json"]).json();
    assert_eq!(contexts["contexts"][0]["current"], true);
    let unknown = run(&["agent", "list", "--context", "prod"]);
    assert_eq!(unknown.code, 64);
    assert!(
        unknown
            .err
            .contains("there is no context `prod`; there are test"),
        "{unknown:?}"
    );
    assert_eq!(run(&["context", "remove", "test"]).code, 0);
    assert_eq!(run(&["context", "use", "test"]).code, 64);

    let rules = cli.must(&["policy", "show", "--namespace", "team"]).out;
    assert!(rules.contains("@id(\"never-mallory\")"), "{rules}");
    let _ = cli.must(&["policy", "show", "--namespace", "team", "--out", "fetched"]);
    let digest = |bundle: &str| cli.must(&["policy", "pack", bundle, "--out", "packed"]).out;
    assert!(rules.contains(digest("fetched").trim()), "{rules}");
}
