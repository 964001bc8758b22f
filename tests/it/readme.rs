//! The lines of Rust that README shows compile: they are those of a function here.

use std::path::{Path, PathBuf};

use ledger_client::{Author, Client, Error, Execution, KeyFile, Question, Settings, Trust};
use ledger_core::id::SessionId;
use ledger_proto::v1::ExecutionStatus;

/// This file.
const SOURCE: &str = include_str!("readme.rs");
const README: &str = include_str!("../../README.md");

/// What has to be there for the lines.
struct Given<'a> {
    endpoints: Vec<String>,
    policy: &'a Path,
    memory: PathBuf,
    key: KeyFile,
    path: &'a Path,
    session: SessionId,
    input: &'a str,
}

fn run_the_tool(input: &str) {
    assert_ne!(input, "");
}

async fn refund(given: Given<'_>) -> Result<(), Error> {
    let Given {
        endpoints,
        policy,
        memory,
        key,
        path,
        session,
        input,
    } = given;
    // From README:
    let client = Client::new(
        Settings::new(endpoints),
        Trust::open(policy, Some(memory))?,
        Some(Author::of_file(key, path)?),
    )?;
    let question = Question::new("refund-bot", session, "shop/refund", input);
    let permit = client.authorize(question).await?.require()?;
    run_the_tool(input);
    client
        .record(Execution::of(&permit, ExecutionStatus::Succeeded, input))
        .await?;
    // To here.
    Ok(())
}

/// The code without what rustfmt and comments do to it.
fn bare(code: &str) -> String {
    let lines = code.lines().map(|line| line.split("//").next());
    let code: String = lines.flatten().collect();
    let code: String = code.chars().filter(|c| !c.is_whitespace()).collect();
    code.replace(",)", ")")
}

#[test]
fn the_rust_of_the_readme_compiles() {
    // It is enough that it could run: `tests/it/cluster/client.rs` runs the same calls.
    let _ = refund;
    let between = |text: &'static str, from: &str, to: &str| {
        let (_, rest) = text.split_once(from).expect("a beginning");
        rest.split_once(to).expect("an end").0
    };
    let shown = between(README, "```rust\n", "```");
    let ours = between(SOURCE, "    // From README:\n", "    // To here.");
    assert_eq!(bare(shown), bare(ours));
}
