//! The command line on a full disk: whatever it writes is there as a whole, or as it was before.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use countersign_tests::cluster::SOON;
use countersign_tests::cluster::cli::Cli;
use countersign_tests::cluster::wait::until;
use countersign_tests::examples::examples;

use super::commands::{asking, one_agent_of_one_node};

/// Every file of the user, with its bytes.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for item in std::fs::read_dir(folder).expect("a folder") {
        let path = item.expect("an item").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let bytes = std::fs::read(&path).expect("a file");
            found.insert(path, bytes);
        }
    }
    found
}

/// Demands that a command which can write no more than so many blocks to a file says in one sentence that this one cannot be
/// written, and that every file is what it was.
fn is_full(cli: &Cli, blocks: u32, arguments: &[&str], file: &str) {
    let before = files(&cli.folder);
    let said = cli.run_on_full_disk(blocks, arguments);
    assert_eq!(said.code, 1, "{arguments:?}: {said:?}");
    assert_eq!(said.out, "", "{arguments:?}");
    assert_eq!(said.err.lines().count(), 1, "{arguments:?}: {said:?}");
    let why = format!("{file} cannot be written: File too large");
    assert!(said.err.contains(&why), "{arguments:?}: {said:?}");
    let after = files(&cli.folder);
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&after), names(&before), "{arguments:?}");
    assert!(after == before, "{arguments:?}: a file has changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_and_what_is_remembered_stay_as_they_were() {
    let (_cluster, cli, actor) = one_agent_of_one_node().await;
    let session = hex::encode(actor.session.to_vec());
    let ask = asking(&session, "bank/read", r#"{"doc":"a"}"#);
    // Cosigned, so that there is nothing newer to remember until somebody asks again.
    let proven = [&ask[..], &["--json", "--level", "cosigned"]].concat();
    let index = cli.must(&proven).json()["index"].to_string();
    let seen = cli.must(&["checkpoint", "--json"]).json()["size"].as_u64();
    cli.must(&["prove", &index, "--out", "evidence"]);
    // What cannot be kept is not sent.
    let before = files(&cli.folder);
    let said = cli.run_on_full_disk(0, &ask);
    assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:?}");
    assert!(said.err.contains("was not sent"), "{said:?}");
    assert!(files(&cli.folder) == before);

    cli.must(&[&ask[..], &["--state", "elsewhere"]].concat());
    // What was recorded since makes a new checkpoint, which cannot be remembered.
    until("the next checkpoint is cosigned", SOON, async || {
        let elsewhere = ["checkpoint", "--json", "--state", "elsewhere"];
        let size = cli.must(&elsewhere).json()["size"].as_u64();
        (size > seen).then_some(())
    })
    .await;
    is_full(&cli, 0, &["checkpoint"], "checkpoint");
    is_full(&cli, 0, &["audit"], "checkpoint");
    is_full(&cli, 0, &["agent", "list"], "checkpoint");
    cli.must(&["session", "close", &session, "--level", "cosigned"]);
    cli.must(&["checkpoint"]);
    for blocks in [0, 1] {
        let again = ["prove", &index, "--out", "evidence"];
        is_full(&cli, blocks, &again, "evidence");
        let json = ["prove", &index, "--out", "new", "--format", "json"];
        is_full(&cli, blocks, &json, "new");
        let whole = ["prove", "--session", &session, "--out", "new"];
        is_full(&cli, blocks, &whole, "new");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bundles_keys_contexts_and_answers_are_whole_or_not_there() {
    let (_cluster, cli, _) = one_agent_of_one_node().await;
    let refunds = examples().join("refunds");
    let refunds = refunds.to_str().expect("a plain path");
    is_full(
        &cli,
        1,
        &["policy", "pack", refunds, "--out", "packed"],
        "packed",
    );
    let tools = examples().join("refunds/tools.json");
    let tools = tools.to_str().expect("a plain path");
    let new = [
        "policy",
        "new",
        "mine",
        "--manifest",
        tools,
        "--server",
        "shop",
    ];
    is_full(&cli, 0, &new, "mine");
    let key = ["key", "new", "--identity", "agent:bot", "--out", "bot.key"];
    is_full(&cli, 0, &key, "bot.key");
    let set = ["context", "set", "test"];
    let said = cli.command(&set).env("XDG_CONFIG_HOME", "config").output();
    assert!(said.expect("runs").status.success());
    let kept = files(&cli.folder);
    let context = ["context", "set", "other"];
    let said = cli.run_on_full_disk_with(0, &context, &[("XDG_CONFIG_HOME", "config")]);
    assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:?}");
    let why = "contexts.toml cannot be written: File too large";
    assert!(said.err.contains(why), "{said:?}");
    assert!(files(&cli.folder) == kept);

    let line = r#"{"suite":"shop","agent":"bot","session":"one","tool":"shop/lookup","args":{"order":"A-1"}}"#;
    let trace = format!("{line}\n").repeat(20);
    std::fs::write(cli.folder.join("trace.jsonl"), trace).expect("a file");
    let replay = [
        "replay",
        "trace.jsonl",
        "--bundle",
        refunds,
        "--out",
        "answers",
    ];
    cli.must(&replay);
    let answers = std::fs::read(cli.folder.join("answers")).expect("answers");
    let said = cli.run_on_full_disk(1, &replay);
    assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:?}");
    let why = "answers cannot be written: File too large";
    assert!(said.err.contains(why), "{said:?}");
    let after = std::fs::read(cli.folder.join("answers")).expect("answers");
    assert!(after == answers, "the answers of before are there");
    let half = files(&cli.folder).into_keys();
    let half: Vec<PathBuf> = half
        .filter(|path| path.extension().is_some_and(|end| end == "partial"))
        .collect();
    assert!(half.is_empty(), "{half:?}");
    let show = ["policy", "show", "--namespace", "shop", "--out", "shown"];
    cli.must(&["checkpoint"]);
    is_full(&cli, 0, &show, "shown");
}
