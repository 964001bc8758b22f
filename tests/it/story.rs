//! The story that `make demo` tells, run to its end: README and demo promise what it shows.

use std::process::Command;

#[test]
fn the_demo_tells_its_story() {
    let here = std::env::current_exe().unwrap();
    // This test is in target/<profile>/deps, examples are beside that folder.
    let story = here
        .parent()
        .and_then(|deps| deps.parent())
        .unwrap()
        .join("examples/story");
    let output = Command::new(story).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut rest = told.as_str();
    for line in [
        "ALLOW: ALLOWED_BY_POLICY by rule `two-an-hour`",
        "DENY: FORBIDDEN_BY_POLICY by rule `only-payees-of-the-task`",
        "ALLOW: ALLOWED_BY_POLICY by rule `two-an-hour`",
        "DENY: NO_MATCHING_PERMIT",
        "SUCCEEDED, DRIFT_INPUT_CHANGED",
        "DENY: HALTED",
        "decision       ALLOW: ALLOWED_BY_POLICY  (ledger entry 8)",
        "agent          invoice-bot  (verified here)",
        "rule           two-an-hour (rules/bank.dw:1)  (verified here)",
        "outcome        SUCCEEDED, drift: INPUT_CHANGED; recorded by gateway `bank-gateway`",
        "exit code 0",
        "the file is damaged",
        "exit code 14",
        "entry 8 is not in the ledger that the checkpoint covers",
        "exit code 11",
    ] {
        let Some((_, after)) = rest.split_once(line) else {
            panic!("the story does not tell, at this point: {line}\n{told}");
        };
        rest = after;
    }
}
