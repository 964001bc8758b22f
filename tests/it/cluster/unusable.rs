//! What the command line is given that it cannot use: files that are empty, huge or somebody else's, and nodes that are down.

use std::os::unix::fs::PermissionsExt as _;

use countersign_tests::cluster::cli::Said;
use countersign_tests::cluster::{Cluster, Options};
use ledger_core::id::Identity;

use super::commands::{asking, asks, fails, one_agent};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_empty_huge_or_somebody_elses_are_told_apart() {
    let (_cluster, cli, _) = one_agent().await;
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::write(cli.folder.join("empty"), "").expect("a file");
    let huge = std::fs::File::create(cli.folder.join("huge")).expect("a file");
    huge.set_len(1 << 30).expect("a sparse file");
    let stranger = Identity::Agent("stranger".to_owned());
    let _ = cli.key_file("stranger.key", &stranger);
    let list = |operator: &'static str| ["agent", "list", "--operator", operator];
    let trust = |trust: &'static str| ["agent", "list", "--trust", trust];
    fails(&cli, &trust("huge"), 64, "is longer than");
    std::fs::set_permissions(cli.folder.join("huge"), private).expect("a mode");
    fails(&cli, &list("huge"), 64, "is not an Ed25519 private key");
    let session = "00".repeat(16);
    let ask = |input: &'static str, key: &'static str| {
        let words = ["authorize", "--session", &session, "--action", "bank/read"];
        let more = ["--input", input, "--key", key];
        [&words[..], &more]
            .concat()
            .iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>()
    };
    for (input, key, code, says) in [
        ("@huge", "agent.key", 64, "is longer than"),
        ("@absent", "agent.key", 64, "cannot be read"),
        ("{}", "admin.key", 2, "--agent is needed"),
        ("{}", "stranger.key", 8, "(KEY_UNKNOWN)"),
    ] {
        let words = ask(input, key);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        fails(&cli, &words, code, says);
    }
    let record = ["record", "5", "--status", "failed", "--key", "agent.key"];
    fails(
        &cli,
        &[&record[..], &["--output", "@huge"]].concat(),
        64,
        "is longer than",
    );
    fails(
        &cli,
        &["cluster", "add", "empty"],
        64,
        "is not a node's card",
    );
    fails(&cli, &["cluster", "add", "huge"], 64, "is longer than");
    fails(
        &cli,
        &["agent", "list", "--context", "nowhere"],
        64,
        "there is no context `nowhere`",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_of_another_ledger_proves_nothing_here() {
    let (_cluster, cli, actor) = one_agent().await;
    let index = asks(&cli, &actor, "bank/read", r#"{"doc":"a"}"#).to_string();
    cli.must(&["prove", &index, "--out", "evidence"]);
    // A ledger of the same name, and others have its keys.
    let other = Cluster::prepare(Options::default()).await;
    std::fs::write(cli.folder.join("other"), other.policy.to_string()).expect("a file");
    let verify = ["verify", "evidence", "--trust", "other"];
    fails(&cli, &verify, 10, "evidence: not proven: ");
    let list = ["agent", "list", "--trust", "other"];
    fails(&cli, &list, 10, "the trust policy is another ledger's");
    cli.must(&["verify", "evidence", "--trust", "trust-policy"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_are_down_are_named_with_what_it_means() {
    let (mut cluster, cli, actor) = one_agent().await;
    cli.must(&["checkpoint"]);
    let session = hex::encode(actor.session.to_vec());
    let ask = asking(&session, "bank/read", r#"{"doc":"a"}"#);
    let leader = cluster.leader().await;
    cluster.kill(leader);
    let dead = cluster.endpoint(leader);
    let slow = [&ask[..], &["--timeout", "60"]].concat();
    cli.must(&slow);
    let status = cli.run(&["cluster", "status"]);
    assert_eq!(status.code, 6, "{status:?}");
    assert!(status.err.contains("1 of 3 endpoints do not answer"));
    assert_eq!(status.out.matches("nobody listens at").count(), 1);

    let second = cluster.follower().await;
    cluster.kill(second);
    let alive = cluster.endpoint(cluster.nodes()[0]);
    let hasty = |command: &[&str]| cli.run(&[command, &["--timeout", "3"]].concat());
    let said = hasty(&ask);
    // The node that is left may have found out that it is alone, or not.
    assert!([6, 7].contains(&said.code), "{said:?}");
    let silent = [dead, cluster.endpoint(second)];
    let heard = said
        .err
        .find(&format!("{alive}: "))
        .expect("what was heard");
    let unheard = said.err.find("nobody listens at").expect("who was not");
    assert!(heard < unheard, "{said:?}");
    assert!(silent.iter().all(|one| said.err.contains(one)), "{said:?}");
    let what = if said.code == 7 {
        "send request "
    } else {
        "nothing happened"
    };
    assert!(said.err.contains(what), "{said:?}");
    // What is proven stays readable.
    assert_eq!(hasty(&["entry", "list"]).code, 0);
    assert_eq!(hasty(&["checkpoint"]).code, 0);

    cluster.kill(cluster.nodes()[0]);
    for command in [&ask[..], &["entry", "list"], &["checkpoint"]] {
        fails(&cli, command, 6, "nothing happened, check the addresses");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_who_answers_is_an_answer() {
    let (_cluster, cli, _) = one_agent().await;
    let dead = [
        "agent",
        "list",
        "--endpoints",
        "http://127.0.0.1:1",
        "--timeout",
        "2",
    ];
    fails(&cli, &dead, 6, "127.0.0.1:1");
    let nobody = cli
        .command(&["agent", "list"])
        .env_remove("COUNTERSIGN_ENDPOINTS")
        .output();
    let nobody: Said = nobody.expect("runs").into();
    assert_eq!(nobody.code, 64, "{nobody:?}");
    assert!(
        nobody.err.contains("set COUNTERSIGN_ENDPOINTS"),
        "{nobody:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_refuse_an_operators_key_are_not_said_to_be_silent() {
    let (_cluster, cli, _) = one_agent().await;
    let stranger = Identity::Operator("stranger".to_owned());
    let _ = cli.key_file("stranger.key", &stranger);
    let status = ["cluster", "status", "--operator", "stranger.key"];
    let said = cli.run(&[&status[..], &["--json"]].concat());
    assert_eq!(said.code, 8, "{said:?}");
    assert!(said.err.contains("3 of 3 nodes run and refuse"), "{said:?}");
    assert!(!said.err.contains("do not answer"), "{said:?}");
    let nodes = said.json()["nodes"].clone();
    for node in nodes.as_array().expect("a list") {
        assert_eq!(node["state"], "refuses", "{node}");
    }
}
