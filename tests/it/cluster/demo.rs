//! `make demo`, told to its end: README and demo promise what it shows.

use std::path::Path;
use std::process::Command;

use countersign_tests::cluster::process::program;

/// What the demo must tell, in this order.
const TOLD: &[&str] = &[
    "serves",
    "agent: refund-bot",
    "gateway: shop-gateway",
    "0 failed steps",
    "ALLOW: ALLOWED_BY_POLICY by two-refunds-an-hour",
    "DENY: FORBIDDEN_BY_POLICY by small-refunds-only",
    "exit code 3",
    "cluster kill cluster 1",
    "ALLOW: ALLOWED_BY_POLICY by two-refunds-an-hour",
    "DENY: NO_MATCHING_PERMIT",
    "drift: INPUT_CHANGED",
    "DENY: HALTED",
    "verified",
    "decision       ALLOW: ALLOWED_BY_POLICY",
    "agent          refund-bot  (verified here)",
    "rule           two-refunds-an-hour (rules/refunds.dw:3)  (verified here)",
    "outcome        SUCCEEDED, drift: INPUT_CHANGED; recorded by gateway `shop-gateway`",
    "the file is damaged",
    "exit code 14",
];

#[test]
fn the_demo_tells_its_story_and_leaves_nothing_behind() {
    let node = program();
    let target = node
        .parent()
        .and_then(Path::parent)
        .expect("a target folder");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/demo");
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new(script)
        .env("CARGO_TARGET_DIR", target)
        .env("TMPDIR", folder.path())
        .output()
        .expect("the demo runs");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{errors}");
    let mut rest = told.as_str();
    for line in TOLD {
        let Some((_, after)) = rest.split_once(line) else {
            panic!("the demo does not tell, at this point: {line}\n{told}");
        };
        rest = after;
    }
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .expect("a folder")
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
